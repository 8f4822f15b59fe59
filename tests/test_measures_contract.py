"""Every claim of every variant of every measure, on every backend; and that wrong claims are found."""

from __future__ import annotations

import pytest
from congruence.measures import REGISTRY, measure
from congruence.testing import check_measure, parametrize

VARIANTS = [variant for cls in REGISTRY.values() for variant in cls.variants()]


@parametrize(VARIANTS)
def test_numpy(check):
    check()


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_torch(variant):
    pytest.importorskip("torch", reason="the torch extra is not installed")
    check_measure(variant, backend="torch")
