"""The caveats of a result in few words: one entry per measure and code."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from congruence.errors import Caveat, CongruenceWarning
from congruence.results import Comparison
from congruence.results.text import coded, read_caveats


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

    def joined(self, other: Summary) -> Summary:
        """Return this entry with the pairs of another of the same code."""
        levels = [*(self.level or ()), *(other.level or ())]
        return replace(self, count=self.count + other.count, level=(min(levels), max(levels)) if levels else None)


def summarise(result: Comparison) -> list[Summary]:
    """Return the caveats of a result, one entry per measure and code."""
    found: dict[tuple[str, str], Summary] = {}
    for label in result.measures:
        cells = coded(result.dataset["warnings"].sel(measure=label).values)
        total = int((result.dataset["status"].sel(measure=label) == "ok").sum())
        codes, first, counts = np.unique(cells.codes.ravel(), return_index=True, return_counts=True)
        for code, place, count in zip(codes, first, counts, strict=True):
            i, j = divmod(int(place), len(result.b))
            for caveat in read_caveats(cells.values[code]):
                level = None if caveat.level is None else (caveat.level, caveat.level)
                pair = (result.a[i], result.b[j])
                entry = Summary(label, caveat.code, caveat.text, int(count), total, pair, level)
                before = found.get((label, caveat.code))
                found[label, caveat.code] = entry if before is None else before.joined(entry)
    return list(found.values())


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
