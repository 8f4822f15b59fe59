"""From streams to a Comparison: sums over passes, then all values at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from congruence.engine.assemble import assemble
from congruence.engine.job import Job, OnError, Pairs, Progress
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
    budget = Budget.of(streams, chunk_rows, memory)
    titles = [job.titles[i] for i in range(len(streams))]
    scanner = Scanner(streams, titles, budget.rows, on_error, progress)
    work = Work(job, scanner, on_error)
    for group in budget.groups(work.pairs()):
        work.compute(group)
    about = {"passes": scanner.passes, "chunk_rows": budget.rows}
    return assemble(job, work.rows(), {**(provenance or {}), "stream": about})
