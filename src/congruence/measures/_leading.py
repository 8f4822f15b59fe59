"""The leading principal directions of a representation, without a singular value decomposition where that is safe.

Eigenvectors of the smaller Gram matrix cost a fraction of a singular value decomposition, and rounding turns those of
values λ_i and λ_j into one another by about eps λ_1 / (λ_i - λ_j). The products of the projected data say by how much: one
correction of first order takes that out, and what is left is its square. What the error could decide is left to the
decomposition: directions near the rounding, a cut between values that are nearly equal, a threshold reached by a hair.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from array_api_compat import array_namespace

from congruence import linalg
from congruence.validate import Array

Kept = Callable[[Array], int]
"""How many directions are kept, of singular values in descending order."""

RESOLVED = 64.0
"""Singular values above this times √eps of the largest are told apart by their squares."""

CUT = 8.0
"""Least gap between the last direction kept and the first left out, and largest correction, in the same unit."""


def leading_basis(x: Array, kept: Kept) -> Array:
    """Return an orthonormal basis (n, k) of the k leading left singular directions of the centred columns of `x`."""
    basis = _from_eigenvectors(x, kept)
    if basis is not None:
        return basis
    axes = linalg.principal(x)
    return axes.left[:, : kept(axes.values)]


def _from_eigenvectors(x: Array, kept: Kept) -> Array | None:
    """Return the basis from eigenvectors of the smaller Gram matrix; None where that might not span the same."""
    xp = array_namespace(x)
    eps = float(xp.finfo(x.dtype).eps)
    centred = linalg.centre_columns(x)
    tall = centred.shape[0] >= centred.shape[1]
    small = centred if tall else xp.matrix_transpose(centred)
    _, vectors = xp.linalg.eigh(xp.matrix_transpose(small) @ small)
    vectors = xp.flip(vectors, axis=1)
    projected = small @ vectors
    products = xp.matrix_transpose(projected) @ projected  # diagonal but for what rounding has turned
    singular = xp.sqrt(xp.linalg.diagonal(products))
    unit = math.sqrt(eps) * float(singular[0])
    if linalg.rank_tolerance(x.shape, float(singular[0]), linalg.largest_mean(x), eps) > unit:
        return None
    k = _certain(singular, kept, unit)
    if k is None:
        return None
    turned = products[k:, :k] / (singular[None, :k] ** 2 - singular[k:, None] ** 2)
    if linalg.frobenius(turned) > CUT * math.sqrt(eps):
        return None
    source = projected if tall else vectors
    basis = source[:, :k] + source[:, k:] @ turned
    return linalg.orthonormalised(basis / xp.sqrt(xp.sum(basis * basis, axis=0)))


def _certain(singular: Array, kept: Kept, unit: float) -> int | None:
    """Return how many directions are kept, if no rounding can change that or mix them with the others."""
    xp = array_namespace(singular)
    k = kept(singular)
    blur = RESOLVED * unit
    shifted = [kept(xp.clip(singular + shift, 0.0, None)) for shift in (blur, -blur)]
    beyond = float(xp.max(singular[k:])) if k < singular.shape[0] else 0.0
    least = float(xp.min(singular[:k]))
    return k if shifted == [k, k] and least > blur and least - beyond > CUT * unit else None
