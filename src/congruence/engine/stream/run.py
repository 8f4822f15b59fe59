"""From streams to a Comparison: sums over passes, then all values at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from congruence.engine.assemble import assemble
from congruence.engine.job import Cell, Job, OnError, Pairs, Progress, Row, Wanted
from congruence.engine.stream.budget import Budget
from congruence.engine.stream.scan import Scanner
from congruence.engine.stream.source import Stream, require_same_stimuli
from congruence.engine.stream.work import Work
from congruence.errors import ParameterError
from congruence.measures import Measure
from congruence.results import Comparison


def stream_comparison(
    a: Sequence[Stream],
    b: Sequence[Stream] | None,
    measures: Sequence[Measure[Any]],
    *,
    pairs: Pairs = "all",
    chunk_rows: int | None = None,
    memory: int | None = None,
    on_error: OnError = "raise",
    progress: Callable[[Progress], None] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Comparison:
    """Compare representations that are read in ranges of stimuli, in memory that does not depend on their number.

    Sums of products of features are taken over the stimuli, in float64, in one pass; data so ill-conditioned that these
    lose digits are summed again in whitened coordinates, as often as needed (see `spectrum`). Values are those of
    `run_comparison` to 1e-10, except where rounding limits both (condition numbers above about 1e5).

    Parameters
    ----------
    a, b : sequence of Stream
        The two sides; `b=None` compares within `a`, both orders and the diagonal included.
    measures : sequence of Measure
        Measures with a covariance form: linear cka, cca, svcca, pwcca, procrustes, shape, linear_regression.
    pairs : {"all", "matched"} or list of (str, str)
        Which pairs; the others get the status ``"skipped"``.
    chunk_rows : int, optional
        Stimuli in a chunk; by default what suits the widest representation.
    memory : int, optional
        Bytes that sums and chunks may take. Pairs beyond that wait for further passes.
    on_error : {"raise", "record"}
        Whether the first failure ends the run, or failed pairs get NaN, a status and a reason.
    progress : callable, optional
        Called with a `Progress` after every chunk; it counts stimuli.
    provenance : mapping, optional
        What the result says about its making; ``stream`` with the number of passes and the chunk size is added.

    Returns
    -------
    Comparison
        The labelled result, as `run_comparison` would give it.

    Raises
    ------
    ParameterError
        If a measure needs all pairs of stimuli (with the memory that would take), or `memory` is too small.
    InputError
        If a stream holds NaN or infinity (with its position), is constant, or has too few stimuli.
    AlignmentError
        If the stimuli differ.
    """
    job = Job.build([s.placeholder for s in a], None if b is None else [s.placeholder for s in b], measures, pairs)
    streams = (*a, *(b or ()))
    require_same_stimuli(streams)
    if on_error not in {"raise", "record"}:
        message = f"on_error must be 'raise' or 'record'; got {on_error!r}."
        raise ParameterError(message)
    budget = Budget.of(job.n, [s.p for s in streams], [s.row_bytes for s in streams], chunk_rows, memory)
    scanner = Scanner(streams, job.titles, budget.rows, on_error, progress)
    work = Work(job, scanner, {m.label: job.to_compute(m) for m in measures}, on_error)
    rows: dict[tuple[str, str], dict[str, Cell]] = {}
    for row in (row for found in _computed(work, budget, _ignore) for row in found):
        rows.setdefault((row.measure, row.a), {}).update(row.cells)
    about = {"passes": scanner.passes, "chunk_rows": budget.rows}
    return assemble(job, rows, {**(provenance or {}), "stream": about})


def _ignore(size: int) -> None:
    del size


Tell = Callable[[float, str], None]
"""Is told how many cells' worth of work is done of the pairs at hand, and what is being done to them."""


def stream_rows(
    job: Job, wanted: Mapping[str, Wanted], *, memory: int, on_error: OnError, tell: Tell
) -> Iterator[list[Row]]:
    """Yield the wanted cells of a job, row by row, whenever a group of pairs that share passes is finished.

    Parameters
    ----------
    job : Job
        Representations that can be read in ranges of stimuli (`Stream.of`).
    wanted : mapping of str to ndarray of bool, shape (len(job.a), len(job.b))
        Which cells, by the label of a measure with a covariance form.
    memory : int
        Bytes that sums and chunks may take.
    on_error : {"raise", "record"}
        See `stream_comparison`.
    tell : callable
        Called after every chunk.
    """
    streams = [Stream.of(source) for source in job.representations]
    budget = Budget.of(job.n, [s.p for s in streams], [s.row_bytes for s in streams], memory=memory)
    teller = _Teller(tell)
    scanner = Scanner(streams, job.titles, budget.rows, on_error, teller)
    yield from _computed(Work(job, scanner, wanted, on_error), budget, teller.begin)


class _Teller:
    """Makes of progress in stimuli progress in cells."""

    def __init__(self, tell: Tell) -> None:
        self._tell, self._size = tell, 0

    def begin(self, size: int) -> None:
        """Note how many cells the passes to come are for."""
        self._size = size

    def __call__(self, chunk: Progress) -> None:
        """Pass on that a chunk is done."""
        self._tell(self._size * chunk.done / chunk.total, f"{chunk.measure}: {chunk.done:,}/{chunk.total:,} stimuli")


def _computed(work: Work, budget: Budget, begin: Callable[[int], None]) -> Iterator[list[Row]]:
    """Yield the rows of every group of pairs."""
    yield work.refused()
    for group in budget.groups(work.pairs()):
        begin(work.size(group))
        yield work.compute(group)
