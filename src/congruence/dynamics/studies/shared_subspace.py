"""shared-subspace: which principal directions networks that differ in their seeds share (Kornblith et al., Figure 8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from congruence import figures, zoo
from congruence.dynamics._relabelling import Floats
from congruence.dynamics.studies._shared import column, over_pairs, passing, with_ends
from congruence.dynamics.subspaces import SharedDirections, along, leading_directions, unit_gram
from congruence.studies import Outcome, Row, Study, Tables, Tier, Verdict, register

KINDS = ("trained", "untrained")
AROUND = 0.2
"""How far the number of shared directions may be from the number of classes, as a share of it."""


@dataclass(frozen=True)
class Settings:
    """Architecture and data of the zoo, networks, training, test stimuli, and directions to look at."""

    architecture: str = "tiny10"
    data: str = "mnist_5k"
    networks: int = 10
    training: str = "training"
    stimuli: int = 500
    directions: int = 40


@register
class SharedSubspace(Study):
    """All pairs of networks, layer by layer; trained, and as they were drawn."""

    name: ClassVar[str] = "shared-subspace"
    title: ClassVar[str] = "How many directions networks share"
    claim: ClassVar[str] = (
        "Networks that differ in their seeds share their leading directions, in the last layer about as many as there are classes."
    )
    source: ClassVar[str] = "Kornblith et al. 2019, section 6.4 and Figure 8; there CIFAR-10, average pool"
    tiers: ClassVar[Mapping[str, Tier]] = {
        "quick": Tier(Settings("mlp:width=24,depth=2", "digits", 3, "training:epochs=5", 200, 20), "some seconds"),
        "small": Tier(
            Settings(),
            "about 5 minutes, half of them training: convolutional networks on 5,000 digits, from the cache if they are there",
        ),
    }

    def pieces(self, settings: Settings) -> Sequence[str]:
        """Return the training, and one piece for the pairs of either kind of networks."""
        del settings
        return ["train", *KINDS]

    def work(self, settings: Settings, piece: str) -> Tables:
        """Train, or compare all networks of a kind in every layer."""
        if piece == "train":
            found = population(settings, KINDS[0]).metrics
            return {"networks": [{"seed": seed, "test_accuracy": m.get("test_accuracy")} for seed, m in found.items()]}
        networks, tables = population(settings, piece), Tables(pairs=[], directions=[])
        layers = networks.layers()
        probe = networks.data(zoo.Probe(n=settings.stimuli)).batches()
        grams: dict[str, list[Floats]] = {layer: [] for layer in layers}
        for _, found_in in passing(networks, probe, layers):
            for layer, values in found_in.items():
                grams[layer].append(unit_gram(values, layer))
        for layer in layers:
            pairs = all_pairs(grams[layer], settings.directions)
            about: Row = {"networks": piece, "layer": layer}
            tables["pairs"] += [{**about, "a": a, "b": b, "shared": found.shared} for (a, b), found in pairs.items()]
            tables["directions"] += [{**about, **row} for row in _curves(pairs)]
        return tables

    def summarise(self, settings: Settings, tables: Tables) -> list[Row]:
        """Return the number of shared directions of each layer, trained and untrained, with intervals over networks."""
        found: list[Row] = []
        for layer in dict.fromkeys(row["layer"] for row in tables["pairs"]):
            line: Row = {"layer": layer}
            for kind in KINDS:
                counts = _matrix([r for r in tables["pairs"] if (r["networks"], r["layer"]) == (kind, layer)])
                line |= with_ends(kind, over_pairs(counts, (0.0, settings.directions)))
            found.append(line)
        return found

    def judge(self, settings: Settings, tables: Tables) -> Verdict:
        """Return whether the interval for the last layer lies around the number of classes."""
        lines = self.summarise(settings, tables)
        last, classes = lines[-1], zoo.Config(settings.architecture, settings.data).dataset.classes
        around = (1 - AROUND) * classes <= last["trained_low"] and last["trained_high"] <= (1 + AROUND) * classes
        outcome: Outcome = "reproduced" if around else "differs" if last["trained_low"] >= 1 else "not reproduced"
        words = [
            f"{line['layer']} {line['trained']:.1f} ({line['trained_low']:.1f} to {line['trained_high']:.1f}), untrained {line['untrained']:.1f}"
            for line in lines
        ]
        text = (
            f"Leading directions shared by two networks, cosine above 0.71 without a gap; {classes} classes, "
            f"{settings.directions} directions looked at: {'; '.join(words)}."
        )
        names = ("trained", "trained_low", "trained_high", "untrained")
        statistics = {f"{line['layer']} {name}": float(line[name]) for line in lines for name in names}
        return Verdict(outcome, text, {"classes": float(classes), **statistics})

    def draw(self, settings: Settings, tables: Tables, folder: Path) -> None:
        """Draw the cosines of some layers, and eigenvalues and norms of the last one."""
        del settings
        layers = list(dict.fromkeys(row["layer"] for row in tables["directions"]))
        shown = layers[::-2][::-1]
        for kind in KINDS:
            series = [_series(tables, kind, layer, "cosine", layer) for layer in shown]
            ax = figures.curves(
                series, xlabel="direction, the largest first", ylabel="cosine of u and YYᵀu", title=f"{kind} networks".capitalize()
            )  # fmt: skip
            ax.axhline(0.5**0.5, color="black", linewidth=0.8, linestyle="--")
            ax.set_ylim(0, 1.02)
            ax.locator_params(axis="x", integer=True)
            figures.save_figure(ax, folder / f"cosines-{kind}.png")
        series = [
            _series(tables, "trained", layers[-1], name, label)
            for name, label in (("own", "‖XXᵀu‖"), ("other", "‖YYᵀu‖"))
        ]
        title = f"Layer {layers[-1]}, trained networks"
        ax = figures.curves(series, xlabel="direction, the largest first", ylabel="norm", title=title, log="y")
        ax.locator_params(axis="x", integer=True)
        figures.save_figure(ax, folder / "norms.png")


def population(settings: Settings, kind: str) -> zoo.Population:
    """Return the networks, trained or as they were drawn."""
    config = zoo.Config(settings.architecture, settings.data, settings.training)
    if kind == "untrained":
        config = replace(config, training=replace(config.recipe, epochs=0))
    return zoo.train(config, settings.networks)


def all_pairs(grams: Sequence[Floats], count: int) -> dict[tuple[int, int], SharedDirections]:
    """Return what each network makes of the leading directions of each other, by their places."""
    directions = [leading_directions(gram, count) for gram in grams]
    places = range(len(grams))
    return {(a, b): along(directions[a], grams[b]) for a in places for b in places if a != b}


def _curves(pairs: Mapping[tuple[int, int], SharedDirections]) -> list[Row]:
    """Return the mean of each direction over ordered pairs, and the range of its cosine."""
    own, other, cosines = (
        np.array([getattr(found, name) for found in pairs.values()]) for name in SharedDirections._fields
    )
    return [
        {
            "direction": k + 1, "own": own[:, k].mean(), "other": other[:, k].mean(), "cosine": cosines[:, k].mean(),
            "cosine_low": cosines[:, k].min(), "cosine_high": cosines[:, k].max(),
        }
        for k in range(own.shape[1])
    ]  # fmt: skip


def _matrix(rows: Sequence[Row]) -> Floats:
    """Return the numbers of shared directions, shape (networks, networks)."""
    size = 1 + max(row["a"] for row in rows)
    found = np.zeros((size, size))
    for row in rows:
        found[row["a"], row["b"]] = row["shared"]
    return found


def _series(tables: Tables, kind: str, layer: str, name: str, label: str) -> figures.Series:
    rows = [row for row in tables["directions"] if (row["networks"], row["layer"]) == (kind, layer)]
    return figures.Series(label, column(rows, "direction"), column(rows, name))
