"""signal-noise-toy: which measure sees a signal that two representations share beneath noise (Morcos et al., Figure 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from scipy.stats import ortho_group

from congruence import figures
from congruence.dynamics._relabelling import Floats
from congruence.dynamics.studies._shared import (
    CORRELATIONS,
    SHARES,
    column,
    curve,
    mean_interval,
    quiet_value,
    with_ends,
)
from congruence.studies import Row, Study, Tables, Tier, Verdict, register

MEASURES = ("pwcca", "svcca", "cca")
"""From the most to the least robust, as claimed."""
NOISE = {"sd 0.1": 0.1, "variance 0.1": 0.1**0.5}
"""The paper writes N(0, 0.1) and does not say which."""


@dataclass(frozen=True)
class Settings:
    """Neurons, stimuli, numbers of signal dimensions, and draws of each."""

    neurons: int = 200
    stimuli: int = 2000
    signal: tuple[int, ...] = (20, 50, 70, 80, 100, 120, 140, 160, 180, 199)
    draws: int = 5


@register
class SignalNoiseToy(Study):
    """Two sets of neurons that share some dimensions, and have noise of their own in the others."""

    name: ClassVar[str] = "signal-noise-toy"
    title: ClassVar[str] = "Which measure sees the shared signal beneath noise"
    claim: ClassVar[str] = (
        "Projection weighted CCA is more robust to noise dimensions than SVCCA, and SVCCA than mean CCA."
    )
    source: ClassVar[str] = "Morcos et al. 2018, section 2.2 and Figure 2"
    tiers: ClassVar[Mapping[str, Tier]] = {
        "quick": Tier(Settings(40, 400, (4, 12, 24, 36), 3), "a second"),
        "small": Tier(Settings(), "about a minute: the sizes of the paper, 5 draws, both readings of its noise"),
    }

    def pieces(self, settings: Settings) -> Sequence[str]:
        """Return one piece for each number of signal dimensions."""
        return [f"signal-{k}" for k in settings.signal]

    def work(self, settings: Settings, piece: str) -> Tables:
        """Compare pairs that share so many dimensions."""
        k = int(piece.removeprefix("signal-"))
        rows: list[Row] = []
        for reading, sd in NOISE.items():
            for draw in range(settings.draws):
                x, y = pair(settings, k, sd, np.random.default_rng((draw, k)))
                values = {label: 1 - quiet_value(label, x, y) for label in MEASURES}
                rows.append({"noise": reading, "signal": k, "draw": draw, **values})
        return {"distances": rows}

    def summarise(self, settings: Settings, tables: Tables) -> list[Row]:
        """Return mean distances for each noise and number of signal dimensions."""
        found: list[Row] = []
        for reading in NOISE:
            for k in settings.signal:
                rows = _of(tables, reading, k)
                line: Row = {"noise": reading, "signal": k, "share": k / settings.neurons}
                for label in MEASURES:
                    line |= with_ends(label, mean_interval(column(rows, label), SHARES))
                found.append(line)
        return found

    def judge(self, settings: Settings, tables: Tables) -> Verdict:
        """Return whether the order holds, averaged over the numbers of signal dimensions and at each of them."""
        statistics: dict[str, float] = {}
        words, ordered, everywhere = [], [], []
        for reading in NOISE:
            for better, worse in (MEASURES[:2], MEASURES[1:]):
                margins = _margins(settings, tables, reading, better, worse)
                # draws are independent, dimensions of a draw are not
                mean, low, high = mean_interval(margins.mean(axis=0), CORRELATIONS)
                name = f"{worse}_minus_{better}_{reading.replace(' ', '_')}"
                statistics |= {name: mean, f"{name}_low": low, f"{name}_high": high}
                ordered.append(low > 0)
                everywhere.append(bool((margins.mean(axis=1) > 0).all()))
                words.append(f"{reading}: {worse} less {better} {mean:+.3f} ({low:+.3f} to {high:+.3f})")
        outcome = "reproduced" if all(ordered) and all(everywhere) else "differs" if any(ordered) else "not reproduced"
        statistics["ordered_at_every_number"] = float(all(everywhere))
        where = (
            "at every number of signal dimensions" if all(everywhere) else "not at every number of signal dimensions"
        )
        text = f"Mean distances of pairs that share signal; larger is less robust. {'; '.join(words)}. The order holds {where}."
        return Verdict(outcome, text, statistics)  # type: ignore[arg-type]

    def draw(self, settings: Settings, tables: Tables, folder: Path) -> None:
        """Draw the distances over the share of signal dimensions."""
        lines = self.summarise(settings, tables)
        for number, reading in enumerate(NOISE):
            rows = [line for line in lines if line["noise"] == reading]
            series = [curve(label, rows, "share", label) for label in MEASURES]
            ax = figures.curves(
                series, xlabel="share of signal dimensions", ylabel="distance", title=f"Noise: {reading}"
            )
            figures.save_figure(ax, folder / f"signal-noise-{number}.png")


def pair(settings: Settings, k: int, sd: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return two representations (stimuli, neurons) that share k dimensions up to an orthonormal map."""
    n, p = settings.stimuli, settings.neurons
    signal = rng.normal(size=(n, k))
    turned = signal @ ortho_group.rvs(k, random_state=rng) if k > 1 else signal
    return tuple(np.hstack([part, sd * rng.normal(size=(n, p - k))]) for part in (signal, turned))  # type: ignore[return-value]


def _of(tables: Tables, reading: str, k: int) -> list[Row]:
    return [row for row in tables["distances"] if (row["noise"], row["signal"]) == (reading, k)]


def _margins(settings: Settings, tables: Tables, reading: str, better: str, worse: str) -> Floats:
    """Return by how much one distance exceeds the other, shape (signal dimensions, draws)."""
    rows = [_of(tables, reading, k) for k in settings.signal]
    return np.array([column(some, worse) - column(some, better) for some in rows])
