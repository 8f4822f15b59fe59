"""What the studies share: rows of compared pairs, and statistics whose unit is the network."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from congruence.errors import CongruenceWarning
from congruence.identifiability._model import Matrix
from congruence.identifiability._pair import compare
from congruence.identifiability._result import Identifiability
from congruence.studies import Row

COLUMNS = (
    "kl",
    "d_llv",
    "t1",
    "t2",
    "m_cca_f",
    "m_cca_g",
    "d_svd_f",
    "d_svd_g",
    "d_fg",
    "bound",
    "bound_f",
    "d_logit",
    "d_rep",
)
BOOTSTRAPS = 1000
SLACK = 1 + 1e-9
"""Rounding that a bound is allowed."""


def compare_quietly(*models: Matrix, **options: Any) -> Identifiability:
    """Return a comparison; what it warns of is in its caveats."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CongruenceWarning)
        return compare(*models, **options)


def as_row(found: Identifiability) -> Row:
    """Return the numbers of a comparison that the studies keep."""
    return {name: getattr(found, name) for name in COLUMNS}


def column(rows: Sequence[Row], name: str) -> Matrix:
    """Return a column of a table as numbers; what could not be computed is NaN."""
    return np.array([np.nan if row[name] is None else row[name] for row in rows], dtype=np.float64)


def over_the_line(rows: Sequence[Row]) -> int:
    """Return how many pairs have a d_fg above its bound, or a d_svd_f above the sharper one."""
    above = column(rows, "d_fg") > SLACK * column(rows, "bound") + 1e-14
    return int((above | (column(rows, "d_svd_f") > SLACK * column(rows, "bound_f") + 1e-14)).sum())


def pair_interval(values: Matrix, pairs: Sequence[tuple[int, int]], seed: int = 0) -> tuple[float, float]:
    """Return a 95 % interval of the mean over pairs of networks, by drawing networks with replacement."""
    return interval(_pair_means(values, pairs, seed))


def difference_interval(
    first: tuple[Matrix, Sequence[tuple[int, int]]], second: tuple[Matrix, Sequence[tuple[int, int]]]
) -> tuple[float, float]:
    """Return a 95 % interval of the difference of two means over pairs, networks drawn anew on both sides."""
    return interval(_pair_means(*first, seed=0) - _pair_means(*second, seed=1))


def mean_interval(values: Matrix, statistic: Callable[..., Any] = np.mean, seed: int = 0) -> tuple[float, float]:
    """Return a 95 % interval of a statistic of independent values, by drawing them with replacement."""
    rng = np.random.default_rng(seed)
    drawn = values[rng.integers(len(values), size=(BOOTSTRAPS, len(values)))]
    return interval(statistic(drawn, axis=1))


def drawn_pairs(pairs: Sequence[tuple[int, int]], draws: int, seed: int = 0) -> list[np.ndarray[Any, Any]]:
    """Return the places of the pairs in every draw of networks, as often as both of its networks were drawn."""
    return [np.repeat(np.arange(len(pairs)), weights) for weights in _weights(pairs, draws, seed)]


def _weights(pairs: Sequence[tuple[int, int]], draws: int, seed: int) -> np.ndarray[Any, Any]:
    """Return how often each pair counts in every draw of networks with replacement, shape (draws, pairs)."""
    names = sorted({member for pair in pairs for member in pair})
    place = np.array([[names.index(a), names.index(b)] for a, b in pairs])
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    found: np.ndarray[Any, Any] = counts[:, place[:, 0]] * counts[:, place[:, 1]]
    return found


def _pair_means(values: Matrix, pairs: Sequence[tuple[int, int]], seed: int) -> Matrix:
    """Return the mean over pairs for every draw of networks."""
    weights = _weights(pairs, BOOTSTRAPS, seed)
    usable = weights.sum(axis=1) > 0
    found: Matrix = (weights[usable] @ values) / weights[usable].sum(axis=1)
    return np.resize(found, BOOTSTRAPS)


def interval(values: Matrix) -> tuple[float, float]:
    """Return the ends of the middle 95 % of some values."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
