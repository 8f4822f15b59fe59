"""What limits the trust in the numbers: warnings by code and failures by reason, with the pairs that they concern."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from congruence.errors import Caveat
from congruence.reporting._html import code, table
from congruence.reporting._words import count, number
from congruence.results import Comparison
from congruence.results.markup import escape
from congruence.results.text import coded, read_caveats

MOST_PAIRS = 50


@dataclass(frozen=True)
class Row:
    """One pair that a group concerns."""

    measure: str
    a: str
    b: str
    value: float
    text: str


@dataclass
class Group:
    """Values of which the same is said.

    Parameters
    ----------
    name : str
        Code of the warnings, or reason of the failures.
    texts : dict
        What is said (as keys), in order of appearance.
    cells : int
        How many values it concerns; `measures` has them by label, `rows` the first of them.
    levels : tuple of float, optional
        Least and greatest value that unrelated data would give.
    """

    name: str
    cells: int = 0
    measures: dict[str, int] = field(default_factory=dict)
    levels: tuple[float, float] | None = None
    texts: dict[str, None] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)


def caveat_groups(comparison: Comparison) -> list[Group]:
    """Return the warnings by code, in order of appearance."""
    groups: dict[str, Group] = {}
    for label in comparison.measures:
        found = coded(comparison.dataset["warnings"].sel(measure=label).values)
        occurrences = np.bincount(found.codes.ravel(), minlength=len(found.values))
        said = [read_caveats(text) for text in found.values]
        for caveats, amount in zip(said, occurrences, strict=True):
            for caveat in caveats:
                _add(groups.setdefault(caveat.code, Group(caveat.code)), label, caveat, int(amount))
        _add_rows(comparison, label, found.codes, said, groups)
    return list(groups.values())


def _add(group: Group, label: str, caveat: Caveat, amount: int) -> None:
    group.cells += amount
    group.measures[label] = group.measures.get(label, 0) + amount
    group.texts[caveat.text] = None
    if caveat.level is not None:
        low, high = group.levels or (caveat.level, caveat.level)
        group.levels = (min(low, caveat.level), max(high, caveat.level))


def _add_rows(
    comparison: Comparison, label: str, codes: np.ndarray, said: list[tuple[Caveat, ...]], groups: dict[str, Group]
) -> None:
    """Add the first pairs of this measure to the groups."""
    for name, group in groups.items():
        matching = [k for k, caveats in enumerate(said) if any(c.code == name for c in caveats)]
        room = MOST_PAIRS - len(group.rows)
        for i, j in np.argwhere(np.isin(codes, matching))[:room].tolist():
            text = next(c.text for c in said[codes[i, j]] if c.code == name)
            group.rows.append(_row(comparison, label, i, j, text))


def failure_groups(comparison: Comparison) -> list[Group]:
    """Return the failed pairs by reason, in order of appearance."""
    groups: dict[str, Group] = {}
    failed = comparison.dataset["status"].values == "failed"
    reasons = comparison.dataset["reason"].values
    for k, i, j in np.argwhere(failed).tolist():
        label, reason = comparison.measures[k], reasons[k, i, j] or "no reason given"
        group = groups.setdefault(reason, Group(reason))
        group.cells += 1
        group.measures[label] = group.measures.get(label, 0) + 1
        if len(group.rows) < MOST_PAIRS:
            group.rows.append(_row(comparison, label, i, j, ""))
    return list(groups.values())


def _row(comparison: Comparison, label: str, i: int, j: int, text: str) -> Row:
    value = float(comparison.dataset["value"].values[comparison.measures.index(label), i, j])
    return Row(label, comparison.a[i], comparison.b[j], value, text)


# ---- as HTML ---------------------------------------------------------------------------------------------------------


def warnings(comparison: Comparison) -> str:
    """Return the caveats by code, and what was noticed about the inputs."""
    noticed = comparison.provenance.get("notes")
    notes = [note for note in noticed if isinstance(note, Mapping)] if isinstance(noticed, list) else []
    groups = "".join(_group(group) for group in caveat_groups(comparison))
    groups += "".join(
        _box(code(note.get("code", "note")), f"<p>{escape(note.get('text', ''))}</p>", "") for note in notes
    )
    if not groups:
        return ""
    lead = "<p>These values are computed correctly but need care; each warning says why, and for which pairs.</p>"
    return f'<section id="warnings"><h2>Warnings</h2>{lead}{groups}</section>'


def failures(comparison: Comparison) -> str:
    """Return the failed pairs by reason."""
    groups = failure_groups(comparison)
    if not groups:
        return ""
    boxes = "".join(_failed(group) for group in groups)
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
        f"{_where(group)}<p>{'For example: ' if several else ''}{escape(said)}.</p>{level}",
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
