"""rotation-toy: a network that only turns its state; CCA sees that nothing is lost (Morcos et al., Figure A2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from scipy.special import expit
from scipy.stats import ortho_group

from congruence import figures
from congruence.dynamics._relabelling import Floats
from congruence.dynamics.studies._shared import LENGTHS, SHARES, column, mean_interval, quiet_value, with_ends
from congruence.studies import Outcome, Row, Study, Tables, Tier, Verdict, register

DISTANCES = ("cca", "cosine", "euclidean")
RANGES = {"cca": SHARES, "cosine": (0.0, 2.0), "euclidean": LENGTHS}
SMALL, FAR = 0.1, 0.5
"""CCA distance is about 0 below the first; cosine and Euclidean distances are not above the second."""


@dataclass(frozen=True)
class Settings:
    """Units, steps, starting states, weights of the nonlinear part, and draws of the weights."""

    units: int = 100
    steps: int = 20
    starts: int = 1000
    alphas: tuple[float, ...] = (0.0, 1.0, 10.0, 100.0)
    draws: int = 5


@register
class RotationToy(Study):
    """h <- W h + alpha sigmoid(V h) + b, with W a rotation; alpha = 0 leaves the bias out too and is the rotation alone."""

    name: ClassVar[str] = "rotation-toy"
    title: ClassVar[str] = "A network that turns its state"
    claim: ClassVar[str] = (
        "Over the steps the CCA distance to the last state is about 0, and cosine and Euclidean distances are not."
    )
    source: ClassVar[str] = "Morcos et al. 2018, appendix A.3 and Figure A2; the number of units is not stated there"
    tiers: ClassVar[Mapping[str, Tier]] = {
        "quick": Tier(Settings(20, 8, 200, (0.0, 1.0, 100.0), 2), "a second"),
        "small": Tier(Settings(), "about half a minute"),
    }

    def pieces(self, settings: Settings) -> Sequence[str]:
        """Return one piece for each weight of the nonlinear part."""
        return [f"alpha-{alpha:g}" for alpha in settings.alphas]

    def work(self, settings: Settings, piece: str) -> Tables:
        """Let the network run, and compare every state with the last."""
        alpha = float(piece.removeprefix("alpha-"))
        rows: list[Row] = []
        for draw in range(settings.draws):
            states = unrolled(settings, alpha, np.random.default_rng(draw))
            last = states[-1]
            for step, state in enumerate(states[:-1]):
                norms = np.linalg.norm(state, axis=1) * np.linalg.norm(last, axis=1)
                row: Row = {"alpha": alpha, "draw": draw, "step": step, "cca": 1 - quiet_value("cca", state, last)}
                row["cosine"] = float(np.mean(1 - (state * last).sum(axis=1) / norms))
                lengths = np.linalg.norm(last, axis=1)
                row["euclidean"] = float(np.mean(np.linalg.norm(state - last, axis=1)) / np.mean(lengths))
                rows.append(row)
        return {"steps": rows}

    def summarise(self, settings: Settings, tables: Tables) -> list[Row]:
        """Return mean distances over the steps for each weight, with intervals over draws."""
        found: list[Row] = []
        for alpha in settings.alphas:
            line: Row = {"alpha": alpha}
            for name in DISTANCES:
                by_draw = np.array([column(_of(tables, alpha, draw), name).mean() for draw in range(settings.draws)])
                line |= with_ends(name, mean_interval(by_draw, RANGES[name]))
            line["largest_cca"] = float(column(_of(tables, alpha), "cca").max())
            found.append(line)
        return found

    def judge(self, settings: Settings, tables: Tables) -> Verdict:
        """Return whether CCA is about 0 and the others are not: for the rotation, and with the nonlinear part."""
        statistics: dict[str, float] = {}
        words, held = [], []
        for line in self.summarise(settings, tables):
            alpha = line["alpha"]
            statistics |= {f"{name}_{alpha:g}": line[name] for name in (*DISTANCES, "largest_cca")}
            held.append(line["largest_cca"] < SMALL and min(line["cosine"], line["euclidean"]) > FAR)
            words.append(
                f"alpha {alpha:g}: CCA {line['cca']:.3f} (at most {line['largest_cca']:.3f}), cosine {line['cosine']:.2f}, Euclidean {line['euclidean']:.2f}"
            )
        outcome: Outcome = "reproduced" if all(held) else "differs" if held[0] else "not reproduced"
        text = f"Mean distance to the last state. {'; '.join(words)}."
        return Verdict(outcome, text, statistics)

    def draw(self, settings: Settings, tables: Tables, folder: Path) -> None:
        """Draw the distances over the steps, for every weight."""
        for alpha in settings.alphas:
            steps = np.arange(settings.steps)
            rows = _of(tables, alpha)
            series = []
            for name in DISTANCES:
                means = [float(column([r for r in rows if r["step"] == step], name).mean()) for step in steps]
                series.append(figures.Series(name, steps, means))
            title = "Rotation" if alpha == 0 else f"Nonlinear part times {alpha:g}"
            ax = figures.curves(series, xlabel="step", ylabel="distance to the last state", title=title)
            figures.save_figure(ax, folder / f"alpha-{alpha:g}.png")


def unrolled(settings: Settings, alpha: float, rng: np.random.Generator) -> list[Floats]:
    """Return the states at all steps, the start first, each of shape (starts, units)."""
    units = settings.units
    turn = ortho_group.rvs(units, random_state=rng)
    random, bias = rng.normal(size=(units, units)) / np.sqrt(units), rng.normal(size=units)
    states = [rng.normal(size=(settings.starts, units))]
    for _ in range(settings.steps):
        state = states[-1] @ turn.T
        states.append(state + alpha * expit(states[-1] @ random.T) + bias if alpha else state)
    return states


def _of(tables: Tables, alpha: float, draw: int | None = None) -> list[Row]:
    return [row for row in tables["steps"] if row["alpha"] == alpha and draw in (None, row["draw"])]
