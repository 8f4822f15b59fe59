"""A tile: the comparisons of some representations with some others, by the measure's block kernel or pair by pair."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from congruence.engine.job import Cell, Job, OnError, Row
from congruence.errors import CongruenceError
from congruence.measures import Finding, Measure
from congruence.measures.parallel import parallel
from congruence.representation import Source

Wanted = np.ndarray[Any, np.dtype[np.bool_]]


class States:
    """Prepared states of one measure, kept from tile to tile; a failure is remembered with its message.

    Parameters
    ----------
    measure : Measure
        What prepares them.
    dtype : str, optional
        Precision; see `Measure.__call__`.
    on_error : {"raise", "record"}
        Whether a failure is raised or remembered.
    """

    def __init__(self, measure: Measure[Any], dtype: str | None, on_error: OnError) -> None:
        self._measure, self._dtype, self._on_error = measure, dtype, on_error
        self._known: dict[int, Any] = {}
        self._failures: dict[int, str] = {}

    def load(self, sources: Sequence[Source], titles: Sequence[str]) -> None:
        """Prepare the given representations, over the cores, and forget all others."""
        asked = {id(source): (source, title) for source, title in zip(sources, titles, strict=True)}
        self._known = {key: state for key, state in self._known.items() if key in asked}
        missing = [key for key in asked if key not in self._known and key not in self._failures]
        prepared = parallel(lambda key: self._attempt(key, *asked[key]), missing)
        self._known.update((key, state) for key, state in zip(missing, prepared, strict=True) if state is not None)

    def __getitem__(self, source: Source) -> Any:
        return self._known[id(source)]

    def failure(self, source: Source) -> str:
        """Return why preparing a representation failed, or nothing."""
        return self._failures.get(id(source), "")

    def _attempt(self, key: int, source: Source, title: str) -> Any:
        try:
            return prepare(self._measure, source, title, self._dtype)
        except Exception as error:
            if self._on_error == "raise":
                raise
            self._failures[key] = describe(error)
            return None


def prepare(measure: Measure[Any], source: Source, title: str, dtype: str | None) -> Any:
    """Return the state of a representation; errors say which one they concern."""
    try:
        return measure.prepare(measure.admit(source.load().values, title, dtype))
    except CongruenceError as error:
        raise error.about(title) from None


def describe(error: Exception) -> str:
    """Return the reason that a failed cell carries."""
    return str(error) if isinstance(error, CongruenceError) else f"{type(error).__name__}: {error}"


@dataclass(frozen=True, eq=False)
class Tile:
    """A part of a job for one measure; it can be sent to another process.

    Parameters
    ----------
    job : Job
        The representations of the tile, as a job of their own.
    measure : Measure
        What to compute.
    wanted : ndarray of bool, shape (len(job.a), len(job.b))
        Which cells.
    dtype : str, optional
        Precision; see `Measure.__call__`.
    on_error : {"raise", "record"}
        Whether the first failure is raised, or failed cells say why.
    """

    job: Job
    measure: Measure[Any]
    wanted: Wanted
    dtype: str | None
    on_error: OnError

    @property
    def size(self) -> int:
        """Number of cells."""
        return int(self.wanted.sum())

    def compute(self, states: States | None = None) -> list[Row]:
        """Return the wanted cells, row by row.

        Parameters
        ----------
        states : States, optional
            States to reuse and to leave behind for the next tile.
        """
        states = states or States(self.measure, self.dtype, self.on_error)
        states.load(self.job.representations, self.job.titles)
        bad_a, bad_b = ([states.failure(source) for source in side] for side in (self.job.a, self.job.b))
        cells: dict[tuple[int, int], Cell] = {}
        for i, j in np.argwhere(self.wanted):
            reasons = dict.fromkeys(filter(None, (bad_a[i], bad_b[j])))
            if reasons:
                cells[int(i), int(j)] = Cell(status="failed", reason="; ".join(reasons))
        todo = [(i, j) for i, j in np.argwhere(self.wanted).tolist() if (i, j) not in cells]
        if todo:
            rows = [i for i, reason in enumerate(bad_a) if not reason]
            columns = [j for j, reason in enumerate(bad_b) if not reason]
            found = self._by_block(states, rows, columns, todo)
            cells.update(zip(todo, found or parallel(lambda at: self._single(states, *at), todo), strict=True))
        return rows_of(self.job, self.measure, cells)

    def _by_block(
        self, states: States, rows: Sequence[int], columns: Sequence[int], todo: Sequence[tuple[int, int]]
    ) -> list[Cell] | None:
        """Return the cells from the block kernel; None where few cells of the tile are wanted or the kernel fails."""
        first, second = [states[self.job.a[i]] for i in rows], [states[self.job.b[j]] for j in columns]
        if len(todo) < len(rows) * len(columns) // (4 if self.job.within else 2):
            return None
        start = time.perf_counter()
        try:
            block = self.measure.examine_block(first, first if self.job.within else second)
        except Exception:  # whatever it is, the pair loop meets it again and can say for which pair
            return None
        seconds = (time.perf_counter() - start) / len(todo)
        row_of, column_of = ({k: place for place, k in enumerate(side)} for side in (rows, columns))
        places = [(row_of[i], column_of[j]) for i, j in todo]
        return [Cell(float(block.values[at]), "ok", "", block.caveats.get(at, ()), seconds) for at in places]

    def _single(self, states: States, i: int, j: int) -> Cell:
        """Return one cell, or why there is none."""
        start = time.perf_counter()
        try:
            found: Finding = self.measure.examine(states[self.job.a[i]], states[self.job.b[j]])
        except Exception as error:
            if self.on_error == "raise":
                if isinstance(error, CongruenceError):
                    titles = self.job.titles
                    pair = f"{self.measure.label} of {titles[i]} and {titles[self.job.b_index(j)]}"
                    raise error.about(pair) from None
                raise
            return Cell(status="failed", reason=describe(error), seconds=time.perf_counter() - start)
        return Cell(found.value, "ok", "", found.caveats, time.perf_counter() - start)


def rows_of(job: Job, measure: Measure[Any], cells: dict[tuple[int, int], Cell]) -> list[Row]:
    """Return cells by index as rows by name."""
    found: dict[int, dict[str, Cell]] = {}
    for (i, j), cell in cells.items():
        found.setdefault(i, {})[job.b[j].name] = cell
    return [Row(measure.label, job.a[i].name, found[i]) for i in sorted(found)]
