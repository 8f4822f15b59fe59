"""Means of distances within and between groups of networks, relabelled and left out one network at a time.

The unit is the network, not the pair: pairs that share a network are not independent, so a p-value that counts pairs is
far too small.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]
Labels = np.ndarray[Any, np.dtype[np.int64]]
Kind = Literal["separation", "spread"]

BATCH = 1000
"""Relabellings at a time: bounds the memory."""


@dataclass(frozen=True)
class Contrast:
    """What is tested: whether groups lie apart, or whether one is more spread out than another.

    Parameters
    ----------
    kind : {"separation", "spread"}
        ``separation``: over pairs of the groups, the mean distance between both less the average of their mean distances
        within (of one, where the other has a single network); averaged over pairs of groups. One-sided.
        ``spread``: mean distance within the second group less that within the first. Two-sided.
    groups : tuple of int
        Which groups; two for ``spread``.
    """

    kind: Kind
    groups: tuple[int, ...]

    def of(self, means: Floats, sizes: Sequence[int]) -> Floats:
        """Return the contrast.

        Parameters
        ----------
        means : ndarray, shape (..., groups, groups)
            Mean distances of the groups of the contrast, numbered from 0.
        sizes : sequence of int
            Networks in each, which decide what has a distance within: the same for every labelling.
        """
        if self.kind == "spread":
            return np.asarray(means[..., 1, 1] - means[..., 0, 0])
        parts = []
        for pair in combinations(range(len(sizes)), 2):
            several = [group for group in pair if sizes[group] > 1]
            if several:
                within = np.mean([means[..., group, group] for group in several], axis=0)
                parts.append(means[..., pair[0], pair[1]] - within)
        return np.asarray(np.mean(parts, axis=0))


def group_means(distances: Floats, labels: Labels, count: int) -> Floats:
    """Return mean distances within and between groups for many labellings, shape (labellings, groups, groups).

    Parameters
    ----------
    distances : ndarray, shape (networks, networks)
        Symmetric, without NaN; the diagonal is left out.
    labels : ndarray of int, shape (labellings, networks)
        Group of each network; -1 leaves a network out.
    count : int
        How many groups there are.

    Returns
    -------
    ndarray
        NaN where there is no pair.
    """
    apart = distances - np.diag(np.diag(distances))
    member = (labels[:, :, None] == np.arange(count)).astype(float)  # (labellings, networks, groups)
    sums = np.swapaxes(member, 1, 2) @ (apart @ member)
    sizes = member.sum(axis=1)
    pairs = sizes[:, :, None] * sizes[:, None, :] - sizes[:, :, None] * np.eye(count)
    return np.asarray(np.divide(sums, pairs, out=np.full_like(sums, np.nan), where=pairs > 0))


def number_of_relabellings(sizes: Sequence[int]) -> int:
    """Return in how many ways networks can be dealt to groups of these sizes."""
    return math.prod(math.comb(sum(sizes[k:]), size) for k, size in enumerate(sizes))


def relabellings(sizes: Sequence[int], most: int, seed: int) -> tuple[Labels, bool]:
    """Return labellings of networks, shape (labellings, networks), and whether they are all there are.

    All, the given one among them, if there are at most `most`; otherwise `most` drawn at random.
    """
    labels = np.repeat(np.arange(len(sizes)), sizes)
    if number_of_relabellings(sizes) <= most:
        return np.array(list(_all(tuple(range(len(labels))), sizes, len(labels)))), True
    rng = np.random.default_rng(seed)
    return rng.permuted(np.tile(labels, (most, 1)), axis=1), False


def _all(free: tuple[int, ...], sizes: Sequence[int], total: int, group: int = 0) -> Iterator[Labels]:
    """Yield every labelling of the networks `free` with the groups from `group` on."""
    if group == len(sizes) - 1:
        labels = np.full(total, -1, dtype=np.int64)
        labels[list(free)] = group
        yield labels
        return
    for chosen in combinations(free, sizes[group]):
        rest = tuple(network for network in free if network not in chosen)
        for labels in _all(rest, sizes, total, group + 1):
            labels[list(chosen)] = group
            yield labels


def p_value(contrast: Contrast, distances: Floats, sizes: Sequence[int], labels: Labels, *, exact: bool) -> float:
    """Return the share of relabellings whose contrast is at least as large as that of the true labels; never 0.

    Exact: the true labelling is among them. Sampled: it is counted as one more.
    """
    true = np.repeat(np.arange(len(sizes)), sizes)[None]
    observed = float(contrast.of(group_means(distances, true, len(sizes)), sizes)[0])
    found = np.concatenate(
        [
            contrast.of(group_means(distances, labels[at : at + BATCH], len(sizes)), sizes)
            for at in range(0, len(labels), BATCH)
        ]
    )
    if contrast.kind == "spread":
        observed, found = abs(observed), np.abs(found)
    # Relabellings that mirror the true one give the same number up to rounding.
    as_large = int((found >= observed - 1e-9 * float(np.abs(distances).max())).sum())
    return as_large / len(found) if exact else (1 + as_large) / (1 + len(found))


def interval(contrast: Contrast | tuple[int, int], distances: Floats, sizes: Sequence[int]) -> tuple[float, float]:
    """Return a 95 % interval by leaving out one network at a time, NaN where too few are left.

    Delete-one jackknife over the networks of every group (Arvesen 1969, for U-statistics of several samples), with the
    t distribution whose degrees of freedom are those of the smallest group.

    Parameters
    ----------
    contrast : Contrast or tuple of int
        A contrast, or the groups whose mean distance is meant (twice the same for within).
    distances : ndarray, shape (networks, networks)
        Symmetric, without NaN, networks in order of their groups.
    sizes : sequence of int
        Networks in each group.
    """
    involved = set(range(len(sizes))) if isinstance(contrast, Contrast) else set(contrast)

    def value(means: Floats) -> Floats:
        return contrast.of(means, sizes) if isinstance(contrast, Contrast) else means[:, contrast[0], contrast[1]]

    return jackknife(value, involved, distances, sizes)


def jackknife(
    value: Callable[[Floats], Floats], involved: Iterable[int], distances: Floats, sizes: Sequence[int]
) -> tuple[float, float]:
    """Return the 95 % interval of `interval` for any function of the mean distances.

    Parameters
    ----------
    value : callable
        Of mean distances within and between groups, shape (labellings, groups, groups), gives shape (labellings,).
    involved : iterable of int
        The groups that it depends on.
    distances, sizes
        See `interval`.
    """
    from scipy.stats import t

    labels, groups = np.repeat(np.arange(len(sizes)), sizes), set(involved)

    def of(labelled: Labels) -> Floats:
        return value(group_means(distances, labelled, len(sizes)))

    variance, estimate = 0.0, float(of(labels[None])[0])
    for group in groups:
        members = np.flatnonzero(labels == group)
        without = np.tile(labels, (len(members), 1))
        without[np.arange(len(members)), members] = -1
        left = of(without)
        variance += (len(members) - 1) / len(members) * float(((left - left.mean()) ** 2).sum())
    freedom = min(sizes[group] for group in groups) - 1
    if freedom < 1 or not math.isfinite(variance):
        return math.nan, math.nan
    reach = float(t.ppf(0.975, freedom)) * math.sqrt(variance)
    return estimate - reach, estimate + reach


def superiority(larger: Floats, smaller: Floats) -> float:
    """Return how often a number of the first is larger than one of the second, ties counted half; NaN without numbers."""
    if not (larger.size and smaller.size):
        return math.nan
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([larger, smaller]))[: larger.size]
    return float((ranks.sum() / larger.size - (larger.size + 1) / 2) / smaller.size)
