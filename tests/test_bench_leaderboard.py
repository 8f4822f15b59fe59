"""The leaderboard: ranks worked by hand, intervals by brute force, and what is said about failures and missing scores."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import congruence as cg
from commands import congruence
from congruence import benchmarks
from congruence.benchmarks import _beside_resi, _leaderboard, leaderboard_page, printed, running

NAN = float("nan")


def scores(values, benchmark="augmentation", case="images.vit.mnist_5k", quantity="auprc"):
    """A table of scores of one case, by measure."""
    rows = [
        {"benchmark": benchmark, "case": case, "measure": m, "quantity": q, "value": v, "n": 20, "failed": int(v != v)}
        for m, value in values.items()
        for q, v in ((quantity, value), ("seconds", 0.5))
    ]
    return pd.DataFrame(rows)


def place(board, measure, scope="overall", name=""):
    return board.rows(scope, name).set_index("measure").loc[measure]


THREE = [
    scores({"a": 0.9, "b": 0.9, "c": 0.2}),
    scores({"a": 0.8, "b": 0.7, "c": NAN}, "shortcut-affinity"),
    scores({"a": -0.1, "b": 0.5, "c": 0.6}, "layer-monotonicity", "graphs.gcn.sbm", "spearman"),
]


def test_ranks_of_a_worked_example():
    board = benchmarks.leaderboard(THREE)
    ranks = board.ranks.pivot(index="measure", columns="test", values="rank")
    assert ranks.loc["a"].tolist() == [1, 3, 1]  # augmentation (a tie), layer monotonicity, shortcut affinity
    assert ranks.loc["b"].tolist() == [1, 2, 2]
    assert ranks.loc["c"].tolist() == [3, 1, 3]  # an undefined score is last
    a, b, c = (place(board, m) for m in "abc")
    assert (a.median_rank, b.median_rank, c.median_rank) == (1, 2, 3)
    assert (a.mean_rank, b.mean_rank) == (pytest.approx(5 / 3), pytest.approx(5 / 3))
    assert (a.place, b.place, c.place) == (1, 2, 3)
    assert (c.undefined, c.failed, c.n, c.experiments, c.seconds) == (1, 1, 60, 3, 0.5)
    images = place(board, "a", "domain", "images")
    assert (images.median_rank, images.experiments) == (1, 2)
    assert place(board, "c", "test", "layer-monotonicity").median_rank == 1
    assert place(board, "b", "domain and test", "graphs, layer-monotonicity").median_rank == 2


def test_scores_that_are_equal_up_to_rounding_share_a_rank():
    board = benchmarks.leaderboard([scores({"a": 0.1 + 0.2, "b": 0.3, "c": 0.3 - 1e-9})])
    assert board.ranks["rank"].tolist() == [1, 1, 3]
    ranks = running._ranks(
        [benchmarks.Score(m, "auprc", v) for m, v in (("a", 1.0), ("b", 1 - 1e-16), ("c", 0.9))], "auprc"
    )
    assert ranks == {"a": 1, "b": 1, "c": 3}


def test_an_undefined_score_can_be_left_out_as_in_the_paper():
    board = benchmarks.leaderboard(THREE, undefined="left_out")
    assert place(board, "c").median_rank == 2  # of 3 and 1
    assert place(board, "c").experiments == 2
    with pytest.raises(cg.ParameterError, match="undefined must be last or left_out; got 'nowhere'"):
        benchmarks.leaderboard(THREE, undefined="nowhere")


def test_both_functional_differences_are_experiments():
    table = pd.concat(
        [
            scores({"a": 0.9, "b": 0.1}, "output-correlation", quantity="jsd"),
            scores({"a": 0.1, "b": 0.2}, "output-correlation", quantity="disagreement").query("quantity != 'seconds'"),
        ]
    )
    board = benchmarks.leaderboard([table])
    assert set(board.ranks["test"]) == {"output-correlation (jsd)", "output-correlation (disagreement)"}
    assert place(board, "a").median_rank == 1.5


def test_what_has_no_place_is_named():
    other = scores({"a": 1.0}, "intuitive", "specificity-cnn", "specificity")
    empty = scores({"a": NAN, "b": NAN}, "label-randomisation")
    board = benchmarks.leaderboard([*THREE, other, empty])
    assert board.left_out == (
        "intuitive, specificity-cnn",
        "label-randomisation, images.vit.mnist_5k: every score is undefined",
    )
    assert place(board, "a").experiments == 3
    with pytest.raises(
        cg.InputError, match="None of the runs has a score of the six tests. Run some: congruence bench"
    ):
        benchmarks.leaderboard([other])
    with pytest.raises(cg.InputError, match="None of the runs has a score"):
        benchmarks.leaderboard([])
    with pytest.raises(
        cg.InputError, match=r"a stands twice in augmentation, images\.vit\.mnist_5k\. Give each run once"
    ):
        benchmarks.leaderboard([THREE[0], THREE[0]])


def test_a_file_that_is_no_table_of_scores_is_refused(tmp_path):
    path = tmp_path / "some.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(cg.InputError, match="some.csv is no table of scores: it lacks the column 'benchmark'"):
        benchmarks.leaderboard([path])
    with pytest.raises(cg.StoreError, match="holds no finished benchmark"):
        benchmarks.leaderboard([tmp_path])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as a table of scores.*Give the folder of a finished run"),
        (b"\xff\xfe\x00", "cannot be read as a table of scores"),
        (b"benchmark,case,measure,quantity,value\n", "lacks the column 'failed'"),
        (b"benchmark,case,measure,quantity,value,n,failed\naugmentation,a.b.c,cka,auprc,0.5,3,\n", "column 'failed'"),
        (b"benchmark,case,measure,quantity,value,n,failed\naugmentation,a.b.c,cka,auprc,high,3,0\n", "column 'value'"),
    ],
)
def test_a_torn_table_of_scores_is_refused(tmp_path, content, message):
    path = tmp_path / "scores.csv"
    path.write_bytes(content)
    with pytest.raises(cg.InputError, match=message):
        benchmarks.leaderboard([path])


def test_a_page_that_cannot_be_written_leaves_no_table(tmp_path):
    folder, table = tmp_path / "folder", tmp_path / "board.csv"
    folder.mkdir()
    board = benchmarks.leaderboard(THREE)
    with pytest.raises(cg.StoreError, match=r"is a folder\. Give the page as a file: --out .*folder\.md"):
        benchmarks.write_leaderboard(board, folder)
    with pytest.raises(cg.StoreError, match="the name of the table beside the page"):
        benchmarks.write_leaderboard(board, table)
    assert list(tmp_path.iterdir()) == [folder]


# ---------------------------------------------------------------------------------------- uncertainty
def many(count=12, seed=0):
    """Experiments where a is always first, and b and c are equally good."""
    rng = np.random.default_rng(seed)
    return [
        scores({"a": 2.0, "b": rng.random(), "c": rng.random()}, case=f"images.net{k}.mnist_5k") for k in range(count)
    ]


def test_without_draws_experiments_are_drawn():
    board = benchmarks.leaderboard(many())
    assert board.unit == "experiments"
    a, b, c = (place(board, m) for m in "abc")
    assert (a.low, a.high) == (1, 1)
    ranks = board.ranks[board.ranks["measure"] == "b"]["rank"].to_numpy()
    chosen = np.random.default_rng(0).integers(0, 12, size=(1000, 12))
    assert (b.low, b.high) == tuple(np.quantile(np.median(ranks[chosen], axis=1), [0.025, 0.975]))
    assert (a.group, b.group, c.group) == (1, 2, 2)
    alone = place(benchmarks.leaderboard(many(1)), "a")
    assert np.isnan(alone.low)
    assert alone.group == 0


@pytest.fixture
def run(tmp_path):
    """A folder as `bench run` leaves it, with draws of networks in two cases."""
    rng, tables = np.random.default_rng(1), []
    truth = {"augmentation": {"a": 0.9, "b": 0.5, "c": 0.5}, "shortcut-affinity": {"a": 0.8, "b": 0.4, "c": NAN}}
    for test, values in truth.items():
        case = "images.vit.mnist_5k"
        tables.append(scores(values, test, case))
        folder = tmp_path / "run" / test / case / "draws"
        folder.mkdir(parents=True)
        draws = {m: v + 0.1 * rng.normal(size=50) for m, v in values.items()}
        for column in draws.values():
            column[3] = NAN  # a draw that was lost
        pd.DataFrame(draws).to_csv(folder / "auprc.csv", index=False, na_rep="nan")
    table = pd.concat(tables)
    for name in ("tier", "rank", "low", "high", "standard_error", "p", "note"):
        table[name] = 0
    table.to_csv(tmp_path / "run" / "scores.csv", index=False, na_rep="nan")
    (tmp_path / "run" / "ranking.csv").write_text("measure\n")
    return tmp_path / "run"


def test_draws_of_networks_give_intervals_of_ranks(run):
    board = benchmarks.leaderboard([run])
    assert board.unit == "networks"
    medians = []
    for draw in range(50):
        ranks = []
        for test in ("augmentation", "shortcut-affinity"):
            values = pd.read_csv(run / test / "images.vit.mnist_5k" / "draws" / "auprc.csv").loc[draw]
            if values.notna().any():
                values = values.fillna(-9)
                ranks.append(1 + (values > values["b"]).sum())
        medians.append(np.median(ranks) if ranks else NAN)
    expected = np.nanquantile(medians, [0.025, 0.975])
    assert (place(board, "b").low, place(board, "b").high) == tuple(expected)
    assert place(board, "a").group == 1
    assert place(board, "c").group == 2


def test_a_run_beside_a_table_draws_experiments(run):
    board = benchmarks.leaderboard([run, *many(3)])
    assert board.unit == "experiments"


# ---------------------------------------------------------------------------------------- pages and commands
def test_the_command_prints_and_writes(run, tmp_path):
    page = tmp_path / "docs" / "board.md"
    done = congruence("bench", "leaderboard", run, "--out", page)
    assert done.code == 0, done.err
    assert "Intervals draw networks" in done.out
    text = page.read_text()
    assert text.startswith("# Leaderboard")
    assert "## All experiments" in text
    assert "## Images" in text
    assert "| 1 | `a` | 1.0 | 1.0 to 1.0 | 1.0 | 1 | 0 | 0 of 40 | 500 |" in text
    assert "images, vit on mnist_5k: augmentation" in text
    table = pd.read_csv(tmp_path / "docs" / "board.csv", keep_default_na=False, na_values=["nan"])
    pd.testing.assert_frame_equal(table, benchmarks.leaderboard([run]).table)
    ranks = pd.read_csv(tmp_path / "docs" / "board-ranks.csv", keep_default_na=False, na_values=["nan"])
    assert ranks["rank"].tolist() == [1, 2, 2, 1, 2, 3]
    printed_json = json.loads(congruence("bench", "leaderboard", run, "--json").out)
    assert printed_json["intervals"] == "networks"
    assert printed_json["table"][0]["measure"] == "a"
    wrong = congruence("bench", "leaderboard", tmp_path / "nothing")
    assert wrong.code == 2


def test_published_ranks_stand_beside_measures_that_we_have():
    board = benchmarks.leaderboard([scores({"cka": 0.9, "mine": 0.5})])
    text = "\n".join(leaderboard_page.leaderboard_lines(board))
    medians = printed.resi_medians("images")
    assert medians["CKA"] == medians["cka"] == 10
    assert medians["IMDScore"] == medians["imd"]  # which is exact here, and stands for the estimate of ReSi
    assert "| 10 |" in text
    assert "published median" in text
    assert printed.resi_medians("nowhere") == {}


def test_ranks_beside_resi_are_among_the_measures_that_both_have():
    found = scores({"mine": 0.9, "jaccard": 0.8, "cka": 0.5, "uniformity_diff": 0.7})
    beside = _beside_resi.beside_resi(benchmarks.leaderboard([found]).ranks, "images").set_index("measure")
    assert beside["ours"].to_dict() == {"jaccard": 1, "uniformity_diff": 2, "cka": 3}  # the measure of ReSi's alone
    assert beside["published"].to_dict() == {"jaccard": 7, "uniformity_diff": 19, "cka": 10}
    assert beside["difference"].to_dict() == {"jaccard": -6, "uniformity_diff": -17, "cka": -7}
    assert _beside_resi.agreement(beside) == pytest.approx(0.5)  # ranks 1 2 3 against 1 3 2
    text = "\n".join(leaderboard_page.leaderboard_lines(benchmarks.leaderboard([found])))
    assert "Among the 3 measures here that ReSi ranks" in text
    assert "rho of our medians and the published ones is +0.50" in text
    assert "`uniformity_diff` (2.0; published 19.0)" in text
    assert _beside_resi.beside_resi(benchmarks.leaderboard([found]).ranks, "nowhere").empty


def test_the_published_ranks_are_of_24_measures_in_three_domains():
    for medians in printed.RESI_MEDIANS.values():
        assert len(medians) == 24
        assert all(1 <= value <= 24 for value in medians.values())
    assert printed.RESI_MEDIANS["graphs"]["SecondOrderCosineSimilarity"] == 7.0
    assert printed.RESI_MEDIANS["text"]["CKA"] == 5.5
    assert printed.RESI_MEDIANS["images"]["JaccardSimilarity"] == 7


def test_every_headline_is_one_that_its_benchmark_gives():
    for name, quantities in _leaderboard.HEADLINES.items():
        assert name in benchmarks.REGISTRY
        assert quantities
