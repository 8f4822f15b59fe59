"""How much is held at once: the size of a chunk, and which pairs share a pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from congruence.engine.stream.moments import Pair
from congruence.engine.stream.source import Stream
from congruence.errors import ParameterError

CHUNK_BYTES = 32_000_000
"""Size of a chunk of the widest representation in float64."""
READ_BYTES = 128_000_000
"""Size of a chunk as it is read, before steps."""
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
    def of(cls, streams: Sequence[Stream], rows: int | None = None, memory: int | None = None) -> Budget:
        """Return the budget for these streams.

        Raises
        ------
        ParameterError
            If `rows` or `memory` is not positive.
        """
        for name, value in (("chunk_rows", rows), ("memory", memory)):
            if value is not None and value < 1:
                message = f"{name} must be at least 1; got {value!r}."
                raise ParameterError(message)
        widths = tuple(s.p for s in streams)
        row_bytes = tuple(max(s.row_bytes, _FLOAT * s.p) for s in streams)
        if rows is None:
            widest = max(*widths, 1)
            rows = max(CHUNK_BYTES // (_FLOAT * widest), 4 * widest)  # fewer would cost more in sums than in products
            rows = max(min(rows, READ_BYTES // max(row_bytes)), 1)
            rows = 1 << (rows.bit_length() - 1)  # chunks of stores are powers of two
        return cls(widths, row_bytes, min(rows, max(streams[0].n, 1)), memory)

    def groups(self, pairs: Sequence[Pair]) -> Iterator[list[Pair]]:
        """Yield the pairs in groups that fit into memory together.

        Raises
        ------
        ParameterError
            If a single pair does not fit; the message says what it needs.
        """
        if self.memory is None:
            if pairs:
                yield list(pairs)
            return
        least = max(map(self.bytes_of, ([pair] for pair in pairs)), default=0)
        if least > self.memory:
            message = (
                f"memory={self.memory} is too little: sums and chunks of one pair take {least} bytes with chunks of "
                f"{self.rows} stimuli. Allow that much, or set smaller chunks with chunk_rows."
            )
            raise ParameterError(message)
        group: list[Pair] = []
        for pair in pairs:
            if group and self.bytes_of([*group, pair]) > self.memory:
                yield group
                group = []
            group.append(pair)
        if group:
            yield group

    def bytes_of(self, pairs: Sequence[Pair]) -> int:
        """Return the memory of a pass over some pairs: compensated sums, scratch for one product, and chunks."""
        members = {i for pair in pairs for i in pair}
        products = {*((i, i) for i in members), *pairs}
        state = 3 * sum(self.widths[i] * self.widths[j] for i, j in products)
        scratch = 8 * max(self.widths[i] for i in members) ** 2
        chunks = sum(2 * self.row_bytes[i] + 2 * _FLOAT * self.widths[i] for i in members)
        return _FLOAT * (state + scratch) + self.rows * chunks
