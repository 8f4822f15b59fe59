"""Where a stream comes from: representations that are read a range of stimuli at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from congruence import linalg, validate
from congruence.errors import ParameterError, ShapeError
from congruence.representation import Ids, Origin, Representation, Source, require_aligned
from congruence.steps import StepSpec
from congruence.store import Activations, defer_layer, defer_npy

Values = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Stream:
    """A representation of shape (n, p) that is read in ranges of stimuli, and never held whole.

    Parameters
    ----------
    name : str
        Label in results.
    n, p : int
        Stimuli and features.
    rows : callable
        ``rows(start, stop)`` gives the stimuli of that range as an array of shape (stop - start, p).
    ids : ndarray of str, shape (n,), optional
        Stimulus ids; None means positions.
    origin : Origin
        Model, layer, data set.
    row_bytes : int, optional
        Memory that one stimulus takes while it is read; by default that of p numbers.
    changed : callable, optional
        Tells whether the data are no longer those of the beginning.
    """

    name: str
    n: int
    p: int
    rows: Callable[[int, int], Any]
    ids: Ids | None = None
    origin: Origin = Origin()
    row_bytes: int = 0
    changed: Callable[[], bool] | None = None

    @classmethod
    def of(cls, source: Source) -> Self:
        """Return the stream of an (n, p) representation in memory, or of one on disk that can be read in parts."""
        if isinstance(source, Representation):
            ids = None if source.ids is None else source.stimulus_ids
            return replace(cls.of_array(source.values, source.name), ids=ids, origin=source.origin)
        rows = source.rows
        if rows is None:
            message = f"{source.name} can only be read whole, so it cannot be streamed. Give an array, a store or a .npy file."
            raise ParameterError(message)
        found = (source.name, source.n, source.p, rows.read, source.ids, source.origin, rows.row_bytes, rows.changed)
        return cls(*found)

    @classmethod
    def of_array(cls, values: Any, name: str = "X", ids: Ids | Sequence[Any] | None = None) -> Self:
        """Return the stream of an array of shape (n, p), in memory or mapped into it."""
        given = Representation(values, name, ids)
        if given.values.ndim != 2:
            message = f"{name} must be two-dimensional (n stimuli, p features) to be streamed; got shape {tuple(given.values.shape)}."
            raise ShapeError(message)
        row_bytes = given.p * given.values.dtype.itemsize
        return cls(name, given.n, given.p, lambda start, stop: values[start:stop], given.ids, row_bytes=row_bytes)  # type: ignore[arg-type]

    @classmethod
    def of_npy(cls, path: str | Path, name: str | None = None) -> Self:
        """Return the stream of a .npy file, of which only what is asked for is read.

        Raises
        ------
        InputError
            If it cannot be read as an array of two axes.
        """
        return cls.of(defer_npy(path, name))

    @classmethod
    def of_layer(cls, store: Activations, layer: str, steps: StepSpec = None, name: str | None = None) -> Self:
        """Return the stream of one layer of a store, after `steps` (chosen by shape if None).

        Raises
        ------
        ParameterError
            If a step needs all stimuli at once, or makes several stimuli of one.
        """
        return cls.of(replace(defer_layer(store, layer, steps), name=name or layer))

    @property
    def placeholder(self) -> Representation:
        """A representation of the same name and shape whose values take no memory and mean nothing."""
        return Representation(np.broadcast_to(0.0, (self.n, self.p)), self.name, origin=self.origin)

    def read(self, start: int, stop: int) -> Values:
        """Return a range of stimuli as a NumPy array.

        Raises
        ------
        ShapeError
            If the source gives another shape.
        """
        values = linalg.to_numpy(validate.as_array(self.rows(start, stop), self.name))
        if values.shape != (stop - start, self.p):
            message = f"{self.name} must give shape {(stop - start, self.p)} for stimuli {start} to {stop}; got {values.shape}."
            raise ShapeError(message)
        return values


def require_same_stimuli(streams: Sequence[Stream]) -> None:
    """Raise unless all streams hold the same stimuli in the same order.

    Raises
    ------
    ShapeError
        If none has ids and the numbers of stimuli differ.
    AlignmentError
        If ids differ; the message names the first.
    """
    first = streams[0]
    for other in streams[1:]:
        same_ids = first.ids is other.ids or (
            first.ids is not None and other.ids is not None and np.array_equal(first.ids, other.ids)
        )
        if not (same_ids and first.n == other.n):
            require_aligned(replace(first.placeholder, ids=first.ids), replace(other.placeholder, ids=other.ids))


def ranges(n: int, rows: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges of stimuli of a pass."""
    for start in range(0, n, rows):
        yield start, min(start + rows, n)


def ahead(work: Callable[[int, int], Any], n: int, rows: int) -> Iterator[tuple[int, int, Any]]:
    """Yield (start, stop, work(start, stop)) for every range, the next one being worked on meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        places = list(ranges(n, rows))
        following = pool.submit(work, *places[0])
        for place, after in zip(places, [*places[1:], None], strict=True):
            found = following.result()
            if after is not None:
                following = pool.submit(work, *after)
            yield *place, found
