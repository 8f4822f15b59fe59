"""sequence-time: how the states of a language model move over a sequence (Morcos et al. 2018, appendix A.3)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from congruence import figures
from congruence.dynamics.studies._prose import TEXT, parsed, pieces
from congruence.dynamics.studies._shared import OF_STATES, column, in_words, mean_interval, with_ends
from congruence.errors import CongruenceWarning
from congruence.representation import Representation
from congruence.studies import Outcome, Row, Study, Tables, Tier, Verdict, register

MEASURES = ("cca", "svcca", "cosine", "euclidean")
LAST = 19
"""The last step of a sequence."""


@dataclass(frozen=True)
class Settings:
    """Layers and width of the LSTM, seeds, training, sequences, and from where on the input is repeated.

    `repeated_share` is of a text of `long_sequences` sequences, over which states are carried (see `_long_text`).
    """

    layers: int = 2
    width: int = 64
    seeds: int = 4
    updates: int = 1500
    batch: int = 64
    learning_rate: float = 3e-3
    sequences: int = 1000
    repeated_from: tuple[int, ...] = (1, 4, 9)
    long_sequences: int = 13_000
    repeated_share: tuple[float, ...] = (0.01, 0.08, 0.24, 0.48, 0.81)


@register
class SequenceTime(Study):
    """Character LSTMs unrolled over windows of 20 characters."""

    name: ClassVar[str] = "sequence-time"
    title: ClassVar[str] = "States over a sequence"
    claim: ClassVar[str] = (
        "States at different steps are no linear maps of each other: the CCA similarity to the last step falls with the "
        "distance in time, and where the input is repeated the states settle, less so the later in a text that begins."
    )
    source: ClassVar[str] = "Morcos et al. 2018, appendix A.3, Figures A3 and A4; there PTB and WikiText-2"
    tiers: ClassVar[Mapping[str, Tier]] = {
        "quick": Tier(
            Settings(1, 8, 2, 40, 16, 1e-2, 200, (4,), 200, (0.24, 0.81)),
            "some seconds: one narrow layer, hardly trained",
        ),
        "small": Tier(
            Settings(),
            f"about 6 minutes: {TEXT}",
        ),
    }

    def pieces(self, settings: Settings) -> Sequence[str]:
        """Return one piece for each seed."""
        return pieces(settings.seeds)

    def work(self, settings: Settings, piece: str) -> Tables:
        """Train one language model and compare every step with the last."""
        from congruence.dynamics.sequences import repeat_input
        from congruence.dynamics.studies import _long_text
        from congruence.dynamics.studies._loops import Text, language_model, train

        corpus, seed = parsed(piece)
        text = Text.of(corpus)
        model = language_model(text.characters, settings.width, settings.layers, seed)
        train(model, text.draw(settings.batch), settings.updates, settings.learning_rate, seed)
        windows = text.windows(settings.sequences)
        rows = []
        for start in (None, *settings.repeated_from):
            shown = windows if start is None else repeat_input(windows, start)
            rows += [{"seed": seed, "repeated_from": start, **row} for row in _last_column(model, shown)]
        tables: Tables = {"similarity": rows, "long_text": [], "settling": []}
        tables["networks"] = [{"seed": seed, "corpus": corpus, "unseen_loss": text.loss(model)}]
        tokens = _long_text.long_text(text, settings.long_sequences)
        for one in _long_text.shown(model, tokens, settings.repeated_share):
            tables["long_text"] += [{"seed": seed, **row} for row in _long_text.compared(one, last_column)]
            tables["settling"].append({"seed": seed, **_long_text.settling(one)})
        return tables

    def summarise(self, settings: Settings, tables: Tables) -> list[Row]:
        """Return for every measure and state the values at the first step and before the last, and how it goes with time."""
        from congruence.dynamics.studies._long_text import summary

        return [*self._windows(settings, tables), *summary(tables, settings.repeated_share)]

    def _windows(self, settings: Settings, tables: Tables) -> list[Row]:
        """Return the part of the summary that is about windows of text."""
        found: list[Row] = []
        for start in (None, *settings.repeated_from):
            for label in MEASURES:
                rows = [r for r in tables["similarity"] if (r["repeated_from"], r["measure"]) == (start, label)]
                for state in dict.fromkeys(row["state"] for row in rows):
                    own = [row for row in rows if row["state"] == state and row["similarity"] is not None]
                    about = {
                        "input": "text" if start is None else f"repeated from {start}",
                        "measure": label,
                        "state": state,
                    }
                    found.append({**about, **_line(own)})
        return found

    def judge(self, settings: Settings, tables: Tables) -> Verdict:
        """Return whether CCA similarity to the last step rises with time and is far from 1 at first, for every state."""
        from congruence.dynamics.studies._long_text import judged

        lines = [line for line in self._windows(settings, tables) if line["measure"] == "cca"]
        free = [line for line in lines if line["input"] == "text"]
        fixed = [line for line in lines if line["input"] != "text"]
        rises = all((line["rank_correlation_with_time"] or 0) > 0.5 and line["first"] < 0.9 for line in free)
        settles = all(line["before_last"] > min(other["before_last"] for other in free) for line in fixed)
        outcome: Outcome = "reproduced" if rises and settles else "differs" if rises or settles else "not reproduced"
        names = [f"{name}{end}" for name in ("first", "before_last") for end in ("", "_low", "_high")]
        statistics = {f"{line['input']} {line['state']} {name}": float(line[name]) for line in lines for name in names}
        words = "; ".join(
            f"{line['state']} {in_words(line, 'first')} at the first step, {in_words(line, 'before_last')} before the last"
            for line in free
        )
        later = min(line["before_last"] for line in fixed)
        text = f"CCA similarity to the last step, mean over {settings.seeds} seeds: {words}. With repeated input it is at least {later:.3f} before the last step."
        later_on = judged(tables, settings.repeated_share)
        return Verdict(outcome, f"{text} {later_on.text}", {**statistics, **later_on.statistics})

    def draw(self, settings: Settings, tables: Tables, folder: Path) -> None:
        """Draw the similarity to the last step over time, a picture a measure."""
        top = f"hidden[{settings.layers - 1}]"
        for label in MEASURES:
            series = []
            for start in (None, *settings.repeated_from):
                rows = [r for r in tables["similarity"] if (r["repeated_from"], r["measure"], r["state"]) == (start, label, top) and r["similarity"] is not None]  # fmt: skip
                steps = sorted({row["step"] for row in rows})
                means = [np.mean([row["similarity"] for row in rows if row["step"] == step]) for step in steps]
                series.append(figures.Series("text" if start is None else f"repeated from {start}", steps, means))
            ax = figures.curves(
                series, xlabel="step", ylabel=f"{label} with the last step", title=f"Top layer, {self.title.lower()}"
            )
            figures.save_figure(ax, folder / f"{label}.png")
        self._draw_long(settings, tables, folder)

    def _draw_long(self, settings: Settings, tables: Tables, folder: Path) -> None:
        """Draw the similarity to the last step over a long text, and what unrelated text gives."""
        top = f"hidden[{settings.layers - 1}]"
        panes = figures.axes_in_a_row(2, width=5.0)
        for column_name, ax in zip(("value", "unrelated"), panes, strict=True):
            series = []
            for share in (None, *settings.repeated_share):
                rows = [r for r in tables["long_text"] if (r["share"], r["measure"], r["state"]) == (share, "cca", top) and r["step"] < LAST and r[column_name] is not None]  # fmt: skip
                steps = sorted({row["step"] for row in rows})
                means = [np.mean([row[column_name] for row in rows if row["step"] == step]) for step in steps]
                series.append(figures.Series("text" if share is None else f"repeated from {share:.0%}", steps, means))
            title = "States" if column_name == "value" else "Text before that shuffled at the last step"
            figures.curves(series, xlabel="step", ylabel="cca with the last step", title=title, ax=ax)
        figures.save_figure(panes[0], folder / "long-text.png")


def _line(rows: Sequence[Row]) -> Row:
    """Return the values of one state at the first step, half way and before the last, with intervals over seeds."""
    from scipy.stats import spearmanr

    steps = sorted({row["step"] for row in rows})[:-1]
    within = OF_STATES[rows[0]["measure"]]
    columns = [column([row for row in rows if row["step"] == step], "similarity") for step in steps]
    by_step = [mean_interval(values, within) for values in columns]
    means = [mean for mean, _, _ in by_step]
    found: Row = {}
    for name, at in (("first", 0), ("middle", len(steps) // 2), ("before_last", -1)):
        found |= with_ends(name, by_step[at])
    found["rank_correlation_with_time"] = float(spearmanr(steps, means).statistic) if len(set(means)) > 1 else None
    return found


def _last_column(model: Any, windows: Any) -> list[Row]:
    """Return every state at every step against the same state at the last."""
    import torch

    from congruence.dynamics.recurrent import unroll

    rows: list[Row] = []
    with torch.no_grad():
        x = model.embedding(windows)
        for layer in range(model.depth):
            states = unroll(model.get_submodule(f"lstm{layer + 1}"), x)
            for kind in ("hidden", "cell"):
                rows += last_column(f"{kind}[{layer}]", states[f"{kind}[0]"])
            x = torch.from_numpy(states["hidden[0]"].values)
    return rows


def last_column(
    state: str, values: Representation, at: Sequence[int] | None = None, measures: Sequence[str] = MEASURES
) -> list[Row]:
    """Return steps of a state, by default all, against the last of them: rows of state, measure, step, value."""
    from congruence.dynamics.sequences import time_similarity

    rows: list[Row] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CongruenceWarning)
        for label in measures:
            matrix = time_similarity(values, label, at=at)
            rows += [
                {"state": state, "measure": label, "step": int(step), "similarity": float(value)}
                for step, value in zip(matrix["time"].values, matrix.values[:, -1], strict=True)
            ]
    return rows
