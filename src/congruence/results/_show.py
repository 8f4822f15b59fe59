"""How a Comparison looks in a terminal and in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from congruence import figures
from congruence.results.markup import escape

if TYPE_CHECKING:
    import xarray as xr

    from congruence.results._comparison import Comparison

MOST_NAMES = 12
MOST_MEASURES = 8
_CELL = "padding:2px 6px;border:0;white-space:nowrap"


# ---- terminal --------------------------------------------------------------------------------------------------------


def as_text(comparison: Comparison) -> str:
    """Return one line for each measure: the spread of its values, and how many failed or carry a warning."""
    rows: list[tuple[str, ...]] = [("measure", "least", "median", "greatest", "ok", "failed", "skipped", "warned")]
    rows += [_counts(comparison, label) for label in comparison.measures]
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    table = ["  " + "  ".join(_aligned(cell, k, widths) for k, cell in enumerate(row)).rstrip() for row in rows]
    sides = [f"  {side}: {_few(names)}" for side, names in (("a", comparison.a), ("b", comparison.b))]
    return "\n".join([f"Comparison: {_size(comparison)}", *table, *sides])


def _size(comparison: Comparison) -> str:
    measures = len(comparison.measures)
    return f"{len(comparison.a)} x {len(comparison.b)} representations, {measures} measure{'s' if measures > 1 else ''}"


def _counts(comparison: Comparison, label: str) -> tuple[str, ...]:
    cells = comparison.dataset.sel(measure=label)
    values = cells["value"].values
    known = values[~np.isnan(values)]
    spread = [f"{f(known):.4g}" for f in (np.min, np.median, np.max)] if known.size else ["-"] * 3
    status = cells["status"].values
    counts = [np.count_nonzero(status == kind) for kind in ("ok", "failed", "skipped")]
    return (label, *spread, *map(str, counts), str(np.count_nonzero(cells["warnings"].values != "")))


def _aligned(cell: str, column: int, widths: Sequence[int]) -> str:
    return cell.ljust(widths[0]) if column == 0 else cell.rjust(widths[column])


def _few(names: Sequence[str], most: int = 6) -> str:
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[: most // 2])}, ... ({len(names)} names), {', '.join(names[-2:])}"


# ---- notebook --------------------------------------------------------------------------------------------------------


def as_html(comparison: Comparison) -> str:
    """Return one small coloured table for each measure; long axes and long lists of measures are cut, and say so."""
    shown = comparison.measures[:MOST_MEASURES]
    tables = "".join(_matrix(comparison, label) for label in shown)
    left_out = len(comparison.measures) - len(shown)
    more = f"<p>{left_out} more measures: see <code>.measures</code>.</p>" if left_out else ""
    counts = {
        kind: int(np.count_nonzero(comparison.dataset["status"].values == kind)) for kind in ("failed", "skipped")
    }
    warned = int(np.count_nonzero(comparison.dataset["warnings"].values != ""))
    notes = [f"{number} {what}" for what, number in (*counts.items(), ("with warnings", warned)) if number]
    heading = f"<p><b>Comparison</b>: {_size(comparison)}{' (' + ', '.join(notes) + ')' if notes else ''}</p>"
    return f'<div style="font-variant-numeric:tabular-nums">{heading}{tables}{more}</div>'


def _matrix(comparison: Comparison, label: str) -> str:
    info, values = comparison.infos[label], comparison.matrix(label)
    colours = figures.colour_scale(values, info)
    rows, columns = _shown(len(comparison.a)), _shown(len(comparison.b))
    status = comparison.dataset["status"].sel(measure=label).values
    head = "".join(_name(comparison.b, j) for j in columns)
    body = "".join(
        f"<tr>{_name(comparison.a, i)}{''.join(_value(values, status, i, j, colours) for j in columns)}</tr>"
        for i in rows
    )
    caption = f"{escape(label)} <small>({info.orientation}, identical: {info.identity:g})</small>"
    return (
        f'<table style="display:inline-table;margin:0 1.5em 1em 0;border-collapse:collapse;font-size:85%">'
        f'<caption style="text-align:left"><b>{caption}</b></caption>'
        f"<thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _shown(count: int) -> list[int | None]:
    """Return the indices that are shown, None standing for those left out between."""
    if count <= MOST_NAMES:
        return list(range(count))
    half = MOST_NAMES // 2
    return [*range(half), None, *range(count - half, count)]


def _name(names: Sequence[str], index: int | None) -> str:
    if index is None:
        return f'<th style="{_CELL}">…</th>'
    return f'<th style="{_CELL};text-align:right" title="{escape(names[index])}">{escape(_cut(names[index]))}</th>'


def _cut(name: str, most: int = 24) -> str:
    return name if len(name) <= most else f"…{name[-most + 1 :]}"


def _value(values: xr.DataArray, status: np.ndarray, i: int | None, j: int | None, colours: figures.ColourScale) -> str:
    if i is None or j is None:
        return f'<td style="{_CELL};text-align:center">…</td>'
    value = float(values.values[i, j])
    if np.isnan(value):
        return f'<td style="{_CELL};text-align:center" title="{escape(status[i, j])}">–</td>'
    back, ink = colours.colour(value)
    return f'<td style="{_CELL};text-align:right;background:{back};color:{ink}" title="{value!r}">{value:.3f}</td>'
