"""Matrices that stay on disk: layers of a store and .npy files, read whole or a range of stimuli at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from congruence import steps as _steps
from congruence.errors import ParameterError, ShapeError, StoreError
from congruence.representation import Deferred, Origin, Representation
from congruence.store.chunks import ChunkedArray, RowHash, content_hash
from congruence.store.folder import is_url, open_folder
from congruence.store.layout import read_description, read_root
from congruence.store.numpy_files import open_npy
from congruence.store.reader import Activations

Values = np.ndarray[Any, Any]

_PART_BYTES = 128_000_000


def _parts(n: int, row_bytes: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of stimuli that are read at once."""
    rows = max(1, _PART_BYTES // max(row_bytes, 1))
    for start in range(0, n, rows):
        yield start, min(start + rows, n)


# ---- layers of a store -----------------------------------------------------------------------------------------------


def defer_layer(store: Activations, layer: str, steps: _steps.StepSpec = None) -> Deferred:
    """Return a layer as a matrix that stays on disk until its values are asked for.

    Parameters
    ----------
    store : Activations
        The store.
    layer : str
        Layer name.
    steps : str, Step or list, optional
        Steps that make (n, p) values, a stimulus at a time; by default what the shape calls for.

    Raises
    ------
    ParameterError
        If a step needs all stimuli at once, or makes several stimuli of one.
    """
    chosen = _steps.parse_steps(steps)
    if chosen is None:
        recurrent = bool(store.describe(layer)["recurrent"])
        chosen = _steps.default_steps(len(store.shape(layer)), recurrent=recurrent)
    _require_one_row_each(chosen)
    rows = LayerRows(_from_anywhere(store.path), layer, chosen, _after(store.content_hash(layer), chosen))
    first, stored = rows.read(0, 1), store.rows(layer, 0, 1)
    return Deferred(
        layer,
        (store.n, int(np.prod(first.shape[1:]))),
        str(first.dtype),
        rows.whole,
        store.ids,
        (*stored.steps, *chosen),
        replace(stored.origin, fingerprint=rows.fingerprint),
        rows,
    )


@dataclass(frozen=True, eq=False)
class LayerRows:
    """Reads one layer of a store as (m, p) values.

    Parameters
    ----------
    path : str
        Path or URL of the store, which is opened anew in another process.
    layer : str
        Layer name.
    steps : tuple of Step
        What makes a matrix of it, a stimulus at a time.
    fingerprint : str, optional
        Hash of the layer and the steps when this was made.
    """

    path: str
    layer: str
    steps: tuple[_steps.Step, ...] = ()
    fingerprint: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what was opened."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def _arrays(self) -> tuple[ChunkedArray, ChunkedArray | None]:
        store = Activations(self.path)
        return store.chunked(self.layer), store.chunked_mask(self.layer) if store.is_masked(self.layer) else None

    @property
    def row_bytes(self) -> int:
        """Memory that one stimulus takes while it is read, before any step."""
        values, _ = self._arrays
        return int(np.prod(values.shape[1:])) * np.dtype(values.spec.dtype).itemsize

    def read(self, start: int, stop: int) -> Values:
        """Return some stimuli after the steps."""
        values, mask = self._arrays
        block = _steps.Block(values.read(start, stop), None, None if mask is None else mask.read(start, stop))
        return np.asarray(_steps.apply_steps(self.steps, block).values)

    def whole(self) -> Representation:
        """Return all stimuli of what is on disk now; steps are applied to a part at a time."""
        n, anew = Activations(self.path).n, replace(self)
        parts = _parts(n, anew.row_bytes) if self.steps else [(0, n)]
        read = [anew.read(*part) for part in parts]
        store = Activations(self.path)  # after the values: a store that was replaced meanwhile has another hash
        stored = store.rows(self.layer, 0, 1)
        return Representation(
            read[0] if len(read) == 1 else np.concatenate(read),
            self.layer,
            store.ids,
            steps=(*stored.steps, *self.steps),
            origin=replace(stored.origin, fingerprint=_after(store.content_hash(self.layer), self.steps)),
        )

    def changed(self) -> bool:
        """Return whether the store holds another layer now, or is gone."""
        folder = open_folder(self.path)
        try:
            path = dict(read_root(folder)["layers"]).get(self.layer)
            found = None if path is None else read_description(folder, path)["content_hash"]
        except StoreError:
            return True
        return _after(found, self.steps) != self.fingerprint


def _from_anywhere(path: str) -> str:
    """Return a path or URL as a process finds it that was started in another folder."""
    return path if is_url(path) else str(Path(path).absolute())


def _after(content: str | None, steps: tuple[_steps.Step, ...]) -> str | None:
    """Return what identifies a layer after some steps."""
    if content is None or not steps:
        return content
    return hashlib.sha256(f"{content} {','.join(map(str, steps))}".encode()).hexdigest()


def _require_one_row_each(steps: tuple[_steps.Step, ...]) -> None:
    """Raise a ParameterError for steps that cannot run on a part of the stimuli."""
    _steps.require_rowwise(steps, "on a stream")
    for step in steps:
        if isinstance(step, _steps.SpatialAsStimuli | _steps.TokensAsStimuli):
            message = (
                f"Step {step} makes several stimuli of one, which a stream does not do. Give it to extract instead."
            )
            raise ParameterError(message)


# ---- .npy files ------------------------------------------------------------------------------------------------------


def defer_npy(path: str | Path, name: str | None = None) -> Deferred:
    """Return the matrix in a .npy file, which is read once, in parts, for its fingerprint.

    Raises
    ------
    InputError
        If the file cannot be read as an array of numbers.
    ShapeError
        If the array has not two axes.
    """
    path = Path(path).absolute()  # a worker may have been started in another folder
    entry = open_npy(path)
    name = name or path.stem
    if len(entry.shape) != 2:
        message = f"{path} must be two-dimensional (n stimuli, p features) to be streamed; got shape {entry.shape}."
        raise ShapeError(message)
    rows = NpyRows(path, _file_state(path))
    n, p = entry.shape
    total = RowHash()
    for part in _parts(n, rows.row_bytes):
        total.update(rows.read(*part))
    rows = replace(rows, fingerprint=content_hash(entry.dtype.name, (n, p), total, None))
    return Deferred(name, (n, p), str(entry.dtype), rows.whole, origin=Origin(fingerprint=rows.fingerprint), rows=rows)


@dataclass(frozen=True, eq=False)
class NpyRows:
    """Reads a .npy file of two axes.

    Parameters
    ----------
    path : Path
        The file.
    state : tuple of int
        Time of its last change, and size, when this was made.
    fingerprint : str, optional
        Hash of the values.
    """

    path: Path
    state: tuple[int, int]
    fingerprint: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what was opened."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def _mapped(self) -> np.memmap[Any, Any]:
        return np.lib.format.open_memmap(self.path, mode="r")

    @property
    def row_bytes(self) -> int:
        """Memory that one stimulus takes while it is read."""
        return int(self._mapped.shape[1]) * self._mapped.itemsize

    def read(self, start: int, stop: int) -> Values:
        """Return some stimuli; only a file in column-major order is mapped, which counts as memory of the process."""
        mapped = self._mapped
        if not mapped.flags.c_contiguous:
            return np.array(mapped[start:stop])
        count, place = (stop - start) * mapped.shape[1], mapped.offset + start * self.row_bytes
        return np.fromfile(self.path, mapped.dtype, count, offset=place).reshape(stop - start, mapped.shape[1])

    def whole(self) -> Representation:
        """Return all of what is in the file now."""
        fingerprint = None if self.changed() else self.fingerprint
        return Representation(open_npy(self.path).read(), self.path.stem, origin=Origin(fingerprint=fingerprint))

    def changed(self) -> bool:
        """Return whether the file was written since."""
        return not self.path.exists() or _file_state(self.path) != self.state


def _file_state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size
