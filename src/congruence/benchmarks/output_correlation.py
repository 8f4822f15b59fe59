"""Two tests of ReSi that ground measures in predictions: differences in accuracy, and differences in outputs.

Klabunde et al. 2025 (arXiv 2408.00531): among networks that differ in their seeds only, the distance between last hidden
layers should go with how differently the networks do. What they do is the ground truth, recorded and not measured here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from congruence import zoo
from congruence.benchmarks import _mantel, _outputs, _resi_folder, _separation
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
    symmetric_likeness,
)
from congruence.benchmarks._populations import Networks
from congruence.benchmarks._ranks import rank_score
from congruence.benchmarks._settings import alike, case_name, last_hidden, ordered_pairs, require_networks
from congruence.results import Comparison

PERMUTATIONS, DRAWS = 1_000, 500
LEAST = 5
"""Networks that a rank correlation needs to mean anything."""


@dataclass(frozen=True, eq=False)
class Differences:
    """How differently every two networks do, shape (networks, networks), by the name of what is compared."""

    by_name: Mapping[str, Floats]


class PredictionGrounding(Benchmark[Differences]):
    """Spearman's rho of distance and functional difference over pairs of networks; chance is 0."""

    source: ClassVar[str] = "Klabunde et al. 2025 (ReSi), arXiv 2408.00531"
    headline: ClassVar[str]
    kept: ClassVar[str]
    """What ReSi keeps of a network for it: ``accuracy`` or ``output``."""

    def cases(self, tier: Tier, stage: Stage) -> Iterator[Case[Differences]]:
        """Yield one case a domain and architecture: the last hidden layer of every network.

        Raises
        ------
        StoreError
            If the representations of the tier ``paper`` are not there.
        """
        if tier == "paper":
            yield from self._paper_cases()
            return
        for domain, networks in alike(tier):
            population = networks.train(stage)
            require_networks(len(population), LEAST, networks)
            found = last_hidden(networks, population, stage)
            truth = Differences(self.differences(networks, population, stage))
            key = {**networks.key(), "networks": list(population.names)}
            pairs = ordered_pairs([one.name for one in found])
            yield Case(case_name(domain, networks), found, truth, self.headline, key, pairs)

    def _paper_cases(self) -> Iterator[Case[Differences]]:
        for name, found, known, key in _resi_folder.prediction_cases(self.kept):
            if len(found) >= LEAST:
                pairs = ordered_pairs([one.name for one in found])
                yield Case(name, found, Differences(self.of_known(known)), self.headline, key, pairs)

    def differences(self, networks: Networks, population: zoo.Population, stage: Stage) -> dict[str, Floats]:
        """Return the functional differences, the one that measures are ranked by first."""
        raise NotImplementedError

    def of_known(self, known: Sequence[Any]) -> dict[str, Floats]:
        """Return the functional differences of what is known of every network."""
        raise NotImplementedError

    def score(self, case: Case[Differences], result: Comparison) -> list[Score]:
        """Return rho for every functional difference, with interval and p-value over networks."""
        return [row for label in result.measures for row in self._scores(case.truth, result, label)]

    def draws(self, case: Case[Differences], result: Comparison) -> Draws:
        """Return rho with every functional difference over networks drawn with replacement."""
        distances = {label: -symmetric_likeness(result, label) for label in result.measures}
        return {
            name: {label: _mantel.drawn(values, function, DRAWS, 0) for label, values in distances.items()}
            for name, function in case.truth.by_name.items()
        }

    def _scores(self, truth: Differences, result: Comparison, label: str) -> list[Score]:
        distances = -symmetric_likeness(result, label)
        found = [_correlated(label, name, distances, function) for name, function in truth.by_name.items()]
        rows = [group[0] for group in found]
        rows.append(Score(label, "seconds", seconds_a_pair(result, label), note="median of a comparison"))
        raw = -likeness(result, label)
        for (name, function), group in zip(truth.by_name.items(), found, strict=True):
            paper = _mantel.paper_correlation(raw, function)
            note = "as released: failures dropped, both orders of an asymmetric measure"
            rows += [*group[1:], Score(label, f"{name}:paper", paper, note=note)]
        return rows


def _correlated(label: str, name: str, distances: Floats, function: Floats) -> list[Score]:
    """Return Spearman's rho with its uncertainty, then Kendall's tau-b and the p-values that take pairs as independent."""
    values = _mantel.upper(distances)
    n, failed = len(values), int(np.isnan(values).sum())
    value = _mantel.spearman(distances, function)
    low, high = _separation.interval(_mantel.drawn(distances, function, DRAWS, 0))
    p = _separation.p_value(_mantel.permuted(distances, function, PERMUTATIONS, 0), value)
    note = f"{failed} of {n} comparisons failed" if failed else ""
    if np.isnan(value):
        note = "every comparison failed" if failed == n else "the distance or the functional difference is constant"
    pairs = rank_score(values, _mantel.upper(function))
    return [
        Score(label, name, value, low=low, high=high, p=p, n=n, failed=failed, note=note),
        Score(label, f"{name}:kendall", pairs.kendall, n=n),
        Score(label, f"{name}:spearman_p", pairs.spearman_p, n=n, note="pairs taken as independent"),
    ]


_PAPER = "The networks of the paper: the representations, outputs and accuracies that ReSi kept (resi/cache)"
_QUICK = "6 MLP on digits, 6 GCN on a graph of communities"
_SMALL = "10 each of Tiny-10 and ViT on mnist_5k, MiniLM on entailment templates, GCN, GraphSAGE and GAT on a graph of communities, GCN on neighbouring digits"  # fmt: skip


@register
class AccuracyCorrelation(PredictionGrounding):
    """Rank correlation of the distance with the absolute difference in test accuracy."""

    name: ClassVar[str] = "accuracy-correlation"
    title: ClassVar[str] = "Distances should go with differences in accuracy"
    headline: ClassVar[str] = "accuracy"
    kept: ClassVar[str] = "accuracy"
    tiers: ClassVar[Mapping[Tier, str]] = {
        "quick": _QUICK,
        "small": _SMALL,
        "paper": _PAPER,
    }

    def differences(self, networks: Networks, population: zoo.Population, stage: Stage) -> dict[str, Floats]:
        """Return the differences in accuracy on the probe."""
        del stage
        return self.of_known(list(population.accuracy(networks.probe).values()))

    def of_known(self, known: Sequence[Any]) -> dict[str, Floats]:
        """Return the absolute differences of accuracies."""
        return {self.headline: _outputs.accuracy_difference([float(one) for one in known])}


@register
class OutputCorrelation(PredictionGrounding):
    """Rank correlation of the distance with the Jensen-Shannon divergence of outputs, and with disagreement."""

    name: ClassVar[str] = "output-correlation"
    title: ClassVar[str] = "Distances should go with differences in outputs"
    headline: ClassVar[str] = "jsd"
    kept: ClassVar[str] = "output"
    tiers: ClassVar[Mapping[Tier, str]] = {
        "quick": _QUICK,
        "small": _SMALL,
        "paper": _PAPER,
    }

    def differences(self, networks: Networks, population: zoo.Population, stage: Stage) -> dict[str, Floats]:
        """Return divergence and disagreement of the answers to the probe."""
        return self.of_known(_outputs.logits(networks, population, stage))

    def of_known(self, known: Sequence[Any]) -> dict[str, Floats]:
        """Return divergence and disagreement of logits, each of shape (n, classes)."""
        answers = [np.asarray(one, dtype=np.float64) for one in known]
        return {self.headline: _outputs.jensen_shannon(answers), "disagreement": _outputs.disagreement(answers)}
