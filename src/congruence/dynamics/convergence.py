"""When layers converge, and whether the lower ones do first."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from congruence.errors import Caveat, CongruenceWarning, DegenerateError, ParameterError, ShapeError, UnknownNameError
from congruence.validate import closest

if TYPE_CHECKING:
    import xarray as xr

Of = Literal["final", "way"]
_EXACT = 50_000
"""The most relabellings that are all computed."""
Numbers = np.ndarray[Any, np.dtype[np.float64]]


def time_to(curve: xr.DataArray, fraction: float = 0.9, of: Of = "final") -> xr.DataArray:
    """Return when every layer first reaches a fraction of its final similarity, in steps.

    Between two recorded steps the curve counts as a straight line, and the time is where it crosses the threshold.

    Parameters
    ----------
    curve : xarray.DataArray, shape (layer, step)
        Similarities or distances to a final state; see `CheckpointSeries.convergence`. Its last column is that state.
    fraction : float
        Between 0 and 1.
    of : {"final", "way"}
        ``"final"``: the threshold is fraction * s(T), with s(T) the similarity of the last column; for similarities
        only. ``"way"``: it is s(0) + fraction * (s(T) - s(0)), the share of the way from the first column. Layers
        differ in how similar to their final state they begin, which ``"final"`` counts as having converged.

    Returns
    -------
    xarray.DataArray, shape (layer,)
        Times; NaN for a layer whose curve has NaN in its first or last column, never reaches the threshold, or with
        ``"way"`` does not move at all.

    Raises
    ------
    ParameterError
        If `fraction` is out of range, `of` does not fit the measure, or the curve does not end at its final state.
    ShapeError
        If the curve has other dimensions, or fewer than two steps.

    Warns
    -----
    CongruenceWarning
        If layers have no time because the run diverged (``diverged``).
    """
    if not 0 < fraction < 1:
        message = f"fraction must be between 0 and 1; got {fraction!r}."
        raise ParameterError(message)
    if of not in {"final", "way"}:
        message = f"of must be 'final' or 'way'; got {of!r}."
        raise ParameterError(message)
    if set(curve.dims) != {"layer", "step"} or curve.sizes["step"] < 2:
        message = f"A curve of convergence has the dimensions layer and step, with two steps or more; got {dict(curve.sizes)}. Record more often, or leave out `at`."
        raise ShapeError(message)
    if of == "final" and curve.attrs.get("orientation") == "distance":
        message = f"{curve.name} is a distance, which has no fraction of its final value 0; use of='way'."
        raise ParameterError(message)
    ends = curve["step"].values[-1]
    if (against := curve.attrs.get("against", ends)) != ends:
        message = f"The last step of a curve must be that of the state it is compared with, {against}; it is {ends}. Take convergence(..., at=..., against=...) with steps that end there."
        raise ParameterError(message)
    values = np.asarray(curve.transpose("layer", "step").values, dtype=float)
    steps = np.asarray(curve["step"].values, dtype=float)
    times = [_crossing(row, steps, fraction, of) for row in values]
    found = curve.isel(step=0, drop=True).transpose("layer").copy(data=np.array(times)).rename("time")
    found.attrs = {"fraction": fraction, "of": of, "measure": curve.attrs.get("measure"), "units": "steps"}
    lost = [str(name) for name, row in zip(found["layer"].values, values, strict=True) if not math.isfinite(row[-1])]
    if "diverged" in curve.attrs:
        found.attrs["diverged"] = curve.attrs["diverged"]
        if lost:
            text = f"{_diverged(found)}, so that {len(lost)} of {len(values)} layers have no time (first: {lost[0]}). {_INSTEAD}"
            warnings.warn(CongruenceWarning(Caveat("diverged", text)), stacklevel=2)
    return found


_INSTEAD = "Take the curve up to the last finite step: run.convergence(..., at=run.finite, against=run.finite[-1])."


def _diverged(times: xr.DataArray) -> str:
    """Return that the run diverged, in words."""
    return f"The run diverged at step {times.attrs['diverged']}"


def _crossing(values: Numbers, steps: Numbers, fraction: float, of: Of) -> float:
    """Return when one curve first reaches its threshold."""
    first, last = values[0], values[-1]
    start = 0.0 if of == "final" else first
    way = last - start
    if not (math.isfinite(first) and math.isfinite(last)) or way == 0:
        return math.nan
    share = (values - start) / way  # 1 at the end, whether the curve rises or falls
    reached = np.flatnonzero(share >= fraction)
    k = int(reached[0])
    if k == 0:
        return float(steps[0])
    before = np.flatnonzero(np.isfinite(share[:k]))[-1]  # the first is
    part = (fraction - share[before]) / (share[k] - share[before])
    return float(steps[before] + part * (steps[k] - steps[before]))


@dataclass(frozen=True)
class DepthTest:
    """Whether a number per layer grows with depth, over one training run or several.

    Parameters
    ----------
    correlation : float
        Spearman's rank correlation of depth and the number, averaged over the runs; 1 where it always grows, 0 where
        they have nothing to do with each other, -1 where it always falls.
    p : float
        Share of the relabellings of the layers, each run by itself, with as large a mean correlation or a larger one.
    low, high : float
        95 % interval of the mean from resampled runs; NaN for one run.
    runs : tuple of float
        The correlation of every run.
    layers : tuple of str
        The layers, lowest first.
    exact : bool
        Whether all relabellings were computed; otherwise `p` is from a random sample and includes the observed one.
    left_out : int
        Values that are NaN and were left out, over all runs.
    """

    correlation: float
    p: float
    low: float
    high: float
    runs: tuple[float, ...]
    layers: tuple[str, ...]
    exact: bool
    left_out: int = 0


@dataclass(frozen=True)
class BottomUp:
    """The bottom-up statistic, over the hidden layers and over all of them.

    Parameters
    ----------
    hidden, all : DepthTest
        Without and with the layers that are not hidden: the top layers need not follow (Raghu et al. 2017, 4.1).
    """

    hidden: DepthTest
    all: DepthTest


def bottom_up(
    times: xr.DataArray | Sequence[xr.DataArray],
    hidden: Sequence[str] | None = None,
    *,
    depth: Sequence[str] | None = None,
    relabellings: int = 20_000,
    resamples: int = 10_000,
    seed: int = 0,
) -> BottomUp:
    """Test whether lower layers converge first.

    The statistic is Spearman's rank correlation of depth and time to converge, averaged over training runs that differ
    in their seeds. Under the null hypothesis the layers of a run are exchangeable, so that p counts relabellings of the
    layers, independently in every run: all of them where there are at most 50,000, otherwise a random sample.

    Parameters
    ----------
    times : xarray.DataArray of shape (layer,), or a sequence of them
        One for each run; see `time_to`. All name the same layers.
    hidden : sequence of str, optional
        The hidden layers; by default all but the last in `depth`.
    depth : sequence of str, optional
        The layers from the lowest to the highest; by default in the order of the first run.
    relabellings, resamples : int
        Size of a random sample of relabellings, and number of resampled sets of runs for the interval.
    seed : int
        Of the random numbers.

    Returns
    -------
    BottomUp

    Raises
    ------
    UnknownNameError
        If a layer is missing from a run.
    DegenerateError
        If a run has fewer than two layers with a time, such as one that diverged, or all its times are equal.
    """
    listed = [times] if not isinstance(times, Sequence) else list(times)
    if not listed:
        message = "Give the times of at least one run."
        raise ParameterError(message)
    order = [str(name) for name in (listed[0]["layer"].values if depth is None else depth)]
    chosen = order[:-1] if hidden is None else [name for name in order if name in set(hidden)]
    for name in () if hidden is None else hidden:
        if name not in order:
            raise _unknown(name, order)
    tests = [
        depth_test(listed, names, relabellings=relabellings, resamples=resamples, seed=seed)
        for names in (chosen, order)
    ]
    return BottomUp(*tests)


def depth_test(
    runs: Sequence[xr.DataArray],
    layers: Sequence[str],
    *,
    relabellings: int = 20_000,
    resamples: int = 10_000,
    seed: int = 0,
) -> DepthTest:
    """Test whether a number per layer grows with depth; see `bottom_up`.

    Parameters
    ----------
    runs : sequence of xarray.DataArray, shape (layer,)
        The numbers of every run.
    layers : sequence of str
        The layers, lowest first.
    relabellings, resamples, seed
        See `bottom_up`.

    Returns
    -------
    DepthTest
    """
    generator = np.random.default_rng(seed)
    columns = [_finite(run, layers) for run in runs]
    ranks = [_standard_ranks(column, layers, run) for column, run in zip(columns, runs, strict=True)]
    observed = np.array([float(depth @ value) for depth, value in ranks])
    p, exact = _share(ranks, float(observed.mean()), relabellings, generator)
    low, high = math.nan, math.nan
    if len(runs) > 1:
        drawn = generator.integers(len(runs), size=(resamples, len(runs)))
        low, high = (float(end) for end in np.quantile(observed[drawn].mean(axis=1), [0.025, 0.975]))
    left_out = sum(len(layers) - int(np.isfinite(column).sum()) for column in columns)
    return DepthTest(float(observed.mean()), p, low, high, tuple(observed.tolist()), tuple(layers), exact, left_out)


def _unknown(name: str, known: Iterable[str]) -> UnknownNameError:
    return UnknownNameError(f"The times have no layer '{name}'. {closest(name, known)}")


def _finite(run: xr.DataArray, layers: Sequence[str]) -> Numbers:
    """Return the numbers of a run in the order of the layers."""
    known = [str(name) for name in run["layer"].values]
    for name in layers:
        if name not in known:
            raise _unknown(name, known)
    return np.asarray(run.sel(layer=list(layers)).values, dtype=float)


def _standard_ranks(values: Numbers, layers: Sequence[str], run: xr.DataArray) -> tuple[Numbers, Numbers]:
    """Return ranks of depth and of the numbers, centred and of length one: their product is Spearman's correlation."""
    from scipy import stats

    kept = np.flatnonzero(np.isfinite(values))
    if kept.size < 2 or np.unique(values[kept]).size < 2:
        shown = ", ".join(f"{name} {value:g}" for name, value in zip(layers, values, strict=True))
        remedy = (
            f"{_diverged(run)}. {_INSTEAD}"
            if "diverged" in run.attrs
            else "Record more often, or choose another fraction."
        )
        message = f"Layers that all have the same time, or none, have no order: {shown}. {remedy}"
        raise DegenerateError(message)
    return _standard(np.arange(kept.size, dtype=float)), _standard(stats.rankdata(values[kept]))


def _standard(values: Numbers) -> Numbers:
    centred = values - values.mean()
    return np.asarray(centred / np.linalg.norm(centred))


def _share(
    ranks: Sequence[tuple[Numbers, Numbers]], observed: float, count: int, generator: np.random.Generator
) -> tuple[float, bool]:
    """Return the share of relabellings whose mean correlation is at least the observed one, and whether all were done."""
    least = observed - 1e-12  # equal correlations that were summed in another order
    if math.prod(math.factorial(depth.size) for depth, _ in ranks) <= _EXACT:
        each = [
            [float(depth[list(order)] @ value) for order in itertools.permutations(range(depth.size))]
            for depth, value in ranks
        ]
        means = np.array([math.fsum(found) / len(ranks) for found in itertools.product(*each)])
        return float(np.mean(means >= least)), True
    total = np.zeros(count)
    for depth, value in ranks:
        total += generator.permuted(np.tile(depth, (count, 1)), axis=1) @ value
    return (1 + int(np.sum(total / len(ranks) >= least))) / (1 + count), False
