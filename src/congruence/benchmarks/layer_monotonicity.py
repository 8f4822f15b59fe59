"""Layer monotonicity, a test of ReSi: inside a network, layers should be the less alike the farther apart they are.

Klabunde et al. 2025 (arXiv 2408.00531). The statistics are in `_monotonicity`; networks are the unit of uncertainty.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from congruence.benchmarks import _monotonicity, _resi_folder, _separation
from congruence.benchmarks._base import (
    Benchmark,
    Case,
    Draws,
    Floats,
    Score,
    Stage,
    Tier,
    likeness,
    register,
    seconds_a_pair,
)
from congruence.benchmarks._populations import representations
from congruence.benchmarks._settings import case_name, deep, ordered_pairs
from congruence.representation import Source
from congruence.results import Comparison

PERMUTATIONS, DRAWS = 1_000, 500


@dataclass(frozen=True)
class Layers:
    """The networks, and how many layers each has; representations go network by network, in order of depth."""

    networks: tuple[str, ...]
    depth: int


@register
class LayerMonotonicity(Benchmark[Layers]):
    """Rank correlation of unlikeness and distance in depth (chance 0), and conformity of triples of layers."""

    name: ClassVar[str] = "layer-monotonicity"
    title: ClassVar[str] = "Layers should be less alike the farther apart they are"
    source: ClassVar[str] = "Klabunde et al. 2025 (ReSi), arXiv 2408.00531"
    tiers: ClassVar[Mapping[Tier, str]] = {
        "quick": "3 MLP of 6 hidden layers on digits, 3 GCN of 5 on a graph of communities",
        "small": "5 each, all layers: Tiny-10 (averaged over space) and ViT (class token) on mnist_5k, MiniLM (norms, averaged "
        "over tokens), GCN, GraphSAGE and GAT of 5 hidden layers on a graph of communities, GCN on neighbouring digits",
        "paper": "The networks of the paper: the representations of layers that ReSi kept (resi/cache)",
    }

    def cases(self, tier: Tier, stage: Stage) -> Iterator[Case[Layers]]:
        """Yield one case a domain and architecture: all layers of every network, compared inside it.

        Raises
        ------
        StoreError
            If the representations of the tier ``paper`` are not there.
        """
        if tier == "paper":
            for name, layers, models, depth, key in _resi_folder.layer_cases():
                yield Case(name, layers, Layers(models, depth), "spearman", key, _inside(layers, depth))
            return
        for domain, networks in deep(tier):
            population = networks.train(stage)
            found = representations(networks, population, stage)
            depth = len(networks.layers)
            key = {**networks.key(), "networks": list(population.names)}
            yield Case(
                case_name(domain, networks),
                found,
                Layers(population.names, depth),
                "spearman",
                key,
                _inside(found, depth),
            )

    def score(self, case: Case[Layers], result: Comparison) -> list[Score]:
        """Return the rank correlation with interval over networks and p over orders of layers, and conformity."""
        return [row for label in result.measures for row in _scores(result, label, case.truth)]

    def draws(self, case: Case[Layers], result: Comparison) -> Draws:
        """Return the mean rank correlation over networks drawn with replacement."""
        found = {}
        for label in result.measures:
            values = [_monotonicity.correlation(block) for block in _blocks(likeness(result, label), case.truth)]
            found[label] = _drawn_means(np.array(values))
        return {"spearman": found}


def _inside(found: Sequence[Source], depth: int) -> list[tuple[str, str]]:
    """Return the pairs of layers of one network, for networks that follow each other."""
    names = [one.name for one in found]
    return [pair for at in range(0, len(names), depth) for pair in ordered_pairs(names[at : at + depth])]


def _blocks(values: Floats, truth: Layers) -> list[Floats]:
    """Return the values inside each network, each of shape (layers, layers)."""
    starts = range(0, len(values), truth.depth)
    return [values[at : at + truth.depth, at : at + truth.depth] for at in starts]


def _drawn_means(values: Floats) -> Floats:
    """Return means over networks drawn with replacement, shape (DRAWS,)."""
    chosen = np.random.default_rng(0).integers(0, len(values), size=(DRAWS, len(values)))
    return np.asarray(values[chosen].mean(axis=1))


def _scores(result: Comparison, label: str, truth: Layers) -> list[Score]:
    """Return the scores of one measure: means over networks, then every network."""
    blocks = _blocks(likeness(result, label), truth)
    apart = ~np.eye(truth.depth, dtype=bool)
    failed, n = sum(int(np.isnan(block[apart]).sum()) for block in blocks), len(blocks) * int(apart.sum())
    each = np.array([_monotonicity.correlation(block) for block in blocks])
    value = float(each.mean())
    low, high = _separation.interval(_drawn_means(each))
    null = np.mean([_monotonicity.permuted(block, PERMUTATIONS, i) for i, block in enumerate(blocks)], axis=0)
    distance = result.info(label).orientation == "distance"
    raw = [-block if distance else block for block in blocks]
    conformity = {
        "conformity": [1 - _monotonicity.violation_rate(block, ties=0.5) for block in blocks],
        "conformity:strict": [1 - _monotonicity.violation_rate(block) for block in blocks],
        "conformity:paper": [1 - _monotonicity.paper_violation_rate(block, distance=distance) for block in raw],
        "spearman:paper": [_monotonicity.paper_correlation(block, distance=distance) for block in raw],
    }
    return [
        Score(
            label, "spearman", value, low=low, high=high, p=_separation.p_value(null, value), n=n, failed=failed,
            note=_note(value, failed, n),
        ),
        Score(label, "conformity", float(np.mean(conformity["conformity"])), n=n, note="ties count half"),
        Score(label, "seconds", seconds_a_pair(result, label), note="median of a comparison"),
        *(Score(label, name, float(np.mean(values))) for name, values in conformity.items() if ":" in name),
        *(Score(label, f"spearman:{name}", float(one)) for name, one in zip(truth.networks, each, strict=True)),
    ]  # fmt: skip


def _note(value: float, failed: int, n: int) -> str:
    if np.isnan(value):
        return "every comparison of a network failed, or all tie"
    return f"{failed} of {n} comparisons failed" if failed else ""
