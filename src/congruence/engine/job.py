"""What is to be computed: which representations, measures and pairs, and the cells of the result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from congruence import validate
from congruence.errors import AlignmentError, Caveat, InputError, ParameterError, UnknownNameError
from congruence.measures import Measure
from congruence.representation import Deferred, Source, require_aligned

Pairs = str | Sequence[tuple[str, str]]
"""``"all"``, ``"matched"`` (equal names) or a list of (a, b) names."""
OnError = Literal["raise", "record"]
Wanted = np.ndarray[Any, np.dtype[np.bool_]]
"""Which cells are to be computed."""

LARGE_BYTES, BOUNDED_BYTES = 1_000_000_000, 250_000_000
"""How much is read from files and held; the second where a budget was given, which does not count it."""


def is_large(size: int, *, bounded: bool = False) -> bool:
    """Return whether matrices in files, of this size together, stay there and are read each time they are needed."""
    return size > (min(LARGE_BYTES, BOUNDED_BYTES) if bounded else LARGE_BYTES)


class Cell(NamedTuple):
    """One number of the result: the value for a pair and a measure, or why there is none."""

    value: float = float("nan")
    status: Literal["ok", "failed"] = "ok"
    reason: str = ""
    caveats: tuple[Caveat, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class Row:
    """Computed cells of one measure and one representation of the first side, by column name."""

    measure: str
    a: str
    cells: dict[str, Cell]


@dataclass(frozen=True)
class Progress:
    """How far a comparison has come; handed to the progress callback whenever there is news.

    Parameters
    ----------
    done, total : int
        Pairs that are finished, and all of them.
    measure : str
        What was computed last.
    seconds : float
        Since the beginning.
    part : float
        How many pairs' worth of work is done of those that are computed together and not finished.
    detail : str
        What is being done to those, such as ``"summing: 400,000 of 1,000,000 stimuli"``.
    """

    done: int
    total: int
    measure: str
    seconds: float
    part: float = 0.0
    detail: str = ""


@dataclass(frozen=True)
class Shape:
    """What the planner knows of a comparison.

    Parameters
    ----------
    n : int
        Stimuli.
    widths_a, widths_b : tuple of int
        Features of every representation; `widths_b` is None within one side.
    row_bytes : tuple of int
        Memory of one stimulus of every representation while it is read; empty if they cannot be read in ranges of
        stimuli.
    large : bool
        Whether the representations are left on disk because they are too large to be held.
    asked : tuple of int, optional
        How many values are computed of a symmetric measure and of another; None computes all.
    """

    n: int
    widths_a: tuple[int, ...]
    widths_b: tuple[int, ...] | None = None
    row_bytes: tuple[int, ...] = ()
    large: bool = False
    asked: tuple[int, int] | None = None

    @classmethod
    def of(cls, a: Sequence[Source], b: Sequence[Source] | None) -> Shape:
        """Return the shape of a comparison of these, or within `a`."""
        everything = (*a, *(b or ()))
        sizes = [_row_bytes(source) for source in everything]
        row_bytes = tuple(size for size in sizes if size is not None)
        if len(row_bytes) < len(sizes):
            row_bytes = ()
        on_disk = bool(row_bytes) and all(isinstance(source, Deferred) for source in everything)
        held = sum(source.n * source.p * np.dtype(source.dtype).itemsize for source in everything) if on_disk else 0
        widths_b = None if b is None else tuple(r.p for r in b)
        return cls(a[0].n, tuple(r.p for r in a), widths_b, row_bytes, is_large(held))

    @property
    def widths(self) -> tuple[int, ...]:
        """Features of all representations."""
        return (*self.widths_a, *(self.widths_b or ()))

    @property
    def count(self) -> int:
        """How many representations there are."""
        return len(self.widths)

    @property
    def widest(self) -> int:
        """The greatest number of features, which bounds every cost."""
        return max(self.widths)

    def pairs(self, *, symmetric: bool) -> int:
        """Return how many pairs are computed."""
        if self.asked is not None:
            return self.asked[0 if symmetric else 1]
        if self.widths_b is not None:
            return len(self.widths_a) * len(self.widths_b)
        r = len(self.widths_a)
        return r * (r + 1) // 2 if symmetric else r * r


@dataclass(frozen=True)
class Job:
    """Representations and measures, with the pairs that are wanted.

    Parameters
    ----------
    a, b : sequence of Representation or Deferred
        The two sides, as (n, p) values with common stimuli. `within` says that b is a.
    measures : sequence of Measure
        Distinct measures.
    wanted : ndarray of bool, shape (len(a), len(b))
        Which pairs to compute.
    within : bool
        Whether `a` is compared with itself; symmetric measures are then computed once a pair.
    titles : tuple of str
        What messages call each of `representations`: its name, with its model where the name alone is ambiguous.
    """

    a: tuple[Source, ...]
    b: tuple[Source, ...]
    measures: tuple[Measure[Any], ...]
    wanted: np.ndarray[Any, np.dtype[np.bool_]]
    within: bool
    titles: tuple[str, ...]

    @classmethod
    def build(
        cls,
        a: Sequence[Source],
        b: Sequence[Source] | None,
        measures: Sequence[Measure[Any]],
        pairs: Pairs = "all",
    ) -> Job:
        """Return a checked job: unique names and labels, aligned stimuli, known pairs."""
        first, second = tuple(a), tuple(a if b is None else b)
        for side, letter in ((first, "the first side"), (second, "the second side")):
            _require_unique([r.name for r in side], f"names on {letter}")
        _require_unique([m.label for m in measures], "measures")
        if not first or not second or not measures:
            message = "There is nothing to compare: give at least one representation on each side and one measure."
            raise ParameterError(message)
        _require_aligned([*first, *(second if b is not None else ())])
        wanted = wanted_pairs([r.name for r in first], [r.name for r in second], pairs)
        return cls(first, second, tuple(measures), wanted, b is None, _titles(first, () if b is None else second))

    @property
    def n(self) -> int:
        """Number of stimuli."""
        return self.a[0].n

    @property
    def representations(self) -> tuple[Source, ...]:
        """Every representation once: side a, then side b."""
        return self.a if self.within else (*self.a, *self.b)

    @property
    def shape(self) -> Shape:
        """What the planner needs to know."""
        shape = Shape.of(self.a, None if self.within else self.b)
        if self.wanted.all():
            return shape
        return replace(shape, asked=(int(self._wanted_once().sum()), int(self.wanted.sum())))

    def b_index(self, j: int) -> int:
        """Return the index of b[j] among `representations`."""
        return j if self.within else len(self.a) + j

    def part(self, rows: Sequence[int], columns: Sequence[int]) -> Job:
        """Return the job of some rows and columns."""
        same = self.within and list(rows) == list(columns)
        places = [*rows, *(() if same else map(self.b_index, columns))]
        return Job(
            tuple(self.a[i] for i in rows),
            tuple(self.b[j] for j in columns),
            self.measures,
            self.wanted[np.ix_(rows, columns)],
            same,
            tuple(self.titles[k] for k in places),
        )

    def to_compute(self, measure: Measure[Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Return which cells must be computed: those wanted, and of a symmetric measure within one side one half."""
        return self._wanted_once() if measure.info.symmetric else self.wanted

    def _wanted_once(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Return which cells are wanted, of both orders of a pair within one side only one."""
        if not self.within:
            return self.wanted
        return np.asarray(np.triu(self.wanted | self.wanted.T), dtype=np.bool_)


def _row_bytes(source: Source) -> int | None:
    """Return the memory of one stimulus while it is read; None if it cannot be read without the others."""
    if isinstance(source, Deferred):
        return None if source.rows is None else source.rows.row_bytes
    values = source.values
    return source.p * values.itemsize if isinstance(values, np.ndarray) and values.ndim == 2 else None


def _require_unique(names: Sequence[str], what: str) -> None:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        message = f"The {what} must be unique; '{repeated[0]}' occurs {Counter(names)[repeated[0]]} times."
        raise ParameterError(message)


def _titles(a: Sequence[Source], b: Sequence[Source]) -> tuple[str, ...]:
    counts = Counter(source.name for source in (*a, *b))
    sides = [("A", source) for source in a] + [("B", source) for source in b]
    return tuple(s.name if counts[s.name] == 1 else f"{s.origin.model or side}: {s.name}" for side, s in sides)


def _require_aligned(representations: Sequence[Source]) -> None:
    first = representations[0]
    for other in representations[1:]:
        require_aligned(first, other)
        if isinstance(first, Deferred) or isinstance(other, Deferred):
            continue  # what is read from disk is NumPy's
        try:
            validate.require_same_namespace(first.values, other.values)
        except InputError as error:
            message = str(error).replace("X and Y", f"{first.name} and {other.name}")
            raise AlignmentError(message) from error


def wanted_pairs(a: list[str], b: list[str], pairs: Pairs) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which cells are asked for."""
    require_pairs(pairs)
    if pairs == "all":
        return np.ones((len(a), len(b)), dtype=bool)
    if isinstance(pairs, str):  # matched
        wanted = np.asarray(np.array(a)[:, None] == np.array(b)[None, :], dtype=np.bool_)
        if not wanted.any():
            message = f"pairs='matched' found no common name: {a[0]}, ... and {b[0]}, ...; use pairs='all'."
            raise ParameterError(message)
        return wanted
    return _listed(a, b, pairs)


def require_pairs(pairs: Any) -> None:
    """Raise a ParameterError unless `pairs` can say which pairs are wanted, whatever the names."""
    if not isinstance(pairs, Sequence) or (isinstance(pairs, str) and pairs not in {"all", "matched"}):
        message = f"pairs must be 'all', 'matched' or a list of (a, b) names; got {pairs!r}."
        raise ParameterError(message)
    if isinstance(pairs, str):
        return
    if not pairs:
        message = "pairs is an empty list, so there is nothing to compare; name some pairs, or use pairs='all'."
        raise ParameterError(message)
    for pair in pairs:
        if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
            message = f"pairs must be 'all', 'matched' or a list of (a, b) names; {pair!r} is no pair of names."
            raise ParameterError(message)


def _listed(a: list[str], b: list[str], pairs: Sequence[tuple[str, str]]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return the cells of a list of pairs of names."""
    wanted = np.zeros((len(a), len(b)), dtype=bool)
    for name_a, name_b in pairs:
        for name, known in ((name_a, a), (name_b, b)):
            if name not in known:
                message = f"pairs: there is no representation '{name}'. {validate.closest(name, known)}"
                raise UnknownNameError(message)
        wanted[a.index(name_a), b.index(name_b)] = True
    return wanted


def failed_cells(wanted: Wanted, reasons_a: Sequence[str], reasons_b: Sequence[str]) -> dict[tuple[int, int], Cell]:
    """Return the wanted cells of representations that failed, by index; a reason is empty where nothing did."""
    cells: dict[tuple[int, int], Cell] = {}
    if not any(reasons_a) and not any(reasons_b):
        return cells
    for i, j in np.argwhere(wanted).tolist():
        reasons = dict.fromkeys(filter(None, (reasons_a[i], reasons_b[j])))
        if reasons:
            cells[i, j] = Cell(status="failed", reason="; ".join(reasons))
    return cells


def rows_of(job: Job, measure: Measure[Any], cells: dict[tuple[int, int], Cell]) -> list[Row]:
    """Return cells by index as rows by name."""
    found: dict[int, dict[str, Cell]] = {}
    for (i, j), cell in cells.items():
        found.setdefault(i, {})[job.b[j].name] = cell
    return [Row(measure.label, job.a[i].name, found[i]) for i in sorted(found)]
