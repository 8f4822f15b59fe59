"""How a Comparison looks in a terminal and in a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from congruence.results._comparison import Comparison


def as_text(comparison: Comparison) -> str:
    """Return a table of the measures."""
    return f"Comparison of {len(comparison.a)} x {len(comparison.b)}, measures {', '.join(comparison.measures)}"


def as_html(comparison: Comparison) -> str:
    """Return small coloured tables."""
    return f"<pre>{comparison.measures!r}</pre>"
