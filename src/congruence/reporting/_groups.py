"""Warnings by code and failures by reason, with the pairs that they concern."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from congruence.errors import Caveat
from congruence.results import Comparison
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
