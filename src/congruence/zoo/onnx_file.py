"""Read the weights in an ONNX file: as much of the protocol-buffer format as that needs, and no package for it.

Field numbers are those of onnx.proto3: ModelProto.graph 7; GraphProto.node 1, .initializer 5; NodeProto.input 1, .name 3,
.op_type 4; TensorProto.dims 1, .data_type 2, .name 8, .raw_data 9.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from congruence.errors import InputError

_DTYPES: dict[int, np.dtype[Any]] = {1: np.dtype("<f4"), 11: np.dtype("<f8")}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class OnnxWeights:
    """The initialisers of a graph, and which node of which kind takes which of them.

    Parameters
    ----------
    tensors : dict of str to array
        Initialisers with floating values, by name.
    users : dict of str to tuple of str
        Name of an initialiser -> name and operator of the node that takes it (the last, if there are more).
    """

    tensors: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    users: dict[str, tuple[str, str]] = field(default_factory=dict)


def read_onnx(path: Path) -> OnnxWeights:
    """Read the weights of an ONNX file.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    found = OnnxWeights()
    try:
        for number, graph in _fields(memoryview(path.read_bytes())):
            if number == 7:
                _read_graph(graph, found)
    except (IndexError, ValueError, OSError) as error:
        message = f"{path} is no intact ONNX file ({error}). Install its package again."
        raise InputError(message) from error
    return found


def _read_graph(graph: Any, found: OnnxWeights) -> None:
    for number, value in _fields(graph):
        if number == 5:
            name, tensor = _tensor(value)
            if tensor is not None:
                found.tensors[name] = tensor
        elif number == 1:
            parts: dict[int, list[str]] = {}
            for key, part in _fields(value):
                if key in {1, 3, 4}:
                    parts.setdefault(key, []).append(bytes(part).decode())
            user = (parts.get(3, [""])[0], parts.get(4, [""])[0])
            found.users.update(dict.fromkeys(parts.get(1, []), user))


def _tensor(message: Any) -> tuple[str, np.ndarray[Any, Any] | None]:
    """Return name and values of a TensorProto; None for values that are no floating numbers."""
    shape: list[int] = []
    kind, name, raw = 0, "", b""
    for number, value in _fields(message):
        if number == 1:
            shape += [value] if isinstance(value, int) else _varints(value)
        elif number == 2:
            kind = int(value)
        elif number == 8:
            name = bytes(value).decode()
        elif number == 9:
            raw = bytes(value)
    if kind not in _DTYPES:
        return name, None
    return name, np.frombuffer(raw, _DTYPES[kind]).reshape(shape)


def _varints(packed: Any) -> list[int]:
    at, found = 0, []
    while at < len(packed):
        value, at = _varint(packed, at)
        found.append(value)
    return found


def _varint(data: Any, at: int) -> tuple[int, int]:
    """Return the number that starts at a place, and the place after it."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def _fields(message: Any) -> Iterator[tuple[int, Any]]:
    """Yield the numbers and values of the fields of a message."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        length = {_FIXED64: 8, _FIXED32: 4}.get(kind)
        if kind == _BYTES:
            length, at = _varint(message, at)
        if length is None or at + length > len(message):
            text = f"field {number} of kind {kind} at byte {at}"
            raise ValueError(text)
        yield number, message[at : at + length]
        at += length
