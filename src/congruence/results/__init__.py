"""The labelled result of a comparison: values, statuses, caveats and where they come from."""

from __future__ import annotations

from congruence.results._comparison import Comparison

__all__ = ["Comparison"]
