"""Embeddings and unembeddings of real models: what is taken from them, and which pairs are refused."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import congruence as cg
from commands import congruence
from congruence.errors import CongruenceWarning
from congruence.extraction import load_model
from congruence.identifiability import compare, compare_heads, outputs

pytestmark = pytest.mark.filterwarnings("ignore::congruence.errors.CongruenceWarning")

transformers = pytest.importorskip("transformers")

WORDS = ["<|endoftext|>", "<pad>", *"abcdefghijklmnopqrstuvwxyz"]
TEXTS = ["abc", "hello", "somewhat", "z", "language", "model", "tokens", "quick", "jumps", "over"] * 4


def language_model(seed, words=WORDS, **options):
    torch.manual_seed(seed)
    config = transformers.GPT2Config(
        n_embd=4, n_layer=1, n_head=2, vocab_size=len(words), n_positions=16, initializer_range=0.8, **options
    )
    return transformers.GPT2LMHeadModel(config)


def saved(model, folder, words=WORDS):
    model.save_pretrained(folder)
    vocabulary = {word: k for k, word in enumerate(words)}
    transformers.GPT2Tokenizer(vocab=vocabulary, merges=[], pad_token="<pad>").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two language models of one kind, a rounded copy of the first, and one with another tokeniser; and texts."""
    base = tmp_path_factory.mktemp("language")
    for seed in (0, 1):
        saved(language_model(seed), base / f"seed{seed}")
    rounded = language_model(0)
    with torch.no_grad():
        for parameter in rounded.parameters():
            parameter.copy_((parameter * 64).round() / 64)
    saved(rounded, base / "rounded")
    saved(language_model(0), base / "other", [*WORDS[:2], *reversed(WORDS[2:])])
    (base / "texts.txt").write_text("\n".join(TEXTS))
    return base


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


class Classifier(nn.Module):
    """Two layers, dropout, a head with a bias."""

    def __init__(self, seed=0, classes=8):
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, 3))
        self.spare = nn.Linear(3, 3)
        self.head = nn.Linear(3, classes)

    def forward(self, x):
        return self.head(self.body(x))


X = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
BATCHES = [X[:20], X[20:40], X[40:]]


# ---- what is taken ---------------------------------------------------------------------------------------------------


def test_a_classifier_gives_the_input_and_the_rows_of_its_last_layer():
    model = Classifier().train()
    model.spare.eval()
    found = outputs(model, BATCHES)
    assert found.head == "head"
    assert model.training
    assert not model.spare.training
    model.eval()
    with torch.no_grad():
        np.testing.assert_allclose(found.f, model.body(X).numpy(), atol=1e-6)  # float32, batches of other sizes
        np.testing.assert_allclose(found.f @ found.g.T + found.bias, model(X).numpy(), atol=1e-6)
    assert not model.head._forward_hooks
    assert not model.head._forward_pre_hooks


def test_a_language_model_gives_one_row_for_each_token_that_is_no_padding(folder):
    loaded = load_model(f"hf:{folder / 'seed0'}", head=True)
    batch = loaded.tokenizer(TEXTS[:10], padding=True, return_tensors="pt")
    found = outputs(loaded.model, [batch])
    mask = batch["attention_mask"].bool()
    assert found.head == "lm_head"
    assert found.bias is None
    assert found.f.shape == (int(mask.sum()), 4)
    with torch.no_grad():
        logits = loaded.model.eval()(**batch).logits[mask].numpy()
    np.testing.assert_allclose(found.f @ found.g.T, logits, atol=1e-5)


def test_only_so_many_inputs_are_taken():
    assert outputs(Classifier(), BATCHES, max_inputs=33).f.shape == (33, 3)
    seen = []

    class Counted(list):
        def __iter__(self):
            for batch in super().__iter__():
                seen.append(len(batch))
                yield batch

    outputs(Classifier(), Counted(BATCHES), max_inputs=20, head="head")
    assert seen == [20]


def test_another_layer_can_be_named():
    found = outputs(Classifier(), BATCHES, head="body.3")
    assert found.f.shape == (50, 5)
    assert found.g.shape == (3, 5)


def test_sequences_without_a_mask_give_every_position():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 7))
    assert outputs(model, [torch.randn(4, 5, 3)]).f.shape == (20, 2)


class Rounded(nn.Module):
    """A layer whose parameters are behind methods, as quantised layers of PyTorch have them."""

    def __init__(self, linear):
        super().__init__()
        self.kept = linear

    def weight(self):
        return torch.quantize_per_tensor(self.kept.weight.detach(), 2**-7, 0, torch.qint8)

    def bias(self):
        return self.kept.bias.detach()

    def forward(self, x):
        return nn.functional.linear(x, self.weight().dequantize(), self.bias())


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_a_quantised_head_is_dequantised():
    model = Classifier()
    plain = outputs(model, BATCHES)
    model.head = Rounded(model.head)
    found = outputs(model, BATCHES, head="head")
    assert 0 < np.abs(found.g - plain.g).max() <= 2**-8 + 1e-7
    np.testing.assert_array_equal(found.bias, plain.bias)


class Softcapped(Classifier):
    def forward(self, x):
        return 3 * torch.tanh(super().forward(x) / 3)


def test_logits_that_are_changed_after_the_last_layer_are_noticed():
    with pytest.warns(CongruenceWarning, match="the logits of Softcapped are not the output of 'head'"):
        outputs(Softcapped(), BATCHES)


# ---- comparisons -----------------------------------------------------------------------------------------------------


def test_two_classifiers():
    first, second = Classifier(0), Classifier(1)
    found = compare_heads(first, second, BATCHES, n_input_sets=5)
    a, b = outputs(first, BATCHES), outputs(second, BATCHES)
    assert found == compare(a.f, a.g, b.f, b.g, n_input_sets=5)
    assert found.d_fg > 0.01


def test_a_model_its_rounded_copy_and_another_seed(folder):
    texts = str(folder / "texts.txt")
    models = [f"hf:{folder / name}" for name in ("seed0", "rounded", "seed1")]
    same, rounded, other = (
        compare_heads(models[0], model, texts, n_input_sets=10) for model in models[:1] + models[1:]
    )
    assert (same.d_llv, same.kl) == (0, 0)
    assert same.d_fg < 1e-12
    assert 0 < rounded.d_llv < 0.2 < other.d_llv
    assert rounded.d_fg < 0.01 < other.d_fg
    assert rounded.d_fg <= rounded.bound


def test_the_command_compares_two_models(folder):
    names = [f"hf:{folder / name}" for name in ("seed0", "seed1")]
    outcome = congruence(
        "identifiability", *names, "--data", folder / "texts.txt", "--max-inputs", 60, "--input-sets", 5, "--json"
    )
    assert outcome.code == 0
    expected = compare_heads(*names, str(folder / "texts.txt"), max_inputs=60, n_input_sets=5)
    assert expected.n == 60
    assert outcome.json == json.loads(json.dumps(expected.to_dict()))


# ---- refused ---------------------------------------------------------------------------------------------------------


def test_tokenisers_that_differ_are_refused_with_the_reason(folder):
    names = [f"hf:{folder / name}" for name in ("seed0", "other")]
    message = r"The tokenisers of seed0 \(28 tokens\) and other \(28\) differ, as in 'a': the models see other inputs"
    with pytest.raises(cg.InputError, match=message):
        compare_heads(*names, str(folder / "texts.txt"))
    outcome = congruence("identifiability", *names, "--data", folder / "texts.txt")
    assert outcome.code == 2
    assert "Compare models that share a tokeniser" in outcome.error


def test_models_over_different_labels_are_refused():
    message = "Classifier has 8 labels and Classifier 9; models over different labels have no distributions to compare"
    with pytest.raises(cg.ShapeError, match=message):
        compare_heads(Classifier(classes=8), Classifier(classes=9), BATCHES)


def test_layers_that_are_not_there():
    with pytest.raises(cg.ExtractionError, match="Classifier has no module 'haed'. Closest: head"):
        outputs(Classifier(), BATCHES, head="haed")
    with pytest.raises(cg.ExtractionError, match="'spare' is not called on batch 0"):
        outputs(Classifier(), BATCHES, head="spare")
    with pytest.raises(cg.ExtractionError, match=r"'body.1' \(Tanh\) has no weight matrix"):
        outputs(Classifier(), BATCHES, head="body.1")
    with pytest.raises(cg.ExtractionError, match="Sequential calls no linear layer"):
        outputs(nn.Sequential(nn.Tanh()), BATCHES)


def test_batches_that_cannot_be_used():
    with pytest.raises(cg.ParameterError, match="something that can be read again"):
        outputs(Classifier(), iter(BATCHES))
    with pytest.raises(cg.InputError, match="batches must hold at least one batch"):
        outputs(Classifier(), [], head="head")
    with pytest.raises(cg.ParameterError, match="max_inputs must be an integer >= 1; got 0"):
        outputs(Classifier(), BATCHES, max_inputs=0)
    with pytest.raises(cg.ExtractionError, match="The model failed on batch 0"):
        outputs(Classifier(), [torch.randn(4, 7)])


def test_the_command_says_how_many_arguments_it_takes(tmp_path):
    outcome = congruence("identifiability", "a.npy", "b.npy")
    assert outcome.code == 2
    assert "expected four arrays, F1 G1 F2 G2 (or two models with --data); got 2" in outcome.error
    outcome = congruence("identifiability", "a.npy", "b.npy", "c.npy", "--data", "x.txt")
    assert outcome.code == 2
    assert "--data goes with two models, hf:... or py:...; got 3 arguments" in outcome.error


def test_a_model_without_a_head_is_refused(tmp_path):
    """A model that was saved without what it was trained with on top has no unembeddings of its own."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4
    )
    transformers.BertModel(config).save_pretrained(tmp_path)
    model = f"hf:{tmp_path}"
    assert type(load_model(model, head=True).model).__name__ == "BertModel"
    with pytest.raises(cg.ShapeError, match="4 labels are too few for M = 4"):
        compare_heads(model, model, [torch.arange(12).reshape(6, 2)])


def test_importing_does_not_load_pytorch():
    code = "import sys, congruence.identifiability as i; i.compare; print('torch' in sys.modules); i.outputs; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "True"]
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = cg.identifiability.nothing
