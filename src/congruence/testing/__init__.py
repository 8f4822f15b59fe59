"""The tests that every measure of congruence passes, for measures written elsewhere.

Three lines test a measure of your own, each claim of its `info` among them::

    from congruence.testing import parametrize

    @parametrize([MyMeasure()])
    def test_contract(check):
        check()
"""

from __future__ import annotations

from congruence.testing._subject import BACKENDS, Subject
from congruence.testing._suite import Check, check_measure, checks, parametrize
from congruence.testing.samples import gaussian, hard_cases, related, transform, triples

__all__ = [
    "BACKENDS",
    "Check",
    "Subject",
    "check_measure",
    "checks",
    "gaussian",
    "hard_cases",
    "parametrize",
    "related",
    "transform",
    "triples",
]
