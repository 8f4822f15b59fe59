"""layers, extract and inspect on the command line, with models of one's own and from a folder of transformers."""

import re
import sys

import numpy as np
import pytest
import torch

import congruence as cg
from commands import congruence
from congruence.cli import extract
from congruence.extraction import Data

MODELS = """
import torch
from torch import nn

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.twin = self.first
        self.body = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 4))
        self.lstm = nn.LSTM(4, 5, batch_first=True)
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        h = self.body(self.body(self.first(x)))
        return self.lstm(h[:, None, :].repeat(1, 3, 1))

def make():
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    return Tied(), [torch.randn(6, 3, generator=generator) for _ in range(4)]

def alone():
    return make()[0]

def stimuli():
    return make()[1]

class Constants(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.types, self.score = nn.Linear(3, 4), nn.Embedding(2, 4), nn.Linear(4, 1)

    def forward(self, x):
        h = self.fc(x) + self.types(torch.zeros(x.shape[:2], dtype=torch.long))
        return self.score(h)[:, -1, 0]

def constants():
    torch.manual_seed(0)
    return Constants(), [torch.randn(5, t, 3) for t in (3, 57, 40, 11)]

def of_text():
    return nn.Linear(2, 3), lambda texts: torch.tensor([[len(t), t.count("e")] for t in texts], dtype=torch.float32)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MODELS)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    yield tmp_path
    sys.modules.pop("mine", None)


@pytest.fixture
def bert(here):
    """A small encoder of transformers, in a folder with its tokenizer."""
    transformers = pytest.importorskip("transformers")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "on", "a", "mat", "dog", "ran"]
    (here / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16
    )
    transformers.BertModel(config).eval().save_pretrained(here / "bert")
    transformers.BertTokenizerFast(vocab=str(here / "vocab.txt")).save_pretrained(here / "bert")
    return here / "bert"


# ---- layers ----------------------------------------------------------------------------------------------------------


def test_layers_lists_names_types_and_shapes(here):
    outcome = congruence("layers", "py:mine:make")
    assert outcome.code == 0, outcome.err
    assert re.search(r"^first +Linear +n x 4 +16", outcome.out, re.MULTILINE)
    assert re.search(r"^lstm +LSTM +n x 3 x 5 ", outcome.out, re.MULTILINE)
    assert re.search(r"^body\.1 +Linear +n x 4  \(2 calls\)", outcome.out, re.MULTILINE)
    assert re.search(r"^unused +Linear +not called", outcome.out, re.MULTILINE)
    assert "first is also twin" in outcome.out
    assert "congruence extract py:mine:make" in outcome.out


def test_layers_without_data_has_no_shapes(here):
    outcome = congruence("layers", "py:mine:alone")
    assert outcome.code == 0, outcome.err
    assert "n x" not in outcome.out
    assert re.search(r"^first +Linear +16", outcome.out, re.MULTILINE)
    shown = congruence("layers", "py:mine:alone", "--data", "py:mine:stimuli", "--json").json
    (first,) = [row for row in shown if row["name"] == "first"]
    assert (first["shape"], first["aliases"]) == ([6, 4], ["twin"])


# ---- extract ---------------------------------------------------------------------------------------------------------


def test_extract_says_what_it_recorded_and_what_comes_next(here):
    outcome = congruence("extract", "py:mine:make", "--layers", "body.*", "--layers", "first", "--out", "acts.zarr")
    assert outcome.code == 0, outcome.err
    assert "Recorded 5 layers for 24 stimuli." in outcome.out
    assert re.search(r"^body\.1#2 +24 x 4 +float32", outcome.out, re.MULTILINE)
    following = outcome.out.split("Compare its layers: congruence ")[1].split()
    assert congruence(*following).code == 0


@pytest.mark.parametrize("steps", [(), ("--steps", "token_mean")])
def test_extract_names_constant_layers_and_prints_a_command_that_runs(here, steps):
    command = ["extract", "py:mine:constants", "-l", "*", "-l", "output", "--out", "acts.zarr", *steps]
    outcome = congruence(*command)
    assert (
        "The same for every stimulus, so no similarity to it is defined: types. With --on-error record" in outcome.out
    )
    following = outcome.out.split("Compare its layers: congruence ")[1].split()
    assert congruence(*following).code == 3
    result = cg.load("RUN")
    status = result.dataset["status"].sel(measure="cka:estimator=debiased").to_pandas()
    assert (status == "ok").sum().sum() == 9
    assert set(result.failures()["a"]) | set(result.failures()["b"]) >= {"types"}
    assert (status.loc["types"] == "failed").all()
    assert congruence("compare", "acts.zarr", "-m", "cka", "--out", "other").code == 2
    layers = congruence(*command, "--overwrite", "--json").json["layers"]
    assert {layer["name"]: layer["constant"] for layer in layers} == {
        "fc": False, "types": True, "score": False, "output": False
    }  # fmt: skip


def test_a_layer_of_one_number_a_stimulus_is_compared_as_one_feature(here):
    congruence("extract", "py:mine:constants", "-l", "output", "-l", "fc", "--out", "acts.zarr")
    store = cg.open("acts.zarr")
    assert store.array("output").shape == (20,)
    assert store["output"].values.shape == store.rows("output", 0, 20).values.shape == (20, 1)
    assert congruence("compare", "acts.zarr", "-m", "cka", "--out", "run").code == 0
    expected = cg.measure("cka")(store.array("output")[:, None], store["fc"].matrix().values)
    assert float(cg.load("run").matrix("cka").sel(a="output", b="fc")) == pytest.approx(expected, rel=1e-12)


def test_extract_in_json(here):
    command = ["extract", "py:mine:alone", "--data", "py:mine:stimuli", "--layers", "lstm", "--steps", "last_step"]
    found = congruence(*command, "--out", "acts.zarr", "--dtype", "float64", "--json").json
    assert found["n"] == 24
    assert found["layers"][0] == {"name": "lstm", "shape": [24, 5], "dtype": "float64", "constant": False}


def test_extracted_values_equal_a_forward_pass_by_hand(here, bert):
    import transformers

    texts = ["the cat sat on a mat", "a dog ran", "the dog sat", "a cat ran on the mat", "the mat"]
    (here / "texts.txt").write_text("\n".join(texts))
    outcome = congruence(
        "extract", f"hf:{bert}", "--data", "texts.txt", "--layers", "embeddings", "--layers", "encoder.layer.?",
        "--steps", "token_mean", "--batch-size", "2", "--out", "acts.zarr",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    model, tokenizer = (c.from_pretrained(bert) for c in (transformers.AutoModel, transformers.AutoTokenizer))
    store = cg.open("acts.zarr")
    assert list(store) == ["embeddings", "encoder.layer.0", "encoder.layer.1"]
    with torch.no_grad():
        for row, text in enumerate(texts):
            hidden = model.eval()(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states
            for name, states in zip(store, hidden, strict=True):
                np.testing.assert_allclose(store.array(name)[row], states[0].mean(dim=0), atol=1e-6)  # single precision


def test_extract_of_text_with_a_transform(here):
    (here / "texts.csv").write_text("text,id\nhere,a\nthere,b\neverywhere,c\n")
    outcome = congruence("extract", "py:mine:of_text", "--data", "texts.csv:text:id", "-l", "output", "-o", "acts.zarr")
    assert outcome.code == 0, outcome.err
    assert cg.open("acts.zarr")["output"].stimulus_ids.tolist() == ["a", "b", "c"]


def test_extract_warns_of_layers_that_do_not_fire(here):
    outcome = congruence("extract", "py:mine:make", "--out", "acts.zarr")
    assert outcome.code == 0
    assert "congruence: warning: Selected layers that the model does not call are left out: unused." in outcome.err


def test_extract_needs_stimuli(here):
    outcome = congruence("extract", "py:mine:alone", "--out", "acts.zarr")
    assert outcome.code == 2
    assert "comes without batches. Give stimuli with --data." in outcome.error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "center"], "center needs all stimuli at once"),
        (["--layers", "lstm", "--steps", "spatial_mean"], "spatial_mean"),
        (["--device", "warp9"], "device 'warp9'"),
        (["--dtype", "float7"], "float7"),
        (["--batch-size", "0"], "--batch-size"),
        (["--data", "missing.txt"], "missing.txt"),
        (["--weights", "missing.safetensors"], "missing.safetensors"),
    ],
)
def test_extract_refuses_what_cannot_be(here, options, message):
    outcome = congruence("extract", "py:mine:make", "--layers", "first", "--out", "acts.zarr", *options)
    assert outcome.code == 2
    assert message in outcome.error
    assert not (here / "acts.zarr").exists()


def test_progress_is_in_stimuli_with_a_total_where_it_is_known():
    seen = []
    for ids in (None, ("a", "b", "c")):
        extract._reporter(lambda done, total: seen.append((done, total)), Data([], ids, "data"))(1, 2)
    assert seen == [(2, None), (2, 3)]


# ---- inspect ---------------------------------------------------------------------------------------------------------


def test_inspect_shows_the_layers_and_that_they_are_whole(here):
    congruence("extract", "py:mine:make", "--layers", "first", "--out", "acts.zarr")
    outcome = congruence("inspect", "acts.zarr")
    assert (outcome.code, outcome.err) == (0, "")
    assert "complete" in outcome.out
    assert "model mine:make, 24 stimuli in 4 batches" in outcome.out
    assert re.search(r"^first +24 x 4 +float32 +ok", outcome.out, re.MULTILINE)
    assert congruence("inspect", "acts.zarr", "--json").json["problems"] == []


def test_inspect_lists_every_problem_and_repair_is_a_resume(here):
    command = ["extract", "py:mine:make", "--layers", "first", "--layers", "lstm", "--out", "acts.zarr"]
    assert congruence(*command).code == 0
    whole = {name: cg.open("acts.zarr").array(name) for name in cg.open("acts.zarr")}
    for chunk in (here / "acts.zarr" / "layers").glob("*/c.*"):
        content = bytearray(chunk.read_bytes())
        content[3] ^= 1
        chunk.write_bytes(content)
    outcome = congruence("inspect", "acts.zarr")
    assert outcome.code == 2
    assert outcome.out.count("corrupt") >= len(whole)
    assert "more problems above" in outcome.error
    assert outcome.error.count("acts.zarr") == 1
    assert congruence(*command, "--resume").code == 0
    assert congruence("inspect", "acts.zarr").code == 0
    for name, values in whole.items():
        np.testing.assert_array_equal(cg.open("acts.zarr").array(name), values)
