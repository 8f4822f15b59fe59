"""The numbers in the page: compressed arrays, small enough to open at once, exact as long as that is possible."""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from congruence import figures
from congruence.figures import Scale
from congruence.measures import MeasureInfo
from congruence.reporting._view import View
from congruence.results import Comparison
from congruence.results.markup import visible
from congruence.results.text import coded, read_caveats

if TYPE_CHECKING:
    import xarray as xr

Numbers = np.ndarray[Any, Any]

MOST_EXACT = 500_000
"""Numbers in the page that keep all digits; beyond it they have seven."""
MOST_CELLS = 3_000_000
"""Numbers in the page; beyond it a cell is the mean of a block."""


def payload(view: View) -> dict[str, Any]:
    """Return what `page.js` draws, as plain data."""
    comparison = view.comparison
    cells = comparison.dataset["value"].size
    block = math.ceil(math.sqrt(cells / MOST_CELLS))
    exact = cells <= MOST_EXACT
    return {
        "a": _blocks(comparison.a, block),
        "b": _blocks(comparison.b, block),
        "block": block,
        "bytes": 8 if exact else 4,
        "matrices": [_matrix(view, label, block, "<f8" if exact else "<f4") for label in comparison.measures],
        "curve": _curve(view),
    }


def _matrix(view: View, label: str, block: int, dtype: str) -> dict[str, Any]:
    """Return one measure: numbers, colours for both scales, and what is said of each cell."""
    values, info = view.matrices[label], view.comparison.infos[label]
    notes, texts = _notes(view.comparison, label)
    levels, errors = view.levels[label].values, _errors(view.comparison, label)
    whole = block == 1
    return {
        "scales": {scale: _scale(values, info, scale) for scale in ("range", "data")},
        "values": _packed(values.values if whole else mean_of_blocks(values.values, block), dtype),
        "notes": _packed(notes, "<u4") if whole else None,
        "texts": texts if whole else [""],
        "levels": _packed(levels, "<f4") if whole and np.isfinite(levels).any() else None,
        "errors": _packed(errors, "<f4") if whole and errors is not None else None,
    }


def _errors(comparison: Comparison, label: str) -> Numbers | None:
    """Return the standard errors of one measure, where they were estimated."""
    if "standard_error" not in comparison.dataset:
        return None
    return np.asarray(comparison.dataset["standard_error"].sel(measure=label).values)


def _scale(values: xr.DataArray, info: MeasureInfo, scale: Scale) -> dict[str, Any]:
    colours = figures.colour_scale(values, info, scale)
    return {"low": colours.low, "high": colours.high, "stops": colours.stops}


def _notes(comparison: Comparison, label: str) -> tuple[Numbers, list[str]]:
    """Return for each cell the number of its note, 0 for none, and the notes."""
    cells = comparison.dataset.sel(measure=label)
    status, reason = cells["status"].values, cells["reason"].values
    said = coded(cells["warnings"].values).through(lambda text: ", ".join(c.code for c in read_caveats(text)))
    said[status == "skipped"] = "not asked for"
    failed = status == "failed"
    said[failed] = ["failed: " + text for text in reason[failed]]
    found = coded(np.concatenate([np.array([""], dtype=object), said.ravel()]))
    return found.codes[1:], list(map(visible, found.values))


def mean_of_blocks(values: Numbers, size: int) -> Numbers:
    """Return the means of size x size blocks (smaller at the ends), of what is not NaN in them."""
    known = ~np.isnan(values)
    sums, counts = (_sum_of_blocks(part, size) for part in (np.where(known, values, 0.0), known.astype(float)))
    return np.asarray(np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0))


def _sum_of_blocks(values: Numbers, size: int) -> Numbers:
    for axis in (0, 1):
        values = np.asarray(np.add.reduceat(values, np.arange(0, values.shape[axis], size), axis=axis))
    return values


def _blocks(names: Sequence[str], size: int) -> list[str]:
    """Return the names of the rows or columns that are shown."""
    names = list(map(visible, names))
    if size == 1:
        return names
    return [f"{names[k]} … {names[min(k + size, len(names)) - 1]}" for k in range(0, len(names), size)]


def _curve(view: View) -> dict[str, Any]:
    """Return the curves over depth."""
    layers = list(map(visible, next(iter(view.curves.values()))["layer"].values))
    series = []
    for label, curve in view.curves.items():
        levels = view.levels[label]
        level = levels.values[figures.curve_places(levels, curve)]
        series.append(
            {
                "label": label,
                "group": panel(view.comparison.infos[label]),
                "partners": list(map(visible, curve["partner"].values)),
                "values": _plain(curve.values),
                "levels": _plain(level),
            }
        )
    return {"kind": view.kind, "layers": layers, "series": series}


def panel(info: MeasureInfo) -> str:
    """Return the heading under which a measure is drawn: only measures of comparable range share axes."""
    if not all(map(math.isfinite, info.range)):
        return info.label
    return "Similarities" if info.orientation == "similarity" else "Distances"


def _plain(values: Numbers) -> list[float | None]:
    return [float(value) if math.isfinite(value) else None for value in values]


def _packed(values: Numbers, dtype: str) -> str:
    """Return the array as base64 of its zlib-compressed bytes, which browsers unpack themselves."""
    return base64.b64encode(zlib.compress(np.ascontiguousarray(values, dtype=dtype).tobytes(), 6)).decode("ascii")
