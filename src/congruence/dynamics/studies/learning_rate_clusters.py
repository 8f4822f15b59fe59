"""learning-rate-clusters: do networks fall into clusters, and are these their learning rates (Morcos et al., Figure 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from congruence import figures, zoo
from congruence.dynamics.clusters import Method, cluster_networks
from congruence.dynamics.studies._shared import column, layer_groups, states
from congruence.studies import Outcome, Row, Study, Tables, Tier, Verdict, register

METHODS: tuple[Method, ...] = ("average", "spectral")
CLEAR = 0.9
"""Adjusted Rand index from which clusters are the learning rates."""


@dataclass(frozen=True)
class Settings:
    """Architecture and data of the zoo, networks, their learning rates, and the measures."""

    architecture: str = "mlp:width=64,depth=4"
    data: str = "digits"
    networks: int = 200
    rates: int = 5
    highest: float = 0.02
    span: float = 100.0
    training: str = "training:epochs=20,schedule=constant"
    stimuli: int = 360
    draws: int = 100
    measures: tuple[str, ...] = ("pwcca:weights=mean", "cka:estimator=debiased")


@register
class LearningRateClusters(Study):
    """Networks that differ in initialisation, order of the stimuli and learning rate, trained as one stack."""

    name: ClassVar[str] = "learning-rate-clusters"
    title: ClassVar[str] = "Initialisation against learning rate"
    claim: ClassVar[str] = (
        "Networks of one topology fall into clusters by their distances, and these are the learning rates."
    )
    source: ClassVar[str] = "Morcos et al. 2018, section 3.3 and Figure 5; there 200 convolutional networks on CIFAR-10"
    tiers: ClassVar[Mapping[str, Tier]] = {
        "quick": Tier(Settings("mlp:width=16,depth=2", networks=20, rates=2, training="training:epochs=4,schedule=constant", stimuli=150, draws=10), "some seconds"),
        "small": Tier(Settings(), "about 6 minutes: 200 perceptrons on digits"),
    }  # fmt: skip

    def pieces(self, settings: Settings) -> Sequence[str]:
        """Return the training, and one piece for each measure."""
        return ["train", *(f"measure-{k}" for k in range(len(settings.measures)))]

    def work(self, settings: Settings, piece: str) -> Tables:
        """Train, or compare and cluster."""
        trained = population(settings)
        rates = {f"seed-{seed}": f"{trained.config.recipe.rate_of(seed):.3g}" for seed in trained.seeds}
        if piece == "train":
            return {"networks": [_network_row(seed, metrics, trained) for seed, metrics in trained.metrics.items()]}
        measure = settings.measures[int(piece.removeprefix("measure-"))]
        layer = trained.layers()[-1]
        found = states(trained, zoo.Probe(n=settings.stimuli), [layer])
        by_rate = {rate: {name: found[name] for name in rates if rates[name] == rate} for rate in _ordered(rates)}
        compared = layer_groups(by_rate, [measure], [layer], permutations=2000)
        apart = compared.matrix(layer)
        labels = [str(label) for label in apart["label"].values]
        by_method = {
            method: cluster_networks(apart.values, labels, method=method, draws=settings.draws) for method in METHODS
        }
        rows = [{"measure": measure, "method": method, **_cluster_row(one)} for method, one in by_method.items()]
        assigned = by_method["spectral"].assigned
        places = [{"measure": measure, "network": name, "learning_rate": label, "cluster": int(c)} for name, label, c in zip(apart["network"].values.tolist(), labels, assigned, strict=True)]  # fmt: skip
        distances = [
            {"measure": measure, **_text_keys(row)}
            for row in compared.distances().drop(columns="measure").to_dict("records")
        ]
        tests = [
            {"measure": measure, **_text_keys(row)}
            for row in compared.to_dataframe().drop(columns="measure").to_dict("records")
        ]
        return {"clusters": rows, "assigned": places, "distances": distances, "tests": tests}

    def summarise(self, settings: Settings, tables: Tables) -> list[Row]:
        """Return the clusters of each measure."""
        del settings
        return tables["clusters"]

    def judge(self, settings: Settings, tables: Tables) -> Verdict:
        """Return whether the clusters are the learning rates."""
        rows = tables["clusters"]
        statistics: dict[str, float] = {}
        words = []
        for row in rows:
            name = f"{row['measure']} {row['method']}"
            statistics |= {f"{name} {key}": float(row[key]) for key in ("agreement", "p", "stability", "stability_low", "stability_high", "silhouette")}  # fmt: skip
            separation = next(
                t for t in tables["tests"] if (t["measure"], t["contrast"]) == (row["measure"], "separation")
            )
            statistics |= {f"{row['measure']} {key}": float(separation[name]) for key, name in (("separation", "difference"), ("separation_low", "low"), ("separation_high", "high"), ("separation_p", "p"))}  # fmt: skip
            words.append(
                f"{row['measure']}, {row['method']}: adjusted Rand index {row['agreement']:.2f} (p {row['p']:.2g}), stability {row['stability']:.2f} "
                f"({row['stability_low']:.2f} to {row['stability_high']:.2f}), silhouette {row['silhouette']:.2f}; between learning rates less within "
                f"{separation['difference']:+.3f} ({separation['low']:+.3f} to {separation['high']:+.3f})"
            )
        best = max(row["agreement"] for row in rows)
        some = any(row["agreement"] > 0 and row["p"] < 0.05 for row in rows)
        outcome: Outcome = "reproduced" if best >= CLEAR else "differs" if some else "not reproduced"
        text = f"{settings.rates} clusters of the last hidden layer against {settings.rates} learning rates. {'; '.join(words)}."
        return Verdict(outcome, text, statistics)

    def draw(self, settings: Settings, tables: Tables, folder: Path) -> None:
        """Draw how many networks of each learning rate are in each cluster, and the mean distances between rates."""
        del settings
        for number, measure in enumerate(dict.fromkeys(row["measure"] for row in tables["assigned"])):
            rows = [row for row in tables["assigned"] if row["measure"] == measure]
            rates = list(dict.fromkeys(row["learning_rate"] for row in rows))
            series = []
            for cluster in sorted({row["cluster"] for row in rows}):
                counts = [
                    sum(1 for r in rows if (r["cluster"], r["learning_rate"]) == (cluster, rate)) for rate in rates
                ]
                series.append(figures.Series(f"cluster {cluster}", np.array(rates, dtype=float), np.array(counts)))
            ax = figures.curves(series, xlabel="learning rate", ylabel="networks", title=measure, log="x")
            figures.save_figure(ax, folder / f"clusters-{number}.png")
            within = [r for r in tables["distances"] if r["measure"] == measure and r["group"] == r["group_b"]]
            ends = (column(within, "low"), column(within, "high"))
            curve = figures.Series("", np.array([float(r["group"]) for r in within]), column(within, "distance"), *ends)
            ax = figures.curves([curve], xlabel="learning rate", ylabel="mean distance within", title=measure, log="x")
            figures.save_figure(ax, folder / f"within-{number}.png")


def population(settings: Settings) -> zoo.Population:
    """Return the networks, trained or from the cache."""
    plain = zoo.Config(settings.architecture, settings.data, settings.training)
    recipe = replace(plain.recipe, learning_rate=settings.highest, rates=settings.rates, rate_span=settings.span)
    return zoo.train(replace(plain, training=recipe), settings.networks)


def _network_row(seed: int, metrics: Mapping[str, Any], trained: zoo.Population) -> Row:
    kept = ("status", "train_accuracy", "test_accuracy")
    return {
        "seed": seed,
        "learning_rate": trained.config.recipe.rate_of(seed),
        **{key: metrics.get(key) for key in kept},
    }


def _cluster_row(found: Any) -> Row:
    names = ("count", "agreement", "p", "stability", "stability_low", "stability_high", "silhouette")
    return {name: getattr(found, name) for name in names}


def _ordered(rates: Mapping[str, str]) -> list[str]:
    return sorted(set(rates.values()), key=float)


def _text_keys(row: Mapping[Any, Any]) -> Row:
    return {str(key): value for key, value in row.items()}
