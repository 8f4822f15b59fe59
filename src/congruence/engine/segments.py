"""Gram matrices that do not fit into memory together: compared segment by segment, each pass over all representations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from congruence.engine.job import Cell, Job, OnError
from congruence.engine.tiles import Wanted, describe
from congruence.errors import CongruenceError, ParameterError
from congruence.measures import Measure
from congruence.measures.block import Energies, Gram, GramSource, StreamingMeasure, segment_energies, segments


def compute_segments(
    job: Job,
    measure: Measure[Any],
    wanted: Wanted,
    *,
    memory: int,
    dtype: str | None,
    on_error: OnError,
    step: Callable[[int, int], None] | None = None,
) -> dict[tuple[int, int], Cell]:
    """Return the wanted cells of a streaming measure by their indices.

    Parameters
    ----------
    memory : int
        Bytes for the stacked rows of one segment.
    step : callable, optional
        Called with (segments done, segments) after every segment.
    """
    if not isinstance(measure, StreamingMeasure):
        message = f"{measure.label} cannot work through segments of stimuli."
        raise ParameterError(message)
    supply = _Supply(job, measure, dtype, on_error)
    first = GramSource(len(job.a), supply.gram)
    second = None if job.within else GramSource(len(job.b), lambda j: supply.gram(job.b_index(j)))
    parts = segments(job.n, len(job.representations), memory)
    total: Energies | None = None
    for done, part in enumerate(parts, 1):
        found = segment_energies(first, second, part)
        total = found if total is None else Energies(*(old + new for old, new in zip(total, found, strict=True)))
        if step:
            step(done, len(parts))
    if total is None:
        return {}
    return _cells(job, measure, supply, total, wanted)


class _Supply:
    """Gram matrices on demand; the small states and the failures are kept."""

    def __init__(self, job: Job, measure: Any, dtype: str | None, on_error: OnError) -> None:
        self._job, self._measure, self._dtype, self._on_error = job, measure, dtype, on_error
        self.states: dict[int, Any] = {}
        self.failures: dict[int, str] = {}

    def gram(self, index: int) -> Gram:
        """Return the Gram matrix of a representation; of one that failed, a zero that meets nothing."""
        if index in self.failures:
            return Gram(np.zeros((self._job.n, 1)))
        title = self._job.titles[index]
        try:
            values = self._measure.admit(self._job.representations[index].load().values, title, self._dtype)
            gram, self.states[index] = self._measure.stream_gram(values)
        except Exception as error:
            if self._on_error == "raise":
                raise (error.about(title) if isinstance(error, CongruenceError) else error) from None
            self.failures[index] = describe(error)
            return Gram(np.zeros((self._job.n, 1)))
        return gram  # type: ignore[no-any-return]


def _cells(
    job: Job, measure: StreamingMeasure, supply: _Supply, total: Energies, wanted: Wanted
) -> dict[tuple[int, int], Cell]:
    """Return the cells from the summed inner products."""
    rows = [i for i in range(len(job.a)) if i not in supply.failures]
    columns = [j for j in range(len(job.b)) if job.b_index(j) not in supply.failures]
    found: dict[tuple[int, int], Cell] = {}
    for i, j in np.argwhere(wanted).tolist() if supply.failures else ():
        reasons = dict.fromkeys(supply.failures[k] for k in (i, job.b_index(j)) if k in supply.failures)
        if reasons:
            found[i, j] = Cell(status="failed", reason="; ".join(reasons))
    if not rows or not columns:
        return found
    kept = Energies(total.cross[np.ix_(rows, columns)], total.own_first[rows], total.own_second[columns])
    findings = measure.finish_stream(
        kept, [supply.states[i] for i in rows], [supply.states[job.b_index(j)] for j in columns]
    )
    for r, c in np.argwhere(wanted[np.ix_(rows, columns)]).tolist():
        found[rows[r], columns[c]] = Cell(float(findings.values[r, c]), "ok", "", findings.caveats.get((r, c), ()))
    return found
