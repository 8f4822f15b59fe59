"""One layer that is being written: its values, its mask, and what must be the same in every batch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from congruence.errors import InputError, ShapeError, StoreError
from congruence.store import journal
from congruence.store.atomic import disk_errors, write_bytes
from congruence.store.chunks import ChunkedArray, ChunkWriter, Values, content_hash
from congruence.store.folder import LocalFolder
from congruence.store.journal import Batch
from congruence.store.layout import (
    ROOT,
    ArraySpec,
    Document,
    array_document,
    plan_array,
    plan_mask,
    read_description,
    spec_of,
    storable,
)


@dataclass(frozen=True, eq=False)
class Recorded:
    """What one layer put out for one batch.

    Parameters
    ----------
    values : ndarray, shape (b, ...)
        One row per stimulus. Real numbers (half precision that NumPy lacks comes as float32).
    mask : ndarray of bool, shape (b, t), optional
        Valid positions of sequences; None means that all positions of this batch are valid.
    recurrent : bool
        Whether the values are the outputs of a recurrent layer.
    dtype : str, optional
        The model's own precision, such as ``"bfloat16"``; by default that of `values`.
    steps : tuple of str
        Steps that were applied before writing.
    """

    values: np.ndarray[Any, Any]
    mask: np.ndarray[Any, Any] | None = None
    recurrent: bool = False
    dtype: str | None = None
    steps: tuple[str, ...] = ()


def checked(name: str, recorded: Recorded) -> tuple[Values, Values | None]:
    """Return values and mask as they go to disk, or raise an error that names the layer.

    Raises
    ------
    ShapeError
        If there is no stimulus or no value, or the mask has another shape than the positions.
    InputError
        If the values are not real numbers.
    """
    values = np.asarray(recorded.values)
    if values.ndim == 0 or values.size == 0:
        message = f"Layer '{name}' has no values: shape {values.shape}. Leave it out."
        raise ShapeError(message)
    values = np.ascontiguousarray(values, dtype=storable(values.dtype, f"Layer '{name}'"))
    if recorded.mask is None:
        return values, None
    mask = np.ascontiguousarray(recorded.mask, dtype=np.bool_)
    if mask.shape != values.shape[:2] or mask.ndim != 2:
        message = f"The mask of layer '{name}' must have shape {values.shape[:2]}; got {mask.shape}."
        raise ShapeError(message)
    return values, mask


class LayerWriter:
    """Appends one layer's batches to its array and, for sequences, its mask.

    Parameters
    ----------
    root : Path
        Folder of the store.
    spec : ArraySpec
        Layout of the values.
    mask : ArraySpec, optional
        Layout of the mask; None for a layer without sequences.
    traits : mapping
        What must be the same in every batch: ``recurrent``, ``model_dtype``, ``steps``.
    """

    def __init__(self, root: Path, spec: ArraySpec, mask: ArraySpec | None, traits: Document) -> None:
        self.spec = spec
        self.traits = traits
        self._root = root
        self._values = ChunkWriter(root, spec)
        self._mask = None if mask is None else ChunkWriter(root, mask)

    @classmethod
    def new(cls, root: Path, index: int, name: str, recorded: Recorded) -> LayerWriter:
        """Return the writer of a layer that is seen for the first time; an axis of positions is known by its mask."""
        values, mask = checked(name, recorded)
        sequence = mask is not None or values.ndim == 3
        row = values.shape[2:] if sequence else values.shape[1:]
        length = values.shape[1] if sequence else None
        spec = plan_array(name, index, row, values.dtype, length, varies=mask is not None)
        return cls(root, spec, plan_mask(spec) if sequence else None, _traits(recorded))

    @classmethod
    def resumed(cls, root: Path, path: str) -> LayerWriter:
        """Return the writer of a layer that is on disk; its rows are taken over by `restore`."""
        folder = LocalFolder(root)
        description = read_description(folder, path)
        traits = {key: description[key] for key in ("recurrent", "model_dtype", "steps")}
        place = description["mask"]
        mask = None if place is None else spec_of(read_description(folder, place), place)
        return cls(root, spec_of(description, path), mask, traits)

    @property
    def durable(self) -> int:
        """Number of stimuli whose chunks are on disk."""
        return self._values.durable if self._mask is None else min(self._values.durable, self._mask.durable)

    @property
    def intact(self) -> int:
        """Number of stimuli that `restore` could take over."""
        return self._values.rows if self._mask is None else min(self._values.rows, self._mask.rows)

    def fit(self, index: int, recorded: Recorded) -> tuple[Values, Values | None]:
        """Return values and mask of batch `index`, or raise unless they fit the batches before.

        Raises
        ------
        ShapeError
            If the shape differs otherwise than in the length of the sequences.
        InputError
            If the dtype differs.
        StoreError
            If the steps, the model's precision or the kind of layer differ.
        """
        name, spec = self.spec.name, self.spec
        values, mask = checked(name, recorded)
        fits = mask is None if spec.span is None else values.ndim > 1
        if not fits or values.shape[1 if spec.span is None else 2 :] != spec.row:
            before = ", ".join(map(str, (("b",) if spec.span is None else ("b", "t")) + spec.row))
            message = (
                f"Layer '{name}' has shape {values.shape} in batch {index}; in the batches before it is ({before})."
            )
            raise ShapeError(message)
        if values.dtype.name != spec.dtype:
            message = (
                f"Layer '{name}' has dtype {values.dtype} in batch {index}; in the batches before it is {spec.dtype}."
            )
            raise InputError(message)
        if _traits(recorded) != self.traits:
            message = (
                f"Layer '{name}' has {_traits(recorded)} in batch {index}; in the batches before it is {self.traits}."
            )
            raise StoreError(message)
        return values, mask

    def append(self, values: Values, mask: Values | None) -> None:
        """Add what `fit` returned."""
        self._values.append(values)
        if self._mask is not None:
            self._mask.append(np.ones(values.shape[:2], dtype=np.bool_) if mask is None else mask)

    def length(self, values: Values) -> int:
        """Return the number of positions in a batch; 0 for a layer without."""
        return 0 if self.spec.span is None else values.shape[1]

    def flush(self) -> None:
        """Write what is still in the buffers."""
        self._values.flush()
        if self._mask is not None:
            self._mask.flush()

    def restore(self, batches: list[Batch], index: int) -> None:
        """Take over the rows of some batches from disk; `index` is the number of this layer.

        Raises
        ------
        CorruptStoreError
            If a chunk is damaged; `intact` then counts the stimuli before it.
        """
        lengths = journal.row_lengths(batches, index)
        for writer in filter(None, (self._values, self._mask)):
            writer.restore(ChunkedArray(LocalFolder(self._root), writer.spec, lengths))

    def start(self) -> None:
        """Create the array, still without rows, and its mask."""
        self._describe(0, 0)

    def finish(self, batches: list[Batch], index: int) -> None:
        """Write the final description of the array and its mask."""
        n, length = journal.stimuli(batches), max(batch.lengths[index] for batch in batches)
        mask = self._mask.hash if self._mask is not None and journal.is_masked(batches, index) else None
        found = content_hash(self.spec.dtype, self.spec.shape(n, length), self._values.hash, mask)
        self._describe(n, length, found)

    def _describe(self, n: int, length: int, found: str | None = None) -> None:
        if self._mask is not None:
            _write_description(self._mask, n, length, {}, final=found is not None)
        place = None if self._mask is None else self._mask.spec.path
        same = None if found is None else self._values.sameness.holds and n > 1
        payload = {**self.traits, "mask": place, "content_hash": found, "constant": same}
        _write_description(self._values, n, length, payload, final=found is not None)


def _write_description(array: ChunkWriter, n: int, length: int, payload: Document, *, final: bool) -> None:
    """Write the description of an array; the final one knows the checksum of every chunk."""
    spec, folder = array.spec, array.root / array.spec.path
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    own = {"name": spec.name, "span": spec.span, "checksums": array.checksums if final else None}
    document = array_document(spec.dtype, spec.shape(n, length), spec.chunk_shape, {**own, **payload})
    write_bytes(folder / ROOT, document, durable=False)


def _traits(recorded: Recorded) -> Document:
    return {
        "recurrent": recorded.recurrent,
        "model_dtype": recorded.dtype or np.asarray(recorded.values).dtype.name,
        "steps": list(recorded.steps),
    }
