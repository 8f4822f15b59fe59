"""NumPy's files: .npy and .npz, without pickle. Headers are checked when a file is opened, values when they are read."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from congruence.errors import InputError

_MAGIC = b"\x93NUMPY"
_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


@dataclass(frozen=True)
class NpyEntry:
    """The array of a .npy file."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read(self) -> np.ndarray[Any, Any]:
        """Return the values."""
        with _reading(self.path), self.path.open("rb") as file:
            return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


@dataclass(frozen=True)
class NpzEntry:
    """One array of a .npz file."""

    path: Path
    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read(self) -> np.ndarray[Any, Any]:
        """Return the values; the archive's own checksum is verified."""
        with _reading(self.path), zipfile.ZipFile(self.path) as archive, archive.open(f"{self.key}.npy") as file:
            values = np.asarray(np.lib.format.read_array(file, allow_pickle=False))
            file.read()  # the checksum is compared at the end of the member
            return values


def open_npy(path: Path) -> NpyEntry:
    """Check the header of a .npy file.

    Raises
    ------
    InputError
        If it is empty, truncated, pickled, not a NumPy file, or holds anything but real numbers.
    """
    with _reading(path), path.open("rb") as file:
        shape, dtype = _header(file, str(path), path.stat().st_size)
    return NpyEntry(path, shape, dtype)


def open_npz(path: Path) -> dict[str, NpzEntry]:
    """Check the headers of the arrays in a .npz file.

    Raises
    ------
    InputError
        If it is empty, damaged, pickled, no archive, or holds anything but arrays of real numbers.
    """
    entries: dict[str, NpzEntry] = {}
    with _reading(path):
        _require_archive(path)
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                key = member.filename.removesuffix(".npy")
                label = f"'{key}' in {path}"
                if key == member.filename:
                    message = f"{label} is no array. A .npz file must hold arrays only (numpy.savez)."
                    raise InputError(message)
                with archive.open(member) as file:
                    entries[key] = NpzEntry(path, key, *_header(file, label, member.file_size))
    if not entries:
        message = f"{path} holds no arrays."
        raise InputError(message)
    return entries


def _require_archive(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(64)
    if not zipfile.is_zipfile(path):
        message = f"{path} is no .npz archive: {_looks(start)}. Write it with numpy.savez."
        raise InputError(message)


def _header(file: IO[bytes], label: str, size: int) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape and dtype of the array that starts here and must fill `size` bytes."""
    start = file.read(len(_MAGIC))
    if start != _MAGIC:
        message = f"{label} is no NumPy array: {_looks(start + file.read(64))}. Write it with numpy.save."
        raise InputError(message)
    major, minor = file.read(2)
    readers = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
    if major not in readers:
        message = f"{label} is in version {major}.{minor} of NumPy's format; arrays of numbers have 1.0 or 2.0."
        raise InputError(message)
    shape, _, dtype = readers[major](file)
    if dtype.hasobject:
        message = f"{label} holds Python objects (a pickle), which are never loaded. Save an array of numbers."
        raise InputError(message)
    require_real(dtype, label)
    if file.tell() + int(np.prod(shape, dtype=object)) * dtype.itemsize > size:
        message = f"{label} is truncated: shape {shape} of {dtype} does not fit in its {size} bytes. Write it again."
        raise InputError(message)
    return shape, dtype


def require_real(dtype: np.dtype[Any], label: str) -> None:
    """Raise an InputError for an array of anything but real numbers."""
    if dtype.kind not in "biuf":
        kind = "complex numbers" if dtype.kind == "c" else f"dtype {dtype}"
        message = f"{label} must hold real numbers; got {kind}."
        raise InputError(message)


def _looks(start: bytes) -> str:
    """Return what the first bytes of a file look like."""
    if not start:
        return "the file is empty"
    if start.startswith(_PICKLES):
        return "it is a pickle, which is never loaded"
    if start.startswith(_MAGIC):
        return "it is a .npy file"
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in start):
        return "it is text"
    return f"it starts with {start[:8]!r}"


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what goes wrong inside NumPy and zipfile into an InputError that names the file."""
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError, EOFError, RuntimeError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        message = f"{path} cannot be read: {error}. It is damaged or of another kind; write it again."
        raise InputError(message) from error
