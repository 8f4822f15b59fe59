"""How much is held at once: the size of a chunk, and which pairs share a pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from congruence.engine.stream.moments import Pair, takes_all
from congruence.errors import ParameterError

CHUNK_BYTES = 32_000_000
"""Size of a chunk of the widest representation in float64."""
READ_BYTES = 128_000_000
"""Size of a chunk as it is read, before steps."""
LEAST_SHARED_ROWS, LEAST_ROWS = 1024, 128
"""Smaller chunks cost more than further passes, or save too little memory."""
_FLOAT = 8


@dataclass(frozen=True)
class Budget:
    """Sizes of everything that a pass holds.

    Parameters
    ----------
    widths : tuple of int
        Features of every stream.
    row_bytes : tuple of int
        Memory of one stimulus of every stream while it is read.
    rows : int
        Stimuli in a chunk.
    memory : int, optional
        Bytes that a pass may hold.
    """

    widths: tuple[int, ...]
    row_bytes: tuple[int, ...]
    rows: int
    memory: int | None = None

    @classmethod
    def of(
        cls,
        n: int,
        widths: Sequence[int],
        row_bytes: Sequence[int],
        rows: int | None = None,
        memory: int | None = None,
    ) -> Budget:
        """Return the budget for streams of `n` stimuli, with chunks that leave room for the sums.

        Where `memory` is short, chunks shrink until all streams share a pass, or at least until a pair fits.

        Raises
        ------
        ParameterError
            If `rows` or `memory` is not positive.
        """
        for name, value in (("chunk_rows", rows), ("memory", memory)):
            if value is not None and value < 1:
                message = f"{name} must be at least 1; got {value!r}."
                raise ParameterError(message)
        read = tuple(max(given, _FLOAT * p) for given, p in zip(row_bytes, widths, strict=True))
        widest = max(*widths, 1)
        if rows is not None:
            return cls(tuple(widths), read, min(rows, max(n, 1)), memory)
        rows = max(CHUNK_BYTES // (_FLOAT * widest), 4 * widest)  # fewer would cost more in sums than in products
        rows = max(min(rows, READ_BYTES // max(read)), 1)
        rows = 1 << (rows.bit_length() - 1)  # chunks of stores are powers of two
        budget = cls(tuple(widths), read, min(rows, max(n, 1)), memory)
        if memory is None:
            return budget
        shared = budget._shrunk(max(LEAST_SHARED_ROWS, widest), lambda b: b.everything)
        return shared if shared.everything <= memory else budget._shrunk(LEAST_ROWS, lambda b: b.least)

    def _shrunk(self, least_rows: int, needed: Callable[[Budget], int]) -> Budget:
        """Return the budget with chunks so small that what is needed fits into memory, if `least_rows` are enough."""
        found = self
        while self.memory is not None and needed(found) > self.memory and found.rows > least_rows:
            found = replace(found, rows=max(found.rows // 2, least_rows))
        return found

    @property
    def everything(self) -> int:
        """Bytes that a pass over all pairs takes."""
        sums = 4 * sum(self.widths) ** 2 + 8 * max(self.widths) ** 2
        return _FLOAT * sums + self.rows * sum(map(self.row_of, range(len(self.widths))))

    def row_of(self, i: int) -> int:
        """Return the memory of one stimulus of a stream in a chunk: as it is read, read ahead, and converted."""
        return 2 * self.row_bytes[i] + 2 * _FLOAT * self.widths[i]

    @property
    def least(self) -> int:
        """Bytes that a pass over the most demanding pair takes."""
        everyone = range(len(self.widths))
        widest = sorted(everyone, key=lambda i: self.widths[i])[-2:]
        largest = sorted(everyone, key=lambda i: self.row_bytes[i])[-2:]
        return max(self.bytes_of([(pair[0], pair[-1])]) for pair in (widest, largest))

    def groups(self, pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
        """Yield the pairs in groups that fit into memory together.

        Raises
        ------
        ParameterError
            If a single pair does not fit; the message says what it needs.
        """
        group: list[Pair] = []
        held = _Tally(self)
        for pair in pairs:
            held.add(pair)
            if group and not self._allows(held):
                yield group
                group, held = [], _Tally(self)
                held.add(pair)
            if not self._allows(held):
                message = (
                    f"memory={self.memory} is too little: sums and chunks of one pair take {max(held.bytes, self.least)} "
                    f"bytes with chunks of {self.rows} stimuli. Allow that much, or reduce the features (step pca)."
                )
                raise ParameterError(message)
            group.append(pair)
        if group:
            yield group

    def _allows(self, held: _Tally) -> bool:
        return self.memory is None or held.bytes <= self.memory

    def bytes_of(self, pairs: Iterable[Pair]) -> int:
        """Return the memory of a pass over some pairs: compensated sums, scratch for one product, and chunks."""
        held = _Tally(self)
        for pair in pairs:
            held.add(pair)
        return held.bytes


class _Tally:
    """What a pass over some pairs holds, counted up pair by pair."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._members: set[int] = set()
        self._products: set[Pair] = set()
        self._entries = self._columns = self._row = self._widest = 0

    def add(self, pair: Pair) -> None:
        """Count one more pair, and the products of its two sides with themselves."""
        widths = self._budget.widths
        for i in {*pair} - self._members:
            self._members.add(i)
            self._columns += widths[i]
            self._widest = max(self._widest, widths[i])
            self._row += self._budget.row_of(i)
        for i, j in {(pair[0], pair[0]), (pair[1], pair[1]), (min(pair), max(pair))} - self._products:
            self._products.add((i, j))
            self._entries += widths[i] * widths[j]

    @property
    def bytes(self) -> int:
        """Memory of the pass."""
        everything = takes_all(len(self._products), len(self._members))
        sums = 4 * self._columns**2 if everything else 3 * self._entries
        return _FLOAT * (sums + 8 * self._widest**2) + self._budget.rows * self._row
