"""Studies of Raghu et al. beside directions and convergence: their quick tiers run, and verdicts follow from tables."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib").use("agg")

from congruence import studies  # noqa: E402
from congruence.dynamics.studies import class_sensitivity  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONGRUENCE_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.mark.parametrize(("name", "drawn"), [("class-sensitivity", {"sensitivity.png", "pairs.png"})])
def test_the_quick_tier_runs_and_says_what_it_found(name, drawn, tmp_path):
    done = studies.run(name, "quick", out=tmp_path / "study")
    assert done.verdict.outcome in {"reproduced", "not reproduced", "differs"}
    assert all(np.isfinite(value) for value in done.verdict.statistics.values())
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
