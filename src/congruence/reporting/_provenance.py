"""Where the numbers come from, as far as the result says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from congruence.reporting._html import table
from congruence.results.markup import escape

MOST_ENTRIES = 300


def provenance(content: Mapping[str, Any]) -> str:
    """Return everything that is known about the making of the result."""
    if not content:
        return ""
    summary = "<summary>Versions, parameters, inputs and their fingerprints</summary>"
    return f'<section id="provenance"><h2>Provenance</h2><details>{summary}{_tree(content)}</details></section>'


def _tree(content: object) -> str:
    """Return plain data: mappings as lists of terms, lists of like mappings as tables."""
    if isinstance(content, Mapping):
        return f"<dl>{''.join(f'<dt>{escape(key)}</dt><dd>{_tree(value)}</dd>' for key, value in content.items())}</dl>"
    if isinstance(content, list) and any(isinstance(entry, Mapping | list) for entry in content):
        left_out = len(content) - MOST_ENTRIES
        more = f"<p>{left_out} more are in comparison.zarr.</p>" if left_out > 0 else ""
        return _entries(content[:MOST_ENTRIES]) + more
    return _line(content)


def _entries(entries: list[Any]) -> str:
    first = entries[0]
    if isinstance(first, Mapping) and all(isinstance(e, Mapping) and e.keys() == first.keys() for e in entries):
        return table([escape(key) for key in first], [[_line(value) for value in e.values()] for e in entries])
    return "".join(f"<div>{_tree(entry)}</div>" for entry in entries)


def _line(content: object) -> str:
    """Return plain data in one line."""
    if isinstance(content, Mapping):
        return ", ".join(f"{escape(key)}: {_line(value)}" for key, value in content.items())
    if isinstance(content, list):
        return ", ".join(_line(entry) for entry in content) or "none"
    return "none" if content is None else escape(content)
