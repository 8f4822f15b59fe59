"""memorise-generalise: networks that learnt labels by heart are farther apart than networks that generalise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from scipy.special import softmax
from scipy.stats import spearmanr

from congruence import figures, zoo
from congruence.dynamics._relabelling import Floats
from congruence.dynamics.studies._shared import (
    apart_of,
    between_less_within,
    change_of_spread,
    column,
    in_words,
    layer_groups,
    pair_rows,
    states,
    table_rows,
    with_ends,
)
from congruence.studies import Outcome, Row, Study, Tables, Tier, Verdict, register

GROUPS = ("generalising", "generalising, long", "memorising")
SPREAD = "spread: memorising - {}"
OUTPUTS = "softmax"
"""Name of the outputs among the layers. They have a finding of their own: "late" and "early" are hidden layers."""
FARTHER = "between less within memorising"
"""Mean distance of a memorising and a generalising network less that of two memorising ones, about 0 in the paper."""
ALIKE = 0.1
"""Outputs of a group are near-identical if the interval of their mean distance ends below this."""


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
    revision: ClassVar[int] = 2  # softmax outputs, and the distances of pairs
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
        networks = {name: _states(p, probe, layers, settings.steps) for name, p in populations.items()}
        found = layer_groups(networks, settings.measures, [*layers, OUTPUTS])
        return {**table_rows(found, split=split), "pairs": pair_rows(found, split=split)}

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
            line: Row = dict(same)
            for name, (g, h) in {**{g: (g, g) for g in GROUPS}, "memorising and generalising": GROUPS[::2]}.items():
                line |= _distance(tables, same, name, g, h)
            line |= {"difference": row["difference"], "low": row["low"], "high": row["high"], "p": row["p"]}
            long = _test(tables, same, SPREAD.format(GROUPS[1]))
            line |= {"difference_long": long["difference"], "p_long": long["p"]}
            rows = [pair for pair in tables["pairs"] if same.items() <= pair.items()]
            found.append({**line, **with_ends(FARTHER, between_less_within(*apart_of(rows, GROUPS[::2])))})
        return found

    def judge(self, settings: Settings, tables: Tables) -> Verdict:
        """Return whether the last hidden layer shows it against both controls, and the gap grows with depth, on training stimuli."""
        summary = self.summarise(settings, tables)
        lines = [line for line in summary if line["split"] == "train" and line["layer"] != OUTPUTS]
        statistics: dict[str, float] = {}
        words, late, grows, early = [], [], [], []
        for label in dict.fromkeys(line["measure"] for line in lines):
            rows = [line for line in lines if line["measure"] == label]
            first, last = rows[0], rows[-1]
            late.append(last["low"] > 0 and last["p"] < 0.05 and last["difference_long"] > 0 and last["p_long"] < 0.05)
            grows.append(last["difference"] > first["difference"])
            early.append(first["p"] >= 0.05)
            statistics |= _statistics(label, rows)
            words.append(
                f"{label}: last layer {last['difference']:+.3f} ({last['low']:+.3f} to {last['high']:+.3f}, p {last['p']:.2g}; "
                f"against training as long {last['difference_long']:+.3f}, p {last['p_long']:.2g}), "
                f"first layer {first['difference']:+.3f} (p {first['p']:.2g})"
            )
            for split in ("train", "test"):
                line = next(
                    x for x in summary if (x["split"], x["measure"], x["layer"]) == (split, label, last["layer"])
                )
                ends = [f"{FARTHER}{end}" for end in ("", "_low", "_high")]
                statistics |= {f"{label} {split} {name}": float(line[name]) for name in ends}
                words[-1] += ", {} on {} stimuli {:+.3f} ({:+.3f} to {:+.3f})".format(FARTHER, split, *(line[e] for e in ends))  # fmt: skip
        outcome: Outcome = "not reproduced"
        if any(late):
            outcome = "reproduced" if all(late) and all(grows) and all(early) else "differs"
        of_outputs = [_outputs([line for line in summary if (line["measure"], line["layer"]) == (label, OUTPUTS)], tables) for label in dict.fromkeys(line["measure"] for line in lines)]  # fmt: skip
        statistics |= {key: value for _, found in of_outputs for key, value in found.items()}
        accuracy = {
            name: column([r for r in tables["networks"] if r["group"] == name], "train_accuracy") for name in GROUPS
        }
        reached = ", ".join(f"{name} {values.min():.3f} to {values.max():.3f}" for name, values in accuracy.items())
        text = (
            f"Mean distance within memorising less within generalising networks. {'; '.join(words)}. "
            f"Softmax outputs, no part of this verdict: {'; '.join(text for text, _ in of_outputs)}. Accuracy on the training set: {reached}."
        )
        return Verdict(outcome, text, statistics)

    def draw(self, settings: Settings, tables: Tables, folder: Path) -> None:
        """Draw the mean distances within and between groups over the layers, on training and on test stimuli."""
        del settings
        splits = tuple(dict.fromkeys(row["split"] for row in tables["distances"]))
        for number, label in enumerate(dict.fromkeys(row["measure"] for row in tables["distances"])):
            panes = figures.axes_in_a_row(len(splits), width=5.6, height=4.2)
            for ax, split in zip(panes, splits, strict=True):
                rows = [r for r in tables["distances"] if (r["split"], r["measure"]) == (split, label)]
                layers = list(dict.fromkeys(row["layer"] for row in rows))
                series = _curves(rows, np.arange(len(layers)), named=ax is panes[0])
                figures.curves(series, xlabel="layer", ylabel=label, title=f"Stimuli: {split}", ax=ax)
                ax.set_xticks(np.arange(len(layers)), layers)
            figures.save_figure(panes[0], folder / f"distances-{number}.png")


def _curves(rows: Sequence[Row], places: Any, *, named: bool) -> list[figures.Series]:
    """Return the distances over the layers of every group, and of every two; names are for the legend."""
    found = []
    for g, h in dict.fromkeys((row["group"], row["group_b"]) for row in rows):
        one = [row for row in rows if (row["group"], row["group_b"]) == (g, h)]
        name = f"within {g}" if g == h else f"{g} and {h}"
        ends = (column(one, end) for end in ("distance", "low", "high"))
        found.append(figures.Series(name if named else "", places, *ends))
    return found


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


def _states(networks: zoo.Population, probe: zoo.Probe, layers: Sequence[str], steps: str | None) -> dict[str, Any]:
    """Return what hidden layers and softmax put out: name of the network -> layer -> (n, p) values."""
    head = networks.config.network.head
    logits = states(networks, probe, [head])
    found = states(networks, probe, layers, steps=steps)
    return {name: {**hidden, OUTPUTS: outputs(logits[name][head])} for name, hidden in found.items()}


def outputs(logits: Any) -> Floats:
    """Return softmax outputs, shape (n, classes), in float64.

    They sum to 1, so that one direction less than there are classes varies. In float32 the sum is 1 up to rounding, which
    CCA would count as one direction more.
    """
    return np.asarray(softmax(np.asarray(logits, dtype=np.float64), axis=1))


def _statistics(label: str, rows: Sequence[Row]) -> dict[str, float]:
    """Return the numbers of one measure over the hidden layers."""
    first, last = rows[0], rows[-1]
    names = ("difference", "low", "high", "p", "difference_long", "p_long")
    trend = math.nan
    if len(rows) > 2:
        trend = float(spearmanr(np.arange(len(rows)), column(rows, "difference")).statistic)
    ends = {"first layer": first["difference"], "first p": first["p"], "depth": trend}
    return {f"{label} {name}": float(value) for name, value in ({name: last[name] for name in names} | ends).items()}


def _outputs(lines: Sequence[Row], tables: Tables) -> tuple[str, dict[str, float]]:
    """Return what one measure says of the softmax outputs, in words and numbers, given its lines of either split.

    The finding: near-identical on training stimuli within either group, on test stimuli only within generalising networks.
    """
    label, groups, by_split = lines[0]["measure"], GROUPS[::2], {line["split"]: line for line in lines}
    alike = {(split, g): by_split[split][f"{g}_high"] < ALIKE for split in ("train", "test") for g in groups}
    holds = list(alike.values()) == [True, True, True, False] and by_split["test"][f"{GROUPS[2]}_low"] > ALIKE
    rows = {split: [r for r in tables["pairs"] if (r["split"], r["measure"], r["layer"]) == (split, label, OUTPUTS)] for split in by_split}  # fmt: skip
    (before, sizes), (after, _) = (apart_of(rows[split], groups) for split in ("train", "test"))
    grown = change_of_spread(before, after, sizes)
    statistics = {f"{split} {key}": value for split, line in by_split.items() for key, value in line.items() if isinstance(value, float)}  # fmt: skip
    statistics |= {f"test less train {key}": value for key, value in grown.items()} | {"as found": float(holds)}
    words = [
        f"{split} stimuli, within {groups[0]} {in_words(line, groups[0])}, within {groups[1]} {in_words(line, groups[1])}, "
        f"difference {line['difference']:+.3f} (p {line['p']:.2g}; against training as long {line['difference_long']:+.3f}, p {line['p_long']:.2g})"
        for split, line in by_split.items()
    ]
    grew = f"on test stimuli more by {grown['difference']:+.3f} ({grown['low']:+.3f} to {grown['high']:+.3f}, p {grown['p']:.2g})"
    return f"{label}: {'; '.join([*words, grew])}", {
        f"{label} outputs {key}": value for key, value in statistics.items()
    }


def _distance(tables: Tables, same: Row, name: str, g: str, h: str) -> Row:
    """Return a mean distance within or between groups, with its interval, as columns."""
    for row in tables["distances"]:
        if (row["group"], row["group_b"]) == (g, h) and same.items() <= row.items():
            return {name: row["distance"], f"{name}_low": row["low"], f"{name}_high": row["high"]}
    return {name: None, f"{name}_low": None, f"{name}_high": None}


def _test(tables: Tables, same: Row, contrast: str) -> Row:
    """Return one test."""
    return next(row for row in tables["tests"] if row["contrast"] == contrast and same.items() <= row.items())
