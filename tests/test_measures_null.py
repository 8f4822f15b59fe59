"""What measures give for unrelated data: expectations from theory, by simulation with fixed seeds.

Every mean is compared within five standard errors, so one of these tests would fail by chance in two million runs with
other seeds (normal tails); the seeds are fixed, so none does.
"""

from __future__ import annotations

import numpy as np
import pytest

from congruence.measures import measure

pytestmark = pytest.mark.filterwarnings("ignore::congruence.errors.CongruenceWarning")

RUNS = 150


def null(spec, n, p1, p2, seed=0):
    """Return the values of `RUNS` pairs of independent normal representations."""
    rng = np.random.default_rng(seed)
    instance = measure(spec)
    return np.array([instance(rng.standard_normal((n, p1)), rng.standard_normal((n, p2))) for _ in range(RUNS)])


def assert_mean(values, wanted, slack=0.0):
    assert values.std() > 0
    assert abs(values.mean() - wanted) < 5 * values.std() / np.sqrt(len(values)) + slack


@pytest.mark.parametrize(("n", "p1", "p2"), [(40, 4, 7), (60, 10, 10), (30, 3, 20)])
def test_mean_squared_cca(n, p1, p2):
    assert_mean(null("cca:statistic=mean_squared", n, p1, p2), max(p1, p2) / (n - 1))


@pytest.mark.parametrize(("n", "p1", "p2"), [(40, 4, 7), (40, 7, 4), (25, 12, 30)])
def test_regression(n, p1, p2):
    assert_mean(null("linear_regression", n, p1, p2), p1 / (n - 1))


@pytest.mark.parametrize(("n", "p1", "p2"), [(50, 50, 50), (50, 20, 80), (30, 150, 150)])
def test_biased_cka(n, p1, p2):
    wanted = np.sqrt(p1 * p2 / ((n - 1 + p1) * (n - 1 + p2)))
    # the formula is the ratio of expectations, the mean that of a ratio: they differ by O(1/n²)
    assert_mean(null("cka", n, p1, p2), wanted, slack=5 / n**2)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize(("n", "p"), [(30, 10), (30, 150)])
def test_debiased_cka_is_centred_on_zero(kernel, n, p):
    values = null(f"cka:kernel={kernel},estimator=debiased", n, p, p)
    assert_mean(values, 0.0)
    assert values.min() < 0


@pytest.mark.parametrize(("n", "p"), [(30, 100), (60, 30)])
def test_zero_diagonal_cka_keeps_a_small_bias(n, p):
    """Permuting one side, tr(KL) is trK trL / (n - 1) on average and k·l is trK trL / n; the rest is 1/n of it."""
    biased, zeroed = null("cka", n, p, p), null("cka:estimator=zero_diagonal", n, p, p)
    rng = np.random.default_rng(1)
    x = rng.standard_normal((n, p))
    x -= x.mean(axis=0)
    gram = x @ x.T
    off = gram - np.diag(np.diag(gram))
    wanted = np.trace(gram) ** 2 / (n * (n - 1) * np.sum(off**2))
    # one draw stands for the expectation here: its ratio varies by about 2 / n
    assert_mean(zeroed, wanted, slack=2 * wanted / n)
    assert zeroed.mean() < 0.2 * biased.mean()


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("k", [3, 10])
def test_mutual_neighbours(metric, k):
    assert_mean(null(f"mutual_knn:k={k},metric={metric}", 40, 6, 6), k / 39)


@pytest.mark.parametrize("compare", ["spearman", "pearson", "kendall"])
@pytest.mark.parametrize("rdm", ["correlation", "euclidean"])
def test_rsa(rdm, compare):
    # kendall is slow to compute, so n is small
    assert_mean(null(f"rsa:rdm={rdm},compare={compare}", 16, 6, 6), 0.0)


def test_mean_cca_of_one_column_is_the_mean_of_an_absolute_correlation():
    n = 30
    # |r| of independent normal pairs: r² is Beta(1/2, (n-2)/2), so E|r| = Γ((n-1)/2) / (√π Γ(n/2))
    from scipy.special import gammaln

    wanted = np.exp(gammaln((n - 1) / 2) - gammaln(n / 2)) / np.sqrt(np.pi)
    assert_mean(null("cca", n, 1, 1), wanted)
    assert_mean(null("pwcca", n, 1, 1), wanted)
