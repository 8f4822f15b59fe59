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
            for name, cell in rows.get((measure.label, representation.name), {}).items():
                j = place[name]
                for at in {(m, i, j), (m, j, i)} if mirror else {(m, i, j)}:
                    if job.wanted[at[1:]]:
                        value[at], status[at], reason[at], seconds[at] = (
                            cell.value,
                            cell.status,
                            cell.reason,
                            cell.seconds,
                        )
                        if cell.caveats:
                            caveats[at] = cell.caveats
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
