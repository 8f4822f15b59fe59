"""Identifiability: how far close distributions mean similar representations.

Models of the family p(y|x) = softmax(f(x)·g(y)), from classifiers to language models, are determined by their
distributions up to one linear map; how far that holds for distributions that are only close is what is measured here.
"""

from __future__ import annotations

from congruence.identifiability import constructions
from congruence.identifiability._distributions import Distributions, distributions
from congruence.identifiability._pair import compare
from congruence.identifiability._result import Identifiability, load
from congruence.identifiability._spaces import d_svd, m_cca, m_svd

__all__ = [
    "Distributions",
    "Identifiability",
    "compare",
    "constructions",
    "d_svd",
    "distributions",
    "load",
    "m_cca",
    "m_svd",
]
