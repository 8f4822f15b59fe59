"""Projection-weighted CCA. Source: Morcos et al. 2018."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from array_api_compat import array_namespace

from congruence import linalg
from congruence.errors import Caveat
from congruence.measures._base import Finding, Findings, Measure, register
from congruence.measures._info import MeasureInfo, Reference, closure
from congruence.measures._rounding import counted_basis, rounding_caveat
from congruence.measures._work import FLOAT, Workload, spectral_work
from congruence.measures.block import Matrix, pairs_of, same_states, tabulated
from congruence.measures.cca import floor_caveat
from congruence.measures.cka import KORNBLITH
from congruence.measures.spectra import Directions, Result, with_directions
from congruence.validate import Array, require_same_n

MORCOS = Reference(
    "Morcos, Raghu & Bengio 2018, Insights on representational similarity", "eqs 2-4", "arXiv:1806.05759"
)


class WeightedState(NamedTuple):
    """An orthonormal basis (n, r) and the coordinates (r, p) of every centred feature in it."""

    basis: Array
    coordinates: Array
    rounded: int = 0

    @property
    def n(self) -> int:
        """Number of stimuli."""
        return int(self.basis.shape[0])

    @property
    def rank(self) -> int:
        """Number of directions r."""
        return int(self.basis.shape[1])


@register
@dataclass(frozen=True)
class PWCCA(Measure[WeightedState]):
    """Canonical correlations weighted by how much of a representation each direction accounts for.

    Σ α_i ρ_i / Σ α_i over the m = min(r_X, r_Y) canonical pairs, α_i = Σ_j |⟨h_i, x_j⟩|, h_i the i-th canonical variable
    of X (unit norm) and x_j its centred features. In [0, 1]; 1 if the smaller space lies in the larger.

    Parameters
    ----------
    weights : {"first", "smaller", "mean"}
        Weights from X; from the side of lower rank (X if equal); or the mean of the values of (X, Y) and (Y, X).

    Warns
    -----
    CongruenceWarning
        ``pwcca_ties``: some correlations are equal, so the canonical directions, and with them the weights, are
        arbitrary. ``cca_floor``: r_X + r_Y > n - 1. ``float32_directions``: as for `CCA`.

    Notes
    -----
    This is the definition of the paper. The released code leaves Σ^{-1/2} out of the directions and takes uncentred
    activations for the weights. Not a metric and not symmetric (except ``weights=mean``). The weights are sums of
    absolute values over features, so rotating the weighting side changes them: only permutation, isotropic scaling and
    translation leave the value on that side; the other side may undergo any invertible linear map. Cost: prepare
    O(n p min(n, p)), compare O(n r² + r² p).

    References
    ----------
    Morcos et al. 2018, arXiv:1806.05759, section 2.2; Kornblith et al. 2019, arXiv:1905.00414, Table 1.
    """

    name: ClassVar[str] = "pwcca"
    weights: Literal["first", "smaller", "mean"] = "first"

    @property
    def info(self) -> MeasureInfo:
        """Claims of this choice of weights."""
        weighting = closure(("permutation", "isotropic_scaling", "translation"))
        free = closure(("invertible_linear", "translation"))
        changing = frozenset({"orthogonal", "feature_scaling", "invertible_linear"})
        first = self.weights == "first"
        return MeasureInfo(
            label=self.label,
            title=f"projection-weighted CCA ({'mean of both directions' if self.weights == 'mean' else f'weights from the {self.weights} side'})",
            definition="sum_i alpha_i rho_i / sum_i alpha_i, alpha_i = sum_j |<h_i, x_j>|, over min(rank X, rank Y) pairs",
            orientation="similarity",
            range=(0.0, 1.0),
            identity=1.0,
            symmetric=self.weights == "mean",
            conversions=frozenset({"one_minus"}),
            space="centred representations",
            invariant_first=weighting,
            invariant_second=free if first else weighting,
            sensitive_first=changing,
            sensitive_second=changing if self.weights == "mean" else frozenset(),
            meaning=("no common direction", "the smaller column space lies in the larger"),
            cost="prepare O(n p min(n, p)), compare O(n r^2 + r^2 p)",
            references=(MORCOS, KORNBLITH),
        )  # fmt: skip

    def prepare(self, x: Array) -> WeightedState:
        """Return the basis of the centred column space and the features' coordinates in it."""
        x = linalg.unit_scale(self.checked(x))
        basis, rounded = counted_basis(x)
        return WeightedState(basis, array_namespace(basis).matrix_transpose(basis) @ linalg.centre_columns(x), rounded)

    def compare(self, a: WeightedState, b: WeightedState) -> float:
        """Return the weighted mean of the canonical correlations."""
        return self.examine(a, b).value

    def examine(self, a: WeightedState, b: WeightedState) -> Finding:
        """Return the value, with ties of the correlations as a caveat."""
        found = self._one_way(a, b, linalg.thin_svd(_overlap(a, b)))
        return Finding(found.value, (*found.caveats, *_rounding(a, b)))

    def examine_block(self, first: Sequence[WeightedState], second: Sequence[WeightedState]) -> Findings:
        """Return all values with their caveats, from eigenvectors of the smaller product, over the cores."""
        if self.weights != "mean" and same_states(first, second):
            both = self._table(self._both_ways, first, second, symmetric=True)
            table = [[ways[i > j] for j, ways in enumerate(row)] for i, row in enumerate(both)]
        else:
            table = self._table(self._one_way, first, second, symmetric=self.weights == "mean")
        # rounding names the sides, and the two orders of a pair share what was found
        caveats = {
            (i, j): together
            for i, row in enumerate(table)
            for j, found in enumerate(row)
            if (together := (*found.caveats, *_rounding(first[i], second[j])))
        }
        return Findings(np.array([[found.value for found in row] for row in table], dtype=np.float64), caveats)

    def compare_block(self, first: Sequence[WeightedState], second: Sequence[WeightedState]) -> Matrix:
        """Return all values (see `examine_block`)."""
        return self.examine_block(first, second).values

    def _table(
        self,
        examine: Callable[[WeightedState, WeightedState, Directions], Result],
        first: Sequence[WeightedState],
        second: Sequence[WeightedState],
        *,
        symmetric: bool,
    ) -> list[list[Result]]:
        """Return what `examine` makes of all pairs and their canonical directions."""
        pairs = pairs_of(first, second, symmetric=symmetric)
        sides = [(first[i], second[j]) for i, j in pairs]
        for a, b in sides:
            require_same_n(a.n, b.n)
        within = same_states(first, second)
        found = with_directions(
            [(a.basis, b.basis) for a, b in sides],
            lambda place, directions: examine(*sides[place], directions),
            right=[within or self._weighs_second(a.rank, b.rank) for a, b in sides],
        )
        return tabulated(found, pairs, first, second, symmetric=symmetric)

    def _one_way(self, a: WeightedState, b: WeightedState, directions: Directions) -> Finding:
        """Return the value of (a, b)."""
        return self.weigh(directions, a.coordinates, b.coordinates, a.n)

    def _both_ways(self, a: WeightedState, b: WeightedState, directions: Directions) -> tuple[Finding, Finding]:
        """Return the values of (a, b) and (b, a), which have the same canonical directions."""
        left, rho, right = directions
        transpose = array_namespace(rho).matrix_transpose
        return self._one_way(a, b, directions), self._one_way(b, a, (transpose(right), rho, transpose(left)))

    def _weighs_second(self, rank_a: int, rank_b: int) -> bool:
        """Return whether weights come from the second side, too or only."""
        return self.weights == "mean" or (self.weights == "smaller" and rank_b < rank_a)

    def weigh(self, pairs: Directions, first: Array, second: Array, n: int) -> Finding:
        """Return the weighted mean of canonical correlations from their decomposition, with its caveats.

        Parameters
        ----------
        pairs : tuple of array, shapes (r_X, m), (m,) and (m, r_Y)
            Thin singular value decomposition of the product of the bases; the last part where its weights are asked for.
        first, second : array, shapes (r_X, p_X) and (r_Y, p_Y)
            Coordinates of the centred features in the bases.
        n : int
            Number of stimuli.
        """
        left, rho, right = pairs
        xp = array_namespace(rho)
        rho = xp.clip(rho, 0.0, 1.0)
        rank_a, rank_b = first.shape[0], second.shape[0]
        from_second = self._weighs_second(rank_a, rank_b)
        values = []
        if self.weights == "mean" or not from_second:
            values.append(_weighted(rho, left, first))
        if from_second:
            values.append(_weighted(rho, xp.matrix_transpose(right), second))
        value = linalg.clip(sum(values) / len(values), 0.0, 1.0)
        return Finding(value, (*floor_caveat(n, rank_a, rank_b, weighted=True), *_ties(rho)))

    def workload(self, n: int, p: int, count: int) -> Workload:
        """Return the cost: eigenvectors of the smaller product for every pair."""
        del count
        rank = min(p, n - 1)
        why = "canonical directions from eigenvectors of the smaller product of two bases"
        work = spectral_work(n, rank, "thin factor", why, prepare=8.0 * n * p * rank, vectors=True)
        return replace(
            work, state_bytes=work.state_bytes + FLOAT * rank * p, pair_flops=work.pair_flops + 2.0 * rank * rank * p
        )

    def caveats(self, a: WeightedState, b: WeightedState) -> tuple[Caveat, ...]:
        """Return the floor, the ties and directions that are rounding (at the cost of a comparison: see `examine`)."""
        return self.examine(a, b).caveats


def _rounding(a: WeightedState, b: WeightedState) -> tuple[Caveat, ...]:
    """Return the caveat for directions that are rounding in float32."""
    return rounding_caveat(X=(a.rounded, a.rank), Y=(b.rounded, b.rank))


def _overlap(a: WeightedState, b: WeightedState) -> Array:
    """Return the product of the two bases, shape (r_X, r_Y)."""
    require_same_n(a.n, b.n)
    return array_namespace(a.basis, b.basis).matrix_transpose(a.basis) @ b.basis


def _weighted(rho: Array, directions: Array, coordinates: Array) -> float:
    """Return Σ α ρ / Σ α with α_i = Σ_j |⟨h_i, x_j⟩|; directions (r, m) and coordinates (r, p) are in one basis."""
    xp = array_namespace(rho)
    alpha = xp.sum(xp.abs(xp.matrix_transpose(directions) @ coordinates), axis=1)  # (m,)
    return linalg.inner(alpha, rho) / float(xp.sum(alpha, dtype=xp.float64))


def _ties(rho: Array) -> tuple[Caveat, ...]:
    """Return the caveat for canonical correlations so close that their directions are not determined."""
    xp = array_namespace(rho)
    near = max(1e-8, 16 * float(xp.finfo(rho.dtype).eps))
    if rho.shape[0] < 2 or float(rho[0] - rho[-1]) <= near:
        return ()  # all equal: every weighting gives the same value
    close = xp.astype(rho[:-1] - rho[1:] <= near, xp.int64)
    count = int(xp.sum(close))
    if count == 0:
        return ()
    text = f"{count} of {int(rho.shape[0]) - 1} neighbouring canonical correlations are equal to {near:.0e}; their directions, and so their weights, are arbitrary"
    return (Caveat("pwcca_ties", text),)
