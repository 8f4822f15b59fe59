"""Columns of repeated text: few distinct strings over very many cells, shared in memory and coded on disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from congruence.errors import Caveat, ShapeError

Objects = np.ndarray[Any, np.dtype[np.object_]]
Codes = np.ndarray[Any, np.dtype[np.int32]]


class Coded(NamedTuple):
    """Text as numbers: codes (any shape) into the distinct values."""

    codes: Codes
    values: tuple[str, ...]

    def expand(self) -> Objects:
        """Return one string per cell; equal strings are one object."""
        return self.through(str)

    def through(self, change: Callable[[str], Any]) -> Objects:
        """Return `change` of every cell, computed once per distinct value."""
        table = np.empty(len(self.values), dtype=object)
        table[:] = [change(value) for value in self.values]
        return table[self.codes]


def coded(text: Any) -> Coded:
    """Return the codes and the distinct values of an array of strings, values in order of appearance."""
    import pandas as pd

    flat = np.asarray(text, dtype=object)
    codes, values = pd.factorize(flat.ravel())
    return Coded(codes.astype(np.int32).reshape(flat.shape), tuple(str(value) for value in values))


def shared(text: Any, shape: tuple[int, ...], name: str) -> Objects:
    """Return text for every cell (one string stands for all) in which equal strings are one object."""
    given = np.asarray(text, dtype=object)
    if given.ndim == 0:
        return np.full(shape, str(given), dtype=object)
    if given.shape != shape:
        message = f"{name} must have shape {shape} (measure, a, b); got {given.shape}."
        raise ShapeError(message)
    return coded(given).expand()


def write_caveats(caveats: Sequence[Caveat] | None) -> str:
    """Return caveats as one JSON list, or an empty string for none."""
    if not caveats:
        return ""
    return json.dumps([{"code": c.code, "text": c.text, "level": c.level} for c in caveats])


def read_caveats(text: str) -> tuple[Caveat, ...]:
    """Return the caveats that `write_caveats` wrote."""
    return tuple(Caveat(c["code"], c["text"], c["level"]) for c in json.loads(text)) if text else ()


def describe_caveats(text: str) -> str:
    """Return written caveats as one line for people."""
    return "; ".join(
        f"{caveat}" + ("" if caveat.level is None else f" (unrelated data: {caveat.level:.4g})")
        for caveat in read_caveats(text)
    )


def caveat_cells(caveats: Any, shape: tuple[int, ...]) -> Objects:
    """Return written caveats per cell, from an object array of tuples or from a mapping of (measure, a, b) indices."""
    written: dict[tuple[Caveat, ...], str] = {}
    cells = np.full(shape, "", dtype=object)
    found: Iterable[tuple[Any, Any]]
    if isinstance(caveats, Mapping):
        found = caveats.items()
    else:
        given = np.asarray(caveats, dtype=object)
        if given.shape != shape:
            message = f"caveats must have shape {shape} (measure, a, b); got {given.shape}."
            raise ShapeError(message)
        found = ((index, cell) for index, cell in np.ndenumerate(given) if cell)
    for index, cell in found:
        key = tuple(cell)
        if key not in written:
            written[key] = write_caveats(key)
        cells[index] = written[key]
    return cells
