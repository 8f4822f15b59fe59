"""trained-untrained-datasets: what networks trained on different data have in common (Kornblith et al., Figure 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from congruence import figures, zoo
from congruence.dynamics._relabelling import Floats, jackknife
from congruence.dynamics.groups import GroupComparison
from congruence.dynamics.studies._shared import column, layer_groups, passing, table_rows
from congruence.studies import Outcome, Row, Study, Tables, Tier, Verdict, register

UNTRAINED = "untrained"


@dataclass(frozen=True)
class Settings:
    """Architecture and two data sets of the zoo, networks of each kind, training, stimuli of either test set, measure."""

    architecture: str = "tiny10:width=0.5"
    data: tuple[str, str] = ("mnist_5k:half=low", "mnist_5k:half=high")
    networks: int = 6
    training: str = "training"
    stimuli: int = 300
    measure: str = "cka:estimator=debiased"


@register
class TrainedUntrainedDatasets(Study):
    """Three groups: networks trained on the one data set, on the other, and untrained ones; no two share a seed."""

    name: ClassVar[str] = "trained-untrained-datasets"
    title: ClassVar[str] = "What networks trained on different data have in common"
    claim: ClassVar[str] = (
        "In early layers networks trained on different data are more alike than a trained and an untrained one, and more than in late layers."
    )
    source: ClassVar[str] = (
        "Kornblith et al. 2019, section 6.5 and Figure 7; there CIFAR-10 and CIFAR-100, 10 networks each"
    )
    tiers: ClassVar[Mapping[str, Tier]] = {
        "quick": Tier(
            Settings("mlp:width=24,depth=2", ("digits:half=low", "digits:half=high"), 3, "training:epochs=6", 100),
            "some seconds: perceptrons on 1,797 digits",
        ),
        "small": Tier(Settings(), "about 2 minutes: convolutional networks on the digits 0 to 4 and 5 to 9 of 5,000"),
    }  # fmt: skip

    def pieces(self, settings: Settings) -> Sequence[str]:
        """Return the training on either data set, and the comparison on either test set."""
        del settings
        return ["train-0", "train-1", "compare-0", "compare-1"]

    def work(self, settings: Settings, piece: str) -> Tables:
        """Train, or compare all networks on one test set."""
        task, _, number = piece.partition("-")
        data = settings.data[int(number)]
        if task == "train":
            found = populations(settings)[data].metrics
            return {"networks": [{"data": data, "seed": seed, "test_accuracy": m.get("test_accuracy")} for seed, m in found.items()]}  # fmt: skip
        networks = populations(settings)
        batches = networks[data].data(zoo.Probe(n=settings.stimuli)).batches()
        layers = networks[data].layers()
        groups = {group: {f"seed-{seed}": found for seed, found in passing(of, batches, layers)} for group, of in networks.items()}  # fmt: skip
        compared = layer_groups(groups, [settings.measure], layers)
        about: Row = {"test_set": data}
        rows = [{**about, **row} for row in comparisons(compared, settings.networks)]
        return {"distances": table_rows(compared, **about)["distances"], "comparisons": rows}

    def summarise(self, settings: Settings, tables: Tables) -> list[Row]:
        """Return, for each test set and layer, the similarities of trained networks and by how much they exceed those with untrained ones."""
        first, second = settings.data
        pairs = {"same_data": [(first, first), (second, second)], "other_data": [(first, second)], "with_untrained": [(first, UNTRAINED), (second, UNTRAINED)]}  # fmt: skip
        found: list[Row] = []
        for row in tables["comparisons"]:
            if row["quantity"] != "excess":
                continue
            line: Row = {"test_set": row["test_set"], "layer": row["layer"]}
            for name, groups in pairs.items():
                some = [r["distance"] for r in tables["distances"] if (r["test_set"], r["layer"]) == (row["test_set"], row["layer"]) and (r["group"], r["group_b"]) in groups]  # fmt: skip
                line[name] = 1 - float(np.mean(some))
            found.append({**line, "excess": row["value"], "excess_low": row["low"], "excess_high": row["high"]})
        return found

    def judge(self, settings: Settings, tables: Tables) -> Verdict:
        """Return whether early layers have the excess on both test sets, and the similarity across data falls with depth."""
        early, late, falls, words = [], [], [], []
        statistics: dict[str, float] = {}
        for data in settings.data:
            rows = [r for r in tables["comparisons"] if (r["test_set"], r["quantity"]) == (data, "excess")]
            fall = next(r for r in tables["comparisons"] if (r["test_set"], r["quantity"]) == (data, "fall"))
            half = len(rows) // 2
            early += [r["low"] > 0 for r in rows[:half]]
            late += [r["low"] > 0 for r in rows[half:]]
            falls.append(fall["low"] > 0)
            statistics |= {
                f"{data} {r['layer']} {key}": float(r[key]) for r in rows for key in ("value", "low", "high")
            }
            statistics |= {f"{data} fall {key}": float(fall[key]) for key in ("value", "low", "high")}
            each = ", ".join(f"{r['layer']} {_words(r)}" for r in rows)
            words.append(f"on the test set of {data} {each}; early less late layers across data {_words(fall)}")
        outcome: Outcome = "reproduced" if all(early) and all(falls) else "differs" if any(early) else "not reproduced"
        accuracy = column(tables["networks"], "test_accuracy")
        text = (
            f"Similarity across data less that of a trained and an untrained network ({settings.measure}): {'; '.join(words)}. "
            f"The interval is above 0 in {sum(early)} of {len(early)} early and {sum(late)} of {len(late)} late layers. "
            f"Test accuracy {accuracy.min():.3f} to {accuracy.max():.3f}."
        )
        return Verdict(outcome, text, statistics)

    def draw(self, settings: Settings, tables: Tables, folder: Path) -> None:
        """Draw the similarities within and between the groups over the layers, one pane a test set."""
        panes = figures.axes_in_a_row(2, width=5.8)
        for ax, data in zip(panes, settings.data, strict=True):
            rows = [row for row in tables["distances"] if row["test_set"] == data]
            layers = list(dict.fromkeys(row["layer"] for row in rows))
            series = []
            for g, h in dict.fromkeys((row["group"], row["group_b"]) for row in rows):
                one = [row for row in rows if (row["group"], row["group_b"]) == (g, h)]
                values = (1 - column(one, name) for name in ("distance", "high", "low"))
                series.append(figures.Series(_pair(g, h) if ax is panes[-1] else "", np.arange(len(layers)), *values))
            figures.curves(series, xlabel="layer", ylabel=settings.measure, title=f"Test set of {data}", ax=ax)
            ax.set_xticks(np.arange(len(layers)), layers)
            ax.set_ylim(0, 1.02)
        panes[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)
        figures.save_figure(panes[0], folder / "similarities.png")


def populations(settings: Settings) -> dict[str, zoo.Population]:
    """Return the networks of each group. Seeds are not shared, since networks of one seed start from the same weights."""
    count = settings.networks
    configs = {data: zoo.Config(settings.architecture, data, settings.training) for data in settings.data}
    start = configs[settings.data[0]]
    configs[UNTRAINED] = replace(start, training=replace(start.recipe, epochs=0))
    return {group: zoo.train(config, range(k * count, (k + 1) * count)) for k, (group, config) in enumerate(configs.items())}  # fmt: skip


def comparisons(compared: GroupComparison, count: int) -> list[Row]:
    """Return by how much networks of different data are closer than trained and untrained ones, layer by layer.

    And by how much they are closer in the first half of the layers than in the rest. Groups are those of `populations`,
    with `count` networks each; intervals are over networks.
    """
    apart: dict[str, Floats] = {layer: compared.matrix(layer).values for layer in compared.layers}
    sizes = [count] * 3
    rows = [{"layer": layer, "quantity": "excess", **_estimate(_excess, range(3), matrix, sizes)} for layer, matrix in apart.items()]  # fmt: skip
    stack, half = np.array(list(apart.values())), len(apart) // 2
    fall = stack[half:].mean(axis=0) - stack[:half].mean(axis=0)
    return [*rows, {"layer": None, "quantity": "fall", **_estimate(_across, range(2), fall, sizes)}]


def _excess(means: Floats) -> Floats:
    return np.asarray((means[:, 0, 2] + means[:, 1, 2]) / 2 - means[:, 0, 1])


def _across(means: Floats) -> Floats:
    return np.asarray(means[:, 0, 1])


def _estimate(value: Any, involved: Sequence[int], matrix: Floats, sizes: Sequence[int]) -> Row:
    """Return a function of mean distances with its interval; NaN if a comparison failed."""
    from congruence.dynamics._relabelling import group_means

    whole = np.where(np.eye(len(matrix), dtype=bool), 0.0, matrix)
    if np.isnan(whole).any():
        return dict.fromkeys(("value", "low", "high"), float("nan"))
    labels = np.repeat(np.arange(len(sizes)), sizes)[None]
    low, high = jackknife(value, involved, whole, sizes)
    return {"value": float(value(group_means(whole, labels, len(sizes)))[0]), "low": low, "high": high}


def _pair(g: str, h: str) -> str:
    """Return a name for a pair of groups."""
    return f"within {g}" if g == h else f"{g} and {h}"


def _words(row: Row) -> str:
    return f"{row['value']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
