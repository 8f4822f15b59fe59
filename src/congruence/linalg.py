"""Linear algebra on arrays of any array-API namespace, written for accuracy first.

Everything here returns arrays of the namespace and device of its argument; only `nuclear_norm`, `inner` and the like
return Python floats.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
from array_api_compat import array_namespace, is_jax_array, is_numpy_array, is_torch_array, to_device

from congruence.errors import DegenerateError
from congruence.validate import Array

TIE = 1e-12
"""Distances whose difference is below this share of the larger one count as equal."""

NEAR = 1e-2
"""Squared distances below this share of the squared norms have lost digits to cancellation, and are computed again."""


def at_least_single(x: Array) -> Array:
    """Return half-precision floats as float32 and integers as float64, so that sums neither overflow nor lose digits."""
    xp = array_namespace(x)
    if not xp.isdtype(x.dtype, "real floating"):
        return xp.astype(x, xp.float64)
    return xp.astype(x, xp.float32) if xp.finfo(x.dtype).bits == 16 else x


def unit_scale(x: Array) -> Array:
    """Return `x` times the power of two that brings its largest entry near 1: exact, and squares cannot overflow."""
    xp = array_namespace(x)
    _, exponent = math.frexp(largest(x))
    safe = 100 if x.dtype == xp.float64 else 12  # fourth powers and their sums are far from the limits of the type
    if -safe < exponent < safe:
        return x
    half = -exponent // 2
    return (x * math.ldexp(1.0, half)) * math.ldexp(1.0, -exponent - half)


def largest(x: Array) -> float:
    """Return the largest absolute value."""
    xp = array_namespace(x)
    return max(float(xp.max(x)), -float(xp.min(x)))  # two passes that only read


def to_numpy(x: Array) -> np.ndarray[Any, Any]:
    """Return the array in the CPU's memory as NumPy."""
    return np.asarray(to_device(x, "cpu") if is_torch_array(x) else x)


def centre_columns(x: Array) -> Array:
    """Subtract the mean of every column, twice: the second pass removes the rounding of the first.

    With one pass a constant column of value 1e6 keeps a residue of about 1e-10, which a rank estimate can take for a
    direction.
    """
    xp = array_namespace(x)
    x = x - xp.mean(x, axis=0, keepdims=True)
    means = xp.mean(x, axis=0, keepdims=True)
    return np.subtract(x, means, out=x) if is_numpy_array(x) else x - means


def centre_rows(x: Array) -> Array:
    """Subtract the mean of every row, twice (see `centre_columns`)."""
    xp = array_namespace(x)
    for _ in range(2):
        x = x - xp.mean(x, axis=1, keepdims=True)
    return x


def varying_rows(x: Array) -> Array:
    """Return the rows minus their means; a row that is constant up to rounding becomes exactly zero."""
    xp = array_namespace(x)
    centred = centre_rows(x)
    noise = 4 * float(xp.finfo(x.dtype).eps) * xp.max(xp.abs(x), axis=1, keepdims=True)
    constant = xp.max(xp.abs(centred), axis=1, keepdims=True) <= noise
    return xp.where(constant, xp.zeros_like(centred), centred)


def double_centre(gram: Array) -> Array:
    """Return H K H for a symmetric matrix K, with H = I - 11ᵀ/n."""
    xp = array_namespace(gram)
    means = xp.mean(gram, axis=1)
    return gram - ((means[:, None] + means[None, :]) - xp.mean(means))  # symmetric to the bit


def inner(x: Array, y: Array) -> float:
    """Return the sum of the products of all entries, accumulated in float64."""
    xp = array_namespace(x)
    if x.dtype == xp.float64:
        return float(xp.vecdot(xp.reshape(x, (-1,)), xp.reshape(y, (-1,))))
    return float(xp.sum(x * y, dtype=xp.float64))


def frobenius(x: Array) -> float:
    """Return the Frobenius norm."""
    return math.sqrt(inner(x, x))


def row_squares(x: Array) -> Array:
    """Return the squared norm of every row, shape (n,)."""
    return array_namespace(x).vecdot(x, x)


def directions(x: Array) -> Array:
    """Return the rows divided by their norms; a row of zeros has no direction and is refused."""
    xp = array_namespace(x)
    norms = xp.sqrt(row_squares(x))
    zero = norms == 0
    if bool(xp.any(zero)):
        first, count = int(xp.nonzero(zero)[0][0]), int(xp.sum(xp.astype(zero, xp.int64)))
        message = f"{count} stimul{'us has' if count == 1 else 'i have'} no direction (all features equal 0 after centring, if any); the first is row {first}. Remove it, or choose a measure that needs no cosine."
        raise DegenerateError(message)
    return x / norms[:, None]


def unit_rows(x: Array) -> Array:
    """Return the rows divided by their norms; rows without a direction, or all of one direction, are refused."""
    unit = directions(x)
    if _all_alike(unit):
        message = (
            "all stimuli have the same direction, so their cosines are all 1. Choose a measure that needs no cosine."
        )
        raise DegenerateError(message)
    return unit


def _all_alike(unit: Array) -> bool:
    """Return whether all unit rows are the first one up to rounding; mostly a glance shows that they are not."""
    xp = array_namespace(unit)
    if float(xp.min(unit @ unit[0, :])) < 1 - 1e-3:
        return False
    return largest(unit - unit[:1, :]) <= 16 * float(xp.finfo(unit.dtype).eps)


def require_directions(x: Array) -> None:
    """Refuse what `unit_rows` refuses."""
    unit_rows(unit_scale(x))


def thin_svd(x: Array) -> tuple[Array, Array, Array]:
    """Return U (n, m), s (m,) and Vᵀ (m, p), m = min(n, p)."""
    xp = array_namespace(x)
    try:
        left, singular, right = xp.linalg.svd(x, full_matrices=False)
    except np.linalg.LinAlgError:
        if not is_numpy_array(x):
            raise
        # LAPACK's divide and conquer fails on rare inputs where the slower QR iteration converges.
        left, singular, right = scipy.linalg.svd(x, full_matrices=False, lapack_driver="gesvd")
    return left, singular, right


def singular_values(x: Array) -> Array:
    """Return the singular values in descending order."""
    xp = array_namespace(x)
    try:
        return xp.linalg.svdvals(x)
    except np.linalg.LinAlgError:
        if not is_numpy_array(x):
            raise
        return scipy.linalg.svd(x, compute_uv=False, lapack_driver="gesvd")


class Principal(NamedTuple):
    """Singular value decomposition of values, in general centred, restricted to their numerical rank r.

    left (n, r), values (r,) in descending order, right (r, p).
    """

    left: Array
    values: Array
    right: Array

    @property
    def rank(self) -> int:
        """Numerical rank r."""
        return int(self.values.shape[0])


def principal(x: Array) -> Principal:
    """Return the principal axes of `x` after centring its columns.

    The rank counts singular values above ``max(n, p) eps s_max``, or above the rounding noise that a large mean left in
    `x` if that is more: entries near m are known to eps m / 2 at best, so directions of norm about eps m (√n + √p) are
    noise whatever the centred values look like.
    """
    xp = array_namespace(x)
    left, singular, right = thin_svd(centre_columns(x))
    tolerance = rank_tolerance(x.shape, float(singular[0]), largest_mean(x), float(xp.finfo(x.dtype).eps))
    rank = require_rank(int(xp.sum(xp.astype(singular > tolerance, xp.int64))))
    return Principal(left[:, :rank], singular[:rank], right[:rank, :])


def rank_tolerance(shape: tuple[int, int], largest: float, offset: float, eps: float) -> float:
    """Return what a singular value must exceed to count (see `principal`); `offset` is the largest mean of a column."""
    n, p = shape
    return max(max(n, p) * eps * largest, _rounding_noise(shape, offset, eps))


def require_rank(rank: int) -> int:
    """Return a numerical rank, or raise a DegenerateError if nothing but rounding is left."""
    if rank == 0:
        message = (
            "the stimuli differ by no more than the rounding of their values. Subtract the mean in higher precision."
        )
        raise DegenerateError(message)
    return rank


def column_basis(x: Array) -> Array:
    """Return an orthonormal basis (n, r) of the space of the centred columns of `x`, r the rank that `principal` finds.

    Well-conditioned matrices take W from Cholesky's factor of the Gram matrix, a fraction of the work of a singular value
    decomposition: C W spans what C spans whatever W is, so W only has to be near enough for a correction of C W.
    """
    basis = sturdy_basis(x)
    return principal(x).left if basis is None else basis


def sturdy_basis(x: Array) -> Array | None:
    """Return the basis of `column_basis` if the condition number is certainly below 1e5, else None."""
    return _well_conditioned(centre_columns(x), largest_mean(x)) if x.shape[1] < x.shape[0] else None


def span_basis(x: Array) -> Array:
    """Return an orthonormal basis (n, r) of the space of the columns of `x` as they are, r the rank of `span_axes`."""
    basis = sturdy_span(x)
    return span_axes(x).left if basis is None else basis


def sturdy_span(x: Array) -> Array | None:
    """Return the basis of `span_basis` if the condition number is certainly below 1e5, else None."""
    return _well_conditioned(x, 0.0) if x.shape[1] < x.shape[0] else None


def span_axes(x: Array) -> Principal:
    """Return the singular value decomposition of `x` as it is; the rank counts values above ``max(n, p) eps s_max``."""
    xp = array_namespace(x)
    left, singular, right = thin_svd(x)
    tolerance = rank_tolerance(x.shape, float(singular[0]), 0.0, float(xp.finfo(x.dtype).eps))
    rank = require_rank(int(xp.count_nonzero(singular > tolerance)))
    return Principal(left[:, :rank], singular[:rank], right[:rank, :])


def _well_conditioned(values: Array, offset: float) -> Array | None:
    """Return a basis of the columns if their condition number is low, else None; see `rank_tolerance` for `offset`."""
    xp = array_namespace(values)
    tolerance = rank_tolerance(values.shape, frobenius(values), offset, float(xp.finfo(values.dtype).eps))
    # in float64 whatever the precision: a product of float32 would allow condition numbers of 3 at most
    basis = _cholesky_basis(xp.astype(values, xp.float64, copy=False), tolerance)
    return None if basis is None else xp.astype(basis, values.dtype, copy=False)


def _rounding_noise(shape: tuple[int, int], offset: float, eps: float) -> float:
    """Return the norm of the directions that rounding alone leaves: entries near m are known to eps m / 2."""
    n, p = shape
    return eps * offset * (math.sqrt(n) + math.sqrt(p))


def largest_mean(x: Array) -> float:
    """Return the largest absolute mean of a column."""
    xp = array_namespace(x)
    return float(xp.max(xp.abs(xp.mean(x, axis=0))))


def _cholesky_basis(centred: Array, noise: float) -> Array | None:
    """Return the basis if the condition number is certainly below 1e5 and all of it above `noise`, else None."""
    eps = float(array_namespace(centred).finfo(centred.dtype).eps)
    weights = _cholesky_weights(centred)
    if weights is None:
        return None
    least = 1 / frobenius(weights)  # no singular value is below this
    if not least > max(frobenius(centred) * math.sqrt(eps) * 1e3, 10 * noise):
        return None
    return orthonormalised(_times_upper(centred, weights))


def _cholesky_weights(x: Array) -> Array | None:
    """Return the upper triangular W for which X W is nearly orthonormal; None if XᵀX is not positive definite."""
    xp = array_namespace(x)
    try:
        lower = xp.linalg.cholesky(xp.matrix_transpose(x) @ x)
    except (np.linalg.LinAlgError, RuntimeError):  # not positive definite (PyTorch's error is a RuntimeError)
        return None
    return xp.matrix_transpose(_inverse_lower(lower) if is_numpy_array(x) else xp.linalg.inv(lower))


def _inverse_lower(lower: Array) -> Array:
    """Return the inverse of a lower triangular matrix, by halves: products, which other threads can run beside.

    SciPy's triangular routines keep all other threads waiting while they work.
    """
    size = lower.shape[0]
    if size <= 64:
        return np.tril(np.linalg.inv(lower))
    half = size // 2
    result = np.zeros_like(lower)
    result[:half, :half] = first = _inverse_lower(lower[:half, :half])
    result[half:, half:] = second = _inverse_lower(lower[half:, half:])
    result[half:, :half] = -second @ (lower[half:, :half] @ first)
    return result


def _times_upper(x: Array, weights: Array) -> Array:
    """Return X W for an upper triangular W, without most of the products with zeros."""
    if not is_numpy_array(x):
        return x @ weights
    result = np.empty((x.shape[0], weights.shape[1]), dtype=x.dtype)
    edges = np.linspace(0, weights.shape[1], 5 if weights.shape[1] >= 256 else 2).astype(int)
    for start, stop in pairwise(edges):
        np.matmul(x[:, :stop], weights[:stop, start:stop], out=result[:, start:stop])
    return result


def orthonormalised(basis: Array) -> Array | None:
    """Return the orthonormal basis of a nearly orthonormal one.

    With QᵀQ = I + E and E = T + Tᵀ for an upper triangular T, Q (I - T) is orthonormal up to ‖E‖². E is measured, so it
    is known when no further step, and no further measurement, is needed; None if E is not small from the start.
    """
    xp = array_namespace(basis)
    width = int(basis.shape[1])
    enough = 16 * width * float(xp.finfo(basis.dtype).eps)  # what rounding leaves of a well-conditioned basis
    identity = xp.eye(width, dtype=basis.dtype, device=basis.device)
    for _ in range(6):
        defect = xp.matrix_transpose(basis) @ basis - identity
        size = frobenius(defect)
        if size <= enough:
            return basis
        if not size < 0.1:
            return None
        basis = _times_upper(basis, identity - _upper_half(defect))
        if size * size <= 0.01 * enough:
            return basis
    return None


def _upper_half(symmetric: Array) -> Array:
    """Return the upper triangular T with T + Tᵀ = the symmetric matrix."""
    xp = array_namespace(symmetric)
    above = xp.triu(symmetric, k=1)
    return above + 0.5 * (symmetric - above - xp.matrix_transpose(above))


def complement(basis: Array) -> Array:
    """Return an orthonormal basis of all centred vectors orthogonal to `basis` (n, r), shape (n, n - 1 - r).

    Random vectors without their part in `basis` are made orthonormal, a fraction of the work of completing `basis`.
    """
    xp = array_namespace(basis)
    n, r = basis.shape
    if r == n - 1:
        return basis[:, :0]
    ones = xp.full((n, 1), 1 / math.sqrt(n), dtype=basis.dtype, device=basis.device)
    fixed = xp.concat([ones, basis], axis=1)
    drawn = np.random.default_rng(0).normal(size=(n, n - 1 - r))
    found = xp.asarray(drawn, dtype=basis.dtype, device=basis.device)
    for _ in range(2):  # the second time takes out what rounding left of `basis`
        found = found - fixed @ (xp.matrix_transpose(fixed) @ found)
        weights = _cholesky_weights(found)
        if weights is None:
            whole, _ = xp.linalg.qr(fixed, mode="complete")
            return whole[:, r + 1 :]
        found = _times_upper(found, weights)
    return found


def nuclear_norm(x: Array) -> float:
    """Return the sum of the singular values."""
    xp = array_namespace(x)
    return float(xp.sum(singular_values(x), dtype=xp.float64))


def squared_distances(x: Array) -> Array:
    """Return the squared Euclidean distances between all rows, shape (n, n): symmetric, zero diagonal.

    ‖a‖² + ‖b‖² - 2 a·b loses digits where rows are close compared with their norms. The columns are centred first, and
    pairs that are still close (below `NEAR` of their norms) are computed again from the differences of the values as they
    came, so that every distance is right to about 1e-13 of itself and ties can be told.
    """
    xp = array_namespace(x)
    centred = centre_columns(x)
    products = centred @ xp.matrix_transpose(centred)  # BLAS makes it symmetric to the bit
    squares = row_squares(centred)
    if is_numpy_array(products):
        distances = products
        rows, columns = distances_in_place(products, squares, squares, square=True)
    else:
        norms = squares[:, None] + squares[None, :]
        distances = norms - 2 * products
        rows, columns = xp.nonzero(distances < NEAR * norms)
    below = xp.nonzero(rows > columns)[0]
    if below.shape[0]:
        rows, columns = xp.take(rows, below), xp.take(columns, below)
        distances = _assign(distances, rows, columns, differences(x, rows, columns))
    return with_diagonal(distances, 0.0)


def distances_in_place(products: Array, squares: Array, others: Array, *, square: bool) -> tuple[Array, Array]:
    """Write ‖a‖² + ‖b‖² - 2 a·b over the products of some rows with others (NumPy); return the places of close pairs.

    Pairs are close below `NEAR` of their norms. In a `square` both sides are the same rows, and its diagonal is left
    infinite.
    """
    rows, columns = products.shape
    height = max(1, 2**15 // columns)  # so many rows at a time stay in the cache
    bound = NEAR * (squares + np.max(others, initial=0.0))  # no pair of a row whose least distance is above it is close
    near = [(np.empty(0, dtype=np.intp),) * 2]
    for start in range(0, rows, height):
        part, left = products[start : start + height], squares[start : start + height, None]
        norms = left + others
        part *= -2
        part += norms
        if square:
            np.fill_diagonal(part[:, start:], np.inf)
        suspect = np.flatnonzero(part.min(axis=1) < bound[start : start + height])
        if suspect.shape[0]:
            found, place = np.nonzero(part[suspect] < NEAR * norms[suspect])
            near.append((suspect[found] + start, place))
    i, j = (np.concatenate(side) for side in zip(*near, strict=True))
    return i, j


def cosine_distances(x: Array) -> Array:
    """Return 1 - cosine of all pairs of rows, shape (n, n): symmetric, zero diagonal.

    1 - cos is half the squared distance of unit vectors, which keeps its digits where the cosine is near 1. Values below
    the rounding of a unit vector become 0, so that multiples of one row are ties.
    """
    return halved_distances(squared_distances(unit_rows(x)))


def halved_distances(distances: Array) -> Array:
    """Return the cosine distances that belong to squared distances of unit vectors, which are written to."""
    xp = array_namespace(distances)
    noise = 32 * float(xp.finfo(distances.dtype).eps) ** 2
    distances *= 0.5
    if is_numpy_array(distances):
        np.putmask(distances, distances <= noise, 0.0)
        return distances
    return xp.where(distances <= noise, xp.zeros_like(distances), distances)


def differences(x: Array, rows: Array, columns: Array) -> Array:
    """Return ‖x_i - x_j‖² for the given pairs from the differences, in pieces of bounded memory."""
    xp = array_namespace(x)
    piece = max(1, 2_000_000 // x.shape[1])
    parts = [
        row_squares(xp.take(x, rows[s : s + piece], axis=0) - xp.take(x, columns[s : s + piece], axis=0))
        for s in range(0, rows.shape[0], piece)
    ]
    return xp.concat(parts)


def with_diagonal(matrix: Array, value: float) -> Array:
    """Return a square matrix with `value` on its diagonal; it is written to where that is possible."""
    xp = array_namespace(matrix)
    n = matrix.shape[0]
    places = xp.arange(n, device=matrix.device)
    return _assign(matrix, places, places, xp.full((n,), value, dtype=matrix.dtype, device=matrix.device))


def _assign(matrix: Array, rows: Array, columns: Array, values: Array) -> Array:
    """Return a symmetric matrix with `values` at (rows, columns) and (columns, rows)."""
    if is_jax_array(matrix):  # cannot be written to
        return matrix.at[rows, columns].set(values).at[columns, rows].set(values)
    matrix[rows, columns] = values
    matrix[columns, rows] = values
    return matrix


@lru_cache(maxsize=2)
def _places_above(n: int) -> np.ndarray[Any, Any]:
    """Return the flat positions above the diagonal of an (n, n) matrix."""
    return np.flatnonzero(np.triu(np.ones((n, n), dtype=bool), 1))


def upper(matrix: Array) -> Array:
    """Return the entries above the diagonal, row by row, shape (n (n - 1) / 2,)."""
    xp = array_namespace(matrix)
    if is_numpy_array(matrix):
        return np.take(matrix, _places_above(matrix.shape[0]))
    n = matrix.shape[0]
    rows, columns = xp.nonzero(xp.triu(xp.ones((n, n), dtype=xp.bool, device=matrix.device), k=1))
    return matrix[rows, columns]


def median(values: Array) -> float:
    """Return the median of a vector."""
    if is_numpy_array(values):
        return float(np.median(values))  # by partition: a sort would cost several times as much
    xp = array_namespace(values)
    ascending = xp.sort(values)
    m = int(values.shape[0])
    return (float(ascending[(m - 1) // 2]) + float(ascending[m // 2])) / 2


def smallest(matrix: Array, k: int) -> tuple[Array, Array]:
    """Return the k smallest entries of every row in ascending order, and their columns, shapes (n, k)."""
    xp = array_namespace(matrix)
    if is_numpy_array(matrix):
        columns = np.argpartition(matrix, k - 1, axis=1)[:, :k]
    else:
        columns = xp.argsort(matrix, axis=1)[:, :k]
    values = xp.take_along_axis(matrix, columns, axis=1)
    order = xp.argsort(values, axis=1)
    return xp.take_along_axis(values, order, axis=1), xp.take_along_axis(columns, order, axis=1)


def tied_groups(values: Array) -> tuple[Array, Array]:
    """Return the ascending order of a vector and, along it, the group of each value (0, 1, ...); ties share a group.

    Neighbours in order are tied if they differ by at most `TIE` times the larger absolute value.
    """
    xp = array_namespace(values)
    order, apart = _ascending(values)
    new = xp.astype(apart, xp.int64)
    group = xp.concat([xp.zeros((1,), dtype=xp.int64, device=values.device), xp.cumulative_sum(new)])
    return order, group


_PLACE_BITS = 21
"""How many bits of a key hold a place: enough for the pairs of 2,000 stimuli; 32 bits of the fraction are left."""


def _ascending(values: Array) -> tuple[Array, Array]:
    """Return an order that sorts a vector, equal values in whatever order, and which neighbours in it do not tie."""
    xp = array_namespace(values)
    many = 2**14 < values.shape[0] <= 2**_PLACE_BITS
    if many and is_numpy_array(values) and values.dtype == np.float64 and not np.signbit(values).any():
        found = _sorted_by_bits(values)
        if found is not None:
            return found
    order = xp.argsort(values, stable=False)
    ascending = xp.take(values, order)
    below, above = ascending[:-1], ascending[1:]
    return order, above - below > TIE * xp.maximum(xp.abs(above), xp.abs(below))


def _sorted_by_bits(values: Array) -> tuple[Array, Array] | None:
    """Return what `_ascending` does for values that are not negative; None where very many are nearly equal.

    Such floats are ordered like their bits, so the upper ones with the place below them sort as integers, which takes a
    third of the time of sorting places. Only values whose upper bits are next to each other can tie, or stand in the
    wrong order; they alone are looked up.
    """
    low = np.uint64(2**_PLACE_BITS - 1)
    keys = np.ascontiguousarray(values).view(np.uint64) & ~low
    keys |= np.arange(values.shape[0], dtype=np.uint64)
    keys.sort()
    order = (keys & low).view(np.int64)
    keys >>= np.uint64(_PLACE_BITS)
    close = keys[1:] - keys[:-1] <= 1
    members = np.flatnonzero(np.append(close, False) | np.append(False, close))
    if members.shape[0] > values.shape[0] // 4:
        return None
    if not members.shape[0]:
        return order, ~close
    run = np.cumsum(np.append(True, ~close[members[1:] - 1]))
    found = values[order[members]]
    within = np.lexsort((found, run))
    order[members], found = order[members[within]], found[within]
    apart = ~close
    inside = np.flatnonzero(close[members[:-1]])
    apart[members[inside]] = found[inside + 1] - found[inside] > TIE * found[inside + 1]
    return order, apart


def average_ranks(values: Array) -> Array:
    """Return the ranks 1..m of a vector as floats; tied values (see `tied_groups`) share the mean of their ranks."""
    xp = array_namespace(values)
    m = values.shape[0]
    order, apart = _ascending(values)
    exact = xp.float32 if m < 2**22 else xp.float64  # halves are exact, and half as much is written here and there
    ranks = xp.arange(1, m + 1, dtype=exact, device=values.device)
    if not bool(xp.all(apart)):
        ranks = _shared(ranks, apart)
    return xp.astype(_scatter(ranks, order), xp.float64)


def _shared(ranks: Array, apart: Array) -> Array:
    """Return ascending ranks with the mean of a group in place of those that are not `apart` from their neighbours."""
    xp = array_namespace(ranks)
    end = xp.ones((1,), dtype=xp.bool, device=ranks.device)
    first, last = xp.concat([end, apart]), xp.concat([apart, end])
    tied = xp.nonzero(~(first & last))[0]
    starts, ends = (xp.take(tied, xp.nonzero(xp.take(edge, tied))[0]) for edge in (first, last))
    middle = xp.astype(xp.astype(starts + ends, xp.float64) / 2 + 1, ranks.dtype)
    group = xp.cumulative_sum(xp.astype(xp.take(first, tied), xp.int64)) - 1
    shared = xp.take(middle, group)
    if is_jax_array(ranks):
        return ranks.at[tied].set(shared)
    ranks[tied] = shared
    return ranks


def _scatter(values: Array, places: Array) -> Array:
    """Return the vector with values[i] at places[i], for a permutation `places`."""
    if is_jax_array(values):
        return values.at[places].set(values)
    result = array_namespace(values).empty_like(values)
    result[places] = values
    return result


def clip(value: float, low: float, high: float) -> float:
    """Return `value` inside [low, high]: rounding must not leave the range of a measure."""
    return min(max(value, low), high)
