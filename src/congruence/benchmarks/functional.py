"""The subtasks of Ding et al. 2021: the distance between representations should go with the difference in function.

(a) seeds and depth, (b) principal components deleted as well: functionality is the accuracy of a linear probe.
(c) fine-tuning (or training) seeds, (d) pretraining and fine-tuning seeds: functionality is the accuracy on data from
another distribution. The reference is the best model of each layer. Beside the statistics of the paper stand p-values
and intervals whose unit is the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from congruence import zoo
from congruence.benchmarks._base import Benchmark, Case, Score, Stage, Tier, likeness, register
from congruence.benchmarks._paper import paper_cases
from congruence.benchmarks._populations import QUICK_MLP, SMALL_CNN, SMALL_TEXT, Networks, renamed, representations
from congruence.benchmarks._recipe import MEAN, Recipe, Unit
from congruence.benchmarks._subtasks import Function, deletion_case, layer_of, model_of, probe_case, shift_case
from congruence.benchmarks._tables import Pairs
from congruence.errors import DegenerateError, InputError
from congruence.representation import Representation
from congruence.results import Comparison

PERMUTATIONS, BOOTSTRAPS = 2_000, 500
LEAST = 5
"""Models that a rank correlation needs to mean anything."""


@register
class Functional(Benchmark[Function]):
    """Spearman's rho and Kendall's tau of distance and functional difference, averaged over layers; chance is 0."""

    name: ClassVar[str] = "functional"
    title: ClassVar[str] = "Distances should go with differences in function"
    source: ClassVar[str] = "Ding et al. 2021, section 4, arXiv 2108.01661"
    tiers: ClassVar[Mapping[Tier, str]] = {
        "quick": "MLP on digits: seeds and depth, deleted components, shifted digits, 3 x 2 pretraining and fine-tuning seeds",
        "small": "20 Tiny-10 on mnist_5k (corrupted), 20 MiniLM on entailment templates (lexical overlap), 5 x 4 fine-tuned Tiny-10",
        "paper": "BERT models of the paper: the published embeddings and scores (sim_metric_resources)",
    }

    def cases(self, tier: Tier, stage: Stage) -> Iterator[Case[Function]]:
        """Yield (a), (b) and (c) for every population, then (d)."""
        if tier == "paper":
            yield from paper_cases(stage)
            return
        for name, networks, shift in _plan(tier):
            population = networks.train(stage)
            _require_models(population.names, networks.config.label)
            found = representations(networks, population, stage)
            labels = population.data(networks.probe).labels
            key = {**networks.key(), "networks": list(population.names)}
            yield probe_case(f"depth-{name}", found, labels, key)
            yield deletion_case(f"components-{name}", found, labels, key)
            accuracies = population.accuracy(zoo.Probe(shift=shift))
            by_model = dict(zip(population.names, accuracies.values(), strict=True))
            yield shift_case(f"seeds-{name}", found, by_model, shift, {**key, "shift": shift})
        yield _two_stages(tier, stage)

    def score(self, case: Case[Function], result: Comparison) -> list[Score]:
        """Return rho (with its interval and the p-value over models), tau, both p-values over pairs, and bad_frac."""
        truth = case.truth
        names = [r.name for r in case.representations]
        given = np.isin(np.array(result.dataset["status"].values[0]), ("ok", "failed"))
        pairs = Pairs(given, {label: -likeness(result, label) for label in result.measures})
        unit = Unit(truth.models if truth.models.exchangeable else None, PERMUTATIONS, BOOTSTRAPS, 0)
        recipe = Recipe(truth.what, pairs, truth.values, truth.groups, names, [0] * len(truth.groups), unit, [])
        try:
            tables = recipe.rows(result.measures)
        except DegenerateError as error:
            return [Score(label, case.headline, np.nan, note=str(error)) for label in result.measures]
        # the mean, which is the headline, before the layers it is the mean of
        return [score for table in tables for row in (table[-1], *table[:-1]) for score in _scores(row)]


def _scores(row: Mapping[str, Any]) -> list[Score]:
    """Return the scores in one row of a recipe; details of single layers carry the name of the layer."""
    where = "" if row["group"] == MEAN else f":{row['group']}"
    rho = Score(
        row["distance"], f"spearman{where}", row["spearman"], low=row["low"], high=row["high"], p=row["permutation_p"],
        n=row["n"], failed=row["failed"], note=row["note"],
    )  # fmt: skip
    others = ("spearman_p", "kendall", "kendall_p", "bad_frac")
    return [rho, *(Score(row["distance"], f"{name}{where}", row[name], n=row["n"]) for name in others)]


# ---- cases -----------------------------------------------------------------------------------------------------------


def _plan(tier: Tier) -> list[tuple[str, Networks, str]]:
    if tier == "quick":
        return [("mlp", Networks(QUICK_MLP, 6, zoo.Probe(n=200)), "gaussian_noise:severity=3")]
    probe = zoo.Probe(n=1000)
    return [
        ("cnn", Networks(SMALL_CNN, 20, probe, "spatial_mean"), "gaussian_noise:severity=3"),
        ("minilm", Networks(SMALL_TEXT, 20, zoo.Probe(n=500), "token_mean"), "lexical_overlap/non_entailment"),
    ]


def _two_stages(tier: Tier, stage: Stage) -> Case[Function]:
    """Return subtask (d): networks that were trained from several seeds, each fine-tuned from several seeds."""
    if tier == "quick":
        first, data, counts = QUICK_MLP, "digits:train_size=200", (3, 2)
        how, probe, steps, shift = "training:epochs=5,batch_size=50", zoo.Probe(n=200), None, "rotation:severity=3"
    else:
        first, data, counts = SMALL_CNN, "mnist_5k:train_size=1000,split_seed=0", (5, 4)
        how, probe, steps = "training:epochs=2,varies=order", zoo.Probe(n=1000), "spatial_mean"
        shift = "rotation:severity=3"
    before = Networks(first, counts[0], probe).train(stage)
    found: list[Representation] = []
    accuracies: dict[str, float] = {}
    for seed in before.seeds:
        networks = Networks(zoo.Config(first.architecture, data, how, (first, seed)), counts[1], probe, steps)
        population = networks.train(stage)
        by_seed = population.accuracy(zoo.Probe(shift=shift))
        for one in representations(networks, population, stage):
            model = f"pretrain-{seed}/{model_of(one)}"
            found.append(renamed(one, f"pretrain-{seed}/{one.name}", model, layer_of(one)))
        for name, accuracy in zip(population.names, by_seed.values(), strict=True):
            accuracies[f"pretrain-{seed}/{name}"] = accuracy
    _require_models(tuple(accuracies), first.label)
    key = {
        "first": first.document(),
        "data": data,
        "training": how,
        "counts": list(counts),
        "shift": shift,
        "steps": steps,
    }
    return shift_case("two-stages", found, accuracies, shift, {**key, "models": list(accuracies)})


def _require_models(names: Sequence[str], label: str) -> None:
    if len(names) < LEAST:
        message = f"{label}: {len(names)} networks were trained to the end; a rank correlation needs {LEAST}."
        raise InputError(message)
