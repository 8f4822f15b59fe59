"""Files in the safetensors format: a length, a JSON header, plain bytes. Read here so that bfloat16 needs no torch."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from congruence.errors import Caveat, CongruenceWarning, InputError

_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "|u1",
    "BOOL": "|b1",
}
_LENGTH_BYTES = 8


@dataclass(frozen=True)
class SafetensorsEntry:
    """One tensor of a .safetensors file."""

    path: Path
    key: str
    kind: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype that `read` gives: bfloat16 comes as float32, which holds all of its values."""
        return np.dtype("float32" if self.kind == "BF16" else _DTYPES[self.kind])

    def read(self) -> np.ndarray[Any, Any]:
        """Return the values."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.start)
                data = file.read(self.stop - self.start)
        except OSError as error:
            message = f"{self.path} cannot be read: {error.strerror or error}."
            raise InputError(message) from error
        if len(data) < self.stop - self.start:
            raise _damaged(self.path, f"'{self.key}' is truncated")
        values = np.frombuffer(data, _DTYPES[self.kind]).reshape(self.shape)
        if self.kind != "BF16":
            return values
        text = f"'{self.key}' in {self.path} holds bfloat16 values, about 2 significant digits; they become float32."
        warnings.warn(CongruenceWarning(Caveat("half_input", text)), stacklevel=2)
        return (values.astype("<u4") << 16).view("<f4")


def open_safetensors(path: Path) -> dict[str, SafetensorsEntry]:
    """Check the header of a .safetensors file.

    Raises
    ------
    InputError
        If it is empty, damaged, or holds anything but real numbers.
    """
    text, size = _header(path)
    try:
        header = json.loads(text)
    except ValueError as error:
        raise _damaged(path, "its header is no JSON") from error
    if not isinstance(header, dict):
        raise _damaged(path, "its header is no JSON object")
    base = _LENGTH_BYTES + len(text)
    entries = {key: _entry(path, key, value, base, size) for key, value in header.items() if key != "__metadata__"}
    if not entries:
        message = f"{path} holds no arrays."
        raise InputError(message)
    return entries


def _header(path: Path) -> tuple[bytes, int]:
    """Return the header of a file, as text, and the size of the file."""
    try:
        with path.open("rb") as file:
            length, size = int.from_bytes(file.read(_LENGTH_BYTES), "little"), path.stat().st_size
            text = file.read(length) if _LENGTH_BYTES + length <= size else None
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror or error}."
        raise InputError(message) from error
    if text is None:
        raise _damaged(path, "its header is truncated, or it is another format" if size else "the file is empty")
    return text, size


def _entry(path: Path, key: str, value: Any, base: int, size: int) -> SafetensorsEntry:
    try:
        kind, shape = str(value["dtype"]), tuple(map(int, value["shape"]))
        start, stop = (base + int(offset) for offset in value["data_offsets"])
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, f"the description of '{key}' is wrong") from error
    if kind not in _DTYPES:
        message = f"'{key}' in {path} must hold real numbers of a common precision; got {kind}."
        raise InputError(message)
    if (
        min(shape, default=0) < 0
        or stop - start != int(np.prod(shape, dtype=object)) * np.dtype(_DTYPES[kind]).itemsize
    ):
        raise _damaged(path, f"the description of '{key}' is wrong")
    if not base <= start <= stop <= size:
        raise _damaged(path, f"'{key}' is truncated")
    return SafetensorsEntry(path, key, kind, shape, start, stop)


def _damaged(path: Path, what: str) -> InputError:
    return InputError(f"{path} is no intact .safetensors file: {what}. Write it again.")
