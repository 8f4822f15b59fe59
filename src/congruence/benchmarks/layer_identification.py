"""Layer identification: a measure should find the layer of another network that sits at the same depth.

Kornblith et al. 2019 (arXiv 1905.00414), section 6.1 and appendix F.1: networks that differ in their initialisation
only; for every ordered pair and every layer of the first, the most similar layer of the second should be the same one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from congruence import zoo
from congruence.benchmarks._base import (
    Benchmark,
    Case,
    Floats,
    Score,
    Stage,
    Tier,
    likeness,
    register,
    symmetric_likeness,
)
from congruence.benchmarks._jackknife import pair_mean, standard_error, z_test
from congruence.benchmarks._populations import (
    QUICK_CNN,
    QUICK_MLP,
    QUICK_VIT,
    SMALL_CNN,
    SMALL_VIT,
    Networks,
    representations,
    subset,
)
from congruence.representation import Representation
from congruence.results import Comparison

# Values that are equal up to this hold no order: what the kernels of the engine agree to.
TIE = 1e-10


@dataclass(frozen=True)
class Depths:
    """The networks, and their layers in order of depth; representations go network by network."""

    networks: tuple[str, ...]
    layers: tuple[str, ...]


@register
class LayerIdentification(Benchmark[Depths]):
    """Accuracy of finding the same layer in a network of another seed; chance is one over the number of layers."""

    name: ClassVar[str] = "layer-identification"
    title: ClassVar[str] = "Find the same layer in a network trained from another initialisation"
    source: ClassVar[str] = "Kornblith et al. 2019, section 6.1 and F.1, arXiv 1905.00414"
    tiers: ClassVar[Mapping[Tier, str]] = {
        "quick": "3 narrow Tiny-10, 6 MLP and 3 small ViT on digits",
        "small": "10 Tiny-10 on mnist_5k, flattened and pooled, n from 50 to 2,000; 10 ViT, four tap points",
    }

    def cases(self, tier: Tier, stage: Stage) -> Iterator[Case[Depths]]:
        """Yield the convolutional form for several n, then the transformer form for every tap point."""
        for name, networks, sizes in _plan(tier):
            population = networks.train(stage)
            found = representations(networks, population, stage)
            for n in sizes:
                some = found if n is None else subset(found, n)
                yield _case(name if n is None else f"{name}-n{n}", networks, population, some)

    def score(self, case: Case[Depths], result: Comparison) -> list[Score]:
        """Return accuracy with its jackknife standard error, by layer too, and p of equality with the best measure."""
        right = {label: _right(result, label, case.truth) for label in result.measures}
        by_pair = {label: found.mean(axis=2) for label, found in right.items()}
        best = max(by_pair, key=lambda label: pair_mean(by_pair[label]))
        scores = []
        for label, found in right.items():
            failed = _failed(result, label, case.truth)
            pairs = int(found.size - len(found) * found.shape[2])
            scores.append(
                Score(
                    label,
                    case.headline,
                    pair_mean(by_pair[label]),
                    standard_error=standard_error(by_pair[label]),
                    p=z_test(by_pair[label], by_pair[best]),
                    n=pairs,
                    failed=failed,
                    note="" if label != best else "best; p compares the others with it",
                )
            )
            for k, layer in enumerate(case.truth.layers):
                value, error = pair_mean(found[:, :, k]), standard_error(found[:, :, k])
                scores.append(
                    Score(label, f"{case.headline}:{layer}", value, standard_error=error, n=pairs // found.shape[2])
                )
        return scores


def _plan(tier: Tier) -> list[tuple[str, Networks, tuple[int | None, ...]]]:
    """Return names, networks and numbers of stimuli of a tier's cases."""
    if tier == "quick":
        probe = zoo.Probe(n=150)
        return [
            ("cnn-flattened", Networks(QUICK_CNN, 3, probe), (None,)),
            ("cnn-pooled", Networks(QUICK_CNN, 3, probe, "spatial_mean"), (12, 150)),
            ("mlp", Networks(QUICK_MLP, 6, probe), (None,)),
            ("transformer-residual", Networks(QUICK_VIT, 3, probe, "token_mean", "residual"), (None,)),
        ]
    # decompositions of flattened layers cost n cubed, and n < p is the point there
    few, some, many = zoo.Probe("train", n=200), zoo.Probe("train", n=1000), zoo.Probe("train", n=2000)
    taps = [
        (f"transformer-{tap}", Networks(SMALL_VIT, 10, some, "token_mean", tap), (None,))
        for tap in SMALL_VIT.network.taps
    ]
    return [
        ("cnn-flattened", Networks(SMALL_CNN, 10, few), (None,)),
        ("cnn-pooled", Networks(SMALL_CNN, 10, many, "spatial_mean"), (50, 200, 2000)),
        *taps,
    ]


def _case(name: str, networks: Networks, population: zoo.Population, found: list[Representation]) -> Case[Depths]:
    truth = Depths(population.names, networks.layers)
    home = np.repeat(np.arange(len(truth.networks)), len(truth.layers))
    pairs = [(a.name, b.name) for i, a in enumerate(found) for j, b in enumerate(found) if home[i] != home[j]]
    key = {**networks.key(), "networks": list(population.names), "n": found[0].n}
    return Case(name, found, truth, "accuracy", key, pairs)


# ---- scoring ---------------------------------------------------------------------------------------------------------


def _blocks(values: Floats, truth: Depths) -> Floats:
    """Return values as shape (networks, networks, layers of the first, layers of the second)."""
    count, depth = len(truth.networks), len(truth.layers)
    return values.reshape(count, depth, count, depth).transpose(0, 2, 1, 3)


def _right(result: Comparison, label: str, truth: Depths) -> Floats:
    """Return how right a measure is for each ordered pair of networks and each layer, shape (a, b, layers).

    Layers that tie with the right one share the point, as a draw among them would. A layer with a failed comparison is
    wrong. Asymmetric measures are symmetrised, as in the paper.
    """
    blocks = _blocks(symmetric_likeness(result, label), truth)
    top = blocks.max(axis=3, keepdims=True)  # NaN where a comparison failed
    winners = blocks >= top - TIE * np.maximum(1.0, np.abs(top))
    own = np.einsum("abll->abl", winners)
    return np.asarray(own / np.maximum(1, winners.sum(axis=3)))


def _failed(result: Comparison, label: str, truth: Depths) -> int:
    """Return how many comparisons between different networks have no number."""
    missing: Any = np.isnan(_blocks(likeness(result, label), truth))
    missing[np.eye(len(truth.networks), dtype=bool)] = False
    return int(missing.sum())
