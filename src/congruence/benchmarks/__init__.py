"""Benchmarks of the measures themselves: they should notice what changes function, and ignore what does not."""

from __future__ import annotations

from congruence.benchmarks.scoring import SCORES, score, write_scores

__all__ = ["SCORES", "score", "write_scores"]
