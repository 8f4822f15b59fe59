"""Benchmarks of the measures themselves: they should notice what changes function, and ignore what does not.

A benchmark yields cases (representations of real trained networks, and what is known about them) and scores comparisons
of them; it never computes a measure. ``run`` brings both together; ``score`` needs nothing but tables that someone has.
"""

from __future__ import annotations

from congruence.benchmarks._base import REGISTRY, TIERS, Benchmark, Case, Score, benchmark, likeness, register
from congruence.benchmarks._leaderboard import Leaderboard, leaderboard
from congruence.benchmarks._user import user_measure
from congruence.benchmarks.functional import Functional
from congruence.benchmarks.group_separation import Augmentation, LabelRandomisation, ShortcutAffinity
from congruence.benchmarks.intuitive import Intuitive
from congruence.benchmarks.layer_identification import LayerIdentification
from congruence.benchmarks.layer_monotonicity import LayerMonotonicity
from congruence.benchmarks.leaderboard_page import write_leaderboard
from congruence.benchmarks.output_correlation import AccuracyCorrelation, OutputCorrelation
from congruence.benchmarks.resi import resi_scores
from congruence.benchmarks.resources import published
from congruence.benchmarks.results_page import write_page
from congruence.benchmarks.running import BenchmarkRun, all_measures, load_run, resi_measures, run
from congruence.benchmarks.scoring import SCORES, score, write_scores

__all__ = [
    "REGISTRY",
    "SCORES",
    "TIERS",
    "AccuracyCorrelation",
    "Augmentation",
    "Benchmark",
    "BenchmarkRun",
    "Case",
    "Functional",
    "Intuitive",
    "LabelRandomisation",
    "LayerIdentification",
    "LayerMonotonicity",
    "Leaderboard",
    "OutputCorrelation",
    "Score",
    "ShortcutAffinity",
    "all_measures",
    "benchmark",
    "likeness",
    "leaderboard",
    "load_run",
    "published",
    "register",
    "resi_measures",
    "resi_scores",
    "run",
    "score",
    "user_measure",
    "write_leaderboard",
    "write_page",
    "write_scores",
]
