"""What the page says in words: what was compared, and what came out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from congruence.figures import CurveKind, curve_places
from congruence.measures import MeasureInfo
from congruence.results import Comparison
from congruence.results.markup import escape

if TYPE_CHECKING:
    import xarray as xr


def number(value: float) -> str:
    """Return a number as a table shows it."""
    if math.isnan(value):
        return "–"
    return f"{value:.4f}" if 1e-3 <= abs(value) < 10 or value == 0 else f"{value:.4g}"


def count(amount: int, singular: str, plural: str = "") -> str:
    """Return an amount with its noun."""
    return f"{amount:,} {singular if amount == 1 else plural or singular + 's'}"


# ---- what was compared -----------------------------------------------------------------------------------------------


def title(comparison: Comparison) -> str:
    """Return the heading of the page."""
    names = sides(comparison.provenance)
    if len(names) == 2:
        return f"{names[0]} compared with {names[1]}"
    if len(names) == 1:
        return f"The layers of {names[0]} compared with one another"
    return f"{len(comparison.a)} × {len(comparison.b)} representations compared"


def axes(comparison: Comparison) -> str:
    """Return which side the rows are and which the columns."""
    names = sides(comparison.provenance)
    return f"Rows: {names[0]}, columns: {names[-1]}." if names else "Rows: side a, columns: side b."


def sides(provenance: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what the provenance calls the two sides (or the one): model, else file; nothing if it does not say."""
    inputs = provenance.get("inputs")
    if not isinstance(inputs, Mapping):
        return ()
    listed = [entries for entries in (inputs.get("a"), inputs.get("b")) if isinstance(entries, list)]
    for name_of in (_model, _file):
        names = [{name_of(entry) for entry in entries if isinstance(entry, Mapping)} for entries in listed]
        if all(len(found) == 1 and None not in found for found in names):
            unique = tuple(str(found.pop()) for found in names)
            if len(set(unique)) == len(unique):
                return unique
    return ()


def _model(entry: Mapping[str, Any]) -> str | None:
    origin = entry.get("origin")
    return origin.get("model") if isinstance(origin, Mapping) else None


def _file(entry: Mapping[str, Any]) -> str | None:
    """Return the stem of the file or store of an input whose source reads ``"NAME in PATH"``."""
    _, found, path = str(entry.get("source", "")).partition(" in ")
    return PurePath(path).stem if found else None


def lead(comparison: Comparison) -> str:
    """Return one sentence on how much was compared."""
    rows, columns, measures = len(comparison.a), len(comparison.b), len(comparison.measures)
    stimuli = int(comparison.dataset["n"].values.max())
    shared = len(set(comparison.a) & set(comparison.b))
    parts = [f"{count(rows, 'representation')} (rows) and {columns:,} (columns)"]
    if shared:
        parts.append("all of the same names" if shared == rows == columns else f"{count(shared, 'name')} in common")
    if stimuli:
        parts.append(f"on the same {count(stimuli, 'stimulus', 'stimuli')}")
    return f"{', '.join(parts)}, by {count(measures, 'measure')}."


# ---- what came out ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Glance:
    """One measure in the summary: the ends of its curve, as (value, layer, partner), and how many layers find their own.

    `own` and `rows`: of so many layers with a namesake, so many are most alike to it; None where that is not known.
    """

    label: str
    least: tuple[float, str, str]
    most: tuple[float, str, str]
    own: int | None
    rows: int


def glance(comparison: Comparison, label: str, curve: xr.DataArray) -> Glance | None:
    """Return the summary of one measure, or None if its curve has no value."""
    known = curve.where(np.isfinite(curve), drop=True)
    if not known.size:
        return None
    info = comparison.infos[label]
    alike = known.values if info.orientation == "similarity" else -known.values
    ends = [
        (float(known.values[k]), str(known["layer"].values[k]), str(known["partner"].values[k]))
        for k in (int(np.argmin(alike)), int(np.argmax(alike)))
    ]
    own, rows = _own(comparison.matrix(label), info, curve) if curve.attrs["kind"] == "matched" else (None, 0)
    return Glance(label, ends[0], ends[1], own, rows)


def _own(matrix: xr.DataArray, info: MeasureInfo, curve: xr.DataArray) -> tuple[int | None, int]:
    """Count the layers of side a whose namesake in b is (one of) the most alike, among rows with others to choose."""
    rows = matrix.values[curve_places(matrix, curve)[0]]
    alike = rows if info.orientation == "similarity" else -rows
    own = curve.values if info.orientation == "similarity" else -curve.values
    usable = (np.count_nonzero(~np.isnan(rows), axis=1) > 1) & ~np.isnan(own)
    if not usable.any():
        return None, 0
    best = np.max(np.where(np.isnan(alike), -np.inf, alike), axis=1)
    return int(np.count_nonzero(own[usable] >= best[usable])), int(np.count_nonzero(usable))


def findings(kind: CurveKind, glances: list[Glance]) -> str:
    """Return, as HTML, which layers moved most and least, as far as the measures agree."""
    if not glances:
        return "There is no layer-by-layer curve: none of its pairs was computed."
    if kind == "matched" and all(glance.least == glance.most for glance in glances):
        return f"One layer has a namesake on the other side: <code>{escape(glances[0].most[1])}</code>."
    if kind == "matched":
        (most, by), (least, least_by) = _agreed(glances, "least"), _agreed(glances, "most")
        return f"Of the layers with the same name, {most[0]} differs most{by}, and {least[0]} least{least_by}."
    if kind == "next":
        (step, by) = _agreed(glances, "least")
        return (
            "Layers of equal names are identical, so each layer is set beside the one after it. "
            f"The greatest step is from {step[0]} to {step[1]}{by}."
        )
    return "The two sides have few names in common, so each layer of side a is set beside the most similar of side b."


def _agreed(glances: list[Glance], end: str) -> tuple[list[str], str]:
    """Return, as HTML, the layer and partner that most measures name, and how many do."""
    named = Counter(getattr(glance, end)[1:] for glance in glances)
    (layers, votes), total = named.most_common(1)[0], len(glances)
    by = "" if total == 1 else f" (by {'all' if votes == total else f'{votes} of'} {total} measures)"
    return [f"<code>{escape(layer)}</code>" for layer in layers], by
