"""A tile: the comparisons of some representations with some others, by the measure's block kernel or pair by pair."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from congruence.engine.job import Cell, Job, OnError
from congruence.errors import CongruenceError
from congruence.measures import Finding, Measure
from congruence.measures.parallel import parallel

Wanted = np.ndarray[Any, np.dtype[np.bool_]]


class States:
    """Prepared states of one measure; a failure is remembered with its message.

    Parameters
    ----------
    job : Job
        Where the representations are.
    measure : Measure
        What prepares them.
    dtype : str, optional
        Precision; see `Measure.__call__`.
    on_error : {"raise", "record"}
        Whether a failure is raised or remembered.
    """

    def __init__(self, job: Job, measure: Measure[Any], dtype: str | None, on_error: OnError) -> None:
        self._job, self._measure, self._dtype, self._on_error = job, measure, dtype, on_error
        self._known: dict[int, Any] = {}
        self.failures: dict[int, str] = {}

    def load(self, indices: Sequence[int]) -> None:
        """Prepare the given representations, over the cores, and forget all others."""
        self._known = {index: self._known[index] for index in indices if index in self._known}
        missing = [index for index in indices if index not in self._known and index not in self.failures]
        self._known.update(
            (index, state)
            for index, state in zip(missing, parallel(self._attempt, missing), strict=True)
            if state is not None
        )

    def __getitem__(self, index: int) -> Any:
        return self._known[index]

    def _attempt(self, index: int) -> Any:
        try:
            return self._prepare(index)
        except Exception as error:
            if self._on_error == "raise":
                raise
            self.failures[index] = describe(error)
            return None

    def _prepare(self, index: int) -> Any:
        title = self._job.title(index)
        values = self._measure.admit(self._job.representations[index].values, title, self._dtype)
        try:
            return self._measure.prepare(values)
        except CongruenceError as error:
            raise error.about(title) from None


def describe(error: Exception) -> str:
    """Return the reason that a failed cell carries."""
    return str(error) if isinstance(error, CongruenceError) else f"{type(error).__name__}: {error}"


def compute_tile(
    job: Job,
    measure: Measure[Any],
    states: States,
    rows: Sequence[int],
    columns: Sequence[int],
    wanted: Wanted,
    on_error: OnError,
) -> dict[int, dict[str, Cell]]:
    """Return the wanted cells of a tile by row index and column name.

    Parameters
    ----------
    rows, columns : sequence of int
        Indices into `job.a` and `job.b`, whose states are loaded.
    wanted : ndarray of bool, shape (len(job.a), len(job.b))
        Which cells to compute.
    """
    found: dict[int, dict[str, Cell]] = {i: {} for i in rows}
    good_rows = [i for i in rows if i not in states.failures]
    good_columns = [j for j in columns if job.b_index(j) not in states.failures]
    for i in rows:
        for j in columns:
            reasons = dict.fromkeys(states.failures[k] for k in (i, job.b_index(j)) if k in states.failures)
            if reasons and wanted[i, j]:
                found[i][job.b[j].name] = Cell(status="failed", reason="; ".join(reasons))
    cells = [(i, j) for i in good_rows for j in good_columns if wanted[i, j]]
    if not cells:
        return found
    by_block = _by_block(job, measure, states, good_rows, good_columns, cells)
    if by_block is None:
        by_block = parallel(lambda at: _single(job, measure, states, *at, on_error), cells)
    for (i, j), cell in zip(cells, by_block, strict=True):
        found[i][job.b[j].name] = cell
    return found


def _by_block(
    job: Job,
    measure: Measure[Any],
    states: States,
    rows: Sequence[int],
    columns: Sequence[int],
    cells: Sequence[tuple[int, int]],
) -> list[Cell] | None:
    """Return the cells from the block kernel; None where few cells of the tile are wanted or the kernel fails."""
    first, second = [states[i] for i in rows], [states[job.b_index(j)] for j in columns]
    same = job.within and list(rows) == list(columns)
    if len(cells) < len(rows) * len(columns) // (4 if same else 2):
        return None
    start = time.perf_counter()
    try:
        block = measure.examine_block(first, first if same else second)
    except Exception:  # whatever it is, the pair loop meets it again and can say for which pair
        return None
    seconds = (time.perf_counter() - start) / len(cells)
    row_of, column_of = ({k: place for place, k in enumerate(side)} for side in (rows, columns))
    places = [(row_of[i], column_of[j]) for i, j in cells]
    return [Cell(float(block.values[at]), "ok", "", block.caveats.get(at, ()), seconds) for at in places]


def _single(job: Job, measure: Measure[Any], states: States, i: int, j: int, on_error: OnError) -> Cell:
    """Return one cell, or why there is none."""
    start = time.perf_counter()
    first, second = i, job.b_index(j)
    try:
        found: Finding = measure.examine(states[first], states[second])
    except Exception as error:
        if on_error == "raise":
            if isinstance(error, CongruenceError):
                pair = f"{measure.label} of {job.title(first)} and {job.title(second)}"
                raise error.about(pair) from None
            raise
        return Cell(status="failed", reason=describe(error), seconds=time.perf_counter() - start)
    return Cell(found.value, "ok", "", found.caveats, time.perf_counter() - start)
