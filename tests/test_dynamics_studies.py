"""The studies of dynamics on their quick tier, and how they are judged."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")

from congruence import studies  # noqa: E402
from congruence.dynamics.studies import signal_noise_toy, svcca_directions  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONGRUENCE_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Every study that was asked for, run once."""
    runs = {}

    def run(name):
        if name not in runs:
            runs[name] = studies.run(name, out=tmp_path_factory.mktemp(name))
        return runs[name]

    return run


def figures_of(run):
    return {path.name for path in (run.folder / "figures").glob("*.png")}


def test_signal_noise_toy(done):
    run = done("signal-noise-toy")
    assert run.verdict.outcome == "differs"  # on average in the order of the paper, not at every number of dimensions
    for reading in ("sd_0.1", "variance_0.1"):
        assert run.verdict.statistics[f"svcca_minus_pwcca_{reading}_low"] > 0
        assert run.verdict.statistics[f"cca_minus_svcca_{reading}_low"] > 0
    assert run.verdict.statistics["ordered_at_every_number"] == 0
    by_share = [row["pwcca"] for row in run.summary if row["noise"] == "sd 0.1"]
    assert by_share == sorted(by_share, reverse=True)  # the more signal, the closer
    assert figures_of(run) == {"signal-noise-0.png", "signal-noise-1.png"}


def test_pairs_of_the_toy_share_the_signal_and_nothing_else():
    settings = signal_noise_toy.Settings(30, 4000)
    x, y = signal_noise_toy.pair(settings, 10, 0.1, np.random.default_rng(0))
    assert x.shape == y.shape == (4000, 30)
    fitted = np.linalg.lstsq(x[:, :10], y[:, :10], rcond=None)[0]
    np.testing.assert_allclose(x[:, :10] @ fitted, y[:, :10], atol=1e-10)
    np.testing.assert_allclose(fitted @ fitted.T, np.eye(10), atol=1e-10)
    assert np.abs(np.corrcoef(x[:, 10:].T, y[:, 10:].T)[:20, 20:]).max() < 0.1
    assert x[:, 10:].std() == pytest.approx(0.1, rel=0.02)


def test_the_toy_is_judged_by_its_numbers():
    study = studies.study("signal-noise-toy")
    settings = study.tiers["quick"].settings
    rows = [
        {"noise": reading, "signal": k, "draw": draw, "pwcca": 0.1, "svcca": 0.2 + draw / 100, "cca": 0.4}
        for reading in signal_noise_toy.NOISE
        for k in settings.signal
        for draw in range(settings.draws)
    ]
    assert study.judge(settings, {"distances": rows}).outcome == "reproduced"
    turned = [{**row, "pwcca": row["cca"], "cca": row["pwcca"]} for row in rows]
    assert study.judge(settings, {"distances": turned}).outcome == "not reproduced"


def test_rotation_toy(done):
    run = done("rotation-toy")
    turn, weak, strong = run.summary
    assert turn["largest_cca"] < 1e-10  # CCA does not see rotations
    assert min(turn["cosine"], turn["euclidean"]) > 0.5
    assert weak["largest_cca"] < 0.1
    assert strong["largest_cca"] > 0.1
    assert run.verdict.outcome == "differs"
    assert run.verdict.statistics["cca_0"] < 1e-10
    assert figures_of(run) == {"alpha-0.png", "alpha-1.png", "alpha-100.png"}


def test_memorise_generalise(done):
    run = done("memorise-generalise")
    assert {row["split"] for row in run.summary} == {"train", "test"}
    last = [row for row in run.summary if row["layer"] == "hidden2" and row["split"] == "train"]
    for row in last:
        assert row["memorising"] > row["generalising"]
        assert 2 / 70 <= row["p"] <= 1  # of 4 against 4
        assert row["low"] < row["difference"] < row["high"]
        assert row["difference"] == pytest.approx(row["memorising"] - row["generalising"])
        assert row["difference_long"] == pytest.approx(row["memorising"] - row["generalising, long"])
    assert run.verdict.outcome in {"reproduced", "differs"}
    assert "Accuracy on the training set: generalising 1.000 to 1.000" in run.verdict.text
    assert figures_of(run) == {"train-0.png", "train-1.png", "test-0.png", "test-1.png"}


def test_learning_rate_clusters(done):
    run = done("learning-rate-clusters")
    assert [row["method"] for row in run.summary] == ["average", "spectral"] * 2
    assert all(row["count"] == 2 for row in run.summary)
    assert all(-1 <= row["agreement"] <= 1 and 0 < row["p"] <= 1 for row in run.summary)
    assert run.verdict.statistics["cka:estimator=debiased separation_low"] > 0  # the rates differ, clusters or not
    assert len(figures_of(run)) == 4


def test_learning_rate_clusters_are_judged_by_their_numbers():
    study = studies.study("learning-rate-clusters")
    settings = study.tiers["quick"].settings
    common = {"stability": 1.0, "stability_low": 1.0, "stability_high": 1.0, "silhouette": 0.5, "method": "average"}
    test = {"measure": "cka", "contrast": "separation", "difference": 0.1, "low": 0.0, "high": 0.2, "p": 0.01}
    for agreement, p, outcome in ((0.95, 0.001, "reproduced"), (0.3, 0.001, "differs"), (0.3, 0.2, "not reproduced")):
        rows = [{"measure": "cka", "agreement": agreement, "p": p, **common}]
        assert study.judge(settings, {"clusters": rows, "tests": [test]}).outcome == outcome


def test_svcca_directions(done):
    run = done("svcca-directions")
    spread = [row for row in run.summary if "read from" in row["kind"]]
    assert [row["k"] for row in spread] == [4, 16, 32]
    assert spread[-1]["share"] == pytest.approx(1)
    assert {row["kind"] for row in run.summary} - {spread[0]["kind"]} == {
        *("SVCCA", "PCA"),
        *("random neurons", "most active neurons"),
    }
    for row in run.summary:
        assert row["networks"] == 3
        assert 0 < row["share"] <= 1.1
    by_count = {row["k"]: row["share"] for row in run.summary if row["kind"] == "PCA"}
    assert by_count[16] > by_count[2]
    most = max(row["share"] for row in run.summary if row["kind"] == "SVCCA")
    assert most > 0.8  # sixteen of thirty-two directions do most of the work
    assert figures_of(run) == {"accuracy.png", "distributed.png"}


@pytest.mark.parametrize(("needed", "outcome"), [(100, "reproduced"), (50, "differs")])
def test_svcca_directions_are_judged_by_how_few_and_how_distributed_they_are(needed, outcome):
    study, settings = studies.study("svcca-directions"), svcca_directions.Settings(networks=3, counts=(10, 20), distributed=(20,), neurons=(20, 50, 100, 256))  # fmt: skip
    accuracy = [
        {"seed": seed, "kind": kind, "k": k, "full": 1.0, "accuracy": (0.995 if kind in {"SVCCA", "PCA"} and k == 20 else 0.5) - 0.001 * seed}
        for seed in range(3)
        for kind in svcca_directions.KINDS
        for k in (10, 20)
    ]  # fmt: skip
    read = [
        {"seed": seed, "directions": 20, "neurons": m, "accuracy": 0.99 if m >= needed else 0.6}
        for seed in range(3)
        for m in settings.neurons
    ]
    found = study.judge(settings, {"accuracy": accuracy, "distributed": read})
    assert found.outcome == outcome
    assert found.statistics["neurons for 20 directions"] == needed
    assert f"20 directions need {needed} of 256 neurons" in found.text


def test_width_convergence(done):
    run = done("width-convergence")
    assert [(row["measure"], row["width"]) for row in run.summary] == [
        (measure, width) for measure in ("cca|one_minus", "cka:estimator=debiased|one_minus") for width in (8, 32)
    ]
    for narrow, wide in (run.summary[:2], run.summary[2:]):
        label = narrow["measure"]
        assert run.verdict.statistics[f"{label} difference"] == pytest.approx(wide["trained"] - narrow["trained"])
        assert run.verdict.statistics[f"{label} untrained"] == pytest.approx(wide["untrained"] - narrow["untrained"])
        assert narrow["trained_low"] < narrow["trained"] < narrow["trained_high"]
        assert narrow["test_accuracy"] > 0.3  # chance is 0.1
    assert figures_of(run) == {"width-0.png", "width-1.png"}
