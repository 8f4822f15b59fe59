"""What a training says while it runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO


@dataclass(frozen=True)
class Report:
    """How far the training of a group of networks is.

    Parameters
    ----------
    label : str
        Which population.
    seeds : tuple of int
        The networks in training.
    step, steps : int
        Steps done, and to do.
    loss : float
        Mean loss of the last step.
    """

    label: str
    seeds: tuple[int, ...]
    step: int
    steps: int
    loss: float


Progress = Callable[[Report], None]


class ProgressLine:
    """Shows reports as one line that is written again and again; give it to ``train(progress=ProgressLine())``.

    Parameters
    ----------
    stream : text file, optional
        Where to write; by default standard error.
    every : float
        Seconds between two lines.
    """

    def __init__(self, stream: TextIO | None = None, every: float = 0.5) -> None:
        self._stream, self._every, self._last = stream or sys.stderr, every, 0.0

    def __call__(self, report: Report) -> None:
        """Write the line if it is time, and always at the end of a group."""
        now, over = time.monotonic(), report.step >= report.steps
        if now - self._last < self._every and not over:
            return
        self._last = now
        which = f"seed {report.seeds[0]}" if len(report.seeds) == 1 else f"{len(report.seeds)} seeds"
        line = f"{report.label}: {which}, step {report.step:,} of {report.steps:,}, loss {report.loss:.3f}"
        self._stream.write(f"\r{line:<100}" + "\n" * over)
        self._stream.flush()
