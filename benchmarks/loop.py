"""The pair loop that ratios refer to: what a pair costs if nothing is shared, in NumPy and SciPy on all cores.

Columns are centred beforehand where a formula needs that. CKA takes XᵀY, XᵀX, YᵀY; RBF CKA both Gram matrices and
medians; CCA the economic QR of both and singular values; SVCCA the singular value decomposition of both and singular
values; Procrustes the singular values of XᵀY; RSA the correlations and ranks of both; nearest neighbours both
similarity matrices and a partition.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import numpy as np
import scipy.linalg
import scipy.stats

from benchmarks.measuring import Array


def _cka(x: Array, y: Array) -> float:
    return float(np.sum((x.T @ y) ** 2) / np.sqrt(np.sum((x.T @ x) ** 2) * np.sum((y.T @ y) ** 2)))


def _kernel(x: Array) -> Array:
    gram = x @ x.T
    squares = np.diag(gram)
    distances = np.maximum(squares[:, None] + squares[None, :] - 2 * gram, 0)
    median = np.median(np.sqrt(distances[np.triu_indices(len(x), 1)]))
    kernel = np.exp(-distances / (2 * (0.4 * median) ** 2))
    kernel -= kernel.mean(axis=0)
    return kernel - kernel.mean(axis=1, keepdims=True)


def _rbf_cka(x: Array, y: Array) -> float:
    k, m = _kernel(x), _kernel(y)
    return float(np.sum(k * m) / np.sqrt(np.sum(k * k) * np.sum(m * m)))


def _basis(x: Array) -> Array:
    return scipy.linalg.qr(x, mode="economic")[0]


def _cca(x: Array, y: Array) -> float:
    return float(np.mean(np.minimum(scipy.linalg.svdvals(_basis(x).T @ _basis(y)), 1)))


def _squared_cca(x: Array, y: Array) -> float:
    return float(np.sum((_basis(x).T @ _basis(y)) ** 2) / min(x.shape[1], y.shape[1]))


def _leading(x: Array) -> Array:
    left, singular, _ = scipy.linalg.svd(x, full_matrices=False)
    share = np.cumsum(singular**2) / np.sum(singular**2)
    return left[:, : int(np.searchsorted(share, 0.99)) + 1]


def _svcca(x: Array, y: Array) -> float:
    return float(np.mean(np.minimum(scipy.linalg.svdvals(_leading(x).T @ _leading(y)), 1)))


def _pwcca(x: Array, y: Array) -> float:
    basis = _basis(x)
    left, rho, _ = scipy.linalg.svd(basis.T @ _basis(y), full_matrices=False)
    weights = np.abs((basis @ left).T @ x).sum(axis=1)
    return float(weights @ np.minimum(rho, 1) / weights.sum())


def _procrustes(x: Array, y: Array) -> float:
    nuclear = scipy.linalg.svdvals(x.T @ y).sum()
    return float(np.arccos(min(1.0, nuclear / (np.linalg.norm(x) * np.linalg.norm(y)))))


def _ranks(x: Array) -> Array:
    return scipy.stats.rankdata(1 - np.corrcoef(x)[np.triu_indices(len(x), 1)])


def _rsa(x: Array, y: Array) -> float:
    return float(np.corrcoef(_ranks(x), _ranks(y))[0, 1])


def _neighbours(x: Array) -> Array:
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    return np.argpartition(-similarity, 10, axis=1)[:, :10]


def _mutual_knn(x: Array, y: Array) -> float:
    common = _neighbours(x)[:, :, None] == _neighbours(y)[:, None, :]
    return float(common.sum() / (10 * len(x)))


LOOP: dict[str, tuple[Callable[[Array, Array], float], bool]] = {  # and whether it takes centred columns
    "cka": (_cka, True),
    "cka:kernel=rbf": (_rbf_cka, True),
    "cca": (_cca, True),
    "cca:statistic=mean_squared": (_squared_cca, True),
    "svcca": (_svcca, True),
    "pwcca": (_pwcca, True),
    "procrustes": (_procrustes, True),
    "rsa": (_rsa, False),
    "mutual_knn": (_mutual_knn, False),
}


def time_pairs(label: str, pairs: Iterable[tuple[Array, Array]]) -> tuple[list[float], list[float]]:
    """Return the seconds and the value of every pair."""
    formula, centred = LOOP[label]
    times, values = [], []
    for pair in pairs:
        x, y = (v - v.mean(axis=0) if centred else v for v in pair)
        start = time.perf_counter()
        values.append(formula(x, y))
        times.append(time.perf_counter() - start)
    return times, values
