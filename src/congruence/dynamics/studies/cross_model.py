"""cross-model: layers of networks with other weights, and of another architecture (Raghu et al. 2017, section 4.4 and App. 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from congruence import figures, zoo
from congruence.dynamics._relabelling import Floats
from congruence.dynamics.dft import dft_cca
from congruence.dynamics.studies._shared import CORRELATIONS, column, mean_interval
from congruence.studies import Outcome, Row, Study, Tables, Tier, Verdict, register

if TYPE_CHECKING:
    from torch import nn

VARIANCE = 0.99
"""Share of the variance that is kept at each frequency."""


@dataclass(frozen=True)
class Settings:
    """A convolutional network and its layers, another architecture and its, their trainings, data, stimuli, and pairs."""

    architecture: str = "tiny10"
    layers: tuple[str, ...] = tuple(f"conv{k}" for k in range(1, 9))
    training: str = "training"
    other: str = "vit"
    other_layers: tuple[str, ...] = tuple(f"blocks.{block}.{part}" for block in range(4) for part in ("attention", "feedforward"))  # fmt: skip
    other_training: str = "training:epochs=20,learning_rate=0.002,weight_decay=0.05"
    data: str = "mnist_5k"
    stimuli: int = 400
    pairs: int = 5
    crossed: int = 3


@register
class CrossModel(Study):
    """DFT-CCA of layers; networks come in pairs that share none, so that pairs are independent."""

    name: ClassVar[str] = "cross-model"
    title: ClassVar[str] = "Layers of different networks"
    claim: ClassVar[str] = (
        "Over initialisations the first and last convolutional layers are similar, and those in the middle less."
    )
    source: ClassVar[str] = "Raghu et al. 2017, section 4.4 (convolutional and residual network by DFT) and appendix 4 (over initialisations)"  # fmt: skip
    tiers: ClassVar[Mapping[str, Tier]] = {
        "quick": Tier(Settings("tiny10:channels=4", ("conv1", "conv4", "conv8"), "training:epochs=1", "vit:dim=16,depth=1,patch=4", ("blocks.0.attention", "blocks.0.feedforward"), "training:epochs=1", "digits:size=16", 120, 2, 2), "some seconds"),
        "small": Tier(Settings(), "about 2 minutes of computing with trained networks at hand, 12 without: Tiny-10 and a vision transformer on 5,000 handwritten digits"),
    }  # fmt: skip

    def pieces(self, settings: Settings) -> Sequence[str]:
        """Return one piece for each pair of convolutional networks, and for each of a convolutional and another one."""
        seeds = [f"seeds-{k}" for k in range(settings.pairs)]
        return [*seeds, *(f"architectures-{k}" for k in range(settings.crossed))]

    def work(self, settings: Settings, piece: str) -> Tables:
        """Compare two networks."""
        kind, _, number = piece.partition("-")
        pair = int(number)
        first = zoo.train(zoo.Config(settings.architecture, settings.data, settings.training), 2 * settings.pairs)
        stimuli = first.data(zoo.Probe(n=settings.stimuli))
        if kind == "seeds":
            own, other = (maps(first.model(2 * pair + k), stimuli, settings.layers) for k in (0, 1))
            rows = [_compared(layer, own[layer], layer, other[layer]) for layer in settings.layers]
        else:
            config = zoo.Config(settings.other, settings.data, settings.other_training)
            second = zoo.train(config, settings.crossed)
            own = maps(first.model(pair), stimuli, settings.layers)
            other = maps(second.model(pair), stimuli, settings.other_layers)
            rows = [_compared(a, own[a], b, other[b]) for a in own for b in other]
        return {kind: [{"pair": pair, **row} for row in rows]}

    def summarise(self, settings: Settings, tables: Tables) -> list[Row]:
        """Return the mean similarity of layers, and what it is beyond that of unrelated stimuli."""
        del settings
        found: list[Row] = []
        for kind, rows in tables.items():
            for a, b in dict.fromkeys((row["layer"], row["other"]) for row in rows):
                own = [row for row in rows if (row["layer"], row["other"]) == (a, b)]
                mean, low, high = mean_interval(beyond_chance(own), (-np.inf, 1.0))
                found.append({"over": kind, "layer": a, "other": b, "pairs": len(own), "similarity": float(column(own, "similarity").mean()), "chance": float(column(own, "chance").mean()), "beyond_chance": mean, "low": low, "high": high})  # fmt: skip
        return found

    def judge(self, settings: Settings, tables: Tables) -> Verdict:
        """Return whether both ends are more similar over seeds than the middle, and how depths go together across architectures."""
        curves = np.array(
            [beyond_chance([r for r in tables["seeds"] if r["pair"] == k]) for k in range(settings.pairs)]
        )
        middle = curves[:, 1:-1].mean(axis=1)
        gaps = {"first": curves[:, 0] - middle, "last": curves[:, -1] - middle}
        statistics: dict[str, float] = {}
        words, holds = [], []
        for end, values in gaps.items():
            mean, low, high = mean_interval(values)
            statistics |= {f"{end} over middle": mean, f"{end} over middle low": low, f"{end} over middle high": high}
            words.append(f"the {end} layer is {mean:+.3f} ({low:+.3f} to {high:+.3f}) above the middle")
            holds.append(low > 0)
        outcome: Outcome = "reproduced" if all(holds) else "differs" if any(holds) else "not reproduced"
        depth = np.array([_correspondence([r for r in tables["architectures"] if r["pair"] == k], settings) for k in range(settings.crossed)])  # fmt: skip
        mean, low, high = mean_interval(depth, CORRELATIONS)
        statistics |= {"depth across architectures": mean, "depth across architectures low": low, "depth across architectures high": high}  # fmt: skip
        text = (
            f"DFT-CCA beyond chance over {settings.pairs} pairs of seeds, from the first layer to the last: "
            f"{', '.join(f'{value:.2f}' for value in curves.mean(axis=0))}; {', '.join(words)}. Across architectures the rank correlation of "
            f"the depths of a layer and of the one most like it in {settings.other} is {mean:+.2f} ({low:+.2f} to {high:+.2f}), {settings.crossed} pairs."
        )
        return Verdict(outcome, text, statistics)

    def draw(self, settings: Settings, tables: Tables, folder: Path) -> None:
        """Draw the similarity over seeds by layer, and that to each layer of the other architecture."""
        lines = self.summarise(settings, tables)
        depths = np.arange(1, len(settings.layers) + 1)
        own = [line for line in lines if line["over"] == "seeds"]
        series = [
            figures.Series(
                "beyond chance", depths, column(own, "beyond_chance"), column(own, "low"), column(own, "high")
            ),
            figures.Series("similarity", depths, column(own, "similarity")),
            figures.Series("unrelated stimuli", depths, column(own, "chance")),
        ]
        ax = figures.curves(
            series, xlabel="layer", ylabel="DFT-CCA over seeds", title=f"{settings.architecture} and itself"
        )
        ax.set_xticks(depths, list(settings.layers))
        figures.save_figure(ax, folder / "seeds.png")
        crossed = [[line for line in lines if (line["over"], line["other"]) == ("architectures", name)] for name in settings.other_layers]  # fmt: skip
        series = [
            figures.Series(name, depths, column(rows, "beyond_chance"), column(rows, "low"), column(rows, "high"))
            for name, rows in zip(settings.other_layers, crossed, strict=True)
        ]
        ax = figures.curves(series, xlabel=f"layer of {settings.architecture}", ylabel="DFT-CCA beyond chance", title=f"With layers of {settings.other}")  # fmt: skip
        ax.set_xticks(depths, list(settings.layers))
        figures.save_figure(ax, folder / "architectures.png")


def maps(model: nn.Module, stimuli: zoo.Labelled, layers: Sequence[str]) -> dict[str, Floats]:
    """Return what layers put out as maps (n, c, h, w); tokens of patches are laid out as the patches were, without the class token."""
    from congruence.extraction import extract

    found = extract(model, stimuli.batches(), list(layers))
    return {layer: _as_map(np.asarray(found.array(layer)), layer) for layer in layers}


def _as_map(values: Any, layer: str) -> Floats:
    if values.ndim == 4:
        return np.asarray(values)
    n, tokens, features = values.shape
    side = round((tokens - 1) ** 0.5)
    assert side * side == tokens - 1, layer
    return np.asarray(values[:, 1:].reshape(n, side, side, features).transpose(0, 3, 1, 2))


def _compared(a: str, x: Floats, b: str, y: Floats) -> Row:
    """Return the similarity of two layers, and what the second gives with its stimuli in another order."""
    other = np.random.default_rng(0).permutation(len(y))
    found = {"similarity": dft_cca(x, y, variance=VARIANCE), "chance": dft_cca(x, y[other], variance=VARIANCE)}
    return {"layer": a, "other": b, **{name: one.value for name, one in found.items()}}


def beyond_chance(rows: Sequence[Row]) -> Floats:
    """Return (value - chance) / (1 - chance): 0 for layers no more similar than with unrelated stimuli, 1 for equal ones.

    Canonical correlations grow with the number of channels, which differs from layer to layer.
    """
    value, chance = column(rows, "similarity"), column(rows, "chance")
    return np.asarray((value - chance) / (1 - chance))


def _correspondence(rows: Sequence[Row], settings: Settings) -> float:
    """Return the rank correlation of the depth of a layer and that of the layer of the other network most like it."""
    from scipy.stats import spearmanr

    matrix = beyond_chance(rows).reshape(len(settings.layers), len(settings.other_layers))
    best = matrix.argmax(axis=1)
    return 0.0 if len(set(best.tolist())) < 2 else float(spearmanr(np.arange(len(best)), best).statistic)
