"""The cells of a streamed comparison: which pairs need sums, and what the sums give."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from congruence.engine.handling import describe
from congruence.engine.job import Cell, Job, OnError, Row, Wanted, rows_of
from congruence.engine.stream.moments import Pair
from congruence.engine.stream.scan import Residual, Scanner
from congruence.engine.stream.sums import Sums, gather
from congruence.engine.stream.values import DistanceForm, Factor, Form, form_of
from congruence.errors import CongruenceError
from congruence.measures import Finding, Measure


class Place(NamedTuple):
    """A cell to compute: the label of its measure, its row and column, and the number of its second representation."""

    measure: str
    row: int
    column: int
    second: int

    @property
    def pair(self) -> Pair:
        """The two representations, the smaller number first."""
        return min(self.row, self.second), max(self.row, self.second)


class _Near(NamedTuple):
    """A pair whose distance needs a residual: its form, its states and the residual."""

    form: DistanceForm[Any]
    a: Factor
    b: Factor
    residual: Residual


States = dict[tuple[str, int], Any]
"""What was prepared, by measure and number of the representation."""


class Work:
    """What is to be computed from sums, a group of pairs at a time.

    Parameters
    ----------
    job : Job
        Representations, measures and pairs.
    scanner : Scanner
        What reads them.
    wanted : mapping of str to ndarray of bool, shape (len(job.a), len(job.b))
        Which cells to compute, by the label of the measure.
    on_error : {"raise", "record"}
        See `stream_comparison`.
    """

    def __init__(self, job: Job, scanner: Scanner, wanted: Mapping[str, Wanted], on_error: OnError) -> None:
        self._job, self._scanner, self._on_error = job, scanner, on_error
        self._forms: dict[str, Form[Any]] = {}
        self._reasons: dict[tuple[str, int], str] = {}
        self._cells: dict[Place, Cell] = {}
        everyone = range(len(scanner.streams))
        measures = [measure for measure in job.measures if measure.label in wanted]
        for measure in measures:
            form = self._attempt(measure.label, everyone, partial(form_of, measure, job.n))
            if form is not None:
                self._forms[measure.label] = form
                self._check_sizes(measure)
        self._places: dict[Pair, list[Place]] = {}
        for label, cells in wanted.items():
            for i, j in np.argwhere(cells).tolist():
                place = Place(label, i, j, job.b_index(j))
                self._places.setdefault(place.pair, []).append(place)

    def _check_sizes(self, measure: Measure[Any]) -> None:
        """Refuse representations that are too small for a measure, as in memory."""
        needs = measure.info.needs
        for i, r in enumerate(self._job.representations):
            if needs.shortage(measure.label, r.n, r.p):
                # any values of this shape that are not constant, which would be refused first
                stand_in = np.broadcast_to(np.arange(r.n, dtype=np.float64)[:, None], (r.n, r.p))
                self._attempt(measure.label, [i], partial(measure.admit, stand_in, self._job.titles[i]))

    def _attempt(self, label: str, indices: Collection[int], work: Callable[[], Any], about: str = "") -> Any:
        """Return what `work` gives; its error is raised, or becomes the reason of the representations concerned."""
        try:
            return work()
        except CongruenceError as error:
            if self._on_error == "raise":
                raise error.about(about) if about else error from None
            self._reasons.update(dict.fromkeys(((label, i) for i in indices), describe(error)))
            return None

    def _reason(self, label: str, *indices: int) -> str:
        """Return why a pair cannot be computed; empty if nothing is known against it."""
        known = (self._scanner.failures.get(i) or self._reasons.get((label, i)) for i in indices)
        return "; ".join(dict.fromkeys(reason for reason in known if reason))

    # ---- what is wanted ----------------------------------------------------------------------------------------------

    def pairs(self) -> list[Pair]:
        """Return the pairs of representations that need sums."""
        return [
            pair
            for pair, places in self._places.items()
            if not all(self._reason(p.measure, p.row, p.second) for p in places)
        ]

    def size(self, group: Iterable[Pair]) -> int:
        """Return how many cells some pairs have."""
        return sum(len(self._places[pair]) for pair in group)

    def refused(self) -> list[Row]:
        """Return the rows of the pairs that need no sums, since it is known why they fail."""
        needed = set(self.pairs())
        return self._rows(pair for pair in self._places if pair not in needed)

    # ---- computing ---------------------------------------------------------------------------------------------------

    def compute(self, group: Sequence[Pair]) -> list[Row]:
        """Return all cells of some pairs, row by row."""
        start = time.perf_counter()
        places = [p for pair in group for p in self._places[pair] if not self._reason(p.measure, p.row, p.second)]
        forms: dict[int, list[Form[Any]]] = {i: [] for pair in group for i in pair}
        for label, i in dict.fromkeys((p.measure, i) for p in places for i in p.pair):
            forms[i].append(self._forms[label])
        sums = gather(self._scanner, group, forms)
        states = self._prepared(places, sums)
        for place in places:
            self._cells[place] = self._cell(place, states, sums)
        self._refine(self._near(places, states, sums))
        seconds = (time.perf_counter() - start) / max(len(places), 1)
        for place in places:
            self._cells[place] = self._cells[place]._replace(seconds=seconds)
        return self._rows(group)

    def _prepared(self, places: Sequence[Place], sums: Sums) -> States:
        """Return the states of all representations that did not fail, by measure and number."""
        states: States = {}
        for label, i in dict.fromkeys((p.measure, i) for p in places for i in p.pair):
            if not self._reason(label, i):
                form, side = self._forms[label], sums.side(i)
                states[label, i] = self._attempt(label, [i], partial(form.prepare, side), self._job.titles[i])
        return states

    def _cell(self, place: Place, states: States, sums: Sums) -> Cell:
        """Return one cell."""
        reason = self._reason(place.measure, place.row, place.second)
        if reason:
            return Cell(status="failed", reason=reason)
        a, b = states[place.measure, place.row], states[place.measure, place.second]
        try:
            return _done(self._forms[place.measure].examine(a, b, sums.cross(place.row, place.second)))
        except Exception as error:
            if self._on_error == "record":
                return Cell(status="failed", reason=describe(error))
            if isinstance(error, CongruenceError):
                pair = f"{place.measure} of {self._job.titles[place.row]} and {self._job.titles[place.second]}"
                raise error.about(pair) from None
            raise

    def _near(self, places: Sequence[Place], states: States, sums: Sums) -> dict[Place, _Near]:
        """Return the pairs so nearly equal that their distance needs a residual."""
        found: dict[Place, _Near] = {}
        for place in places:
            form = self._forms[place.measure]
            if isinstance(form, DistanceForm) and self._cells[place].status == "ok":
                a, b = states[place.measure, place.row], states[place.measure, place.second]
                cross = sums.cross(place.row, place.second)
                alignment = form.alignment(a, b, cross)
                if alignment is not None:
                    found[place] = _Near(form, a, b, Residual(cross.first, cross.second, alignment))
        return found

    def _refine(self, near: dict[Place, _Near]) -> None:
        """Replace the cells of nearly equal pairs, after one more pass for all of them."""
        if not near:
            return
        residuals: dict[Pair, list[Residual]] = {}
        for place, found in near.items():
            residuals.setdefault(place.pair, []).append(found.residual)
        self._scanner.residuals(residuals)
        for place, found in near.items():
            reason = self._reason(place.measure, place.row, place.second)
            value = found.form.from_chord(found.a, found.b, found.residual.norm)
            self._cells[place] = Cell(status="failed", reason=reason) if reason else _done(value)

    def _rows(self, group: Iterable[Pair]) -> list[Row]:
        """Return the cells of some pairs, which are forgotten; those never computed carry the reason."""
        found: dict[str, dict[tuple[int, int], Cell]] = {}
        for place in (place for pair in group for place in self._places[pair]):
            cell = self._cells.pop(place, None)
            if cell is None:
                cell = Cell(status="failed", reason=self._reason(place.measure, place.row, place.second))
            found.setdefault(place.measure, {})[place.row, place.column] = cell
        return [row for m in self._job.measures for row in rows_of(self._job, m, found.get(m.label, {}))]


def _done(finding: Finding) -> Cell:
    return Cell(finding.value, "ok", "", finding.caveats)
