"""Sums over stimuli from which whole families of measures follow: what a stream keeps of data that it cannot hold.

Every sum is taken about a `Frame`, chosen before the pass: a shift near the mean of every feature, so that large means
cost no digits, and for ill-conditioned data a change of basis near the one that whitens them. The state of a pass is a
sum, so parts of the stimuli can be taken in any order and in any process, and merged.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np

from congruence.errors import ParameterError

Matrix = np.ndarray[Any, np.dtype[np.float64]]
Pair = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Frame:
    """Coordinates in which the values of one representation are summed: u = 2^exponent (x - shift), z = u `basis`.

    Parameters
    ----------
    shift : ndarray, shape (p,)
        A point near the mean of the stimuli.
    exponent : int
        Power of two that brings values of extreme size near 1; usually 0.
    basis : ndarray, shape (p, p), optional
        Columns near the whitening directions; None stands for the identity.
    inverse : ndarray, shape (p, p), optional
        Its inverse.
    """

    shift: Matrix
    exponent: int = 0
    basis: Matrix | None = None
    inverse: Matrix | None = None

    @property
    def p(self) -> int:
        """Number of features."""
        return int(self.shift.shape[0])

    @classmethod
    def near(cls, values: np.ndarray[Any, Any]) -> Self:
        """Return the frame that a first chunk of stimuli, shape (m, p), suggests."""
        centred = np.asarray(values, dtype=np.float64)
        shift = np.zeros(centred.shape[1])
        for _ in range(2):  # the second pass removes the rounding of the first: constant features become exactly 0
            step = centred.mean(axis=0)
            shift, centred = shift + step, values - (shift + step)
        exponent = _exponent(float(np.max(np.abs(centred), initial=0.0)))
        spread = np.ldexp(centred, exponent).std(axis=0)
        if bool(np.all(np.ldexp(np.abs(shift), exponent) <= 4 * spread)):  # costs four bits, saves time on every chunk
            shift = np.zeros_like(shift)
        return cls(shift, exponent)

    @cached_property
    def _shifts(self) -> bool:
        """Whether the shift is more than 0."""
        return bool(np.any(self.shift))

    def place(self, values: np.ndarray[Any, Any], out: Matrix) -> Matrix:
        """Write u for some values, shape (m, p), into the first rows of `out`, converting them on the way."""
        placed = out[: values.shape[0]]
        np.copyto(placed, values)  # faster than to convert and subtract in one
        if self._shifts:
            np.subtract(placed, self.shift, out=placed)
        if self.exponent:
            np.ldexp(placed, self.exponent, out=placed)
        return placed

    def to_features(self, sums: Matrix) -> Matrix:
        """Return sums of z, shape (..., p), as sums of u."""
        return sums if self.inverse is None else sums @ self.inverse

    def same_as(self, other: Frame) -> bool:
        """Return whether sums about both frames can be added."""
        parts = ((self.shift, other.shift), (self.basis, other.basis))
        return self.exponent == other.exponent and all(
            a is b or (a is not None and b is not None and np.array_equal(a, b)) for a, b in parts
        )


def _exponent(largest: float) -> int:
    """Return the power of two that brings values of this size near 1; 0 unless fourth powers could leave the range."""
    _, exponent = math.frexp(largest)
    return 0 if -100 < exponent < 100 else -exponent


class CompensatedSum:
    """A sum of arrays that carries what rounding took from it, so that its error does not grow with the terms.

    Parameters
    ----------
    shape : tuple of int
        Shape of the terms.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._total, self._lost, self._next = np.zeros(shape), np.zeros(shape), np.zeros(shape)

    def add(self, term: Matrix) -> None:
        """Add one array, which is overwritten."""
        np.subtract(term, self._lost, out=term)
        np.add(self._total, term, out=self._next)
        np.subtract(self._next, self._total, out=self._lost)
        np.subtract(self._lost, term, out=self._lost)
        self._total, self._next = self._next, self._total

    def merge(self, other: CompensatedSum) -> None:
        """Add all that another sum holds."""
        self._lost += other._lost
        self.add(other._total.copy())

    @property
    def value(self) -> Matrix:
        """The sum."""
        return np.asarray(self._total - self._lost)

    def part(self, *index: slice) -> Matrix:
        """Return a block of the sum."""
        return np.asarray(self._total[index] - self._lost[index])


def takes_all(pairs: int, members: int) -> bool:
    """Return whether one product of everything with itself is the fastest way to some pairs; it is a waste for few."""
    return pairs > 0.7 * members * (members + 1) / 2


class Moments:
    """Sums over stimuli for some representations and pairs of them; add chunks with `update`, other parts with `merge`.

    Parameters
    ----------
    frames : mapping of int to Frame
        The representations, by number, and where each is summed.
    pairs : sequence of (int, int)
        Pairs whose products are wanted, in either order; (i, i) for a representation with itself.
    squares : bool
        Whether to keep the sums that estimators without the diagonal need.
    """

    def __init__(self, frames: Mapping[int, Frame], pairs: Sequence[Pair], *, squares: bool = False) -> None:
        self.frames = dict(frames)
        self.n = 0
        self.pairs = tuple(dict.fromkeys((min(pair), max(pair)) for pair in pairs))
        self.squares = squares
        self._place = {i: k for k, i in enumerate(self.frames)}
        edges = [0, *itertools.accumulate(frame.p for frame in self.frames.values())]
        self._columns = {i: slice(*edges[k : k + 2]) for i, k in self._place.items()}
        self._buffer = np.empty((0, edges[-1]))
        self._sums = CompensatedSum((edges[-1],))
        self._all = takes_all(len(self.pairs), len(self.frames))
        shapes = [(edges[-1],) * 2] if self._all else [(frames[i].p, frames[j].p) for i, j in self.pairs]
        self._products = [CompensatedSum(shape) for shape in shapes]
        count = len(self.frames) if squares else 0
        self._squares = CompensatedSum((count,))  # Σ |u|² of every representation
        self._square_products = CompensatedSum((count, count))  # Σ |u|² |v|²
        self._weighted = CompensatedSum((count, edges[-1]))  # Σ |u|² v

    # ---- accumulating ------------------------------------------------------------------------------------------------

    def update(self, chunks: Mapping[int, np.ndarray[Any, Any]]) -> list[int]:
        """Add some stimuli, given as one array of shape (m, p) for every representation.

        Returns
        -------
        list of int
            The representations whose chunk holds a value that is not finite; then nothing was added.
        """
        m = next(iter(chunks.values())).shape[0]
        with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is found and reported
            z, squares = self._placed(chunks, m)
            sums = np.ones(m) @ z
        if not np.isfinite(sums).all():
            return [i for i, own in self._columns.items() if not np.isfinite(sums[own]).all()]
        self.n += m
        self._sums.add(sums)
        with np.errstate(invalid="ignore", over="ignore"):
            for total, product in zip(self._products, self._multiplied(z), strict=True):
                total.add(product)
            if self.squares:
                self._squares.add(squares.sum(axis=1))
                self._square_products.add(squares @ squares.T)
                self._weighted.add(squares @ z)
        return []

    def _placed(self, chunks: Mapping[int, np.ndarray[Any, Any]], m: int) -> tuple[Matrix, Matrix]:
        """Return z of all representations side by side, shape (m, Σp), and, if kept, |u|², shape (representations, m)."""
        if self._buffer.shape[0] < m:
            self._buffer = np.empty((m, self._buffer.shape[1]))
        squares = np.empty((len(self.frames) if self.squares else 0, m))
        for k, (i, frame) in enumerate(self.frames.items()):
            z = self._buffer[:m, self._columns[i]]
            u = frame.place(chunks[i], z if frame.basis is None else np.empty((m, frame.p)))
            if self.squares:
                squares[k] = np.vecdot(u, u)
            if frame.basis is not None:
                np.matmul(u, frame.basis, out=z)
        return self._buffer[:m], squares

    def _multiplied(self, z: Matrix) -> Iterator[Matrix]:
        """Yield the products of a chunk, one for every sum of them."""
        if self._all:
            yield z.T @ z
            return
        for i, j in self.pairs:
            yield z[:, self._columns[i]].T @ z[:, self._columns[j]]

    def merge(self, other: Moments) -> None:
        """Add the stimuli of another part, summed about the same frames.

        Raises
        ------
        ParameterError
            If the parts were summed about different frames, or for different pairs.
        """
        same = self.pairs == other.pairs and self.squares == other.squares and self.frames.keys() == other.frames.keys()
        if not same or not all(frame.same_as(other.frames[i]) for i, frame in self.frames.items()):
            message = "Sums can be merged only if they were taken about the same frames for the same pairs; hand the frames of the first part to the others."
            raise ParameterError(message)
        self.n += other.n
        for own, given in zip(self._parts(), other._parts(), strict=True):
            own.merge(given)

    def _parts(self) -> list[CompensatedSum]:
        """Return every sum, in a fixed order."""
        return [self._sums, *self._products, self._squares, self._square_products, self._weighted]

    # ---- reading -----------------------------------------------------------------------------------------------------

    def _product(self, i: int, j: int) -> Matrix:
        """Return Σ z_iᵀz_j about the frames, for i <= j."""
        if self._all:
            return self._products[0].part(self._columns[i], self._columns[j])
        return self._products[self.pairs.index((i, j))].value

    def finite(self, i: int) -> bool:
        """Return whether all products of a representation are finite."""
        return all(bool(np.isfinite(self._product(*pair)).all()) for pair in self.pairs if i in pair)

    def offset(self, i: int) -> Matrix:
        """Return the mean of z, shape (p,)."""
        return np.asarray(self._sums.value[self._columns[i]] / self.n)

    def mean(self, i: int) -> Matrix:
        """Return the mean of the values themselves, shape (p,)."""
        frame = self.frames[i]
        return np.asarray(frame.shift + np.ldexp(frame.to_features(self.offset(i)), -frame.exponent))

    def second(self, i: int) -> Matrix:
        """Return the diagonal of Σ zᵀz about the frame, shape (p,): what the rounding of the products is relative to."""
        return np.asarray(np.diagonal(self._product(i, i)))

    def product(self, i: int, j: int) -> Matrix:
        """Return the centred product Σ (z_i - mean)ᵀ(z_j - mean), shape (p_i, p_j)."""
        if i > j:
            return self.product(j, i).T
        centred = self._product(i, j) - self.n * np.outer(self.offset(i), self.offset(j))
        return (centred + centred.T) / 2 if i == j else np.asarray(centred)

    def covariance(self, i: int, j: int) -> Matrix:
        """Return `product` in the features themselves: the centred XᵀY, times 2 to the exponents of both."""
        half = self.frames[j].to_features(self.product(i, j))
        return np.asarray(self.frames[i].to_features(half.T).T)

    def square_product(self, i: int, j: int) -> float:
        """Return Σ k l with k, l the squared norms of the centred stimuli of two representations, scaled as `covariance`.

        With d and e the means of u and v: k = |u|² - 2 d·u + |d|² and l alike, multiplied out and summed.
        """
        a, b = self._place[i], self._place[j]
        d, e = (self.frames[r].to_features(self.offset(r)) for r in (i, j))
        dd, ee = float(d @ d), float(e @ e)
        squares, weighted = self._squares.value, self._weighted.value
        along_e = float(self.frames[j].to_features(weighted[a, self._columns[j]]) @ e)
        along_d = float(self.frames[i].to_features(weighted[b, self._columns[i]]) @ d)
        # Σ u vᵀ about the shift; its part along d and e is all that is needed
        raw = float(d @ self.covariance(i, j) @ e) + self.n * dd * ee
        terms = (
            float(self._square_products.value[a, b]),
            -2 * along_e + ee * float(squares[a]),
            -2 * along_d + dd * float(squares[b]),
            4 * raw - 3 * self.n * dd * ee,
        )
        return math.fsum(terms)
