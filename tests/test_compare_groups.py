"""Groups of networks: distances within and between, tests whose unit is the network, clusters."""

import re
import warnings
from dataclasses import dataclass, replace
from itertools import combinations, permutations
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

import congruence as cg
from congruence.dynamics import cluster_networks, group_comparison
from congruence.dynamics._relabelling import (
    Contrast,
    interval,
    number_of_relabellings,
    p_value,
    relabellings,
    superiority,
)
from congruence.errors import (
    CongruenceWarning,
    DegenerateError,
    InputError,
    MissingExtraError,
    ParameterError,
    UnknownNameError,
)
from congruence.measures import Measure, measure
from congruence.results import Comparison

RNG = np.random.default_rng(0)
BASE = RNG.normal(size=(40, 4))


def network(noise, layers=("low", "high")):
    return {layer: BASE + (noise if layer == "high" else 0.3) * RNG.normal(size=BASE.shape) for layer in layers}


CLOSE, FAR = [network(0.1) for _ in range(4)], [network(1.0) for _ in range(3)]


def points(values, label="procrustes"):
    """A comparison whose distances are those of points on a line."""
    values = np.asarray(values, dtype=float)
    names = [f"n{k}" for k in range(len(values))]
    return Comparison.build([measure(label)], names, names, value=np.abs(values[:, None] - values)[None])


def grouped(values, sizes, **options):
    ends = np.cumsum([0, *sizes])
    members = {f"g{k}": [f"n{i}" for i in range(ends[k], ends[k + 1])] for k in range(len(sizes))}
    return group_comparison({"layer": points(values)}, members, **options)


# ---- means and contrasts, against loops ------------------------------------------------------------------------------


def plain_mean(values, first, second):
    found = [abs(values[i] - values[j]) for i in first for j in second if i != j]
    return sum(found) / len(found)


def plain_separation(values, groups):
    parts = []
    for g, h in combinations(groups, 2):
        within = [plain_mean(values, members, members) for members in (g, h) if len(members) > 1]
        if within:
            parts.append(plain_mean(values, g, h) - sum(within) / len(within))
    return sum(parts) / len(parts)


def plain_spread(values, groups):
    first, second = groups
    return plain_mean(values, second, second) - plain_mean(values, first, first)


def plain_p(values, sizes, statistic, *, two_sided):
    ends = np.cumsum([0, *sizes])
    found = []
    for order in permutations(range(len(values))):  # every labelling as often as any other
        found.append(statistic(values, [order[a:b] for a, b in zip(ends, ends[1:], strict=False)]))
    found = np.abs(found) if two_sided else np.array(found)
    return np.mean(found >= found[0] - 1e-9)


@pytest.mark.parametrize("sizes", [(3, 3), (2, 4), (1, 4), (2, 2, 2), (1, 2, 3)])
def test_contrasts_and_exact_p_are_those_of_loops_over_all_orders(sizes):
    values = np.random.default_rng(sum(sizes)).normal(size=sum(sizes)) + np.repeat(np.arange(len(sizes)), sizes)
    table = grouped(values, sizes).to_dataframe().set_index("contrast")
    ends = np.cumsum([0, *sizes])
    groups = [list(range(a, b)) for a, b in zip(ends, ends[1:], strict=False)]
    row = table.loc["separation"]
    assert row["difference"] == pytest.approx(plain_separation(values, groups), rel=1e-12)
    assert row["p"] == pytest.approx(plain_p(values, sizes, plain_separation, two_sided=False), rel=1e-12)
    assert bool(row["exact"])
    assert row["relabellings"] == number_of_relabellings(sizes)
    if len(sizes) == 2 and min(sizes) > 1:
        row = table.loc["spread: g1 - g0"]
        assert row["difference"] == pytest.approx(plain_spread(values, groups), rel=1e-12)
        assert row["p"] == pytest.approx(plain_p(values, sizes, plain_spread, two_sided=True), rel=1e-12)


def test_contrasts_of_two_of_three_groups_leave_the_third_out():
    values = RNG.normal(size=9)
    three = grouped(values, (3, 3, 3)).to_dataframe().set_index("contrast")
    two = grouped(values[:6], (3, 3)).to_dataframe().set_index("contrast")
    for name, other in (("separation: g0 | g1", "separation"), ("spread: g1 - g0", "spread: g1 - g0")):
        columns = ["difference", "low", "high", "effect", "p", "relabellings"]
        np.testing.assert_allclose(three.loc[name, columns].astype(float), two.loc[other, columns].astype(float))


def test_all_relabellings_are_different_and_of_the_right_sizes():
    labels, exact = relabellings((2, 1, 3), 1000, 0)
    assert exact
    assert len(labels) == number_of_relabellings((2, 1, 3)) == 60
    assert len(np.unique(labels, axis=0)) == 60
    assert {tuple(np.bincount(row)) for row in labels} == {(2, 1, 3)}


def test_drawn_relabellings_come_close_to_all_and_never_give_zero():
    values = np.r_[RNG.normal(size=8), RNG.normal(size=8) + 0.7]
    exact, drawn = grouped(values, (8, 8)), grouped(values, (8, 8), permutations=4000)
    assert [bool(r.dataset["exact"][0]) for r in (exact, drawn)] == [True, False]
    np.testing.assert_allclose(drawn.dataset["p"], exact.dataset["p"], atol=0.03)  # 4 standard errors at most
    apart = grouped(np.r_[np.zeros(8), np.ones(8)] + 1e-3 * RNG.normal(size=16), (8, 8), permutations=99)
    assert float(apart.dataset["p"].sel(contrast="separation").item()) == 0.01


def test_p_of_alike_groups_is_uniform():
    rng, sizes = np.random.default_rng(3), (4, 4)
    labels, _ = relabellings(sizes, 70, 0)
    for kind in ("separation", "spread"):
        found = []
        for _ in range(200):
            values = rng.normal(size=8)
            found.append(p_value(Contrast(kind, (0, 1)), np.abs(values[:, None] - values), sizes, labels, exact=True))
        # multiples of 2 / 70, of which 14 / 70 is one; four standard errors
        assert abs(np.mean(np.array(found) <= 0.2 + 1e-9) - 0.2) < 4 * np.sqrt(0.16 / 200)


# ---- intervals and effects -------------------------------------------------------------------------------------------


def test_intervals_are_those_of_leaving_out_one_network():
    values, sizes = RNG.normal(size=7), (3, 4)
    distances = np.abs(values[:, None] - values)
    groups, variance = ([0, 1, 2], [3, 4, 5, 6]), 0.0
    for k, group in enumerate(groups):
        left = []
        for network in group:
            rest = [[i for i in g if i != network] for g in groups]
            left.append(plain_separation(values, rest))
        variance += (sizes[k] - 1) * np.var(left)
    low, high = interval(Contrast("separation", (0, 1)), distances, sizes)
    half = 4.302652729911275 * np.sqrt(variance)  # t with two degrees of freedom
    assert (low + high) / 2 == pytest.approx(plain_separation(values, groups), rel=1e-9)
    assert (high - low) / 2 == pytest.approx(half, rel=1e-9)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(1)
    truth = 2 / np.sqrt(np.pi)  # mean distance of two standard normal numbers
    covered = []
    for _ in range(400):
        values = rng.normal(size=8)
        low, high = interval((0, 0), np.abs(values[:, None] - values), (8,))
        covered.append(low <= truth <= high)
    assert 0.90 <= np.mean(covered) <= 0.985


def test_the_effect_is_the_share_of_mann_and_whitney():
    a, b = RNG.integers(0, 6, 15).astype(float), RNG.integers(1, 7, 11).astype(float)
    assert superiority(a, b) == pytest.approx(mannwhitneyu(a, b).statistic / (15 * 11), rel=1e-12)
    assert np.isnan(superiority(a, np.array([])))
    table = grouped(np.r_[np.linspace(0, 0.01, 4), np.arange(4) * 10.0], (4, 4)).to_dataframe().set_index("contrast")
    assert table.loc["spread: g1 - g0", "effect"] == 1


# ---- from networks ---------------------------------------------------------------------------------------------------


def test_networks_are_compared_within_and_between():
    found = cg.compare_groups({"close": CLOSE, "far": FAR}, ["cka", "procrustes", "pwcca"])
    assert found.groups == ("close", "far")
    assert found.layers == ("low", "high")
    assert found.measures == ("cka|one_minus", "procrustes", "pwcca|one_minus")
    pwcca = measure("pwcca")
    within = [1 - (pwcca(a["high"], b["high"]) + pwcca(b["high"], a["high"])) / 2 for a, b in combinations(FAR, 2)]
    table = found.distances().set_index(["measure", "layer", "group", "group_b"])
    row = table.loc[("pwcca|one_minus", "high", "far", "far")]
    assert row["distance"] == pytest.approx(np.mean(within), rel=1e-9)
    assert (row["pairs"], row["failed"]) == (3, 0)
    assert row["low"] < row["distance"] < row["high"]
    between = [measure("procrustes")(a["low"], b["low"]) for a in CLOSE for b in FAR]
    assert table.loc[("procrustes", "low", "close", "far"), "distance"] == pytest.approx(np.mean(between), rel=1e-9)
    tests = found.to_dataframe().set_index(["measure", "layer", "contrast"])
    assert list(found.to_dataframe()["layer"].unique()) == ["low", "high"]
    assert tests.loc[("procrustes", "high", "spread: far - close"), "p"] == pytest.approx(1 / 35)
    assert tests.loc[("procrustes", "low", "spread: far - close"), "p"] > 0.1
    assert found.comparisons["high"].a == tuple(found.dataset["network"].values)
    assert "close (4), far (3)" in repr(found)


def test_a_group_of_one_has_no_distance_within_and_that_is_said():
    with pytest.warns(CongruenceWarning, match="alone has a single network, so it has no distance within"):
        found = cg.compare_groups({"close": CLOSE, "alone": FAR[:1]}, "cka")
    assert found.notes == ("alone has a single network, so it has no distance within.",)
    table = found.distances().set_index(["layer", "group", "group_b"])
    row = table.loc[("low", "alone", "alone")]
    assert np.isnan(row["distance"])
    assert row["pairs"] == 0
    assert np.isfinite(table.loc[("low", "close", "alone"), "distance"])
    assert list(found.to_dataframe()["contrast"].unique()) == ["separation"]  # no spread of one network
    assert np.isnan(found.to_dataframe()["low"]).all()


@dataclass(frozen=True)
class Fragile(Measure[Any]):
    """Fails for one pair of networks."""

    name: ClassVar[str] = "fragile"

    @property
    def info(self):
        return replace(measure("procrustes").info, label=self.label)

    def prepare(self, x):
        return float(x[0, 0])

    def compare(self, a, b):
        if {a, b} == {FAR[0]["high"][0, 0], FAR[1]["high"][0, 0]}:
            message = "cannot be compared"
            raise DegenerateError(message)
        return abs(a - b)


def test_a_pair_that_fails_makes_nan_of_all_that_depends_on_it():
    groups = {"close": CLOSE, "far": FAR, "more": [network(0.5) for _ in range(3)]}
    with pytest.warns(
        CongruenceWarning, match="1 of the pairs of networks failed, .* NaN; first far/0 and far/1 in high: .*cannot be"
    ):
        found = cg.compare_groups(groups, Fragile(), on_error="record")
    table = found.distances().set_index(["layer", "group", "group_b"])
    assert table.loc[("high", "far", "far"), "failed"] == 1
    assert np.isnan(table.loc[("high", "far", "far"), "distance"])
    assert table["failed"].sum() == 1
    assert np.isfinite(table.drop(index=("high", "far", "far"))["distance"]).all()
    tests = found.to_dataframe().set_index(["layer", "contrast"])
    broken = tests["p"].isna()
    assert set(broken[broken].index) == {
        ("high", name) for name in tests.loc["high"].index if "far" in name or name == "separation"
    }
    assert found.comparisons["high"].failures()["reason"].str.contains("cannot be compared").all()
    with pytest.raises(DegenerateError, match="cannot be compared"):
        cg.compare_groups(groups, Fragile())


def test_networks_come_as_stores_paths_and_lists(tmp_path):
    from congruence.store import Recorded, StoreWriter

    paths = []
    for k, layers in enumerate(CLOSE):
        path = tmp_path / f"{k}.zarr"
        with StoreWriter(path, provenance={}) as writer:
            writer.append(0, None, "0", {name: Recorded(values) for name, values in layers.items()})
            writer.finish()
        paths.append(path)
    listed = [[cg.Representation(values, layer) for layer, values in one.items()] for one in FAR]
    expected = cg.compare_groups({"close": CLOSE, "far": FAR}, "cka")
    found = cg.compare_groups({"close": paths, "far": {str(k): one for k, one in enumerate(listed)}}, "cka")
    np.testing.assert_allclose(found.dataset["apart"], expected.dataset["apart"], atol=1e-12)
    some = cg.compare_groups({"close": [cg.open(p) for p in paths], "far": listed}, "cka", layers=["high"])
    assert some.layers == ("high",)
    np.testing.assert_allclose(some.matrix("high", "cka"), expected.matrix("high"), atol=1e-12)


def test_a_caveat_is_told_once_over_all_layers():
    wide = [
        {name: np.random.default_rng((k, i)).normal(size=(20, 15)) for i, name in enumerate("abc")} for k in range(4)
    ]
    with pytest.warns(CongruenceWarning, match=r"cca_floor: cca\|one_minus, 3 of 3 layers, first a") as caught:
        cg.compare_groups({"first": wide[:2], "second": wide[2:]}, "cca")
    assert len(caught) == 1


def test_the_picture_names_groups_and_layers():
    pytest.importorskip("matplotlib").use("Agg")
    from matplotlib import pyplot

    ax = cg.compare_groups({"close": CLOSE, "far": FAR}, "cka").plot("cka")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["within close", "within far", "close and far"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["low", "high"]
    pyplot.close()


# ---- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        ({"a": CLOSE}, ParameterError, "at least two groups of networks; got 1"),
        ([CLOSE, FAR], InputError, "groups must be a dict from label to networks; got list"),
        ({}, ParameterError, "Give at least one layer|at least two groups"),
        ({"a": CLOSE[:1], "b": FAR[:1]}, ParameterError, "Every group has a single network"),
        ({"a": CLOSE, "b": []}, ParameterError, "Group 'b' has no network"),
        ({"a": CLOSE, "b": CLOSE[0]}, InputError, r"Group 'b' must be a list of networks.*Write \[network\]"),
        ({"a": CLOSE, "b": [np.ones((40, 2))]}, InputError, "Network b/0 must be a store.*got ndarray"),
        ({"a": CLOSE, "b": [{}]}, InputError, "Network b/0 has no layers"),
        ({"a": CLOSE, "b": [{"low": BASE}]}, InputError, "do not have the same layers .'high' is in one only"),
        ({"a": CLOSE, "b": [{**CLOSE[0], "x": BASE}]}, InputError, "'x' is in one only"),
        ({"a": CLOSE, "b": [[cg.Representation(BASE, "x")] * 2]}, ParameterError, "b/0 has 'x' more than once"),
    ],
)  # fmt: skip
def test_what_is_no_group_is_refused(groups, error, message):
    with pytest.raises(error, match=message):
        cg.compare_groups(groups, "cka")


def test_unknown_layers_and_measures_are_refused():
    groups = {"a": CLOSE, "b": FAR}
    with pytest.raises(UnknownNameError, match="Network a/0 has no layer 'hihg'. Closest: high"):
        cg.compare_groups(groups, "cka", layers=["hihg"])
    found = cg.compare_groups(groups, "cka")
    with pytest.raises(UnknownNameError, match="There is no layer 'hihg'. Closest: high"):
        found.matrix("hihg")
    with pytest.raises(UnknownNameError, match="no measure 'rsa'"):
        found.matrix("high", "rsa")
    with pytest.raises(ParameterError, match="permutations must be at least 1"):
        cg.compare_groups(groups, "cka", permutations=0)
    with pytest.raises(ParameterError, match="'n0' is there more than once"):
        group_comparison({"layer": points([1, 2])}, {"a": ["n0", "n1"], "b": ["n0"]})


# ---- clusters --------------------------------------------------------------------------------------------------------


def test_clusters_find_blocks_and_say_how_stable_they_are():
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    values = np.repeat([0.0, 10.0, 20.0], 5) + rng.normal(size=15)
    labels = list("aaaaabbbbbccccc")
    clear = cluster_networks(np.abs(values[:, None] - values), labels, draws=8, permutations=99)
    assert (clear.count, clear.agreement, clear.stability, clear.p) == (3, 1.0, 1.0, 0.01)
    assert clear.silhouette > 0.7
    assert len(set(clear.assigned[:5])) == 1
    chosen = cluster_networks(np.abs(values[:, None] - values), count=0, draws=5)
    assert chosen.count == 3
    assert np.isnan(chosen.agreement)
    noise = rng.normal(size=15)
    vague = cluster_networks(np.abs(noise[:, None] - noise), labels, draws=8, permutations=99)
    assert abs(vague.agreement) < 0.4
    assert vague.stability_low < 1
    found = grouped(values, (5, 5, 5)).clusters("layer", draws=5, permutations=19)
    assert found.agreement == 1


def test_what_cannot_be_clustered_is_refused(monkeypatch):
    pytest.importorskip("sklearn")
    apart = np.abs(np.subtract.outer(np.arange(4.0), np.arange(4.0)))
    with pytest.raises(ParameterError, match="from 2 to 3, fewer than the 4 networks; got 4"):
        cluster_networks(apart, list("abcd"))
    with pytest.raises(ParameterError, match="Give labels, or the number of clusters"):
        cluster_networks(apart)
    apart[0, 2] = apart[2, 0] = np.nan
    with pytest.raises(DegenerateError, match="distances of network 0 to others are NaN"):
        cluster_networks(apart, list("aabb"))
    monkeypatch.setitem(__import__("sys").modules, "sklearn.metrics", None)
    with pytest.raises(MissingExtraError, match="bench"):
        cluster_networks(apart, list("aabb"))


# ---- the page --------------------------------------------------------------------------------------------------------


def test_the_example_of_the_page_runs_on_trained_networks(tmp_path, monkeypatch, capsys):
    for package in ("torch", "sklearn", "safetensors"):
        pytest.importorskip(package)
    monkeypatch.setenv("CONGRUENCE_CACHE_DIR", str(tmp_path))
    page = (Path(__file__).resolve().parents[1] / "docs" / "groups-of-networks.md").read_text("utf-8")
    names = {}
    (block,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CongruenceWarning)  # ties of perceptrons with silent units
        exec(compile(block, "docs/groups-of-networks.md", "exec"), names)
    table = names["found"].to_dataframe().set_index(["measure", "layer", "contrast"])
    late = table.loc[("cka:estimator=debiased|one_minus", "hidden3", "spread: shuffled - true")]
    assert late["difference"] > 0.2  # networks that learnt random labels disagree
    assert late["p"] == 2 / 252
    assert "separation" in capsys.readouterr().out
