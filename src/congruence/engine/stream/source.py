"""Where a stream comes from: representations that are read a range of stimuli at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from congruence import linalg, validate
from congruence import steps as _steps
from congruence.errors import ParameterError, ShapeError, StoreError
from congruence.representation import Ids, Origin, Representation, require_aligned
from congruence.store import Activations

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
    state : callable, optional
        Gives something that changes if the data do, such as a modification time.
    """

    name: str
    n: int
    p: int
    rows: Callable[[int, int], Any]
    ids: Ids | None = None
    origin: Origin = Origin()
    row_bytes: int = 0
    state: Callable[[], object] | None = None

    @classmethod
    def of_array(cls, values: Any, name: str = "X", ids: Ids | None = None) -> Self:
        """Return the stream of an array of shape (n, p), in memory or mapped into it."""
        given = Representation(values, name, ids)
        if given.values.ndim != 2:
            message = f"{name} must be two-dimensional (n stimuli, p features) to be streamed; got shape {tuple(given.values.shape)}."
            raise ShapeError(message)
        return cls(name, given.n, given.p, lambda start, stop: values[start:stop], given.ids)  # type: ignore[arg-type]

    @classmethod
    def of_npy(cls, path: str | Path, name: str | None = None) -> Self:
        """Return the stream of a .npy file, of which only what is asked for is read.

        Raises
        ------
        StoreError
            If it cannot be read as an array.
        """
        path = Path(path)
        try:
            values = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            message = f"{path} cannot be read as an array: {error}"
            raise StoreError(message) from error
        stream = replace(cls.of_array(values, name or path.stem), state=lambda: _file_state(path))
        return replace(stream, rows=_file_rows(path, values)) if values.flags.c_contiguous else stream

    @classmethod
    def of_layer(cls, store: Activations, layer: str, steps: _steps.StepSpec = None, name: str | None = None) -> Self:
        """Return the stream of one layer of a store, after `steps` (chosen by shape if None).

        Raises
        ------
        ParameterError
            If a step needs all stimuli at once, or makes several stimuli of one.
        """
        shape = store.shape(layer)
        recurrent = bool(store.describe(layer)["recurrent"])
        chosen = _steps.parse_steps(steps)
        chosen = _steps.default_steps(len(shape), recurrent=recurrent) if chosen is None else chosen
        _require_one_row_each(chosen)
        row_bytes = int(np.prod(shape[1:])) * store.dtype(layer).itemsize
        values, masks = store.chunked(layer), store.chunked_mask(layer) if store.is_masked(layer) else None

        def rows(start: int, stop: int) -> Any:
            block = _steps.Block(values.read(start, stop), None, None if masks is None else masks.read(start, stop))
            return _steps.apply_steps(chosen, block).values

        p = int(rows(0, 1).shape[1])
        provenance = store.provenance
        origin = Origin(
            provenance.get("model"), layer, dataset=provenance.get("dataset"), fingerprint=store.content_hash(layer)
        )
        return cls(name or layer, shape[0], p, rows, store.ids, origin, row_bytes)

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


def _file_rows(path: Path, values: np.memmap[Any, Any]) -> Callable[[int, int], Values]:
    """Return the reader of a file in row-major order: what is mapped counts as memory of the process, what is read not."""
    dtype, width, offset = values.dtype, values.shape[1], values.offset

    def rows(start: int, stop: int) -> Values:
        place = offset + start * width * dtype.itemsize
        found = np.fromfile(path, dtype, (stop - start) * width, offset=place)
        return found.reshape(-1, width)

    return rows


def _file_state(path: Path) -> object:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def _require_one_row_each(steps: Sequence[_steps.Step]) -> None:
    """Raise a ParameterError for steps that a stream cannot run."""
    _steps.require_rowwise(steps, "on a stream")
    for step in steps:
        if isinstance(step, _steps.SpatialAsStimuli | _steps.TokensAsStimuli):
            message = (
                f"Step {step} makes several stimuli of one, which a stream does not do. Give it to extract instead."
            )
            raise ParameterError(message)


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
