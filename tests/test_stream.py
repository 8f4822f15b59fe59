"""Streams give what arrays in memory give, in memory that does not depend on the number of stimuli."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest

from congruence.engine import run_comparison
from congruence.engine.stream import Stream, stream_comparison
from congruence.engine.stream.moments import CompensatedSum, Frame, Moments
from congruence.engine.stream.values import FORMS
from congruence.errors import (
    AlignmentError,
    CongruenceWarning,
    CorruptStoreError,
    DegenerateError,
    InputError,
    ParameterError,
    ShapeError,
    StoreError,
)
from congruence.measures import CKA, REGISTRY, Needs, measure
from congruence.representation import Representation
from congruence.store import Activations, Recorded, StoreWriter

N = 1200
MEASURES = [
    m
    for cls in REGISTRY.values()
    if cls in FORMS
    for m in cls.variants()
    if not isinstance(m, CKA) or m.kernel == "linear"
]


def mixture(rng, z, k, p, noise=0.5):
    return z[:, :k] @ rng.normal(size=(k, p)) + noise * rng.normal(size=(len(z), p))


def data(kind):
    rng = np.random.default_rng(sum(map(ord, kind)))
    z = rng.normal(size=(N, 30))
    x, y = mixture(rng, z, 20, 24), mixture(rng, z, 20, 18)
    turn = np.linalg.qr(rng.normal(size=(24, 24)))[0]
    late = (np.arange(N) >= N // 4)[:, None]
    cases = {
        "ordinary": lambda: (x, y),
        "unequal": lambda: (mixture(rng, z, 20, 40), mixture(rng, z, 8, 5)),
        "one_feature": lambda: (x[:, :1], y),
        "rank_deficient": lambda: (mixture(rng, z, 9, 24, 0), mixture(rng, z, 12, 20, 0)),
        "badly_scaled": lambda: (x * np.geomspace(1e-2, 1e2, 24), y * np.geomspace(1e3, 1e-1, 18)),
        "large_mean": lambda: (x + 1e6, y + 1e6 * rng.normal(size=18)),
        "large_mean_low_rank": lambda: (mixture(rng, z, 8, 24, 0) + 1e3, y - 1e4),
        "decaying": lambda: (x * np.geomspace(1, 1e-4, 24) @ turn, y),
        "constant_features": lambda: (np.c_[x, np.full((N, 2), 3.7e5), np.zeros((N, 1))], y),
        "first_chunk_unlike_the_rest": lambda: (x + late * rng.normal(size=24) * 1e4, y * (1 + 50 * late)),
        "single_precision": lambda: (x.astype(np.float32), y.astype(np.float32)),
    }
    return cases[kind]()


KINDS = [
    "ordinary", "unequal", "one_feature", "rank_deficient", "badly_scaled", "large_mean", "large_mean_low_rank",
    "decaying", "constant_features", "first_chunk_unlike_the_rest", "single_precision",
]  # fmt: skip


def streamed(arrays, measures=MEASURES, **options):
    return stream_comparison([Stream.of_array(x, name) for name, x in arrays.items()], None, measures, **options)


def in_memory(arrays, measures=MEASURES, **options):
    return run_comparison([Representation(x, name) for name, x in arrays.items()], None, measures, **options)


def require_close(got, expected, tolerance):
    """Compare everything but the seconds; values relative to the largest, where they have units."""
    a, b = (r.dataset for r in (got, expected))
    for ours, theirs in zip(a["value"].values, b["value"].values, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=tolerance * max(1, np.nanmax(np.abs(theirs))), rtol=0)
    for name in ("status", "reason", "n", "measure", "a", "b"):
        assert np.array_equal(a[name].values, b[name].values), name
    assert [bool(text) for text in a["warnings"].values.ravel()] == [bool(t) for t in b["warnings"].values.ravel()]
    assert dict(got.infos) == dict(expected.infos)


# ---- equal to arrays in memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [64, 512])  # below and above the size from which a first chunk is whitened
def test_equals_memory(kind, rows):
    x, y = data(kind)
    arrays = {"x": x, "y": y}
    # 1e-10 is the promise; condition numbers up to 1e4 leave both paths about 1e-12
    require_close(streamed(arrays, chunk_rows=rows), in_memory(arrays), 1e-10)


def test_two_sides_and_pairs():
    x, y = data("ordinary")
    a = {"p": x, "q": y}
    b = {"q": x[:, :7] + y[:, :7], "r": y[:, ::2]}
    measures = [measure("cka:estimator=debiased"), measure("linear_regression"), measure("svcca")]
    for pairs in ("all", "matched", [("p", "r"), ("q", "q")]):
        got = stream_comparison(
            [Stream.of_array(v, k) for k, v in a.items()],
            [Stream.of_array(v, k) for k, v in b.items()],
            measures,
            pairs=pairs,
        )
        expected = run_comparison(
            [Representation(v, k) for k, v in a.items()],
            [Representation(v, k) for k, v in b.items()],
            measures,
            pairs=pairs,
        )
        require_close(got, expected, 1e-12)


def test_fewer_stimuli_than_features():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(20, 6))
    arrays = {"wide": mixture(rng, z, 6, 33), "other": mixture(rng, z, 6, 25), "narrow": z}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CongruenceWarning)
        expected = in_memory(arrays)
    exact = [m for m in MEASURES if m.name != "pwcca"]  # all correlations are 1, so the weights are arbitrary
    got = streamed(arrays, chunk_rows=8)
    for m in exact:
        # arccos and root turn 1e-16 beside 1 into 1e-8
        np.testing.assert_allclose(got.matrix(m), expected.matrix(m), atol=1e-7 if m.name in {"shape"} else 1e-10)
        assert [c.code for c in got.caveats(m, "wide", "other")] == [
            c.code for c in expected.caveats(m, "wide", "other")
        ]


def test_caveats_say_the_same():
    rng = np.random.default_rng(1)
    arrays = {"x": rng.normal(size=(40, 30)), "y": rng.normal(size=(40, 25))}
    measures = [measure(s) for s in ("cka", "cca", "svcca:components=40", "linear_regression", "pwcca")]
    got, expected = streamed(arrays, measures), in_memory(arrays, measures)
    seen = set()
    for m in measures:
        ours, theirs = got.caveats(m, "x", "y"), expected.caveats(m, "x", "y")
        assert [(c.code, c.text) for c in ours] == [(c.code, c.text) for c in theirs]
        seen |= {c.code for c in ours}
    assert seen == {"cka_bias", "cca_floor", "components_limited", "regression_level", "pwcca_ties"}


def test_condition_numbers_that_a_covariance_cannot_hold():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, N, 12))
    y += x
    spoilt = x * np.geomspace(1, 1e-9, 12) @ np.linalg.qr(rng.normal(size=(12, 12)))[0]
    exact = [measure(s) for s in ("cca", "cca:statistic=mean_squared", "linear_regression")]
    for rows in (40, 600):
        got = streamed({"x": spoilt, "y": y}, exact, chunk_rows=rows)
        expected = in_memory({"x": x, "y": y}, exact)
        for m in exact[:2]:
            # invertible maps change nothing; entries are known to eps, the last direction so to 1e9 eps
            assert float(got.matrix(m)[0, 1]) == pytest.approx(float(expected.matrix(m)[0, 1]), abs=1e-7)
        assert float(got.matrix("linear_regression")[0, 1]) == pytest.approx(
            float(expected.matrix("linear_regression")[0, 1]), abs=1e-7
        )
        # a covariance alone would see 8 of the 12 directions, and give less than this
        assert got.provenance["stream"]["passes"] >= (2 if rows == 40 else 1)


def test_features_in_very_different_units_cost_nothing():
    x, y = data("ordinary")
    units = np.geomspace(1e-5, 1e5, 24)
    got, expected = (
        streamed({"x": x * units, "y": y}, [measure("cca")], chunk_rows=64),
        in_memory({"x": x, "y": y}, [measure("cca")]),
    )
    assert got.provenance["stream"]["passes"] == 1
    assert float(got.matrix("cca")[0, 1]) == pytest.approx(float(expected.matrix("cca")[0, 1]), abs=1e-12)


@pytest.mark.parametrize("scale", [1e-200, 1e-150, 1e150, 1e200])
def test_extreme_scales(scale):
    x, y = data("ordinary")
    scale_free = [m for m in MEASURES if m.label != "procrustes:form=size_and_shape"]
    require_close(streamed({"x": x * scale, "y": y}, scale_free), in_memory({"x": x, "y": y}, scale_free), 1e-10)
    sized = measure("procrustes:form=size_and_shape")
    got, expected = (f({"x": x * scale, "y": y}, [sized]).matrix(sized).values[0, 1] for f in (streamed, in_memory))
    assert got == pytest.approx(expected, rel=1e-12)


def test_near_equality_keeps_its_digits():
    x, _ = data("ordinary")
    rng = np.random.default_rng(3)
    turn = np.linalg.qr(rng.normal(size=(24, 24)))[0]
    noise = 1e-9 * rng.normal(size=x.shape)
    arrays = {"x": x, "turned": x @ turn, "noisy": x @ turn + noise, "wider": np.c_[x, 1e-9 * x[:, :3]]}
    distances = [m for m in MEASURES if m.info.orientation == "distance"]
    got, expected = streamed(arrays, distances, chunk_rows=100), in_memory(arrays, distances)
    for m in distances:
        # the residuals are of size 1e-9 sqrt(n) and 0, known to eps |X|; alpha=0 adds the dimensions of the fourth
        np.testing.assert_allclose(got.matrix(m), expected.matrix(m), rtol=1e-6, atol=1e-12 * math.sqrt(N * 24))
    assert got.provenance["stream"]["passes"] == 3  # sums, sums of what is ill-conditioned, residuals
    assert float(got.matrix("procrustes").sel(a="x", b="noisy")) > 1e-10


def test_a_representation_and_itself():
    x, _ = data("decaying")
    got = streamed({"x": x}, chunk_rows=100)
    for m in MEASURES:
        assert float(got.matrix(m)[0, 0]) == pytest.approx(m.info.identity, abs=1e-12)


# ---- chunks, parts and passes ----------------------------------------------------------------------------------------


def test_chunk_size_does_not_matter():
    x, y = data("ordinary")
    results = [streamed({"x": x, "y": y}, chunk_rows=rows) for rows in (1, 7, 256, N, 10 * N)]
    for other in results[1:]:
        require_close(other, results[0], 1e-12)


def moments_of(x, y, frames, *, squares=True):
    moments = Moments(frames, [(0, 0), (1, 1), (0, 1)], squares=squares)
    moments.update({0: x, 1: y})
    return moments


def test_parts_can_be_merged_in_any_order():
    x, y = data("large_mean")
    frames = {0: Frame.near(x[:50]), 1: Frame.near(y[:50])}
    whole = moments_of(x, y, frames)
    pieces = [slice(0, 100), slice(100, 101), slice(101, 700), slice(700, N)]
    for order in itertools.permutations(range(4)):
        merged = moments_of(x[pieces[order[0]]], y[pieces[order[0]]], frames)
        for k in order[1:]:
            merged.merge(moments_of(x[pieces[k]], y[pieces[k]], frames))
        assert merged.n == N
        np.testing.assert_allclose(merged.product(0, 1), whole.product(0, 1), rtol=1e-12)
        np.testing.assert_allclose(merged.mean(1), whole.mean(1), rtol=1e-14)
        assert merged.square_product(0, 1) == pytest.approx(whole.square_product(0, 1), rel=1e-13)


def test_parts_about_different_frames_are_not_merged():
    x, y = data("large_mean")
    near = {0: Frame.near(x[:50]), 1: Frame.near(y[:50])}
    far = {0: Frame.near(x[50:]), 1: Frame.near(y[:50])}
    with pytest.raises(ParameterError, match="same frames"):
        moments_of(x, y, near).merge(moments_of(x, y, far))
    with pytest.raises(ParameterError, match="same frames"):
        moments_of(x, y, near).merge(moments_of(x, y, near, squares=False))


def test_moments_are_the_centred_sums():
    x, y = data("unequal")
    basis = np.random.default_rng(0).normal(size=(40, 40)) + 5 * np.eye(40)
    plain = {0: Frame(np.full(40, 3.0)), 1: Frame(np.full(5, -2.0), exponent=3)}
    turned = {0: Frame(np.full(40, 3.0), 0, basis, np.linalg.inv(basis)), 1: plain[1]}
    cx, cy = x - x.mean(axis=0), 8 * (y - y.mean(axis=0))
    k, m = (cx**2).sum(axis=1), (cy**2).sum(axis=1)
    for frames in (plain, turned):
        moments = moments_of(x, y, frames)
        np.testing.assert_allclose(moments.covariance(0, 1), cx.T @ cy, atol=1e-8)
        np.testing.assert_allclose(moments.covariance(1, 0), cy.T @ cx, atol=1e-8)
        np.testing.assert_allclose(moments.mean(1), y.mean(axis=0), atol=1e-13)
        for i, j, expected in ((0, 1, k @ m), (1, 0, k @ m), (0, 0, k @ k), (1, 1, m @ m)):
            assert moments.square_product(i, j) == pytest.approx(expected, rel=1e-11)


def test_compensated_sums_do_not_drift():
    total = CompensatedSum((1,))
    for _ in range(100_000):
        total.add(np.array([0.1]))
    plain = sum([0.1] * 100_000)
    exact = math.fsum([0.1] * 100_000)
    assert abs(total.value[0] - exact) < abs(plain - exact) / 1000


def test_ill_conditioned_data_take_one_pass_if_the_first_chunk_shows_it():
    x, y = data("rank_deficient")
    assert streamed({"x": x, "y": y}, [measure("cca")], chunk_rows=512).provenance["stream"]["passes"] == 1
    assert streamed({"x": x, "y": y}, [measure("cca")], chunk_rows=64).provenance["stream"]["passes"] == 2
    assert streamed({"x": x, "y": y}, [measure("cka")], chunk_rows=64).provenance["stream"]["passes"] == 1


def test_little_memory_means_more_passes():
    rng = np.random.default_rng(4)
    z = rng.normal(size=(300, 10))
    arrays = {f"layer{k}": mixture(rng, z, 10, 30) for k in range(4)}
    measures = [measure("cka"), measure("cca")]
    free = streamed(arrays, measures, chunk_rows=32)
    tight = streamed(arrays, measures, chunk_rows=32, memory=260_000)
    assert tight.provenance["stream"]["passes"] > free.provenance["stream"]["passes"] == 1
    require_close(tight, free, 1e-13)
    with pytest.raises(ParameterError, match=r"take (\d+) bytes") as caught:
        streamed(arrays, measures, chunk_rows=32, memory=10_000)
    least = int(str(caught.value).split("take ")[1].split()[0])
    require_close(streamed(arrays, measures, chunk_rows=32, memory=least), free, 1e-13)


@pytest.mark.parametrize("option", ["chunk_rows", "memory"])
def test_sizes_must_be_positive(option):
    x, y = data("ordinary")
    with pytest.raises(ParameterError, match=f"{option} must be at least 1; got 0"):
        streamed({"x": x, "y": y}, **{option: 0})


def generated(name, n, p=32):
    def rows(start, stop):
        return np.random.default_rng([start, p]).normal(size=(stop - start, p)).astype(np.float32)

    return Stream(name, n, p, rows)


def test_memory_does_not_depend_on_the_number_of_stimuli():
    measures = [measure(s) for s in ("cka:estimator=debiased", "cca", "procrustes")]
    peaks = []
    for n in (4_096, 4_096, 65_536):  # the first run fills caches
        tracemalloc.start()
        stream_comparison([generated("x", n)], [generated("y", n, 24)], measures, chunk_rows=1024)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.5 * peaks[1]  # by luck of timing, one chunk more or less is read ahead


def test_progress_counts_stimuli():
    seen = []
    streamed({"x": data("ordinary")[0]}, [measure("cka")], chunk_rows=500, progress=seen.append)
    assert [(p.done, p.total) for p in seen] == [(500, N), (1000, N), (N, N)]
    assert seen[0].measure == "summing (pass 1)"


# ---- what is refused -------------------------------------------------------------------------------------------------


def untouchable(name, n=1_000_000, p=256):
    def rows(start, stop):
        raise AssertionError

    return Stream(name, n, p, rows)


@pytest.mark.parametrize("spec", ["rsa", "mutual_knn", "cka:kernel=rbf", "cka:kernel=cosine,estimator=debiased"])
def test_measures_of_all_pairs_of_stimuli_say_what_they_need(spec):
    with pytest.raises(ParameterError, match=rf"{spec} cannot be .*n=1000000 takes 8 TB of memory"):
        stream_comparison([untouchable("x")], [untouchable("y")], [measure(spec)])


def test_refused_measures_can_be_recorded():
    x, y = data("ordinary")
    got = streamed({"x": x, "y": y}, [measure("rsa"), measure("cka")], on_error="record")
    assert (got.dataset["status"].sel(measure="rsa") == "failed").all()
    assert "11.5 MB" in str(got.failures()["reason"][0])
    require_close(streamed({"x": x, "y": y}, [measure("cka")]), in_memory({"x": x, "y": y}, [measure("cka")]), 1e-12)
    assert float(got.matrix("cka")[0, 0]) == pytest.approx(1)


def test_measures_of_others_need_memory():
    class Other(type(measure("cca"))):
        name = "other"

    with pytest.raises(ParameterError, match="other cannot be computed from a stream: it has no form that sums"):
        stream_comparison([untouchable("x")], None, [Other()])


@pytest.mark.parametrize("error", [np.linalg.LinAlgError("no convergence"), InputError("no value")])
def test_a_pair_that_fails_does_not_end_the_others(monkeypatch, error):
    def fail(*arguments):
        raise error

    x, y = data("ordinary")
    arrays, measures = {"x": x, "y": y}, [measure("cca"), measure("cka")]
    monkeypatch.setattr("congruence.engine.stream.values.average_correlation", fail)
    with pytest.raises(type(error), match="cca of x and x: no value" if isinstance(error, InputError) else "no conv"):
        streamed(arrays, measures)
    got = streamed(arrays, measures, on_error="record")
    assert (got.dataset["status"].sel(measure="cca") == "failed").all()
    assert str(error) in got.failures()["reason"][0]
    assert (got.dataset["status"].sel(measure="cka") == "ok").all()


@pytest.mark.parametrize(("value", "kind"), [(np.nan, "NaN"), (np.inf, "infinite")])
def test_values_that_are_not_finite_are_found_with_their_position(value, kind):
    x, y = data("ordinary")
    x = x.copy()
    x[1003, 7] = value
    with pytest.raises(InputError, match=rf"^x has 1 {kind} value among stimuli 1000 to 1099; .*\(1003, 7\)"):
        streamed({"x": x, "y": y}, chunk_rows=100)
    x[3, 2] = -value
    with pytest.raises(InputError, match=rf"^x has 1 {kind} value among stimuli 0 to 99; .*\(3, 2\)"):
        streamed({"x": x, "y": y}, chunk_rows=100)


def test_a_bad_representation_does_not_spoil_the_others():
    x, y = data("ordinary")
    bad = y.copy()
    bad[700:, 3] = np.nan
    arrays = {"x": x, "bad": bad, "y": y}
    got = streamed(arrays, chunk_rows=100, on_error="record")
    good = streamed({"x": x, "y": y}, chunk_rows=100)
    for m in MEASURES:
        np.testing.assert_allclose(
            got.matrix(m).sel(a=["x", "y"], b=["x", "y"]), good.matrix(m), rtol=1e-12, atol=1e-12
        )
        assert np.isnan(got.matrix(m).sel(a="bad")).all()
        assert np.isnan(got.matrix(m).sel(b="bad")).all()
    reasons = set(got.failures()["reason"])
    assert len(reasons) == 1
    assert "bad has 100 NaN values among stimuli 700 to 799" in reasons.pop()


def test_a_source_that_cannot_be_read():
    def rows(start, stop):
        if start >= 400:
            message = "the disk is gone"
            raise OSError(message)
        return y[start:stop]

    x, y = data("ordinary")
    broken = Stream("y", N, y.shape[1], rows)
    with pytest.raises(OSError, match="the disk is gone"):
        stream_comparison([Stream.of_array(x, "x")], [broken], MEASURES, chunk_rows=100)
    got = stream_comparison([Stream.of_array(x, "x")], [broken], MEASURES, chunk_rows=100, on_error="record")
    assert set(got.failures()["reason"]) == {"OSError: the disk is gone"}


def test_a_source_that_fails_in_a_later_pass():
    x, _ = data("ordinary")
    reads = itertools.count()

    def rows(start, stop):
        if next(reads) > 12:
            message = "the disk is gone"
            raise OSError(message)
        return x[start:stop] + 1e-9

    streams = [Stream.of_array(x, "x"), Stream("copy", N, 24, rows)]
    got = stream_comparison(streams, None, [measure("procrustes"), measure("cka")], chunk_rows=100, on_error="record")
    cells = got.dataset["status"].sel(measure="procrustes").values.tolist()
    assert cells == [["ok", "failed"], ["failed", "ok"]]  # only the pair that is nearly equal needed that pass
    assert (got.dataset["status"].sel(measure="cka") == "ok").all()


def test_a_source_of_another_shape():
    short = Stream("short", N, 5, lambda start, stop: np.ones((stop - start, 4)))
    with pytest.raises(ShapeError, match=r"short must give shape \(100, 5\) for stimuli 0 to 100; got \(100, 4\)"):
        stream_comparison([short], None, [measure("cka")], chunk_rows=100)


def test_squares_that_overflow_are_no_similarity():
    x, y = data("ordinary")
    x = x.copy()
    x[900] = 1e200
    with pytest.raises(InputError, match="x: the values grow so large"):
        streamed({"x": x, "y": y}, [measure("cka")], chunk_rows=100)
    x[900], x[901] = 1.7e308, -1.7e308
    with pytest.raises(InputError, match="x: the values grow so large"):
        streamed({"x": x, "y": y}, [measure("cka")], chunk_rows=100)


@pytest.mark.parametrize("value", [0.0, 3.7, 1e6, 1e-200])
def test_constant_representations(value):
    x, _ = data("ordinary")
    flat = np.full((N, 4), value)
    with pytest.raises(DegenerateError, match="^flat is constant: every stimulus has the same values"):
        streamed({"x": x, "flat": flat}, [measure("cka")], chunk_rows=100)
    flat = flat * (1 + 2 * np.finfo(float).eps * (np.arange(N) % 2)[:, None])  # rounding is no difference
    with pytest.raises(DegenerateError, match="^flat is constant"):
        streamed({"x": x, "flat": flat}, [measure("cka")], chunk_rows=100)


def test_differences_no_larger_than_rounding_have_no_rank():
    x, _ = data("ordinary")
    rounding = np.full((N, 4), 1e6)
    rounding[7, 2] += 4e-9  # more than what counts as constant, 16 eps, and less than rounding makes of 1,200 values
    for compare in (streamed, in_memory):
        with pytest.raises(DegenerateError, match="^faint: the stimuli differ by no more than the rounding"):
            compare({"x": x, "faint": rounding}, [measure("cca")])
    got = streamed({"x": x, "faint": rounding}, [measure("cca"), measure("cka")], on_error="record")
    assert set(got.failures()["measure"]) == {"cca"}
    assert not np.isnan(got.matrix("cka")).any()


def test_one_deviating_stimulus_is_a_difference():
    x, _ = data("ordinary")
    spike = np.ones((N, 2))
    spike[777, 1] = 1.5
    defined = [m for m in MEASURES if m.info.needs.n == 3]  # without its diagonal, one spike is nothing
    arrays = {"x": x, "s": spike}
    require_close(streamed(arrays, defined, chunk_rows=100), in_memory(arrays, defined), 1e-10)
    with pytest.raises(DegenerateError, match="s: cka:estimator=debiased is undefined"):
        streamed(arrays, [measure("cka:estimator=debiased")])


@pytest.mark.parametrize(("n", "spec", "least"), [(2, "cka", 3), (3, "cka:estimator=debiased", 4), (2, "cca", 3)])
def test_too_few_stimuli(n, spec, least):
    x = np.random.default_rng(0).normal(size=(n, 2))
    with pytest.raises(ShapeError, match=f"^x has {n} stimuli; at least {least} are needed"):
        streamed({"x": x, "y": x + 1}, [measure(spec)])
    with pytest.raises(ShapeError, match="x is empty"):
        streamed({"x": x[:, :0], "y": x}, [measure(spec)])


def test_what_a_measure_needs_beyond_stimuli_is_checked_as_in_memory(monkeypatch):
    arrays = {"x": np.random.default_rng(0).normal(size=(8, 8)), "one": np.arange(8.0)[:, None]}
    info = dataclasses.replace(measure("cca").info, needs=Needs(n=3, p=2, n_above_p=True))
    monkeypatch.setattr(type(measure("cca")), "info", info)
    with pytest.raises(ShapeError, match="^x has 8 stimuli and 8 features; cca needs more stimuli than features"):
        streamed(arrays, [measure("cca")])
    with pytest.raises(ShapeError, match="^one has 1 feature; cca needs at least 2"):
        streamed({"one": arrays["one"]}, [measure("cca")])
    ours, theirs = (run(arrays, [measure("cca")], on_error="record").dataset for run in (streamed, in_memory))
    assert (ours["status"] == "failed").all()
    assert np.array_equal(ours["reason"], theirs["reason"])


def test_unequal_stimuli():
    x, y = data("ordinary")
    with pytest.raises(ShapeError, match="x has 1200 stimuli and y has 1199"):
        streamed({"x": x, "y": y[1:]})
    ids = np.arange(N).astype(str)
    pair = [Stream.of_array(x, "x", ids), Stream.of_array(y, "y", ids[::-1])]
    with pytest.raises(AlignmentError, match="another order"):
        stream_comparison(pair, None, MEASURES)
    with pytest.raises(AlignmentError, match="y has no ids|hold"):
        stream_comparison([Stream.of_array(x, "x", ids + "a"), Stream.of_array(y, "y")], None, MEASURES)
    same = [Stream.of_array(x, "x", ids), Stream.of_array(y, "y", ids.copy())]
    require_close(stream_comparison(same, None, MEASURES), streamed({"x": x, "y": y}), 1e-13)


def test_wrong_arguments():
    x, _ = data("ordinary")
    with pytest.raises(ParameterError, match="on_error must be 'raise' or 'record'; got 'stop'"):
        streamed({"x": x}, on_error="stop")
    with pytest.raises(ParameterError, match="names on the first side must be unique"):
        stream_comparison([Stream.of_array(x, "x")] * 2, None, MEASURES)
    with pytest.raises(ShapeError, match=r"x must be two-dimensional \(n stimuli, p features\) to be streamed"):
        Stream.of_array(np.ones((3, 4, 5)), "x")


def test_integers_are_converted_with_a_warning():
    x = np.random.default_rng(0).integers(0, 9, size=(50, 3))
    with pytest.warns(CongruenceWarning, match="x holds int64 values") as caught:
        got = streamed({"x": x}, [measure("cka")], chunk_rows=10)
    assert len(caught) == 1
    assert float(got.matrix("cka")[0, 0]) == pytest.approx(1)


# ---- files and stores ------------------------------------------------------------------------------------------------


def test_npy_files(tmp_path):
    x, y = data("ordinary")
    np.save(tmp_path / "x.npy", x.astype(np.float32))
    np.save(tmp_path / "y.npy", np.asfortranarray(y))
    streams = [Stream.of_npy(tmp_path / "x.npy"), Stream.of_npy(tmp_path / "y.npy", "named")]
    assert [s.name for s in streams] == ["x", "named"]
    got = stream_comparison(streams, None, MEASURES, chunk_rows=100)
    require_close(got, streamed({"x": x.astype(np.float32), "named": y}), 1e-12)


def test_npy_files_that_change_or_are_none(tmp_path):
    x, _ = data("ordinary")
    path = tmp_path / "x.npy"
    np.save(path, x)
    stream = Stream.of_npy(path)

    def touch(progress):
        os.utime(path, ns=(1, 1))

    with pytest.raises(StoreError, match="x: the file changed while it was read"):
        stream_comparison([stream], None, [measure("cka")], chunk_rows=500, progress=touch)
    path.write_bytes(b"no array")
    with pytest.raises(InputError, match="x.npy is no NumPy array"):
        Stream.of_npy(path)
    np.save(path, np.ones(3))
    with pytest.raises(ShapeError, match="to be streamed"):
        Stream.of_npy(path)


@pytest.fixture
def store(tmp_path):
    rng = np.random.default_rng(5)
    maps, tokens = rng.normal(size=(200, 3, 2, 2)).astype(np.float32), rng.normal(size=(200, 5, 4)).astype(np.float32)
    mask = np.arange(5) < rng.integers(1, 6, size=200)[:, None]
    with StoreWriter(tmp_path / "run.zarr", provenance={"model": "net"}) as writer:
        for k, s in enumerate(range(0, 200, 50)):
            part = slice(s, s + 50)
            recorded = {
                "conv": Recorded(maps[part], None, False, "float32", ()),
                "tokens": Recorded(tokens[part], mask[part], False, "float32", ()),
            }
            writer.append(k, [f"s{i}" for i in range(s, s + 50)], f"digest{k}", recorded)
        writer.finish(["conv", "tokens"], ["conv", "tokens"])
    return Activations(tmp_path / "run.zarr")


def test_layers_of_a_store(store):
    got = stream_comparison([Stream.of_layer(store, name) for name in store], None, MEASURES, chunk_rows=64)
    expected = run_comparison([store[name].matrix() for name in store], None, MEASURES)
    require_close(got, expected, 1e-10)
    stream = Stream.of_layer(store, "conv", "spatial_mean", name="pooled")
    assert (stream.name, stream.n, stream.p, stream.row_bytes) == ("pooled", 200, 3, 48)
    assert (stream.origin.model, stream.origin.layer) == ("net", "conv")


def test_steps_that_a_stream_cannot_run(store):
    with pytest.raises(
        ParameterError, match="pca:components=2 needs all stimuli at once, so it cannot run on a stream"
    ):
        Stream.of_layer(store, "conv", "flatten,pca:components=2")
    with pytest.raises(ParameterError, match="spatial_as_stimuli makes several stimuli of one"):
        Stream.of_layer(store, "conv", "spatial_as_stimuli")


def test_a_store_that_is_damaged_while_it_is_read(store):
    chunks = sorted((path for path in store_files(store) if "tokens" in str(path) and "layers" in str(path)), key=str)

    def damage(progress):
        if progress.done == 64:
            chunks[-1].write_bytes(chunks[-1].read_bytes()[:-9] + bytes(9))

    streams = [Stream.of_layer(store, name) for name in store]
    with pytest.raises(CorruptStoreError, match="tokens"):
        stream_comparison(streams, None, MEASURES, chunk_rows=32, progress=damage)


def store_files(store):
    return [path for path in Path(store.path).rglob("c.*") if path.is_file()]
