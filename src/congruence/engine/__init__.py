"""The engine: from representations and measures to a labelled, resumable comparison."""

from __future__ import annotations

from congruence.engine.cache import StateCache, open_cache
from congruence.engine.job import Cell, Job, OnError, Pairs, Progress, Row, Shape, require_pairs
from congruence.engine.journal import RESULT, Journal, Mode, is_run, require_writable_run
from congruence.engine.memory import parse_memory
from congruence.engine.plan import MeasurePlan, Plan, make_plan
from congruence.engine.run import home, run_comparison

__all__ = [
    "RESULT",
    "Cell",
    "Job",
    "Journal",
    "Mode",
    "MeasurePlan",
    "OnError",
    "Pairs",
    "Plan",
    "Progress",
    "Row",
    "Shape",
    "StateCache",
    "home",
    "is_run",
    "make_plan",
    "open_cache",
    "parse_memory",
    "require_pairs",
    "require_writable_run",
    "run_comparison",
]
