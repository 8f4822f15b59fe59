"""svcca-directions: a few SVCCA directions of a layer keep the accuracy of the network (Raghu et al., Figure 2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from congruence import figures, zoo
from congruence.dynamics._relabelling import Floats
from congruence.dynamics.directions import (
    Projection,
    aligned_projection,
    canonical_directions,
    most_active_neurons,
    neuron_projection,
    pca_projection,
    svcca_projection,
)
from congruence.dynamics.studies._shared import LENGTHS, column, curve, mean_interval, states
from congruence.studies import Outcome, Row, Study, Tables, Tier, Verdict, register

KINDS = ("SVCCA", "PCA", "random neurons", "most active neurons")
VARIANCE = 0.99
"""Share of the variance of either layer that is kept before CCA."""
DISTRIBUTED = "{} SVCCA directions, read from k neurons"
NEURONS_EACH = 5
"""Neurons that a direction needs at least, in the paper."""
KEPT = 0.99
"""Share of the accuracy that counts as kept."""


@dataclass(frozen=True)
class Settings:
    """Architecture and data of the zoo, networks, layer, numbers of directions, training, and how they are distributed.

    `distributed` are numbers of directions that are read from as many neurons as `neurons` says, those best aligned.
    """

    architecture: str = "mlp:width=256,depth=3"
    data: str = "mnist_5k"
    networks: int = 6
    layer: str = "hidden2"
    counts: tuple[int, ...] = (2, 5, 10, 15, 20, 25, 40, 60, 100)
    training: str = "training:epochs=10"
    distributed: tuple[int, ...] = (10, 20)
    neurons: tuple[int, ...] = (10, 20, 50, 100, 150, 200, 256)


@register
class SvccaDirections(Study):
    """Each network is run again with one layer projected; its directions are those shared with the next network."""

    name: ClassVar[str] = "svcca-directions"
    title: ClassVar[str] = "How few directions of a layer do its work"
    claim: ClassVar[str] = (
        "About a twentieth of the directions of a layer, those shared with another network, keep the accuracy; as many neurons "
        "do not, and the directions are distributed over many times as many."
    )
    source: ClassVar[str] = "Raghu et al. 2017, section 2.1, Figure 2: 25 directions of a layer of 512, on CIFAR-10"
    tiers: ClassVar[Mapping[str, Tier]] = {
        "quick": Tier(Settings("mlp:width=32,depth=2", "digits", 3, "hidden1", (2, 8, 16), "training:epochs=5", (4,), (4, 16, 32)), "some seconds"),
        "small": Tier(Settings(), "about a minute of computing: perceptrons on 5,000 handwritten digits"),
    }  # fmt: skip

    def pieces(self, settings: Settings) -> Sequence[str]:
        """Return the training, and one piece for each network."""
        return ["train", *(f"network-{seed}" for seed in range(settings.networks))]

    def work(self, settings: Settings, piece: str) -> Tables:
        """Train, or run one network with its layer projected in every way."""
        from congruence.dynamics.projecting import accuracy_kept

        population = zoo.train(zoo.Config(settings.architecture, settings.data, settings.training), settings.networks)
        if piece == "train":
            return {
                "networks": [
                    {"seed": seed, "test_accuracy": m.get("test_accuracy")} for seed, m in population.metrics.items()
                ]
            }
        seed = int(piece.removeprefix("network-"))
        layers = states(population, zoo.Probe(split="train"), [settings.layer])
        own = layers[f"seed-{seed}"][settings.layer]
        other = layers[f"seed-{(seed + 1) % settings.networks}"][settings.layer]
        data = population.data(zoo.Probe(split="test"))
        kinds = projections(settings, own, other, seed)
        found = accuracy_kept(population.model(seed), settings.layer, data.batches(), data.labels, kinds)
        rows: list[Row] = [
            {
                "seed": seed,
                "kind": kind,
                "k": k,
                "accuracy": float(found.sel(kind=kind, k=k)),
                "full": found.attrs["full"],
            }
            for kind, by_count in kinds.items()
            for k in by_count
        ]
        few = {f"{k} directions": {m: aligned_projection(own, other, k, m, variance=VARIANCE) for m in settings.neurons} for k in settings.distributed}  # fmt: skip
        read = accuracy_kept(population.model(seed), settings.layer, data.batches(), data.labels, few)
        distributed: list[Row] = [
            {"seed": seed, "directions": k, "neurons": m, "accuracy": float(read.sel(kind=f"{k} directions", k=m))}
            for k in settings.distributed
            for m in settings.neurons
        ]
        return {"accuracy": rows, "distributed": distributed}

    def summarise(self, settings: Settings, tables: Tables) -> list[Row]:
        """Return the mean accuracy of each kind and number of directions, and the share of the whole that it is."""
        found: list[Row] = []
        for kind in KINDS:
            for k in sorted({row["k"] for row in tables["accuracy"] if row["kind"] == kind}):
                rows = _of(tables, kind, k)
                mean, low, high = mean_interval(column(rows, "accuracy") / column(rows, "full"), LENGTHS)
                line: Row = {
                    "kind": kind,
                    "k": k,
                    "networks": len(rows),
                    "accuracy": float(column(rows, "accuracy").mean()),
                }
                found.append({**line, "share": mean, "share_low": low, "share_high": high})
        return [*found, *_distributed(settings, tables)]

    def judge(self, settings: Settings, tables: Tables) -> Verdict:
        """Return whether a tenth of the directions keeps the accuracy, and beats as many neurons."""
        width = int(settings.architecture.partition("width=")[2].partition(",")[0])
        complete = [k for k in settings.counts if all(len(_of(tables, kind, k)) == settings.networks for kind in KINDS)]
        enough = [k for k in complete if float(np.mean(_share(tables, "SVCCA", k))) >= KEPT]
        if not complete:
            return Verdict("not reproduced", "No number of directions is there for all networks and kinds.", {})
        least = min(enough, default=0)
        at = least or max(k for k in complete)
        statistics: dict[str, float] = {"least_directions": least, "width": width, "k": at}
        words, ahead = [], []
        for kind in KINDS:
            mean, low, high = mean_interval(_share(tables, kind, at), LENGTHS)
            statistics |= {f"share {kind}": mean, f"share {kind} low": low, f"share {kind} high": high}
            words.append(f"{kind} {mean:.3f} ({low:.3f} to {high:.3f})")
            if kind.endswith("neurons"):
                _, gap, _ = mean_interval(_share(tables, "SVCCA", at) - _share(tables, kind, at))
                ahead.append(gap > 0)
        few = bool(least) and least <= width / 10
        spread, spread_words, spread_statistics = _spread(settings, tables)
        outcome: Outcome = (
            "reproduced" if few and all(ahead) and spread else "differs" if least and all(ahead) else "not reproduced"
        )
        first = (
            f"{least} of {width} SVCCA directions keep {KEPT:.0%} of the accuracy"
            if least
            else f"No number of SVCCA directions keeps {KEPT:.0%} of the accuracy"
        )
        return Verdict(
            outcome,
            f"{first}. Share of the accuracy that {at} keep: {', '.join(words)}. {spread_words}",
            statistics | spread_statistics,
        )

    def draw(self, settings: Settings, tables: Tables, folder: Path) -> None:
        """Draw the accuracy over the number of directions, and over the number of neurons that these are read from."""
        lines = self.summarise(settings, tables)
        series = []
        for kind in KINDS:
            rows = [line for line in lines if line["kind"] == kind]
            series.append(curve(kind, rows, "k", "share"))
        ax = figures.curves(series, xlabel="directions", ylabel="share of the accuracy", title=self.title)
        figures.save_figure(ax, folder / "accuracy.png")
        series = []
        for k in settings.distributed:
            rows = [line for line in lines if line["kind"] == DISTRIBUTED.format(k)]
            series.append(curve(f"{k} directions", rows, "k", "share"))
        ax = figures.curves(
            series,
            xlabel="neurons they are read from",
            ylabel="share of their accuracy",
            title="How distributed SVCCA directions are",
        )
        figures.save_figure(ax, folder / "distributed.png")


def projections(settings: Settings, own: Floats, other: Floats, seed: int) -> dict[str, dict[int, Projection]]:
    """Return the projections of a layer of each kind, for the numbers of directions that there are."""
    order = np.random.default_rng(seed).permutation(own.shape[1])
    most = own.shape[1]
    limits = {
        "SVCCA": len(canonical_directions(own, other, variance=VARIANCE).correlations),
        "PCA": int(np.linalg.matrix_rank(own - own.mean(axis=0))),
        "random neurons": most,
        "most active neurons": most,
    }
    makers: dict[str, Callable[[int], Projection]] = {
        "SVCCA": lambda k: svcca_projection(own, other, k, variance=VARIANCE),
        "PCA": lambda k: pca_projection(own, k),
        "random neurons": lambda k: neuron_projection(own, order[:k]),
        "most active neurons": lambda k: neuron_projection(own, most_active_neurons(own, k)),
    }
    return {kind: {k: makers[kind](k) for k in settings.counts if k <= limits[kind]} for kind in KINDS}


def _read_from(tables: Tables, directions: int, neurons: int) -> Floats:
    """Return the accuracy of directions read from so many neurons, by network."""
    wanted = (directions, neurons)
    return column([row for row in tables["distributed"] if (row["directions"], row["neurons"]) == wanted], "accuracy")


def _distributed(settings: Settings, tables: Tables) -> list[Row]:
    """Return the share of the accuracy of directions that is kept where few neurons tell them."""
    found: list[Row] = []
    for directions in settings.distributed:
        all_neurons = _read_from(tables, directions, max(settings.neurons))
        for m in settings.neurons:
            own = _read_from(tables, directions, m)
            mean, low, high = mean_interval(own / all_neurons, LENGTHS)
            line: Row = {
                "kind": DISTRIBUTED.format(directions),
                "k": m,
                "networks": len(own),
                "accuracy": float(own.mean()),
            }
            found.append({**line, "share": mean, "share_low": low, "share_high": high})
    return found


def _spread(settings: Settings, tables: Tables) -> tuple[bool, str, dict[str, float]]:
    """Return whether directions need at least as many neurons each as in the paper, in words and in numbers."""
    lines, words = _distributed(settings, tables), []
    statistics: dict[str, float] = {}
    holds = True
    for directions in settings.distributed:
        rows = [line for line in lines if line["kind"] == DISTRIBUTED.format(directions)]
        least = min(row["k"] for row in rows if row["share"] >= KEPT)  # all neurons keep all
        before = max((row for row in rows if row["k"] < least), key=lambda row: int(row["k"]), default=rows[0])
        holds = holds and least >= NEURONS_EACH * directions
        statistics |= {f"neurons for {directions} directions": least, f"share of {directions} directions from {before['k']} neurons": before["share"]}  # fmt: skip
        words.append(f"{directions} directions need {least} of {max(settings.neurons)} neurons ({before['k']} keep {before['share']:.3f} of their accuracy, {before['share_low']:.3f} to {before['share_high']:.3f})")  # fmt: skip
    return holds, f"Read from the neurons best aligned with them, {'; '.join(words)}.", statistics


def _of(tables: Tables, kind: str, k: int) -> list[Row]:
    return [row for row in tables["accuracy"] if (row["kind"], row["k"]) == (kind, k)]


def _share(tables: Tables, kind: str, k: int) -> Floats:
    rows = _of(tables, kind, k)
    return np.asarray(column(rows, "accuracy") / column(rows, "full"))
