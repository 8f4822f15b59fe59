"""width-convergence: wider networks find more similar solutions (Morcos et al., section 3.2; Kornblith et al., Figure 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from scipy.stats import pearsonr

from congruence import figures, zoo
from congruence.dynamics.groups import GroupComparison
from congruence.dynamics.studies._shared import column, curve, layer_groups, states
from congruence.studies import Outcome, Row, Study, Tables, Tier, Verdict, register


@dataclass(frozen=True)
class Settings:
    """Architecture of the zoo with a place for the width, widths, data, networks of each width, training, measures."""

    architecture: str = "tiny10:channels={}"
    widths: tuple[int, ...] = (4, 8, 16, 32)
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
        "small": Tier(Settings(), "about 5 minutes: convolutional networks of four widths on 5,000 digits"),
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
        return {"distances": rows, "tests": tests}

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
                    line |= {kind: row["distance"], f"{kind}_low": row["low"], f"{kind}_high": row["high"]}
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
            before = rows[-1]["untrained"] - rows[0]["untrained"]
            falls.append(test["high"] < 0)
            more.append(test["difference"] < before)
            statistics |= {f"{label} {key}": float(test[key]) for key in ("difference", "low", "high", "p")}
            statistics[f"{label} untrained"] = float(before)
            words.append(
                f"{label}: {test['difference']:+.3f} ({test['low']:+.3f} to {test['high']:+.3f}, p {test['p']:.2g}), untrained {before:+.3f}"
            )
            if len(rows) > 2:
                r = float(pearsonr(column(rows, "test_accuracy"), column(rows, "trained")).statistic)
                statistics[f"{label} correlation with accuracy"] = r
                words[-1] += f", correlation with test accuracy over {len(rows)} widths {r:+.2f}"
        outcome: Outcome = "reproduced" if all(falls) and all(more) else "differs" if any(falls) else "not reproduced"
        text = f"Mean distance of two networks in the last layer, width {settings.widths[-1]} less width {settings.widths[0]}. {'; '.join(words)}."
        return Verdict(outcome, text, statistics)

    def draw(self, settings: Settings, tables: Tables, folder: Path) -> None:
        """Draw the distances over the width."""
        lines = self.summarise(settings, tables)
        for number, label in enumerate(dict.fromkeys(line["measure"] for line in lines)):
            rows = [line for line in lines if line["measure"] == label]
            series = [curve(kind, rows, "width", kind) for kind in ("trained", "untrained")]
            ax = figures.curves(series, xlabel="width", ylabel=label, title="Distance of two networks", log="x")
            figures.save_figure(ax, folder / f"width-{number}.png")


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
