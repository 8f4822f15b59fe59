"""All pairs at once against a loop over pairs: ratios, agreement, and the floor that the arithmetic sets."""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

import congruence as cg
from benchmarks.data import make_data
from benchmarks.floors import SPECTRAL, Floor, product_flops, spectral_floor
from benchmarks.loop import LOOP, time_pairs
from benchmarks.measuring import (
    AGREE,
    SAMPLE,
    Array,
    Check,
    Disagreement,
    Result,
    forget_peak,
    peak_memory,
    product_rate,
    result,
    seconds_of,
)

SYMMETRIC = tuple(label for label in LOOP if label != "pwcca")


@dataclass(frozen=True)
class Task:
    """A set of representations: two models against each other, or all within one side.

    Parameters
    ----------
    row : str
        Which row of the page.
    a, b : int
        How many representations there are on each side; None compares within the first.
    n, p : int
        Their shape.
    marks : dict of str to float
        How many times faster than the pair loop each measure is to be.
    floors : bool
        Whether the time over the floor has a mark, too.
    """

    row: str
    a: int
    b: int | None
    n: int
    p: int
    marks: dict[str, float]
    floors: bool = False

    @property
    def pairs(self) -> int:
        """Pairs of different representations."""
        return self.a * (self.a - 1) // 2 if self.b is None else self.a * self.b

    @property
    def measures(self) -> tuple[str, ...]:
        """What is computed: PWCCA, which is not symmetric, only between two sides."""
        return SYMMETRIC if self.b is None else tuple(LOOP)


def _marks(*ratios: float) -> dict[str, float]:
    labels = ("cka", "cka:kernel=rbf", "cca", "cca:statistic=mean_squared", "svcca", "rsa", "mutual_knn", "procrustes")
    return dict(zip(labels, ratios, strict=True))


TASKS = {
    "169": Task("169", 13, 13, 2000, 768, {"pwcca": 4}, floors=True),
    "780": Task("780", 40, None, 1000, 768, _marks(30, 40, 20, 40, 30, 50, 40, 2)),
    "8385": Task("8385", 130, None, 1000, 768, _marks(60, 100, 40, 200, 60, 150, 100, 2.5)),
}
TINY = {
    "169": Task("169", 3, 3, 60, 20, {"pwcca": 4}, floors=True),
    "780": Task("780", 4, None, 40, 30, TASKS["780"].marks),
    "8385": Task("8385", 5, None, 40, 30, TASKS["8385"].marks),
}


@lru_cache(maxsize=1)
def sides(a: int, b: int | None, n: int, p: int) -> tuple[dict[str, Array], dict[str, Array] | None]:
    """Return the representations of a task by name."""
    first = {f"a{i}": x for i, x in enumerate(make_data(a, n, p, seed=1))}
    return first, None if b is None else {f"b{i}": x for i, x in enumerate(make_data(b, n, p, seed=2))}


def measure(row: str, label: str, folder: Path, *, tiny: bool = False) -> Result:
    """Measure one line of a row."""
    del folder
    return measure_task((TINY if tiny else TASKS)[row], label)


def measure_task(task: Task, label: str, sample: int = SAMPLE) -> Result:
    """Time all pairs in one go and the pair loop on a sample, and compare their values."""
    a, b = sides(task.a, task.b, task.n, task.p)
    warm_up(label)
    rate = product_rate()
    forget_peak()
    seconds, found = seconds_of(lambda: compare_all(a, b, label))
    peak = peak_memory()
    chosen = random_pairs(list(a), list(b or a), sample)
    times, values = time_pairs(label, [(a[first], (b or a)[second]) for first, second in chosen])
    difference = require_agreement(found.matrix(label), chosen, values, label)
    loop = statistics.mean(times) * task.pairs
    plan = cg.plan(a, b, [label])
    floor = _floor(label, [*a.values(), *(b or {}).values()], task, plan.flops, rate)
    ratio = loop / seconds
    checks = [Check("times faster than the pair loop", ratio, task.marks[label], True)] if label in task.marks else []
    if task.floors:
        checks.append(Check("times the floor", seconds / floor.seconds, floor.allowed, False))
    columns = {
        "measure": label,
        "form": plan.measures[0].form,
        "all pairs, s": seconds,
        "pair loop, s": loop,
        "ratio": ratio,
        "floor, s": floor.seconds,
        "time / floor": seconds / floor.seconds,
        "decompositions": floor.what or "none",
        "largest difference": difference,
    }
    return result(task.row, label, columns, checks, rate, peak)


def compare_all(a: Any, b: Any, measures: str | Sequence[str], **options: Any) -> Any:
    """Return the comparison, its caveats unheard."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cg.CongruenceWarning)
        return cg.compare(a, b, measures, **options)


def warm_up(measures: str | Sequence[str]) -> None:
    """Load all that a first comparison loads, so that it is not timed."""
    rng = np.random.default_rng(0)
    compare_all({name: rng.normal(size=(40, 5)) for name in "xy"}, None, measures)


def random_pairs(first: Sequence[str], second: Sequence[str], sample: int) -> list[tuple[str, str]]:
    """Return random pairs of different names."""
    every = [(i, j) for i in first for j in second if i != j]
    chosen = np.random.default_rng(7).choice(len(every), size=sample, replace=len(every) < sample)
    return [every[k] for k in chosen]


def require_agreement(matrix: Any, pairs: Sequence[tuple[str, str]], values: Sequence[float], what: str) -> float:
    """Return the largest difference between a matrix and the values of some of its pairs, or raise a Disagreement."""
    differences = [abs(float(matrix.sel(a=i, b=j)) - value) for (i, j), value in zip(pairs, values, strict=True)]
    worst = int(np.argmax(differences))
    if not differences[worst] <= AGREE:
        i, j = pairs[worst]
        message = f"{what} of {i} and {j}: {float(matrix.sel(a=i, b=j))!r}, and {values[worst]!r} directly."
        raise Disagreement(message)
    return differences[worst]


def _floor(label: str, values: Sequence[Array], task: Task, flops: float, rate: float) -> Floor:
    """Return the floor of a measure: the least arithmetic, or products and decompositions of the size at hand."""
    if label not in SPECTRAL:
        return Floor(min(flops, product_flops(label, task.n, task.p, len(values), task.pairs)) / rate, 0.0, "")
    rank = min(task.p, task.n - 1)
    if label != "procrustes":
        state: Any = cg.measure(label).prepare(values[0])
        rank = state.rank if label == "pwcca" else min(state.rank, task.n - 1 - state.rank)
    return spectral_floor(label, values, rank, task.pairs, rate)
