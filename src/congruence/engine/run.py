"""From a job to a Comparison: tiles are computed, journalled and put together with their labels."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from congruence.engine.assemble import assemble
from congruence.engine.cache import StateCache
from congruence.engine.executors import compute_tiles, opened
from congruence.engine.handling import Handling
from congruence.engine.job import Cell, Job, OnError, Pairs, Progress, Row, Wanted, rows_of
from congruence.engine.journal import Journal
from congruence.engine.plan import MeasurePlan, Plan, make_plan
from congruence.engine.segments import compute_segments
from congruence.engine.stream import stream_rows
from congruence.engine.tiles import Tile
from congruence.errors import ParameterError
from congruence.measures import Measure
from congruence.measures.devices import is_accelerator, resolve, where
from congruence.representation import Deferred, Source
from congruence.results import Comparison


def run_comparison(
    a: Sequence[Source],
    b: Sequence[Source] | None,
    measures: Sequence[Measure[Any]],
    *,
    pairs: Pairs = "all",
    on_error: OnError = "raise",
    dtype: str | None = None,
    memory: str | float | None = None,
    executor: Any = None,
    device: Any = None,
    cache: StateCache | None = None,
    journal: Journal | None = None,
    known: Iterable[Row] = (),
    progress: Callable[[Progress], None] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Comparison:
    """Compute all wanted pairs.

    Parameters
    ----------
    a, b : sequence of Representation or Deferred
        The two sides as (n, p) values; `b=None` compares within `a`, both orders and the diagonal included.
    measures : sequence of Measure
        What to compute.
    pairs : {"all", "matched"} or list of (str, str)
        Which pairs; the others get the status ``"skipped"``.
    on_error : {"raise", "record"}
        Whether the first failure ends the run, or failed pairs get NaN, a status and a reason.
    dtype : {"float32", "float64"}, optional
        Precision; see `Measure.__call__`.
    memory : int, float or str, optional
        Budget beside the input, such as ``"4GB"``; half of the machine's memory by default.
    executor : optional
        Where tiles are computed; see `congruence.engine.executors.opened`.
    device : str or torch.device, optional
        Where arrays are moved when their turn comes: ``"cuda"``, ``"cuda:1"`` or ``"cpu"``. By default each stays where
        it is.
    cache : StateCache, optional
        Where prepared states are kept that are dearer to prepare than to read.
    journal : Journal, optional
        An open journal: finished rows are written to it, and those that it holds are not computed again.
    known : iterable of Row
        Rows known from elsewhere (an earlier result that is being updated); only their cells are reused.
    progress : callable, optional
        Called with a `Progress` after every tile.
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
    place = resolve(device)
    lives_on = place or home(job.representations)
    plan = make_plan(job.shape, job.measures, memory, lives_on)
    rows = _known_cells(job, itertools.chain(known, journal.rows if journal else ()))
    missing = {measure.label: _missing(job, measure, rows, job.to_compute(measure)) for measure in job.measures}
    total = sum(int(job.to_compute(measure).sum()) for measure in job.measures)
    done, start = total - sum(int(cells.sum()) for cells in missing.values()), time.perf_counter()
    how = Handling(dtype or _common_dtype(job, lives_on), on_error, place, plan.stack_bytes, cache)

    def tell(label: str, part: float, detail: str) -> None:
        if progress:
            progress(Progress(done, total, label, time.perf_counter() - start, part, detail))

    for label, finished in _finished(job, plan, missing, how, executor, tell):
        for row in finished:
            rows.setdefault((row.measure, row.a), {}).update(row.cells)
        if journal:
            journal.record(finished)
        done += sum(len(row.cells) for row in finished)
        if progress:
            progress(Progress(done, total, label, time.perf_counter() - start))
    return assemble(job, rows, provenance or {})


def home(sources: Iterable[Source]) -> str | None:
    """Return the device on which representations live; None if all of them are on disk."""
    return next((where(source.values) for source in sources if not isinstance(source, Deferred)), None)


def _common_dtype(job: Job, device: str | None) -> str | None:
    """Return float64 if some representations have it and others do not on an accelerator, which mixes no types."""
    if not is_accelerator(device):
        return None
    double = [source.dtype.endswith("float64") for source in job.representations]
    return "float64" if any(double) and not all(double) else None


Tell = Callable[[str, float, str], None]
"""Is told the measure at hand, how many pairs' worth of it is done, and what is being done."""


def _finished(
    job: Job, plan: Plan, missing: Mapping[str, Wanted], how: Handling, executor: Any, tell: Tell
) -> Iterator[tuple[str, list[Row]]]:
    """Yield the rows of every group of pairs as it is finished, with the label of its measure."""
    planned = list(zip(job.measures, plan.measures, strict=True))
    yield from _summed(job, plan, missing, how, tell)
    tiles = [
        Tile(job.part(rows, columns), measure, wanted[np.ix_(rows, columns)], own)
        for measure, form in planned
        if form.tiled
        for wanted, own in ((missing[measure.label], _handling(how, measure, job, form)),)
        for rows, columns in _tiles(job, wanted, form.group)
    ]
    with opened(executor) as pool:
        for tile, rows in compute_tiles(tiles, pool):
            yield tile.measure.label, rows
    for measure, form in planned:
        if form.streams and missing[measure.label].any():
            own = _handling(how, measure, job, form)
            step = partial(_tell_segment, tell, measure.label, int(missing[measure.label].sum()))
            cells = compute_segments(
                job, measure, missing[measure.label], memory=form.segment_bytes, how=own, step=step
            )
            yield measure.label, rows_of(job, measure, cells)


def _tell_segment(tell: Tell, label: str, size: int, done: int, total: int) -> None:
    """Pass on that a segment is done."""
    tell(label, size * done / total, f"segment {done} of {total}")


def _summed(
    job: Job, plan: Plan, missing: Mapping[str, Wanted], how: Handling, tell: Tell
) -> Iterator[tuple[str, list[Row]]]:
    """Yield the rows of what is computed from sums over stimuli, a group of pairs at a time."""
    wanted = {form.measure: missing[form.measure] for form in plan.measures if form.sums}
    if not any(cells.any() for cells in wanted.values()):
        return
    label = ", ".join(wanted)
    for rows in stream_rows(job, wanted, memory=plan.memory, on_error=how.on_error, tell=partial(tell, label)):
        if rows:
            yield label, rows


def _handling(how: Handling, measure: Measure[Any], job: Job, form: MeasurePlan) -> Handling:
    """Return how one measure is handled: on the CPU if it runs nowhere else, with the cache of states if that pays."""
    device = None if measure.cpu_only else how.device
    kept = None if how.cache is None or is_accelerator(device) else how.cache.for_job(measure, job.shape)
    return replace(how, device=device, cache=kept, hold=form.passes == 1, segment_bytes=form.segment_bytes)


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
