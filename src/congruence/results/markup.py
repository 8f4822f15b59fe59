"""Text from outside on its way into HTML."""

from __future__ import annotations

import html


def escape(text: object) -> str:
    """Return text that HTML shows as it is, in content and in quoted attributes.

    Lone surrogates (a file name that is not UTF-8) become visible escapes, since no page can hold them.
    """
    return html.escape(str(text).encode("utf-8", "backslashreplace").decode("utf-8"), quote=True)
