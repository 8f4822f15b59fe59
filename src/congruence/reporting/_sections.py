"""The summary and the pictures of the page as HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from congruence import figures
from congruence.reporting import _cards, _words
from congruence.reporting._html import code, table
from congruence.reporting._payload import panel
from congruence.reporting._view import View
from congruence.reporting._words import Glance, count, number
from congruence.results import Comparison
from congruence.results.markup import escape

if TYPE_CHECKING:
    import xarray as xr

MOST_IN_TABLE = 24
"""Rows or columns up to which a matrix is also written as a table."""
MOST_LAYERS = 200


# ---- summary ---------------------------------------------------------------------------------------------------------


def counts(comparison: Comparison) -> str:
    """Return how many values there are, failed and carry a warning."""
    status, warned = comparison.dataset["status"].values, comparison.dataset["warnings"].values != ""
    done, failed, skipped = (int(np.count_nonzero(status == kind)) for kind in ("ok", "failed", "skipped"))
    items = [f"<li>{done:,} of {count(done + failed, 'value')} computed</li>"]
    if skipped:
        items.append(f"<li>{count(skipped, 'pair')} not asked for</li>")
    if failed:
        items.append(f'<li class="bad"><a href="#failures">{failed:,} failed</a></li>')
    if warned.any():
        items.append(f'<li class="care"><a href="#warnings">{np.count_nonzero(warned):,} to be read with care</a></li>')
    else:
        items.append("<li>none with a warning</li>")
    return "".join(items)


def summary(view: View) -> str:
    """Return the findings in words, and one row for each measure."""
    found = [_words.glance(view.comparison, label, curve) for label, curve in view.curves.items()]
    glances = [glance for glance in found if glance is not None]
    rows = [_glance_row(view.comparison, glance) for glance in glances]
    own = any(glance.own is not None for glance in glances)
    head = ["Measure", "Read as", "Most alike", "", "Least alike", ""] + ([_OWN] if own else [])
    rows = [row if own else row[:-1] for row in rows]
    caption = "" if not rows else table(head, rows, numbers=(2, 4))
    return f"<p>{_words.findings(view.kind, glances)}{_trust(view)}</p>{caption}"


_OWN = "Namesake is the most alike"


def _glance_row(comparison: Comparison, glance: Glance) -> list[str]:
    info, place = comparison.infos[glance.label], comparison.measures.index(glance.label)
    reading = f"{info.orientation}; {info.identity:g} is identical"
    ends = [cell for value, *pair in (glance.most, glance.least) for cell in (number(value), _pair(*pair))]
    own = "" if glance.own is None else f"{glance.own} of {glance.rows}"
    return [f'<a href="#measure-{place}">{escape(glance.label)}</a>', reading, *ends, own]


def _pair(layer: str, partner: str) -> str:
    return code(layer) if layer == partner else f"{code(layer)} and {code(partner)}"


def _trust(view: View) -> str:
    failed = sum(group.cells for group in view.failures)
    said = ""
    if view.caveats:
        listed = ", ".join(f"{code(group.name)} ({group.cells:,})" for group in view.caveats)
        said += f' Some values must be read with care: {listed}; see <a href="#warnings">warnings</a>.'
    if failed:
        said += f' {count(failed, "pair")} failed and {"has" if failed == 1 else "have"} no value; see <a href="#failures">failures</a>.'
    return said


# ---- pictures --------------------------------------------------------------------------------------------------------


def curve(view: View) -> str:
    """Return the place of the curves over depth, with their numbers as a table."""
    layers = next(iter(view.curves.values()))["layer"].values.tolist()
    groups = dict.fromkeys(panel(info) for info in view.comparison.infos.values())
    panels = "".join(
        f'<div class="panel" data-group="{escape(group)}"><p>{escape(group)}</p><svg role="img" aria-label="{escape(group)} over depth; the numbers are in the table below"></svg></div>'
        for group in groups
    )
    dotted = any(np.isfinite(level.values).any() for level in view.levels.values())
    hint = " Dotted: what unrelated data would give, where that is known." if dotted else ""
    return (
        f'<section id="layers"><h2>Layer by layer</h2><p class="hint">{figures.CURVES[view.kind]}, in execution order.{hint}</p>'
        f'<div class="chips" role="group" aria-label="Measures shown"></div><div class="panels">{panels}</div>{_curve_table(layers, view.curves)}</section>'
    )


def _curve_table(layers: Sequence[str], curves: Mapping[str, xr.DataArray]) -> str:
    rows = [
        [code(layer), *(number(float(c.values[k])) for c in curves.values())]
        for k, layer in enumerate(layers[:MOST_LAYERS])
    ]
    more = f"<p>{len(layers) - MOST_LAYERS} more layers are in comparison.csv.</p>" if len(layers) > MOST_LAYERS else ""
    head = ["Layer", *map(code, curves)]
    return f"<details><summary>The numbers</summary>{table(head, rows, numbers=range(1, len(head)), kind='values')}{more}</details>"


def measure(view: View, place: int) -> str:
    """Return one measure: its matrix, its card and its values as a table."""
    comparison = view.comparison
    label = comparison.measures[place]
    info, values = comparison.infos[label], view.matrices[label]
    known = values.values[np.isfinite(values.values)]
    span = f"from {number(known.min())} to {number(known.max())}" if known.size else "without values"
    described = f"Heatmap of {label}, {len(comparison.a)} rows and {len(comparison.b)} columns, {span}"
    alike = "right: more alike" if info.orientation == "similarity" else "left: more alike"
    return (
        f'<article id="measure-{place}"><header><h3>{escape(info.title[:1].upper() + info.title[1:])}</h3><p>{code(label)}, {span}</p></header>'
        f'<div class="map"><p class="scale"><span></span><i></i><span></span><span>{alike}</span></p>'
        f'<div><canvas id="matrix-{place}" tabindex="0" role="img" aria-label="{escape(described)}"></canvas></div>'
        f"{_key(comparison, label)}{_value_table(values)}</div>{_cards.card(info, _cost(comparison, label))}</article>"
    )


def _key(comparison: Comparison, label: str) -> str:
    cells = comparison.dataset.sel(measure=label)
    parts = []
    if (cells["warnings"].values != "").any():
        parts.append("A marked corner: read the value with care.")
    if np.isnan(cells["value"].values).any():
        parts.append("Hatched: no value.")
    return f'<p class="key">{" ".join(parts)}</p>' if parts else ""


def _cost(comparison: Comparison, label: str) -> str:
    cells = comparison.dataset.sel(measure=label)
    done, seconds = int(np.count_nonzero(cells["status"].values == "ok")), float(cells["seconds"].values.sum())
    return f"here {seconds:.3g} s for {count(done, 'value')}" if seconds else ""


def _value_table(values: xr.DataArray) -> str:
    if max(values.shape) > MOST_IN_TABLE:
        return '<p class="key">All values are in comparison.csv.</p>'
    rows = [
        [code(name), *(f'<span title="{float(value)!r}">{number(float(value))}</span>' for value in line)]
        for name, line in zip(values["a"].values, values.values, strict=True)
    ]
    head = ["", *map(code, values["b"].values)]
    return f"<details><summary>The numbers</summary>{table(head, rows, numbers=range(1, len(head)), kind='values')}</details>"
