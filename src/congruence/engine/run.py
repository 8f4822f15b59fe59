"""From a job to a Comparison: tiles are computed, journalled and put together with their labels."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from congruence.engine.assemble import assemble
from congruence.engine.job import Cell, Job, OnError, Pairs, Progress, Row
from congruence.engine.journal import Journal
from congruence.engine.tiles import States, Wanted, compute_tile
from congruence.errors import ParameterError
from congruence.measures import Measure
from congruence.representation import Representation
from congruence.results import Comparison


def run_comparison(
    a: Sequence[Representation],
    b: Sequence[Representation] | None,
    measures: Sequence[Measure[Any]],
    *,
    pairs: Pairs = "all",
    on_error: OnError = "raise",
    dtype: str | None = None,
    journal: Journal | None = None,
    known: Iterable[Row] = (),
    progress: Callable[[Progress], None] | None = None,
    group: int = 64,
    provenance: Mapping[str, Any] | None = None,
) -> Comparison:
    """Compute all wanted pairs.

    Parameters
    ----------
    a, b : sequence of Representation
        The two sides as (n, p) values; `b=None` compares within `a`, both orders and the diagonal included.
    measures : sequence of Measure
        What to compute.
    pairs : {"all", "matched"} or list of (str, str)
        Which pairs; the others get the status ``"skipped"``.
    on_error : {"raise", "record"}
        Whether the first failure ends the run, or failed pairs get NaN, a status and a reason.
    dtype : {"float32", "float64"}, optional
        Precision; see `Measure.__call__`.
    journal : Journal, optional
        An open journal: finished rows are written to it, and those that it holds are not computed again.
    known : iterable of Row
        Rows known from elsewhere (an earlier result that is being updated); only their cells are reused.
    progress : callable, optional
        Called with a `Progress` after every tile.
    group : int
        How many representations a side a tile has; their prepared states are held at once.
    provenance : mapping, optional
        What the result says about its making.

    Returns
    -------
    Comparison
        The labelled result.
    """
    if on_error not in {"raise", "record"}:
        message = f"on_error must be 'raise' or 'record'; got {on_error!r}."
        raise ParameterError(message)
    job = Job.build(a, b, measures, pairs)
    rows = _known_cells(job, itertools.chain(known, journal.rows if journal else ()))
    total = sum(int(job.to_compute(measure).sum()) for measure in job.measures)
    done, start = 0, time.perf_counter()
    for measure in job.measures:
        wanted = job.to_compute(measure)
        missing = _missing(job, measure, rows, wanted)
        done += int(wanted.sum() - missing.sum())
        states = States(job, measure, dtype, on_error)
        for tile_rows, tile_columns in _tiles(job, missing, group):
            states.load(sorted({*tile_rows, *(job.b_index(j) for j in tile_columns)}))
            cells = compute_tile(job, measure, states, tile_rows, tile_columns, missing, on_error)
            finished = [Row(measure.label, job.a[i].name, found) for i, found in cells.items() if found]
            for row in finished:
                rows.setdefault((row.measure, row.a), {}).update(row.cells)
            if journal:
                journal.record(finished)
            done += sum(len(row.cells) for row in finished)
            if progress:
                progress(Progress(done, total, measure.label, time.perf_counter() - start))
    return assemble(job, rows, provenance or {})


def _missing(
    job: Job, measure: Measure[Any], rows: Mapping[tuple[str, str], Mapping[str, Cell]], wanted: Wanted
) -> Wanted:
    """Return the cells that still have to be computed."""
    missing = wanted.copy()
    place = {representation.name: j for j, representation in enumerate(job.b)}
    for i, representation in enumerate(job.a):
        missing[i, [place[name] for name in rows.get((measure.label, representation.name), ())]] = False
    return missing


def _tiles(job: Job, missing: Wanted, group: int) -> Iterator[tuple[list[int], list[int]]]:
    """Iterate over the tiles that hold work: groups of rows against groups of columns."""
    rows = [list(range(s, min(s + group, len(job.a)))) for s in range(0, len(job.a), group)]
    columns = [list(range(s, min(s + group, len(job.b)))) for s in range(0, len(job.b), group)]
    for some_rows in rows:
        for some_columns in columns:
            if missing[np.ix_(some_rows, some_columns)].any():
                yield some_rows, some_columns


def _known_cells(job: Job, rows: Iterable[Row]) -> dict[tuple[str, str], dict[str, Cell]]:
    """Return the cells of earlier rows that this job asks for."""
    labels = {measure.label for measure in job.measures}
    names_a, names_b = {r.name for r in job.a}, {r.name for r in job.b}
    found: dict[tuple[str, str], dict[str, Cell]] = {}
    for row in rows:
        if row.measure in labels and row.a in names_a:
            cells = {b: cell for b, cell in row.cells.items() if b in names_b}
            found.setdefault((row.measure, row.a), {}).update(cells)
    return found
