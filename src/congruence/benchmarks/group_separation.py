"""Three tests of ReSi that separate groups: of label noise, of shortcuts, of augmentation.

Klabunde et al. 2025 (arXiv 2408.00531): networks that were trained in the same way should be more alike in their last
hidden layer than networks that were trained differently. The statistics are in `_separation`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from congruence.benchmarks import _resi_folder, _separation
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
from congruence.benchmarks._settings import (
    AUGMENTATION,
    RANDOM_LABELS,
    SHORTCUT,
    Final,
    case_name,
    final_layers,
    grouped,
    ordered_pairs,
)
from congruence.results import Comparison

PERMUTATIONS, DRAWS = 1_000, 500


@dataclass(frozen=True)
class Groups:
    """The group of every network, in the order of the representations."""

    labels: tuple[str, ...]


class GroupSeparation(Benchmark[Groups]):
    """AUPRC averaged over groups, with its share beyond chance, conformity, and what the released code would report."""

    source: ClassVar[str] = "Klabunde et al. 2025 (ReSi), arXiv 2408.00531"

    def cases(self, tier: Tier, stage: Stage) -> Iterator[Case[Groups]]:
        """Yield one case a domain and architecture: the last hidden layer of every network of every group.

        Raises
        ------
        StoreError
            If the representations of the tier ``paper`` are not there.
        """
        if tier == "paper":
            yield from (group_case(name, final) for name, final in _resi_folder.group_cases(self.name))
            return
        for domain, groups in grouped(self.name, tier):
            name = case_name(domain, next(iter(groups.values())))
            yield group_case(name, final_layers(groups, stage))

    def score(self, case: Case[Groups], result: Comparison) -> list[Score]:
        """Return AUPRC with interval and p-value over networks, its corrected form, conformity, and details by group."""
        drawn = self.draws(case, result)["auprc"]
        return [row for label in result.measures for row in scores(result, label, case.truth.labels, drawn[label])]

    def draws(self, case: Case[Groups], result: Comparison) -> Draws:
        """Return AUPRC over networks drawn with replacement inside their groups."""
        labels = case.truth.labels
        found = {label: _separation.drawn(likeness(result, label), labels, DRAWS, 0) for label in result.measures}
        return {"auprc": found}


def group_case(name: str, final: Final) -> Case[Groups]:
    """Return a case from representations and their groups."""
    pairs = ordered_pairs([one.name for one in final.representations])
    return Case(name, final.representations, Groups(final.groups), "auprc", final.key, pairs)


def scores(result: Comparison, label: str, groups: tuple[str, ...], drawn: Floats) -> list[Score]:
    """Return the scores of one measure; failed comparisons are the worst answers."""
    values, apart = likeness(result, label), ~np.eye(len(groups), dtype=bool)
    failed, n = int(np.isnan(values[apart]).sum()), int(apart.sum())
    seconds = Score(label, "seconds", seconds_a_pair(result, label), note="median of a comparison")
    if failed == n:
        return [Score(label, "auprc", np.nan, n=n, failed=failed, note="every comparison failed"), seconds]
    found = _separation.separation(values, groups)
    area = float(found.auprc.mean())
    low, high = _separation.interval(drawn)
    p = _separation.p_value(_separation.permuted(values, groups, PERMUTATIONS, 0), area)
    distance = result.info(label).orientation == "distance"
    paper = _separation.paper_separation(-values if distance else values, groups, distance=distance)
    note = f"{failed} of {n} comparisons failed" if failed else ""
    names = dict.fromkeys(groups)
    return [
        Score(label, "auprc", area, low=low, high=high, p=p, n=n, failed=failed, note=note),
        Score(label, "auprc_corrected", float(found.corrected.mean()), n=n),
        Score(label, "conformity", float(found.conformity.mean()), n=n),
        seconds,
        *(Score(label, f"auprc:{name}", float(value)) for name, value in zip(names, found.auprc, strict=True)),
        Score(label, "auprc:chance", float(found.chance.mean()), note="share of pairs inside groups"),
        Score(label, "auprc:paper", paper[0], note="as released: pairs inside a group once, failures dropped"),
        Score(label, "conformity:paper", paper[1], note="as released: pairs inside a group once, failures dropped"),
    ]


_QUICK = "3 x 4 MLP on digits and 3 x 4 GCN on a graph of communities"
_PAPER = "The networks of the paper: the representations that ReSi kept (resi/cache)"
_SMALL = "5 networks a group: Tiny-10 and ViT on mnist_5k, MiniLM on 6,400 pairs of entailment templates, GCN, GraphSAGE and GAT on a graph of communities, GCN on neighbouring digits"  # fmt: skip


@register
class LabelRandomisation(GroupSeparation):
    """Networks that learned true labels, some that were random, or only such."""

    name: ClassVar[str] = RANDOM_LABELS
    title: ClassVar[str] = "Separate networks by the share of their labels that was random"
    tiers: ClassVar[Mapping[Tier, str]] = {
        "quick": _QUICK,
        "small": f"{_SMALL}; 0, 50 (text 75, graphs 25) and 100 % of the labels; images: 1,000, learned by heart",
        "paper": _PAPER,
    }


@register
class ShortcutAffinity(GroupSeparation):
    """Networks whose training stimuli had a mark that told the class: never, mostly, or always."""

    name: ClassVar[str] = SHORTCUT
    title: ClassVar[str] = "Separate networks by how often a shortcut told them the class"
    tiers: ClassVar[Mapping[Tier, str]] = {
        "quick": _QUICK,
        "small": f"{_SMALL}; 0, 75 (graphs 50) and 100 % of the marks tell the class, those of the probes nothing",
        "paper": _PAPER,
    }


@register
class Augmentation(GroupSeparation):
    """Networks whose training stimuli were changed little, more, or much; probes are as they are."""

    name: ClassVar[str] = AUGMENTATION
    title: ClassVar[str] = "Separate networks by how their training data were augmented"
    tiers: ClassVar[Mapping[Tier, str]] = {
        "quick": _QUICK,
        "small": f"{_SMALL}; Gaussian noise (3 strengths), words changed (no, all), edges dropped (0, 20, 80 %)",
        "paper": _PAPER,
    }
