"""The data sets by name."""

from __future__ import annotations

from congruence.zoo.dataset import Dataset
from congruence.zoo.images import Digits, FashionMnist, Mnist5k
from congruence.zoo.text import Entailment

DATASETS: dict[str, type[Dataset]] = {kind.name: kind for kind in (Digits, Mnist5k, FashionMnist, Entailment)}
"""Name -> data set."""
