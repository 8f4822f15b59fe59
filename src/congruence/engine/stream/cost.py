"""What sums over stimuli cost, from shapes alone: the planner weighs it against holding the representations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from congruence.engine.job import Shape
from congruence.engine.stream.budget import Budget
from congruence.engine.stream.moments import Pair
from congruence.engine.stream.values import find_form
from congruence.measures import CKA, Measure

_DECOMPOSITION = 22.0
"""Work of a singular value decomposition, in p³."""


@dataclass(frozen=True)
class SumsCost:
    """Cost of one measure in covariance form.

    Parameters
    ----------
    shared_flops : float
        Work of the sums, which all measures share.
    own_flops : float
        Work of this measure once the sums are there.
    whitens : bool
        Whether ill-conditioned data take further passes.
    """

    shared_flops: float
    own_flops: float
    whitens: bool

    @property
    def flops(self) -> float:
        """Work if no other measure needs the sums."""
        return self.shared_flops + self.own_flops


def sums_cost(shape: Shape, measure: Measure[Any]) -> SumsCost | None:
    """Return what a measure costs in covariance form; None if it has none, or the data cannot be read in parts."""
    form = find_form(measure)
    if form is None or not shape.row_bytes:
        return None
    p, count = float(shape.widest), shape.count
    crosses = shape.pairs(symmetric=True)
    products = crosses if shape.widths_b is None and shape.asked is None else crosses + count  # with themselves
    decompositions = 0.0 if isinstance(measure, CKA) else _DECOMPOSITION * p**3
    own = shape.pairs(symmetric=measure.info.symmetric) * (2 * p * p + decompositions)
    if form.whitens:
        own += count * decompositions + 4 * crosses * p**3
    return SumsCost(2.0 * shape.n * p * p * products, own, form.whitens)


def budget_of(shape: Shape, memory: int) -> Budget:
    """Return the sizes of chunks and sums."""
    return Budget.of(shape.n, shape.widths, shape.row_bytes, memory=memory)


def pairs_of(shape: Shape) -> list[Pair]:
    """Return the pairs of representations, those of the second side counted on from the first."""
    a, b = len(shape.widths_a), len(shape.widths_b or ())
    if shape.widths_b is None:
        return [(i, j) for i in range(a) for j in range(i, a)]
    return [(i, a + j) for i in range(a) for j in range(b)]
