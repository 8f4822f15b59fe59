"""A run leaves the model as it was found, says what is wrong, and goes on where it was interrupted."""

import gc
import random
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import congruence as cg
from congruence.errors import CongruenceWarning
from congruence.extraction import model_fingerprint
from congruence.extraction.hooks import undisturbed

N, D = 6, 4


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def x():
    return torch.randn(N, D)


@pytest.fixture
def net():
    return nn.Sequential(OrderedDict(a=nn.Linear(D, 3), act=nn.ReLU(inplace=True), b=nn.Linear(3, 2)))


class Fails(nn.Module):
    """Fails where a batch holds a NaN, until it is mended."""

    def __init__(self):
        super().__init__()
        self.fc, self.drop, self.broken = nn.Linear(D, 3), nn.Dropout(), True

    def forward(self, x):
        y = self.drop(self.fc(x))
        torch.rand(3)
        if self.broken and x.isnan().any():
            message = "a NaN\nin line two"
            raise ValueError(message)
        return y


def files(path: Path) -> dict[str, bytes]:
    """Contents of all chunks and of the journal."""
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file() and "c." in p.name}


# ---- the model is left as it was found -------------------------------------------------------------------------------


class Spoiler(nn.Module):
    """Draws from every source of randomness, and fails if it is told to."""

    def __init__(self, error):
        super().__init__()
        self.norm, self.drop, self.error = nn.BatchNorm1d(D), nn.Dropout(), error

    def forward(self, x):
        torch.rand(2)
        np.random.rand()  # noqa: NPY002 - the legacy state is what must be restored
        random.random()
        y = self.drop(self.norm(x))
        if self.error is not None:
            raise self.error
        return y


@pytest.mark.parametrize("error", [None, ValueError("no"), KeyboardInterrupt()])
def test_modes_random_states_hooks_buffers_and_gradients_are_restored(error, x):
    model = nn.Sequential(Spoiler(error), nn.Linear(D, 2))
    model[0].drop.eval()
    model[1].weight.requires_grad_(False)
    modes = [module.training for module in model.modules()]
    buffers = [buffer.clone() for buffer in model.buffers()]
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    fused = torch.backends.mha.get_fastpath_enabled()
    if error is None:
        cg.extract(model, [x])
    else:
        with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else cg.ExtractionError):
            cg.extract(model, [x])
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(a, b) for a, b in zip(buffers, model.buffers(), strict=True))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert random.getstate() == states[2]
    assert torch.backends.mha.get_fastpath_enabled() == fused
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    assert [p.requires_grad for p in model.parameters()] == [True, True, False, True]


def test_training_goes_on_with_what_the_model_made_and_kept(x):
    class Caches(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.cached = nn.Linear(D, 2), None
            self.register_buffer("scale", None)

        def forward(self, x):
            if self.cached is None:
                self.cached, self.scale = torch.ones(2) * 3, torch.ones(2) * 2
            return self.fc(x) * self.cached * self.scale

    model = Caches()
    cg.extract(model, [x])
    model(x).sum().backward()  # "Inference tensors cannot be saved for backward" otherwise
    assert model.cached.tolist() == [3, 3]
    assert model.scale.tolist() == [2, 2]


def test_the_model_runs_in_evaluation_mode(x):
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(D))
    acts = cg.extract(model, [x])
    np.testing.assert_array_equal(acts.array("0"), x)
    np.testing.assert_allclose(acts.array("1"), x / np.sqrt(1 + 1e-5), rtol=1e-6)  # float32 rounding


def test_batches_are_read_outside_of_inference_mode(net, x):
    made = []

    def batches():
        for part in x.split(2):
            made.append(part * 1)
            yield made[-1]

    acts = cg.extract(net, batches())
    assert acts["a"].n == N
    assert not any(batch.is_inference() for batch in made)


def test_the_model_is_moved_to_a_device_and_back(x):
    moves = []

    class Moves(nn.Linear):
        def to(self, device):
            moves.append(str(device))
            return super().to(device)

    model = Moves(D, 2)
    with undisturbed(model, torch.device("cpu", 0)):  # another name of the one device that every machine has
        assert moves == ["cpu:0"]
    assert moves == ["cpu:0", "cpu"]


def test_a_device_must_be_usable(net, x):
    assert cg.extract(net, [x], device="cpu").provenance["device"] == "cpu"
    with pytest.raises(cg.ParameterError, match="device 'nowhere' cannot be used here"):
        cg.extract(net, [x], device="nowhere")
    with pytest.raises(cg.ParameterError, match="batch_axis must be 0, 1 or None; got 2"):
        cg.extract(net, [x], batch_axis=2)
    spread = nn.Sequential(nn.Linear(D, D), nn.Linear(D, D, device="meta"))
    with pytest.raises(cg.ParameterError, match="The model is spread over 2 devices, so it cannot be moved to cpu"):
        cg.extract(spread, [x], device="cpu")


# ---- batches ---------------------------------------------------------------------------------------------------------


class Adds(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Identity()

    def forward(self, a, b=None):
        return self.inner(a if b is None else a + b)


@dataclass
class Pair:
    a: torch.Tensor


@pytest.mark.parametrize(
    ("pack", "factor"),
    [
        (lambda part: part, 1),
        (lambda part: part.numpy(), 1),
        (lambda part: (part,), 1),
        (lambda part: [part, part], 2),
        (lambda part: {"b": part, "a": part}, 2),
        (lambda part: OrderedDict(a=part), 1),
    ],
)
def test_batches_are_arguments_or_keywords(pack, factor, x):
    model = Adds()
    batches = [pack(part) for part in x.split(4)]
    for source in (batches, tuple(batches), iter(batches)):
        np.testing.assert_array_equal(cg.extract(model, source).array("inner"), factor * x)


def test_a_loader_is_a_source_of_batches(x):
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), batch_size=4)
    np.testing.assert_array_equal(cg.extract(Adds(), loader).array("inner"), x)


@pytest.mark.parametrize("pack", [lambda x: x, lambda x: x.numpy(), lambda x: {"a": x}])
def test_a_single_tensor_or_mapping_is_one_batch(pack, x):
    np.testing.assert_array_equal(cg.extract(Adds(), pack(x)).array("inner"), x)


@pytest.mark.parametrize(
    ("batches", "error", "message"),
    [
        (
            [Pair(torch.zeros(2, D))],
            cg.InputError,
            "Batch 0 must be a tensor, a tuple of arguments or a dict .* got Pair",
        ),
        (3, cg.ParameterError, "batches must be a list, a DataLoader"),
        ("text", cg.ParameterError, "got str"),
        ([], cg.InputError, "batches is empty. A generator can be read only once"),
        ([3], cg.InputError, "Batch 0 holds no tensor"),
        (["text"], cg.InputError, "Batch 0 holds no tensor"),
        ([torch.tensor(1.0)], cg.ShapeError, "the first tensor of batch 0 must hold the stimuli on axis 0"),
        ([torch.zeros(0, D)], cg.ShapeError, "Batch 0 holds no stimulus"),
        ([(torch.zeros(2, D),) * 3], cg.ExtractionError, "A tuple or list is taken as several arguments"),
        ([torch.zeros(2, D), torch.zeros(2, D + 1)], cg.CongruenceError, "inner"),
    ],
)
def test_batches_of_the_wrong_kind_are_refused(batches, error, message):
    with pytest.raises(error, match=f"(?i){message}"):
        cg.extract(Adds(), batches)


def test_a_loader_that_fails_names_the_batch(net, x, tmp_path):
    def batches():
        yield x
        message = "the disk is gone"
        raise OSError(message)

    out = tmp_path / "run.zarr"
    with pytest.raises(
        cg.ExtractionError, match="Batch 1 cannot be read: OSError: the disk is gone. The batches before are kept"
    ):
        cg.extract(net, batches(), out=out)


def test_the_model_must_be_a_module_with_weights(x):
    with pytest.raises(cg.ParameterError, match="model must be a torch.nn.Module; got function"):
        cg.extract(lambda x: x, [x])
    with pytest.raises(cg.ExtractionError, match=r"Parameter 0.weight is not initialised yet. Call the model once"):
        cg.extract(nn.Sequential(nn.LazyLinear(3)), [x])


# ---- masks and padding -----------------------------------------------------------------------------------------------


class Embeds(nn.Module):
    """A small encoder that is called with keywords."""

    def __init__(self):
        super().__init__()
        self.embed, self.decoder, self.pool = nn.Embedding(9, D), nn.Linear(D, D), nn.Linear(D, 2)

    def forward(self, input_ids, attention_mask=None, **rest):
        return self.pool(self.decoder(self.embed(input_ids))[:, 0])


def tokens(n, t):
    return torch.randint(9, (n, t))


def lengths_mask(lengths, t):
    return (torch.arange(t)[None] < torch.tensor(lengths)[:, None]).long()


def test_attention_masks_are_recorded_and_batches_padded_to_the_longest():
    model = Embeds()
    short = {"input_ids": tokens(3, 4), "attention_mask": lengths_mask([4, 2, 3], 4)}
    longer = {"input_ids": tokens(2, 7), "attention_mask": lengths_mask([7, 1], 7)}
    acts = cg.extract(model, [short, longer], ["embed", "pool"])
    assert acts.array("embed").shape == (5, 7, D)
    np.testing.assert_array_equal(acts.mask("embed").sum(1), [4, 2, 3, 7, 1])
    assert acts.mask("pool") is None
    pooled = cg.extract(model, [short, longer], ["embed", "pool"], steps="token_mean")
    expected = [model.embed(b["input_ids"])[i, :length].mean(0) for b, i, length in ((short, 1, 2), (longer, 1, 1))]
    for source in (acts["embed"].matrix().values, pooled.array("embed")):
        np.testing.assert_allclose(source[[1, 4]], torch.stack(expected).detach(), rtol=1e-6, atol=1e-6)  # float32
    assert pooled.array("pool").shape == (5, 2)
    assert [str(step) for step in pooled["embed"].steps] == ["token_mean"]
    assert pooled["pool"].steps == ()


def test_without_a_mask_every_position_of_a_batch_is_valid():
    acts = cg.extract(Embeds(), [{"input_ids": tokens(3, 4)}, {"input_ids": tokens(2, 6)}], "embed")
    np.testing.assert_array_equal(acts.mask("embed").sum(1), [4, 4, 4, 6, 6])


def test_masks_can_be_switched_off_or_given():
    batch = {"input_ids": tokens(3, 4), "attention_mask": lengths_mask([4, 2, 3], 4)}
    assert cg.extract(Embeds(), [batch], "embed", masks=None).mask("embed") is None
    model = nn.Sequential(nn.Embedding(9, D))
    ids = batch["input_ids"]
    acts = cg.extract(model, [ids], masks=lambda batch: batch < 5)
    np.testing.assert_array_equal(acts.mask("0"), ids < 5)
    with pytest.raises(cg.ShapeError, match=r"masks gave shape \(3, 4, 1\) for batch 0; it must be \(3, t\)"):
        cg.extract(model, [ids], masks=lambda batch: batch[:, :, None])
    with pytest.raises(cg.ParameterError, match="masks must be 'auto', a function of the batch, or None; got 'no'"):
        cg.extract(model, [ids], masks="no")


def test_a_decoder_has_its_own_mask():
    encoder, decoder = lengths_mask([4, 2, 3], 4), lengths_mask([1, 2, 4], 4)
    batch = {"input_ids": tokens(3, 4), "attention_mask": encoder, "decoder_attention_mask": decoder}
    acts = cg.extract(Embeds(), [batch], ["embed", "decoder"])
    np.testing.assert_array_equal(acts.mask("embed"), encoder)
    np.testing.assert_array_equal(acts.mask("decoder"), decoder)


def test_a_mask_without_a_valid_position_names_the_layer():
    batch = {"input_ids": tokens(2, 3), "attention_mask": lengths_mask([3, 0], 3)}
    with pytest.raises(cg.ShapeError, match="embed: The mask of stimulus 1 has no valid position"):
        cg.extract(Embeds(), [batch], "embed", steps="token_mean")


def test_a_layer_whose_shape_follows_the_batch_can_be_left_out():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(D, 2, batch_first=True)

        def forward(self, x):
            return self.attention(x, x, x)[0]

    batches = [torch.randn(2, 3, D), torch.randn(2, 5, D)]
    message = r"'attention\[1\]' has shape \(2, 5, 5\) in batch 1; .* Leave that layer out, with '!' and its name among"
    with pytest.raises(cg.ShapeError, match=message):
        cg.extract(Net(), batches)
    for layers in (["*", "!*[1]"], ["attention", "!attention[1]"]):
        acts = cg.extract(Net(), batches, layers)
        assert list(acts) == ["attention"]
        assert acts.array("attention").shape == (4, 5, D)


# ---- steps and ids ---------------------------------------------------------------------------------------------------


def test_steps_are_applied_before_writing():
    model, images = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 5)), torch.randn(N, 3, 8, 8)
    native = cg.extract(model, images.split(4))
    pooled = cg.extract(model, images.split(4), steps="spatial_mean")
    np.testing.assert_allclose(pooled.array("0"), native.array("0").mean((2, 3)), rtol=1e-5, atol=1e-6)  # float32
    np.testing.assert_array_equal(pooled.array("2"), native.array("2"))
    flat = cg.extract(model, images.split(4), "0", steps=[cg.Flatten(), cg.UnitNorm(over="rows")])
    np.testing.assert_allclose(np.linalg.norm(flat.array("0"), axis=1), 1, rtol=1e-6)  # float32
    with pytest.raises(
        cg.ParameterError, match="Step pca needs all stimuli at once, so it cannot run while a model is recorded"
    ):
        cg.extract(model, images.split(4), steps="pca")
    with pytest.raises(cg.ShapeError, match=r"0: Step token_mean needs values of shape \(n, t, d\); got"):
        cg.extract(model, images.split(4), steps="token_mean")


def test_steps_that_make_several_stimuli_of_one_make_their_ids():
    mask = [4, 1, 3]
    batches = [{"input_ids": tokens(2, 4), "attention_mask": lengths_mask(mask[:2], 4)}]
    batches += [{"input_ids": tokens(1, 5), "attention_mask": lengths_mask(mask[2:], 5)}]
    model = Embeds()
    acts = cg.extract(model, batches, ["embed", "decoder"], steps="tokens_as_stimuli", ids=["x", "y", "z"])
    assert list(acts.ids) == [f"{name}@{i}" for name, length in zip("xyz", mask, strict=True) for i in range(length)]
    np.testing.assert_array_equal(acts.array("embed")[5], model.embed(batches[1]["input_ids"][0, 0]).detach())
    positions = cg.extract(model, batches, "embed", steps="tokens_as_stimuli")
    assert list(positions.ids)[-3:] == ["2@0", "2@1", "2@2"]


def test_one_store_holds_one_list_of_stimuli():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3))
    with pytest.raises(cg.ShapeError, match="spatial_as_stimuli gives 0 72 stimuli and 1 32; one store holds one list"):
        cg.extract(model, [torch.randn(2, 1, 8, 8)], steps="spatial_as_stimuli")


@pytest.mark.parametrize(
    "ids", [list("abcdef"), np.array(list("abcdef")), lambda index, batch: list("abcdef")[2 * index :][:2]]
)
def test_ids_go_with_their_stimuli(ids, net, x):
    acts = cg.extract(net, x.split(2), ids=ids)
    assert list(acts["a"].ids) == list("abcdef")


def test_numbers_in_tensors_are_ids_too(net, x):
    assert list(cg.extract(net, x.split(2), ids=torch.arange(N)).ids) == [str(i) for i in range(N)]
    assert cg.extract(net, x.split(2)).ids is None


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["a"] * N, "ids has 1 repeated stimulus ids"),
        (list("abcde"), "ids has 5 entries, but the batches hold 6 stimuli or more"),
        (list("abcdefg"), "ids has 7 entries, but the batches hold only 6 stimuli"),
        (lambda index, batch: ["a", "b"], "Batch 1 repeats the stimulus id 'a' of an earlier batch"),
        (lambda index, batch: ["a"], "Batch 0 has 2 stimuli but 1 ids"),
    ],
)
def test_ids_that_do_not_fit_are_refused(ids, message, net, x):
    with pytest.raises(cg.AlignmentError, match=message):
        cg.extract(net, x.split(2), ids=ids)


def test_text_is_no_list_of_ids(net, x):
    with pytest.raises(cg.ParameterError, match="ids must be a list of ids"):
        cg.extract(net, x.split(2), ids="abcdef")


# ---- which layers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("*", ["a", "act", "b"]),
        ("a*", ["a", "act"]),
        (["b", "a"], ["a", "b"]),
        ("[ab]", ["a", "b"]),
        ("re:a|b", ["a", "b"]),
        ("re:a", ["a"]),
        ("output", ["output"]),
        (["*", "output"], ["a", "act", "b", "output"]),
        (lambda name, module: isinstance(module, nn.Linear), ["a", "b"]),
        (["*", "!act"], ["a", "b"]),
        (["!re:a.*"], ["b"]),
        (["*", "!a*", "a"], ["b"]),
    ],
)
def test_layers_are_selected_by_patterns_or_a_function(layers, expected, net, x):
    assert list(cg.extract(net, [x], layers)) == expected


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        (
            "act2",
            cg.UnknownNameError,
            "The layer pattern 'act2' matches no layer. Closest: act, a. List the layers with: congruence layers MODEL",
        ),
        (["a", "zz*"], cg.UnknownNameError, "'zz\\*' matches no layer. Available: a, act, b, output"),
        ("re:x+", cg.UnknownNameError, "'re:x\\+' matches no layer"),
        ("re:(", cg.ParameterError, "'re:\\(' is not a regular expression"),
        (lambda name, module: False, cg.UnknownNameError, "The function given as layers matches no layer"),
        ([], cg.ParameterError, "layers must be a pattern"),
        (["*", "!c"], cg.UnknownNameError, "The layer pattern '!c' matches no layer"),
        (["a", "!a"], cg.UnknownNameError, "The layer patterns leave out all that they select: a, a"),
        (["*", "!"], cg.ParameterError, "layers must be a pattern"),
        ("a.weight", cg.UnknownNameError, "'a.weight' matches no layer. Available: a, act, b, output"),
    ],
)
def test_layers_that_do_not_exist_are_an_error(layers, error, message, net, x, tmp_path):
    with pytest.raises(error, match=message):
        cg.extract(net, [x], layers, out=tmp_path / "run.zarr")
    assert not any(tmp_path.iterdir())


class Partly(nn.Module):
    """Calls one of its layers, and only for long batches another one."""

    def __init__(self, least=99):
        super().__init__()
        self.used, self.sometimes, self.dead, self.least = nn.Linear(D, 2), nn.Linear(D, 2), nn.Linear(D, 2), least

    def forward(self, x):
        return self.sometimes(x) if len(x) >= self.least else self.used(x)


def test_layers_that_never_fire_are_named(x, tmp_path):
    with pytest.warns(CongruenceWarning, match="that the model does not call are left out: sometimes, dead") as caught:
        acts = cg.extract(Partly(), [x])
    assert caught[0].message.code == "silent_layers"
    assert list(acts) == ["used"]
    assert acts.provenance["silent_layers"] == ["sometimes", "dead"]
    with pytest.raises(cg.ExtractionError, match="None of the selected layers fired: dead"):
        cg.extract(Partly(), [x], "dead", out=tmp_path / "run.zarr")
    assert not any(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore::congruence.errors.CongruenceWarning")
def test_layers_that_fire_for_some_batches_only_are_an_error(x):
    message = "Other layers fire in batch 1 than in batch 0: without used and with sometimes"
    with pytest.raises(cg.ExtractionError, match=message):
        cg.extract(Partly(least=4), [x[:2], x[2:]])


class Positions(nn.Module):
    """Puts out position embeddings, a loss, complex and sparse values besides rows per stimulus."""

    def __init__(self):
        super().__init__()
        self.positions, self.fc, self.misc = nn.Embedding(D, 2), nn.Linear(D, 2), nn.Identity()

    def forward(self, x):
        self.misc((x.mean(), x.to(torch.complex64), x.to_sparse(), x))
        return self.fc(x) + self.positions(torch.arange(D)[None])[:, 0]


def test_outputs_without_a_row_per_stimulus_are_left_out_and_named(x):
    with pytest.warns(CongruenceWarning, match=r"positions \(shape \(1, 4, 2\) does not have the 6 stimuli") as caught:
        acts = cg.extract(Positions(), [x, x[:1]])
    assert caught[0].message.code == "skipped_layers"
    assert list(acts) == ["misc[3]", "fc"]
    assert acts.provenance["skipped_layers"].keys() == {"misc", "misc[1]", "misc[2]", "positions"}
    with pytest.raises(cg.ShapeError, match=r"positions, batch 0: shape \(1, 4, 2\) does not have the 6 stimuli"):
        cg.extract(Positions(), [x], "positions")
    with pytest.raises(cg.ShapeError, match="None of the selected layers can be recorded; positions"):
        cg.extract(Positions(), [x], "pos*")


class Table(nn.Module):
    """Adds a table of positions, one for every stimulus, as text encoders do."""

    def __init__(self):
        super().__init__()
        self.fc, self.positions, self.last = nn.Linear(D, 2), nn.Embedding(8, 2), nn.Linear(2, 3)

    def forward(self, x):
        return self.last(self.fc(x) + self.positions(torch.arange(x.shape[1])[None]))


def sequences(*sizes):
    """Batches of sequences of unequal length, with these numbers of stimuli."""
    torch.manual_seed(1)
    return [torch.randn(n, 3 + index, D) for index, n in enumerate(sizes)]


@pytest.mark.parametrize("sizes", [(1, 3), (1, 1, 3, 2), (3, 1)])
@pytest.mark.parametrize("steps", [None, "token_mean"])
def test_what_is_recorded_does_not_depend_on_the_size_of_the_first_batch(sizes, steps, tmp_path):
    model = Table()
    with pytest.warns(
        CongruenceWarning, match=r"left out: positions \(shape \(1, \d, 2\) does not have the 3"
    ) as caught:
        acts = cg.extract(model, sequences(*sizes), steps=steps, out=tmp_path / "run.zarr")
    assert [w.message.code for w in caught] == ["skipped_layers"]
    assert list(acts) == ["fc", "last"]
    assert acts.definition_order == ("fc", "last")
    assert acts.provenance["skipped_layers"].keys() == {"positions"}
    assert cg.store.inspect(tmp_path / "run.zarr").ok
    assert not [path for path in (tmp_path / "run.zarr").rglob("*") if "positions" in path.name]
    for name in acts:  # each layer is still read with its own lengths
        at = [range(a, b) for a, b in zip(np.cumsum((0, *sizes)), np.cumsum(sizes), strict=False)]
        module = getattr(model, name)
        assert acts.array(name).shape[-1] == module.out_features
        assert acts.is_masked(name) == (steps is None)
        assert sum(map(len, at)) == acts.array(name).shape[0]
    with torch.inference_mode():
        expected = model.fc(sequences(*sizes)[-1])
    last = acts.array("fc")[-sizes[-1] :]
    found = last if steps else last[:, : expected.shape[1]]
    np.testing.assert_allclose(found, expected.mean(1) if steps else expected, atol=1e-6)  # float32


def test_a_table_that_has_the_size_of_the_first_batch_by_chance_is_left_out_too(x):
    class Rows(Table):
        def forward(self, x):
            return self.last(self.fc(x) + self.positions(torch.arange(2)).sum(0))

    with pytest.warns(CongruenceWarning, match=r"left out: positions \(shape \(2, 2\) does not have the 4"):
        assert list(cg.extract(Rows(), [x[:2], x[2:]])) == ["fc", "last"]


def test_a_dropped_layer_that_was_asked_for_by_name_is_an_error():
    with pytest.raises(cg.ShapeError, match=r"positions, batch 1: shape \(1, 4, 2\) does not have the 3 stimuli"):
        cg.extract(Table(), sequences(1, 3), ["positions", "fc"])
    with pytest.raises(cg.ShapeError, match=r"None of the selected layers can be recorded; positions, batch 1"):
        cg.extract(Table(), sequences(1, 3), "pos*")


@pytest.mark.parametrize("moment", ["before", "half", "after"])
def test_a_run_that_is_cut_off_where_a_layer_is_dropped_resumes_to_the_same_bytes(moment, tmp_path, monkeypatch):
    model, batches = Table(), sequences(1, 1, 3, 2)
    with pytest.warns(CongruenceWarning, match="positions"):
        cg.extract(model, batches, out=tmp_path / "whole.zarr")

    def cut(*args):
        raise KeyboardInterrupt

    append = cg.store.StoreWriter.append
    cuts = {
        "before": ("congruence.store.StoreWriter.drop", cut),
        "half": ("congruence.store.writer.remove_layer", cut),
        "after": ("congruence.store.StoreWriter.append", lambda s, i, *rest: cut() if i == 2 else append(s, i, *rest)),
    }
    with monkeypatch.context() as patched:
        patched.setattr(*cuts[moment])
        with pytest.raises(KeyboardInterrupt), pytest.warns(CongruenceWarning, match="positions"):
            cg.extract(model, batches, out=tmp_path / "cut.zarr")
    assert cg.store.Activations(tmp_path / "cut.zarr", allow_incomplete=True).n == 2
    with pytest.warns(CongruenceWarning, match="positions"):
        cg.extract(model, batches, out=tmp_path / "cut.zarr", resume=True)
    assert files(tmp_path / "cut.zarr") == files(tmp_path / "whole.zarr")
    again = tmp_path / "whole.zarr"
    with pytest.warns(CongruenceWarning, match="positions"):
        assert list(cg.extract(model, batches, out=again, resume=True)) == ["fc", "last"]


def test_batches_of_one_stimulus_throughout_are_warned_of():
    with pytest.warns(CongruenceWarning, match="Every batch held one stimulus, so an output that is no row") as caught:
        acts = cg.extract(Table(), sequences(1, 1))
    assert [w.message.code for w in caught] == ["single_stimulus_batches"]
    assert "positions" in acts
    assert list(cg.extract(Table(), sequences(1, 1), "fc")) == ["fc"]  # asked for by name: no warning
    assert list(cg.extract(Table(), sequences(1))) == ["fc", "positions", "last"]


# ---- stores ----------------------------------------------------------------------------------------------------------


def test_a_run_without_out_lives_as_long_as_its_result(net, x, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    acts = cg.extract(net, [x])
    assert len(list(tmp_path.iterdir())) == 1
    representation = acts["a"]
    del acts
    gc.collect()
    assert not any(tmp_path.iterdir())
    assert representation.matrix().values.shape == (N, 3)
    with pytest.raises(cg.ExtractionError):
        cg.extract(net, [x, x[:, :2]])
    assert not any(tmp_path.iterdir())


def test_the_store_knows_where_it_comes_from(net, x, tmp_path):
    out = tmp_path / "run.zarr"
    done = []
    options = {"model_name": "net", "dataset": "noise", "progress": lambda *state: done.append(state)}
    acts = cg.extract(net, x.split(4), "a", steps="flatten", out=out, **options)
    assert done == [(1, 4), (2, 6)]
    assert acts["a"].origin.model == "net"
    assert acts["a"].origin.dataset == "noise"
    assert acts.provenance["contract"]["fingerprint"] == model_fingerprint(net)
    assert acts.provenance["contract"]["layers"] == ["a"]
    assert acts.provenance["versions"]["torch"] == torch.__version__
    with pytest.raises(
        cg.OutputExistsError, match="run.zarr exists. Continue it with resume=True, or replace it with overwrite=True"
    ):
        cg.extract(net, [x], out=out)
    assert list(cg.extract(net, [x], "b", out=out, overwrite=True)) == ["b"]


def test_the_fingerprint_follows_the_weights(net):
    before = model_fingerprint(net)
    assert model_fingerprint(net) == before
    with torch.no_grad():
        net.a.weight[0, 0] += 1e-6
    assert model_fingerprint(net) != before


@pytest.mark.parametrize("steps", [None, "tokens_as_stimuli"])
@pytest.mark.parametrize("ids", [None, [f"s{i}" for i in range(8)]])
def test_a_model_that_fails_can_be_resumed_to_the_same_bytes(ids, steps, tmp_path):
    torch.manual_seed(1)
    batches = [torch.randn(2, 3, D) for _ in range(4)]
    batches[2][0, 0, 0] = torch.nan
    model = Fails()
    out, whole = tmp_path / "run.zarr", tmp_path / "whole.zarr"
    message = (
        r"The model failed on batch 2: ValueError: a NaN. The batches before are kept in .*run.zarr; go on from there"
    )
    with pytest.raises(cg.ExtractionError, match=message) as caught:
        cg.extract(model, batches, steps=steps, ids=ids, out=out)
    assert isinstance(caught.value.__cause__.__cause__, ValueError)
    assert cg.Activations(out, allow_incomplete=True).n == (4 if steps is None else 12)
    model.broken = False
    calls = []
    model.fc.register_forward_hook(lambda *args: calls.append(1))
    acts = cg.extract(model, batches, steps=steps, ids=ids, out=out, resume=True)
    assert len(calls) == 3  # the first batch, which always runs, and the two that are missing
    reference = cg.extract(model, batches, steps=steps, ids=ids, out=whole)
    assert files(out) == files(whole)
    assert acts.complete
    assert list(acts) == list(reference) == ["fc", "drop"]


def test_the_first_batch_fails_before_there_is_a_store(tmp_path):
    with pytest.raises(cg.ExtractionError, match=r"The model failed on batch 0: ValueError: a NaN\.$"):
        cg.extract(Fails(), [torch.full((2, D), torch.nan)], out=tmp_path / "run.zarr")
    assert not any(tmp_path.iterdir())


def test_a_resumed_run_must_be_the_same_run(tmp_path):
    good, bad = torch.randn(4, 2, D), torch.full((2, D), torch.nan)
    model, out = Fails(), tmp_path / "run.zarr"
    with pytest.raises(cg.ExtractionError):
        cg.extract(model, [*good, bad], out=out)
    model.broken = False
    before = files(out)
    with pytest.raises(cg.StoreError, match="batch 0 is not the one that was recorded .*shuffled"):
        cg.extract(model, [*good[[1, 0, 2, 3]], bad], out=out, resume=True)
    with pytest.raises(cg.StoreError, match="recorded without ids, now with ids"):
        cg.extract(model, [*good, bad], ids=range(10), out=out, resume=True)
    with pytest.raises(cg.StoreError, match=r"started with other settings \(layers: \[.*\] then, \[.*\] now\)"):
        cg.extract(model, [*good, bad], "fc", out=out, resume=True)
    with pytest.raises(cg.StoreError, match=r"started with other settings \(steps: "):
        cg.extract(model, [*good, bad], steps="flatten", out=out, resume=True)
    with pytest.raises(cg.StoreError, match="has 4 batches and only the first 2 were given again"):
        cg.extract(model, list(good[:2]), out=out, resume=True)
    other = Fails()
    with pytest.raises(cg.StoreError, match=r"started with other settings \(fingerprint: "):
        cg.extract(other, [*good], out=out, resume=True)
    assert files(out) == before
    assert cg.extract(model, [*good, bad], out=out, resume=True).n == 10


def test_a_finished_run_can_be_resumed_to_no_effect(net, x, tmp_path):
    out = tmp_path / "run.zarr"
    cg.extract(net, x.split(2), out=out)
    before = files(out)
    assert cg.extract(net, x.split(2), out=out, resume=True).n == N
    assert files(out) == before
