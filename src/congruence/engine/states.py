"""Prepared states as bytes: raw arrays behind a JSON header, rebuilt to the last bit; no pickle."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Sequence
from io import BufferedReader
from typing import Any, BinaryIO

import google_crc32c
import numpy as np

from congruence.measures import Measure

Array = np.ndarray[Any, Any]
Document = dict[str, Any]

MAGIC = b"CGSTATE1"
_ALIGNMENT = 64
_PLAIN = (bool, int, float, str, type(None))


class _Unwritable(TypeError):
    """A part of a state that is neither an array, a plain value nor a record of such."""


# ---- states and their parts ------------------------------------------------------------------------------------------


def state_type(measure: Measure[Any]) -> Any:
    """Return S of a measure that is declared as ``Measure[S]``; None if it does not say."""
    for cls in type(measure).__mro__:
        for base in cls.__dict__.get("__orig_bases__", ()):
            if typing.get_origin(base) is Measure:
                (found,) = typing.get_args(base)
                return None if isinstance(found, typing.TypeVar) else found
    return None


def encode(state: Any, expected: Any) -> tuple[Document, list[Array]] | None:
    """Return a state as a document and the arrays in it; None for one that cannot be written down.

    Parameters
    ----------
    state : NamedTuple, dataclass, array or scalar
        Fields are arrays, scalars, None, or records again.
    expected : type
        Its declared type; records inside are those that the fields declare.
    """
    arrays: list[Array] = []
    try:
        return _encode(state, expected, arrays), arrays
    except _Unwritable:
        return None


def _encode(value: Any, hint: Any, arrays: list[Array]) -> Document:
    if type(value) is np.ndarray and value.dtype.kind in "biufc":
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if isinstance(value, np.generic) and value.dtype.kind in "biufc":
        return {"scalar": [value.dtype.str, value.tobytes().hex()]}
    if type(value) in _PLAIN:
        return {"plain": value}
    for place, record in enumerate(_records(hint)):
        if type(value) is record:
            hints = _hints(record)
            parts = {name: _encode(getattr(value, name), hints.get(name), arrays) for name in _fields(record)}
            return {"record": place, "parts": parts}
    message = f"{type(value).__name__} is not written down."
    raise _Unwritable(message)


def decode(document: Document, arrays: Sequence[Array], expected: Any) -> Any:
    """Return the state that `encode` took apart."""
    match document:
        case {"array": place}:
            return arrays[place]
        case {"scalar": [dtype, digits]}:
            return np.frombuffer(bytes.fromhex(digits), np.dtype(dtype))[0]
        case {"plain": value}:
            return value
        case {"record": place, "parts": parts}:
            record = _records(expected)[place]
            hints = _hints(record)
            return record(**{name: decode(part, arrays, hints.get(name)) for name, part in parts.items()})
    message = f"{sorted(document)} is no part of a state."
    raise _Unwritable(message)


def _records(hint: Any) -> list[Any]:
    """Return the record types that a declared type allows."""
    options = (hint, *typing.get_args(hint))
    return [option for option in options if isinstance(option, type) and _is_record(option)]


def _is_record(kind: type[Any]) -> bool:
    return dataclasses.is_dataclass(kind) or (issubclass(kind, tuple) and "_fields" in vars(kind))


def _fields(record: Any) -> tuple[str, ...]:
    """Return the names that a record is built from."""
    if dataclasses.is_dataclass(record):
        return tuple(field.name for field in dataclasses.fields(record) if field.init)
    names: tuple[str, ...] = record._fields
    return names


def _hints(record: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(record)
    except NameError as error:  # a name that only type checkers import
        message = f"{record.__name__} does not say what it holds."
        raise _Unwritable(message) from error


# ---- bytes -----------------------------------------------------------------------------------------------------------


def write_state(file: BinaryIO, made_from: Document, document: Document, arrays: Sequence[Array]) -> None:
    """Write a state: magic, size and checksum of the header, the header, then the arrays at multiples of 64 bytes.

    Arrays are written without gaps; their strides are kept, since the order in memory decides about last bits.
    """
    dense = [np.ascontiguousarray(array) for array in arrays]
    described = [
        {"dtype": array.dtype.str, "shape": array.shape, "strides": array.strides, "crc": _crc(values)}
        for array, values in zip(arrays, dense, strict=True)
    ]
    header = json.dumps({"made_from": made_from, "state": document, "arrays": described}).encode()
    prefix = MAGIC + len(header).to_bytes(8, "little") + int(google_crc32c.value(header)).to_bytes(8, "little")
    file.write(prefix + header)
    for values in dense:
        file.write(bytes(-file.tell() % _ALIGNMENT))
        file.write(_bytes(values))


def read_state(file: BufferedReader, made_from: Document) -> tuple[Document, list[Array]] | None:
    """Return what `write_state` wrote; None if it is damaged or was made from something else."""
    prefix = file.read(24)
    size, crc = int.from_bytes(prefix[8:16], "little"), int.from_bytes(prefix[16:24], "little")
    if prefix[:8] != MAGIC or size > 2**24:
        return None
    content = file.read(size)
    if len(content) != size or int(google_crc32c.value(content)) != crc:
        return None
    header = json.loads(content)
    if header["made_from"] != made_from:
        return None
    arrays: list[Array] = []
    for entry in header["arrays"]:
        file.seek(-file.tell() % _ALIGNMENT, 1)
        values = np.empty(entry["shape"], np.dtype(entry["dtype"]))
        if file.readinto(_bytes(values)) != values.nbytes or _crc(values) != entry["crc"]:
            return None
        arrays.append(_laid_out(values, tuple(entry["strides"])))
    return header["state"], arrays


def _bytes(values: Array) -> memoryview:
    """Return the bytes of a contiguous array, without copying them."""
    return values.reshape(-1).view(np.uint8).data


def _crc(values: Array) -> int:
    return int(google_crc32c.value(values.reshape(-1).view(np.uint8)))


def _laid_out(values: Array, strides: tuple[int, ...]) -> Array:
    """Return the same values with other strides."""
    if values.strides == strides or not values.size:
        return values
    steps = [(size - 1) * stride for size, stride in zip(values.shape, strides, strict=True)]
    before = -sum(min(0, step) for step in steps)
    buffer = np.zeros(before + sum(max(0, step) for step in steps) + values.itemsize, np.uint8)
    found: Array = np.ndarray(values.shape, values.dtype, buffer.data, before, strides)
    found[...] = values
    return found
