"""Identifiability: how far close distributions mean similar representations.

Models of the family p(y|x) = softmax(f(x)·g(y)), from classifiers to language models, are determined by their
distributions up to one linear map; how far that holds for distributions that are only close is what is measured here.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from congruence.identifiability import constructions
from congruence.identifiability._distributions import Distributions, distributions
from congruence.identifiability._pair import compare
from congruence.identifiability._result import Identifiability, load
from congruence.identifiability._spaces import d_svd, m_cca, m_svd

if TYPE_CHECKING:
    from congruence.identifiability.heads import Outputs, compare_heads, outputs

__all__ = [
    "Distributions",
    "Identifiability",
    "Outputs",
    "compare",
    "compare_heads",
    "constructions",
    "d_svd",
    "distributions",
    "load",
    "m_cca",
    "m_svd",
    "outputs",
]

_OF_MODELS = ("Outputs", "compare_heads", "outputs")
"""What needs PyTorch, which is imported when one of these is first used."""


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _OF_MODELS:
            message = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(message)
        return getattr(importlib.import_module("congruence.identifiability.heads"), name)
