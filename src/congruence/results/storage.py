"""A Comparison on disk: one zarr group, complete or absent, every array with its hash.

Layout (format version 1): numbers as arrays (measure, a, b); text as int32 codes of the same shape beside the distinct
values; labels, descriptions of the measures and provenance in `description`. Text is JSON in UTF-8 bytes, because zarr
has no stable type for strings. The group's attributes hold the format and a SHA-256 of every array.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

import congruence
from congruence.errors import CorruptStoreError, OutputExistsError, StoreError
from congruence.measures import MeasureInfo
from congruence.results.text import Coded, coded

if TYPE_CHECKING:
    import zarr

    from congruence.results._comparison import Comparison

FOLDER = "comparison.zarr"
FORMAT = "congruence comparison"
FORMAT_VERSION = 1

Loaded = tuple[list[MeasureInfo], list[str], list[str], dict[str, np.ndarray[Any, Any]], dict[str, Any]]


def group_path(path: Path) -> Path:
    """Return the folder of the result: `path` itself if it is named ``*.zarr``, else one inside that run folder."""
    return path if path.suffix == ".zarr" else path / FOLDER


# ---- writing ---------------------------------------------------------------------------------------------------------


def write_atomically(path: Path, write: Callable[[TextIO], Any]) -> Path:
    """Write a text file so that readers see the old content or all of the new one; returns the path."""
    with _reported(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            # backslashreplace: a file name that is not UTF-8 has lone surrogates, which no encoding can write
            with temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
                write(file)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    return path


def save(comparison: Comparison, path: Path, *, overwrite: bool) -> Path:
    """Write the result beside its final place and move it there; see `Comparison.save`."""
    target = group_path(path)
    if target.exists() and not overwrite:
        message = f"{target} exists; choose another place, or overwrite it with overwrite=True."
        raise OutputExistsError(message)
    with _reported(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            _write_group(comparison, temporary / "new")
            _replace(temporary / "new", target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return target


def _replace(new: Path, target: Path) -> None:
    """Move a finished folder to its place; what was there stays readable under `_previous` until the end."""
    if target.exists():
        shutil.rmtree(_previous(target), ignore_errors=True)
        target.rename(_previous(target))
    new.rename(target)
    shutil.rmtree(_previous(target), ignore_errors=True)


def _previous(target: Path) -> Path:
    """Return where the last result lies while it is replaced (a folder cannot be replaced in one move)."""
    return target.with_name(f".{target.name}.previous")


def _write_group(comparison: Comparison, path: Path) -> None:
    """Write all arrays and, last, the attributes that make the group complete."""
    import zarr

    group = zarr.open_group(path, mode="w", zarr_format=3)
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    distinct: dict[str, tuple[str, ...]] = {}
    for name, variable in comparison.dataset.data_vars.items():
        if variable.dtype == object:
            text = coded(variable.values)
            arrays[str(name)], distinct[str(name)] = text.codes, text.values
        else:
            arrays[str(name)] = variable.values
    arrays["description"] = _as_bytes(
        {
            "measures": [info.to_dict() for info in comparison.infos.values()],
            "a": comparison.a,
            "b": comparison.b,
            "provenance": dict(comparison.provenance),
            "text": distinct,
        }
    )
    for name, values in arrays.items():
        _write_array(group, name, values)
    group.attrs.put(
        {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "congruence_version": congruence.__version__,
            "sha256": {name: _hash(values) for name, values in arrays.items()},
        }
    )


def _write_array(group: zarr.Group, name: str, values: np.ndarray[Any, Any]) -> None:
    chunks = (1, *(min(size, 1024) for size in values.shape[1:])) if values.ndim == 3 else values.shape
    dimensions = ("measure", "a", "b") if values.ndim == 3 else None
    # zarr would leave out chunks of zeros (and take -0.0 for one): a lost chunk could not be told from an empty one
    config: Any = {"write_empty_chunks": True}
    group.create_array(name, data=values, chunks=chunks, dimension_names=dimensions, config=config)


def _as_bytes(content: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    return np.frombuffer(json.dumps(content).encode("ascii"), dtype=np.uint8)


def _hash(values: np.ndarray[Any, Any]) -> str:
    """Return the SHA-256 of type, shape and values."""
    portable = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<")))
    described = f"{portable.dtype.str}{portable.shape}".encode()
    return hashlib.sha256(described + portable.tobytes()).hexdigest()


# ---- reading ---------------------------------------------------------------------------------------------------------


def load(path: Path) -> Loaded:
    """Return the parts of a saved result: descriptions, names, variables, provenance; see `Comparison.load`."""
    place = _find(path)
    try:
        return _parse(*_read_group(place))
    except (StoreError, MemoryError):
        raise
    # zarr and its codecs raise what they like on damaged bytes (KeyError, ValueError, RuntimeError, ...)
    except Exception as error:
        message = f"{place} is damaged: {type(error).__name__}: {error}. Restore it, or run the comparison again."
        raise CorruptStoreError(message) from error


def _parse(hashes: Mapping[str, str], arrays: dict[str, np.ndarray[Any, Any]]) -> Loaded:
    """Return the parts that these arrays hold, or raise whatever shows that they are damaged."""
    altered = [name for name, expected in hashes.items() if _hash(arrays[name]) != expected]
    if altered:
        message = f"the array '{altered[0]}' is not what was written (its SHA-256 differs)"
        raise ValueError(message)
    description = json.loads(arrays.pop("description").tobytes())
    variables = {
        name: Coded(values, tuple(description["text"][name])).expand() if name in description["text"] else values
        for name, values in arrays.items()
    }
    infos = [MeasureInfo.from_dict(plain) for plain in description["measures"]]
    return infos, description["a"], description["b"], variables, description["provenance"]


def _find(path: Path) -> Path:
    """Return the folder to read, which after a crash in the middle of an overwrite is the previous result."""
    target = group_path(path)
    for place in (target, _previous(target)):
        if place.is_dir():
            return place
    message = f"There is no saved comparison at {target}. Give the folder of a run (--out), or its {FOLDER}."
    raise StoreError(message)


def _read_group(place: Path) -> tuple[dict[str, str], dict[str, np.ndarray[Any, Any]]]:
    """Return the hash and the values of every array."""
    import zarr

    group = zarr.open_group(place, mode="r", zarr_format=3)
    attributes: dict[str, Any] = dict(group.attrs)
    if attributes.get("format") != FORMAT:
        message = (
            f"{place} is a zarr group, but no comparison (format {attributes.get('format')!r}); expected {FORMAT!r}."
        )
        raise StoreError(message)
    version = attributes["format_version"]
    if version > FORMAT_VERSION:
        message = (
            f"{place} has format version {version}, written by congruence {attributes['congruence_version']}; "
            f"this is congruence {congruence.__version__}, which reads up to version {FORMAT_VERSION}. Upgrade congruence."
        )
        raise StoreError(message)
    hashes: dict[str, str] = attributes["sha256"]
    return hashes, {name: np.asarray(group[name]) for name in hashes}


@contextlib.contextmanager
def _reported(path: Path) -> Iterator[None]:
    """Turn a failure of the disk into a StoreError that names the file."""
    try:
        yield
    except OSError as error:
        message = f"{path} could not be written: {error.strerror or error}. What was there before is untouched, and a run keeps what it has computed: free some space and try again (with exists='resume')."
        raise StoreError(message) from error
