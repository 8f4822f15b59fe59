"""Rank correlations of distances with functional differences, as the papers report them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]

# Distances that differ by rounding alone hold no order.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class RankScore:
    """Rank correlations with one-sided p-values, and the share of pairs that a distance misjudges.

    Attributes
    ----------
    spearman, spearman_p, kendall, kendall_p : float
        Kendall's is tau-b; a p-value is half the two-sided one if the coefficient is positive, else 1 minus that half.
    bad_frac : float
        Share of pairs among the closest fifth by distance and the farthest fifth by function.
    """

    spearman: float = np.nan
    spearman_p: float = np.nan
    kendall: float = np.nan
    kendall_p: float = np.nan
    bad_frac: float = np.nan


def is_constant(values: Floats) -> bool:
    """Return whether all values are equal up to rounding, so that no rank correlation is defined."""
    spread = float(np.ptp(values))
    return spread <= _ROUNDING * float(np.abs(values).max())


def rank_score(distances: Floats, differences: Floats) -> RankScore:
    """Return how well distances, shape (pairs,), order the pairs by their functional difference.

    A pair whose distance is NaN counts as the worst answer: as the closest pair where the functional difference is above
    the median, as the farthest elsewhere. Everything is NaN where one side is constant or no distance is known.
    """
    from scipy import stats

    known = np.isfinite(distances)
    if not known.any() or is_constant(differences) or is_constant(distances[known]):
        return RankScore()
    worst = np.where(differences > np.median(differences), -np.inf, np.inf)
    filled = np.where(known, distances, worst)
    spearman, kendall = stats.spearmanr(filled, differences), stats.kendalltau(filled, differences)
    # as scipy's percentileofscore(kind="rank"): the mean rank of a value as a share of all
    close, apart = (stats.rankdata(values) / len(values) for values in (filled, differences))
    return RankScore(
        float(spearman.statistic),
        one_sided(spearman.statistic, spearman.pvalue),
        float(kendall.statistic),
        one_sided(kendall.statistic, kendall.pvalue),
        float(np.mean((close < 0.2) & (apart > 0.8))),
    )


def one_sided(coefficient: float, p: float) -> float:
    """Return the p-value against a positive coefficient from the two-sided one."""
    return float(p / 2 if coefficient > 0 else 1 - p / 2)
