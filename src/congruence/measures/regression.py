"""Linear regression between representations. Source: Kornblith et al. 2019, Table 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import numpy as np
from array_api_compat import array_namespace

from congruence import linalg
from congruence.errors import Caveat
from congruence.measures._base import Measure, register
from congruence.measures._info import MeasureInfo, closure
from congruence.measures._rounding import counted_basis, rounded_axes, rounding_caveat
from congruence.measures._work import Workload, factor_work
from congruence.measures.block import Gram, Matrix, cross_energies
from congruence.measures.cka import KORNBLITH
from congruence.validate import Array, require_same_n


class RegressionState(NamedTuple):
    """An orthonormal basis (n, r) of the column space, and the centred values up to rotation (n, q) with their energy."""

    basis: Array
    factor: Array
    energy: float
    rounded: int = 0

    @property
    def n(self) -> int:
        """Number of stimuli."""
        return int(self.basis.shape[0])

    @property
    def rank(self) -> int:
        """Numerical rank."""
        return int(self.basis.shape[1])


@register
@dataclass(frozen=True)
class LinearRegression(Measure[RegressionState]):
    """Share of the variance of Y that is linear in X, fitted and scored on the same stimuli.

    m(X, Y) = ‖Q_XᵀY‖²_F / ‖Y‖²_F, columns centred, Q_X an orthonormal basis of the column space of X. In [0, 1]; 1 if Y
    is a linear function of X; unrelated data give rank(X) / (n - 1). Kornblith's R²_LR fits X from Y: swap the arguments.

    Warns
    -----
    CongruenceWarning
        ``regression_level``: unrelated data of this size would explain half of the variance or more.
        ``float32_directions``: some directions of X are rounding; see `CCA`.

    Notes
    -----
    Asymmetric. Invariant to invertible linear maps of X, and to orthogonal maps and isotropic scaling of Y. Cost: prepare
    O(n p min(n, p)), compare O(n r_X r_Y).

    References
    ----------
    Kornblith et al. 2019, arXiv:1905.00414, eq. 12 and Table 1 (its identity with CKA prints √p1 where √rank(Y) is right).
    """

    name: ClassVar[str] = "linear_regression"

    @property
    def info(self) -> MeasureInfo:
        """Claims of the measure."""
        rotations = closure(("orthogonal", "isotropic_scaling", "translation"))
        return MeasureInfo(
            label=self.label,
            title="linear regression R²",
            definition="|Q_X' Y|_F^2 / |Y|_F^2: the share of the variance of Y that is linear in X",
            orientation="similarity",
            range=(0.0, 1.0),
            identity=1.0,
            symmetric=False,
            conversions=frozenset({"one_minus"}),
            space="X: column spaces; Y: centred representations up to rotation and scale",
            invariant_first=closure(("invertible_linear", "translation")),
            invariant_second=rotations,
            sensitive_second=frozenset({"invertible_linear", "feature_scaling"}),
            meaning=("nothing of Y is linear in X", "Y is a linear function of X"),
            cost="prepare O(n p min(n, p)), compare O(n r_X r_Y)",
            references=(KORNBLITH,),
        )

    def prepare(self, x: Array) -> RegressionState:
        """Return the basis and the principal coordinates of the centred values."""
        x = linalg.unit_scale(self.checked(x))
        if x.shape[1] < x.shape[0]:
            centred = linalg.centre_columns(x)
            basis, rounded = counted_basis(x)
            return RegressionState(basis, centred, linalg.inner(centred, centred), rounded)
        axes = linalg.principal(x)  # a wide matrix is rotated to at most n columns, which changes no norm
        factor, energy = axes.left * axes.values[None, :], linalg.inner(axes.values, axes.values)
        return RegressionState(axes.left, factor, energy, rounded_axes(x, axes))

    def compare(self, a: RegressionState, b: RegressionState) -> float:
        """Return the share of the energy of `b` in the column space of `a`."""
        require_same_n(a.n, b.n)
        explained = array_namespace(a.basis, b.factor).matrix_transpose(a.basis) @ b.factor
        return linalg.clip(linalg.inner(explained, explained) / b.energy, 0.0, 1.0)

    def compare_block(self, first: Sequence[RegressionState], second: Sequence[RegressionState]) -> Matrix:
        """Return all shares from one stream of projectors against Gram matrices."""
        explained = cross_energies([Gram(a.basis) for a in first], [Gram(b.factor) for b in second])
        shares: Matrix = np.clip(explained / np.array([b.energy for b in second]), 0.0, 1.0)
        return shares

    def workload(self, n: int, p: int, count: int) -> Workload:
        """Return the cost: projectors against Gram matrices."""
        work = factor_work(n, min(n, p), count, prepare=6.0 * n * p * min(n, p))
        return replace(work, state_bytes=2 * work.state_bytes, stack_bytes=2 * work.stack_bytes)

    def caveats(self, a: RegressionState, b: RegressionState) -> tuple[Caveat, ...]:
        """Return the level that unrelated data reach, where it is high, and directions of X that are rounding."""
        del b
        level, rounding = a.rank / (a.n - 1), rounding_caveat(X=(a.rounded, a.rank))
        if level < 0.5:
            return rounding
        text = f"X has rank {a.rank} on {a.n} stimuli: it would explain {level:.3g} of the variance of unrelated data; use more stimuli or fewer components"
        return (Caveat("regression_level", text, level), *rounding)
