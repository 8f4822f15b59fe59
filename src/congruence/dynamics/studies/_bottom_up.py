"""What the studies of bottom-up convergence share: tests over seeds, a verdict, and pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from congruence import figures
from congruence.dynamics.convergence import BottomUp, DepthTest
from congruence.dynamics.studies._loops import bottom_up_tests
from congruence.errors import DegenerateError
from congruence.studies import Outcome, Row, Study, Tables, Verdict

WAYS = ("final", "way")
LEVEL = 0.05
Tests = dict[tuple[str, str], BottomUp | None]


class BottomUpStudy(Study):
    """What the studies of bottom-up convergence do with the curves of their networks, one piece a seed."""

    def pieces(self, settings: Any) -> Sequence[str]:
        """Return one piece for each seed."""
        return [f"seed-{seed}" for seed in range(settings.seeds)]

    def summarise(self, settings: Any, tables: Tables) -> list[Row]:
        """Return the bottom-up statistic for every measure and kind of time, over the hidden layers and all."""
        return summary(tested(tables, settings.measures, settings.fraction))

    def judge(self, settings: Any, tables: Tables) -> Verdict:
        """Return whether depth and time go together in the hidden layers, by the first measure."""
        return verdict(self.summarise(settings, tables), settings.measures[0])

    def draw(self, settings: Any, tables: Tables, folder: Path) -> None:
        """Draw the curves of the layers."""
        draw_curves(tables, settings.measures, folder)


def tested(tables: Tables, measures: Sequence[str], fraction: float) -> Tests:
    """Return the tests by measure and kind of time; None where a run has layers that all have the same time.

    A distance has no fraction of its final value, which is 0, so that it has the time to a share of the way only.
    """
    found: Tests = {}
    for label in measures:
        distance = any((row["measure"], row["orientation"]) == (label, "distance") for row in tables["curves"])
        for of in WAYS[1:] if distance else WAYS:
            try:
                found[label, of] = bottom_up_tests(tables, label, fraction, of)
            except DegenerateError:
                found[label, of] = None
    return found


def summary(tests: Tests) -> list[Row]:
    """Return the statistic for every measure, kind of time, hidden layers and all."""
    return [
        _line(label, of, part, None if both is None else getattr(both, part))
        for (label, of), both in tests.items()
        for part in ("hidden", "all")
    ]


def _line(label: str, of: str, part: str, test: DepthTest | None) -> Row:
    about = {"measure": label, "time to a fraction of": of, "layers": part}
    if test is None:  # without an order of the layers there is no correlation
        return {**about, **dict.fromkeys(("value", "p", "low", "high"), math.nan), "seeds": 0, "positive": 0}
    return {
        **about, "value": test.correlation, "p": test.p, "low": test.low, "high": test.high,
        "seeds": len(test.runs), "positive": sum(run > 0 for run in test.runs),
        "count": len(test.layers), "left_out": test.left_out,
    }  # fmt: skip


def verdict(lines: Sequence[Row], primary: str) -> Verdict:
    """Return whether the hidden layers converge bottom-up by the primary measure, in both kinds of time."""
    chosen = {
        line["time to a fraction of"]: line
        for line in lines
        if (line["measure"], line["layers"]) == (primary, "hidden")
    }
    whole = {
        line["time to a fraction of"]: line for line in lines if (line["measure"], line["layers"]) == (primary, "all")
    }
    holds = [chosen[of]["value"] > 0 and chosen[of]["p"] < LEVEL for of in WAYS]
    outcome: Outcome = "reproduced" if all(holds) else "differs" if any(holds) else "not reproduced"
    words = {"final": "of the final similarity", "way": "of the way from the initial similarity"}
    parts = [
        f"time to a fraction {words[of]}: hidden layers {_words(chosen[of])}, all layers {_words(whole[of])}"
        for of in WAYS
    ]
    statistics = {
        f"{of} {part} {name}": float(lines_of[of]["value" if name == "correlation" else name])
        for of in WAYS
        for part, lines_of in (("hidden", chosen), ("all", whole))
        for name in ("correlation", "p", "low", "high")
    }
    text = f"Rank correlation of depth and convergence by {primary}, mean over seeds ({chosen['final']['seeds']}); {'; '.join(parts)}."
    return Verdict(outcome, text, statistics)


def _words(line: Row) -> str:
    if math.isnan(line["value"]):
        return "undefined, as the layers of a network all have the same time"
    return f"{line['value']:+.2f} ({line['low']:+.2f} to {line['high']:+.2f}, p {line['p']:.2g})"


def draw_curves(tables: Tables, measures: Sequence[str], folder: Path, name: str = "convergence") -> None:
    """Draw the mean curve of every layer, with the spread over seeds."""
    for number, label in enumerate(measures):
        ax = pane(tables, label, "Mean and range over seeds")
        figures.save_figure(ax, folder / f"{name}-{number}.png")


def pane(tables: Tables, label: str, title: str, ax: Any = None) -> Any:
    """Draw the curves of one measure, into axes if they are given."""
    rows = [row for row in tables["curves"] if row["measure"] == label and row["value"] is not None]
    series = []
    for layer in dict.fromkeys(row["layer"] for row in rows):
        own = [row for row in rows if row["layer"] == layer]
        steps = sorted({row["step"] for row in own})
        values = [np.array([row["value"] for row in own if row["step"] == step]) for step in steps]
        low, high = [v.min() for v in values], [v.max() for v in values]
        series.append(figures.Series(layer, steps, [v.mean() for v in values], low, high))
    return figures.curves(series, xlabel="update", ylabel=f"{label}, layer and itself at the end", title=title, ax=ax)
