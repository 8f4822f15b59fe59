"""From what a user hands over to representations that can be compared: read, named, aligned, as checked matrices."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from congruence import linalg, validate
from congruence.engine.job import is_large
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
from congruence.measures.parallel import parallel
from congruence.representation import Deferred, Ids, Representation, common_ids, require_aligned, restrict
from congruence.steps import StepSpec
from congruence.store import Activations, ArrayFiles, defer_layer, open_source
from congruence.store.chunks import RowHash, content_hash

Source = Any
"""dict name -> array, list of Representation, Activations, a path or a list of paths, one array or Representation."""
Side = Literal["a", "b"]
Defer = Literal["nothing", "layers", "everything"]
"""What stays on disk: of stores the layers that are matrices, or everything that can be read in parts."""


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


def read_sides(
    a: Source, b: Source | None, *, whole: bool = False, elsewhere: bool = False, bounded: bool = False
) -> tuple[list[Item], list[Item] | None]:
    """Return the representations of both sides, with their names in the result.

    Parameters
    ----------
    whole : bool
        Whether everything is read now. Otherwise what can be read in parts stays on disk if it is large.
    elsewhere : bool
        Whether layers of stores stay on disk in any case, since other processes read them.
    bounded : bool
        Whether memory is bounded, so that less is large.

    Raises
    ------
    InputError
        If something cannot be read, or holds nothing that can be compared.
    ParameterError
        If two representations on one side have the same name.
    """
    a, b = _opened(a), None if b is None else _opened(b)
    large = is_large(_stored_bytes(a) + _stored_bytes(b), bounded=bounded)
    defer: Defer = "nothing" if whole else "everything" if large else "layers" if elsewhere else "nothing"
    first = _read_side(a, "a", defer)
    if b is None:
        return first, None
    second = _read_side(b, "b", defer)
    known = Counter(item.title for item in (*first, *second))
    return _distinguished(first, "a", known), _distinguished(second, "b", known)


class _File(NamedTuple):
    """A path and what is there."""

    path: str | Path
    source: Activations | ArrayFiles


def _opened(source: Source) -> Source:
    """Return a path, or a list of paths, as a list of open files; anything else as it is."""
    if isinstance(source, str | Path):
        source = [source]
    if isinstance(source, list | tuple) and all(isinstance(entry, str | Path) for entry in source):
        return [_File(path, open_source(path)) for path in source]
    return source


def _stored_bytes(source: Source) -> int:
    """Return the size of the arrays that a side has on disk."""
    if isinstance(source, list) and all(isinstance(entry, _File) for entry in source):
        return sum(_stored_bytes(file.source) for file in source)
    if not isinstance(source, Activations | ArrayFiles):
        return 0
    return sum(math.prod(source.shape(name)) * source.dtype(name).itemsize for name in source)


def _read_side(source: Source, side: Side, defer: Defer) -> list[Item]:
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


def _items(source: Source, side: Side, defer: Defer) -> Iterator[Item]:
    if isinstance(source, Representation):
        yield Item(source, source.name)
    elif isinstance(source, Mapping):
        yield from (_entry(source, name, str(name), defer) for name in source)
    elif isinstance(source, list) and all(isinstance(entry, _File) for entry in source):
        yield from _from_files(source, defer)
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


def _from_files(files: Sequence[_File], defer: Defer) -> Iterator[Item]:
    """Yield the entries of several sources; layers of stores are ``store/layer`` if there is more than one source."""
    for path, source in files:
        prefix = f"{Path(path).stem}/" if len(files) > 1 and isinstance(source, Activations) else ""
        for name in source:
            title = str(path) if Path(path).suffix == ".npy" else f"{name} in {path}"
            yield replace(_entry(source, name, prefix + name, defer), title=title)


def _entry(source: Mapping[Any, Any], key: Any, name: str, defer: Defer) -> Item:
    """Return one entry under `name`; what should stay on disk stays there if it can."""
    found = None
    if isinstance(source, Activations):
        axes = len(source.shape(key))
        if (defer == "everything" and axes > 1) or (defer == "layers" and axes == 2):
            found = defer_layer(source, key)
    elif isinstance(source, ArrayFiles) and defer == "everything":
        found = source.deferred(key)
    return _named(name, source[key]) if found is None else Item(replace(found, name=name), name)


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
    return [_restricted_item(item, common) for item in items]


def _restricted_item(item: Item, ids: Ids) -> Item:
    """Return an item with exactly these stimuli; one on disk is read only if it has others."""
    r = item.representation
    if isinstance(r, Deferred) and not np.array_equal(r.stimulus_ids, ids):
        item = replace(item, representation=r.load())
    return item.apply(lambda r: restrict(r, ids))


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
    listed = list(items)
    quiet = all(isinstance(i.representation, Deferred) or _is_precise(i.representation) for i in listed)
    # what is converted warns, and warnings come in the order of the items only from one thread
    return parallel(lambda item: _admitted(item, measures, dtype, on_error), listed, threaded=quiet)


def _admitted(item: Item, measures: Sequence[Measure[Any]], dtype: str | None, on_error: str) -> Item:
    try:
        _require_sizes(item, measures)
        return item.apply(lambda r: _admit(r, item.title, measures, dtype))
    except InputError:
        if on_error == "raise":
            raise
        return item


def _require_sizes(item: Item, measures: Sequence[Measure[Any]]) -> None:
    """Raise a ShapeError for a matrix that is too small for a measure."""
    r, title = item.representation, item.title
    if isinstance(r, Representation) and r.values.ndim != 2:
        return  # refused as such below
    for measure in measures:
        needs = measure.info.needs
        shortage = needs.shortage(measure.label, r.n, r.p or needs.p)  # without features it is refused as empty
        if shortage:
            message = f"{title} {shortage}"
            raise ShapeError(message)
        if needs.ids and r.ids is None:
            message = f"{title} has no stimulus ids; {measure.label} needs them. Give it ids."
            raise AlignmentError(message)


def _admit(r: Representation, title: str, measures: Sequence[Measure[Any]], dtype: str | None) -> Representation:
    values = validate.features(r.values, title, dtype)
    if any(m.info.needs.nonzero_rows for m in measures):
        linalg.require_directions(values)
    if any(m.info.needs.varying_rows for m in measures):
        linalg.require_directions(linalg.varying_rows(values))
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
    """Return a hash of the values with their type and shape, and of the stimulus ids: the same in memory and on disk.

    What is still on disk is known by the hash that its store keeps.
    """
    if isinstance(r, Deferred):
        content, dtype, shape = r.origin.fingerprint, r.dtype, r.shape
    else:
        values = np.ascontiguousarray(linalg.to_numpy(r.values))
        rows = RowHash()  # a checksum a stimulus: hashing every byte would take longer than many comparisons
        rows.update(values)
        dtype, shape = values.dtype.name, values.shape
        content = content_hash(dtype, shape, rows, None)
    ids = "" if r.ids is None else "\n".join(map(str, r.ids))
    return hashlib.sha256(f"{content} {dtype} {shape};{ids}".encode()).hexdigest()
