"""What limits the trust in the numbers, as HTML."""

from __future__ import annotations

from collections.abc import Mapping

from congruence.reporting._groups import Group, Row
from congruence.reporting._html import code, table
from congruence.reporting._view import View
from congruence.reporting._words import count, number
from congruence.results.markup import escape


def warnings(view: View) -> str:
    """Return the caveats by code, and what was noticed about the inputs."""
    noticed = view.comparison.provenance.get("notes")
    notes = [note for note in noticed if isinstance(note, Mapping)] if isinstance(noticed, list) else []
    groups = "".join(_group(group) for group in view.caveats)
    groups += "".join(
        _box(code(note.get("code", "note")), f"<p>{escape(note.get('text', ''))}</p>", "") for note in notes
    )
    if not groups:
        return ""
    lead = "<p>These values are computed correctly but need care; each warning says why, and for which pairs.</p>"
    return f'<section id="warnings"><h2>Warnings</h2>{lead}{groups}</section>'


def failures(view: View) -> str:
    """Return the failed pairs by reason."""
    if not view.failures:
        return ""
    boxes = "".join(_failed(group) for group in view.failures)
    return f'<section id="failures"><h2>Failures</h2><p>These pairs have no value.</p>{boxes}</section>'


def _group(group: Group) -> str:
    """Return a group of warnings."""
    said = next(iter(group.texts))
    several = len(group.texts) > 1
    level = f"<p>Unrelated data would give {_span(*group.levels)}.</p>" if group.levels else ""
    head = ["Measure", "a", "b", "Value", *(["What is said"] if several else [])]
    rows = [[*_place(row), number(row.value), *([escape(row.text)] if several else [])] for row in group.rows]
    return _box(
        f"{code(group.name)}: {count(group.cells, 'value')}",
        f"{_where(group)}<p>{'For example: ' if several else ''}{escape(said.rstrip('.'))}.</p>{level}",
        table(head, rows, numbers=(3,)) + _more(group),
    )


def _failed(group: Group) -> str:
    """Return a group of failures."""
    pairs = table(["Measure", "a", "b"], [_place(row) for row in group.rows]) + _more(group)
    return _box(f"{escape(group.name)}: {count(group.cells, 'value')}", _where(group), pairs, " bad")


def _box(heading: str, content: str, pairs: str, kind: str = "") -> str:
    details = f"<details><summary>Which pairs</summary>{pairs}</details>" if pairs else ""
    return f'<div class="group{kind}"><h3>{heading}</h3>{content}{details}</div>'


def _place(row: Row) -> list[str]:
    return [code(row.measure), code(row.a), code(row.b)]


def _where(group: Group) -> str:
    return f"<p>In {', '.join(f'{code(label)} ({cells:,})' for label, cells in group.measures.items())}.</p>"


def _span(low: float, high: float) -> str:
    return f"{low:.3g}" if f"{low:.3g}" == f"{high:.3g}" else f"{low:.3g} to {high:.3g}"


def _more(group: Group) -> str:
    left_out = group.cells - len(group.rows)
    return f"<p>{left_out:,} more are in comparison.csv.</p>" if left_out else ""
