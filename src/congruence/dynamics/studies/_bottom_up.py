"""What the studies of bottom-up convergence share: tests over seeds, a verdict, and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from congruence import figures
from congruence.dynamics.convergence import DepthTest
from congruence.dynamics.studies._loops import bottom_up_tests
from congruence.studies import Outcome, Row, Study, Tables, Verdict

WAYS = ("final", "way")
LEVEL = 0.05


class BottomUpStudy(Study):
    """What the studies of bottom-up convergence do with the curves of their networks, one piece a seed."""

    def pieces(self, settings: Any) -> Sequence[str]:
        """Return one piece for each seed."""
        return [f"seed-{seed}" for seed in range(settings.seeds)]

    def summarise(self, settings: Any, tables: Tables) -> list[Row]:
        """Return the bottom-up statistic for every measure and kind of time, over the hidden layers and all."""
        return _summary(tables, settings.measures, settings.fraction)

    def judge(self, settings: Any, tables: Tables) -> Verdict:
        """Return whether depth and time go together in the hidden layers, by the first measure."""
        return _verdict(self.summarise(settings, tables), settings.measures[0])

    def draw(self, settings: Any, tables: Tables, folder: Path) -> None:
        """Draw the curves of the layers."""
        _draw(tables, settings.measures, folder)


def _summary(tables: Tables, measures: Sequence[str], fraction: float) -> list[Row]:
    """Return the statistic for every measure, both times, hidden layers and all."""
    found: list[Row] = []
    for label in measures:
        for of in WAYS:
            tests = bottom_up_tests(tables, label, fraction, of)
            found += [_line(label, of, part, test) for part, test in (("hidden", tests.hidden), ("all", tests.all))]
    return found


def _line(label: str, of: str, part: str, test: DepthTest) -> Row:
    return {
        "measure": label, "time to a fraction of": of, "layers": part, "correlation": test.correlation, "p": test.p,
        "low": test.low, "high": test.high, "seeds": len(test.runs), "positive": sum(run > 0 for run in test.runs),
        "count": len(test.layers), "left_out": test.left_out,
    }  # fmt: skip


def _verdict(lines: Sequence[Row], primary: str) -> Verdict:
    """Return whether the hidden layers converge bottom-up by the primary measure, in both kinds of time."""
    chosen = {
        line["time to a fraction of"]: line
        for line in lines
        if (line["measure"], line["layers"]) == (primary, "hidden")
    }
    whole = {
        line["time to a fraction of"]: line for line in lines if (line["measure"], line["layers"]) == (primary, "all")
    }
    holds = [chosen[of]["correlation"] > 0 and chosen[of]["p"] < LEVEL for of in WAYS]
    outcome: Outcome = "reproduced" if all(holds) else "differs" if any(holds) else "not reproduced"
    words = {"final": "of the final similarity", "way": "of the way from the initial similarity"}
    parts = [
        f"time to a fraction {words[of]}: hidden layers {_words(chosen[of])}, all layers {_words(whole[of])}"
        for of in WAYS
    ]
    statistics = {
        f"{of} {part} {name}": float(lines_of[of][name])
        for of in WAYS
        for part, lines_of in (("hidden", chosen), ("all", whole))
        for name in ("correlation", "p", "low", "high")
    }
    text = f"Rank correlation of depth and convergence by {primary}, mean over {chosen['final']['seeds']} seeds; {'; '.join(parts)}."
    return Verdict(outcome, text, statistics)


def _words(line: Row) -> str:
    return f"{line['correlation']:+.2f} ({line['low']:+.2f} to {line['high']:+.2f}, p {line['p']:.2g})"


def _draw(tables: Tables, measures: Sequence[str], folder: Path) -> None:
    """Draw the mean curve of every layer, with the spread over seeds."""
    for number, label in enumerate(measures):
        rows = [row for row in tables["curves"] if row["measure"] == label and row["similarity"] is not None]
        series = []
        for layer in dict.fromkeys(row["layer"] for row in rows):
            own = [row for row in rows if row["layer"] == layer]
            steps = sorted({row["step"] for row in own})
            values = [np.array([row["similarity"] for row in own if row["step"] == step]) for step in steps]
            low, high = [v.min() for v in values], [v.max() for v in values]
            series.append(figures.Series(layer, steps, [v.mean() for v in values], low, high))
        ax = figures.curves(
            series, xlabel="update", ylabel=f"{label}, layer and itself at the end", title="Mean and range over seeds"
        )
        figures.save_figure(ax, folder / f"convergence-{number}.png")
