"""class-sensitivity: when layers begin to tell a class (Raghu et al. 2017, section 4.3 and Figure 6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from congruence import figures, zoo
from congruence.dynamics._relabelling import Floats
from congruence.dynamics.directions import class_sensitivity
from congruence.dynamics.studies._shared import CORRELATIONS, SHARES, column, mean_interval, states
from congruence.studies import Outcome, Row, Study, Tables, Tier, Verdict, register

LEVEL = 0.05
RELABELLINGS = 4999
CHANCE_DRAWS = 5
"""Orders of the stimuli in which unrelated logits are compared."""
TINY10 = tuple(f"conv{k}" for k in range(1, 8))
"""Without the last convolution: the logits are linear in its spatial means, so that it tells every class fully."""


@dataclass(frozen=True)
class Settings:
    """Architecture, data and training of the zoo, networks to measure and others that say what is alike, layers, output."""

    architecture: str = "tiny10"
    data: str = "mnist_5k"
    measured: int = 10
    others: int = 10
    layers: tuple[str, ...] = TINY10
    steps: str | None = "spatial_mean"
    training: str = "training"


@register
class ClassSensitivity(Study):
    """The correlation of a layer with the logit of each class; which classes are alike is decided by other networks."""

    name: ClassVar[str] = "class-sensitivity"
    title: ClassVar[str] = "When layers begin to tell a class"
    claim: ClassVar[str] = (
        "Sensitivity to a class grows with depth; classes that are alike have alike curves, and distinct ones are told earlier."
    )
    source: ClassVar[str] = "Raghu et al. 2017, section 4.3 and Figure 6: five classes, a ResNet on ImageNet"
    tiers: ClassVar[Mapping[str, Tier]] = {
        "quick": Tier(Settings("mlp:width=16,depth=3", "digits", 3, 2, ("hidden1", "hidden2"), None, "training:epochs=5"), "some seconds"),
        "small": Tier(Settings(), "half a minute of computing with trained networks at hand, 8 minutes without: Tiny-10 on 5,000 handwritten digits"),
    }  # fmt: skip

    def pieces(self, settings: Settings) -> Sequence[str]:
        """Return the other networks, and one piece for each measured one."""
        return ["others", *(f"network-{seed}" for seed in range(settings.measured))]

    def work(self, settings: Settings, piece: str) -> Tables:
        """Ask the other networks which classes they confuse, or measure one network."""
        config = zoo.Config(settings.architecture, settings.data, settings.training)
        population = zoo.train(config, settings.measured + settings.others)
        if piece == "others":
            seeds = range(settings.measured, settings.measured + settings.others)
            return {"alike": _confusions(population, seeds)}
        seed = int(piece.removeprefix("network-"))
        values = states(population, zoo.Probe(), [*settings.layers, "logits"], steps=settings.steps, seeds=[seed])
        layers = dict(values[f"seed-{seed}"])
        logits = layers.pop("logits")
        found, chance = class_sensitivity(layers, logits), _chance(layers, logits, seed)
        rows: list[Row] = [
            {"seed": seed, "layer": layer, "depth": depth, "class": int(label), "sensitivity": float(found.sel({"layer": layer, "class": label})), "chance": chance[layer]}
            for depth, layer in enumerate(settings.layers)
            for label in found["class"].values
        ]  # fmt: skip
        return {"sensitivity": rows}

    def summarise(self, settings: Settings, tables: Tables) -> list[Row]:
        """Return for every layer and class the mean sensitivity, beside what unrelated logits give."""
        found: list[Row] = []
        for layer in settings.layers:
            for label in _classes(tables):
                rows = [row for row in tables["sensitivity"] if (row["layer"], row["class"]) == (layer, label)]
                mean, low, high = mean_interval(column(rows, "sensitivity"), SHARES)
                found.append({"layer": layer, "class": label, "networks": len(rows), "sensitivity": mean, "low": low, "high": high, "chance": float(column(rows, "chance").mean()), "beyond_chance": float(np.mean(_beyond(rows)))})  # fmt: skip
        return found

    def judge(self, settings: Settings, tables: Tables) -> Verdict:
        """Return which of the three parts hold: by an interval over networks, the last two also by a test over classes."""
        curves, alike = curves_of(tables), alikeness(tables)
        depth = _ranks(np.tile(np.arange(len(settings.layers)), curves.shape[1]))
        grows = np.array([_cosine(depth, _ranks(one.ravel())) for one in curves])
        parts: dict[str, tuple[Floats, float]] = {"growth with depth": (grows, 0.0)}
        for name, statistic in (("alike curves", alike_curves), ("distinct early", distinct_early)):
            own = np.array([statistic(one, alike, 0)[0] for one in curves])
            parts[name] = own, statistic(curves.mean(axis=0), alike)[1]
        statistics: dict[str, float] = {}
        words, holds = [], []
        for name, (values, p) in parts.items():
            mean, low, high = mean_interval(values, CORRELATIONS)
            statistics |= {name: mean, f"{name} low": low, f"{name} high": high}
            test = ""
            if name != "growth with depth":
                statistics[f"{name} p"] = p
                test = f", p {p:.2g}"
            words.append(f"{name} {mean:+.2f} ({low:+.2f} to {high:+.2f}{test})")
            holds.append(low > 0 and p < LEVEL)
        outcome: Outcome = "reproduced" if all(holds) else "differs" if any(holds) else "not reproduced"
        text = (
            f"Rank correlations, mean over {len(curves)} networks: {'; '.join(words)}. Alike are classes that {settings.others} "
            f"other networks confuse, most of all {_most(alike)}; intervals are over networks, p over relabellings of the {len(alike)} classes."
        )
        return Verdict(outcome, text, statistics)

    def draw(self, settings: Settings, tables: Tables, folder: Path) -> None:
        """Draw the curve of every class, and how far apart the curves of pairs are over how alike they are."""
        lines, series = self.summarise(settings, tables), []
        depths = np.arange(1, len(settings.layers) + 1)
        for label in _classes(tables):
            rows = [line for line in lines if line["class"] == label]
            series.append(figures.Series(str(label), depths, column(rows, "sensitivity")))
        chance = [next(line["chance"] for line in lines if line["layer"] == layer) for layer in settings.layers]
        ax = figures.curves(series, xlabel="layer", ylabel="correlation with the logit", title=self.title)
        ax.set_xticks(depths, list(settings.layers))
        ax.plot(depths, chance, color="black", linestyle="--", linewidth=1, label="unrelated")
        ax.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        figures.save_figure(ax, folder / "sensitivity.png")
        mean, alike = curves_of(tables).mean(axis=0), alikeness(tables)
        pairs = list(combinations(range(len(alike)), 2))
        apart = [float(np.sqrt(np.mean((mean[a] - mean[b]) ** 2))) for a, b in pairs]
        shown = [figures.Series("", [alike[a, b] for a, b in pairs], apart)]
        ax = figures.points(shown, xlabel="confusion of the classes by other networks", ylabel="distance of their curves", title="Pairs of classes", log="x")  # fmt: skip
        figures.save_figure(ax, folder / "pairs.png")


# ---- what is measured ------------------------------------------------------------------------------------------------


def _confusions(population: zoo.Population, seeds: Sequence[int]) -> list[Row]:
    """Return the mean probability that images of one class get for another, over networks: rows of true, said, value."""
    from congruence.zoo.evaluation import logits

    data = population.data(zoo.Probe())
    found = []
    for seed in seeds:
        chances = logits(population.model(seed), data).double().softmax(dim=1).numpy()
        found.append([chances[data.labels == label].mean(axis=0) for label in range(chances.shape[1])])
    mean = np.mean(found, axis=0)
    return [{"true": a, "said": b, "probability": float(mean[a, b])} for a, b in np.ndindex(*mean.shape)]


def _chance(layers: Mapping[str, Any], logits: Any, seed: int) -> dict[str, float]:
    """Return what each layer gives with the logits of other stimuli: the root of the mean square over orders and classes."""
    rng = np.random.default_rng(seed)
    drawn = [class_sensitivity(layers, logits[rng.permutation(len(logits))]).values for _ in range(CHANCE_DRAWS)]
    return dict(zip(layers, np.sqrt(np.mean(np.square(drawn), axis=(0, 2))).tolist(), strict=True))


# ---- what is made of it ----------------------------------------------------------------------------------------------


def _classes(tables: Tables) -> list[int]:
    return sorted({row["class"] for row in tables["sensitivity"]})


def _beyond(rows: Sequence[Row]) -> Floats:
    """Return sensitivities as adjusted correlations: 0 where a layer fits the logit as well as an unrelated one."""
    square, chance = column(rows, "sensitivity") ** 2, column(rows, "chance") ** 2
    return np.asarray(np.sqrt(np.clip((square - chance) / (1 - chance), 0.0, 1.0)))


def curves_of(tables: Tables) -> Floats:
    """Return sensitivity beyond chance, shape (networks, classes, layers)."""
    found = []
    for seed in sorted({row["seed"] for row in tables["sensitivity"]}):
        own = [row for row in tables["sensitivity"] if row["seed"] == seed]
        ordered = [sorted((row for row in own if row["class"] == label), key=_depth) for label in _classes(tables)]
        found.append([_beyond(rows) for rows in ordered])
    return np.array(found)


def _depth(row: Row) -> int:
    return int(row["depth"])


def alikeness(tables: Tables) -> Floats:
    """Return how much other networks confuse each pair of classes, in both directions, shape (classes, classes)."""
    size = 1 + max(row["true"] for row in tables["alike"])
    found = np.zeros((size, size))
    for row in tables["alike"]:
        found[row["true"], row["said"]] = row["probability"]
    return np.asarray((found + found.T) / 2)


def alike_curves(curves: Floats, alike: Floats, orders: int = RELABELLINGS) -> tuple[float, float]:
    """Return the rank correlation over pairs of classes of alikeness and nearness of the curves, shape (classes, layers), and its p."""
    above = np.triu_indices(len(alike), 1)
    apart = np.sqrt(np.mean((curves[:, None] - curves[None]) ** 2, axis=2))
    told, near = _ranks(alike[above]), np.zeros_like(alike)
    near[above] = _ranks(-apart[above])
    near += near.T

    def statistic(order: Any) -> float:
        return _cosine(told, near[np.ix_(order, order)][above])

    return _permuted(statistic, len(alike), orders)


def distinct_early(curves: Floats, alike: Floats, orders: int = RELABELLINGS) -> tuple[float, float]:
    """Return the rank correlation over classes of distinctness and the mean sensitivity of the layers (the earlier, the more), and its p."""
    distinct = _ranks(np.diag(alike) - alike.sum(axis=1))
    early = _ranks(curves.mean(axis=1))
    return _permuted(lambda order: _cosine(distinct, early[order]), len(alike), orders)


def _permuted(statistic: Callable[[Any], float], classes: int, orders: int) -> tuple[float, float]:
    """Return a statistic of the order of the classes as they are, and its one-sided p against random orders."""
    rng = np.random.default_rng(0)
    own = statistic(np.arange(classes))
    above = sum(statistic(rng.permutation(classes)) >= own - 1e-12 for _ in range(orders))
    return own, (1 + above) / (1 + orders)


def _ranks(values: Any) -> Floats:
    """Return centred ranks."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(values) - (len(values) + 1) / 2)


def _cosine(x: Floats, y: Floats) -> float:
    """Return the correlation of centred ranks; 0 where one side is constant."""
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y / norm) if norm else 0.0


def _most(alike: Floats) -> str:
    """Return the three pairs of classes that are confused most."""
    pairs = sorted(combinations(range(len(alike)), 2), key=lambda pair: -alike[pair])
    return ", ".join(f"{a} and {b}" for a, b in pairs[:3])
