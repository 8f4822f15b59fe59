"""Studies of what networks share, and of what becomes of their directions: quick tiers, and verdicts of made-up tables."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")
matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")

from congruence import studies  # noqa: E402
from congruence.dynamics.studies import shared_subspace, signal_noise_training  # noqa: E402
from congruence.studies import REGISTRY  # noqa: E402


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Run a study on its quick tier, with populations of this module alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONGRUENCE_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield lambda name: studies.run(name, out=tmp_path_factory.mktemp(name))


def drawn(run):
    return {path.name for path in (run.folder / "figures").glob("*.png")}


# ---- signal-noise-training -------------------------------------------------------------------------------------------


def test_signal_noise_training(done):
    run = done("signal-noise-training")
    (row,) = run.summary
    assert (row["layer"], row["seeds"]) == ("hidden2", 2)
    assert row["leading"] > 0.95 > row["last"]
    assert row["gap"] == pytest.approx(row["unstable"] - row["stable"])
    assert row["unstable"] > row["stable"]
    assert "Half way (test accuracy" in run.verdict.text
    assert drawn(run) == {"correlations-hidden2.png", "distances-hidden2.png"}


def test_directions_are_followed_from_a_layer_that_keeps_some_and_changes_others():
    settings = signal_noise_training.Settings(updates=100, every=10)
    assert (settings.early, settings.half, settings.shown) == (10, 50, (0, 10, 20, 50, 80))
    rng = np.random.default_rng(0)
    kept = rng.normal(size=(300, 2))

    class Series(dict):
        steps = tuple(range(0, 101, 10))

    class Layer:
        def __init__(self):
            self.values = np.hstack([kept, rng.normal(size=(300, 8))])

        def matrix(self):
            return self

    series = Series({step: {"fc": Layer()} for step in Series.steps})
    found = signal_noise_training.followed(settings, series, "fc")
    at = {row["step"]: row for row in found["distances"]}
    assert set(at) == set(Series.steps)
    assert at[50]["stable"] == pytest.approx(0, abs=1e-9)
    assert max(row["stable"] for row in at.values()) < 1e-9  # two of ten are kept, a fifth
    assert min(row["unstable"] for step, row in at.items() if step != 50) > 0.6
    rho = [row["correlation"] for row in found["correlations"] if row["step"] == 50]
    assert rho[:2] == pytest.approx([1, 1])
    assert rho == sorted(rho, reverse=True)
    assert rho[2] < 0.6


def signal_tables(last, unstable):
    """Ten directions of two layers in three seeds, and where the stable and unstable ones end."""
    of = [(seed, layer) for seed in range(3) for layer in ("conv5", "conv8")]
    return {
        "correlations": [
            {"seed": seed, "layer": layer, "step": 200, "direction": k + 1, "correlation": 0.99 if k < 5 else last + 0.01 * seed}
            for seed, layer in of
            for k in range(10)
        ],
        "distances": [
            {"seed": seed, "layer": layer, "step": step, "stable": 0.1, "unstable": unstable + 0.01 * seed if step else 0.9}
            for seed, layer in of
            for step in (0, 400)
        ],
        "networks": [{"seed": seed, "half_accuracy": 0.9, "test_accuracy": 0.95} for seed in range(3)],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("last", "unstable", "outcome"),
    [(0.2, 0.5, "reproduced"), (0.8, 0.5, "differs"), (0.2, 0.05, "differs"), (0.8, 0.05, "not reproduced")],
)
def test_signal_and_noise_are_judged_by_their_intervals(last, unstable, outcome):
    study, settings = REGISTRY["signal-noise-training"], signal_noise_training.Settings(seeds=3)
    found = study.judge(settings, signal_tables(last, unstable))
    assert found.outcome == outcome
    assert found.statistics["conv8 leading"] == pytest.approx(0.99)
    assert found.statistics["conv8 last"] == pytest.approx(last + 0.01)
    reach = 4.302653 * 0.01 / np.sqrt(3)  # the t quantile of two degrees of freedom
    assert found.statistics["conv8 gap_low"] == pytest.approx(unstable + 0.01 - 0.1 - reach, abs=1e-6)


# ---- shared-subspace -------------------------------------------------------------------------------------------------


def test_shared_subspace(done):
    run = done("shared-subspace")
    assert [row["layer"] for row in run.summary] == ["hidden1", "hidden2"]
    for row in run.summary:
        assert row["trained_low"] <= row["trained"] <= row["trained_high"]
        assert 0 <= row["trained"] <= 20
    assert run.summary[0]["trained"] > run.summary[1]["untrained"]
    assert run.verdict.statistics["classes"] == 10
    assert drawn(run) == {"cosines-trained.png", "cosines-untrained.png", "norms.png"}


@pytest.mark.parametrize(
    ("count", "outcome"), [(10, "reproduced"), (5, "differs"), (16, "differs"), (0, "not reproduced")]
)
def test_shared_directions_are_judged_by_the_number_of_classes(count, outcome):
    study, settings = REGISTRY["shared-subspace"], shared_subspace.Settings(networks=4)
    pairs = [
        {"networks": kind, "layer": layer, "a": a, "b": b, "shared": count if (kind, layer) == ("trained", "pool") else 3}
        for kind in shared_subspace.KINDS
        for layer in ("conv8", "pool")
        for a in range(4)
        for b in range(4)
        if a != b
    ]  # fmt: skip
    found = study.judge(settings, {"pairs": pairs})
    assert found.outcome == outcome
    assert found.statistics["pool trained"] == found.statistics["pool trained_low"] == pytest.approx(count)


def test_a_scatter_of_the_numbers_of_shared_directions_widens_the_interval():
    counts = np.array([[0, 10, 12], [8, 0, 10], [10, 14, 0]], dtype=float)
    from congruence.dynamics.studies._shared import over_pairs

    mean, low, high = over_pairs(counts)
    assert mean == pytest.approx(64 / 6)
    left_out = np.array([12, 11, 9])  # the pair of the other two, both orders
    reach = 4.302653 * np.sqrt(2 / 3 * ((left_out - left_out.mean()) ** 2).sum())  # jackknife, t of two degrees
    assert (mean - low, high - mean) == pytest.approx((reach, reach), abs=1e-5)
