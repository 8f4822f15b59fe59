"""Comparisons of representations that do not fit into memory, from sums over chunks of stimuli."""

from __future__ import annotations

from congruence.engine.stream.run import stream_comparison, stream_rows
from congruence.engine.stream.source import Stream

__all__ = ["Stream", "stream_comparison", "stream_rows"]
