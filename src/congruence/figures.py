"""Pictures of labelled arrays, and the choices that they share: colours, and which pairs make a curve over depth.

The more alike, the brighter (around 0: the bluer). The first layer is at the top left, as in the order of execution.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from congruence.measures import MeasureInfo
from congruence.validate import require_extra

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

Scale = Literal["range", "data"]
CurveKind = Literal["matched", "next", "best"]

# Stops of viridis, and orange - grey - blue: even in lightness, and told apart by readers who are colour-blind.
PALETTES: dict[str, tuple[str, ...]] = {
    "sequential": (
        "#440154", "#482475", "#414487", "#355f8d", "#2a788e", "#21918c",
        "#22a884", "#44bf70", "#7ad151", "#bddf26", "#fde725",
    ),
    "diverging": (
        "#7f3b08", "#b25706", "#e08214", "#fcb761", "#fee0b6", "#f6f6f7",
        "#d1e5f0", "#90c4dd", "#4393c3", "#2065ab", "#053061",
    ),
}  # fmt: skip
MISSING = "#c9c9c9"
MOST_TICKS = 32
MOST_NUMBERS = 14
_MIDDLE_GREY = 128.0
_SAME = 1e-6  # a value this close to the identity is that of a representation and itself


# ---- colours ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ColourScale:
    """Colours from `low` to `high`, evenly spaced stops as hexadecimal numbers."""

    stops: tuple[str, ...]
    low: float
    high: float

    def colour(self, value: float) -> tuple[str, str]:
        """Return the colour of a number, and black or white, whichever can be read on it."""
        place = float(np.clip((value - self.low) / (self.high - self.low), 0, 1)) * (len(self.stops) - 1)
        k = min(int(place), len(self.stops) - 2)
        first, second = (np.array(list(bytes.fromhex(stop[1:])), dtype=float) for stop in self.stops[k : k + 2])
        red, green, blue = first + (place - k) * (second - first)
        back = f"#{round(red):02x}{round(green):02x}{round(blue):02x}"
        return back, "#ffffff" if 0.299 * red + 0.587 * green + 0.114 * blue < _MIDDLE_GREY else "#000000"


def colour_scale(values: xr.DataArray, info: MeasureInfo, scale: Scale = "range") -> ColourScale:
    """Return the colours that suit a measure.

    Parameters
    ----------
    values : xarray.DataArray
        The values to be shown.
    info : MeasureInfo
        Range and orientation: similarities in [0, 1] get a sequential palette, ranges around 0 a diverging one, and
        distances the reverse.
    scale : {"range", "data"}
        Span the range of the measure (an infinite end is replaced by the data's), or the data.

    Returns
    -------
    ColourScale
    """
    finite = values.values[np.isfinite(values.values)]
    least, greatest = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    low, high = info.range if scale == "range" else (least, greatest)
    low, high = (low if math.isfinite(low) else least), (high if math.isfinite(high) else greatest)
    diverging = info.range[0] < 0 < info.range[1]
    if diverging:
        reach = max(abs(low), abs(high))
        low, high = -reach, reach
    if not low < high:
        low, high = low - 0.5, low + 0.5
    stops = PALETTES["diverging" if diverging else "sequential"]
    return ColourScale(stops if info.orientation == "similarity" else stops[::-1], low, high)


# ---- curves ----------------------------------------------------------------------------------------------------------


def curve_kind(matrices: Iterable[tuple[xr.DataArray, MeasureInfo]]) -> CurveKind:
    """Return which pairs make a curve over depth, the same for all measures of one comparison.

    Parameters
    ----------
    matrices : iterable of (xarray.DataArray (a, b), MeasureInfo)
        One for each measure.

    Returns
    -------
    {"matched", "next", "best"}
        matched: the pairs of equal names, if at least half of the shorter side has a namesake. next: each layer and the
        one after it, where the namesakes are identical because a network is compared with itself. best: each layer of
        side a and the most similar of side b.
    """
    matrices = list(matrices)
    a, b = (matrices[0][0][side].values.tolist() for side in ("a", "b"))
    if 2 * len(set(a) & set(b)) < min(len(a), len(b)):
        return "best"
    if a != b or len(a) < 2:
        return "matched"
    identical = all(
        np.allclose(np.diagonal(matrix.values), info.identity, rtol=0, atol=_SAME) for matrix, info in matrices
    )
    after = any(np.isfinite(np.diagonal(matrix.values, offset=1)).any() for matrix, _ in matrices)
    return "next" if identical and after else "matched"


def depth_curve(values: xr.DataArray, info: MeasureInfo, kind: CurveKind | None = None) -> xr.DataArray:
    """Return one value for each layer of side a, in execution order.

    Parameters
    ----------
    values : xarray.DataArray, shape (a, b)
        Values of one measure.
    info : MeasureInfo
        Its description.
    kind : {"matched", "next", "best"}, optional
        Which pairs; by default as `curve_kind` finds.

    Returns
    -------
    xarray.DataArray, shape (layer,)
        With coordinates layer (name in a) and partner (name in b); the attribute `kind` says which pairs they are.
    """
    import pandas as pd
    import xarray as xr

    kind = kind or curve_kind([(values, info)])
    a, b = values["a"].values, values["b"].values
    rows, columns = _pairs(values.values, info, kind, a.tolist(), b.tolist())
    layers, partners = (pd.Index(names, dtype=object) for names in (a[rows], b[columns]))  # Arrow holds no surrogates
    coordinates = {"layer": layers, "partner": ("layer", partners)}
    attributes = {"kind": kind, **values.attrs}
    return xr.DataArray(values.values[rows, columns], coordinates, ("layer",), name=values.name, attrs=attributes)


def curve_places(matrix: xr.DataArray, curve: xr.DataArray) -> tuple[list[int], list[int]]:
    """Return the rows and columns of a matrix, shape (a, b), that a curve of `depth_curve` runs through.

    A look-up by names would pass them through pandas, whose texts may be Arrow's and hold no surrogates.
    """
    rows, columns = ({name: k for k, name in enumerate(matrix[dim].values.tolist())} for dim in ("a", "b"))
    layers, partners = curve["layer"].values.tolist(), curve["partner"].values.tolist()
    return [rows[name] for name in layers], [columns[name] for name in partners]


def _pairs(
    values: np.ndarray[Any, Any], info: MeasureInfo, kind: CurveKind, a: Sequence[str], b: Sequence[str]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    if kind == "matched":
        place = {name: j for j, name in enumerate(b)}
        shared = [i for i, name in enumerate(a) if name in place]
        return np.array(shared, dtype=int), np.array([place[a[i]] for i in shared], dtype=int)
    if kind == "next":
        rows = np.arange(len(a) - 1)
        return rows, rows + 1
    alike = values if info.orientation == "similarity" else -values
    return np.arange(len(a)), np.argmax(np.where(np.isnan(alike), -np.inf, alike), axis=1)


# ---- pictures --------------------------------------------------------------------------------------------------------


def heatmap(values: xr.DataArray, info: MeasureInfo, *, scale: Scale = "range", ax: Axes | None = None) -> Axes:
    """Draw a matrix with the names of its rows and columns.

    Parameters
    ----------
    values : xarray.DataArray, shape (a, b)
        Values of one measure; NaN is drawn hatched.
    info : MeasureInfo
        Its description, which decides on the colours.
    scale : {"range", "data"}
        Whether the colours span the range of the measure or the data.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default a new figure of a size that fits.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    colors = require_extra("matplotlib.colors", "plot", "Plotting")
    rows, columns = values.shape
    ax = ax if ax is not None else _new_axes(width=_side(columns) + 2.4, height=_side(rows) + 1.2)
    colours = colour_scale(values, info, scale)
    palette = colors.LinearSegmentedColormap.from_list("congruence", colours.stops)
    ax.set_facecolor(MISSING)
    ax.patch.set(hatch="////", edgecolor="white")
    image = ax.imshow(
        values.values, cmap=palette, vmin=colours.low, vmax=colours.high, aspect="equal", interpolation="nearest"
    )
    _name_ticks(ax, "x", values["b"].values.tolist())
    _name_ticks(ax, "y", values["a"].values.tolist())
    ax.set(title=info.label, xlabel="b", ylabel="a")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=2, labelsize=8)
    if max(rows, columns) <= MOST_NUMBERS:
        _write_numbers(ax, values.values, colours)
    bar = ax.figure.colorbar(image, ax=ax, fraction=0.046, pad=0.03)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=2, labelsize=8)
    bar.set_label(f"{info.orientation} (top: more alike)", fontsize=8)
    if info.orientation == "distance":
        bar.ax.invert_yaxis()
    return ax


def layer_curve(
    values: xr.DataArray, info: MeasureInfo, *, level: xr.DataArray | None = None, ax: Axes | None = None
) -> Axes:
    """Draw one value for each layer over the depth of the network; see `depth_curve` for which.

    Parameters
    ----------
    values : xarray.DataArray, shape (a, b)
        Values of one measure.
    info : MeasureInfo
        Its description.
    level : xarray.DataArray, shape (a, b), optional
        What unrelated data would give, drawn dotted.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    curve = depth_curve(values, info)
    places = np.arange(curve.size)
    ax = ax if ax is not None else _new_axes(width=6.4, height=3.4 + 0.08 * _longest(curve["layer"].values.tolist()))
    (line,) = ax.plot(places, curve.values, marker="o", markersize=4, linewidth=1.6, label=info.label)
    if level is not None and np.isfinite(level.values).any():
        known = level.values[curve_places(level, curve)]
        ax.plot(places, known, linestyle=":", color=line.get_color(), label="unrelated data")
    _name_ticks(ax, "x", curve["layer"].values.tolist())
    ax.set(title=CURVES[curve.attrs["kind"]], ylabel=info.label)
    ax.grid(axis="y", alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(length=2, labelsize=8)
    ax.legend(frameon=False, fontsize=8)
    return ax


CURVES: dict[CurveKind, str] = {
    "matched": "Each layer and its namesake",
    "next": "Each layer and the next",
    "best": "Each layer of a and the most similar of b",
}
"""What the curve of each kind shows."""


# ---- curves and points of studies ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Series:
    """Numbers to draw under one name, with an interval around each y if `low` and `high` are given.

    Parameters
    ----------
    label : str
        Name in the legend.
    x, y : array, shape (n,)
        Where.
    low, high : array, shape (n,), optional
        Ends of the intervals.
    """

    label: str
    x: Any
    y: Any
    low: Any = None
    high: Any = None


def curves(
    series: Sequence[Series], *, xlabel: str, ylabel: str, title: str = "", log: str = "", ax: Axes | None = None
) -> Axes:
    """Draw lines with bands; `log` names the axes to draw logarithmically, such as ``"xy"``. Returns the axes.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    ax = ax if ax is not None else _new_axes(width=6.0, height=4.0)
    for one in series:
        (line,) = ax.plot(one.x, one.y, marker="o", markersize=4, linewidth=1.6, label=one.label)
        if one.low is not None and one.high is not None:
            ax.fill_between(one.x, one.low, one.high, color=line.get_color(), alpha=0.2, linewidth=0)
    _finished(ax, xlabel, ylabel, title, log, legend=any(one.label for one in series))
    places = sorted({float(x) for one in series for x in one.x})
    if "x" in log and len(places) <= 10:  # the places themselves, and no powers of ten between them
        ax.set_xticks(places, [f"{place:g}" for place in places])
        ax.set_xticks([], minor=True)
    return ax


def points(
    series: Sequence[Series],
    *,
    xlabel: str,
    ylabel: str,
    title: str = "",
    log: str = "",
    slope: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw points, and a line through the origin with a slope if one is given. Returns the axes.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    ax = ax if ax is not None else _new_axes(width=5.0, height=4.4)
    for one in series:
        ax.scatter(one.x, one.y, s=12, alpha=0.7, linewidths=0, label=one.label)
    if slope is not None:
        low, high = ax.get_xlim()
        smallest = min(float(np.min(one.x)) for one in series)
        ends = np.geomspace(smallest, high, 50) if "x" in log else np.linspace(max(low, 0), high, 50)
        ax.plot(ends, slope * ends, color="black", linewidth=1, linestyle="--")
    return _finished(ax, xlabel, ylabel, title, log, legend=any(one.label for one in series))


def _finished(ax: Axes, xlabel: str, ylabel: str, title: str, log: str, *, legend: bool) -> Axes:
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    if "x" in log:
        ax.set_xscale("log")
    if "y" in log:
        ax.set_yscale("log")
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(length=2, labelsize=8)
    if legend:
        ax.legend(frameon=False, fontsize=8)
    return ax


def save_figure(ax: Axes, path: Path) -> Path:
    """Write the figure of some axes as PNG and close it; returns the path."""
    pyplot = require_extra("matplotlib.pyplot", "plot", "Plotting")
    pyplot.sca(ax)
    figure = pyplot.gcf()
    figure.savefig(path, dpi=150)  # that of pyplot draws everything once more
    pyplot.close(figure)
    return path


def _new_axes(width: float, height: float) -> Axes:
    pyplot = require_extra("matplotlib.pyplot", "plot", "Plotting")
    _, ax = pyplot.subplots(figsize=(width, height), layout="constrained")
    found: Axes = ax
    return found


def axes_in_a_row(count: int, *, width: float = 4.2, height: float = 3.8) -> list[Axes]:
    """Return the axes of a new figure with so many panes beside each other."""
    pyplot = require_extra("matplotlib.pyplot", "plot", "Plotting")
    _, axes = pyplot.subplots(1, count, figsize=(width * count, height), layout="constrained", squeeze=False)
    return list(axes[0])


def _side(count: int) -> float:
    """Return the length of an axis in inches: room for every name while there are few."""
    return float(np.clip(0.42 * count, 2.4, 9.0))


def _longest(names: Sequence[str]) -> int:
    return max((len(_short(name)) for name in names), default=0)


def _name_ticks(ax: Axes, axis: Literal["x", "y"], names: Sequence[str]) -> None:
    """Name every tick, or every k-th where there are too many to read."""
    step = math.ceil(len(names) / MOST_TICKS)
    shown = range(0, len(names), step)
    # a dollar sign would start a formula
    labels = [_short(names[i]).replace("$", r"\$") for i in shown]
    if axis == "y":
        ax.set_yticks(list(shown), labels)
    elif sum(map(len, labels)) <= 60:
        ax.set_xticks(list(shown), labels)
    else:
        turn = 90 if len(labels) > 16 else 45
        ax.set_xticks(list(shown), labels, rotation=turn, rotation_mode="anchor", ha="right", va="center")


def _short(name: str, most: int = 40) -> str:
    """Return a name whose middle is left out if it is long: layers differ at the ends."""
    return name if len(name) <= most else f"{name[: most // 2 - 1]}…{name[-most // 2 :]}"


def _write_numbers(ax: Axes, values: np.ndarray[Any, Any], colours: ColourScale) -> None:
    for (i, j), value in np.ndenumerate(values):
        if not np.isnan(value):
            _, ink = colours.colour(value)
            ax.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=7, color=ink)
