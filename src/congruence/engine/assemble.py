"""From finished cells to a labelled result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from congruence.engine.job import Cell, Job
from congruence.results import Comparison


def assemble(job: Job, rows: Mapping[tuple[str, str], Mapping[str, Cell]], provenance: Mapping[str, Any]) -> Comparison:
    """Put the cells into a labelled result; the other half of symmetric measures within one side is mirrored."""
    shape = (len(job.measures), len(job.a), len(job.b))
    value, seconds = np.full(shape, np.nan), np.zeros(shape)
    status, reason = np.full(shape, "skipped", dtype="<U7"), np.full(shape, "", dtype=object)
    caveats: dict[tuple[int, int, int], Any] = {}
    place = {r.name: j for j, r in enumerate(job.b)}
    for m, measure in enumerate(job.measures):
        mirror = job.within and measure.info.symmetric
        for i, representation in enumerate(job.a):
            cells = rows.get((measure.label, representation.name), {})
            found, columns = list(cells.values()), np.array([place[name] for name in cells], dtype=np.intp)
            here = np.full_like(columns, i)
            for first, second in ((here, columns), (columns, here))[: 2 if mirror else 1]:
                asked = np.flatnonzero(job.wanted[first, second])
                at = (m, first[asked], second[asked])
                chosen = [found[k] for k in asked]
                value[at], seconds[at] = [cell.value for cell in chosen], [cell.seconds for cell in chosen]
                status[at], reason[at] = [cell.status for cell in chosen], [cell.reason for cell in chosen]
                flagged = [(k, cell.caveats) for k, cell in zip(asked, chosen, strict=True) if cell.caveats]
                caveats.update(((m, int(first[k]), int(second[k])), reasons) for k, reasons in flagged)
    return Comparison.build(
        job.measures,
        [r.name for r in job.a],
        [r.name for r in job.b],
        value=value,
        status=status,
        reason=reason,
        caveats=caveats,
        n=np.full(shape, job.n, dtype=np.int64),
        seconds=seconds,
        provenance=provenance,
    )
