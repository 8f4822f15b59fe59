"""Open whatever representations are read from: a store, .npy, .npz and .safetensors files, a folder of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from congruence.errors import InputError, UnknownNameError
from congruence.representation import Deferred, Representation
from congruence.store.folder import LocalFolder, is_url
from congruence.store.layout import ROOT, is_store
from congruence.store.numpy_files import NpyEntry, open_npy, open_npz
from congruence.store.reader import Activations
from congruence.store.rows import defer_layer, defer_npy
from congruence.store.safetensors_files import open_safetensors
from congruence.validate import closest

SUFFIXES = (".npy", ".npz", ".safetensors")
_KINDS = "a store, a .npy, .npz or .safetensors file, or a folder of them"


class _Entry(Protocol):
    """One array that can be read later."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Its dtype."""

    def read(self) -> np.ndarray[Any, Any] | Representation:
        """Return its values."""


@dataclass(frozen=True)
class _Layer:
    """A layer of a store among other sources."""

    store: Activations
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        return self.store.shape(self.name)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.store.dtype(self.name)

    def read(self) -> Representation:
        return self.store[self.name]


class ArrayFiles(Mapping[str, Representation]):
    """Representations in one file or in the files of one folder, read when they are asked for.

    Parameters
    ----------
    path : str
        The file or folder, for messages.
    entries : mapping of str to entry
        What is in it.
    """

    def __init__(self, path: str, entries: Mapping[str, _Entry]) -> None:
        self.path = path
        self._entries = dict(entries)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of an array, without reading it."""
        return self._entry(name).shape

    def dtype(self, name: str) -> np.dtype[Any]:
        """Return the dtype of an array, without reading it."""
        return self._entry(name).dtype

    def deferred(self, name: str) -> Deferred | None:
        """Return an array as a matrix that stays on disk; None for one that can only be read whole.

        Layers of stores and .npy files of two axes can be read in parts.
        """
        entry = self._entry(name)
        if isinstance(entry, _Layer) and len(entry.shape) > 1:
            return replace(defer_layer(entry.store, entry.name), name=name)
        return defer_npy(entry.path, name) if isinstance(entry, NpyEntry) and len(entry.shape) == 2 else None

    def _entry(self, name: str) -> _Entry:
        if name not in self._entries:
            message = f"{self.path} has no array '{name}'. {closest(name, self._entries)}"
            raise UnknownNameError(message)
        return self._entries[name]

    def __getitem__(self, name: str) -> Representation:
        found = self._entry(name).read()
        return replace(found, name=name) if isinstance(found, Representation) else Representation(found, name)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"ArrayFiles({self.path!r}: {len(self)} arrays)"


def open_source(path: str | Path) -> Activations | ArrayFiles:
    """Open a source of representations; values are read when an entry is asked for.

    Parameters
    ----------
    path : path or URL
        A store (names are its layers), a file of one array (its stem), a ``.npz`` or ``.safetensors`` file of several
        (its keys), or a folder of such, sorted by name (``store/layer``; the stem, or ``stem/key`` for files of several).

    Returns
    -------
    Activations or ArrayFiles
        A mapping from name to Representation that also has ``shape(name)`` and ``dtype(name)``.

    Raises
    ------
    InputError
        If the path is missing, or a file in it is empty, damaged, pickled or of another kind.
    StoreError
        If a store in it cannot be read.
    """
    if is_url(path):
        return Activations(path)
    path = Path(path)
    if not path.exists():
        message = f"{path} does not exist. Give {_KINDS}."
        raise InputError(message)
    if not path.is_dir():
        return ArrayFiles(str(path), _file(path))
    if is_store(LocalFolder(path)) or (path / ROOT).exists():
        return Activations(path)
    return ArrayFiles(str(path), _folder(path))


def _file(path: Path) -> dict[str, _Entry]:
    """Return the arrays in one file by name."""
    if path.suffix not in SUFFIXES:
        message = f"{path} is of no known kind. Give {_KINDS}."
        raise InputError(message)
    if path.suffix == ".npy":
        return {path.stem: open_npy(path)}
    found: dict[str, _Entry] = dict(open_npz(path) if path.suffix == ".npz" else open_safetensors(path))
    return found if len(found) > 1 else {path.stem: next(iter(found.values()))}


def _folder(folder: Path) -> dict[str, _Entry]:
    """Return the arrays in the files and stores of a folder by name."""
    entries: dict[str, _Entry] = {}
    visible = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    for path in visible:
        for name, entry in _member(path).items():
            if name in entries:
                message = f"{folder} has two arrays named '{name}', one of them in {path.name}. Rename a file."
                raise InputError(message)
            entries[name] = entry
    if not entries:
        found = ", ".join(path.name for path in visible[:5]) or "nothing"
        message = f"{folder} holds no representations (found: {found}). Give {_KINDS}."
        raise InputError(message)
    return entries


def _member(path: Path) -> dict[str, _Entry]:
    """Return the arrays that one entry of a folder contributes; nothing for what is of another kind."""
    if (path / ROOT).exists():
        store = Activations(path)
        return {f"{path.name.removesuffix('.zarr')}/{name}": _Layer(store, name) for name in store}
    if path.suffix not in SUFFIXES or not path.is_file():
        return {}
    found = _file(path)
    if len(found) == 1:
        return {path.stem: next(iter(found.values()))}
    return {f"{path.stem}/{key}": entry for key, entry in found.items()}
