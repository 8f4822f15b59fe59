"""Warnings: there when a number needs one, with the right level, and absent when it does not."""

from __future__ import annotations

import pickle
import re
import warnings

import numpy as np
import pytest

from congruence.errors import Caveat, CongruenceWarning
from congruence.measures import REGISTRY, measure
from congruence.testing import gaussian, related


def caveats(spec, x, y):
    """Return the caveats by code, once as found and once as warned; they must be the same."""
    instance = measure(spec)
    found = instance.examine(instance.prepare(x), instance.prepare(y)).caveats
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        instance(x, y)
    assert [w.message.caveat for w in caught] == list(found)
    assert all(w.category is CongruenceWarning and w.filename == __file__ for w in caught)
    return {caveat.code: caveat for caveat in found}


@pytest.mark.parametrize("variant", [v for cls in REGISTRY.values() for v in cls.variants()], ids=str)
def test_ordinary_data_need_no_warning(variant):
    # 400 stimuli and 3 features: the level of biased CKA is low even for narrow kernels (laplace, the narrowest: 0.13)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 3)) + 0.2
    y = x @ rng.standard_normal((3, 3)) + 0.5 * rng.standard_normal((400, 3))
    biased = {"cka:kernel=laplace": {"cka_bias"}, "distance_correlation": {"distance_correlation_bias"}}
    assert set(caveats(variant, x, y)) == biased.get(variant.label, set())


# ---- directions that are rounding in float32 -------------------------------------------------------------------------

COUNTING = [
    "cca", "cca:statistic=mean_squared", "pwcca", "pwcca:weights=mean", "linear_regression", "gulp", "eigenspace_overlap",
]  # fmt: skip


def logits(n, units, count, dtype, seed=0):
    """Return more logits than the units that they are computed from, at the precision of `dtype`."""
    layer, weights = (
        gaussian(*shape, seed=seed + k).astype(dtype) for k, shape in enumerate([(n, units), (units, count)])
    )
    return layer @ weights


@pytest.mark.parametrize("spec", COUNTING)
@pytest.mark.parametrize("count", [20, 130])  # narrower and wider than there are stimuli
def test_directions_of_float32_rounding_are_counted(spec, count):
    x, y = logits(120, 8, count, "float32"), gaussian(120, 3, seed=5)
    rank = np.linalg.matrix_rank(x.astype(float) - (spec != "eigenspace_overlap") * x.mean(0, dtype=float))
    assert rank > 8  # rounding is seen in float64
    found = caveats(spec, x.astype(float), y)["float32_directions"]
    assert f"{rank - 8} of {rank} directions of X are no more than rounding" in found.text
    assert "float32_directions" not in caveats(spec, logits(120, 8, count, "float64"), y)
    svcca = measure("svcca")  # weighs them by their size
    assert svcca(x, y) == pytest.approx(svcca(logits(120, 8, count, "float64"), y), abs=1e-6)


@pytest.mark.parametrize("spec", COUNTING)
def test_softmax_outputs_in_float32_have_one_direction_too_many(spec):
    scores = gaussian(200, 5, seed=1).astype("float32")
    outputs = (np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)).astype(float)
    other = gaussian(200, 3, seed=2)
    if spec == "eigenspace_overlap":  # not centred: rows that sum to 1 are no dependence
        assert caveats(spec, outputs, other) == {}
        return
    assert "1 of 5 directions of X are" in caveats(spec, outputs, other)["float32_directions"].text
    sides = {"float32_directions"} if spec != "linear_regression" else set()  # whose second side is not counted
    assert set(caveats(spec, other, outputs)) == sides
    instance = measure(spec)
    states = [instance.prepare(side) for side in (outputs, other)]
    block = instance.examine_block(states, states).caveats
    for i, j in np.ndindex(2, 2):
        one = instance.examine(states[i], states[j]).caveats
        assert [c.text for c in block.get((i, j), ())] == [c.text for c in one]


@pytest.mark.parametrize("spec", COUNTING)
def test_float32_values_that_say_something_need_no_warning(spec):
    x, y = gaussian(60, 6, seed=1), gaussian(60, 3, seed=2)
    sizes = 10.0 ** np.array([-9, -6, -3, 0, 3, 6])  # a small feature is not the rounding of a large one
    for values in (x, x * sizes, x + 1000, np.round(x), (x > 0).astype(float)):
        assert "float32_directions" not in caveats(spec, values.astype("float32").astype(float), y)
    wide = gaussian(300, 120, seed=3).astype("float32")
    normed = (wide - wide.mean(axis=1, keepdims=True)).astype(float)  # as after a layer norm: one direction of 120
    assert np.linalg.matrix_rank(normed) == 120
    assert "float32_directions" not in caveats(spec, normed, gaussian(300, 3, seed=4))


# ---- canonical correlations that any data reach ----------------------------------------------------------------------

FLOORS = [(20, 10, 10, 1), (20, 12, 9, 2), (20, 15, 10, 6), (20, 19, 4, 4), (20, 25, 3, 3), (20, 30, 40, 19)]


@pytest.mark.parametrize(("n", "p1", "p2", "forced"), FLOORS)
@pytest.mark.parametrize("spec", ["cca", "cca:statistic=mean_squared", "svcca:variance=1", "svcca:components=1000"])
def test_cca_floor_has_the_exact_level(spec, n, p1, p2, forced):
    x, y = gaussian(n, p1, seed=1), gaussian(n, p2, seed=2)
    m = min(p1, p2, n - 1)
    found = caveats(spec, x, y)["cca_floor"]
    assert found.level == pytest.approx(forced / m, rel=1e-15)
    ranks = re.search(r"ranks (\d+) \+ (\d+) exceed n - 1 = 19: (\d+) of (\d+) canonical", found.text)
    assert [int(g) for g in ranks.groups()] == [min(p1, n - 1), min(p2, n - 1), forced, m]
    # the floor holds for these unrelated data, and just as many correlations are 1 as it says
    instance = measure(spec)
    assert instance.compare(instance.prepare(x), instance.prepare(y)) >= found.level - 1e-12
    (qx, _), (qy, _) = (np.linalg.qr(side - side.mean(0)) for side in (x, y))
    rho = np.linalg.svd(qx[:, : n - 1].T @ qy[:, : n - 1], compute_uv=False)
    assert int(np.sum(rho[:m] > 1 - 1e-9)) == forced


@pytest.mark.parametrize("spec", ["cca", "svcca:variance=1", "pwcca", "pwcca:weights=mean"])
def test_cca_floor_is_absent_where_subspaces_need_not_meet(spec):
    assert caveats(spec, gaussian(20, 10, seed=1), gaussian(20, 9, seed=2)) == {}


def test_cca_floor_counts_ranks_and_not_widths():
    low = gaussian(20, 3, seed=1) @ gaussian(3, 15, seed=2)
    assert caveats("cca", low, gaussian(20, 15, seed=3)) == {}
    assert "cca_floor" in caveats("cca", low, gaussian(20, 17, seed=3))


def test_svcca_floor_counts_what_was_kept():
    x, y = gaussian(20, 15, seed=1), gaussian(20, 15, seed=2)
    assert "cca_floor" in caveats("svcca", x, y)
    assert caveats("svcca:components=3", x, y) == {}


def test_pwcca_floor_has_a_level_only_where_it_is_known():
    wide = caveats("pwcca", gaussian(20, 19, seed=1), gaussian(20, 4, seed=2))
    assert wide["cca_floor"].level == 1.0
    assert "pwcca_ties" not in wide  # all are 1, so any weights give 1
    some = caveats("pwcca", gaussian(20, 12, seed=1), gaussian(20, 9, seed=2))
    assert some["cca_floor"].level is None
    assert "raised by their weights" in some["cca_floor"].text
    assert "1 of 8 neighbouring" in some["pwcca_ties"].text


# ---- weights that are arbitrary --------------------------------------------------------------------------------------


def with_correlations(rho, n=30, seed=0):
    """Return two representations with the canonical correlations `rho` and mixed features."""
    rng = np.random.default_rng(seed)
    columns = rng.standard_normal((n, 2 * len(rho)))
    q, _ = np.linalg.qr(columns - columns.mean(0))
    u, v = q[:, : len(rho)], q[:, len(rho) :]
    rho = np.asarray(rho)
    mix = rng.standard_normal((len(rho), len(rho)))
    return u @ mix, (rho * u + np.sqrt(1 - rho**2) * v) @ rng.standard_normal((len(rho), len(rho)))


@pytest.mark.parametrize("weights", ["first", "smaller", "mean"])
@pytest.mark.parametrize(
    ("rho", "ties"),
    [([0.9, 0.5, 0.5, 0.1], 1), ([0.8, 0.8, 0.8, 0.2], 2), ([0.9, 0.6, 0.3, 0.1], 0), ([0.7, 0.7, 0.7, 0.7], 0)],
)
def test_pwcca_ties(weights, rho, ties):
    found = caveats(f"pwcca:weights={weights}", *with_correlations(rho))
    if ties:
        assert f"{ties} of 3 neighbouring canonical correlations are equal to 1e-08" in found["pwcca_ties"].text
    assert set(found) == ({"pwcca_ties"} if ties else set())


def test_pwcca_of_equal_correlations_is_that_correlation():
    assert measure("pwcca")(*with_correlations([0.7] * 4)) == pytest.approx(0.7, rel=1e-12)


# ---- levels for unrelated data ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ["linear", "rbf", "laplace", "cosine", "polynomial"])
def test_cka_bias_level_is_the_mean_over_permutations(kernel):
    x, y = related(24, 12, 30, seed=3)
    instance = measure("cka", kernel=kernel)
    level = caveats(instance, x, y)["cka_bias"].level
    rng = np.random.default_rng(0)
    a = instance.prepare(x)
    values = np.array([instance.compare(a, instance.prepare(y[rng.permutation(24)])) for _ in range(400)])
    # five standard errors: one false alarm in two million runs, and the seed is fixed
    assert abs(values.mean() - level) < 5 * values.std() / 20
    assert values.std() > 0


def test_cka_bias_level_matches_gaussian_theory():
    n, p1, p2 = 100, 100, 100
    level = caveats("cka", gaussian(n, p1, seed=1), gaussian(n, p2, seed=2))["cka_bias"].level
    theory = np.sqrt(p1 * p2 / ((n - 1 + p1) * (n - 1 + p2)))
    assert level == pytest.approx(theory, rel=0.02)


@pytest.mark.parametrize("estimator", ["debiased", "zero_diagonal"])
def test_cka_bias_is_absent_without_the_biased_estimator(estimator):
    assert caveats(f"cka:estimator={estimator}", gaussian(20, 50, seed=1), gaussian(20, 50, seed=2)) == {}


def test_cka_bias_names_widths_from_the_number_of_stimuli_on():
    # a spectrum with one large axis has a low level, and still p reaches n
    x = gaussian(60, 60, seed=1, decay=0.2)
    y = gaussian(60, 2, seed=2, decay=0.2)
    found = caveats("cka", x, y)["cka_bias"]
    assert found.level < 0.1
    assert "(n=60, p=60 and 2)" in found.text
    assert caveats("cka", x[:, :59], y) == {}


@pytest.mark.parametrize(("p", "level"), [(9, None), (10, 10 / 19), (15, 15 / 19), (30, 1.0)])
def test_regression_level_counts_the_rank_of_the_predictor(p, level):
    x, y = gaussian(20, p, seed=1), gaussian(20, 3, seed=2)
    found = caveats("linear_regression", x, y)
    if level is None:
        assert found == {}
    else:
        assert found["regression_level"].level == pytest.approx(level, rel=1e-15)
        assert f"X has rank {min(p, 19)} on 20 stimuli" in found["regression_level"].text
    assert caveats("linear_regression", y, x) == {}


# ---- truncation and ties of neighbours -------------------------------------------------------------------------------


def test_components_limited_where_the_rank_allows_no_more():
    low = gaussian(30, 2, seed=1) @ gaussian(2, 6, seed=2)
    full = gaussian(30, 6, seed=3)
    found = caveats("svcca:components=3", low, full)
    assert set(found) == {"components_limited"}
    assert "3 components were asked for; 2 and 3 are compared" in found["components_limited"].text
    assert caveats("svcca:components=2", low, full) == {}
    assert caveats("svcca:variance=1", low, full) == {}


def test_knn_ties_count_the_rows_and_take_lower_indices():
    # six points on a line: the neighbours of inner points at k = 1 are equally far
    line = np.arange(6.0)[:, None]
    spread = np.array([0.0, 1, 3, 7, 15, 31])[:, None]
    found = caveats("mutual_knn:k=1,metric=euclidean", line, spread)
    assert set(found) == {"knn_ties"}
    assert "4 and 0 of 6 stimuli have more than k=1 nearest" in found["knn_ties"].text
    state = measure("mutual_knn:k=1,metric=euclidean").prepare(line)
    assert state.indices[:, 0].tolist() == [1, 0, 1, 2, 3, 4]
    assert caveats("mutual_knn:k=1,metric=euclidean", spread, spread + 1.0) == {}


def test_knn_ties_inside_the_neighbourhood_do_not_matter():
    # at k = 2 the two neighbours of an inner point are equally far, and both are in; the end points have 1 and 2
    line = np.array([0.0, 1, 2, 4.1, 8.3, 16.9])[:, None]
    state = measure("mutual_knn:k=2,metric=euclidean").prepare(line)
    assert state.indices[1].tolist() == [0, 2]
    assert state.ties == 0


def test_knn_ties_of_multiples_under_the_cosine():
    rows = np.random.default_rng(0).standard_normal((8, 3))
    x = np.concatenate([rows, 3 * rows, 7 * rows, 0.1 * rows])
    state = measure("mutual_knn:k=2").prepare(x)
    assert state.ties == 32  # three multiples are equally near, two are taken
    assert state.indices[0].tolist() == [8, 16]
    assert state.indices[16].tolist() == [0, 8]


# ---- what a caveat is ------------------------------------------------------------------------------------------------


def test_a_warning_carries_its_caveat():
    with pytest.warns(CongruenceWarning, match=r"cca_floor: ranks 10 \+ 10 exceed n - 1 = 19") as caught:
        measure("cca")(gaussian(20, 10, seed=1), gaussian(20, 10, seed=2))
    warning = caught[0].message
    assert warning.code == "cca_floor"
    assert warning.caveat.level == pytest.approx(0.1)
    assert str(warning.caveat) == str(warning)
    assert CongruenceWarning("mind the gap").caveat == Caveat("note", "mind the gap", None)
    copy = pickle.loads(pickle.dumps(warning.caveat))
    assert copy == warning.caveat
