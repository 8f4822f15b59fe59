"""The studies of recurrent networks: what they say of mean CCA, cosine and Euclidean distance follows from their tables,
and states over a long text are those of the network itself."""

import copy

import numpy as np
import pytest
import torch

from congruence.dynamics.studies import _long_text, _loops, bottom_up_rnn
from congruence.dynamics.studies.sequence_time import last_column
from congruence.errors import ParameterError
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
    gap = np.array([0.1, np.nan, 0.5])
    for curve in (still, gap):
        assert np.isnan([bottom_up_rnn.back_and_forth(curve), bottom_up_rnn.roughness(curve)]).all()


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


# ---------------------------------------------------------------------------------------- sequence-time, long text
@pytest.fixture(scope="module")
def network():
    model = _loops.language_model(7, 6, 2, 0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 2  # as a trained network, whose states move more than those of an untrained one
    return model


@pytest.fixture(scope="module")
def tokens():
    return torch.from_numpy(np.random.default_rng(0).integers(7, size=40 * 20))


def states(model, tokens):
    """Hidden states of both layers in one go, shape (sequences, 20, p) each."""
    with torch.no_grad():
        first, _ = model.lstm1(model.embedding(tokens[None]))
        second, _ = model.lstm2(first)
    return [one[0].numpy().reshape(-1, 20, 6) for one in (first, second)]


def test_states_are_carried_over_the_text_and_into_the_repeated_input(network, tokens, monkeypatch):
    monkeypatch.setattr(_long_text, "FILLED", 200)  # so that it is looked at whether they have settled
    found = list(_long_text.shown(network, tokens, (0.1, 0.6)))
    assert [(one.share, one.state, one.text) for one in found] == [
        (None, "hidden[0]", 40), (None, "hidden[1]", 40), (0.1, "hidden[0]", 4), (0.1, "hidden[1]", 4), (0.6, "hidden[0]", 24), (0.6, "hidden[1]", 24),
    ]  # fmt: skip
    for place in (40, 4, 24):
        fed = torch.cat((tokens[: place * 20], tokens[place * 20 : place * 20 + 1].repeat(800 - place * 20)))
        own = [one for one in found if one.text == place]
        for one, expected in zip(own, states(network, fed), strict=True):
            # single precision, and as many roundings as a state remembers
            np.testing.assert_allclose(one.values, expected, atol=2e-6)
            assert place == 40 or (one.values[-1] == one.values[-2]).all()
            assert one.settled_after is None or 0 < one.settled_after < 400


@pytest.mark.parametrize("shares", [(0.6, 0.1), (0.001,), (0.999,), ()])
def test_places_that_are_none_are_refused(network, tokens, shares):
    with pytest.raises(
        ParameterError, match="repeated_share must rise, and lie after the first and before the last of 40"
    ):
        list(_long_text.shown(network, tokens, shares))


def test_settling_is_counted_by_hand():
    values = np.zeros((10, 20, 3), dtype=np.float32)
    values[:4] = np.random.default_rng(0).normal(size=(4, 20, 3))
    assert _long_text.settling(_long_text.Shown(0.4, 1, 4, values)) == {
        "share": 0.4, "state": "hidden[1]", "sequences": 10, "moving": 4, "settled_after": 0,
    }  # fmt: skip
    values[4, 7, 2] = 0.1
    values[5, 2, 0] = 1e-7  # less than a state moves in single precision
    assert _long_text.settling(_long_text.Shown(0.4, 1, 4, values))["moving"] == 5
    assert _long_text.settling(_long_text.Shown(0.4, 1, 4, values))["settled_after"] == 8
    values[4:, ::2] = 0.5  # to and fro, to the end
    assert _long_text.settling(_long_text.Shown(0.4, 1, 4, values))["settled_after"] is None
    assert _long_text.settling(_long_text.Shown(None, 1, 10, values))["settled_after"] is None


def test_too_few_moving_states_have_no_cca():
    rng = np.random.default_rng(0)
    values = np.full((60, 20, 4), 0.3, dtype=np.float32)
    values[:12] = rng.normal(size=(12, 20, 4))
    rows = {moving: _long_text.compared(_long_text.Shown(0.2, 0, moving, np.where(np.arange(60)[:, None, None] < moving, values, np.float32(0.3))), last_column) for moving in (7, 12)}  # fmt: skip
    for moving, known in ((7, {"cosine", "euclidean"}), (12, {"cca", "svcca", "cosine", "euclidean"})):
        assert {row["measure"] for row in rows[moving] if row["value"] is not None} == known
    unrelated = [row["unrelated"] for row in rows[12] if row["measure"] == "cca" and row["step"] < 19]
    assert all(0 < value < 1 for value in unrelated)
    x, y = values[:, 0] - values[:, 0].mean(0), values[:, 19] - values[:, 19].mean(0)
    correlations = np.linalg.svd(np.linalg.qr(x)[0].T @ np.linalg.qr(y)[0], compute_uv=False)
    first = next(row for row in rows[12] if (row["measure"], row["step"]) == ("cca", 0))
    assert first["value"] == pytest.approx(correlations.mean(), rel=1e-5)


def long_tables(value, unrelated):
    """CCA of three seeds at two places; both are functions of share and seed."""
    shares = (None, 0.1, 0.5, 0.8)
    return {
        "long_text": [
            {"seed": seed, "share": share, "state": "hidden[0]", "measure": "cca", "step": step, "value": value(share or 1, seed), "unrelated": unrelated(share or 1, seed)}
            for seed in range(3)
            for share in shares
            for step in (0, 18, 19)
        ],
        "settling": [
            {"share": share, "state": "hidden[0]", "settled_after": None if share == 0.8 else 30} for share in shares
        ],
    }  # fmt: skip


def test_later_repeats_are_judged_by_the_interval_over_seeds_and_beyond_what_unrelated_text_gives():
    def verdict(value, unrelated):
        return _long_text.judged(long_tables(value, unrelated), (0.1, 0.5, 0.8))

    falls = lambda share, seed: 0.9 - 0.5 * share + 0.01 * seed * share  # noqa: E731
    own, alike, apart = (verdict(*case) for case in ((falls, lambda *_: 0.2), (falls, falls), (lambda *_: 0.5, lambda *_: 0.2)))  # fmt: skip
    assert (own.outcome, alike.outcome, apart.outcome) == ("reproduced", "differs", "not reproduced")
    name = "long text hidden[0] {} latest less earliest"
    assert own.statistics[name.format("value")] == pytest.approx(-0.35 + 0.007)
    reach = 4.302653 * 0.007 / 3**0.5  # the t quantile of two degrees of freedom
    assert own.statistics[name.format("value") + " high"] == pytest.approx(-0.343 + reach, abs=1e-6)
    assert own.statistics[name.format("beyond unrelated")] == pytest.approx((-0.35 + 0.007) / 0.8)
    assert alike.statistics[name.format("beyond unrelated")] == pytest.approx(0)
    assert "2 of 3 states stand still in the end, after 30 to 30 characters" in own.text


def test_places_without_cca_are_left_out_of_the_trend():
    missing = lambda share, seed: None if share == 0.1 else 0.9 - 0.5 * share  # noqa: E731
    lines = _long_text.summary(long_tables(missing, missing), (0.1, 0.5, 0.8))
    trend = next(line for line in lines if line["input"] == _long_text.TREND)
    assert (trend["shares"], trend["earliest"], trend["latest"]) == (2, 0.5, 0.8)
    assert trend["latest_less_earliest"] == pytest.approx(-0.15)
    nowhere = long_tables(lambda *_: None, lambda *_: None)
    assert "undefined at all places but one, or at all" in _long_text.judged(nowhere, (0.1, 0.5, 0.8)).text
