"""Studies of Raghu et al. beside directions and convergence: their quick tiers run, and verdicts follow from tables."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib").use("agg")

from congruence import studies  # noqa: E402
from congruence.dynamics import pca_projection, svcca_projection  # noqa: E402
from congruence.dynamics.studies import class_sensitivity, compression, cross_model  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONGRUENCE_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("class-sensitivity", {"sensitivity.png", "pairs.png"}),
        ("compression", {"accuracy.png"}),
        ("cross-model", {"seeds.png", "architectures.png"}),
    ],
)
def test_the_quick_tier_runs_and_says_what_it_found(name, drawn, tmp_path):
    done = studies.run(name, "quick", out=tmp_path / "study")
    assert done.verdict.outcome in {"reproduced", "not reproduced", "differs"}
    assert all(np.isfinite(value) for value in done.verdict.statistics.values())
    ends = [v for k, v in done.verdict.statistics.items() if k.endswith((" low", " high")) and "middle" not in k]
    assert ends
    assert max(map(abs, ends)) <= 1  # differences of accuracies, and correlations
    assert done.summary
    assert {path.name for path in (tmp_path / "study/figures").glob("*.png")} == drawn
    assert not done.notes


# ---- class-sensitivity -----------------------------------------------------------------------------------------------


PLACES = np.array([0, 1, 2, 3, 4, 6, 9, 13, 18, 24])
"""Of ten classes on a line: the later, the farther from all others."""


def class_tables(growth, offsets):
    """Two networks whose sensitivity grows so much a layer, with an offset for every class; classes near on a line are alike."""
    sensitivity = [
        {"seed": seed, "layer": f"layer{depth}", "depth": depth, "class": k, "chance": 0.1, "sensitivity": 0.5 + growth * depth + offset + 0.001 * seed}
        for seed in range(3)
        for depth in range(3)
        for k, offset in enumerate(offsets)
    ]  # fmt: skip
    alike = [
        {"true": a, "said": b, "probability": float(np.exp(-abs(PLACES[a] - PLACES[b])))}
        for a in range(10)
        for b in range(10)
    ]
    return {"sensitivity": sensitivity, "alike": alike}


@pytest.mark.parametrize(
    ("growth", "offsets", "outcome"),
    [
        (0.1, 0.005 * PLACES, "reproduced"),
        (0.1, 0.005 * PLACES[::-1], "differs"),  # distinct classes are told late
        (-0.1, 0.005 * PLACES[[9, 0, 8, 1, 7, 2, 6, 3, 5, 4]], "not reproduced"),
    ],
)
def test_class_sensitivity_is_judged_by_its_three_parts(growth, offsets, outcome):
    study, settings = (
        studies.study("class-sensitivity"),
        class_sensitivity.Settings(layers=("layer0", "layer1", "layer2")),
    )
    found = study.judge(settings, class_tables(growth, offsets))
    assert found.outcome == outcome
    assert np.sign(found.statistics["growth with depth"]) == np.sign(growth)
    if outcome == "reproduced":
        assert found.statistics["alike curves"] > 0.9
        assert found.statistics["distinct early p"] < 0.05
    line = study.summarise(settings, class_tables(growth, offsets))[0]
    expected = np.sqrt((np.array([line["sensitivity"] + 0.001 * k for k in (-1, 0, 1)]) ** 2 - 0.01) / 0.99)
    assert line["beyond_chance"] == pytest.approx(expected.mean())


def test_relabelling_gives_the_level_of_a_statistic():
    values = np.array([4.0, 1, 2, 3, 0])
    own, p = class_sensitivity._permuted(lambda order: float(values[order][0]), 5, 4999)
    assert own == 4
    assert p == pytest.approx(
        1 / 5, abs=0.023
    )  # four standard errors of the orders: the first is largest in one of five


def test_rank_correlations_of_classes_are_those_of_scipy():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    curves, alike = rng.normal(size=(6, 3)), rng.random((6, 6))
    alike = alike + alike.T
    pairs = [(a, b) for a in range(6) for b in range(a + 1, 6)]
    near = [-np.linalg.norm(curves[a] - curves[b]) for a, b in pairs]
    expected = spearmanr([alike[a, b] for a, b in pairs], near).statistic
    assert class_sensitivity.alike_curves(curves, alike, 0)[0] == pytest.approx(expected)
    others = [sum(alike[a, b] for b in range(6) if b != a) for a in range(6)]
    expected = -spearmanr(others, curves.mean(axis=1)).statistic
    assert class_sensitivity.distinct_early(curves, alike, 0)[0] == pytest.approx(expected)


# ---- compression -----------------------------------------------------------------------------------------------------


def test_ranks_are_the_largest_that_fit():
    for size, p, q in ((0.35, 256, 256), (0.1, 64, 30), (0.5, 12, 40)):
        k = compression.rank_for(size, p, q)
        numbers = [rank * (p + q) + rank + q for rank in (k, k + 1)]
        assert numbers[0] <= size * (p * q + q) < numbers[1]
    assert compression.rank_for(0.001, 8, 8) == 1


def test_layers_are_replaced_by_thin_ones_of_the_same_number_of_directions():
    from torch import nn

    model = nn.Sequential()
    model.add_module("hidden1", nn.Sequential(nn.Linear(5, 6), nn.ReLU()))
    model.add_module("hidden2", nn.Sequential(nn.Linear(6, 4), nn.ReLU()))
    rng = np.random.default_rng(0)
    own, other, logits = (rng.normal(size=(40, p)) for p in (6, 3, 2))
    kinds = compression.projections(own, other, logits)
    assert [kind.rank for kind in kinds.values()] == [
        3,
        3,
        2,
    ]  # the other layer has three directions only, and two classes
    np.testing.assert_allclose(
        kinds["SVCCA with logits"](own), svcca_projection(own, logits, 2, variance=0.99)(own), atol=1e-10
    )
    two = {"SVCCA": svcca_projection(own, other, 2, variance=0.99), "PCA": pca_projection(own, 2)}
    for kind, expected in two.items():
        np.testing.assert_allclose(compression.leading(kinds[kind], 2)(own), expected(own), atol=1e-10)
    assert compression.leading(kinds["PCA"], 9).rank == 3
    assert compression._before(model, "hidden2") == "hidden1"
    assert compression._make_smaller(model, "hidden2", kinds["SVCCA"]) == 3 * 6 + 3 + 4 * 3 + 4
    assert [type(module).__name__ for module in model.hidden2] == ["Sequential", "ReLU"]


def compressed_tables(svcca):
    return {
        "accuracy": [
            {"seed": seed, "kind": kind, "size": size, "true_size": min(size, most), "full": 0.9 + 0.01 * seed, "accuracy": 0.9 + 0.01 * seed + lost,
             "fewest_directions": 3, "most_directions": 9}
            for seed in range(4)
            for kind, change, most in (("SVCCA", svcca, 1), ("PCA", -0.02, 1), ("SVCCA with logits", -0.04, 0.2))
            for size, lost in ((0.1, -0.2), (0.35, change + 0.001 * seed))
        ]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "outcome"), [(-0.002, "reproduced"), (-0.011, "differs"), (-0.05, "not reproduced")]
)
def test_compression_is_judged_by_the_interval_of_what_is_lost(change, outcome):
    study, settings = studies.study("compression"), compression.Settings(networks=4, sizes=(0.1, 0.35))
    found = study.judge(settings, compressed_tables(change))
    assert found.outcome == outcome
    assert found.statistics["SVCCA change"] == pytest.approx(change + 0.0015)
    assert found.statistics["SVCCA over PCA at 0.35"] == pytest.approx(change + 0.02)
    assert found.statistics["SVCCA over PCA at 0.1"] == pytest.approx(0)
    assert found.statistics["SVCCA with logits change"] == pytest.approx(-0.0385)
    assert found.statistics["SVCCA with logits over PCA at 0.1"] == pytest.approx(0)
    assert "SVCCA with logits over PCA at 0.35" not in found.statistics  # it has fewer directions there
    assert "with logits 0.20, 3 to 9 directions, as there are no more than classes" in found.text


# ---- cross-model -----------------------------------------------------------------------------------------------------


def crossed_tables(curve, best):
    """Two pairs of seeds with this similarity by layer, and two across architectures in which a layer is most like one of two."""
    seeds = [
        {"pair": pair, "layer": f"layer{k}", "other": f"layer{k}", "similarity": 0.2 + 0.8 * (value + 0.01 * pair), "chance": 0.2}
        for pair in range(2)
        for k, value in enumerate(curve)
    ]  # fmt: skip
    across = [
        {"pair": pair, "layer": f"layer{a}", "other": f"other{b}", "similarity": 0.9 if best[a] == b else 0.5, "chance": 0.2}
        for pair in range(2)
        for a in range(len(curve))
        for b in range(2)
    ]  # fmt: skip
    return {"seeds": seeds, "architectures": across}


@pytest.mark.parametrize(
    ("curve", "outcome"),
    [((0.9, 0.5, 0.5, 0.8), "reproduced"), ((0.9, 0.6, 0.5, 0.4), "differs"), ((0.3, 0.6, 0.6, 0.4), "not reproduced")],
)
def test_cross_model_is_judged_by_the_ends_and_the_middle(curve, outcome):
    names = tuple(f"layer{k}" for k in range(4))
    settings = cross_model.Settings(layers=names, other_layers=("other0", "other1"), pairs=2, crossed=2)
    found = studies.study("cross-model").judge(settings, crossed_tables(curve, (0, 0, 1, 1)))
    assert found.outcome == outcome
    assert found.statistics["first over middle"] == pytest.approx(curve[0] - np.mean(curve[1:3]))
    assert found.statistics["depth across architectures"] == pytest.approx(
        2 / np.sqrt(5)
    )  # ranks 1 2 3 4 and 1.5 1.5 3.5 3.5


def test_tokens_are_laid_out_as_their_patches_were():
    values = np.arange(2 * 5 * 3).reshape(2, 5, 3)
    found = cross_model._as_map(values, "layer")
    assert found.shape == (2, 3, 2, 2)
    np.testing.assert_array_equal(found[1, :, 1, 0], values[1, 1 + 2])
