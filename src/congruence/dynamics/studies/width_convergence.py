"""width-convergence: wider networks find more similar solutions (Morcos et al., section 3.2; Kornblith et al., Figure 6)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from scipy.stats import pearsonr, t

from congruence import figures, zoo
from congruence.dynamics._relabelling import Floats
from congruence.dynamics.groups import PERMUTATIONS, GroupComparison
from congruence.dynamics.studies._shared import (
    apart_of,
    change_of_spread,
    column,
    curve,
    layer_groups,
    pair_rows,
    states,
)
from congruence.studies import Outcome, Row, Study, Tables, Tier, Verdict, register

ORDERS = math.factorial(8)
"""Orders of the widths, all of which are taken if there are no more."""


@dataclass(frozen=True)
class Settings:
    """Architecture of the zoo with a place for the width, widths, data, networks of each width, training, measures."""

    architecture: str = "tiny10:channels={}"
    widths: tuple[int, ...] = (4, 6, 8, 12, 16, 24, 32, 48)
    data: str = "mnist_5k"
    networks: int = 5
    training: str = "training:epochs=3"
    stimuli: int = 1000
    steps: str | None = "spatial_mean"
    measures: tuple[str, ...] = ("cca", "cka:estimator=debiased")


@register
class WidthConvergence(Study):
    """Networks of several widths, as many features of each compared as the narrowest has; trained and untrained."""

    name: ClassVar[str] = "width-convergence"
    title: ClassVar[str] = "Wider networks agree more"
    claim: ClassVar[str] = (
        "The distance between networks of one width falls with the width, more than before training, and with the test accuracy."
    )
    source: ClassVar[str] = "Morcos et al. 2018, section 3.2 and Figure 4 (correlation with test accuracy -0.96)"
    tiers: ClassVar[Mapping[str, Tier]] = {
        "quick": Tier(Settings("mlp:width={},depth=2", (8, 32), "digits", 4, "training:epochs=6", 200, None), "some seconds"),
        "small": Tier(Settings(), "about 14 minutes: convolutional networks of eight widths on 5,000 digits"),
    }  # fmt: skip

    def pieces(self, settings: Settings) -> Sequence[str]:
        """Return the training of each width, and the comparisons."""
        return [*(f"train-{width}" for width in settings.widths), "trained", "untrained"]

    def work(self, settings: Settings, piece: str) -> Tables:
        """Train one width, or compare the networks of all widths."""
        if piece.startswith("train-"):
            width = int(piece.removeprefix("train-"))
            found = population(settings, width, trained=True).metrics
            return {
                "networks": [
                    {"width": width, "seed": seed, "test_accuracy": m.get("test_accuracy")} for seed, m in found.items()
                ]
            }
        compared = self._compare(settings, trained=piece == "trained")
        rows: list[Row] = []
        for row in compared.distances().to_dict("records"):
            if row["group"] == row["group_b"]:
                rows.append({"networks": piece, "width": int(row["group"]), **{str(k): v for k, v in row.items() if k not in {"group", "group_b"}}})  # fmt: skip
        wide, narrow = settings.widths[-1], settings.widths[0]
        tests = [
            {"networks": piece, **{str(key): value for key, value in row.items()}}
            for row in compared.to_dataframe().to_dict("records")
            if row["contrast"] in (f"spread: {wide} - {narrow}", "separation")
        ]
        return {"distances": rows, "tests": tests, "pairs": pair_rows(compared, networks=piece)}

    def _compare(self, settings: Settings, *, trained: bool) -> GroupComparison:
        """Return the networks compared by as many features of each as the narrowest has."""
        groups: dict[str, dict[str, dict[str, Any]]] = {}
        layers: list[str] = []
        for width in settings.widths:
            networks = population(settings, width, trained=trained)
            layers = [name for name in networks.layers() if not (settings.steps and name == "pool")]
            found = states(networks, zoo.Probe(n=settings.stimuli), layers, steps=settings.steps)
            groups[str(width)] = {name: {layer: _some(values, settings, k) for layer, values in one.items()} for k, (name, one) in enumerate(found.items())}  # fmt: skip
        return layer_groups(groups, settings.measures, layers)

    def summarise(self, settings: Settings, tables: Tables) -> list[Row]:
        """Return mean distances of the last layer for each measure and width, trained and untrained, and the accuracy."""
        last = tables["distances"][-1]["layer"]
        found: list[Row] = []
        for label in dict.fromkeys(row["measure"] for row in tables["distances"]):
            for width in settings.widths:
                accuracy = column([r for r in tables["networks"] if r["width"] == width], "test_accuracy")
                line: Row = {"measure": label, "layer": last, "width": width, "test_accuracy": float(accuracy.mean())}
                for kind in ("trained", "untrained"):
                    row = next(r for r in tables["distances"] if (r["networks"], r["measure"], r["layer"], r["width"]) == (kind, label, last, width))  # fmt: skip
                    low = None if row["low"] is None else max(row["low"], 0.0)  # no mean distance is below 0
                    line |= {kind: row["distance"], f"{kind}_low": low, f"{kind}_high": row["high"]}
                found.append(line)
        return found

    def judge(self, settings: Settings, tables: Tables) -> Verdict:
        """Return whether the distance in the last layer falls from the narrowest to the widest, and more than untrained."""
        statistics: dict[str, float] = {}
        words, falls, more = [], [], []
        lines = self.summarise(settings, tables)
        for label in dict.fromkeys(line["measure"] for line in lines):
            rows = [line for line in lines if line["measure"] == label]
            test = next(t for t in tables["tests"] if (t["networks"], t["measure"], t["layer"]) == ("trained", label, rows[0]["layer"]) and t["contrast"] != "separation")  # fmt: skip
            before, excess = rows[-1]["untrained"] - rows[0]["untrained"], _excess(settings, tables, rows[0])
            falls.append(test["high"] < 0)
            more.append(excess["high"] < 0)
            statistics |= {f"{label} {key}": float(test[key]) for key in ("difference", "low", "high", "p")}
            statistics |= {f"{label} untrained": float(before)} | {f"{label} excess {k}": v for k, v in excess.items()}
            words.append(f"{label}: {_with_p(test)}, untrained {before:+.3f}, more than untrained by {_with_p(excess)}")
            if len(rows) > 2:
                for kind in ("trained", "untrained"):
                    found = _with_accuracy(settings, tables, rows[0], kind)
                    statistics |= {f"{label} {kind} correlation {key}": value for key, value in found.items()}
                    words[-1] += f", {kind} correlation with test accuracy {_with_p(found, 'r')}"
        outcome: Outcome = "reproduced" if all(falls) and all(more) else "differs" if any(falls) else "not reproduced"
        text = (
            f"Mean distance of two networks in the last layer, width {settings.widths[-1]} less width {settings.widths[0]}. "
            f"{'; '.join(words)}. p of correlations: over orders of the {len(settings.widths)} widths."
        )
        return Verdict(outcome, text, statistics)

    def draw(self, settings: Settings, tables: Tables, folder: Path) -> None:
        """Draw the distances over the width."""
        lines = self.summarise(settings, tables)
        labels = tuple(dict.fromkeys(line["measure"] for line in lines))
        panes = figures.axes_in_a_row(len(labels), width=5.0)
        for ax, label in zip(panes, labels, strict=True):
            rows = [line for line in lines if line["measure"] == label]
            series = [curve(kind, rows, "width", kind) for kind in ("trained", "untrained")]
            figures.curves(series, xlabel="width", ylabel=label, title="Distance of two networks", log="x", ax=ax)
        figures.save_figure(panes[0], folder / "width.png")


def _with_p(found: Mapping[str, Any], name: str = "difference") -> str:
    return f"{found[name]:+.3f} ({found['low']:+.3f} to {found['high']:+.3f}, p {found['p']:.2g})"


def _pairs(tables: Tables, line: Row, kind: str) -> list[Row]:
    """Return the pairs of networks, trained or not, in the measure and layer of a line."""
    wanted = (kind, line["measure"], line["layer"])
    return [row for row in tables["pairs"] if (row["networks"], row["measure"], row["layer"]) == wanted]


def _excess(settings: Settings, tables: Tables, line: Row) -> Row:
    """Return how much more the distance falls from the narrowest to the widest than before training.

    Networks of one seed start from the same weights, so that the change is that of the same networks.
    """
    ends = [str(settings.widths[0]), str(settings.widths[-1])]
    before, after = (apart_of(_pairs(tables, line, kind), ends) for kind in ("untrained", "trained"))
    return change_of_spread(before[0], after[0], after[1])


def _with_accuracy(settings: Settings, tables: Tables, line: Row, kind: str) -> dict[str, float]:
    """Return the correlation over widths of the mean distance with the mean test accuracy of the trained networks."""
    rows = _pairs(tables, line, kind)
    apart = [apart_of(rows, [str(width)])[0] for width in settings.widths]
    known = [row for row in tables["networks"] if row["test_accuracy"] is not None]
    accuracy = [column([row for row in known if row["width"] == width], "test_accuracy") for width in settings.widths]
    return correlation(apart, accuracy)


def correlation(apart: Sequence[Floats], accuracy: Sequence[Floats]) -> dict[str, float]:
    """Return the correlation over groups of the mean distance within them with their mean accuracy.

    Parameters
    ----------
    apart : sequence of ndarray, each of shape (networks, networks)
        Distances within each group.
    accuracy : sequence of ndarray, each of shape (networks,)
        Accuracy of its networks.

    Returns
    -------
    dict
        ``r``, the correlation; ``low`` and ``high``: its 95 % interval by leaving out one network at a time (in
        Fisher's z; t distribution with the degrees of freedom of the smallest group), which says what other networks of these
        groups would give, and nothing of other groups; ``p``: two-sided, over orders of the groups: all of up to eight,
        20,000 drawn ones of more. All are NaN where one of both does not vary; ``low`` and ``high`` where `r`, or that without
        one of the networks, is 1 or -1.
    """
    r = _correlation(apart, accuracy)
    if math.isnan(r):
        return dict.fromkeys(("r", "low", "high", "p"), math.nan)
    variance = 0.0
    for k, group in enumerate(accuracy):
        left = []
        for out in range(len(group)):
            kept = np.delete(np.arange(len(group)), out)
            some = [apart[k][np.ix_(kept, kept)] if j == k else one for j, one in enumerate(apart)]
            left.append(_fisher(_correlation(some, [g[kept] if j == k else g for j, g in enumerate(accuracy)])))
        variance += (len(left) - 1) / len(left) * float(((np.array(left) - np.mean(left)) ** 2).sum())
    reach = float(t.ppf(0.975, min(map(len, accuracy)) - 1)) * math.sqrt(variance)
    low, high = math.tanh(_fisher(r) - reach), math.tanh(_fisher(r) + reach)
    return {"r": r, "low": low, "high": high, "p": _p(apart, accuracy)}


def _fisher(r: float) -> float:
    """Return Fisher's z of a correlation; NaN of one that is 1 up to rounding, which has no finite z."""
    return math.atanh(r) if abs(r) < 1 - 1e-12 else math.nan


def _means(apart: Sequence[Floats], accuracy: Sequence[Floats]) -> tuple[Floats, Floats]:
    distances = np.array([one[np.triu_indices(len(one), 1)].mean() for one in apart])
    return distances, np.array([one.mean() for one in accuracy])


def _correlation(apart: Sequence[Floats], accuracy: Sequence[Floats]) -> float:
    return float(pearsonr(*_means(apart, accuracy)).statistic)


def _p(apart: Sequence[Floats], accuracy: Sequence[Floats]) -> float:
    """Return the share of orders of the groups whose correlation is at least as strong, of either sign."""
    distances, reached = (values - values.mean() for values in _means(apart, accuracy))
    orders = _orders(len(distances))
    strength = np.abs(reached[orders] @ distances)
    return float((strength >= abs(reached @ distances) - 1e-9 * strength.max()).mean())


@cache
def _orders(count: int) -> Any:
    """Return orders of the groups, the given one among them, shape (orders, count)."""
    if math.factorial(count) <= ORDERS:
        return np.array(list(permutations(range(count))))
    rng = np.random.default_rng(0)
    return np.array([np.arange(count), *(rng.permutation(count) for _ in range(PERMUTATIONS))])


def population(settings: Settings, width: int, *, trained: bool) -> zoo.Population:
    """Return the networks of one width, trained or as they were drawn."""
    config = zoo.Config(settings.architecture.format(width), settings.data, settings.training)
    if not trained:
        config = replace(config, training=replace(config.recipe, epochs=0))
    return zoo.train(config, settings.networks)


def _some(values: Any, settings: Settings, seed: int) -> Any:
    """Return as many features as the narrowest network has, drawn at random: CCA grows with their number."""
    chosen = np.random.default_rng(seed).permutation(values.shape[1])[: settings.widths[0]]
    return np.asarray(values)[:, np.sort(chosen)]
