"""Kernels for many pairs at once; each gives what the pair loop gives, at the speed of matrix products.

Two facts carry them. The similarity of two Gram matrices is an inner product of their entries, so all pairs of a family
are one product of stacked Gram rows (`cross_energies`). And a sum of singular values needs no singular value
decomposition (`congruence.measures.spectra`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import accumulate, pairwise
from typing import Any, NamedTuple, Protocol, Self, TypeVar, runtime_checkable

import numpy as np
from array_api_compat import array_namespace, is_array_api_obj, is_jax_array, is_numpy_array

from congruence import linalg
from congruence.measures._base import Findings
from congruence.measures._work import BLOCK
from congruence.measures.parallel import parallel
from congruence.validate import Array, on_cpu, require_same_n

Matrix = np.ndarray[Any, np.dtype[np.float64]]
Result = TypeVar("Result")

STACK_BYTES = 400_000_000
"""How much memory kernels may take beside the states, for stacked Gram rows and the like."""

CROSS_BYTES = 32_000_000
"""How much of a wide product is held at once; fixed, since every core holds one and last bits may depend on it."""

PIECE = 4096
"""How many products are summed at once: those of float32 in float32, before the sum goes on in float64."""

SUMS_BYTES = 100_000_000
"""How much memory the sums may take that several cores add up apart."""

_stack_bytes: ContextVar[int] = ContextVar("_stack_bytes", default=STACK_BYTES)


@contextmanager
def stacks_within(size: int) -> Iterator[None]:
    """Bound the memory that the kernels called inside take beside the states, in bytes."""
    token = _stack_bytes.set(size)
    try:
        yield
    finally:
        _stack_bytes.reset(token)


def stack_bytes() -> int:
    """Return how much memory a kernel may take beside the states."""
    return _stack_bytes.get()


def grouped(sizes: Sequence[int], room: int) -> list[range]:
    """Return consecutive places in groups of at most `room` together, and of one where that alone is more."""
    edges, held = [0], 0
    for place, size in enumerate(sizes):
        if held + size > room and place > edges[-1]:
            edges.append(place)
            held = 0
        held += size
    return [range(start, stop) for start, stop in pairwise([*edges, len(sizes)])]


class Gram(NamedTuple):
    """A Gram matrix K, as a factor F (n, q) with K = F Fᵀ or as K (n, n) itself."""

    values: Array
    factored: bool = True

    def part(self, rows: slice, columns: slice) -> Array:
        """Return K[rows, columns]."""
        if not self.factored:
            return self.values[rows, columns]
        return self.values[rows] @ array_namespace(self.values).matrix_transpose(self.values[columns])

    def row(self, segment: Segment, out: Array | None = None) -> Array:
        """Return the entries in a segment as one row; written into `out` if that is given."""
        if out is None:
            return array_namespace(self.values).concat([self.part(*part).reshape((-1,)) for part in segment.parts])
        for rows, columns, part in segment.views(out):
            if self.factored and is_numpy_array(out):
                np.matmul(self.values[rows], self.values[columns].T, out=part)
            else:
                part[...] = self.part(rows, columns)
        return out


# ---- inner products of Gram matrices ---------------------------------------------------------------------------------


def cross_energies(first: Sequence[Gram], second: Sequence[Gram] | None = None) -> Matrix:
    """Return ⟨K_i, L_j⟩ for all pairs of Gram matrices, shape (len(first), len(second)).

    For factors that is ‖F_iᵀG_j‖²_F. Chosen by cost: products of the factors (n q² a pair), or one stream over blocks of
    stimuli that compares stacked rows of all Gram matrices at once (n² a pair). Leaving out `second` compares within
    `first` and halves the work.
    """
    others = first if second is None else second
    if not first or not others:
        return np.zeros((len(first), len(others)))
    n = first[0].values.shape[0]
    for gram in (*first, *others):
        require_same_n(n, gram.values.shape[0])
    if all(gram.factored for gram in (*first, *others)):
        width, other_width = (sum(int(gram.values.shape[1]) for gram in side) for side in (first, others))
        build = n * n * (width if second is None else width + other_width)
        if width * other_width * n * 2 <= build + n * n * len(first) * len(others):
            return _factor_energies(first, others)
    return _stream_energies(first, second, n)


def state_energies(gram: Callable[[Any], Gram], first: Sequence[Any], second: Sequence[Any]) -> Matrix:
    """Return `cross_energies` of the Gram matrices of states; comparing states with themselves halves the work."""
    left = [gram(state) for state in first]
    return cross_energies(left, None if same_states(first, second) else [gram(state) for state in second])


def _factor_energies(first: Sequence[Gram], second: Sequence[Gram]) -> Matrix:
    """Compare factors: wide products, one a row of the result, then sums over the blocks of each pair."""
    sizes = [8 * int(gram.values.shape[0]) * int(gram.values.shape[1]) for gram in second]
    parts = [[second[j] for j in group] for group in grouped(sizes, stack_bytes())]
    return np.concatenate([_wide_energies(first, part) for part in parts], axis=1)


def _wide_energies(first: Sequence[Gram], second: Sequence[Gram]) -> Matrix:
    """Compare factors, those of `second` side by side in one matrix."""
    xp = array_namespace(first[0].values)
    wide = xp.concat([gram.values for gram in second], axis=1)
    widths = [int(gram.values.shape[1]) for gram in second]
    edges = [0, *accumulate(widths)]

    def row(gram: Gram) -> list[float]:
        factor, parts = xp.matrix_transpose(gram.values), []
        for group in grouped([8 * int(gram.values.shape[1]) * width for width in widths], CROSS_BYTES):
            cross = factor @ wide[:, edges[group.start] : edges[group.stop]]
            parts.append(linalg.to_numpy(xp.sum(cross * cross, axis=0, dtype=xp.float64)))
        energy = np.concatenate(parts)
        return [float(np.sum(energy[start:stop])) for start, stop in pairwise(edges)]

    return np.array(parallel(row, first, threaded=is_numpy_array(wide)))


def _stream_energies(first: Sequence[Gram], second: Sequence[Gram] | None, n: int) -> Matrix:
    """Compare Gram matrices that are at hand, in segments of bounded memory."""
    left = GramSource.of(first)
    right = None if second is None else GramSource.of(second)
    total = np.zeros((len(first), len(first if second is None else second)))
    for segment in segments(n, left.size + (right.size if right else 0), stack_bytes()):
        total += segment_energies(left, right, segment).cross
    return total


class GramSource(NamedTuple):
    """Rows of Gram matrices (see `Gram.row`), made one at a time when they are asked for."""

    size: int
    row: Callable[[int, Segment, Array | None], Array]

    @classmethod
    def of(cls, grams: Sequence[Gram]) -> Self:
        """Return the source of Gram matrices that are at hand."""
        return cls(len(grams), lambda index, segment, out: grams[index].row(segment, out))


class Segment(NamedTuple):
    """The part of a symmetric matrix in rows start..stop, of each row what lies left of the diagonal."""

    start: int
    stop: int

    @property
    def parts(self) -> list[tuple[slice, slice]]:
        """Rectangles (rows, columns) that cover the segment, those on the diagonal first.

        These are squares of at most `BLOCK` in which both halves are covered.
        """
        left = [(slice(self.start, self.stop), slice(0, self.start))] if self.start else []
        return sorted([*left, *_triangle(self.start, self.stop)], key=lambda part: part[0] != part[1])

    @property
    def on_diagonal(self) -> int:
        """How many entries the squares on the diagonal hold."""
        return sum(_area(rows, columns) for rows, columns in self.parts if rows == columns)

    @property
    def entries(self) -> int:
        """How many entries the rectangles hold."""
        return sum(_area(*part) for part in self.parts)

    def views(self, row: Array) -> Iterator[tuple[slice, slice, Array]]:
        """Iterate over the rectangles that are one after the other in a row: rows, columns and the entries there."""
        start = 0
        for rows, columns in self.parts:
            stop = start + _area(rows, columns)
            yield rows, columns, row[start:stop].reshape((rows.stop - rows.start, columns.stop - columns.start))
            start = stop


def _area(rows: slice, columns: slice) -> int:
    return int((rows.stop - rows.start) * (columns.stop - columns.start))


def _triangle(start: int, stop: int) -> Iterator[tuple[slice, slice]]:
    """Iterate over rectangles that cover the lower triangle of rows and columns start..stop."""
    if stop - start <= BLOCK:
        yield slice(start, stop), slice(start, stop)
        return
    middle = start + BLOCK * math.ceil((stop - start) / (2 * BLOCK))
    yield slice(middle, stop), slice(start, middle)
    yield from _triangle(start, middle)
    yield from _triangle(middle, stop)


def segments(n: int, count: int, memory: int) -> list[Segment]:
    """Return all rows of n x n matrices in segments, such that those of `count` matrices fit into `memory` bytes.

    Segments end at multiples of `BLOCK`, or of less where not even so few of the last rows fit, which are the widest.
    """
    step = max(1, min(BLOCK, memory // (8 * count * n)))
    found: list[Segment] = []
    start = end = 0
    for stop in (*range(step, n, step), n):
        if end > start and 8 * count * Segment(start, stop).entries > memory:
            found.append(Segment(start, end))
            start = end
        end = stop
    return [*found, Segment(start, n)]


class Energies(NamedTuple):
    """⟨K_i, L_j⟩ for all pairs, and ⟨K_i, K_i⟩ and ⟨L_j, L_j⟩; parts of them from some segments can be added."""

    cross: Matrix
    own_first: Matrix
    own_second: Matrix

    @classmethod
    def zeros(cls, first: int, second: int) -> Self:
        """Return the sum of no segments."""
        return cls(np.zeros((first, second)), np.zeros(first), np.zeros(second))


@runtime_checkable
class StreamingMeasure(Protocol):
    """A measure whose values follow from inner products of Gram matrices that are never all at hand."""

    def stream_row(self, x: Array, segment: Segment, out: Array | None) -> tuple[Array, Any]:
        """Return a segment of the Gram matrix of one representation as `Gram.row` does, and a small state."""

    def finish_state(self, state: Any, own: float) -> Any:
        """Return the state with its ⟨K, K⟩, or raise a DegenerateError."""

    def finish_stream(self, cross: Matrix, first: Sequence[Any], second: Sequence[Any]) -> Findings:
        """Return the values of all pairs of finished states from their ⟨K, L⟩."""


def segment_energies(first: GramSource, second: GramSource | None, segment: Segment) -> Energies:
    """Return what one segment of the Gram matrices contributes to their inner products.

    One row a Gram matrix, one product. What lies off the diagonal counts twice, since the matrices are symmetric.
    """
    left = _stacked_rows(first, segment)
    right = None if second is None else _stacked_rows(second, segment)
    total = Energies.zeros(first.size, (second or first).size)
    edge, width = segment.on_diagonal, int(left.shape[1])
    for times, columns in ((1, slice(0, edge)), (2, slice(edge, width))):
        if columns.start < columns.stop:
            found = _energies(left[:, columns], None if right is None else right[:, columns])
            total = Energies(*(old + times * new for old, new in zip(total, found, strict=True)))
    return total


def _energies(left: Array, right: Array | None) -> Energies:
    """Return the inner products of the rows of one or two matrices, and their squared norms."""
    own = [_row_energies(side) for side in (left, right) if side is not None]
    return Energies(_products(left, right), own[0], own[-1])


def _pieces(x: Array) -> list[slice]:
    """Return slices of columns over which sums of products keep their digits: all of them, in pieces for float32."""
    width = int(x.shape[1])
    step = width if x.dtype == array_namespace(x).float64 else PIECE
    return [slice(start, start + step) for start in range(0, width, step)]


def _row_energies(rows: Array) -> Matrix:
    """Return the squared norm of every row, in float64."""
    xp = array_namespace(rows)
    parts = [xp.vecdot(rows[:, piece], rows[:, piece]) for piece in _pieces(rows)]
    return np.asarray(linalg.to_numpy(sum(xp.astype(part, xp.float64, copy=False) for part in parts)))


def _products(left: Array, right: Array | None) -> Matrix:
    """Return the inner products of the rows of one or two matrices, in float64."""
    others = left if right is None else right
    if not is_numpy_array(left):
        xp = array_namespace(left, others)
        parts = (left[:, piece] @ xp.matrix_transpose(others[:, piece]) for piece in _pieces(left))
        return np.asarray(linalg.to_numpy(sum(xp.astype(part, xp.float64, copy=False) for part in parts)))
    sides = [lambda piece, side=side: side[:, piece] for side in (left, right) if side is not None]
    return _shared_products(sides, (left.shape[0], others.shape[0]), left.shape[1], left.dtype)


def _shared_products(
    sides: Sequence[Callable[[slice], Matrix]], shape: tuple[int, int], width: int, dtype: np.dtype[Any]
) -> Matrix:
    """Return the inner products of the rows of one or two matrices, of which `sides` give the columns asked for.

    Few rows of very many columns: on the CPU columns are shared out, in pieces that a cache holds, to a number of sums
    that depends on the number of rows alone, and so do the last bits.
    """
    step = 4 * PIECE if dtype == np.float64 else PIECE
    pieces = range(0, width, step)
    shares = min(len(pieces), max(4, SUMS_BYTES // (8 * shape[0] * shape[1])), 64)

    def share(k: int) -> Matrix:
        total = np.zeros(shape)
        for start in pieces[len(pieces) * k // shares : len(pieces) * (k + 1) // shares]:
            parts = [side(slice(start, start + step)) for side in sides]
            total += parts[0] @ parts[-1].T
        return total

    return np.asarray(sum(parallel(share, range(shares))))


def _stacked_rows(source: GramSource, segment: Segment) -> Array:
    """Return the segment of every Gram matrix as one row each; no second copy of the stack is made where it can."""
    first = source.row(0, segment, None)  # its type is that of all
    xp = array_namespace(first)
    if is_jax_array(first):  # cannot be written to
        return xp.stack([first, *(source.row(r, segment, None) for r in range(1, source.size))])
    stack = xp.empty((source.size, segment.entries), dtype=first.dtype, device=first.device)
    stack[0, :] = first
    rest = range(1, source.size)
    parallel(lambda r: source.row(r, segment, stack[r, :]), rest, threaded=is_numpy_array(stack))
    return stack


def stacked_products(first: Sequence[Array], second: Sequence[Array]) -> Matrix:
    """Return the inner products of all pairs of vectors, in float64."""
    same = same_states(first, second)
    width = int(first[0].shape[0])
    if is_numpy_array(first[0]):  # a piece of each at a time, which is never more than a cache holds
        lists = [first] if same else [first, second]
        sides = [lambda piece, vectors=vectors: _stacked(vectors, piece) for vectors in lists]
        return _shared_products(sides, (len(first), len(second)), width, np.dtype(np.float64))
    step = max(1, stack_bytes() // (8 * (len(first) + (0 if same else len(second)))))
    total = np.zeros((len(first), len(second)))
    for part in (slice(start, start + step) for start in range(0, width, step)):
        left = _stacked(first, part)
        total += _products(left, None if same else _stacked(second, part))
    return total


def _stacked(vectors: Sequence[Array], part: slice) -> Array:
    """Return a part of every vector as the rows of a matrix of float64."""
    xp = array_namespace(vectors[0])
    return xp.stack([xp.astype(vector[part], xp.float64, copy=False) for vector in vectors])


# ---- pairs of states -------------------------------------------------------------------------------------------------


def pair_values(
    compare: Callable[[Any, Any], Result], first: Sequence[Any], second: Sequence[Any], *, symmetric: bool
) -> list[list[Result]]:
    """Return compare(a, b) for all pairs over the cores; a symmetric function within one list is called once a pair."""
    pairs = pairs_of(first, second, symmetric=symmetric)
    threaded = threads_help(first)
    results = parallel(lambda pair: compare(first[pair[0]], second[pair[1]]), pairs, threaded=threaded)
    return tabulated(results, pairs, first, second, symmetric=symmetric)


def tabulated(
    results: Sequence[Result],
    pairs: Sequence[tuple[int, int]],
    first: Sequence[Any],
    second: Sequence[Any],
    *,
    symmetric: bool,
) -> list[list[Result]]:
    """Return the table of the results of `pairs_of`, the other half of a symmetric function filled in."""
    table: list[list[Any]] = [[None] * len(second) for _ in first]
    mirrored = symmetric and same_states(first, second)
    for (i, j), result in zip(pairs, results, strict=True):
        table[i][j] = result
        if mirrored:
            table[j][i] = result
    return table


def pairs_of(first: Sequence[Any], second: Sequence[Any], *, symmetric: bool) -> list[tuple[int, int]]:
    """Return the pairs of places to compute: of a symmetric function within one list, one half."""
    within = symmetric and same_states(first, second)
    return [(i, j) for i in range(len(first)) for j in range(i if within else 0, len(second))]


def spread(values: Matrix, pairs: Sequence[tuple[int, int]], first: Sequence[Any], second: Sequence[Any]) -> Matrix:
    """Return the matrix of values that a symmetric function has at `pairs` (see `pairs_of`)."""
    table = np.zeros((len(first), len(second)))
    if pairs:
        rows, columns = zip(*pairs, strict=True)
        table[rows, columns] = values
        if same_states(first, second):
            table[columns, rows] = values
    return table


def same_states(first: Sequence[Any], second: Sequence[Any]) -> bool:
    """Return whether both sides hold the very same states, so that a symmetric result needs one half only."""
    return first is second or (len(first) == len(second) and all(a is b for a, b in zip(first, second, strict=True)))


def threads_help(states: Sequence[Any]) -> bool:
    """Return whether the arrays of the states live on the CPU, whose cores can share the work."""
    return all(on_cpu(part) for state in states[:1] for part in state if is_array_api_obj(part))
