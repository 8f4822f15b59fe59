"""What users call: compare, open, load and report, across all floors below."""

from __future__ import annotations

from congruence.api.access import load, open, report
from congruence.api.request import DEFAULT_MEASURES, Request, prepare
from congruence.api.running import compare, plan, run

__all__ = ["DEFAULT_MEASURES", "Request", "compare", "load", "open", "plan", "prepare", "report", "run"]
