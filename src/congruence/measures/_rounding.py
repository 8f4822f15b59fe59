"""Directions that are nothing but rounding in float32, which measures of subspaces count like any other.

A network computes in float32. Where its features depend linearly on each other (softmax outputs, more logits than units),
rounding gives them directions that they do not have, about 1e-7 of the others in size. A comparison in float64 sees them.
"""

from __future__ import annotations

import numpy as np
from array_api_compat import array_namespace

from congruence import linalg
from congruence.errors import Caveat
from congruence.validate import Array

UNIT = float(np.finfo(np.float32).eps) / 2
"""What rounding to float32 changes at most, relative to the number."""

ACCUMULATED = 32.0
"""Directions below this many units of the features that make them up are rounding: sums of a few hundred products, an
exponential and a division leave a few units each."""

FEW = 0.01
"""Up to this share of the directions of a side are not worth a warning: no mean over directions moves by more. Every layer
behind a layer norm has one."""


def counted_basis(x: Array) -> tuple[Array, int]:
    """Return the basis of `linalg.column_basis`, and how many of its directions are rounding in float32."""
    basis = linalg.sturdy_basis(x)
    if basis is not None:  # no direction is below 1e-5 of the largest
        return basis, 0
    axes = linalg.principal(x)
    return axes.left, rounded_axes(x, axes)


def counted_span(x: Array) -> tuple[Array, int]:
    """Return the basis of `linalg.span_basis`, and how many of its directions are rounding in float32."""
    basis = linalg.sturdy_span(x)
    if basis is not None:
        return basis, 0
    axes = linalg.span_axes(x)
    return axes.left, rounded_axes(x, axes, centred=False)


def rounded_axes(x: Array, axes: linalg.Principal, *, centred: bool = True) -> int:
    """Return how many axes of `x` are no larger than what rounding in float32 adds to the features that they combine.

    Each axis is held against its own features, so that a small feature is not taken for the rounding of a large one.
    """
    if not _holds_single(x):
        return 0
    xp = array_namespace(x)
    shares = axes.right**2  # (r, p)
    varying = linalg.centre_columns(x) if centred else x
    combined, stored = (xp.sqrt(shares @ xp.sum(values**2, axis=0)) for values in (varying, x))
    noise = UNIT * xp.maximum(ACCUMULATED * combined, 2 * stored)
    return int(xp.count_nonzero(axes.values <= noise))


def _holds_single(x: Array) -> bool:
    """Return whether float64 values are those of float32; one row tells of most that are not."""
    xp = array_namespace(x)
    if x.dtype != xp.float64:
        return False
    parts = (x[:1, :], x)
    return all(bool(xp.all(xp.astype(xp.astype(part, xp.float32), xp.float64) == part)) for part in parts)


def rounding_caveat(**sides: tuple[int, int]) -> tuple[Caveat, ...]:
    """Return the caveat for directions that are rounding, given of each side how many they are, and the rank."""
    found = [
        f"{rounded} of {rank} directions of {side}" for side, (rounded, rank) in sides.items() if rounded > FEW * rank
    ]
    if not found:
        return ()
    text = (
        f"{' and '.join(found)} are no more than rounding: features that depend linearly on each other were computed in "
        "float32, and the value counts those directions like any other; compute the features in float64, or leave out "
        "those that depend on others"
    )
    return (Caveat("float32_directions", text),)
