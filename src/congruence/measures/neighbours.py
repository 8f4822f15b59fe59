"""Similarity of nearest neighbours. Sources: Huh et al. 2024; Wang et al. 2022."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from array_api_compat import array_namespace

from congruence import linalg
from congruence.errors import Caveat
from congruence.measures._base import Measure, register
from congruence.measures._info import MeasureInfo, Needs, Reference, both
from congruence.measures._nearest import (
    KLABUNDE,
    Metric,
    NeighbourState,
    common_counts,
    ignored,
    looked_up,
    matches,
    membership,
    nearest,
    rank_caveat,
    rank_table,
    ranked,
    row_distances,
    table_work,
    tie_caveat,
)
from congruence.measures._work import Workload
from congruence.measures.block import Matrix
from congruence.validate import Array, Interval, require_same_n

HUH = Reference(
    "Huh, Cheung, Wang & Isola 2024, The Platonic Representation Hypothesis", "section 2", "arXiv:2405.07987"
)
WANG = Reference(
    "Wang, Rao, Guo, Wang, Liu & Guan 2022, Towards Understanding the Instability of Network Embedding",
    "",
    "IEEE TKDE 34(2), 927-941",
)


@dataclass(frozen=True)
class _CommonNeighbours(Measure[NeighbourState]):
    """Measures of how many of the k nearest neighbours are common, in whatever order they are."""

    k: Annotated[int, Interval(1)] = 10
    metric: Metric = "cosine"

    def prepare(self, x: Array) -> NeighbourState:
        """Return the indices of the k nearest neighbours of every row."""
        return nearest(row_distances(self.checked(x), self.metric), self.k)

    def workload(self, n: int, p: int, count: int) -> Workload:
        """Return the cost: neighbours are found once, and looked up in one table a representation."""
        del count
        return table_work(n, p, self.k)

    def caveats(self, a: NeighbourState, b: NeighbourState) -> tuple[Caveat, ...]:
        """Return how many rows had to break a tie by index."""
        return tie_caveat(a.ties, b.ties, a.n, self.k)


@register
@dataclass(frozen=True)
class MutualKNN(_CommonNeighbours):
    """Mean share of nearest neighbours that two representations have in common.

    (1/n) Σ_i |N_X(i) ∩ N_Y(i)| / k, with N(i) the k nearest other stimuli of stimulus i, rows as they are. In [0, 1]; 1
    means the same neighbourhoods, unrelated data give k / (n - 1).

    Parameters
    ----------
    k : int
        Number of neighbours; at most n - 2.
    metric : {"cosine", "euclidean"}
        Which neighbours are near.

    Raises
    ------
    DegenerateError
        If a stimulus has no direction (cosine).

    Warns
    -----
    CongruenceWarning
        ``knn_ties``: for some stimuli the k-th and the next neighbour are equally far (squared distances or
        cosines within 1e-12 of themselves); the one of lower index was taken.

    Notes
    -----
    The stimulus itself is left out by its index, so duplicates count as neighbours. Cost: prepare O(n² p), compare
    O(n k²).

    References
    ----------
    Huh et al. 2024, arXiv:2405.07987, section 2 (they take inner products of normalised rows: metric=cosine).
    """

    name: ClassVar[str] = "mutual_knn"
    examples: ClassVar = {"k": (10, 3)}

    @property
    def info(self) -> MeasureInfo:
        """Claims of this metric."""
        return MeasureInfo(
            label=self.label,
            title=f"mutual {self.k} nearest neighbours, {self.metric}",
            definition=f"(1/n) sum_i |N_X(i) & N_Y(i)| / k, k = {self.k}",
            orientation="similarity",
            range=(0.0, 1.0),
            identity=1.0,
            symmetric=True,
            conversions=frozenset({"one_minus"}),
            metric_conversions=frozenset({"one_minus"}),
            space="neighbourhoods",
            needs=Needs(n=self.k + 2, nonzero_rows=self.metric == "cosine"),
            meaning=("no common neighbour (unrelated data: k / (n - 1))", "the same neighbourhoods"),
            cost="prepare O(n^2 p), compare O(n k^2)",
            references=(HUH,),
            **both(*ignored(self.metric)),
        )

    def compare(self, a: NeighbourState, b: NeighbourState) -> float:
        """Return the mean share of common neighbours."""
        return int(common_counts(a, b).sum()) / (a.n * self.k)

    def compare_block(self, first: Sequence[NeighbourState], second: Sequence[NeighbourState]) -> Matrix:
        """Return all shares: the neighbours of every second state are looked up in one table a first state."""

        def counts(table: Array, found: Array) -> Matrix:
            return linalg.to_numpy(array_namespace(table).count_nonzero(table[found], axis=1))

        return looked_up(membership, counts, first, second) / (first[0].n * self.k)


@register
@dataclass(frozen=True)
class Jaccard(_CommonNeighbours):
    """Mean Jaccard similarity of the nearest neighbours of every stimulus.

    (1/n) Σ_i |N_X(i) ∩ N_Y(i)| / |N_X(i) ∪ N_Y(i)|, with N(i) the k nearest other stimuli of stimulus i, rows as they
    are. In [0, 1]; 1 means the same neighbourhoods, 0 that no neighbour is common.

    Parameters
    ----------
    k : int
        Number of neighbours; at most n - 2.
    metric : {"cosine", "euclidean"}
        Which neighbours are near.

    Raises
    ------
    DegenerateError
        If a stimulus has no direction (cosine).

    Warns
    -----
    CongruenceWarning
        ``knn_ties``: see `MutualKNN`.

    Notes
    -----
    With m common neighbours a stimulus gives m / (2k - m), and m / k to `MutualKNN`: the two order stimuli alike, and
    representations not always. 1 - value is a metric of neighbourhoods, as a mean of Jaccard distances. ReSi's
    JaccardSimilarity is this with its defaults, but for duplicates: it drops the nearest stimulus found as the stimulus
    itself, which is left out by its index here. Cost: prepare O(n² p), compare O(n k²).

    References
    ----------
    Wang et al. 2022, IEEE TKDE 34(2); Klabunde et al. 2025, arXiv:2305.06329.
    """

    name: ClassVar[str] = "jaccard"

    @property
    def info(self) -> MeasureInfo:
        """Claims of this metric."""
        return MeasureInfo(
            label=self.label,
            title=f"Jaccard similarity of {self.k} nearest neighbours, {self.metric}",
            definition=f"(1/n) sum_i |N_X(i) & N_Y(i)| / |N_X(i) | N_Y(i)|, k = {self.k}",
            orientation="similarity",
            range=(0.0, 1.0),
            identity=1.0,
            symmetric=True,
            conversions=frozenset({"one_minus"}),
            metric_conversions=frozenset({"one_minus"}),
            space="neighbourhoods",
            needs=Needs(n=self.k + 2, nonzero_rows=self.metric == "cosine"),
            meaning=("no common neighbour", "the same neighbourhoods"),
            cost="prepare O(n^2 p), compare O(n k^2)",
            references=(WANG, KLABUNDE),
            **both(*ignored(self.metric)),
        )

    def compare(self, a: NeighbourState, b: NeighbourState) -> float:
        """Return the mean Jaccard similarity."""
        return float(np.mean(self._shares(common_counts(a, b))))

    def _shares(self, common: Matrix) -> Matrix:
        """Return |N ∩ N'| / |N ∪ N'| from |N ∩ N'|."""
        return np.asarray(common / (2 * self.k - common))

    def compare_block(self, first: Sequence[NeighbourState], second: Sequence[NeighbourState]) -> Matrix:
        """Return all means: the neighbours of every second state are looked up in one table a first state."""
        n = first[0].n

        def means(table: Array, found: Array) -> Matrix:
            xp = array_namespace(table)
            common = xp.count_nonzero(xp.reshape(table[found], (-1, n, self.k)), axis=2)
            return np.asarray(np.mean(self._shares(linalg.to_numpy(common)), axis=1))

        return looked_up(membership, means, first, second)


@register
@dataclass(frozen=True)
class RankSimilarity(Measure[NeighbourState]):
    """How alike the common nearest neighbours of every stimulus are ranked, the nearest counting most.

    (1/n) Σ_i (1 / H_m) Σ_{j ∈ N_X(i) ∩ N_Y(i)} 2 / ((1 + |r - r'|) (r + r')), with r and r' the ranks of j among the k
    nearest of i, from 1, m the number of common neighbours and H_m = 1 + 1/2 + ... + 1/m; a stimulus without common
    neighbours gives 0. In [0, 1]; 1 means the same neighbours in the same order.

    Parameters
    ----------
    k : int
        Number of neighbours; at most n - 2.
    metric : {"cosine", "euclidean"}
        Which neighbours are near.

    Raises
    ------
    DegenerateError
        If a stimulus has no direction (cosine).

    Warns
    -----
    CongruenceWarning
        ``knn_ties``: some stimuli have equally near neighbours (squared distances or cosines within 1e-12 of
        themselves); the one of lower index was ranked first.

    Notes
    -----
    H_m depends on the common neighbours alone: one stimulus in common that is first on both sides gives 1, whatever the
    other k - 1 are. Read it beside `Jaccard`. ReSi's RankSimilarity is this with its defaults (duplicates: see
    `Jaccard`). Cost: prepare O(n² p), compare O(n k²).

    References
    ----------
    Wang et al. 2022, IEEE TKDE 34(2); Klabunde et al. 2025, arXiv:2305.06329.
    """

    name: ClassVar[str] = "rank_similarity"
    k: Annotated[int, Interval(1)] = 10
    metric: Metric = "cosine"

    @property
    def info(self) -> MeasureInfo:
        """Claims of this metric."""
        return MeasureInfo(
            label=self.label,
            title=f"rank similarity of {self.k} nearest neighbours, {self.metric}",
            definition="(1/n) sum_i (1/H_m) sum_j 2 / ((1 + |r - r'|) (r + r')) over the m common neighbours j, r their ranks",
            orientation="similarity",
            range=(0.0, 1.0),
            identity=1.0,
            symmetric=True,
            conversions=frozenset({"one_minus"}),
            space="ranked neighbourhoods",
            needs=Needs(n=self.k + 2, nonzero_rows=self.metric == "cosine"),
            meaning=("no common neighbour", "the same neighbours in the same order"),
            cost="prepare O(n^2 p), compare O(n k^2)",
            references=(WANG, KLABUNDE),
            **both(*ignored(self.metric)),
        )  # fmt: skip

    def prepare(self, x: Array) -> NeighbourState:
        """Return the indices of the k nearest neighbours of every row, the nearest first."""
        return ranked(row_distances(self.checked(x), self.metric), self.k)

    def compare(self, a: NeighbourState, b: NeighbourState) -> float:
        """Return the mean rank similarity."""
        require_same_n(a.n, b.n)
        xp = array_namespace(a.indices, b.indices)
        weights = xp.asarray(self._weights[1:], device=a.indices.device)
        parts = [
            (xp.sum(xp.where(same, weights, xp.zeros_like(weights)), axis=(1, 2)), xp.count_nonzero(same, axis=(1, 2)))
            for same in matches(a.indices, b.indices)
        ]
        scores, common = (np.concatenate([linalg.to_numpy(part) for part in side]) for side in zip(*parts, strict=True))
        return float(np.mean(self._normalised(scores, common)))

    @property
    def _weights(self) -> Matrix:
        """What a common neighbour adds by its rank on either side, (k + 1, k); the row of rank 0 is that of no neighbour."""
        first, second = np.arange(self.k + 1)[:, None], np.arange(1, self.k + 1)[None, :]
        return np.where(first > 0, 2 / ((1 + np.abs(first - second)) * (first + second)), 0.0)

    def _normalised(self, scores: Matrix, common: Matrix) -> Matrix:
        """Return the scores of stimuli over H_m; rounding must not bring them above 1."""
        harmonic = np.cumsum([1.0, *(1 / np.arange(1, self.k + 1))]) - 1
        return np.asarray(np.minimum(scores / np.where(common > 0, harmonic[common], 1.0), 1.0))

    def compare_block(self, first: Sequence[NeighbourState], second: Sequence[NeighbourState]) -> Matrix:
        """Return all means: the neighbours of every second state are looked up in one table of ranks a first state."""
        n, xp = first[0].n, array_namespace(first[0].indices)
        weights = xp.asarray(self._weights.ravel(), device=first[0].indices.device)
        columns = xp.arange(self.k, device=first[0].indices.device)

        def means(table: Array, found: Array) -> Matrix:
            ranks = xp.astype(xp.reshape(table[found], (-1, n, self.k)), xp.int64)
            scores = xp.sum(weights[ranks * self.k + columns], axis=2)
            common = xp.count_nonzero(ranks, axis=2)
            return np.asarray(np.mean(self._normalised(linalg.to_numpy(scores), linalg.to_numpy(common)), axis=1))

        return looked_up(rank_table, means, first, second, width=32)

    def workload(self, n: int, p: int, count: int) -> Workload:
        """Return the cost: neighbours are ranked once, and looked up in one table a representation."""
        del count
        return table_work(n, p, self.k, entry=8.0)

    def caveats(self, a: NeighbourState, b: NeighbourState) -> tuple[Caveat, ...]:
        """Return how many rows had to rank neighbours by index."""
        return rank_caveat(a, b)
