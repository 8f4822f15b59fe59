"""Pieces of HTML; every string from outside goes through `escape`."""

from __future__ import annotations

from collections.abc import Sequence

from congruence.results.markup import escape

MOST_LETTERS = 48


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[int] = (), kind: str = "plain"
) -> str:
    """Return a table of cells that are HTML already; `numbers` are the columns set flush right."""
    names = ["number" if k in numbers else "" for k in range(len(head))]
    classes = [f' class="{name}"' if name else "" for name in names]
    top = "".join(f'<th scope="col"{c}>{cell}</th>' for cell, c in zip(head, classes, strict=True))
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>'
        + "".join(f"<td{c}>{cell}</td>" for cell, c in zip(row[1:], classes[1:], strict=True))
        + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table class="{kind}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def code(text: object) -> str:
    """Return a name as HTML; the middle of a long one is left out, and the whole is its title."""
    name = str(text)
    if len(name) <= MOST_LETTERS:
        return f"<code>{escape(name)}</code>"
    half = MOST_LETTERS // 2
    return f'<code title="{escape(name)}">{escape(name[:half])}…{escape(name[-half:])}</code>'
