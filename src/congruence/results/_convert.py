"""From similarities to distances: the numbers, and what was said of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from congruence.results._parts import Numbers
from congruence.results.text import read_caveats, write_caveats


def convert(how: str, similarity: Numbers) -> Numbers:
    """Return 1 - s (``"one_minus"``) or arccos s (``"angular"``)."""
    return np.asarray(1.0 - similarity if how == "one_minus" else np.arccos(np.clip(similarity, -1.0, 1.0)))


def caveats(how: str, text: str) -> str:
    """Return written caveats of a similarity as caveats of the distance made from it."""
    return write_caveats(
        [
            replace(
                caveat,
                text=f"of the similarity s: {caveat.text}",
                level=None if caveat.level is None else float(convert(how, np.asarray(caveat.level))),
            )
            for caveat in read_caveats(text)
        ]
    )
