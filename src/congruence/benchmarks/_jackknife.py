"""Uncertainty of means over pairs of networks: pairs that share a network are not independent, so networks are left out."""

from __future__ import annotations

from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]


def pair_mean(values: Floats) -> float:
    """Return the mean over ordered pairs of different networks, values of shape (networks, networks)."""
    return float(values[~np.eye(len(values), dtype=bool)].mean())


def standard_error(values: Floats) -> float:
    """Return the jackknife standard error of `pair_mean`, leaving out one network at a time; NaN for two networks."""
    count = len(values)
    if count < 3:
        return float("nan")
    left = [pair_mean(np.delete(np.delete(values, i, axis=0), i, axis=1)) for i in range(count)]
    return float(np.sqrt((count - 1) / count * np.sum((np.array(left) - np.mean(left)) ** 2)))


def z_test(first: Floats, second: Floats) -> float:
    """Return the two-sided p-value of equal pair means of two measures on the same networks (jackknife z-test)."""
    from scipy.stats import norm

    difference, error = pair_mean(first - second), standard_error(first - second)
    if np.isnan(error):
        return float("nan")
    if error == 0:
        return 1.0 if difference == 0 else 0.0
    return float(2 * norm.sf(abs(difference) / error))
