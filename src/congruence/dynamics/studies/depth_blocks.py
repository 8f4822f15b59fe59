"""depth-blocks: networks that are too deep repeat their layers (Kornblith et al. 2019, section 6.1 and Figure 3)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from congruence import figures, zoo
from congruence.dynamics._relabelling import Floats
from congruence.dynamics.studies._shared import (
    CORRELATIONS,
    SHARES,
    column,
    in_words,
    mean_interval,
    passing,
    with_ends,
)
from congruence.engine import run_comparison
from congruence.errors import CongruenceWarning
from congruence.measures import measure
from congruence.representation import Representation
from congruence.studies import Outcome, Row, Study, Tables, Tier, Verdict, register
from congruence.validate import require_extra

ALIKE = 0.9
"""A layer repeats the last one if their similarity is above this."""
NEAR = 0.02
"""A probe is at its plateau if its accuracy is within this of the best of any layer."""
QUANTITIES = ("repeated", "plateau", "test_accuracy")


@dataclass(frozen=True)
class Settings:
    """Architecture of the zoo with a place for the depth, depths, data, networks of each, training, stimuli, measure.

    Layers are compared, and probes tested, on test images; probes are fitted on training images.
    """

    architecture: str = "plain:n={},width=0.125"
    depths: tuple[int, ...] = (1, 2, 4)
    data: str = "mnist_5k:size=12"
    networks: int = 4
    training: str = "training:epochs=12,batch_size=64,learning_rate=0.02"
    stimuli: int = 500
    fitted: int = 300
    measure: str = "cka:estimator=debiased"


@register
class DepthBlocks(Study):
    """Networks of one plan with ever more layers; each layer compared with all others of its network, and probed."""

    name: ClassVar[str] = "depth-blocks"
    title: ClassVar[str] = "Networks that are too deep repeat their layers"
    claim: ClassVar[str] = (
        "In a network that is too deep more than half of the layers are nearly the same as the last one, and a probe gains nothing there."
    )
    source: ClassVar[str] = (
        "Kornblith et al. 2019, section 6.1 and Figure 3; there Plain-10 times 1, 2, 4, 8 on CIFAR-10"
    )
    tiers: ClassVar[Mapping[str, Tier]] = {
        "quick": Tier(
            Settings("mlp:width=16,depth={}", (2, 5), "digits", 2, "training:epochs=5", 100, 60),
            "some seconds: perceptrons on 1,797 digits",
        ),
        "small": Tier(
            Settings(),
            "about 10 minutes, by the times of single networks: plain convolutional networks of 8, 16 and 32 layers on 5,000 digits",
        ),
    }

    def pieces(self, settings: Settings) -> Sequence[str]:
        """Return the training and the comparison for each depth."""
        return [f"{task}-{depth}" for depth in settings.depths for task in ("train", "compare")]

    def work(self, settings: Settings, piece: str) -> Tables:
        """Train the networks of one depth, or compare and probe their layers."""
        task, _, depth = piece.partition("-")
        networks = population(settings, int(depth))
        if task == "train":
            found = networks.metrics
            return {"networks": [{"depth": int(depth), "seed": seed, "test_accuracy": m.get("test_accuracy")} for seed, m in found.items()]}  # fmt: skip
        tables = Tables(layers=[], similarities=[])
        layers, known, unseen = names(networks), _drawn(networks, "train", settings.fitted), _drawn(networks, "test", settings.stimuli)  # fmt: skip
        matrices = []
        for seed, values in passing(networks, [*unseen.batches(), *known.batches()], layers):
            matrices.append(similarities({name: values[name][: len(unseen)] for name in layers}, settings.measure))
            for k, name in enumerate(layers):
                accuracy = probe(values[name][len(unseen) :], known.labels, values[name][: len(unseen)], unseen.labels)
                row: Row = {"depth": int(depth), "seed": seed, "layer": name, "place": (k + 1) / len(layers)}
                tables["layers"].append({**row, "with_last": float(matrices[-1][k, -1]), "probe": accuracy})
        mean = np.mean(matrices, axis=0)
        tables["similarities"] = [
            {"depth": int(depth), "layer": a, "layer_b": b, "similarity": float(mean[i, j])}
            for i, a in enumerate(layers)
            for j, b in enumerate(layers)
        ]
        return tables

    def summarise(self, settings: Settings, tables: Tables) -> list[Row]:
        """Return, for each depth, the share of layers that repeat the last one and the place where the probe's plateau begins."""
        found: list[Row] = []
        for depth in settings.depths:
            values = _by_seed(tables, depth)
            layers = len({row["layer"] for row in tables["layers"] if row["depth"] == depth})
            line: Row = {"depth": depth, "layers": layers, "networks": len(values["repeated"])}
            for name in QUANTITIES:
                line |= with_ends(name, mean_interval(values[name], SHARES))
            found.append(line)
        return found

    def judge(self, settings: Settings, tables: Tables) -> Verdict:
        """Return whether more than half of the deepest networks repeats, more than of the shallowest, behind the plateau."""
        lines = self.summarise(settings, tables)
        deepest, shallowest = (
            _by_seed(tables, depth)["repeated"] for depth in (settings.depths[-1], settings.depths[0])
        )
        growth = mean_interval(deepest - shallowest, CORRELATIONS)
        last = lines[-1]
        holds = [last["repeated_low"] > 0.5, growth[1] > 0, last["plateau_high"] <= 0.5]
        outcome: Outcome = "reproduced" if all(holds) else "differs" if any(holds) else "not reproduced"
        words = [
            f"{line['layers']} layers: {in_words(line, 'repeated')} of them like the last, the probe at its plateau "
            f"after {in_words(line, 'plateau')} of the depth, test accuracy {in_words(line, 'test_accuracy')}"
            for line in lines
        ]
        text = (
            f"Share of the other layers whose {settings.measure} with the last one is above {ALIKE:g}. {'; '.join(words)}. "
            f"From the shallowest to the deepest the share grows by {growth[0]:+.2f} ({growth[1]:+.2f} to {growth[2]:+.2f})."
        )
        ends = [f"{name}{end}" for name in QUANTITIES for end in ("", "_low", "_high")]
        statistics = {f"{line['layers']} layers {name}": float(line[name]) for line in lines for name in ends}
        return Verdict(outcome, text, {**statistics, **dict(zip(("growth", "growth_low", "growth_high"), growth, strict=True))})  # fmt: skip

    def draw(self, settings: Settings, tables: Tables, folder: Path) -> None:
        """Draw the similarities of all layers for each depth, and similarity and probe over the depth."""
        import xarray as xr

        panes = figures.axes_in_a_row(len(settings.depths), width=4.6, height=4.2)
        for ax, depth in zip(panes, settings.depths, strict=True):
            rows = [row for row in tables["similarities"] if row["depth"] == depth]
            layers = list(dict.fromkeys(row["layer"] for row in rows))
            values = column(rows, "similarity").reshape(len(layers), len(layers))
            coordinates = {"a": layers, "b": layers}
            figures.heatmap(xr.DataArray(values, coordinates, ("a", "b")), measure(settings.measure).info, ax=ax)
            ax.set(title=f"{len(layers)} layers", xlabel="layer", ylabel="layer")
        figures.save_figure(panes[0], folder / "layers.png")
        panes = figures.axes_in_a_row(2, width=5.0)
        for ax, name, label in zip(panes, ("with_last", "probe"), (f"{settings.measure} with the last layer", "accuracy of the probe"), strict=True):  # fmt: skip
            series = [_series(tables, depth, name) for depth in settings.depths]
            figures.curves(series, xlabel="place of the layer, as a share of the depth", ylabel=label, ax=ax)
        panes[0].axhline(ALIKE, color="black", linewidth=0.8, linestyle="--")
        figures.save_figure(panes[0], folder / "depth.png")


def population(settings: Settings, depth: int) -> zoo.Population:
    """Return the networks of one depth."""
    return zoo.train(
        zoo.Config(settings.architecture.format(depth), settings.data, settings.training), settings.networks
    )


def names(networks: zoo.Population) -> list[str]:
    """Return the layers with weights: pooling puts out what is below it once more."""
    return [name for name in networks.layers() if name != "pool"]


def similarities(layers: Mapping[str, Any], label: str) -> Floats:
    """Return the similarities of all layers of a network, shape (layers, layers)."""
    chosen = measure(label)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CongruenceWarning)
        found = run_comparison([Representation(values, name) for name, values in layers.items()], None, [chosen])
    return np.asarray(found.matrix(chosen).sel(a=list(layers), b=list(layers)).values)


def probe(x: Floats, labels: Any, unseen: Floats, answers: Any) -> float:
    """Return the accuracy on unseen stimuli of a logistic regression with an L2 penalty, fitted to standardised features."""
    linear: Any = require_extra("sklearn.linear_model", "bench", "The probe of a layer")
    mean, sd = x.mean(axis=0), x.std(axis=0)
    scale = np.where(sd > 0, sd, 1.0)
    model = linear.LogisticRegression(max_iter=1000).fit((x - mean) / scale, labels)
    return float(model.score((unseen - mean) / scale, answers))


def plateau(accuracies: Floats) -> int:
    """Return which layer is the first whose probe is about as good as any, counted from 1."""
    return 1 + int(np.argmax(accuracies >= accuracies.max() - NEAR))


def _drawn(networks: zoo.Population, split: Any, n: int) -> Any:
    return networks.data(zoo.Probe(split=split, n=n))


def _by_seed(tables: Tables, depth: int) -> dict[str, Floats]:
    """Return the quantities of each network of one depth, in order of their seeds."""
    found: dict[str, list[float]] = {name: [] for name in QUANTITIES}
    for network in sorted(
        (row for row in tables["networks"] if row["depth"] == depth), key=lambda row: int(row["seed"])
    ):
        rows = [row for row in tables["layers"] if (row["depth"], row["seed"]) == (depth, network["seed"])]
        found["repeated"].append(float(np.mean(column(rows, "with_last")[:-1] > ALIKE)))
        found["plateau"].append(plateau(column(rows, "probe")) / len(rows))
        found["test_accuracy"].append(network["test_accuracy"])
    return {name: np.array(values) for name, values in found.items()}


def _series(tables: Tables, depth: int, name: str) -> figures.Series:
    """Return the mean of a curve over networks, with their range."""
    rows = [row for row in tables["layers"] if row["depth"] == depth]
    places = sorted({row["place"] for row in rows})
    values = [column([row for row in rows if row["place"] == place], name) for place in places]
    low, high = [v.min() for v in values], [v.max() for v in values]
    return figures.Series(f"{len(places)} layers", places, [v.mean() for v in values], low, high)
