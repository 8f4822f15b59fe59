"""Verify a store from end to end and report on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from congruence.errors import CorruptStoreError
from congruence.store.chunks import ChunkedArray, content_hash
from congruence.store.layout import REPAIR
from congruence.store.reader import Activations


@dataclass(frozen=True)
class LayerReport:
    """What is known of one layer of a store.

    Parameters
    ----------
    name : str
        Layer name.
    shape : tuple of int
        Shape of its array.
    dtype : str
        Precision on disk.
    model_dtype : str
        Precision in which the model computed it.
    bytes : int
        Size on disk, mask included.
    mask : bool
        Whether sequences carry a mask.
    content_hash : str, optional
        Hash of values and mask; None in an incomplete store.
    problems : tuple of str
        What is wrong with it; empty if every chunk and the content hash are right.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    model_dtype: str
    bytes: int
    mask: bool
    content_hash: str | None
    problems: tuple[str, ...]

    @property
    def status(self) -> str:
        """``"ok"`` or ``"corrupt"``."""
        return "corrupt" if self.problems else "ok"


@dataclass(frozen=True)
class StoreReport:
    """What `inspect` found.

    Parameters
    ----------
    path : str
        The store.
    complete : bool
        Whether its run has finished.
    format_version : int
        Version of the store format.
    model : str, optional
        Model that was recorded.
    n : int
        Number of stimuli.
    batches : int
        Number of batches.
    layers : tuple of LayerReport
        Layers in execution order.
    problems : tuple of str
        Everything that is wrong, one sentence each; an unfinished run is not a problem.
    provenance : dict
        What the writer was told.
    """

    path: str
    complete: bool
    format_version: int
    model: str | None
    n: int
    batches: int
    layers: tuple[LayerReport, ...]
    problems: tuple[str, ...]
    provenance: dict[str, Any]

    @property
    def bytes(self) -> int:
        """Size on disk."""
        return sum(layer.bytes for layer in self.layers)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON can hold it."""
        layers = [{**asdict(layer), "status": layer.status} for layer in self.layers]
        return {**asdict(self), "layers": layers, "bytes": self.bytes, "ok": self.ok}


def inspect(path: str | Path, progress: Callable[[int, int], None] | None = None) -> StoreReport:
    """Read every chunk of a store and compare it with its checksum, and every layer with its content hash.

    Parameters
    ----------
    path : path or URL
        The store, finished or not.
    progress : callable, optional
        Called with (chunks read, chunks in all).

    Returns
    -------
    StoreReport
        Every problem that was found.

    Raises
    ------
    StoreError
        If there is no store, or a newer version wrote it.
    CorruptStoreError
        If the store's own description cannot be read.
    """
    store = Activations(path, allow_incomplete=True)
    counter = _Counter(_total_chunks(store), progress)
    layers = tuple(_layer(store, name, counter) for name in store.names)
    model = store.provenance.get("model")
    return StoreReport(
        path=store.path,
        complete=store.complete,
        format_version=store.format_version,
        model=model if isinstance(model, str) else None,
        n=store.n,
        batches=store.batches,
        layers=layers,
        problems=tuple(problem for layer in layers for problem in layer.problems),
        provenance=store.provenance,
    )


@dataclass
class _Counter:
    """Counts chunks and tells the caller."""

    total: int
    progress: Callable[[int, int], None] | None
    done: int = 0

    def advance(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)


def _parts(store: Activations, name: str) -> list[ChunkedArray]:
    """Return the arrays of a layer: its values, and its mask if it holds sequences."""
    parts = [store.chunked(name), store.chunked_mask(name)]
    return [part for part in parts if part is not None]


def _places(part: ChunkedArray) -> Iterator[tuple[int, int]]:
    return ((block, column) for block in range(part.blocks) for column in range(part.columns(block)))


def _total_chunks(store: Activations) -> int:
    total = 0
    for name in store.names:
        with suppress(CorruptStoreError):  # `_layer` reports it
            total += sum(len(list(_places(part))) for part in _parts(store, name))
    return total


def _layer(store: Activations, name: str, counter: _Counter) -> LayerReport:
    try:
        parts = _parts(store, name)
    except CorruptStoreError as error:
        return LayerReport(name, (), "unknown", "unknown", 0, False, None, (str(error),))
    problems = [problem for part in parts for problem in _damaged(part, counter)]
    if not problems and store.complete and _rehash(store, name, parts) != store.content_hash(name):
        problems.append(f"{store.path}: layer '{name}': its values differ from the recorded content hash. {REPAIR}")
    return LayerReport(
        name=name,
        shape=store.shape(name),
        dtype=store.dtype(name).name,
        model_dtype=store.model_dtype(name),
        bytes=sum(part.chunk_bytes * len(list(_places(part))) for part in parts),
        mask=store.is_masked(name),
        content_hash=store.content_hash(name),
        problems=tuple(problems),
    )


def _damaged(part: ChunkedArray, counter: _Counter) -> Iterator[str]:
    """Yield what is wrong with each damaged chunk of an array."""
    for place in _places(part):
        try:
            part.chunk(*place)
        except CorruptStoreError as error:
            yield str(error)
        counter.advance()


def _rehash(store: Activations, name: str, parts: list[ChunkedArray]) -> str:
    hashes = [part.hash() for part in parts]
    mask = hashes[1] if store.is_masked(name) else None
    return content_hash(parts[0].spec.dtype, parts[0].shape, hashes[0], mask)
