"""The caveats of a result in few words: one entry per measure and code."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from congruence.errors import Caveat, CongruenceWarning
from congruence.results import Comparison


@dataclass(frozen=True)
class Summary:
    """One reason to read numbers with care, and how many pairs of a measure it concerns.

    Parameters
    ----------
    measure : str
        Label of the measure; empty for a remark on the inputs.
    code, text : str
        Of the first caveat of this code.
    count, total : int
        Pairs concerned, and pairs computed.
    pair : tuple of str
        The first of them.
    level : tuple of float, optional
        Least and greatest value that unrelated data would give.
    """

    measure: str
    code: str
    text: str
    count: int
    total: int
    pair: tuple[str, str] = ("", "")
    level: tuple[float, float] | None = None


def summarise(result: Comparison) -> list[Summary]:
    """Return the caveats of a result, one entry per measure and code."""
    found: list[Summary] = []
    for label in result.measures:
        cells = _caveat_cells(result, label)
        total = int((result.dataset["status"].sel(measure=label) == "ok").sum())
        for code in dict.fromkeys(caveat.code for _, caveat in cells):
            own = [(pair, caveat) for pair, caveat in cells if caveat.code == code]
            levels = [caveat.level for _, caveat in own if caveat.level is not None]
            level = (min(levels), max(levels)) if levels else None
            found.append(Summary(label, code, own[0][1].text, len(own), total, own[0][0], level))
    return found


def _caveat_cells(result: Comparison, label: str) -> list[tuple[tuple[str, str], Caveat]]:
    texts = result.dataset["warnings"].sel(measure=label).values
    pairs = [(a, b) for i, a in enumerate(result.a) for j, b in enumerate(result.b) if texts[i, j]]
    return [(pair, caveat) for pair in pairs for caveat in result.caveats(label, *pair)]


def warn_of(notes: Sequence[Caveat], result: Comparison) -> None:
    """Warn once for every code of the notes, and for every measure and code of the result."""
    counts = Counter(note.code for note in notes)
    first = {note.code: note for note in reversed(notes)}
    for code, count in counts.items():
        more = f" (and {count - 1} more)" if count > 1 else ""
        warnings.warn(CongruenceWarning(replace(first[code], text=f"{first[code].text}{more}")), stacklevel=3)
    for summary in summarise(result):
        a, b = summary.pair
        text = f"{summary.measure}, {summary.count} of {summary.total} pairs, first {a} and {b}: {summary.text}"
        level = None if summary.level is None else summary.level[1]
        warnings.warn(CongruenceWarning(Caveat(summary.code, text, level)), stacklevel=3)
