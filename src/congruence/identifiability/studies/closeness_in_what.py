"""closeness-in-what: which distance of distributions goes with the distance of representations, in populations of the zoo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import ClassVar

import numpy as np
from scipy.stats import spearmanr

from congruence import figures, linalg
from congruence.identifiability._model import Matrix
from congruence.identifiability.studies._pairs import as_row, column, compare_quietly, drawn_pairs, interval
from congruence.studies import Outcome, Row, Study, Tables, Tier, Verdict, register
from congruence.validate import Array

DISTANCES = ("d_llv", "kl", "d_logit")
"""Distances of distributions; the first two are those of the finding."""
REPRESENTATIONS = ("d_cca_f", "d_fg")
"""Distances of representations: 1 - m_CCA of the embeddings, which no choice of labels enters, and the paper's."""
DRAWS = 400


@dataclass(frozen=True)
class Settings:
    """Architectures and data sets of the zoo, and how many networks of each; input sets of d_LLV."""

    populations: tuple[tuple[str, str], ...] = (
        ("mlp:width=4,activation=gelu", "digits"),
        ("mlp:width=8,activation=gelu", "digits"),
        ("mlp:width=8,activation=gelu", "mnist_5k"),
        ("tiny10:channels=8", "mnist_5k"),
    )
    seeds: int = 10
    training: str | None = None
    input_sets: int = 100


@register
class ClosenessInWhat(Study):
    """Seeds of small image classifiers with few dimensions, all pairs of those that use all of their dimensions."""

    name: ClassVar[str] = "closeness-in-what"
    title: ClassVar[str] = "Which closeness of distributions means close representations"
    claim: ClassVar[str] = (
        "Among pairs of seeds, d_LLV rank-correlates with the distance of representations better than KL does."
    )
    source: ClassVar[str] = "asked by Nielsen et al. 2025, section 4, without an answer in numbers"
    tiers: ClassVar[Mapping[str, Tier]] = {
        "quick": Tier(
            Settings((("mlp:width=4,activation=gelu", "digits"),), 4, "training:epochs=4", 20), "some seconds"
        ),
        "small": Tier(Settings(), "about 5 minutes"),
    }

    def pieces(self, settings: Settings) -> Sequence[str]:
        """Return one piece for each population."""
        return [f"population-{k}" for k in range(len(settings.populations))]

    def work(self, settings: Settings, piece: str) -> Tables:
        """Train one population, or find it in the cache, and compare all pairs."""
        from congruence import zoo
        from congruence.identifiability.heads import outputs

        architecture, data = settings.populations[int(piece.removeprefix("population-"))]
        population = zoo.train(zoo.Config(architecture, data, settings.training), settings.seeds)
        batches = list(population.data().batches())
        found = {seed: outputs(population.model(seed), batches) for seed in population.seeds}
        diverse = [seed for seed, one in found.items() if _rank(one.f) == one.f.shape[1]]
        pairs: list[Row] = []
        for a, b in combinations(diverse, 2):
            models = (found[a].f, found[a].g, found[b].f, found[b].g)
            row = as_row(compare_quietly(*models, n_input_sets=settings.input_sets))
            pairs.append({"a": a, "b": b, **row, "d_cca_f": 1 - row["m_cca_f"]})
        accuracies = population.accuracy()
        members: list[Row] = [
            {"model": seed, "accuracy": accuracies[seed], "diverse": int(seed in diverse)} for seed in found
        ]
        tables = {"pairs": pairs, "models": members}
        named = {"population": f"{architecture}, {data}"}
        return {table: [{**named, **row} for row in rows] for table, rows in tables.items()}

    def summarise(self, settings: Settings, tables: Tables) -> list[Row]:
        """Return for each population and distance of representations the rank correlations, and their difference."""
        del settings
        found: list[Row] = []
        for population in dict.fromkeys(row["population"] for row in tables["pairs"]):
            rows = [row for row in tables["pairs"] if row["population"] == population]
            models = [row for row in tables["models"] if row["population"] == population]
            for target in REPRESENTATIONS:
                line: Row = {"population": population, "networks": len(models), "pairs": len(rows)}
                line |= {"accuracy": float(column(models, "accuracy").mean()), "distance": target}
                line |= {"mean_distance": float(column(rows, target).mean())}
                line |= {f"spearman_{name}": _spearman(column(rows, name), column(rows, target)) for name in DISTANCES}
                low, high = _difference(rows, target)
                gain = line["spearman_d_llv"] - line["spearman_kl"]
                found.append({**line, "gain": gain, "gain_low": low, "gain_high": high})
        return found

    def judge(self, settings: Settings, tables: Tables) -> Verdict:
        """Return whether d_LLV is ahead of KL with certainty: everywhere, somewhere, or nowhere."""
        lines = self.summarise(settings, tables)
        ahead = [line["gain_low"] > 0 for line in lines]
        statistics = {
            f"{line['population']}, {line['distance']}{end}": float(line[f"gain{end}"])
            for line in lines
            for end in ("", "_low", "_high")
        }
        words = [
            f"{line['population']}, {line['distance']}: {line['spearman_d_llv']:.2f} by d_LLV, {line['spearman_kl']:.2f} by KL ({line['gain']:+.2f}, {line['gain_low']:+.2f} to {line['gain_high']:+.2f})"
            for line in lines
        ]
        outcome: Outcome = "reproduced" if all(ahead) else "differs" if any(ahead) else "not reproduced"
        return Verdict(outcome, "; ".join(words) + ".", statistics)

    def draw(self, settings: Settings, tables: Tables, folder: Path) -> None:
        """Draw the distance of representations over d_LLV and over KL."""
        del settings
        populations = list(dict.fromkeys(row["population"] for row in tables["pairs"]))
        for name in ("d_llv", "kl"):
            series = []
            for population in populations:
                rows = [row for row in tables["pairs"] if row["population"] == population]
                series.append(figures.Series(population, column(rows, name), column(rows, "d_cca_f")))
            ax = figures.points(
                series, xlabel=name, ylabel="1 - m_CCA of f", title=f"Pairs of seeds by {name}", log="x"
            )
            figures.save_figure(ax, folder / f"by-{name}.png")


def _rank(f: Array) -> int:
    """Return the dimension that the embeddings span after centring: a unit that is always zero takes one away."""
    values = linalg.to_numpy(f).astype(np.float64)
    return linalg.principal(values).rank if np.ptp(values) else 0


def _spearman(first: Matrix, second: Matrix) -> float:
    if len(first) < 3 or not np.ptp(first) or not np.ptp(second):
        return float("nan")
    return float(spearmanr(first, second).statistic)


def _difference(rows: Sequence[Row], target: str) -> tuple[float, float]:
    """Return a 95 % interval of what d_LLV is ahead of KL, networks drawn with replacement."""
    values, (llv, kl) = column(rows, target), (column(rows, name) for name in DISTANCES[:2])
    gains = []
    for places in drawn_pairs([(row["a"], row["b"]) for row in rows], DRAWS):
        gains.append(_spearman(llv[places], values[places]) - _spearman(kl[places], values[places]))
    usable = np.array(gains)[np.isfinite(gains)]
    return interval(usable) if len(usable) else (float("nan"), float("nan"))
