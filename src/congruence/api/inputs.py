"""From what a user hands over to representations that can be compared: read, named, aligned, as checked matrices."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from congruence import linalg, validate
from congruence.errors import (
    AlignmentError,
    Caveat,
    CongruenceError,
    CongruenceWarning,
    InputError,
    ParameterError,
    ShapeError,
)
from congruence.measures import Measure
from congruence.representation import Deferred, Representation, common_ids, require_aligned, restrict
from congruence.steps import StepSpec
from congruence.store import Activations, open_source
from congruence.store.chunks import RowHash

Source = Any
"""dict name -> array, list of Representation, Activations, a path or a list of paths, one array or Representation."""
Side = Literal["a", "b"]

DEFER_BYTES = 1_000_000_000
"""From which size on the matrices of a store are read one by one, each time they are needed."""


@dataclass(frozen=True, eq=False)
class Item:
    """A representation, and what messages call it: its name, with the file or the side where that alone is unclear."""

    representation: Representation | Deferred
    title: str

    def apply(self, work: Callable[[Representation], Representation]) -> Item:
        """Return the item after `work`, whose errors say which representation they concern; a deferred one as it is."""
        if isinstance(self.representation, Deferred):
            return self
        try:
            return replace(self, representation=work(self.representation))
        except CongruenceError as error:
            raise error.about(self.title) from None


# ---- reading ---------------------------------------------------------------------------------------------------------


def read_sides(a: Source, b: Source | None, *, defer: bool | None = False) -> tuple[list[Item], list[Item] | None]:
    """Return the representations of both sides, with their names in the result.

    Parameters
    ----------
    defer : bool, optional
        Whether matrices in stores are left on disk until their turn comes; None leaves those of large stores.

    Raises
    ------
    InputError
        If something cannot be read, or holds nothing that can be compared.
    ParameterError
        If two representations on one side have the same name.
    """
    first = _read_side(a, "a", defer)
    if b is None:
        return first, None
    second = _read_side(b, "b", defer)
    known = Counter(item.title for item in (*first, *second))
    return _distinguished(first, "a", known), _distinguished(second, "b", known)


def _read_side(source: Source, side: Side, defer: bool | None) -> list[Item]:
    items = list(_items(source, side, defer))
    if not items:
        message = f"{side} holds no representation; give a dict of arrays, a store, or files with arrays."
        raise InputError(message)
    repeated = [name for name, count in Counter(i.representation.name for i in items).items() if count > 1]
    if repeated:
        titles = " and ".join(i.title for i in items if i.representation.name == repeated[0])
        message = f"Names on side {side} must differ; '{repeated[0]}' is there more than once ({titles}). Rename one."
        raise ParameterError(message)
    return items


def _distinguished(items: Sequence[Item], side: Side, known: Mapping[str, int]) -> list[Item]:
    """Return the items with the side in the title where both sides have a representation of that title."""
    return [replace(i, title=f"{side}: {i.title}") if known[i.title] > 1 else i for i in items]


def _items(source: Source, side: Side, defer: bool | None) -> Iterator[Item]:
    if isinstance(source, str | Path):
        yield from _entries(source, open_source(source), defer)
    elif isinstance(source, Representation):
        yield Item(source, source.name)
    elif isinstance(source, Mapping):
        yield from (_entry(source, name, str(name), defer) for name in source)
    elif isinstance(source, list | tuple) and all(isinstance(entry, str | Path) for entry in source):
        yield from _from_paths(source, defer)
    elif isinstance(source, list | tuple) and all(isinstance(entry, Representation) for entry in source):
        yield from (Item(entry, entry.name) for entry in source)
    elif isinstance(source, list | tuple):
        message = (
            f"{side} is a list that holds {type(source[0]).__name__}; a list must hold Representations or paths. Give "
            "arrays as a dict from name to array."
        )
        raise InputError(message)
    else:
        yield _named(side, source)


def _named(name: str, value: Any) -> Item:
    """Return an array or a Representation under `name`."""
    if isinstance(value, Representation):
        return Item(value if value.name == name else replace(value, name=name), name)
    return Item(Representation(value, name), name)


def _from_paths(paths: Sequence[str | Path], defer: bool | None) -> Iterator[Item]:
    """Yield the entries of several sources; layers of stores are ``store/layer`` if there is more than one source."""
    for path in paths:
        source = open_source(path)
        stores = len(paths) > 1 and isinstance(source, Activations)
        yield from _entries(path, source, defer, f"{Path(path).stem}/" if stores else "")


def _entries(
    path: str | Path, source: Mapping[str, Representation], defer: bool | None, prefix: str = ""
) -> Iterator[Item]:
    for name in source:
        title = str(path) if Path(path).suffix == ".npy" else f"{name} in {path}"
        yield replace(_entry(source, name, prefix + name, defer), title=title)


def _entry(source: Mapping[Any, Any], key: Any, name: str, defer: bool | None) -> Item:
    """Return one entry under `name`; a matrix in a store stays there if it should and can."""
    if isinstance(source, Activations) and (_is_large(source) if defer is None else defer):
        found = source.deferred(key)
        if found is not None:
            return Item(replace(found, name=name), name)
    return _named(name, source[key])


def _is_large(store: Activations) -> bool:
    sizes = (math.prod(store.shape(name)) * store.dtype(name).itemsize for name in store)
    return sum(sizes) > DEFER_BYTES


# ---- alignment and steps ---------------------------------------------------------------------------------------------


def aligned(items: Sequence[Item], *, align: bool) -> list[Item]:
    """Return the items with the same stimuli in the same order.

    Raises
    ------
    AlignmentError
        If ids differ and `align` is not set, or if it is and some representation has no ids.
    ShapeError
        If there are no ids and the numbers of stimuli differ.
    """
    if align:
        items = _restricted(items)
    first = items[0]
    for other in items[1:]:
        require_aligned(_titled(first), _titled(other))
    return list(items)


def _restricted(items: Sequence[Item]) -> Sequence[Item]:
    """Return the items restricted to the common ids, in the order of the first."""
    without = [i for i in items if i.representation.ids is None]
    if len(without) == len(items):
        return items  # positions: alike, or an error for whoever checks
    if without:
        message = f"{without[0].title} has no stimulus ids, so it cannot be aligned with {_other(items, without[0])}. Give it ids."
        raise AlignmentError(message)
    common = common_ids([_titled(i) for i in items])
    return [item.apply(lambda r: restrict(r, common)) for item in items]


def _other(items: Sequence[Item], item: Item) -> str:
    return next(i.title for i in items if i is not item and i.representation.ids is not None)


def _titled(item: Item) -> Representation | Deferred:
    """Return the representation under its title, for messages."""
    same = item.representation.name == item.title
    return item.representation if same else replace(item.representation, name=item.title)


def matrices(items: Iterable[Item], steps: StepSpec) -> list[Item]:
    """Return the items as (n, p) values, after `steps` or those that their shape calls for."""
    return [item.apply(lambda r: r.matrix(steps)) for item in items]


# ---- checks ----------------------------------------------------------------------------------------------------------


def admitted(
    items: Iterable[Item], measures: Sequence[Measure[Any]], dtype: str | None, *, on_error: str = "raise"
) -> list[Item]:
    """Return the items, checked against what the measures need; integers and half precision are converted.

    Raises
    ------
    InputError
        If a representation holds NaN or infinity, is constant, or has too few stimuli or features for a measure; with
        ``on_error="record"`` it is left as it is, to fail in each of its pairs.
    """
    return [_admitted(item, measures, dtype, on_error) for item in items]


def _admitted(item: Item, measures: Sequence[Measure[Any]], dtype: str | None, on_error: str) -> Item:
    try:
        return item.apply(lambda r: _admit(r, item.title, measures, dtype))
    except InputError:
        if on_error == "raise":
            raise
        return item


def _admit(r: Representation, title: str, measures: Sequence[Measure[Any]], dtype: str | None) -> Representation:
    for measure in measures:
        needs = measure.info.needs
        if r.values.ndim == 2 and r.n < needs.n:
            message = f"{title} has {r.n} stimul{'us' if r.n == 1 else 'i'}; {measure.label} needs at least {needs.n}."
            raise ShapeError(message)
        if r.values.ndim == 2 and 0 < r.p < needs.p:
            message = f"{title} has {r.p} feature; {measure.label} needs at least {needs.p}."
            raise ShapeError(message)
    values = validate.features(r.values, title, dtype)
    if any(m.info.needs.nonzero_rows for m in measures):
        linalg.unit_rows(values)
    if any(m.info.needs.varying_rows for m in measures):
        linalg.unit_rows(linalg.varying_rows(values))
    return r if _is_precise(r) else replace(r, values=values)


def _is_precise(r: Representation) -> bool:
    """Whether the values have at least single precision; measures convert them one by one, which keeps memory low."""
    return str(r.values.dtype).removeprefix("torch.") in {"float32", "float64"}


def noticed(work: Callable[[], list[Item]]) -> tuple[list[Item], list[Caveat]]:
    """Return the result of `work` and what it warned of; other warnings pass."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CongruenceWarning)
        result = work()
    notes: list[Caveat] = []
    for entry in caught:
        if isinstance(entry.message, CongruenceWarning):
            notes.append(entry.message.caveat)
        else:
            warnings.warn_explicit(entry.message, entry.category, entry.filename, entry.lineno, source=entry.source)
    return result, notes


def fingerprint(r: Representation | Deferred) -> str:
    """Return a hash of the values with their type and shape, and of the stimulus ids.

    What is still on disk is known by the hash that its store keeps.
    """
    if isinstance(r, Deferred):
        ids = "" if r.ids is None else "\n".join(r.ids)
        return hashlib.sha256(f"{r.origin.fingerprint} {r.dtype} {r.shape};{ids}".encode()).hexdigest()
    rows = RowHash()  # a checksum a stimulus: hashing every byte would take longer than many comparisons
    values = np.ascontiguousarray(linalg.to_numpy(r.values))
    rows.update(values)
    found = hashlib.sha256(f"{values.dtype.str} {values.shape} {rows.hexdigest()};".encode())
    found.update("\n".join(map(str, r.stimulus_ids)).encode())
    return found.hexdigest()
