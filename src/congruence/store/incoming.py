"""Checks of a batch before anything of it is written."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from congruence.errors import AlignmentError, ShapeError, StoreError
from congruence.store.journal import Batch


def require_layers(index: int, found: Collection[str], expected: Collection[str]) -> None:
    """Raise a StoreError unless batch `index` has layers, and those of the batches before."""
    if not found:
        message = f"Batch {index} has no layers; there is nothing to write."
        raise StoreError(message)
    different = sorted(set(expected) ^ set(found))
    if expected and different:
        where = "is new in" if different[0] in found else "is missing from"
        message = f"Layer '{different[0]}' {where} batch {index}; every batch must have the same layers."
        raise StoreError(message)


def common_rows(index: int, rows: Mapping[str, int]) -> int:
    """Return the number of stimuli, which must be the same for every layer of batch `index`."""
    first = next(iter(rows))
    for name, count in rows.items():
        if count != rows[first]:
            message = f"Layer '{name}' has {count} stimuli in batch {index} and layer '{first}' has {rows[first]}."
            raise ShapeError(message)
    return rows[first]


def new_ids(
    index: int, ids: Sequence[Any] | None, rows: int, known: Collection[str], before: Sequence[Batch]
) -> tuple[str, ...] | None:
    """Return the ids of a batch as text, or raise an AlignmentError; None for positions."""
    if before and (before[0].ids is None) != (ids is None):
        message = f"Batch {index} comes {'without' if ids is None else 'with'} ids, unlike the batches before."
        raise AlignmentError(message)
    if ids is None:
        return None
    names = tuple(map(str, ids))
    if len(names) != rows:
        message = f"Batch {index} has {rows} stimuli but {len(names)} ids."
        raise AlignmentError(message)
    seen: set[str] = set()
    for name in names:
        if name in known or name in seen:
            message = f"Stimulus id {name!r} in batch {index} is repeated. Ids must be unique."
            raise AlignmentError(message)
        seen.add(name)
    return names
