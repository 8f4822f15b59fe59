"""The studies of recurrent networks: what they say of mean CCA, cosine and Euclidean distance follows from their tables."""

import copy

import numpy as np
import pytest
import torch

from congruence.dynamics.studies import _loops, bottom_up_rnn
from congruence.studies import REGISTRY

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")

STEPS = range(0, 70, 10)
SIZES = (3, 4)


# ---------------------------------------------------------------------------------------- bottom-up-rnn
def rising(reached):
    """A similarity that reaches 0.9 of its final value at this step and does not fall."""
    return [min(1.0, 0.5 + 0.4 * step / reached) for step in STEPS]


def tables(measures):
    """Curves of networks of three and of four layers, three seeds; `measures` gives a curve by depth, layer and seed."""
    return {
        "curves": [
            {"depth": depth, "seed": seed, "measure": label, "orientation": "distance" if label == "euclidean" else "similarity", "layer": name, "step": step, "value": value}
            for depth in SIZES
            for seed in range(3)
            for label, curve in measures.items()
            for k, name in enumerate([*(f"lstm{k + 1}" for k in range(depth)), "logits"])
            for step, value in zip(STEPS, curve(depth, k, seed), strict=True)
        ]
    }  # fmt: skip


def in_order(depth, layer, seed):
    return rising(10 * (layer + 1))


def against_order(depth, layer, seed):
    return rising(10 * (depth + 1 - layer))


def restless(depth, layer, seed):
    """From 0.5 to 1 by way of 1 and 0.6 + seed / 100, so that it moves by 1.3 - seed / 50 in all."""
    return [0.5, 1.0, 0.6 + 0.01 * seed, 1.0, 1.0, 1.0, 1.0] if layer < depth else rising(20)


def study_of(**measures):
    study, settings = REGISTRY["bottom-up-rnn"], bottom_up_rnn.Settings(SIZES, seeds=3, measures=tuple(measures))
    content = tables(measures)
    return study, settings, content


def judged(**measures):
    study, settings, content = study_of(**measures)
    return study.judge(settings, content)


def test_mean_cca_hides_the_order_that_pwcca_shows():
    euclidean = lambda *about: [1 - value for value in restless(*about)]  # noqa: E731
    study, settings, content = study_of(pwcca=in_order, cca=against_order, cosine=restless, euclidean=euclidean)
    lines, verdict = study.summarise(settings, content), study.judge(settings, content)
    assert verdict.outcome == "reproduced"
    assert "Mean CCA hides it (that by PWCCA less the rank correlation by mean CCA): reproduced" in verdict.text
    assert "Cosine and Euclidean distance are noisier (back and forth, more than by the first measure): reproduced" in verdict.text  # fmt: skip
    less = [line for line in lines if line["statistic"] == bottom_up_rnn.LESS]
    assert [(line["value"], line["low"], line["high"]) for line in less] == [pytest.approx((2, 2, 2))] * 4
    shares = [1 - 0.5 / (1.3 - 0.02 * seed) for seed in range(3)]
    reach = 4.302653 * np.std(shares, ddof=1) / 3**0.5  # the t quantile of two degrees of freedom
    for label in ("cosine", "euclidean"):
        for depth in SIZES:
            name = f"back and forth, more than by the first measure: {depth} layers, {label}"
            assert verdict.statistics[f"{name} value"] == pytest.approx(np.mean(shares))
            assert verdict.statistics[f"{name} high"] == pytest.approx(np.mean(shares) + reach, abs=1e-6)
    times = {
        line["time to a fraction of"]
        for line in lines
        if line["measure"] == "euclidean" and "time to a fraction of" in line
    }
    assert times == {"way"}  # a distance has no fraction of its final value


def test_what_measures_share_is_not_a_finding():
    verdict = judged(pwcca=in_order, cca=in_order, cosine=in_order, euclidean=against_order)
    assert verdict.outcome == "reproduced"
    assert "mean CCA): not reproduced; 3 layers, final +0.000 (+0.000 to +0.000)" in verdict.text
    assert "first measure): not reproduced; 3 layers, cosine +0.000 (+0.000 to +0.000)" in verdict.text


def test_layers_without_an_order_have_no_correlation():
    study, settings, content = study_of(pwcca=in_order, cca=lambda *about: rising(20))
    lines, verdict = study.summarise(settings, content), study.judge(settings, content)
    without = [line for line in lines if line["measure"] == "cca" and line["statistic"] == bottom_up_rnn.CORRELATION]
    assert np.isnan([line["value"] for line in without]).all()
    assert "mean CCA): not reproduced" in verdict.text
    assert "noisier" not in verdict.text
    verdict = judged(pwcca=lambda *about: rising(20))
    assert verdict.outcome == "not reproduced"
    assert "hidden layers undefined, as the layers of a network all have the same time" in verdict.text


def test_depths_that_disagree_make_it_differ():
    verdict = judged(pwcca=lambda *about: in_order(*about) if about[0] == 4 else against_order(*about))
    assert verdict.outcome == "differs"
    assert verdict.statistics["4 layers final hidden correlation"] == pytest.approx(1)
    assert verdict.statistics["3 layers final hidden correlation"] == pytest.approx(-1)


@pytest.mark.parametrize(
    ("values", "share", "rough"),
    [
        ([0, 1, 0, 1], 2 / 3, 2),
        ([0, 1, 2, 3], 0, 0),
        ([0.1, 0.7, 0.9, 1.0], 0, 0.25 / 0.9),
        ([2, 1, 1.5, 1], 0.5, 1.25),
    ],
)
def test_noise_is_that_of_a_count_by_hand(values, share, rough):
    for curve in (np.array(values, dtype=float), 5 - 3 * np.array(values, dtype=float)):  # a distance instead
        assert bottom_up_rnn.back_and_forth(curve) == pytest.approx(share, abs=1e-14)
        assert bottom_up_rnn.roughness(curve) == pytest.approx(rough, abs=1e-14)


def test_a_curve_that_stands_still_has_no_noise_to_speak_of():
    still = np.ones(4)
    assert np.isnan([bottom_up_rnn.back_and_forth(still), bottom_up_rnn.roughness(still)]).all()


def test_recorded_cosine_and_distance_are_those_of_the_states():
    model = _loops.language_model(5, 4, 1, 0)
    start, probe = copy.deepcopy(model), torch.arange(60).square().reshape(12, 5) % 7 % 5

    def training(before):
        _loops.train(model, lambda rng: (probe, probe.flip(1)), 3, 0.1, 0, before)

    rows = _loops.recorded_curves(
        model, training, [probe], ["lstm1", "!*[1]*"], every=3, steps="last_step", measures=("cosine", "euclidean")
    )
    with torch.no_grad():
        x, y = (one.lstm1(one.embedding(probe))[0][:, -1].double() for one in (start, model))
    expected = {"cosine": torch.cosine_similarity(x, y).mean(), "euclidean": (x - y).norm(dim=1).mean()}
    first = {row["measure"]: row for row in rows if row["step"] == 0}
    for label, value in expected.items():
        assert first[label]["value"] == pytest.approx(float(value), rel=1e-5)  # states are float32
    assert {label: row["orientation"] for label, row in first.items()} == {
        "cosine": "similarity",
        "euclidean": "distance",
    }
