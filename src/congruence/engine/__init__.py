"""The engine: from representations and measures to a labelled, resumable comparison."""

from __future__ import annotations

from congruence.engine.job import Cell, Job, OnError, Pairs, Progress, Row
from congruence.engine.journal import Journal, Mode, is_run, require_writable_run
from congruence.engine.run import run_comparison

__all__ = [
    "Cell",
    "Job",
    "Journal",
    "Mode",
    "OnError",
    "Pairs",
    "Progress",
    "Row",
    "is_run",
    "require_writable_run",
    "run_comparison",
]
