"""The least that a comparison can cost: its arithmetic at the rate of a matrix product, and its decompositions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.measuring import Array, seconds_each

SPECTRAL = ("cca", "svcca", "pwcca", "procrustes")
"""Measures that decompose a matrix for every pair."""


@dataclass(frozen=True)
class Floor:
    """Seconds of the products and of the decompositions, and what they are."""

    products: float
    decompositions: float
    what: str

    @property
    def seconds(self) -> float:
        """Both together."""
        return self.products + self.decompositions

    @property
    def allowed(self) -> float:
        """How many times the floor a measure may take: 1.8, and 1.3 where decompositions dominate."""
        return 1.3 if self.decompositions > self.products else 1.8


def product_flops(label: str, n: int, p: int, count: int, pairs: int) -> float:
    """Return the least arithmetic of a measure that is one product of Gram matrices, of which one half is needed.

    The plan can be dearer, since it may keep factors; what it chooses must not make its own floor higher.
    """
    bases = 2.0 * n * p * p if label.startswith("cca") else 0.0
    return (n * n * p + bases) * count + 1.0 * n * n * pairs


def spectral_floor(label: str, values: Sequence[Array], rank: int, pairs: int, rate: float) -> Floor:
    """Return the floor of a measure that decomposes a matrix a pair.

    Parameters
    ----------
    label : str
        One of `SPECTRAL`.
    values : sequence of ndarray, shape (n, p)
        All representations.
    rank : int
        Directions that are compared: of a basis, or of its complement where that is smaller.
    pairs : int
        Values that are computed.
    rate : float
        Matrix product, in flop a second.
    """
    n, p = values[0].shape
    a_pair = 2.0 * n * rank**2 + rank**3  # M, and M Mᵀ of which one half is needed
    once = 3.0 * n * p**2  # a Gram matrix, of which one half is needed, and a product with p columns
    if label == "pwcca":
        a_pair += 2.0 * rank**2 * p
        once += 2.0 * n * p**2
    x = values[0] - values[0].mean(axis=0)
    kinds = [(pairs, rank, label == "pwcca")]
    if label in {"procrustes", "svcca"}:
        kinds.append((len(values), min(n, p), True))
    parts = [
        (count, f"{_name(vectors)}({size})", seconds_each(_work(x, size, vectors))) for count, size, vectors in kinds
    ]
    return Floor(
        (a_pair * pairs + once * len(values)) / rate,
        sum(count * each for count, _, each in parts),
        ", ".join(f"{count} {name} of {1e3 * each:.1f} ms" for count, name, each in parts),
    )


def _name(vectors: bool) -> str:
    return "eigh" if vectors else "eigvalsh"


def _work(x: Array, size: int, vectors: bool) -> Callable[[], Any]:
    """Return one eigenvalue decomposition of a Gram matrix of this size."""
    gram = x[:, :size].T @ x[:, :size] if size <= x.shape[1] else x[:size] @ x[:size].T
    return lambda: np.linalg.eigh(gram) if vectors else np.linalg.eigvalsh(gram)
