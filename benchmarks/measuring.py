"""What every benchmark needs: clocks, the rate of a matrix product, peak memory, the machine, and results on disk."""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info

from congruence.measures.parallel import cores, parallel

Array = np.ndarray
Columns = dict[str, float | int | str]

SAMPLE = 24
"""On how many random pairs a pair loop is timed."""

AGREE = 1e-8
"""How far values may be from those of direct formulas."""


class Disagreement(Exception):
    """Two ways to compute the same thing give different values."""


@dataclass(frozen=True)
class Check:
    """A mark and what was measured for it: at least `limit` of it, or at most."""

    what: str
    got: float
    limit: float
    at_least: bool

    @property
    def met(self) -> bool:
        """Whether the mark is reached."""
        return self.got >= self.limit if self.at_least else self.got <= self.limit


@dataclass(frozen=True)
class Result:
    """One measurement, as it is kept on disk.

    Parameters
    ----------
    row, name : str
        Which benchmark, and which line of it.
    columns : dict of str to number or text
        What the page shows, in order.
    checks : tuple of Check
        The marks.
    rate : float
        Matrix product of float64 in the same run, in flop a second.
    peak_bytes : int
        Peak resident memory of the process while it was measured.
    machine, made : str
        What it was measured on, and when.
    """

    row: str
    name: str
    columns: Columns
    checks: tuple[Check, ...]
    rate: float
    peak_bytes: int
    machine: str
    made: str

    def save(self, folder: Path) -> None:
        """Write the result; it appears whole or not at all."""
        path = place(folder, self.row, self.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(asdict(self), indent=1), "utf-8")
        part.replace(path)

    @classmethod
    def read(cls, path: Path) -> Result:
        """Return a result that was saved."""
        kept = json.loads(path.read_text("utf-8"))
        return cls(**{**kept, "checks": tuple(Check(**check) for check in kept["checks"])})


def place(folder: Path, row: str, name: str) -> Path:
    """Return the file of a result."""
    return folder / row / ("".join(c if c.isalnum() else "_" for c in name) + ".json")


def result(row: str, name: str, columns: Columns, checks: Iterable[Check], rate: float, peak: int) -> Result:
    """Return a result that says where and when it was made."""
    made = datetime.now(UTC).isoformat(timespec="minutes")
    return Result(row, name, columns, tuple(checks), rate, peak, machine_line(), made)


# ---- time ------------------------------------------------------------------------------------------------------------


def seconds_of(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that `work` takes, and what it returns."""
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


def product_rate(size: int = 1500) -> float:
    """Return the rate of this machine's float64 matrix product now, in flop a second (median of five)."""
    x = np.random.default_rng(0).normal(size=(size, size))
    times = [seconds_of(lambda: x @ x)[0] for _ in range(5)]
    return 2 * size**3 / statistics.median(times)


def seconds_each(work: Callable[[], Any]) -> float:
    """Return the seconds a piece of work costs where every core does one at a time with one-thread linear algebra."""
    items = range(2 * cores())
    parallel(lambda _: work(), items[: cores()])
    return seconds_of(lambda: parallel(lambda _: work(), items))[0] / len(items)


# ---- memory and machine ----------------------------------------------------------------------------------------------


def forget_peak() -> None:
    """Let the peak of this process's memory start from what it holds now (Linux; elsewhere it counts from the start)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory() -> int:
    """Return the peak resident memory of this process, in bytes."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        unit = 1 if platform.system() == "Darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def machine_line() -> str:
    """Return the processor, its cores, and the versions that numbers depend on."""
    packages = ", ".join(f"{name} {metadata.version(name)}" for name in ("congruence", "numpy", "scipy"))
    libraries = sorted(
        {f"{lib['internal_api']} {lib['version']}" for lib in threadpool_info() if lib["user_api"] == "blas"}
    )
    threads = os.environ.get("OMP_NUM_THREADS") or os.environ.get("OPENBLAS_NUM_THREADS")
    bound = f" (linear algebra bound to {threads} threads)" if threads else ""
    return f"{_processor()}, {cores()} cores{bound}, {', '.join(libraries)}, Python {platform.python_version()}, {packages}"


def _processor() -> str:
    """Return the name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
