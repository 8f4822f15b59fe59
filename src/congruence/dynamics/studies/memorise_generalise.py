"""memorise-generalise: networks that learnt labels by heart are farther apart than networks that generalise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from scipy.stats import spearmanr

from congruence import figures, zoo
from congruence.dynamics.studies._shared import column, layer_groups, states, table_rows
from congruence.studies import Outcome, Row, Study, Tables, Tier, Verdict, register

GROUPS = ("generalising", "generalising, long", "memorising")
SPREAD = "spread: memorising - {}"


@dataclass(frozen=True)
class Settings:
    """Architecture and data of the zoo, networks of each kind, training, stimuli, and measures."""

    architecture: str = "tiny10:width=0.5"
    data: str = "mnist_5k:train_size=1000"
    networks: int = 8
    epochs: int = 150
    stop_accuracy: float = 0.99
    training: str = "training:batch_size=100,learning_rate=0.003,schedule=constant"
    stimuli: int = 1000
    steps: str | None = "spatial_mean"
    measures: tuple[str, ...] = ("pwcca:weights=mean", "cka:estimator=debiased")


@register
class MemoriseGeneralise(Study):
    """Three groups: true labels, true labels for as long as the memorising networks need, and shuffled labels."""

    name: ClassVar[str] = "memorise-generalise"
    title: ClassVar[str] = "Memorising networks disagree"
    claim: ClassVar[str] = (
        "In late layers networks that memorise are farther apart than networks that generalise; in early layers they are not."
    )
    source: ClassVar[str] = "Morcos et al. 2018, section 3.1 and Figure 3; there CIFAR-10, 5 + 5 networks"
    tiers: ClassVar[Mapping[str, Tier]] = {
        "quick": Tier(
            Settings("mlp:width=24,depth=2", "digits:train_size=80", 4, 80, 0.99, "training:batch_size=40,learning_rate=0.02,schedule=constant", 80, None),
            "some seconds: perceptrons on 80 digits",
        ),
        "small": Tier(Settings(), "about 6 minutes: convolutional networks on 1,000 digits, 8 of each kind"),
    }  # fmt: skip

    def pieces(self, settings: Settings) -> Sequence[str]:
        """Return the training of each group, so that an interruption costs one, and the comparison on either split."""
        del settings
        return ["train-memorising", "train-generalising", "compare-train", "compare-test"]

    def work(self, settings: Settings, piece: str) -> Tables:
        """Train, or compare."""
        if piece.startswith("train-"):
            return {"networks": [row for name in self._trained_in(piece) for row in _network_rows(settings, name)]}
        split = piece.removeprefix("compare-")
        populations = {name: population(settings, name) for name in GROUPS}
        layers = [name for name in populations[GROUPS[0]].layers() if not (settings.steps and name == "pool")]
        available = len(populations[GROUPS[0]].config.dataset.load(split))
        probe = zoo.Probe(split=split, n=min(settings.stimuli, available))  # type: ignore[arg-type]
        networks = {name: states(p, probe, layers, steps=settings.steps) for name, p in populations.items()}
        found = layer_groups(networks, settings.measures, layers)
        return table_rows(found, split=split)

    def _trained_in(self, piece: str) -> Sequence[str]:
        return (GROUPS[2],) if piece == "train-memorising" else GROUPS[:2]

    def summarise(self, settings: Settings, tables: Tables) -> list[Row]:
        """Return mean distances of each group, and the difference that memorising makes, for each split, measure and layer."""
        del settings
        found: list[Row] = []
        for row in tables["tests"]:
            if row["contrast"] != SPREAD.format(GROUPS[0]):
                continue
            same = {key: row[key] for key in ("split", "measure", "layer")}
            line: Row = {**same, **{name: _distance(tables, same, name, name) for name in GROUPS}}
            line["memorising and generalising"] = _distance(tables, same, GROUPS[0], GROUPS[2])
            line |= {"difference": row["difference"], "low": row["low"], "high": row["high"], "p": row["p"]}
            long = _test(tables, same, SPREAD.format(GROUPS[1]))
            line |= {"difference_long": long["difference"], "p_long": long["p"]}
            found.append(line)
        return found

    def judge(self, settings: Settings, tables: Tables) -> Verdict:
        """Return whether the last layer shows it against both controls, and the gap grows with depth, on training stimuli."""
        lines = [line for line in self.summarise(settings, tables) if line["split"] == "train"]
        statistics: dict[str, float] = {}
        words, late, grows, early = [], [], [], []
        for label in dict.fromkeys(line["measure"] for line in lines):
            rows = [line for line in lines if line["measure"] == label]
            first, last = rows[0], rows[-1]
            trend = (
                float(spearmanr(np.arange(len(rows)), column(rows, "difference")).statistic)
                if len(rows) > 2
                else math.nan
            )
            late.append(last["low"] > 0 and last["p"] < 0.05 and last["difference_long"] > 0 and last["p_long"] < 0.05)
            grows.append(last["difference"] > first["difference"])
            early.append(first["p"] >= 0.05)
            statistics |= {
                f"{label} {name}": float(last[name])
                for name in ("difference", "low", "high", "p", "difference_long", "p_long")
            }
            statistics |= {
                f"{label} first layer": first["difference"],
                f"{label} first p": first["p"],
                f"{label} depth": trend,
            }
            words.append(
                f"{label}: last layer {last['difference']:+.3f} ({last['low']:+.3f} to {last['high']:+.3f}, p {last['p']:.2g}; "
                f"against training as long {last['difference_long']:+.3f}, p {last['p_long']:.2g}), "
                f"first layer {first['difference']:+.3f} (p {first['p']:.2g})"
            )
        outcome: Outcome = "not reproduced"
        if any(late):
            outcome = "reproduced" if all(late) and all(grows) and all(early) else "differs"
        accuracy = {
            name: column([r for r in tables["networks"] if r["group"] == name], "train_accuracy") for name in GROUPS
        }
        reached = ", ".join(f"{name} {values.min():.3f} to {values.max():.3f}" for name, values in accuracy.items())
        text = f"Mean distance within memorising less within generalising networks. {'; '.join(words)}. Accuracy on the training set: {reached}."
        return Verdict(outcome, text, statistics)

    def draw(self, settings: Settings, tables: Tables, folder: Path) -> None:
        """Draw the mean distances within and between groups over the layers."""
        del settings
        for split in dict.fromkeys(row["split"] for row in tables["distances"]):
            for number, label in enumerate(dict.fromkeys(row["measure"] for row in tables["distances"])):
                rows = [r for r in tables["distances"] if (r["split"], r["measure"]) == (split, label)]
                layers = list(dict.fromkeys(row["layer"] for row in rows))
                series = []
                for g, h in dict.fromkeys((row["group"], row["group_b"]) for row in rows):
                    one = [row for row in rows if (row["group"], row["group_b"]) == (g, h)]
                    ends = (column(one, "low"), column(one, "high"))
                    name = f"within {g}" if g == h else f"{g} and {h}"
                    series.append(figures.Series(name, np.arange(len(layers)), column(one, "distance"), *ends))
                ax = figures.curves(series, xlabel="layer", ylabel=label, title=f"Stimuli: {split}")
                ax.set_xticks(np.arange(len(layers)), layers)
                figures.save_figure(ax, folder / f"{split}-{number}.png")


def population(settings: Settings, group: str) -> zoo.Population:
    """Return the networks of a group, trained or from the cache.

    The long ones stop nowhere, and take as many epochs as the memorising ones took in the median.
    """
    data = settings.data
    if group == GROUPS[2]:
        name, _, rest = data.partition(":")
        data = f"{name}:{rest + ',' if rest else ''}random_labels=1"
    plain = zoo.Config(settings.architecture, data, settings.training)
    recipe = replace(plain.recipe, epochs=settings.epochs, stop_accuracy=settings.stop_accuracy)
    if group == GROUPS[1]:
        took = [m["epochs"] for m in population(settings, GROUPS[2]).metrics.values()]
        recipe = replace(plain.recipe, epochs=round(float(np.median(took))))
    return zoo.train(replace(plain, training=recipe), settings.networks)


def _network_rows(settings: Settings, group: str) -> list[Row]:
    """Return what became of the networks of a group."""
    kept = ("status", "epochs", "train_accuracy", "train_loss", "test_accuracy")
    found = population(settings, group).metrics
    return [{"group": group, "seed": seed, **{key: m.get(key) for key in kept}} for seed, m in found.items()]


def _distance(tables: Tables, same: Row, g: str, h: str) -> float | None:
    """Return a mean distance within or between groups."""
    for row in tables["distances"]:
        if (row["group"], row["group_b"]) == (g, h) and same.items() <= row.items():
            value: float | None = row["distance"]
            return value
    return None


def _test(tables: Tables, same: Row, contrast: str) -> Row:
    """Return one test."""
    return next(row for row in tables["tests"] if row["contrast"] == contrast and same.items() <= row.items())
