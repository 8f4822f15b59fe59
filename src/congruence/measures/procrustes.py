"""Distances after the best rotation: Procrustes and the generalised shape metrics.

Sources: Schönemann 1966; Ding et al. 2021; Williams et al. 2021.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
from array_api_compat import array_namespace

from congruence import linalg
from congruence.measures._base import Measure, register
from congruence.measures._info import METRIC, MeasureInfo, Reference, both
from congruence.measures._work import Workload, spectral_work
from congruence.measures.block import Matrix, pairs_of, spread, threads_help
from congruence.measures.parallel import parallel
from congruence.measures.spectra import nuclear_norms
from congruence.validate import Array, Interval, require_same_n

DING = Reference("Ding, Denain & Steinhardt 2021, Grounding Representation Similarity", "section 2", "arXiv:2108.01661")
WILLIAMS = Reference(
    "Williams, Kunz, Kornblith & Linderman 2021, Generalized Shape Metrics", "eqs 4-6, 11", "arXiv:2110.14739"
)
SCHOENEMANN = Reference(
    "Schönemann 1966, A generalized solution of the orthogonal Procrustes problem", "", "doi:10.1007/BF02289451"
)


class FactorState(NamedTuple):
    """A matrix F (n, q) of unit Frobenius norm, determined up to rotation of its columns, and the norm taken out."""

    factor: Array
    norm: float

    @property
    def n(self) -> int:
        """Number of stimuli."""
        return int(self.factor.shape[0])


@register
@dataclass(frozen=True)
class Procrustes(Measure[FactorState]):
    """Distance that remains after the best rotation of one representation to the other.

    With centred X, Y and nuc = ‖XᵀY‖_* / (‖X‖_F ‖Y‖_F), the cosine of the shape angle:

    - angular: arccos(nuc), in [0, π/2];
    - normalised: √(2 - 2 nuc), in [0, √2];
    - squared: 2 - 2 nuc, in [0, 2] (not a metric);
    - size_and_shape: √(‖X‖² + ‖Y‖² - 2 ‖XᵀY‖_*), in [0, ∞), in the units of the features, keeps the sizes.

    0 means equal up to rotation (and, except size_and_shape, scale). Unequal widths are compared as if the narrower were
    padded with zeros.

    Parameters
    ----------
    form : {"angular", "normalised", "squared", "size_and_shape"}
        See above.

    Notes
    -----
    Near 0, arccos and the root turn rounding errors of 1e-16 into 1e-8; there the distance is computed from the residual
    X - Y Q itself. Cost: prepare O(n p min(n, p)) at most, compare O(n p² + p³). Metrics: angular, normalised and
    size_and_shape.

    References
    ----------
    Schönemann 1966, doi:10.1007/BF02289451; Ding et al. 2021, arXiv:2108.01661 (squared); Williams et al. 2021,
    arXiv:2110.14739, eqs 4-6 (angular, size_and_shape).
    """

    name: ClassVar[str] = "procrustes"
    form: Literal["angular", "normalised", "squared", "size_and_shape"] = "angular"

    @property
    def info(self) -> MeasureInfo:
        """Claims of this form."""
        sized = self.form == "size_and_shape"
        definition, high = _FORMS[self.form]
        return MeasureInfo(
            label=self.label,
            title=f"Procrustes distance, {self.form.replace('_', ' ')}",
            definition=definition,
            orientation="distance",
            range=(0.0, high),
            identity=0.0,
            symmetric=True,
            axioms=METRIC - {"triangle"} if self.form == "squared" else METRIC,
            space=f"centred representations up to rotation{'' if sized else ' and scale'}",
            meaning=(f"equal up to rotation{'' if sized else ' and scale'}", "unbounded" if sized else "no common direction"),
            cost="prepare O(n p min(n, p)), compare O(n p^2 + p^3)",
            references=(SCHOENEMANN, DING, WILLIAMS),
            **both("orthogonal", "translation", *(() if sized else ("isotropic_scaling",))),
        )  # fmt: skip

    def prepare(self, x: Array) -> FactorState:
        """Return the centred values with unit norm, rotated to at most n columns, and their norm."""
        return _factor(linalg.centre_columns(self.checked(x)))

    def compare(self, a: FactorState, b: FactorState) -> float:
        """Return the distance of two states."""
        return _distance(a, b, self.form)

    def compare_block(self, first: Sequence[FactorState], second: Sequence[FactorState]) -> Matrix:
        """Return all distances, with nuclear norms from eigenvalues, over the cores."""
        return _distances(first, second, self.form)

    def workload(self, n: int, p: int, count: int) -> Workload:
        """Return the cost: a nuclear norm a pair, from eigenvalues."""
        return _work(n, p, count)


_FORMS: dict[str, tuple[str, float]] = {
    "angular": ("arccos(nuc), nuc = |X'Y|_* / (|X|_F |Y|_F)", math.pi / 2),
    "normalised": ("sqrt(2 - 2 nuc), nuc = |X'Y|_* / (|X|_F |Y|_F)", math.sqrt(2)),
    "squared": ("2 - 2 nuc, nuc = |X'Y|_* / (|X|_F |Y|_F)", 2.0),
    "size_and_shape": ("sqrt(|X|_F^2 + |Y|_F^2 - 2 |X'Y|_*)", math.inf),
}


@register
@dataclass(frozen=True)
class Shape(Measure[FactorState]):
    """Generalised shape metric: Procrustes after partial whitening.

    X is centred and scaled to ‖X‖_F = √n; φ(X) = X (α I + (1 - α) Σ^{-1/2}) on the range of X, with Σ = XᵀX / n. The
    distance is the angle arccos(‖φ(X)ᵀφ(Y)‖_* / (‖φ(X)‖ ‖φ(Y)‖)), in [0, π/2], or min_Q ‖φ(X) - φ(Y) Q‖_F, in [0, ∞).
    0 means equal up to rotation and scale (α = 0: up to invertible linear maps).

    Parameters
    ----------
    alpha : float
        1: no whitening, the Procrustes distance. 0: full whitening, where the cosine is Σρ / √(r_X r_Y).
    form : {"angular", "euclidean"}
        Angle, or distance of the aligned matrices.

    Notes
    -----
    Without the scaling to √n the result would depend on the units of the features for 0 < α < 1. Cost as for
    `Procrustes` plus one singular value decomposition a representation. A metric for every α.

    References
    ----------
    Williams et al. 2021, arXiv:2110.14739, eqs 4-6 and 11.
    """

    name: ClassVar[str] = "shape"
    examples: ClassVar = {"alpha": (1.0, 0.5, 0.0)}
    alpha: Annotated[float, Interval(0, 1)] = 1.0
    form: Literal["angular", "euclidean"] = "angular"

    @property
    def info(self) -> MeasureInfo:
        """Claims of this form and degree of whitening."""
        whitened = self.alpha == 0
        return MeasureInfo(
            label=self.label,
            title=f"shape metric, alpha={self.alpha:.3g}, {self.form}",
            definition="arccos(|F'G|_* / (|F| |G|))" if self.form == "angular" else "min_Q |F - G Q|_F, F = phi(X), G = phi(Y)",
            orientation="distance",
            range=(0.0, math.pi / 2 if self.form == "angular" else math.inf),
            identity=0.0,
            symmetric=True,
            axioms=METRIC,
            space="column spaces" if whitened else "centred representations up to rotation and scale",
            meaning=("equal up to invertible linear maps" if whitened else "equal up to rotation and scale", "no common direction"),
            cost="prepare O(n p min(n, p)), compare O(n r^2 + r^3)",
            references=(WILLIAMS,),
            **both("translation", *(("invertible_linear",) if whitened else ("orthogonal", "isotropic_scaling"))),
        )  # fmt: skip

    def prepare(self, x: Array) -> FactorState:
        """Return φ(x) in principal coordinates."""
        axes = linalg.principal(linalg.unit_scale(self.checked(x)))
        return _factor(axes.left * self.stretched(axes.values, axes.left.shape[0])[None, :])

    def stretched(self, singular: Array, n: int) -> Array:
        """Return the singular values of φ(X) from those of centred X, shape (r,)."""
        scaled = singular * (math.sqrt(n) / linalg.frobenius(singular))
        # in principal axes Σ^{-1/2} is diagonal: s -> α s + (1 - α) √n
        return self.alpha * scaled + (1 - self.alpha) * math.sqrt(n)

    def compare(self, a: FactorState, b: FactorState) -> float:
        """Return the distance of two states."""
        return _distance(a, b, self._form)

    def compare_block(self, first: Sequence[FactorState], second: Sequence[FactorState]) -> Matrix:
        """Return all distances, with nuclear norms from eigenvalues, over the cores."""
        return _distances(first, second, self._form)

    def workload(self, n: int, p: int, count: int) -> Workload:
        """Return the cost: a nuclear norm a pair, from eigenvalues."""
        return _work(n, p, count)

    @property
    def _form(self) -> str:
        """The form of Procrustes distance to take between the φ(X)."""
        return "angular" if self.form == "angular" else "size_and_shape"


def _factor(x: Array) -> FactorState:
    """Return `x` with unit norm in its principal axes, largest first: at most n columns, and graded products.

    Rotating changes no distance, so for n >= p axes from the small FᵀF are good enough; only a matrix wider than tall
    needs the singular values themselves to shrink.
    """
    xp = array_namespace(x)
    n, p = x.shape
    scaled = linalg.unit_scale(x)
    norm = linalg.frobenius(scaled)
    scale = linalg.largest(x) / linalg.largest(scaled)
    unit = scaled / norm
    if p > n:
        left, singular, _ = linalg.thin_svd(unit)
        return FactorState(left * singular[None, :], norm * scale)
    _, axes = xp.linalg.eigh(xp.matrix_transpose(unit) @ unit)
    return FactorState(unit @ xp.flip(axes, axis=1), norm * scale)


def _work(n: int, p: int, count: int) -> Workload:
    """Return the cost of a nuclear norm a pair."""
    del count
    q = min(n, p)
    why = "nuclear norms of graded products, from eigenvalues of the smaller Gram matrix"
    return spectral_work(n, q, "graded eigenvalues", why, prepare=3.0 * n * p * q + 9.0 * q**3)


def _distances(first: Sequence[FactorState], second: Sequence[FactorState], form: str) -> Matrix:
    """Return the distances of all pairs."""
    pairs = pairs_of(first, second, symmetric=True)
    sides = [(first[i], second[j]) for i, j in pairs]
    for a, b in sides:
        require_same_n(a.n, b.n)
    nuclear = nuclear_norms([(a.factor, b.factor) for a, b in sides])
    work = list(zip(sides, nuclear.tolist(), strict=True))
    chords = parallel(lambda item: _chord(*item[0], item[1]), work, threaded=threads_help(first))
    found = [distance_of_chord(c, form, a.norm, b.norm) for c, (a, b) in zip(chords, sides, strict=True)]
    return spread(np.array(found), pairs, first, second)


def _distance(a: FactorState, b: FactorState, form: str) -> float:
    """Return a Procrustes distance of two factors."""
    require_same_n(a.n, b.n)
    cross = array_namespace(a.factor, b.factor).matrix_transpose(a.factor) @ b.factor
    return distance_of_chord(_chord(a, b, linalg.nuclear_norm(cross)), form, a.norm, b.norm)


def distance_of_chord(chord: float, form: str, norm_a: float, norm_b: float) -> float:
    """Return a Procrustes distance from the chord between the unit factors, which is 2 sin(angle / 2)."""
    chord = min(chord, math.sqrt(2))
    if form == "size_and_shape":
        # ‖X - YQ‖² = (‖X‖ - ‖Y‖)² + ‖X‖‖Y‖ chord²: no cancellation, whatever the sizes
        return math.hypot(norm_a - norm_b, math.sqrt(norm_a) * math.sqrt(norm_b) * chord)
    if form == "angular":
        return linalg.clip(2 * math.asin(chord / 2), 0.0, math.pi / 2)
    return chord if form == "normalised" else chord**2


def _chord(a: FactorState, b: FactorState, nuclear: float) -> float:
    """Return min_Q ‖F - G Q‖_F = √(2 - 2 nuc) for factors of unit norm, accurate near 0."""
    if nuclear < 1 - 1e-4:
        return math.sqrt(2 - 2 * nuclear)
    if a is b:
        return 0.0
    width = max(a.factor.shape[1], b.factor.shape[1])
    return math.sqrt(_residual(_padded(a.factor, width), _padded(b.factor, width)))


def _residual(a: Array, b: Array) -> float:
    """Return min_Q ‖A - B Q‖²_F for two matrices of one width, from the differences themselves.

    Directions whose singular value is below √eps of the largest are mixed by its rounding. They are small on both sides,
    so that their own product is accurate again: they are aligned among themselves.
    """
    xp = array_namespace(a, b)
    left, values, right = linalg.thin_svd(xp.matrix_transpose(a) @ b)
    if float(values[0]) == 0:
        return linalg.inner(a, a) + linalg.inner(b, b)
    a, b = a @ left, b @ xp.matrix_transpose(right)
    clear = values > math.sqrt(float(xp.finfo(a.dtype).eps)) * values[0]
    k = int(xp.sum(xp.astype(clear, xp.int64)))
    difference = a[:, :k] - b[:, :k]
    rest = _residual(a[:, k:], b[:, k:]) if k < a.shape[1] else 0.0
    return linalg.inner(difference, difference) + rest


def _padded(factor: Array, width: int) -> Array:
    """Return `factor` with columns of zeros added up to `width`."""
    xp = array_namespace(factor)
    n, p = factor.shape
    return xp.concat([factor, xp.zeros((n, width - p), dtype=factor.dtype, device=factor.device)], axis=1)
