"""Text from outside on its way to a page or a terminal."""

from __future__ import annotations

import html
import re

_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: object) -> str:
    """Return text in which every character that would change how the rest is shown is an escape, by its number.

    These are control characters other than newlines and tabs, marks of the direction of writing (with which a name can
    look like another), and lone surrogates (a file name that is not UTF-8), which no page and no terminal can hold.
    """
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", str(text))


def escape(text: object) -> str:
    """Return text that HTML shows as it is, in content and in quoted attributes."""
    return html.escape(visible(text), quote=True)
