"""Clusters of networks by their distances, how stable they are, and whether they match labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from congruence.dynamics._relabelling import Floats
from congruence.errors import DegenerateError, ParameterError
from congruence.validate import require_extra

Integers = np.ndarray[Any, np.dtype[np.int64]]
Method = Literal["average", "complete", "spectral"]


@dataclass(frozen=True, eq=False)
class Clusters:
    """Clusters of networks.

    Attributes
    ----------
    assigned : ndarray of int, shape (networks,)
        Cluster of each network.
    count : int
        How many clusters.
    silhouette : float
        Mean silhouette, in [-1, 1]: 1 for clusters that are small against their distances, about 0 for none.
    stability : float
        Mean adjusted Rand index between the clusters of four fifths of the networks, drawn at random, and the clusters of
        all on the same networks; 1 if they never change.
    stability_low, stability_high : float
        The middle 95 % over the draws.
    agreement : float
        Adjusted Rand index with the labels: 1 the same partition, 0 what chance gives. NaN without labels.
    p : float
        Share of relabellings of the networks (drawn, the true one counted) that agree at least as well; NaN without labels.
    """

    assigned: Integers
    count: int
    silhouette: float
    stability: float
    stability_low: float
    stability_high: float
    agreement: float
    p: float


def cluster_networks(
    distances: Floats,
    labels: Sequence[str] | None = None,
    *,
    count: int | None = None,
    method: Method = "average",
    draws: int = 100,
    permutations: int = 2000,
    seed: int = 0,
) -> Clusters:
    """Cluster networks by their distances.

    Parameters
    ----------
    distances : ndarray, shape (networks, networks)
        Symmetric.
    labels : sequence of str, shape (networks,), optional
        What the clusters are compared with, such as learning rates.
    count : int, optional
        How many clusters; by default as many as there are labels. 0 takes the number from 2 to 10 with the largest mean
        silhouette.
    method : {"average", "complete", "spectral"}
        Hierarchical, by the average or the largest distance of two clusters (the average sets single outliers apart); or
        spectral, with affinities exp(-(d / median d)² / 2).
    draws, permutations : int
        Draws for the stability, and relabellings for p.
    seed : int
        Of both.

    Raises
    ------
    ParameterError
        If there are not more networks than clusters, or neither labels nor a number of clusters.
    DegenerateError
        If a distance is NaN: a network that cannot be compared has no cluster.
    MissingExtraError
        If scikit-learn is not installed (extra ``bench``).
    """
    metrics = require_extra("sklearn.metrics", "bench", "Clustering")
    apart = np.array(distances, dtype=float)
    np.fill_diagonal(apart, 0.0)
    if np.isnan(apart).any():
        first = int(np.argmax(np.isnan(apart).any(axis=1)))
        message = f"The distances of network {first} to others are NaN, so it cannot be clustered. Leave it out, or see why its pairs failed."
        raise DegenerateError(message)
    wanted = len(set(labels)) if labels is not None and count is None else count
    if wanted is None:
        message = "Give labels, or the number of clusters (count=0 chooses it by the silhouette)."
        raise ParameterError(message)
    if wanted == 0:
        scores = {k: _silhouette(apart, _assign(apart, k, method)) for k in range(2, min(10, len(apart) - 1) + 1)}
        wanted = max(scores, key=lambda k: scores[k])
    if not 2 <= wanted < len(apart):
        message = f"The number of clusters must be from 2 to {len(apart) - 1}, fewer than the {len(apart)} networks; got {wanted}."
        raise ParameterError(message)
    assigned, rng = _assign(apart, wanted, method), np.random.default_rng(seed)
    stable = [_redrawn(apart, assigned, wanted, method, rng) for _ in range(draws)]
    low, high = np.percentile(stable, [2.5, 97.5])
    agreement, p = np.nan, np.nan
    if labels is not None:
        agreement = float(metrics.adjusted_rand_score(labels, assigned))
        p = _chance_of_agreement(np.unique(labels, return_inverse=True)[1], assigned, permutations, rng)
    return Clusters(assigned, wanted, _silhouette(apart, assigned), float(np.mean(stable)), float(low), float(high), agreement, p)  # fmt: skip


def agreement(
    labels: Sequence[Any], assigned: Sequence[Any], *, permutations: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Return how well two partitions of networks agree: the adjusted Rand index, and its p.

    Parameters
    ----------
    labels, assigned : sequence, shape (networks,)
        Part of each network in either partition.
    permutations, seed : int
        Relabellings of the networks, and the seed of their draw; p is the share that agree at least as well, the true
        one counted.
    """
    metrics = require_extra("sklearn.metrics", "bench", "Comparing clusters")
    first, second = (np.unique(np.asarray(parts), return_inverse=True)[1] for parts in (labels, assigned))
    p = _chance_of_agreement(first, second, permutations, np.random.default_rng(seed))
    return float(metrics.adjusted_rand_score(labels, assigned)), p


def _assign(apart: Floats, count: int, method: Method) -> Integers:
    """Return the cluster of each network."""
    cluster = require_extra("sklearn.cluster", "bench", "Clustering")
    if method == "spectral":
        middle = float(np.median(apart[np.triu_indices(len(apart), 1)])) or 1.0
        near = np.exp(-((apart / middle) ** 2) / 2)
        model, given = cluster.SpectralClustering(count, affinity="precomputed", random_state=0), near
    else:
        model, given = cluster.AgglomerativeClustering(count, metric="precomputed", linkage=method), apart
    return np.asarray(model.fit_predict(given), dtype=np.int64)


def _chance_of_agreement(labels: Integers, assigned: Integers, permutations: int, rng: np.random.Generator) -> float:
    """Return the share of relabellings whose adjusted Rand index is at least as large, the true one counted.

    Between relabellings the index differs only in how many pairs are together in both partitions.
    """
    width = int(assigned.max()) + 1

    def together(relabelled: Integers) -> int:
        counts = np.bincount(relabelled * width + assigned)
        return int((counts * (counts - 1)).sum())

    observed = together(labels)
    as_large = sum(together(rng.permutation(labels)) >= observed for _ in range(permutations))
    return (1 + as_large) / (1 + permutations)


def _silhouette(apart: Floats, assigned: Integers) -> float:
    metrics = require_extra("sklearn.metrics", "bench", "Clustering")
    return float(metrics.silhouette_score(apart, assigned, metric="precomputed"))


def _redrawn(apart: Floats, assigned: Integers, count: int, method: Method, rng: np.random.Generator) -> float:
    """Return how well the clusters of four fifths of the networks match those of all."""
    metrics = require_extra("sklearn.metrics", "bench", "Clustering")
    size = max(count + 1, round(0.8 * len(apart)))
    some = rng.choice(len(apart), size, replace=False)
    return float(metrics.adjusted_rand_score(assigned[some], _assign(apart[np.ix_(some, some)], count, method)))
