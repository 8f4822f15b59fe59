"""Identities between measures: Kornblith et al. 2019 (Table 1, eqs 11-14, appendices C and D), and limits of kernels."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import scipy.linalg

from congruence.errors import CongruenceWarning
from congruence.measures import measure
from congruence.testing import gaussian, related, transform

pytestmark = pytest.mark.filterwarnings("ignore::congruence.errors.CongruenceWarning")

N = 40
PAIRS = {
    "equal widths": related(N, 5, 5, seed=1),
    "wider Y": related(N, 4, 9, seed=2),
    "wider X": related(N, 8, 3, seed=3),
    "rank-deficient": (gaussian(N, 3, seed=4) @ gaussian(3, 7, seed=5), related(N, 4, 6, seed=6)[1]),
    "n < p": related(N, 50, 60, seed=7),
}
pairs = pytest.mark.parametrize(("x", "y"), PAIRS.values(), ids=PAIRS)

# all identities are exact; eps x condition of the data (< 1e3), with room
EXACT = {"rel": 1e-11, "abs": 1e-12}


def centred(x):
    return x - x.mean(axis=0)


def axes(x):
    """U, s of the centred data, restricted to its rank."""
    u, s, _ = scipy.linalg.svd(centred(x), full_matrices=False)
    return u[:, s > 1e-10 * s[0]], s[s > 1e-10 * s[0]]


def gram_cosine(k, m):
    return np.sum(k * m) / (np.linalg.norm(k) * np.linalg.norm(m))


@pairs
def test_inner_product_of_grams_is_the_energy_of_the_cross_product(x, y):
    x, y = centred(x), centred(y)
    energy = np.linalg.norm(y.T @ x) ** 2
    assert np.sum((x @ x.T) * (y @ y.T)) == pytest.approx(energy, **EXACT)
    by_features = energy / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))
    assert measure("cka")(x, y) == pytest.approx(by_features, **EXACT)


@pairs
def test_linear_cka_weights_principal_axes_by_their_variance(x, y):
    (u, s), (v, t) = axes(x), axes(y)
    overlap = (u.T @ v) ** 2
    wanted = (s**2 @ overlap @ t**2) / (np.linalg.norm(s**2) * np.linalg.norm(t**2))
    assert measure("cka")(x, y) == pytest.approx(wanted, **EXACT)


@pairs
def test_mean_squared_cca_is_cka_of_projectors(x, y):
    (u, s), (v, t) = axes(x), axes(y)
    p1, p2 = sorted((len(s), len(t)))
    wanted = gram_cosine(u @ u.T, v @ v.T) * math.sqrt(p2 / p1)
    assert measure("cca:statistic=mean_squared")(x, y) == pytest.approx(wanted, **EXACT)
    # whitened data have projectors as their Gram matrices
    assert measure("cka")(u, v) * math.sqrt(p2 / p1) == pytest.approx(wanted, **EXACT)


@pairs
def test_regression_is_cka_with_a_projector(x, y):
    """Eq. 12, which prints √p1 where √rank(Y) is right."""
    (_, s), (v, t) = axes(x), axes(y)
    factor = np.linalg.norm(s**2) / np.sum(s**2)
    value = measure("linear_regression")(y, x)  # fits X from Y
    assert value == pytest.approx(measure("cka")(x, v) * math.sqrt(len(t)) * factor, **EXACT)
    if len(s) != len(t):
        assert value != pytest.approx(measure("cka")(x, v) * math.sqrt(len(s)) * factor, rel=1e-3)


@pytest.mark.parametrize("name", ["equal widths", "wider Y"])
def test_pwcca_with_squares_is_regression(name):
    """Replacing |·| by (·)² and ρ by ρ² gives R²_LR, for p1 <= p2."""
    x, y = PAIRS[name]
    (u, _), (v, _) = axes(x), axes(y)
    left, rho, _ = scipy.linalg.svd(u.T @ v)
    h = u @ left  # canonical variables
    alpha = np.sum((h.T @ centred(x)) ** 2, axis=1)[: len(rho)]
    squared = np.sum(alpha * rho**2) / np.sum(alpha)
    assert measure("linear_regression")(y, x) == pytest.approx(squared, **EXACT)
    # and with the absolute values themselves it is PWCCA
    weights = np.sum(np.abs(h.T @ centred(x)), axis=1)[: len(rho)]
    assert measure("pwcca")(x, y) == pytest.approx(np.sum(weights * rho) / np.sum(weights), **EXACT)


@pytest.mark.parametrize("seed", range(3))
def test_pwcca_is_not_invariant_to_rotations_of_the_weighting_side(seed):
    """A table of the literature says it is; the weights are sums of absolute values over features, which turn."""
    x, y = related(N, 4, 6, seed=seed)
    turned = transform("orthogonal", x, seed=seed)
    assert abs(measure("pwcca")(turned, y) - measure("pwcca")(x, y)) > 1e-4
    # the other side may undergo any invertible map
    assert measure("pwcca")(x, transform("invertible_linear", y)) == pytest.approx(measure("pwcca")(x, y), **EXACT)
    # with squares in place of absolute values, rotations would change nothing
    assert measure("linear_regression")(y, turned) == pytest.approx(measure("linear_regression")(y, x), **EXACT)


@pytest.mark.parametrize("name", ["equal widths", "wider Y", "rank-deficient"])
def test_canonical_ridge_interpolates_between_cca_and_cka(name):
    """Q̃ = U Σ (Σ² + κI)^{-1/2}: R²_CCA at κ = 0, linear CKA for κ to infinity."""
    x, y = PAIRS[name]
    (u, s), (v, t) = axes(x), axes(y)

    def ridge(kappa):
        return (u * s / np.sqrt(s**2 + kappa), v * t / np.sqrt(t**2 + kappa))

    a, b = ridge(0.0)
    at_zero = np.linalg.norm(a.T @ b) ** 2 / min(len(s), len(t))
    assert measure("cca:statistic=mean_squared")(x, y) == pytest.approx(at_zero, **EXACT)
    kappa = 1e8 * max(s[0], t[0]) ** 2  # leaves relative differences of 1e-8
    assert measure("cka")(*ridge(kappa)) == pytest.approx(measure("cka")(x, y), rel=1e-7)
    between = measure("cka")(*ridge(s[0] * s[-1]))
    ends = sorted((measure("cka")(x, y), measure("cka")(a, b)))
    assert abs(between - ends[0]) > 1e-6
    assert abs(between - ends[1]) > 1e-6


@pytest.mark.parametrize("spec", ["cca", "cca:statistic=mean_squared", "linear_regression"])
def test_invariance_to_invertible_maps_says_nothing_where_p_reaches_n(spec):
    """Theorem 1: if s ignores invertible linear maps of X, and X and Y have full rank n - 1, then s(X, Z) = s(Y, Z)."""
    x, y = gaussian(15, 20, seed=1), gaussian(15, 14, seed=2)
    for z in (gaussian(15, 3, seed=3), gaussian(15, 30, seed=4)):
        assert measure(spec)(x, z) == pytest.approx(1.0, abs=1e-12)
        assert measure(spec)(y, z) == pytest.approx(1.0, abs=1e-12)
    with pytest.warns(CongruenceWarning, match="cca_floor|regression_level"):
        measure(spec)(x, gaussian(15, 3, seed=3))


@pairs
def test_procrustes_distance_is_what_the_nuclear_norm_says(x, y):
    x, y = centred(x), centred(y)
    nuclear = np.linalg.norm(x.T @ y, "nuc")
    sizes = np.linalg.norm(x), np.linalg.norm(y)
    cosine = nuclear / (sizes[0] * sizes[1])
    assert measure("procrustes")(x, y) == pytest.approx(math.acos(cosine), **EXACT)
    assert measure("procrustes:form=normalised")(x, y) == pytest.approx(math.sqrt(2 - 2 * cosine), **EXACT)
    assert measure("procrustes:form=squared")(x, y) == pytest.approx(2 - 2 * cosine, **EXACT)
    sized = math.sqrt(sizes[0] ** 2 + sizes[1] ** 2 - 2 * nuclear)
    assert measure("procrustes:form=size_and_shape")(x, y) == pytest.approx(sized, **EXACT)


@pairs
def test_shape_metric_ends_at_procrustes_and_at_the_sum_of_canonical_correlations(x, y):
    assert measure("shape")(x, y) == pytest.approx(measure("procrustes")(x, y), **EXACT)
    (u, s), (v, t) = axes(x), axes(y)
    rho = np.clip(scipy.linalg.svdvals(u.T @ v), 0, 1)
    wanted = math.acos(min(1.0, rho.sum() / math.sqrt(len(s) * len(t))))
    # arccos of a cosine that is rounded at 1e-16: 1e-8 where it is near 1
    assert measure("shape:alpha=0")(x, y) == pytest.approx(wanted, abs=1e-11 if wanted > 1e-3 else 3e-8)


@pairs
def test_cosine_of_centred_data_is_the_rv_coefficient(x, y):
    sxy, sxx, syy = (np.cov(np.hstack([a, b]).T)[: a.shape[1], a.shape[1] :] for a, b in ((x, y), (x, x), (y, y)))
    rv = np.trace(sxy @ sxy.T) / math.sqrt(np.trace(sxx @ sxx) * np.trace(syy @ syy))
    assert measure("cka")(x, y) == pytest.approx(rv, **EXACT)


@pytest.mark.parametrize("estimator", ["biased", "debiased", "zero_diagonal"])
def test_wide_rbf_kernels_become_linear(estimator):
    """Alvarez 2021: exp(-d²/2σ²) - 1 is -d²/2σ² up to (d/σ)⁴, and centred squared distances are linear Gram matrices."""
    x, y = PAIRS["wider Y"]
    linear = measure("cka", estimator=estimator)(x, y)
    differences = [
        abs(measure("cka", kernel="rbf", estimator=estimator, bandwidth=width)(x, y) - linear)
        for width in (10.0, 100.0, 1e3, 1e6, 1e9)
    ]
    assert differences[0] < 0.05
    assert differences[2] == pytest.approx(differences[1] / 100, rel=0.1)  # the error falls with σ²
    assert max(differences[3:]) < 1e-11  # nothing is lost where the kernel is 1 - 1e-18


def test_wide_laplace_kernels_become_those_of_the_distance():
    x, y = PAIRS["wider Y"]
    grams = []
    for side in (x, y):
        distances = np.linalg.norm(side[:, None] - side[None], axis=2)
        grams.append(distances - distances.mean(0) - distances.mean(1)[:, None] + distances.mean())
    wanted = gram_cosine(*grams)
    assert measure("cka:kernel=laplace,bandwidth=1e9")(x, y) == pytest.approx(wanted, rel=1e-8)


def test_narrow_kernels_find_everything_alike():
    x, y = PAIRS["wider Y"]
    for kernel in ("rbf", "laplace"):
        assert measure("cka", kernel=kernel, bandwidth=0.01)(x, y) == pytest.approx(1.0, abs=1e-3)


@pairs
def test_polynomial_kernel_of_degree_one_is_linear(x, y):
    for estimator in ("biased", "debiased", "zero_diagonal"):
        linear = measure("cka", estimator=estimator)(x, y)
        found = measure("cka", kernel="polynomial", degree=1, estimator=estimator)(x, y)
        assert found == pytest.approx(linear, **EXACT)


@pairs
def test_svcca_that_keeps_everything_is_cca(x, y):
    for statistic in ("mean", "mean_squared"):
        wanted = measure("cca", statistic=statistic)(x, y)
        assert measure("svcca", variance=1, statistic=statistic)(x, y) == pytest.approx(wanted, **EXACT)
        many = measure("svcca", components=1000, statistic=statistic)
        assert many(x, y) == pytest.approx(wanted, **EXACT)


def test_thresholds_on_variance_and_on_singular_values_differ():
    """Raghu et al. say variance in the text and sum singular values in the appendix."""
    x = gaussian(60, 6, seed=1, decay=0.6)
    y = related(60, 6, 6, seed=2)[0]
    singular = scipy.linalg.svdvals(centred(x))
    by_variance = 1 + np.sum(np.cumsum(singular**2) < 0.9 * np.sum(singular**2))
    by_values = 1 + np.sum(np.cumsum(singular) < 0.9 * np.sum(singular))
    assert by_variance < by_values
    for threshold_on, count in (("variance", by_variance), ("singular_values", by_values)):
        instance = measure("svcca", variance=0.9, threshold_on=threshold_on)
        assert instance.prepare(x).rank == count
    assert measure("svcca:variance=0.9")(x, y) != measure("svcca:variance=0.9,threshold_on=singular_values")(x, y)


def test_pwcca_of_either_side():
    x, y = PAIRS["wider Y"]
    first, swapped = measure("pwcca")(x, y), measure("pwcca")(y, x)
    assert abs(first - swapped) > 1e-4
    assert measure("pwcca:weights=mean")(x, y) == pytest.approx((first + swapped) / 2, **EXACT)
    assert measure("pwcca:weights=smaller")(x, y) == pytest.approx(first, **EXACT)
    assert measure("pwcca:weights=smaller")(y, x) == pytest.approx(first, **EXACT)


def test_rsa_of_squared_euclidean_distances_is_cka_without_centring_of_rows():
    """Pearson's correlation of whole centred distance matrices is linear CKA; the triangle leaves the diagonal out."""
    x, y = PAIRS["equal widths"]
    full = []
    for side in (x, y):
        d = np.linalg.norm(side[:, None] - side[None], axis=2) ** 2
        full.append(d - d.mean(0) - d.mean(1)[:, None] + d.mean())
    assert gram_cosine(*full) == pytest.approx(measure("cka")(x, y), **EXACT)
    with warnings.catch_warnings():
        warnings.simplefilter("error", CongruenceWarning)
        assert -1 < measure("rsa:rdm=squared_euclidean,compare=pearson")(x, y) < 1
