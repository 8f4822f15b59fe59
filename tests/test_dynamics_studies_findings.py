"""Studies of what networks share, and of what becomes of their directions: quick tiers, and verdicts of made-up tables."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")
matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")

from congruence import studies  # noqa: E402
from congruence.dynamics.studies import (  # noqa: E402
    _directions,
    _shared,
    depth_blocks,
    shared_subspace,
    signal_noise_rnn,
    signal_noise_training,
    trained_untrained_datasets,
)
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
    ends = [row[f"{name}{end}"] for name in ("leading", "last", "stable", "unstable") for end in ("_low", "_high")]
    assert min(ends) == 0  # two seeds: a t interval of that is wider than the range
    assert max(ends) == 1
    assert row["gap_high"] <= 1
    assert drawn(run) == {"correlations-hidden2.png", "distances-hidden2.png"}


def test_an_interval_is_cut_to_the_range_of_the_numbers():
    values = np.array([0.7, 0.9, 1.0])
    mean, low, high = _shared.mean_interval(values)
    reach = 4.302653 * np.std(values, ddof=1) / np.sqrt(3)  # the t quantile of two degrees of freedom
    assert (mean, low, high) == pytest.approx((2.6 / 3, 2.6 / 3 - reach, 2.6 / 3 + reach), abs=1e-6)
    assert _shared.mean_interval(values, (0.6, 1.0)) == (mean, 0.6, 1.0)
    assert _shared.mean_interval(values, (0.0, 2.0)) == (mean, low, high)
    assert np.isnan(_shared.mean_interval(values[:1], (0.0, 1.0))[1:]).all()


def test_an_interval_over_pairs_is_cut_too():
    counts = np.array([[0, 9, 9, 2.0], [9, 0, 9, 2], [9, 9, 0, 2], [2, 2, 2, 0]])
    mean, low, high = _shared.over_pairs(counts)
    assert low < 2
    assert high > 9
    assert _shared.over_pairs(counts, (2.0, 9.0)) == (mean, 2, 9)


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
    found = _directions.followed(settings, series, "fc")
    at = {row["step"]: row for row in found["distances"]}
    assert set(at) == set(Series.steps)
    assert at[50]["stable"] == pytest.approx(0, abs=1e-9)
    assert max(row["stable"] for row in at.values()) < 1e-9  # two of ten are kept, a fifth
    assert min(row["unstable"] for step, row in at.items() if step != 50) > 0.6
    rho = [row["correlation"] for row in found["correlations"] if row["step"] == 50]
    assert rho[:2] == pytest.approx([1, 1])
    assert rho == sorted(rho, reverse=True)
    assert rho[2] < 0.6


def signal_tables(last, unstable, layers=("conv5", "conv8"), half=200):
    """Ten directions of two layers in three seeds, and where the stable and unstable ones end."""
    of = [(seed, layer) for seed in range(3) for layer in layers]
    return {
        "correlations": [
            {"seed": seed, "layer": layer, "step": half, "direction": k + 1, "correlation": 0.99 if k < 5 else last + 0.01 * seed}
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


def test_signal_noise_rnn(done, monkeypatch, tmp_path):
    monkeypatch.setenv("CONGRUENCE_DATA_DIR", str(tmp_path))  # without the Brown corpus
    run = done("signal-noise-rnn")
    (row,) = run.summary
    assert (row["layer"], row["seeds"]) == ("lstm1", 2)
    assert row["leading"] > 0.95 > row["last"]
    assert row["unstable"] > row["stable"]
    assert "Half way (nats per character of unseen text" in run.verdict.text
    assert drawn(run) == {"correlations-lstm1.png", "distances-lstm1.png"}


def test_recurrent_layers_are_judged_by_the_same_bounds():
    study, settings = REGISTRY["signal-noise-rnn"], signal_noise_rnn.Settings(seeds=3)
    assert (settings.layers, settings.early, settings.half) == (("lstm1", "lstm2"), 200, 1000)
    tables = signal_tables(0.2, 0.5, settings.layers, settings.half)
    tables["networks"] = [{"seed": seed, "half_loss": 2.0, "unseen_loss": 1.5} for seed in range(3)]
    found = study.judge(settings, tables)
    assert found.outcome == "reproduced"
    assert "unseen text 2.000, at the end 1.500), over 3 seeds. lstm1: " in found.text
    assert found.statistics["lstm2 last"] == pytest.approx(0.21)


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


# ---- trained-untrained-datasets --------------------------------------------------------------------------------------


def test_trained_untrained_datasets(done):
    run = done("trained-untrained-datasets")
    low, high = "digits:half=low", "digits:half=high"
    assert [(row["test_set"], row["layer"]) for row in run.summary] == [
        (data, layer) for data in (low, high) for layer in ("hidden1", "hidden2")
    ]
    for row in run.summary:
        assert row["excess"] == pytest.approx(row["other_data"] - row["with_untrained"])
        assert row["excess_low"] < row["excess"] < row["excess_high"]
        assert row["same_data"] > row["with_untrained"]
    assert drawn(run) == {"similarities.png"}


def test_seeds_are_not_shared_between_data_sets(monkeypatch):
    asked = {}
    monkeypatch.setattr(
        trained_untrained_datasets.zoo, "train", lambda config, seeds: asked.update({config: tuple(seeds)})
    )
    trained_untrained_datasets.populations(trained_untrained_datasets.Settings(networks=3))
    assert list(asked.values()) == [(0, 1, 2), (3, 4, 5), (6, 7, 8)]
    assert [config.recipe.epochs for config in asked] == [5, 5, 0]
    assert [config.dataset.half for config in asked] == ["low", "high", "low"]


def dataset_tables(settings, excess, fall):
    rows = [
        {
            "test_set": data,
            "layer": f"conv{k}",
            "quantity": "excess",
            "value": value,
            "low": value - 0.01,
            "high": value + 0.01,
        }
        for data in settings.data
        for k, value in enumerate(excess)
    ]
    rows += [
        {"test_set": data, "layer": None, "quantity": "fall", "value": fall, "low": fall - 0.01, "high": fall + 0.01}
        for data in settings.data
    ]
    return {"comparisons": rows, "networks": [{"test_accuracy": 0.9}, {"test_accuracy": 0.95}]}


@pytest.mark.parametrize(
    ("excess", "fall", "outcome"),
    [
        ((0.3, 0.2, -0.1, 0.0), 0.2, "reproduced"),
        ((0.3, 0.0, 0.1, 0.1), 0.2, "differs"),
        ((0.3, 0.2, 0.1, 0.1), 0.0, "differs"),
        ((0.0, -0.2, 0.3, 0.3), 0.2, "not reproduced"),
    ],
)
def test_data_sets_are_judged_by_the_early_layers(excess, fall, outcome):
    study, settings = REGISTRY["trained-untrained-datasets"], trained_untrained_datasets.Settings()
    found = study.judge(settings, dataset_tables(settings, excess, fall))
    assert found.outcome == outcome
    assert found.statistics["mnist_5k:half=low conv0 value"] == excess[0]
    assert "Test accuracy 0.900 to 0.950" in found.text


def test_excess_and_fall_are_differences_of_means_over_pairs():
    rng, matrices = np.random.default_rng(1), {}
    for layer, across in (("conv1", 0.2), ("conv2", 0.5)):
        matrix = np.full((9, 9), 0.8) + 0.01 * rng.normal(size=(9, 9))
        matrix[:3, 3:6] = across + 0.01 * rng.normal(size=(3, 3))
        matrices[layer] = np.triu(matrix, 1) + np.triu(matrix, 1).T

    class Compared:
        layers = tuple(matrices)

        def matrix(self, layer):
            return type("Labelled", (), {"values": matrices[layer]})

    excess, second, fall = trained_untrained_datasets.comparisons(Compared(), 3)
    one = matrices["conv1"]
    assert excess["value"] == pytest.approx((one[:3, 6:].mean() + one[3:6, 6:].mean()) / 2 - one[:3, 3:6].mean())
    assert fall["value"] == pytest.approx(matrices["conv2"][:3, 3:6].mean() - one[:3, 3:6].mean())
    assert second["layer"] == "conv2"
    for row in (excess, second, fall):
        assert row["low"] < row["value"] < row["high"]
    part = one[:3, 3:6]
    left = np.array([[np.delete(part, k, axis).mean() for k in range(3)] for axis in (0, 1)])
    own = {
        "layer": "conv1",
        **trained_untrained_datasets._estimate(trained_untrained_datasets._across, range(2), one, [3, 3, 3]),
    }
    spread = np.sqrt(2 / 3 * ((left - left.mean(axis=1, keepdims=True)) ** 2).sum())  # jackknife over either group
    assert own["high"] - own["value"] == pytest.approx(4.302653 * spread, rel=1e-6)  # t of two degrees of freedom


# ---- depth-blocks ----------------------------------------------------------------------------------------------------


def test_depth_blocks(done):
    run = done("depth-blocks")
    assert [(row["depth"], row["layers"], row["networks"]) for row in run.summary] == [(2, 2, 2), (5, 5, 2)]
    for row in run.summary:
        assert 0 <= row["repeated"] <= 1
        assert 0 < row["plateau"] <= 1
    rows = np.genfromtxt(run.folder / "layers.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
    assert len(rows) == 2 * (2 + 5)
    assert rows["with_last"][[1, 3]] == pytest.approx(1)  # the last layer with itself
    assert rows["probe"].min() > 0.3  # chance is 0.1
    assert drawn(run) == {"layers.png", "depth.png"}


def depth_tables(settings, repeated, flat):
    """Networks of 8, 16 and 32 layers whose last layers, the same share in all but the shallowest, are like the last one."""
    rows = [
        {
            "depth": depth, "seed": seed, "layer": f"conv{k}", "place": k / (8 * depth),
            "with_last": 0.95 if k > (1 - (repeated if depth > 1 else 0)) * 8 * depth or k == 8 * depth else 0.5,
            "probe": min(0.9, 0.5 + 0.4 * k / (flat * 8 * depth)),
        }
        for depth in settings.depths
        for seed in range(settings.networks)
        for k in range(1, 8 * depth + 1)
    ]  # fmt: skip
    networks = [
        {"depth": depth, "seed": seed, "test_accuracy": 0.9}
        for depth in settings.depths
        for seed in range(settings.networks)
    ]
    return {"layers": rows, "networks": networks}


@pytest.mark.parametrize(
    ("repeated", "flat", "outcome"),
    [(0.7, 0.3, "reproduced"), (0.7, 1.0, "differs"), (0.3, 0.3, "differs"), (0.0, 1.0, "not reproduced")],
)
def test_depth_is_judged_by_the_deepest_networks(repeated, flat, outcome):
    study, settings = REGISTRY["depth-blocks"], depth_blocks.Settings()
    found = study.judge(settings, depth_tables(settings, repeated, flat))
    assert found.outcome == outcome
    alike = sum(k > (1 - repeated) * 32 for k in range(1, 32))
    assert found.statistics["32 layers repeated"] == pytest.approx(alike / 31)
    assert found.statistics["growth"] == pytest.approx(alike / 31)


def test_the_plateau_is_the_first_layer_about_as_good_as_any():
    assert depth_blocks.plateau(np.array([0.5, 0.8, 0.885, 0.9, 0.7])) == 3
    assert depth_blocks.plateau(np.array([0.5, 0.6, 0.7])) == 3


def test_the_probe_is_the_logistic_regression_of_scikit_learn_on_standard_features():
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    labels, answers = np.arange(60) % 3, np.arange(90) % 3
    x, unseen = (
        np.eye(3)[some] * [5, 1, 0.2] + [0.1, 1, 0.2] * rng.normal(size=(len(some), 3)) for some in (labels, answers)
    )
    x, unseen = (
        np.hstack([values, np.full((len(values), 1), 7.0)]) for values in (x, unseen)
    )  # one feature is constant
    reference = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x, labels)
    found = depth_blocks.probe(x, labels, unseen, answers)
    assert found == reference.score(unseen, answers)
    assert 0.5 < found < 1
