"""bottom-up-rnn: recurrent language models converge bottom-up, too (Morcos et al. 2018, section 4.1; Raghu et al., App. 6).

Two more findings are about the measures: that mean CCA without weights hides the pattern, and that cosine and Euclidean
distance are noisier. For one network, over its hidden layers:

- *hidden*: the rank correlation of depth and convergence time (see `congruence.dynamics.bottom_up`) by PWCCA less that by
  mean CCA. Mean CCA hides the pattern where the 95 % interval of the difference over seeds is above 0 and the correlation by
  mean CCA is not above chance (p of at least 0.05).
- *back and forth* of a curve s_0 ... s_T: 1 - |s_T - s_0| / Σ_t |s_t - s_{t-1}|, the share of all its movement that does not
  bring it from its start to its end. In [0, 1]; 0 for a curve that only rises or only falls, however bent; the same for a
  s + b, so that similarities and distances can be compared. A measure is noisier than PWCCA where the 95 % interval over seeds
  of the difference, of the mean over layers, is above 0.
- *roughness*: the mean of |s_{t+1} - 2 s_t + s_{t-1}| over (max s - min s), given beside it: it also counts what bends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from congruence import figures
from congruence.dynamics._relabelling import Floats
from congruence.dynamics.studies._bottom_up import (
    LEVEL,
    WAYS,
    BottomUpStudy,
    Tests,
    draw_curves,
    pane,
    summary,
    tested,
    verdict,
)
from congruence.dynamics.studies._loops import curves_of
from congruence.dynamics.studies._prose import TEXT, parsed, pieces
from congruence.dynamics.studies._shared import LENGTHS, SHARES, mean_interval
from congruence.studies import Outcome, Row, Tables, Tier, Verdict, register

UNWEIGHTED, PAIRED = "cca", ("cosine", "euclidean")
COMPARED = ("pwcca", UNWEIGHTED, *PAIRED)
"""What is drawn side by side."""
CORRELATION, LESS = "rank correlation", "less the rank correlation by mean CCA"
BACK_AND_FORTH, MORE = "back and forth", "more than by the first measure"
ROUNDING = 1e-15
"""Of one difference of a curve, relative to all of its movement."""


@dataclass(frozen=True)
class Settings:
    """Numbers of layers and width of the LSTMs, seeds, training, schedule, stimuli, measures and the fraction of convergence."""

    layers: tuple[int, ...] = (3, 5)
    width: int = 64
    seeds: int = 6
    updates: int = 1500
    batch: int = 64
    learning_rate: float = 3e-3
    every: int = 75
    stimuli: int = 600
    measures: tuple[str, ...] = ("pwcca", "cca", "svcca", "cka:estimator=debiased", "cosine", "euclidean")
    fraction: float = 0.9


@register
class BottomUpRnn(BottomUpStudy):
    """Character LSTMs of several depths that differ in their seeds, recorded while they are trained."""

    name: ClassVar[str] = "bottom-up-rnn"
    title: ClassVar[str] = "Recurrent layers converge bottom-up"
    claim: ClassVar[str] = (
        "In recurrent language models the time to converge to the final state grows with depth; mean CCA without weights "
        "hides it, and cosine and Euclidean distance are noisier."
    )
    source: ClassVar[str] = (
        "Morcos et al. 2018, section 4.1, Figures 6 and A8 (PWCCA; PTB and WikiText-2); Raghu et al. 2017, appendix 6"
    )
    tiers: ClassVar[Mapping[str, Tier]] = {
        "quick": Tier(
            Settings((2,), 8, 2, 40, 16, 1e-2, 10, 100, COMPARED), "some seconds: two narrow layers, hardly trained"
        ),
        "small": Tier(
            Settings(),
            f"about 15 minutes: {TEXT}",
        ),
    }

    def pieces(self, settings: Settings) -> Sequence[str]:
        """Return one piece for each depth and seed."""
        return [f"{depth}-layers-{piece}" for depth in settings.layers for piece in pieces(settings.seeds)]

    def work(self, settings: Settings, piece: str) -> Tables:
        """Train and record one language model; a layer is its state after the last character of a window."""
        from congruence.dynamics.studies._loops import Before, Text, in_batches, language_model, recorded_curves, train

        count, _, rest = piece.partition("-layers-")
        depth, (corpus, seed) = int(count), parsed(rest)
        text = Text.of(corpus)
        model = language_model(text.characters, settings.width, depth, seed)

        def training(before: Before) -> None:
            train(model, text.draw(settings.batch), settings.updates, settings.learning_rate, seed, before)

        layers = [*(f"lstm{k + 1}" for k in range(depth)), "logits", "!*[1]*"]
        rows = recorded_curves(
            model, training, in_batches(text.windows(settings.stimuli)), layers,
            every=settings.every, steps="last_step", measures=settings.measures,
        )  # fmt: skip
        about = {"depth": depth, "seed": seed}
        return {
            "curves": [{**about, **row} for row in rows],
            "networks": [{**about, "corpus": corpus, "unseen_loss": text.loss(model)}],
        }

    def summarise(self, settings: Settings, tables: Tables) -> list[Row]:
        """Return for every depth the bottom-up statistic, how it differs from that by mean CCA, and how noisy curves are."""
        found: list[Row] = []
        for depth in settings.layers:
            own = _of_depth(tables, depth)
            tests = tested(own, settings.measures, settings.fraction)
            lines = [{"statistic": CORRELATION, **line} for line in summary(tests)]
            lines += _less_unweighted(tests, settings.measures) + _noise(own, settings.measures)
            found += [{"depth": depth, **line} for line in lines]
        return found

    def judge(self, settings: Settings, tables: Tables) -> Verdict:
        """Return whether depth and time go together at every depth by the first measure; the rest is said beside it."""
        lines = self.summarise(settings, tables)
        texts: list[str] = []
        statistics: dict[str, float] = {}
        outcomes: set[Outcome] = set()
        for depth in settings.layers:
            own = [line for line in lines if (line["depth"], line["statistic"]) == (depth, CORRELATION)]
            part = verdict(own, settings.measures[0])
            outcomes.add(part.outcome)
            texts.append(f"{depth} layers: {part.text}")
            statistics |= {f"{depth} layers {name}": value for name, value in part.statistics.items()}
        outcome: Outcome = next(iter(outcomes)) if len(outcomes) == 1 else "differs"
        for judged in (_judge_hidden(lines), _judge_noise(lines)):
            texts += [judged.text] if judged.statistics else []
            statistics |= judged.statistics
        return Verdict(outcome, " ".join(texts), statistics)

    def draw(self, settings: Settings, tables: Tables, folder: Path) -> None:
        """Draw the curves of the layers for every depth and measure, and four of the measures side by side."""
        compared = [label for label in COMPARED if label in settings.measures]
        for depth in settings.layers:
            own = _of_depth(tables, depth)
            draw_curves(own, settings.measures, folder, f"convergence-{depth}")
            panes = figures.axes_in_a_row(len(compared))
            for label, ax in zip(compared, panes, strict=True):
                pane(own, label, f"{depth} layers", ax)
            figures.save_figure(panes[0], folder / f"compared-{depth}.png")


def _of_depth(tables: Tables, depth: int) -> Tables:
    return {"curves": [row for row in tables["curves"] if row["depth"] == depth]}


def _less_unweighted(tests: Tests, measures: Sequence[str]) -> list[Row]:
    """Return the correlation by the first measure less that by mean CCA, over seeds, for both kinds of time."""
    primary = measures[0]
    if UNWEIGHTED not in measures:
        return []
    found: list[Row] = []
    for of in WAYS:
        weighted, unweighted = tests[primary, of], tests[UNWEIGHTED, of]
        line = {"statistic": LESS, "measure": primary, "time to a fraction of": of, "layers": "hidden"}
        if weighted is None or unweighted is None:
            found.append({**line, **_ends((math.nan, math.nan, math.nan)), "seeds": 0})
            continue
        difference = np.subtract(weighted.hidden.runs, unweighted.hidden.runs)
        found.append({**line, **_ends(mean_interval(difference, (-2.0, 2.0))), "seeds": len(difference)})
    return found


def _noise(tables: Tables, measures: Sequence[str]) -> list[Row]:
    """Return how noisy the curves of the hidden layers are by every measure, and how much more so than by the first."""
    found: list[Row] = []
    for name, (noise, within) in NOISE.items():
        values = {label: _over_layers(tables, label, noise) for label in measures}
        for label, own in values.items():
            line = {"measure": label, "layers": "hidden", "seeds": len(own)}
            found.append({"statistic": name, **line, **_ends(mean_interval(own, within))})
            if label != measures[0]:
                more = mean_interval(own - values[measures[0]], (-within[1], within[1]))
                found.append({"statistic": f"{name}, {MORE}", **line, **_ends(more)})
    return found


def _over_layers(tables: Tables, label: str, noise: Callable[[Floats], float]) -> Floats:
    """Return the mean noise over the hidden layers, shape (seeds,)."""
    hidden = [curve.values[:-1] for curve in curves_of(tables, label)]  # the last layer is the logits
    return np.array([np.mean([noise(row) for row in curve]) for curve in hidden])


def back_and_forth(values: Floats) -> float:
    """Return the share of the movement of a curve, shape (steps,), beyond its net change; NaN if it does not move or has NaN."""
    moved = float(np.abs(np.diff(values)).sum())
    if moved == 0:
        return math.nan
    share = 1 - abs(float(values[-1] - values[0])) / moved
    return 0.0 if share <= len(values) * ROUNDING else share


def roughness(values: Floats) -> float:
    """Return the mean absolute second difference of a curve, shape (steps,), over its range; NaN if it does not move."""
    span = float(values.max() - values.min())
    return float(np.abs(np.diff(values, n=2)).mean()) / span if span > 0 else math.nan


NOISE = {BACK_AND_FORTH: (back_and_forth, SHARES), "roughness": (roughness, LENGTHS)}


def _judge_hidden(lines: Sequence[Row]) -> Verdict:
    """Return whether mean CCA hides what the first measure shows."""
    chance = {
        (line["depth"], line["time to a fraction of"]): line["p"]
        for line in lines
        if (line["statistic"], line["measure"], line["layers"]) == (CORRELATION, UNWEIGHTED, "hidden")
    }
    own = [line for line in lines if line["statistic"] == LESS]
    holds = [line["low"] > 0 and chance[line["depth"], line["time to a fraction of"]] >= LEVEL for line in own]
    names = [f"{line['depth']} layers, {line['time to a fraction of']}" for line in own]
    return _worded(f"Mean CCA hides it (that by PWCCA {LESS})", LESS, names, own, holds)


def _judge_noise(lines: Sequence[Row]) -> Verdict:
    """Return whether cosine and Euclidean distance go back and forth more than the first measure."""
    kind = f"{BACK_AND_FORTH}, {MORE}"
    own = [line for line in lines if line["statistic"] == kind and line["measure"] in PAIRED]
    names = [f"{line['depth']} layers, {line['measure']}" for line in own]
    return _worded(
        f"Cosine and Euclidean distance are noisier ({kind})", kind, names, own, [line["low"] > 0 for line in own]
    )


def _worded(claim: str, kind: str, names: Sequence[str], lines: Sequence[Row], holds: Sequence[bool]) -> Verdict:
    """Return a verdict on a claim that holds in all of the lines, in some or in none."""
    outcome: Outcome = "reproduced" if holds and all(holds) else "differs" if any(holds) else "not reproduced"
    pairs = list(zip(names, lines, strict=True))
    words = "; ".join(
        f"{name} {line['value']:+.3f} ({line['low']:+.3f} to {line['high']:+.3f})" for name, line in pairs
    )
    statistics = {f"{kind}: {name} {end}": float(line[end]) for name, line in pairs for end in ("value", "low", "high")}
    return Verdict(outcome, f"{claim}: {outcome}; {words}.", statistics)


def _ends(interval: tuple[float, float, float]) -> Row:
    return dict(zip(("value", "low", "high"), interval, strict=True))
