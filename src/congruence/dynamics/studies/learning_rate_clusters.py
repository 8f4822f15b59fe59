"""learning-rate-clusters: are clusters of networks their learning rates, and as robust to ablation (Morcos et al., Figure 5)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from congruence import figures, zoo
from congruence.dynamics._relabelling import Floats
from congruence.dynamics.clusters import Method, agreement, cluster_networks
from congruence.dynamics.studies._shared import (
    SHARES,
    column,
    layer_groups,
    mean_interval,
    pair_rows,
    passing,
    states,
    with_ends,
)
from congruence.studies import Outcome, Row, Study, Tables, Tier, Verdict, register

METHODS: tuple[Method, ...] = ("average", "spectral")
DRAWN: Method = "spectral"
"""Whose clusters are drawn."""
CLEAR = 0.9
"""Adjusted Rand index from which clusters are the learning rates."""
BAND = 5
"""Networks from which on an interval is drawn: that of two covers everything."""
QUANTITIES = ("area", "kept")
"""Robustness: area under the accuracy over the share ablated, and the same as a share of the accuracy without ablation."""


@dataclass(frozen=True)
class Settings:
    """Architecture and data of the zoo, networks, their learning rates, and the measures.

    Neurons of the last hidden layer are set to zero in `orders` random orders, and the accuracy on the training set is
    taken at `steps` shares of them. Permutations and bootstrap samples of these tests: `permutations`.
    """

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
    orders: int = 10
    steps: int = 16
    permutations: int = 2000


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
        "quick": Tier(Settings("mlp:width=16,depth=2", networks=20, rates=2, training="training:epochs=4,schedule=constant", stimuli=150, draws=10, orders=3, steps=8, permutations=200), "some seconds"),
        "small": Tier(Settings(), "about 6 minutes: 200 perceptrons on digits"),
    }  # fmt: skip

    def pieces(self, settings: Settings) -> Sequence[str]:
        """Return the training, the ablation, and one piece for each measure."""
        return ["train", "ablation", *(f"measure-{k}" for k in range(len(settings.measures)))]

    def work(self, settings: Settings, piece: str) -> Tables:
        """Train, ablate, or compare and cluster."""
        trained = population(settings)
        rates = _rates(trained)
        if piece == "ablation":
            return _ablation(settings, trained)
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
        places = [
            {"measure": measure, "method": method, "network": name, "learning_rate": label, "cluster": int(c)}
            for method, found_clusters in by_method.items()
            for name, label, c in zip(apart["network"].values.tolist(), labels, found_clusters.assigned, strict=True)
        ]
        distances = [
            {"measure": measure, **_text_keys(row)}
            for row in compared.distances().drop(columns="measure").to_dict("records")
        ]
        tests = [
            {"measure": measure, **_text_keys(row)}
            for row in compared.to_dataframe().drop(columns="measure").to_dict("records")
        ]
        return {
            "clusters": rows,
            "assigned": places,
            "distances": distances,
            "tests": tests,
            "pairs": pair_rows(compared),
        }

    def summarise(self, settings: Settings, tables: Tables) -> list[Row]:
        """Return the clusters of each measure, and what they have to do with robustness to ablation."""
        area = {row["network"]: row["area"] for row in tables["robustness"]}
        lines: list[Row] = []
        for row in tables["clusters"]:
            same = {key: row[key] for key in ("measure", "method")}
            parts = _parts(tables["assigned"], **same)
            explained = explained_share([area[name] for name in parts], list(parts.values()), settings.permutations)
            robust = _parts(tables["robust_clusters"], method=row["method"])
            rand, p = agreement(
                [robust[name] for name in parts], list(parts.values()), permutations=settings.permutations
            )
            lines.append({**row, **explained, "robust_agreement": rand, "robust_p": p})
        return lines

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
        told, found = _robustness(settings, self.summarise(settings, tables), tables)
        text = (
            f"{settings.rates} clusters of the last hidden layer against {settings.rates} learning rates. {'; '.join(words)}. "
            f"Robustness to ablation of that layer, no part of this verdict: {told}."
        )
        return Verdict(outcome, text, statistics | found)

    def draw(self, settings: Settings, tables: Tables, folder: Path) -> None:
        """Draw the learning rates in each cluster, the mean distances within rates, and the accuracy over the share ablated."""
        del settings
        _draw_ablation(tables, folder)
        for number, measure in enumerate(dict.fromkeys(row["measure"] for row in tables["assigned"])):
            rows = [row for row in tables["assigned"] if (row["measure"], row["method"]) == (measure, DRAWN)]
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


# ---- robustness to ablation ------------------------------------------------------------------------------------------


def ablation_curves(
    hidden: Floats, weight: Floats, bias: Floats, labels: Any, orders: Any, counts: Sequence[int]
) -> Floats:
    """Return the accuracy with ever more neurons of the last hidden layer at zero, shape (orders, counts).

    Parameters
    ----------
    hidden : ndarray, shape (n, p)
        What the layer puts out.
    weight, bias : ndarray, shapes (classes, p) and (classes,)
        The linear map from there to the logits.
    labels : ndarray of int, shape (n,)
        Classes.
    orders : ndarray of int, shape (orders, p)
        In which neurons are set to zero, as in cumulative ablation (Morcos et al. 2018, ICLR, arXiv 1803.06959).
    counts : sequence of int
        After how many, increasing from 0.
    """
    logits = np.repeat((hidden @ weight.T + bias)[None], len(orders), axis=0)
    found, done = [], 0
    for count in counts:
        gone = orders[:, done:count]  # (orders, neurons)
        logits -= np.einsum("nor,orc->onc", hidden[:, gone], weight.T[gone], optimize=True)
        found.append((logits.argmax(axis=2) == labels).mean(axis=1))
        done = count
    return np.array(found).T


def explained_share(values: Sequence[float], parts: Sequence[Any], permutations: int) -> Row:
    """Return which share of the variance of a number of networks lies between parts: eta squared, from 0 to 1.

    ``eta_low`` and ``eta_high`` are the middle 95 % over bootstrap samples of networks within each part; ``eta_p`` is the
    share of relabellings of the networks whose eta squared is at least as large, the true one counted. All NaN if a number is.
    """
    rng, places = np.random.default_rng(0), np.unique(np.asarray(parts), return_inverse=True)[1]
    numbers = np.asarray(values, dtype=np.float64)
    if not np.isfinite(numbers).all():
        return dict.fromkeys(("eta", "eta_low", "eta_high", "eta_p"), math.nan)
    members = [np.flatnonzero(places == part) for part in range(int(places.max()) + 1)]
    drawn = [np.concatenate([rng.choice(own, len(own)) for own in members]) for _ in range(permutations)]
    low, high = np.percentile([_eta_squared(numbers[rows], places[rows]) for rows in drawn], [2.5, 97.5])
    eta = _eta_squared(numbers, places)
    as_large = sum(_eta_squared(rng.permutation(numbers), places) >= eta - 1e-12 for _ in range(permutations))
    return {"eta": eta, "eta_low": float(low), "eta_high": float(high), "eta_p": (1 + as_large) / (1 + permutations)}


def _eta_squared(numbers: Floats, places: Any) -> float:
    """Return the sum of squares between parts over the total; 0 where nothing varies."""
    centred = numbers - numbers.mean()
    sums, sizes = np.bincount(places, centred), np.bincount(places)
    total = float((centred**2).sum())
    return 0.0 if total == 0 else float((sums**2 / np.maximum(sizes, 1)).sum()) / total


def _ablation(settings: Settings, trained: zoo.Population) -> Tables:
    """Return the accuracy of every network over the share ablated, its robustness, and clusters by the curves."""
    data, layer, rates = trained.data(zoo.Probe(split="train")), trained.layers()[-1], _rates(trained)
    curves, counts = {}, [0]
    for seed, values in passing(trained, data.batches(len(data)), [layer]):
        head: Any = trained.model(seed).get_submodule(trained.config.network.head)
        weight, bias = (tensor.detach().numpy().astype(np.float64) for tensor in (head.weight, head.bias))
        rng, p = np.random.default_rng(0), weight.shape[1]
        orders = np.array([rng.permutation(p) for _ in range(settings.orders)])
        counts = np.unique(np.linspace(0, p, settings.steps + 1).round().astype(int)).tolist()
        found = ablation_curves(values[layer].astype(np.float64), weight, bias, data.labels, orders, counts)
        curves[f"{rates[f'seed-{seed}']}/seed-{seed}"] = found.mean(axis=0)
    shares, stacked = np.array(counts) / counts[-1], np.array(list(curves.values()))
    areas = np.trapezoid(stacked, shares, axis=1)
    apart = np.sqrt(((stacked[:, None] - stacked[None]) ** 2).mean(axis=2))
    clusters = {m: cluster_networks(apart, count=settings.rates, method=m, draws=settings.draws) for m in METHODS}
    about = [{"network": name, "learning_rate": name.partition("/")[0]} for name in curves]
    return {
        "ablation": [{**one, "ablated": float(share), "accuracy": float(accuracy)} for one, curve in zip(about, stacked, strict=True) for share, accuracy in zip(shares, curve, strict=True)],
        "robustness": [{**one, "accuracy": float(curve[0]), "area": float(area), "kept": float(area / curve[0])} for one, curve, area in zip(about, stacked, areas, strict=True)],
        "robust_clusters": [{**one, "method": m, "cluster": int(c)} for m, found_clusters in clusters.items() for one, c in zip(about, found_clusters.assigned, strict=True)],
        "robust_stability": [{"method": m, **_cluster_row(found_clusters)} for m, found_clusters in clusters.items()],
    }  # fmt: skip


def _robustness(settings: Settings, lines: Sequence[Row], tables: Tables) -> tuple[str, dict[str, float]]:
    """Return what ablation says of learning rates and clusters, in words and numbers."""
    rates = {row["network"]: row["learning_rate"] for row in tables["robustness"]}
    statistics: dict[str, float] = {}
    words = []
    for name in QUANTITIES:
        found = explained_share(
            column(tables["robustness"], name).tolist(), list(rates.values()), settings.permutations
        )
        statistics |= {f"robustness {name} learning rate {key}": value for key, value in found.items()}
        what = "area under the accuracy" if name == "area" else "the same as a share of the accuracy without ablation"
        words.append(f"{what}, eta squared between learning rates {_eta(found)}")
        for rate in dict.fromkeys(rates.values()):
            own = column([row for row in tables["robustness"] if row["learning_rate"] == rate], name)
            ends = with_ends(f"robustness {name} {rate}", mean_interval(own, SHARES))
            statistics |= ends
    for row in tables["robust_stability"]:
        parts = _parts(tables["robust_clusters"], method=row["method"])
        rand, p = agreement([rates[name] for name in parts], list(parts.values()), permutations=settings.permutations)
        statistics |= {f"robustness {row['method']} agreement": rand, f"robustness {row['method']} p": p}
        statistics |= {f"robustness {row['method']} {key}": row[key] for key in ("stability", "stability_low", "stability_high", "silhouette")}  # fmt: skip
        words.append(f"clusters by robustness ({row['method']}) against learning rates {rand:.2f} (p {p:.2g})")
    for line in lines:
        name = f"robustness {line['measure']} {line['method']}"
        statistics |= {f"{name} {key}": line[key] for key in ("eta", "eta_low", "eta_high", "eta_p", "robust_agreement", "robust_p")}  # fmt: skip
        words.append(f"clusters by {line['measure']} ({line['method']}): eta squared {_eta(line)}, adjusted Rand index with clusters by robustness {line['robust_agreement']:.2f} (p {line['robust_p']:.2g})")  # fmt: skip
    return "; ".join(words), statistics


def _eta(found: Row) -> str:
    return f"{found['eta']:.2f} ({found['eta_low']:.2f} to {found['eta_high']:.2f}, p {found['eta_p']:.2g})"


def _draw_ablation(tables: Tables, folder: Path) -> None:
    """Draw the accuracy over the share ablated: means over networks of a learning rate, and of a cluster of each measure."""
    by = {"learning rate": {row["network"]: row["learning_rate"] for row in tables["robustness"]}}
    by |= {f"cluster by {m}": _parts(tables["assigned"], measure=m, method=DRAWN) for m in dict.fromkeys(row["measure"] for row in tables["assigned"])}  # fmt: skip
    panes = figures.axes_in_a_row(len(by), width=4.8)
    for ax, (title, parts) in zip(panes, by.items(), strict=True):
        series = []
        for part in sorted(set(parts.values()), key=float):
            rows = [row for row in tables["ablation"] if parts[row["network"]] == part]
            shares = sorted({row["ablated"] for row in rows})
            ends = np.array([mean_interval(column([row for row in rows if row["ablated"] == s], "accuracy"), SHARES) for s in shares])  # fmt: skip
            count = len(rows) // len(shares)
            band = (ends[:, 1], ends[:, 2]) if count >= BAND else ()
            series.append(figures.Series(f"{part} ({count})", shares, ends[:, 0], *band))
        figures.curves(series, xlabel="share of the neurons at zero", ylabel="accuracy on the training set", title=title, ax=ax)  # fmt: skip
    figures.save_figure(panes[0], folder / "ablation.png")


def _parts(rows: Sequence[Row], **same: Any) -> dict[str, Any]:
    """Return the cluster of each network, by name."""
    return {row["network"]: row["cluster"] for row in rows if same.items() <= row.items()}


def _rates(trained: zoo.Population) -> dict[str, str]:
    """Return the learning rate of each network as text."""
    return {f"seed-{seed}": f"{trained.config.recipe.rate_of(seed):.3g}" for seed in trained.seeds}
