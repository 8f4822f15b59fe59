"""Studies: findings of papers, tested again; each writes tables, figures and a verdict into a folder.

A study is a class with one decorator in one file (see `Study`). Which studies there are depends on what has been
imported: `congruence.identifiability.studies` registers its own.
"""

from __future__ import annotations

from congruence.studies._base import REGISTRY, Outcome, Row, Study, Tables, Tier, Verdict, register, study
from congruence.studies._run import Exists, StudyRun, load, run

__all__ = [
    "REGISTRY",
    "Exists",
    "Outcome",
    "Row",
    "Study",
    "StudyRun",
    "Tables",
    "Tier",
    "Verdict",
    "load",
    "register",
    "run",
    "study",
]
