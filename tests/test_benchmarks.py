"""The benchmarks on tiny sizes: their pair loops are one more independent check, and their code cannot rot."""

from __future__ import annotations

import dataclasses
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks import __main__ as command
from benchmarks import measuring, page, pairs, peers, running
from benchmarks.measuring import Check, Disagreement, Result, place
from benchmarks.rows import ROWS

from congruence.measures import measure

BY_NAME = {row.name: row for row in ROWS}


def tiny(row: str, name: str, folder: Path) -> Result:
    """One measurement on a tiny size; it raises a Disagreement if values are not those of direct formulas."""
    assert name in BY_NAME[row].names
    found = BY_NAME[row].measure(name, folder, tiny=True)
    assert (found.row, found.name) == (row, name)
    assert found.rate > 1e6
    assert found.peak_bytes > 1e7
    return found


@pytest.mark.parametrize("label", BY_NAME["169"].names)
def test_all_pairs_agree_with_the_pair_loop(label: str, tmp_path: Path) -> None:
    found = tiny("169", label, tmp_path)
    assert found.columns["largest difference"] < 1e-10
    assert found.columns["floor, s"] > 0
    assert [check.what for check in found.checks][-1] == "times the floor"


@pytest.mark.parametrize("row", ["780", "8385"])
def test_pairs_within_one_side_have_marks(row: str, tmp_path: Path) -> None:
    marks = {name: pairs.TASKS[row].marks[name] for name in BY_NAME[row].names}
    assert len(marks) == 8
    found = tiny(row, "cca", tmp_path)  # ranks above half of n - 1: complements
    assert found.columns["form"] == "orthogonal complement"
    (check,) = found.checks
    assert check.limit == marks["cca"]
    assert check.got == pytest.approx(found.columns["pair loop, s"] / found.columns["all pairs, s"])


def test_the_tasks_have_the_pairs_of_their_names() -> None:
    assert {name: task.pairs for name, task in pairs.TASKS.items()} == {"169": 169, "780": 780, "8385": 8385}


def test_the_largest_row_runs_from_a_store(tmp_path: Path) -> None:
    found = tiny("845650", "cka", tmp_path)
    assert found.columns["pairs"] == "21"
    assert found.columns["largest difference"] < 1e-10
    assert [(check.what, check.limit) for check in found.checks] == [("times the floor", 2.5), ("GiB of memory", 4)]


def test_stream(tmp_path: Path) -> None:
    found = tiny("stream", "CKA, CCA and Procrustes", tmp_path)
    assert found.columns["largest difference"] < 1e-8
    assert [check.limit for check in found.checks] == [1.5, 2]


@pytest.mark.parametrize("name", ["images", "batches"])
def test_convolutions(name: str, tmp_path: Path) -> None:
    assert tiny("conv", name, tmp_path).columns["largest difference"] < 1e-10


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Port .* is already in use")
def test_dask(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    assert tiny("dask", "procrustes", tmp_path).checks[0].limit == 1.6


@pytest.mark.slow
@pytest.mark.hf
def test_minibatch(tmp_path: Path) -> None:
    found = tiny("minibatch", "BERT", tmp_path)
    assert found.columns["states"] == "3 x 3"
    assert found.columns["largest difference"] < 1e-5  # states are float32


# ---- public packages -------------------------------------------------------------------------------------------------


def stand_in(value: float, differs: str = "") -> peers.Peer:
    return peers.Peer("numpy", "numpy", "nothing", "cka", lambda x, y: measure("cka")(x, y) + value, differs)


def test_a_package_that_gives_the_same_number() -> None:
    found = peers.measure_peer("peers", stand_in(0.0), pairs.TINY["169"])
    assert found.columns["largest difference"] < 1e-10
    assert found.columns["why"] == "the same number"
    assert found.checks == ()


def test_a_package_that_differs_must_say_why() -> None:
    with pytest.raises(Disagreement, match=r"numpy nothing and cka differ by 1\.0e-02"):
        peers.measure_peer("peers", stand_in(0.01), pairs.TINY["169"])
    assert peers.measure_peer("peers", stand_in(0.01, "on purpose"), pairs.TINY["169"]).columns["why"] == "on purpose"


@pytest.mark.parametrize("peer", peers.PEERS, ids=peers.name_of)
def test_the_packages_that_are_installed(peer: peers.Peer, tmp_path: Path) -> None:
    assert measure(peer.label)
    if not peer.installed:
        pytest.skip(f"{peer.package} is not installed")
    tiny("peers", peers.name_of(peer), tmp_path)


# ---- results and the page --------------------------------------------------------------------------------------------


def some_result(row: str = "169", name: str = "cka", got: float = 100.0) -> Result:
    checks = (Check("times faster", got, 60.0, True), Check("GiB", 1.0, 4.0, False))
    return measuring.result(row, name, {"measure": name, "all pairs, s": 2.5, "pairs": 169}, checks, 5e10, 2**30)


def test_results_are_kept_whole(tmp_path: Path) -> None:
    found = some_result(name="cka:kernel=rbf")
    found.save(tmp_path)
    assert Result.read(place(tmp_path, "169", "cka:kernel=rbf")) == found
    assert [path.name for path in (tmp_path / "169").iterdir()] == ["cka_kernel_rbf.json"]


def test_names_of_results_are_names_of_files(tmp_path: Path) -> None:
    places = {place(tmp_path, row.name, name) for row in ROWS for name in row.names}
    assert len(places) == sum(len(row.names) for row in ROWS)


def test_a_wrong_value_is_not_a_result() -> None:
    class Wrong:
        def sel(self, **at: str) -> float:
            return 0.5 if at["b"] == "y" else math.nan

    assert pairs.require_agreement(Wrong(), [("x", "y")], [0.5], "cka") == 0
    with pytest.raises(Disagreement, match=r"cka of x and y: 0\.5, and 0\.6 directly"):
        pairs.require_agreement(Wrong(), [("x", "y")], [0.6], "cka")
    with pytest.raises(Disagreement, match="cka of x and z: nan"):
        pairs.require_agreement(Wrong(), [("x", "y"), ("x", "z")], [0.5, 0.5], "cka")


def test_the_page_says_what_is_met_and_why_the_rest_is_not() -> None:
    results = {"169": [some_result(got=100.0), some_result(name="cca", got=10.0), some_result(name="rsa", got=59.0)]}
    text = page.page(results, {"169": {"cca": "It is slow. Faster was tried."}})
    assert "4 of 6 are met." in text
    assert "| 169 | `cka` | at least 60 times faster | **100** | met |" in text
    assert "- 169, `cca`, at least 60 times faster: 10. It is slow. Faster was tried." in text
    assert "- 169, `rsa`, at least 60 times faster: 59. No reason is known yet." in text
    assert BY_NAME["169"].title in text
    assert BY_NAME["stream"].title not in text
    assert "| cka | 2.5 | 169 | 50 | 1.00 |" in text
    assert measuring.machine_line() in text


def test_the_notes_name_what_there_is() -> None:
    known = {row.name: set(row.names) for row in ROWS}
    assert {row: set(lines) - known[row] for row, lines in page.notes().items() if set(lines) - known[row]} == {}


def test_the_machine_line_has_the_processor_and_versions() -> None:
    line = measuring.machine_line()
    assert re.search(r", \d+ cores?.*, openblas|mkl|accelerate", line, re.IGNORECASE)
    assert "numpy " in line


# ---- the command -----------------------------------------------------------------------------------------------------


def test_a_run_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    asked = []

    def instead(row, names, out, *, tiny):
        asked.append((row.name, list(names), tiny))
        for name in names:
            some_result(row.name, name).save(out)
        return True

    monkeypatch.setattr(command, "run_apart", instead)
    arguments = ["--row", "780", "--measure", "cka", "--measure", "cca", "--out", str(tmp_path)]
    assert command.main(arguments) == 0
    assert command.main([*arguments, "--measure", "rsa"]) == 0
    assert "780 cka: kept, measured 20" in capsys.readouterr().out
    assert command.main([*arguments, "--again", "--tiny"]) == 0
    assert asked == [("780", ["cka", "cca"], False), ("780", ["rsa"], False), ("780", ["cka", "cca"], True)]
    assert "6 of 6 are met." in (tmp_path / "benchmarks.md").read_text("utf-8")


def test_what_fails_is_told_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def only_cca(row, name, folder, *, tiny):
        del folder, tiny
        if name != "cca":
            message = "other values"
            raise Disagreement(message)
        return some_result(row, name)

    monkeypatch.setattr(pairs, "measure", only_cca)
    with pytest.raises(SystemExit) as caught:
        running.run(BY_NAME["780"], ["cka", "cca"], tmp_path, tiny=True)
    assert caught.value.code == 1
    told = capsys.readouterr()
    assert "[1/2] cka: FAILED" in told.out
    assert "Disagreement: other values" in told.err
    assert "[2/2] cca: 100 times faster (mark 60, met); 1 GiB (mark 4, met)" in told.out
    assert place(tmp_path, "780", "cca").exists()


def test_rows_that_need_more_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(command, "ROWS", [dataclasses.replace(BY_NAME["dask"], needs=("no_such_module",))])
    assert command.main(["--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "dask: left out, no_such_module is not installed\n"


def test_the_command_runs_rows_apart(tmp_path: Path) -> None:
    arguments = ["--tiny", "--row", "780", "--measure", "mutual_knn", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"\[1/1\] mutual_knn: .* times faster than the pair loop \(mark 40,", done.stdout)
    assert "`mutual_knn`" in (tmp_path / "benchmarks.md").read_text("utf-8")


def test_tiny_results_are_not_taken_for_real_ones(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        command.main(["--tiny"])
    assert "--tiny needs --out" in capsys.readouterr().err
