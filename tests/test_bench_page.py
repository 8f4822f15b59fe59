"""The page of results and the documentation of benchmarks say what was computed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import congruence as cg
from commands import congruence
from congruence import benchmarks
from congruence.benchmarks import Benchmark, Case, Score, printed, results_page
from congruence.cli import bench

DOCS = Path(__file__).resolve().parents[1] / "docs" / "testing-measures.md"


class Depths(Benchmark):
    """Stands in for layer identification, with scores that are given."""

    name, title, source = "layer-identification", "Find the layer", "Kornblith et al. 2019"
    tiers = {"quick": "two arrays"}
    values = {"cka": 0.9, "cca": 0.1, "pwcca": 0.05, "rsa": np.nan}

    def cases(self, tier, stage):
        rng = np.random.default_rng(0)
        found = [cg.Representation(rng.normal(size=(20, 3)), name) for name in "ab"]
        yield Case("cnn-toy", found, None, "accuracy", {})

    def score(self, case, result):
        rows = [Score(label, "accuracy", self.values[label], standard_error=0.01, p=0.5) for label in result.measures]
        return rows + [Score(label, "accuracy:conv1", 0.25) for label in result.measures]


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setitem(benchmarks.REGISTRY, "layer-identification", Depths)
    benchmarks.run("layer-identification", list(Depths.values), out=tmp_path / "run")
    return tmp_path / "run"


def test_the_page_puts_our_numbers_beside_the_published_ones(run, tmp_path):
    done = congruence("bench", "page", run, "--out", tmp_path / "docs" / "results.md")
    assert done.code == 0, done.err
    assert done.out.strip() == str(tmp_path / "docs" / "results.md")
    text = (tmp_path / "docs" / "results.md").read_text()
    assert "| 1 | `cka` | 0.900 | ± 0.010 | 0.500 | 0 | 0.993 |" in text
    assert text.count("### cnn-toy") == 1
    assert "| 4 | `rsa` |  | ± 0.010 | 0.500 | 0 |  |" in text
    assert "2 representations of 20 stimuli, 4 pairs a measure" in text
    assert "2 of 3 pairs of measures stand in the published order, 1 against it" in text
    assert "`cca` above `pwcca` (0.100 and 0.050; published 0.014 and 0.111)" in text
    table = pd.read_csv(tmp_path / "docs" / "results.csv", keep_default_na=False, na_values=["nan"])
    whole = benchmarks.load_run(run).table
    details = whole["quantity"].str.contains(":")  # which stay in the folder of the run
    assert details.any()
    pd.testing.assert_frame_equal(table, whole[~details].reset_index(drop=True))


def test_agreement_is_put_into_words():
    heads = pd.DataFrame({"measure": ["a", "b", "c"], "value": [0.9, 0.5, 0.5]})
    table = printed.Published("Paper, Table 1", "somewhere", {"a": 0.8, "b": 0.2, "c": 0.1})
    words = results_page._agreement(heads, table)
    assert words == (
        "Against Paper, Table 1 (somewhere): 2 of 3 pairs of measures stand in the published order, 1 tie; none stands "
        "against it."
    )
    alone = results_page._agreement(heads, printed.Published("Paper", "", {"a": 0.8}))
    assert alone == "Against Paper: fewer than two measures in common."


def test_published_numbers_are_those_of_measures_that_exist():
    for tables in printed.PUBLISHED.values():
        for table in tables:
            assert [cg.measure(label).label for label in table.values] == [
                label.replace("cka:kernel=rbf,bandwidth=0.4", "cka:kernel=rbf") for label in table.values
            ]
            assert all(0 <= value <= 1 for value in table.values.values())
    (cnn,) = printed.published_for("layer-identification", "cnn-flattened")
    assert cnn.values["cka"] == 0.993
    assert printed.published_for("intuitive", "specificity-cnn") == ()
    (deleted,) = printed.published_for("functional", "components-minilm")
    assert "renormalises" in deleted.remark


def test_an_unfinished_run_has_no_page(tmp_path):
    done = congruence("bench", "page", tmp_path, "--out", tmp_path / "page.md")
    assert done.code == 2
    assert "holds no finished benchmark" in done.error
    nowhere = congruence("bench", "page", tmp_path / "nowhere", "--out", tmp_path / "page.md")
    assert nowhere.code == 2
    assert "There is no folder" in nowhere.error
    assert not (tmp_path / "page.md").exists()


# ---------------------------------------------------------------------------------------- documentation
def test_the_measure_of_the_documentation_gets_a_rank(tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    (tmp_path / "my_module_of_the_docs.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    measure = benchmarks.user_measure("my_module_of_the_docs:my_measure")
    assert measure.info.orientation == "similarity"
    x = np.random.default_rng(0).normal(size=(30, 4))
    assert measure(x, x) == pytest.approx(1.0)


def documented():
    text = DOCS.read_text("utf-8").replace("\\\n", " ")
    for examples in (text, bench.SCORE_EXAMPLES, bench.RUN_EXAMPLES):
        for line in re.findall(r"^ +congruence (.*)$", examples, re.MULTILINE):
            yield shlex.split(line, comments=True)


def test_the_commands_of_the_documentation_have_real_options():
    found = list(documented())
    assert len(found) >= 9
    for command, verb, *arguments in found:
        described = congruence(command, verb, "--help").out
        for option in (argument for argument in arguments if argument.startswith("-")):
            assert re.search(rf"(?<!\S){option}(?=[ ,])", described), (verb, option)


def test_the_benchmarks_of_the_documentation_are_the_registered_ones():
    named = set(re.findall(r"^\| `([a-z-]+)` \|", DOCS.read_text("utf-8"), re.MULTILINE))
    assert named == set(benchmarks.REGISTRY)
