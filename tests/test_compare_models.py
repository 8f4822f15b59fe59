"""compare_models: two models, one pass, no store."""

from __future__ import annotations

import copy
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

import congruence as cg
from congruence.api.models import compare_models
from congruence.engine.minibatch import MinibatchCKA
from congruence.engine.models import ModelPass
from congruence.errors import (
    CongruenceWarning,
    ExtractionError,
    InputError,
    ParameterError,
    ShapeError,
    UnknownNameError,
)
from congruence.measures import measure

LABEL = "cka:estimator=debiased"


def net(seed, width=8, classes=3):
    torch.manual_seed(seed)
    layers = [("first", nn.Linear(6, width)), ("act", nn.ReLU()), ("head", nn.Linear(width, classes))]
    return nn.Sequential(OrderedDict(layers))


def batches(sizes=(16, 16, 9), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(m, 6, generator=generator) for m in sizes]


def hooks(model):
    return sum(len(module._forward_hooks) for module in model.modules())


# ---- values ----------------------------------------------------------------------------------------------------------


def test_equals_accumulating_extracted_activations():
    a, b = net(0), net(1, width=5)
    result = compare_models(a, b, batches())
    assert (result.a, result.b) == (("first", "act", "head"),) * 2
    stored = [cg.extract(model, batches()) for model in (a, b)]
    sums = MinibatchCKA(stored[0].names, stored[1].names)
    for start, stop in ((0, 16), (16, 32), (32, 41)):
        sums.update(*({name: acts.array(name)[start:stop] for name in acts} for acts in stored))
    np.testing.assert_allclose(result.matrix(LABEL), sums.result().matrix(LABEL), atol=1e-13)
    np.testing.assert_allclose(result.dataset["standard_error"], sums.result().dataset["standard_error"], atol=1e-13)
    assert (result.dataset["n"] == 41).all()
    assert (result.dataset["seconds"] > 0).all()


def test_one_model_with_itself():
    a = net(0)
    within = compare_models(a, None, batches())
    both = compare_models(a, a, batches())
    np.testing.assert_allclose(within.matrix(LABEL), both.matrix(LABEL), atol=1e-14)
    assert np.diag(within.matrix(LABEL)).tolist() == [1.0, 1.0, 1.0]
    assert [m["name"] for m in within.provenance["models"]] == ["model_a"]


def test_shapes_call_for_steps():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.lstm = nn.Conv1d(2, 3, 3), nn.LSTM(3, 5, batch_first=True)
            self.norm = nn.Identity()

        def forward(self, x):
            maps = self.conv(x)
            return self.norm(self.lstm(maps.transpose(1, 2))[0][:, -1, 0])

    torch.manual_seed(0)
    model, data = Odd().eval(), [torch.randn(20, 2, 6) for _ in range(3)]
    names = ["conv", "lstm", "norm"]
    result = compare_models(model, None, data, layers_a=names)
    with torch.no_grad():
        maps = model.conv(torch.cat(data))
        outputs = model.lstm(maps.transpose(1, 2))[0]
    expected = {
        "conv": maps.mean(dim=1),
        "lstm": outputs[:, -1],
        "norm": outputs[:, -1, :1],
    }  # mean, last step, as it is
    sums = MinibatchCKA(names)
    for start in (0, 20, 40):
        sums.update({name: x[start : start + 20] for name, x in expected.items()})
    found = result.matrix(LABEL).sel(a=names, b=names)
    np.testing.assert_allclose(found, sums.result().matrix(LABEL), atol=1e-6)  # float32
    flat = compare_models(model, None, data, layers_a=["conv"], steps="flatten")
    assert flat.provenance["steps"] == ["flatten"]


def test_parts_can_be_taken_by_several_processes():
    a, b = net(0), net(1)
    whole = compare_models(a, b, batches())
    first, second = (ModelPass(a, b, part).accumulate() for part in (batches()[:1], batches()[1:]))
    first.merge(second)
    np.testing.assert_allclose(first.result().matrix(LABEL), whole.matrix(LABEL), atol=1e-13)


def test_other_measures():
    rbf = "cka:kernel=rbf,estimator=debiased"
    assert compare_models(net(0), net(1), batches(), measure=rbf).measures == (rbf,)
    with pytest.raises(ParameterError, match="debiased cka only; got cka"):
        compare_models(net(0), net(1), batches(), measure="cka")
    with pytest.raises(ParameterError, match="with debiased cka only; got procrustes"):
        compare_models(net(0), net(1), batches(), measure="procrustes")


def test_the_result_can_be_saved_and_says_how_it_was_made(tmp_path):
    seen = []
    result = compare_models(
        net(0),
        net(1),
        batches(),
        model_names=("old", "new"),
        progress=lambda done, stimuli: seen.append((done, stimuli)),
    )
    assert seen == [(1, 16), (2, 32), (3, 41)]
    about = result.provenance
    assert (about["estimator"], about["batches"], about["stimuli"], about["steps"]) == ("minibatch", 3, 41, None)
    assert [m["name"] for m in about["models"]] == ["old", "new"]
    assert about["models"][0]["fingerprint"] != about["models"][1]["fingerprint"]
    loaded = cg.load(result.save(tmp_path / "run"))
    assert loaded.equals(result)
    assert loaded.dataset["standard_error"].equals(result.dataset["standard_error"])


# ---- text encoders ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoders():
    transformers = pytest.importorskip("transformers")
    found = []
    for seed, width in ((0, 16), (1, 24)):
        torch.manual_seed(seed)
        config = transformers.BertConfig(
            vocab_size=40, hidden_size=width, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32
        )
        found.append(transformers.BertModel(config, add_pooling_layer=False).train())
    return found


def sentences(sizes=(12, 8, 5), length=7, seed=0):
    rng = np.random.default_rng(seed)
    for m in sizes:
        ids = torch.from_numpy(rng.integers(0, 40, size=(m, length)))
        mask = (torch.arange(length) < torch.from_numpy(rng.integers(2, length + 1, size=(m, 1)))).long()
        yield {"input_ids": ids, "attention_mask": mask}


HIDDEN = ["embeddings", "re:encoder\\.layer\\.\\d+"]


@pytest.mark.hf
def test_two_text_encoders(encoders):
    first, second = encoders
    result = compare_models(first, second, list(sentences()), HIDDEN)
    assert result.a == ("embeddings", "encoder.layer.0", "encoder.layer.1", "encoder.layer.2")
    sums = MinibatchCKA(result.a, result.b)
    for batch in sentences():
        pooled = []
        for model in encoders:
            with torch.no_grad():
                states = copy.deepcopy(model).eval()(**batch, output_hidden_states=True).hidden_states
            weights = batch["attention_mask"][:, :, None].double()
            means = [(state.double() * weights).sum(1) / weights.sum(1) for state in states]
            pooled.append(dict(zip(result.a, means, strict=True)))
        sums.update(*pooled)
    np.testing.assert_allclose(result.matrix(LABEL), sums.result().matrix(LABEL), atol=1e-5)  # float32 models
    assert all(model.training for model in encoders)
    assert [hooks(model) for model in encoders] == [0, 0]


@pytest.mark.hf
def test_models_may_take_other_inputs_for_the_same_stimuli(encoders):
    first, second = encoders
    longer = list(sentences(length=9, seed=1))
    result = compare_models(first, second, list(sentences()), HIDDEN, batches_b=longer)
    swapped = compare_models(second, first, longer, HIDDEN, batches_b=sentences())
    np.testing.assert_allclose(result.matrix(LABEL), swapped.matrix(LABEL).T, atol=1e-12)


# ---- what is refused, and what is left behind ------------------------------------------------------------------------


def test_stimuli_that_do_not_match():
    a, b = net(0), net(1)
    with pytest.raises(ShapeError, match=r"in batch 1 model_a: first has 16 and model_b: first has 15"):
        compare_models(a, b, batches(), batches_b=batches((16, 15, 9)))
    with pytest.raises(ShapeError, match="model_a has more batches than model_b, which has 2"):
        compare_models(a, b, batches(), batches_b=batches()[:2])
    with pytest.raises(ShapeError, match="model_b has more batches than model_a, which has 2"):
        compare_models(a, b, batches()[:2], batches_b=batches())
    assert hooks(a) == hooks(b) == 0


def test_values_that_are_not_finite_are_named():
    a, b = net(0), net(1)
    bad = batches()
    bad[2][4, 1] = float("nan")
    with pytest.raises(
        InputError, match=r"In batch 2, bert: first has 8 NaN values; the first is at position \(4, 0\)"
    ):
        compare_models(a, b, bad, model_names=("bert", "other"))
    assert hooks(a) == hooks(b) == 0


@pytest.mark.parametrize("which", [0, 1])
def test_a_model_that_fails_leaves_no_hooks(which):
    models = [net(0), net(1)]
    models[which].head = nn.Linear(7, 3)
    for model in models:
        model.train()
    with pytest.raises(ExtractionError, match=f"model_{'ab'[which]}: The model failed on batch 0"):
        compare_models(*models, batches())
    assert [hooks(model) for model in models] == [0, 0]
    assert all(model.training for model in models)


def test_an_interrupt_leaves_no_hooks():
    def interrupted():
        yield batches()[0]
        raise KeyboardInterrupt

    a, b = net(0), net(1)
    with pytest.raises(KeyboardInterrupt):
        compare_models(a, b, interrupted())
    assert hooks(a) == hooks(b) == 0


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["ab"], "'ab' is no pair of names"),
        ([("no-such-layer", "no-such-layer")], "there is no representation 'no-such-layer'"),
    ],
)
def test_pairs_that_do_not_exist_are_refused_before_the_pass(tmp_path, pairs, message):
    seen = []
    with pytest.raises(cg.CongruenceError, match=message):
        compare_models(
            net(0), net(1), batches(), pairs=pairs, out=tmp_path / "run", progress=lambda *at: seen.append(at)
        )
    assert not seen
    assert not (tmp_path / "run").exists()


def test_layers_that_do_not_vary_are_failed_pairs():
    class Constant(nn.Module):
        def forward(self, x):
            return torch.ones(len(x), 2)

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.constant, self.linear = Constant(), nn.Linear(6, 4)

        def forward(self, x):
            return self.linear(x) + self.constant(x).sum()

    torch.manual_seed(0)
    result = compare_models(Two(), None, batches())
    assert result.dataset["status"].values[0].tolist() == [["ok", "failed"], ["failed", "failed"]]
    assert "constant: cka:estimator=debiased is undefined" in result.failures()["reason"][0]
    with pytest.raises(InputError, match="constant: .* does not vary"):
        compare_models(Two(), None, batches(), on_error="raise")


def test_arguments():
    a, b = net(0), net(1)
    for wrong, error, message in (
        ({"layers_a": "fisrt"}, UnknownNameError, "fisrt.*first"),
        ({"steps": "pca"}, ParameterError, "pca needs all stimuli at once"),
        ({"device": "nowhere"}, ParameterError, "device 'nowhere' cannot be used here"),
        ({"masks": 3}, ParameterError, "masks must be"),
    ):
        with pytest.raises(error, match=message):
            compare_models(a, b, batches(), **wrong)
    with pytest.raises(ParameterError, match="model must be a torch.nn.Module; got str"):
        compare_models(a, "b", batches())
    with pytest.raises(ParameterError, match="layers_b needs a second model"):
        compare_models(a, None, batches(), layers_b="*")
    with pytest.raises(ParameterError, match="batches_b needs a second model"):
        compare_models(a, None, batches(), batches_b=batches())
    with pytest.raises(InputError, match="batches is empty"):
        compare_models(a, b, [])
    with pytest.warns(CongruenceWarning, match="1 batch of fewer than 4 stimuli"):
        compare_models(a, b, batches((16, 2)))


def test_layers_that_are_silent_are_said_so():
    a = net(0)
    a.unused = nn.Linear(2, 2)
    a.forward = lambda x: a.head(a.act(a.first(x)))
    with pytest.warns(CongruenceWarning, match="does not call are left out: unused"):
        result = compare_models(a, None, batches())
    assert result.a == ("first", "act", "head")


def test_it_agrees_with_debiased_cka_of_all_stimuli():
    a, b = net(0), net(1)
    data = batches([64] * 40)
    result = compare_models(a, b, data)
    stored = [cg.extract(model, data) for model in (a, b)]
    expected = measure(LABEL)(stored[0].array("first"), stored[1].array("head"))
    value, error = (
        float(v.sel(a="first", b="head")) for v in (result.matrix(LABEL), result.dataset["standard_error"][0])
    )
    assert abs(value - expected) < 3 * error < 0.1
