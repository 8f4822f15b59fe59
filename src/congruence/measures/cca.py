"""Canonical correlation analysis and its truncated form. Sources: Raghu et al. 2017; Kornblith et al. 2019."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
from array_api_compat import array_namespace

from congruence import linalg
from congruence.errors import Caveat
from congruence.measures._base import Measure, register
from congruence.measures._info import MeasureInfo, Reference, both
from congruence.measures._leading import leading_basis
from congruence.measures._rounding import counted_basis, rounding_caveat
from congruence.measures._work import FLOAT, Workload, factor_work, spectral_work
from congruence.measures.block import (
    Gram,
    Matrix,
    pairs_of,
    spread,
    state_energies,
)
from congruence.measures.cka import KORNBLITH
from congruence.measures.spectra import Product, nuclear_norms
from congruence.validate import Array, Interval, require_same_n

RAGHU = Reference("Raghu, Gilmer, Yosinski & Sohl-Dickstein 2017, SVCCA", "section 2", "arXiv:1706.05806")

Statistic = Literal["mean", "mean_squared"]


class BasisState(NamedTuple):
    """An orthonormal basis of a column space.

    basis : (n, r).
    limited : whether more components were asked for than the rank allows.
    complement : (n, n - 1 - r), a basis of what is left of the centred space, where that is the smaller of both.
    """

    basis: Array
    limited: bool = False
    complement: Array | None = None
    rounded: int = 0

    @classmethod
    def of(cls, basis: Array, statistic: Statistic, *, limited: bool = False, rounded: int = 0) -> BasisState:
        """Return the state of a basis, with the complement if the correlations of pairs are found from it."""
        n, r = basis.shape
        wanted = statistic == "mean" and n - 1 - r < r
        return cls(basis, limited, linalg.complement(basis) if wanted else None, rounded)

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
class CCA(Measure[BasisState]):
    """Mean canonical correlation of two representations.

    (1/m) Σ ρ_i or (1/m) Σ ρ_i², with ρ_i the singular values of Q_XᵀQ_Y, Q orthonormal bases of the centred column
    spaces, and m = min(r_X, r_Y) the smaller rank. In [0, 1]; 1 if the smaller space lies in the larger; unrelated data
    give mean ρ² about max(r_X, r_Y) / (n - 1).

    Parameters
    ----------
    statistic : {"mean", "mean_squared"}
        Mean correlation, or mean squared correlation (Yanai's GCD).

    Warns
    -----
    CongruenceWarning
        ``cca_floor``: r_X + r_Y > n - 1, so some correlations are 1 for any data. ``float32_directions``: some directions
        are the rounding of features that depend linearly on each other and were computed in float32.

    Notes
    -----
    Bases come from the singular value decomposition of the data, never of a covariance; ranks count singular values
    above max(n, p) eps s_max, eps that of the precision of the comparison: directions of rounding in float32 count in a
    comparison in float64. Invariant to invertible linear maps and translation. Cost: prepare O(n p min(n, p)),
    compare O(n r² + r³).

    References
    ----------
    Kornblith et al. 2019, arXiv:1905.00414, section 3 and Table 1; Raghu et al. 2017, arXiv:1706.05806.
    """

    name: ClassVar[str] = "cca"
    statistic: Statistic = "mean"

    @property
    def info(self) -> MeasureInfo:
        """Claims of this statistic."""
        return MeasureInfo(
            label=self.label,
            title="mean CCA" if self.statistic == "mean" else "mean squared CCA",
            definition=f"(1/m) sum_i rho_i{'' if self.statistic == 'mean' else '^2'}, m = min(rank X, rank Y), rho the singular values of Q_X' Q_Y",
            orientation="similarity",
            range=(0.0, 1.0),
            identity=1.0,
            symmetric=True,
            conversions=frozenset({"one_minus"}),
            space="column spaces of centred representations",
            meaning=("no common direction", "the smaller column space lies in the larger"),
            cost="prepare O(n p min(n, p)), compare O(n r^2 + r^3)",
            references=(KORNBLITH, RAGHU),
            **both("invertible_linear", "translation"),
        )  # fmt: skip

    def prepare(self, x: Array) -> BasisState:
        """Return an orthonormal basis of the centred column space."""
        basis, rounded = counted_basis(linalg.unit_scale(self.checked(x)))
        return BasisState.of(basis, self.statistic, rounded=rounded)

    def compare(self, a: BasisState, b: BasisState) -> float:
        """Return the mean of the canonical correlations."""
        return _average(a.basis, b.basis, self.statistic)

    def compare_block(self, first: Sequence[BasisState], second: Sequence[BasisState]) -> Matrix:
        """Return all means: one stream of projectors for squares, eigenvalues over the cores otherwise."""
        return _averages(first, second, self.statistic)

    def workload(self, n: int, p: int, count: int) -> Workload:
        """Return the cost of this statistic."""
        return _work(n, p, count, self.statistic)

    def caveats(self, a: BasisState, b: BasisState) -> tuple[Caveat, ...]:
        """Return the floor that any data reach, if there is one, and directions that are rounding."""
        rounding = rounding_caveat(X=(a.rounded, a.rank), Y=(b.rounded, b.rank))
        return (*floor_caveat(a.n, a.rank, b.rank), *rounding)


@register
@dataclass(frozen=True)
class SVCCA(Measure[BasisState]):
    """Mean canonical correlation of the leading singular directions of two representations.

    Each centred representation is truncated to its first k left singular vectors, the fewest that reach the threshold;
    the value is (1/min(k_X, k_Y)) Σ ρ_i (or Σ ρ_i²) between the truncated spaces. In [0, 1]; 1 if one kept space lies in
    the other.

    Parameters
    ----------
    variance : float
        Share of the total to keep.
    components : int, optional
        Keep this many directions instead (at most the rank).
    threshold_on : {"variance", "singular_values"}
        Share of Σ s² (variance, as Kornblith et al. read it) or of Σ s (as the appendix of Raghu et al. sums).
    statistic : {"mean", "mean_squared"}
        Mean correlation or mean squared correlation.

    Warns
    -----
    CongruenceWarning
        ``cca_floor``: k_X + k_Y > n - 1. ``components_limited``: more components asked for than the rank.

    Notes
    -----
    Invariant to orthogonal maps, isotropic scaling and translation; to invertible maps only where the kept subspace
    does not change. The value jumps where k changes. Cost as for `CCA`.

    References
    ----------
    Raghu et al. 2017, arXiv:1706.05806, section 2; Kornblith et al. 2019, arXiv:1905.00414, Table 1.
    """

    name: ClassVar[str] = "svcca"
    examples: ClassVar = {"components": (None, 3)}
    variance: Annotated[float, Interval(0, 1, low_open=True)] = 0.99
    components: Annotated[int, Interval(1)] | None = None
    threshold_on: Literal["variance", "singular_values"] = "variance"
    statistic: Statistic = "mean"

    def check(self) -> None:
        """Refuse a threshold beside a number of components."""
        for parameter in ("variance", "threshold_on"):
            self.only_with(parameter, when=self.components is None, condition="components=none")

    @property
    def info(self) -> MeasureInfo:
        """Claims of this truncation."""
        kept = (
            f"{self.components} leading"
            if self.components
            else f"{self.variance:.4g} of the {self.threshold_on.replace('_', ' ')}"
        )
        return MeasureInfo(
            label=self.label,
            title=f"SVCCA ({kept}{' components' if self.components else ''}{'' if self.statistic == 'mean' else ', squared'})",
            definition=f"(1/m) sum_i rho_i{'' if self.statistic == 'mean' else '^2'} of the kept left singular vectors, m = min(k_X, k_Y)",
            orientation="similarity",
            range=(0.0, 1.0),
            identity=1.0,
            symmetric=True,
            conversions=frozenset({"one_minus"}),
            space="leading principal subspaces",
            meaning=("no common direction among those kept", "one kept subspace lies in the other"),
            cost="prepare O(n p min(n, p)), compare O(n k^2 + k^3)",
            references=(RAGHU, KORNBLITH),
            **both("orthogonal", "isotropic_scaling", "translation"),
        )  # fmt: skip

    def prepare(self, x: Array) -> BasisState:
        """Return the leading left singular vectors."""
        basis = leading_basis(linalg.unit_scale(self.checked(x)), self.kept)
        limited = self.components is not None and basis.shape[1] < self.components
        return BasisState.of(basis, self.statistic, limited=limited)

    def kept(self, singular: Array) -> int:
        """Return how many directions are kept, of the singular values in descending order."""
        rank = int(singular.shape[0])
        if self.components is not None:
            return min(self.components, rank)
        xp = array_namespace(singular)
        share = xp.cumulative_sum(singular**2 if self.threshold_on == "variance" else singular)
        # 1e-12: at variance=1 the last partial sum must count as reaching the total
        reached = share >= self.variance * float(share[-1]) * (1 - 1e-12)
        return int(xp.argmax(xp.astype(reached, xp.int64))) + 1

    def compare(self, a: BasisState, b: BasisState) -> float:
        """Return the mean of the canonical correlations of the kept directions."""
        return _average(a.basis, b.basis, self.statistic)

    def compare_block(self, first: Sequence[BasisState], second: Sequence[BasisState]) -> Matrix:
        """Return all means: one stream of projectors for squares, eigenvalues over the cores otherwise."""
        return _averages(first, second, self.statistic)

    def workload(self, n: int, p: int, count: int) -> Workload:
        """Return the cost of this statistic, if nothing is truncated (how much is kept shows only in the data)."""
        return _work(n, p, count, self.statistic)

    def caveats(self, a: BasisState, b: BasisState) -> tuple[Caveat, ...]:
        """Return the floor that any data reach, and a truncation that could not be as asked."""
        found = floor_caveat(a.n, a.rank, b.rank)
        if a.limited or b.limited:
            text = f"{self.components} components were asked for; {a.rank} and {b.rank} are compared, since the ranks allow no more"
            found = (*found, Caveat("components_limited", text))
        return found


def _average(a: Array, b: Array, statistic: Statistic) -> float:
    """Return the mean (squared) singular value of AᵀB, for orthonormal A and B."""
    require_same_n(a.shape[0], b.shape[0])
    return average_correlation(array_namespace(a, b).matrix_transpose(a) @ b, statistic)


def average_correlation(cross: Array, statistic: Statistic) -> float:
    """Return the mean (squared) canonical correlation from the product of two orthonormal bases, shape (r_X, r_Y)."""
    xp = array_namespace(cross)
    m = min(cross.shape)
    if statistic == "mean_squared":
        return linalg.clip(linalg.inner(cross, cross) / m, 0.0, 1.0)
    rho = xp.clip(linalg.singular_values(cross), 0.0, 1.0)
    return linalg.clip(float(xp.sum(rho, dtype=xp.float64)) / m, 0.0, 1.0)


def _work(n: int, p: int, count: int, statistic: Statistic) -> Workload:
    """Return the cost of mean (squared) correlations of subspaces of dimension min(p, n - 1)."""
    rank = min(p, n - 1)
    prepare = 6.0 * n * p * rank
    if statistic == "mean_squared":
        return factor_work(n, rank, count, prepare=prepare)
    left = n - 1 - rank
    if left < rank:
        why = (
            f"ranks of {rank} on {n} stimuli: all but {left} directions are forced to meet, only the complements differ"
        )
        work = spectral_work(n, max(left, 1), "orthogonal complement", why, prepare=prepare + 4 / 3 * n**3)
        return replace(work, state_bytes=FLOAT * n * (n - 1), scratch_bytes=4 * FLOAT * n * (n - 1))
    why = "eigenvalues of the smaller product of two orthonormal bases"
    return spectral_work(n, rank, "thin factor", why, prepare=prepare)


def _averages(first: Sequence[BasisState], second: Sequence[BasisState], statistic: Statistic) -> Matrix:
    """Return the means for all pairs of bases."""
    smaller = np.minimum.outer([a.rank for a in first], [b.rank for b in second])
    if statistic == "mean_squared":
        total = state_energies(lambda state: Gram(state.basis), first, second)
    else:
        pairs = pairs_of(first, second, symmetric=True)
        found = _correlation_sums([(first[i], second[j]) for i, j in pairs])
        total = spread(found, pairs, first, second)
    return np.clip(total / smaller, 0.0, 1.0)


def _correlation_sums(pairs: Sequence[tuple[BasisState, BasisState]]) -> Matrix:
    """Return Σ ρ for pairs of subspaces.

    Where both are large, r_a + r_b - (n - 1) correlations are 1 and the others are those of the complements, whose
    products are much smaller.
    """
    products: list[Product] = []
    forced = np.zeros(len(pairs))
    for place, (a, b) in enumerate(pairs):
        n = a.basis.shape[0]
        require_same_n(n, b.basis.shape[0])
        if a.complement is None or b.complement is None:
            products.append((a.basis, b.basis))
        else:
            products.append((a.complement, b.complement))
            forced[place] = a.basis.shape[1] + b.basis.shape[1] - (n - 1)
    return forced + nuclear_norms(products)


def floor_caveat(n: int, rank_a: int, rank_b: int, *, weighted: bool = False) -> tuple[Caveat, ...]:
    """Return the caveat for subspaces that must intersect, whatever the data."""
    excess = rank_a + rank_b - (n - 1)
    if excess <= 0:
        return ()
    m, forced = min(rank_a, rank_b), min(rank_a, rank_b, excess)
    level = forced / m
    known = None if weighted and forced < m else level
    floor = f"the value is at least {level:.3g}" if known is not None else "the value is raised by their weights"
    text = f"ranks {rank_a} + {rank_b} exceed n - 1 = {n - 1}: {forced} of {m} canonical correlations are 1 for any data, so {floor}; use more stimuli or fewer components"
    return (Caveat("cca_floor", text, known),)
