"""Passes over streams: chunks are read ahead, checked and summed; a stream that fails is reported once and left behind."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from congruence import validate
from congruence.engine.handling import describe
from congruence.engine.job import OnError, Progress
from congruence.engine.stream.moments import CompensatedSum, Frame, Moments, Pair
from congruence.engine.stream.source import Stream, Values, ahead
from congruence.engine.stream.values import Alignment, Side
from congruence.errors import CongruenceError, InputError, StoreError

Chunks = dict[int, Values]


class Scanner:
    """Reads streams from first to last stimulus, as often as asked.

    Parameters
    ----------
    streams : sequence of Stream
        The representations, all of the same n.
    titles : sequence of str
        What messages call them.
    rows : int
        Stimuli in a chunk.
    on_error : {"raise", "record"}
        Whether a stream that fails ends everything, or its reason is kept in `failures`.
    progress : callable, optional
        Called with a `Progress` in stimuli after every chunk.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        titles: Sequence[str],
        rows: int,
        on_error: OnError,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self.streams, self.titles, self.rows = streams, titles, rows
        self.failures: dict[int, str] = {}
        self.passes = 0
        self.eps: dict[int, float] = {}
        self._on_error, self._progress = on_error, progress
        self._start = time.perf_counter()

    @property
    def n(self) -> int:
        """Number of stimuli."""
        return self.streams[0].n

    def fail(self, i: int, error: Exception) -> None:
        """Raise an error about a stream, or keep its reason."""
        if self._on_error == "raise":
            if isinstance(error, CongruenceError):
                raise error.about(self.titles[i]) from None
            raise error
        self.failures.setdefault(i, describe(error))

    # ---- reading -----------------------------------------------------------------------------------------------------

    def chunks(self, indices: Iterable[int], what: str) -> Iterator[tuple[int, Chunks]]:
        """Yield the first stimulus and the chunks of every range; a stream that failed gives zeros."""
        wanted = list(indices)
        self.passes += 1
        for start, stop, chunks in ahead(lambda start, stop: self._read(wanted, start, stop), self.n, self.rows):
            yield start, chunks
            if self._progress:
                label = f"{what} (pass {self.passes})"
                self._progress(Progress(stop, self.n, label, time.perf_counter() - self._start))
        for i in wanted:
            self._require_unchanged(i)

    def _read(self, indices: Iterable[int], start: int, stop: int) -> Chunks:
        return {i: self._read_one(i, start, stop) for i in indices}

    def _read_one(self, i: int, start: int, stop: int) -> Values:
        if i not in self.failures:
            try:
                return self.streams[i].read(start, stop)
            except Exception as error:
                self._require_unchanged(i)  # what has been replaced reads like something damaged
                self.fail(i, error)
        return np.broadcast_to(0.0, (stop - start, self.streams[i].p))

    def _require_unchanged(self, i: int) -> None:
        """Fail a stream whose data are no longer those of the beginning."""
        changed = self.streams[i].changed
        if i not in self.failures and changed is not None and changed():
            self.fail(i, StoreError("the file changed while it was read. Run again when nothing writes to it."))

    # ---- summing -----------------------------------------------------------------------------------------------------

    def accumulate(
        self,
        pairs: Sequence[Pair],
        frames: Mapping[int, Frame] | Callable[[int, Values], Frame],
        *,
        squares: bool,
    ) -> Moments:
        """Return the sums of the given pairs in one pass.

        Parameters
        ----------
        pairs : sequence of (int, int)
            Pairs of streams.
        frames : mapping or callable
            Where to sum each stream; a function gets its number and its first chunk.
        squares : bool
            See `Moments`.
        """
        indices = sorted({i for pair in pairs for i in pair})
        moments: Moments | None = None
        for start, chunks in self.chunks(indices, "summing"):
            if moments is None:
                self._replace_bad([i for i in indices if not np.isfinite(chunks[i]).all()], chunks, start)
                self._notice(chunks)
                chosen = {i: frames(i, chunks[i]) if callable(frames) else frames[i] for i in indices}
                moments = Moments(chosen, pairs, squares=squares)
            while bad := moments.update(chunks):
                self._replace_bad(bad, chunks, start)
        assert moments is not None  # every measure needs stimuli, which was checked
        for i in indices:
            if not moments.finite(i):
                self.fail(i, InputError(_OVERFLOW))
        return moments

    def _notice(self, chunks: Chunks) -> None:
        """Note, once, the precision of every stream, and warn of types that are converted."""
        for i in chunks.keys() - self.eps.keys():
            validate.as_floating(chunks[i][:1], self.titles[i])
            dtype = chunks[i].dtype
            self.eps[i] = float(np.finfo(dtype if dtype.kind == "f" else np.float64).eps)

    def _replace_bad(self, bad: Iterable[int], chunks: Chunks, start: int) -> None:
        """Report values that are not finite; their streams go on as zeros."""
        for i in bad:
            self.fail(i, _not_finite(chunks[i], start, self.titles[i]))
            chunks[i] = np.broadcast_to(0.0, chunks[i].shape)

    def residuals(self, pairs: Mapping[Pair, list[Residual]]) -> None:
        """Sum the squares of residuals in one pass."""
        indices = sorted({i for pair in pairs for i in pair})
        for _, chunks in self.chunks(indices, "comparing what is nearly equal"):
            for (i, j), residuals in pairs.items():
                for residual in residuals:
                    residual.update(chunks[i], chunks[j])


class Residual:
    """The squared distance between linear images of two representations, summed over stimuli.

    Parameters
    ----------
    first, second : Side
        The representations.
    alignment : Alignment
        The maps of their coordinates.
    """

    def __init__(self, first: Side, second: Side, alignment: Alignment) -> None:
        self._sides = ((first, alignment.first), (second, alignment.second))
        self._square = CompensatedSum((1,))

    def update(self, first: Values, second: Values) -> None:
        """Add some stimuli of both."""
        images = [
            side.centred(values) @ image for (side, image), values in zip(self._sides, (first, second), strict=True)
        ]
        difference = (images[0] - images[1]).ravel()
        self._square.add(np.vecdot(difference, difference)[None])

    @property
    def norm(self) -> float:
        """The distance."""
        return math.sqrt(self._square.value[0])


_OVERFLOW = "the values grow so large along the stream that their squares overflow. Scale them down."


def _not_finite(values: Values, start: int, title: str) -> InputError:
    """Return the error for a chunk that holds NaN or infinity; positions count from the start of the stream."""
    if np.isfinite(values).all():
        return InputError(_OVERFLOW)
    rows, columns = np.nonzero(~np.isfinite(values))
    nans = int(np.isnan(values).sum())
    kind = "NaN" if nans == len(rows) else "infinite" if nans == 0 else "NaN or infinite"
    position = (start + int(rows[0]), int(columns[0]))
    message = (
        f"{title} has {len(rows)} {kind} value{'s' if len(rows) > 1 else ''} among stimuli {start} to "
        f"{start + len(values) - 1}; the first is at position {position}. Remove those stimuli or features."
    )
    return InputError(message)
