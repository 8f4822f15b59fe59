"""Singular values and vectors of many matrix products: over the cores on the CPU, in stacks on an accelerator.

On the CPU a sum comes from the eigenvalues of the smaller M Mᵀ, a fraction of the work of a singular value decomposition.
An accelerator is at its best in matrix products and poor at decompositions, so larger stacks go through polar iterations
there, which are nothing but products. Both know how accurate they are; what is not certain is decomposed in full.

Chen & Chow 2014, A stable scaling of Newton-Schulz for improving the sign function computation of a Hermitian matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from array_api_compat import array_namespace

from congruence import linalg
from congruence.measures.block import Matrix, grouped, stack_bytes
from congruence.measures.parallel import parallel
from congruence.validate import Array, on_cpu

BATCHED: bool | None = None
"""Whether products are decomposed in stacks; None leaves that to where they live."""

POLAR_FROM = 33
"""From which size on stacks on an accelerator take polar iterations; up to 32, batched Jacobi sweeps are fast."""

ACCURACY = 1e-12
"""Relative error of a sum that is accepted in float64."""

Product = tuple[Array, Array]
"""Two factors F (n, r) and G (n, s) of a product FᵀG."""


Directions = tuple[Array, Array, Array | None]
"""Left singular vectors (r, m), singular values (m,), and right singular vectors (m, s) where they are asked for."""

Result = TypeVar("Result")


def batched(example: Array) -> bool:
    """Return whether many small decompositions should be done at once, and not one by one over the cores."""
    return not on_cpu(example) if BATCHED is None else BATCHED


def nuclear_norms(products: Sequence[Product]) -> Matrix:
    """Return the sum of the singular values of every product, shape (len(products),)."""
    if not products:
        return np.zeros(0)
    example = products[0][0]
    if not batched(example):
        values = parallel(lambda pair: singular_value_sum(_cross(*pair)), products, threaded=on_cpu(example))
        return np.array(values, dtype=np.float64)
    found = np.zeros(len(products))
    for places, stack in stacks(products):
        found[places] = _norms_of_stack(stack)
    return found


def singular_value_sum(matrix: Array) -> float:
    """Return the nuclear norm, from the eigenvalues of the smaller of M Mᵀ and Mᵀ M where they are accurate enough."""
    xp = array_namespace(matrix)
    if 0 in matrix.shape:
        return 0.0
    small = matrix if matrix.shape[0] <= matrix.shape[1] else xp.matrix_transpose(matrix)
    total, certain = _from_eigenvalues(small)
    return float(total) if bool(certain) else linalg.nuclear_norm(matrix)


def _cross(first: Array, second: Array) -> Array:
    """Return the product of two factors, the smaller side first."""
    if first.shape[1] > second.shape[1]:
        first, second = second, first
    return array_namespace(first, second).matrix_transpose(first) @ second


def stacks(products: Sequence[Product]) -> Iterator[tuple[list[int], Array]]:
    """Yield the products of one shape (r, s), r <= s, as stacks (k, r, s) of bounded memory, with their places."""
    shapes: dict[tuple[int, ...], list[int]] = {}
    for place, pair in enumerate(products):
        shapes.setdefault(tuple(sorted(int(factor.shape[1]) for factor in pair)), []).append(place)
    for shape, members in shapes.items():
        working = 6 * 8 * math.prod(shape)  # the stack, what it is made from, and what is computed on the way
        for group in grouped([working] * len(members), stack_bytes()):
            places = [members[k] for k in group]
            yield places, array_namespace(*products[places[0]]).stack([_cross(*products[place]) for place in places])


def _norms_of_stack(stack: Array) -> Matrix:
    """Return the nuclear norms of a stack of matrices (k, r, s), r <= s."""
    if 0 in stack.shape:
        return np.zeros(stack.shape[0])
    total, certain = (_from_polar if stack.shape[1] >= POLAR_FROM else _from_eigenvalues)(stack)
    found = np.array(linalg.to_numpy(total))
    for place in np.flatnonzero(~linalg.to_numpy(certain)):
        found[place] = singular_value_sum(stack[int(place)])
    return found


def _from_eigenvalues(small: Array) -> tuple[Array, Array]:
    """Return the nuclear norms of matrices (..., r, s), r <= s, in float64, and whether each is accurate enough.

    An eigenvalue λ of M Mᵀ carries an error of about eps d, d the diagonal entry it belongs to: for rows in descending
    order (principal axes) the lower triangle keeps the grading, so small eigenvalues are as accurate as large ones. The
    sum of eps d / √λ estimates what the roots lose.
    """
    xp = array_namespace(small)
    small = xp.astype(small, xp.float64, copy=False)  # float32 would lose half of its digits, and saves no time here
    product = small @ xp.matrix_transpose(small)
    eigenvalues = xp.linalg.eigvalsh(product)  # NumPy and PyTorch read the lower triangle
    diagonal = xp.sort(xp.linalg.diagonal(product), axis=-1)
    limits = xp.finfo(xp.float64)
    roots = xp.sqrt(xp.clip(eigenvalues, float(limits.smallest_normal), None))
    total = xp.sum(roots, axis=-1)
    lost = float(limits.eps) * xp.sum(xp.maximum(diagonal, eigenvalues) / roots, axis=-1)
    return total, xp.logical_and(xp.all(eigenvalues > 0, axis=-1), lost <= ACCURACY * total)


def _from_polar(stack: Array) -> tuple[Array, Array]:
    """Return the nuclear norms of a stack (k, r, s) in float64, from their orthogonal factors, and whether each is certain.

    ⟨M, U⟩ is the norm where U has the singular vectors of M and singular values 1. Iterations bring all values above
    `least` ‖M‖ there; the rest, at most r of them, add less than the accuracy asked for. What one more step changes shows
    that the others have arrived.
    """
    xp = array_namespace(stack)
    limits = xp.finfo(stack.dtype)
    accuracy = max(ACCURACY, 16 * float(limits.eps))
    norms = xp.sqrt(xp.sum(stack * stack, axis=(1, 2)))
    factor = stack / xp.clip(norms, float(limits.smallest_normal), None)[:, None, None]
    for scale in _scales(accuracy / int(stack.shape[1]), max(1e-13, float(limits.eps))):
        factor = _towards_orthogonal(factor, scale)
    found = [_aligned(stack, u) for u in (factor, _towards_orthogonal(factor, 1.0))]
    return found[1], xp.abs(found[1] - found[0]) <= accuracy * found[1]


def _aligned(stack: Array, factor: Array) -> Array:
    """Return ⟨M, U⟩ of every matrix, in float64."""
    xp = array_namespace(stack)
    return xp.sum(stack * factor, axis=(1, 2), dtype=xp.float64)


def _towards_orthogonal(factor: Array, scale: float) -> Array:
    """Return ½ α (3 U - α² U UᵀU): singular values u become ½ α u (3 - α² u²)."""
    gram = factor @ array_namespace(factor).matrix_transpose(factor)
    return (1.5 * scale) * factor - (0.5 * scale**3) * (gram @ factor)


@lru_cache(maxsize=64)
def _scales(least: float, enough: float) -> tuple[float, ...]:
    """Return the scalings α of the steps that bring all singular values in [least, 1] to within `enough` of 1.

    α² = 3 / (1 + l + l²) gives the fastest growth of the least value l. The bound on α is Chen and Chow's: without it
    the largest values would be brought down to the smallest, and lose their digits there.
    """
    found: list[float] = []
    while 1 - least > enough:
        scale = min(math.sqrt(3 / (1 + least + least**2)), 1.69770248525577)
        least = min(0.5 * scale * u * (3 - (scale * u) ** 2) for u in (least, 1.0))
        found.append(scale)
    return tuple(found)


# ---- singular vectors ------------------------------------------------------------------------------------------------


def with_directions(
    products: Sequence[Product], work: Callable[[int, Directions], Result], *, right: Sequence[bool]
) -> list[Result]:
    """Return what `work` makes of the place and the singular vectors of every product.

    Parameters
    ----------
    products : sequence of (array, array), shapes (n, r) and (n, s)
        Factors of the products.
    work : callable
        Called with the place of a product and its decomposition, which is not kept.
    right : sequence of bool
        Whether the right singular vectors of a product are needed.
    """
    if not products:
        return []
    if not batched(products[0][0]):

        def one(place: int) -> Result:
            first, second = products[place]
            cross = array_namespace(first, second).matrix_transpose(first) @ second
            return work(place, directions(cross, right=right[place]))

        return parallel(one, range(len(products)), threaded=on_cpu(products[0][0]))
    results: dict[int, Result] = {}
    for places, stack in stacks(products):
        for place, found in zip(places, _directions_of_stack(stack), strict=True):
            swapped = products[place][0].shape[1] > products[place][1].shape[1]
            results[place] = work(place, _transposed(found) if swapped else found)
    return [results[place] for place in range(len(products))]


def directions(matrix: Array, *, right: bool = True) -> Directions:
    """Return the thin singular value decomposition from the eigenvectors of the smaller product of the matrix with itself.

    The vectors of the larger side come from dividing by the singular values, so values below 1e-5 of the largest send
    the matrix to the full decomposition. Without `right` they are left out if they are the right ones.
    """
    xp = array_namespace(matrix)
    flat = matrix.shape[0] <= matrix.shape[1]
    small = matrix if flat else xp.matrix_transpose(matrix)
    own, rho, clear = _own_vectors(small)
    if not bool(clear):
        return linalg.thin_svd(matrix)
    if flat and not right:
        return own, rho, None
    found = own, rho, _other_vectors(own, rho, small)
    return found if flat else _transposed(found)


def _directions_of_stack(stack: Array) -> Iterator[Directions]:
    """Yield the singular vectors of every matrix of a stack (k, r, s), r <= s."""
    own, rho, clear = _own_vectors(stack)
    other = _other_vectors(own, rho, stack)
    for place, is_clear in enumerate(linalg.to_numpy(clear)):
        yield (own[place], rho[place], other[place]) if is_clear else linalg.thin_svd(stack[place])


def _own_vectors(small: Array) -> tuple[Array, Array, Array]:
    """Return the singular vectors (..., r, r) and values (..., r) of the smaller side, and whether the values are clear.

    In float64 whatever the precision, for the eigenvalues are squares; returned in that of the matrices.
    """
    xp = array_namespace(small)
    double = xp.astype(small, xp.float64, copy=False)
    eigenvalues, vectors = xp.linalg.eigh(double @ xp.matrix_transpose(double))
    clear = eigenvalues[..., 0] >= 1e-10 * eigenvalues[..., -1]
    rho = xp.sqrt(xp.clip(xp.flip(eigenvalues, axis=-1), 0.0, None))
    own = xp.flip(vectors, axis=-1)
    return xp.astype(own, small.dtype, copy=False), xp.astype(rho, small.dtype, copy=False), clear


def _other_vectors(own: Array, rho: Array, small: Array) -> Array:
    """Return the singular vectors (..., m, s) of the larger side; without meaning where a value is 0."""
    xp = array_namespace(small)
    least = float(xp.finfo(small.dtype).smallest_normal)
    return (xp.matrix_transpose(own) @ small) / xp.clip(rho, least, None)[..., :, None]


def _transposed(found: tuple[Array, Array, Any]) -> Directions:
    """Return the decomposition of the transposed matrix."""
    left, rho, right = found
    transpose = array_namespace(rho).matrix_transpose
    return transpose(right), rho, transpose(left)
