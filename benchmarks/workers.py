"""Two Dask workers on this machine against one, on work that is all tiles: representations are read from a store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import make_data, write_store
from benchmarks.measuring import Array, Check, Disagreement, Result, peak_memory, product_rate, result, seconds_of
from benchmarks.pairs import compare_all
from congruence.engine.executors import opened


@dataclass(frozen=True)
class Size:
    """Representations of shape (n, p), and the budget that cuts them into tiles."""

    count: int
    n: int
    p: int
    memory: str


FULL, TINY = Size(48, 1000, 512, "140MB"), Size(6, 60, 12, "1MB")


def measure(row: str, label: str, folder: Path, *, tiny: bool = False) -> Result:
    """Time the same comparison on one worker and on two; the workers are started beforehand."""
    size = TINY if tiny else FULL
    store = folder / "models.zarr"
    base = make_data(size.count, size.n, size.p, seed=4)

    def rows(part: slice) -> list[Array]:
        return [x[part] for x in base]

    write_store(store, [f"layer{r}" for r in range(size.count)], size.n, 250, rows)
    rate = product_rate()
    (one, first), (two, second) = (_timed(store, label, size, workers) for workers in (1, 2))
    if not np.array_equal(first.matrix(label).values, second.matrix(label).values):
        message = "Two workers give other values than one."
        raise Disagreement(message)
    columns = {
        "measure": label,
        "pairs": size.count * (size.count + 1) // 2,
        "one worker, s": one,
        "two workers, s": two,
        "ratio": one / two,
        "largest difference": 0.0,
    }
    checks = [Check("times one worker", one / two, 1.6, True)]
    return result(row, label, columns, checks, rate, peak_memory())


def _timed(store: Path, label: str, size: Size, workers: int) -> tuple[float, Any]:
    """Return the seconds on some workers that have imported everything, and the result."""
    with opened(f"local:{workers}") as executor:
        names = [f"layer{r}" for r in range(3)]
        compare_all(str(store), None, label, pairs=[(a, b) for a in names for b in names], executor=executor)
        return seconds_of(lambda: compare_all(str(store), None, label, memory=size.memory, executor=executor))
