"""Distances and overlaps of (weighted) projectors. Sources: Boix-Adsera et al. 2022 (GULP); May et al. 2019."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
from array_api_compat import array_namespace

from congruence import linalg
from congruence.errors import Caveat
from congruence.measures._base import Measure, register
from congruence.measures._info import METRIC, MeasureInfo, Reference, both
from congruence.measures._nearest import KLABUNDE
from congruence.measures._rounding import counted_basis, counted_span, rounding_caveat
from congruence.measures._work import Workload, factor_work
from congruence.measures.block import Gram, Matrix, same_states, state_energies
from congruence.validate import Array, Interval, require_same_n

BOIX_ADSERA = Reference(
    "Boix-Adsera, Lawrence, Stepaniants & Rigollet 2022, GULP: a prediction-based metric between representations",
    "",
    "arXiv:2210.06545",
)
MAY = Reference(
    "May, Zhang, Dao & Ré 2019, On the Downstream Performance of Compressed Word Embeddings", "", "arXiv:1909.01264"
)

NEAR = 1e-4
"""Below this share of the squares a squared distance is taken from the difference itself, where it keeps its digits."""


class RidgeState(NamedTuple):
    """A factor F (n, r) of the ridge projector M = F Fᵀ, the sum of the squares of M, and its trace."""

    factor: Array
    square: float
    trace: float
    rounded: int = 0

    @property
    def n(self) -> int:
        """Number of stimuli."""
        return int(self.factor.shape[0])

    @property
    def rank(self) -> int:
        """Numerical rank."""
        return int(self.factor.shape[1])


@register
@dataclass(frozen=True)
class Gulp(Measure[RidgeState]):
    """GULP distance: how far the predictions of ridge regressions on two representations are apart, over all targets.

    d² = tr(M_X²) + tr(M_Y²) - 2 tr(M_X M_Y) = ‖M_X - M_Y‖²_F with M = X (XᵀX + nλ I)⁻¹ Xᵀ, which takes a target to
    its prediction, columns centred and ‖X‖_F = √n. With covariances Σ = XᵀX / n these are the traces of
    Σ (Σ + λ)⁻¹ Σ (Σ + λ)⁻¹. In [0, ∞); 0 means the same predictions of every target.

    Parameters
    ----------
    lambda : float
        Ridge penalty λ >= 0. At 0, M is the projector to the column space and d² = r_X + r_Y - 2 Σρ², with the ranks r
        and the canonical correlations ρ: no inverse is taken. In Python: ``measure("gulp", **{"lambda": 0.1})`` or
        ``measure("gulp:lambda=0.1")``.
    form : {"distance", "squared"}
        d, a metric, or d², which the authors' code returns.

    Warns
    -----
    CongruenceWarning
        ``gulp_ceiling``: at λ = 0 the ranks add up to more than n - 1, so that the column spaces meet whatever the data
        are; the greatest possible value is given. ``level`` is that of unrelated data. ``float32_directions``: as for
        `CCA`, at λ = 0; a penalty weighs such directions by their size.

    Notes
    -----
    ReSi's Gulp is lambda=0 with form=squared. Its code, copied from the authors', inverts every eigenvalue of a
    covariance above 0, rounding included, so that on rank-deficient data it does not give the distance that it states.
    Near 0 the distance is computed from M_X - M_Y itself. Invariant to orthogonal maps, isotropic scaling and
    translation, at λ = 0 to invertible linear maps. Cost: prepare O(n p min(n, p)), compare O(n r²).

    References
    ----------
    Boix-Adsera et al. 2022, arXiv:2210.06545; Klabunde et al. 2025, arXiv:2305.06329.
    """

    name: ClassVar[str] = "gulp"
    examples: ClassVar = {"lambda_": (0.0, 0.1)}
    # `lambda` is a word of Python's own, so the attribute has another name than the parameter
    lambda_: Annotated[float, Interval(0)] = field(default=0.0, metadata={"parameter": "lambda"})
    form: Literal["distance", "squared"] = "distance"

    @property
    def info(self) -> MeasureInfo:
        """Claims of this penalty and form."""
        squared, plain = self.form == "squared", self.lambda_ == 0
        matrix = (
            "the projector to the column space" if plain else f"= X (X'X + {self.lambda_:.3g} n I)^-1 X', |X|_F^2 = n"
        )
        return MeasureInfo(
            label=self.label,
            title=f"{'squared ' if squared else ''}GULP distance, lambda={self.lambda_:.3g}",
            definition=f"|M_X - M_Y|_F{'^2' if squared else ''}, M {matrix}",
            orientation="distance",
            range=(0.0, math.inf),
            identity=0.0,
            symmetric=True,
            axioms=METRIC - {"triangle"} if squared else METRIC,
            space="column spaces of centred representations" if plain else "centred representations up to rotation and scale",
            meaning=("the same predictions of every target", "grows with the ranks"),
            cost="prepare O(n p min(n, p)), compare O(n r^2)",
            references=(BOIX_ADSERA, KLABUNDE),
            **both("translation", *(("invertible_linear",) if plain else ("orthogonal", "isotropic_scaling"))),
        )  # fmt: skip

    def prepare(self, x: Array) -> RidgeState:
        """Return a factor of the matrix that takes targets to their predictions."""
        x = linalg.unit_scale(self.checked(x))
        if self.lambda_ == 0:
            basis, rounded = counted_basis(x)
            rank = float(basis.shape[1])
            return RidgeState(basis, rank, rank, rounded)
        axes, xp = linalg.principal(x), array_namespace(x)
        energy = axes.values**2
        # ‖X‖²_F = n: the squares of the singular values are n times their shares
        shares = energy / xp.sum(energy)
        weights = shares / (shares + self.lambda_)
        trace = float(xp.sum(weights, dtype=xp.float64))
        return RidgeState(axes.left * xp.sqrt(weights)[None, :], linalg.inner(weights, weights), trace)

    def compare(self, a: RidgeState, b: RidgeState) -> float:
        """Return the distance of two states."""
        require_same_n(a.n, b.n)
        cross = array_namespace(a.factor, b.factor).matrix_transpose(a.factor) @ b.factor
        square = a.square + b.square - 2 * linalg.inner(cross, cross)
        if square < NEAR * max(a.square, b.square):
            square = _squared_difference(a.factor, b.factor)
        return square if self.form == "squared" else math.sqrt(square)

    def compare_block(self, first: Sequence[RidgeState], second: Sequence[RidgeState]) -> Matrix:
        """Return all distances, from one stream of projectors."""
        same = same_states(first, second)
        cross = state_energies(lambda state: Gram(state.factor), first, second)
        own_a, own_b = (np.array([state.square for state in side]) for side in (first, second))
        squares: Matrix = own_a[:, None] + own_b[None, :] - 2 * cross
        for i, j in np.argwhere(squares < NEAR * np.maximum(own_a[:, None], own_b[None, :])).tolist():
            squares[i, j] = 0.0 if same and i == j else _squared_difference(first[i].factor, second[j].factor)
        return squares if self.form == "squared" else np.sqrt(squares)

    def workload(self, n: int, p: int, count: int) -> Workload:
        """Return the cost: projectors compared as Gram matrices."""
        rank = min(p, n - 1)
        return factor_work(n, rank, count, prepare=6.0 * n * p * rank)

    def caveats(self, a: RidgeState, b: RidgeState) -> tuple[Caveat, ...]:
        """Return the ceiling that no data exceed at λ = 0, if there is one, and directions that are rounding."""
        rounding = rounding_caveat(X=(a.rounded, a.rank), Y=(b.rounded, b.rank))
        n, excess = a.n, a.rank + b.rank - (a.n - 1)
        if self.lambda_ > 0 or excess <= 0:
            return rounding
        # exact mean of tr(M_X M_Y) when the stimuli of one side are permuted at random
        unrelated = a.square + b.square - 2 * a.trace * b.trace / (n - 1)
        ceiling, level = (self._of_square(max(value, 0.0)) for value in (a.rank + b.rank - 2 * excess, unrelated))
        text = f"ranks {a.rank} + {b.rank} exceed n - 1 = {n - 1}: the column spaces share at least {excess} directions for any data, so the value is at most {ceiling:.3g}; use lambda > 0, more stimuli or fewer components"
        return (Caveat("gulp_ceiling", text, level), *rounding)

    def _of_square(self, square: float) -> float:
        return square if self.form == "squared" else math.sqrt(square)


def _squared_difference(a: Array, b: Array) -> float:
    """Return ‖F Fᵀ - G Gᵀ‖²_F from the entries."""
    xp = array_namespace(a, b)
    difference = a @ xp.matrix_transpose(a) - b @ xp.matrix_transpose(b)
    return linalg.inner(difference, difference)


class SpanState(NamedTuple):
    """An orthonormal basis (n, r) of the space of the columns as they are, and the number p of columns."""

    basis: Array
    p: int
    rounded: int = 0

    @property
    def n(self) -> int:
        """Number of stimuli."""
        return int(self.basis.shape[0])

    @property
    def rank(self) -> int:
        """Numerical rank r."""
        return int(self.basis.shape[1])


@register
@dataclass(frozen=True)
class EigenspaceOverlap(Measure[SpanState]):
    """Eigenspace overlap score: how much of the larger of two column spaces lies in the other, without centring.

    ‖U_XᵀU_Y‖²_F / max(d_X, d_Y), with U orthonormal bases of the column spaces of the values as they are. In [0, 1]; 1
    means the same column space; unrelated data give min(d_X, d_Y) / n.

    Parameters
    ----------
    dimension : {"rank", "width"}
        What d is: the rank, or the number of features as in ReSi. May et al. take embeddings of full rank, where both
        are one. With width, a rank-deficient representation and itself give rank / width.

    Warns
    -----
    CongruenceWarning
        ``overlap_floor``: the ranks add up to more than n, so that the column spaces meet whatever the data are; the
        least possible value is given. ``rank_below_width``: d is the width, and a rank is below it.
        ``float32_directions``: as for `CCA`.

    Notes
    -----
    The mean of a layer is one of its directions here: two layers with large means share it. `CCA` with
    statistic=mean_squared is the centred counterpart, over the smaller rank. Ranks count singular values above
    max(n, p) eps s_max. ReSi's EigenspaceOverlapScore is dimension=width. Invariant to invertible linear maps. Cost:
    prepare O(n p min(n, p)), compare O(n r²).

    References
    ----------
    May et al. 2019, arXiv:1909.01264; Klabunde et al. 2025, arXiv:2305.06329.
    """

    name: ClassVar[str] = "eigenspace_overlap"
    dimension: Literal["rank", "width"] = "rank"

    @property
    def info(self) -> MeasureInfo:
        """Claims of this dimension."""
        return MeasureInfo(
            label=self.label,
            title=f"eigenspace overlap score{'' if self.dimension == 'rank' else ' over the width'}",
            definition=f"|U_X' U_Y|_F^2 / max(d_X, d_Y), U bases of the uncentred column spaces, d the {self.dimension}",
            orientation="similarity",
            range=(0.0, 1.0),
            identity=1.0,
            identity_at_full_rank=self.dimension == "width",
            symmetric=True,
            conversions=frozenset({"one_minus"}),
            space="column spaces",
            meaning=("no common direction", "the same column space"),
            cost="prepare O(n p min(n, p)), compare O(n r^2)",
            references=(MAY, KLABUNDE),
            **both("invertible_linear"),
        )

    def prepare(self, x: Array) -> SpanState:
        """Return an orthonormal basis of the column space, without centring."""
        x = linalg.unit_scale(self.checked(x))
        basis, rounded = counted_span(x)
        return SpanState(basis, int(x.shape[1]), rounded)

    def _size(self, state: SpanState) -> int:
        """Return d."""
        return state.rank if self.dimension == "rank" else state.p

    def compare(self, a: SpanState, b: SpanState) -> float:
        """Return the overlap of two states."""
        require_same_n(a.n, b.n)
        cross = array_namespace(a.basis, b.basis).matrix_transpose(a.basis) @ b.basis
        return linalg.clip(linalg.inner(cross, cross) / max(self._size(a), self._size(b)), 0.0, 1.0)

    def compare_block(self, first: Sequence[SpanState], second: Sequence[SpanState]) -> Matrix:
        """Return all overlaps, from one stream of projectors."""
        cross = state_energies(lambda state: Gram(state.basis), first, second)
        larger = np.maximum.outer([self._size(a) for a in first], [self._size(b) for b in second])
        overlaps: Matrix = np.clip(cross / larger, 0.0, 1.0)
        return overlaps

    def workload(self, n: int, p: int, count: int) -> Workload:
        """Return the cost: projectors compared as Gram matrices."""
        rank = min(p, n)
        return factor_work(n, rank, count, prepare=6.0 * n * p * rank)

    def caveats(self, a: SpanState, b: SpanState) -> tuple[Caveat, ...]:
        """Return the floor that any data reach, a rank below the width that is divided by, and directions of rounding."""
        found: tuple[Caveat, ...] = ()
        excess = a.rank + b.rank - a.n
        if excess > 0:
            level = excess / max(self._size(a), self._size(b))
            text = f"ranks {a.rank} + {b.rank} exceed n = {a.n}: the column spaces share at least {excess} directions for any data, so the value is at least {level:.3g}; use more stimuli or fewer components"
            found = (Caveat("overlap_floor", text, level),)
        if self.dimension == "width" and (a.rank < a.p or b.rank < b.p):
            text = f"ranks {a.rank} and {b.rank} are below the widths {a.p} and {b.p} on at least one side, so that even the same representation would give {min(a.rank / a.p, b.rank / b.p):.3g}; use dimension=rank"
            found = (*found, Caveat("rank_below_width", text))
        return (*found, *rounding_caveat(X=(a.rounded, a.rank), Y=(b.rounded, b.rank)))
