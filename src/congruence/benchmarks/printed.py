"""Numbers that the papers print, beside which the results page puts ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from congruence.measures import measure

_KORNBLITH = (
    "cca", "cca:statistic=mean_squared", "svcca", "svcca:statistic=mean_squared", "pwcca", "linear_regression", "cka",
    "cka:kernel=rbf,bandwidth=0.2", "cka:kernel=rbf", "cka:kernel=rbf,bandwidth=0.8",
)  # fmt: skip


@dataclass(frozen=True)
class Published:
    """One table of a paper.

    Parameters
    ----------
    where : str
        Paper and table.
    setting : str
        What was compared there.
    values : mapping of str to float
        Value by label of the measure, on the scale of our headline quantity.
    remark : str
        Why numbers of a measure of one name differ.
    """

    where: str
    setting: str
    values: Mapping[str, float]
    remark: str = ""


def _percent(*values: float) -> dict[str, float]:
    return {label: value / 100 for label, value in zip(_KORNBLITH, values, strict=True)}


_TABLE_2 = Published(
    "Kornblith et al. 2019, Table 2",
    "10 Tiny-10 on CIFAR-10, 50,000 training images, all features",
    _percent(1.4, 10.6, 9.9, 15.1, 11.1, 45.4, 99.3, 80.6, 99.1, 99.3),
    "Where ranks add up to more than n - 1, canonical correlations are 1 whatever the data: on flattened layers, which are "
    "wider than n, all of them, so that every layer is as good as every other and the CCA family is at chance. The pooled "
    "cases show what more stimuli change, from 50 to 2,000; the paper had 50,000. What the networks, the images and their "
    "number contribute to the lower accuracies here is not known.",
)


_SHALLOW = (
    "Small vision transformers agree across seeds the less the deeper a layer is, by every measure: a layer is more like an "
    "earlier layer of the other network than like its own counterpart, so that all accuracies are low, and those measures "
    "lowest that look at all directions alike, since they find the first layers in every other. The paper's networks "
    "translate sentences and are compared on single tokens."
)


def _table_f1(tap: str, *values: float) -> Published:
    return Published(
        "Kornblith et al. 2019, Table F.1",
        f"10 translation transformers, 75,804 tokens, {tap}",
        _percent(*values),
        _SHALLOW,
    )


def _ding(task: str, procrustes: float, cka: float, pwcca: float, remark: str = "") -> Published:
    values = {"procrustes": procrustes, "cka": cka, "pwcca": pwcca}
    return Published("Ding et al. 2021, from the authors' results", task, values, remark)


_DROPPED = (
    "The authors' PWCCA normalises its weights over all directions of the first representation and then drops those beyond "
    "the width of the second, so that deleting directions adds to the distance by itself; ours renormalises the weights "
    "that are left, and does not see the deletion."
)


_OTHER_MODELS = (
    "Here few networks for images are fine-tuned, and scored on rotated images; which of these differences matters is not "
    "known."
)


PUBLISHED: Mapping[tuple[str, str], tuple[Published, ...]] = {
    ("layer-identification", "cnn"): (_TABLE_2,),
    ("layer-identification", "transformer-norm"): (
        _table_f1("after the layer norm", 85.3, 87.8, 78.2, 85.4, 88.5, 78.1, 78.6, 76.5, 92.3, 80.8),
    ),
    ("layer-identification", "transformer-scale"): (
        _table_f1("after the channel scale", 85.3, 87.8, 83.0, 86.9, 88.9, 83.7, 95.6, 73.1, 96.5, 95.8),
    ),
    ("layer-identification", "transformer-sublayer"): (
        _table_f1("after attention or feed-forward", 94.9, 95.3, 89.5, 90.8, 96.1, 76.0, 86.0, 70.5, 89.1, 93.6),
    ),
    ("layer-identification", "transformer-residual"): (
        _table_f1("after the residual", 90.9, 95.2, 75.9, 84.7, 87.0, 36.9, 73.6, 76.2, 98.1, 90.0),
    ),
    ("functional", "components"): (
        _ding("BERT-base, components deleted, probes on SST-2", 0.860, 0.751, 0.870, _DROPPED),
    ),
    ("functional", "two-stages"): (
        _ding("10 x 10 BERT-medium, antonymy stress test", 0.243, 0.227, 0.204),
        _ding("10 x 10 BERT-medium, numerical stress test", 0.071, 0.122, 0.031, _OTHER_MODELS),
    ),
}
"""Benchmark and beginning of a case's name -> what was published. Subtasks without verified numbers are left out."""


def published_for(benchmark: str, case: str) -> tuple[Published, ...]:
    """Return the published tables that belong beside a case."""
    return next(
        (found for (test, start), found in PUBLISHED.items() if test == benchmark and case.startswith(start)), ()
    )


# ---- ReSi ------------------------------------------------------------------------------------------------------------

RESI = "Klabunde et al. 2025 (ReSi, arXiv 2408.00531), median ranks of 24 measures read off the figure of ranks, within 0.3"


def _medians(**values: float) -> dict[str, float]:
    return {_ABBREVIATIONS[short]: value for short, value in values.items()}


_ABBREVIATIONS = {
    "AlignCos": "AlignedCosineSimilarity",
    "CKA": "CKA",
    "ConcDiff": "ConcentricityDifference",
    "DistCorr": "DistanceCorrelation",
    "EOS": "EigenspaceOverlapScore",
    "GULP": "Gulp",
    "HardCorr": "HardCorrelationMatch",
    "IMD": "IMDScore",
    "Jaccard": "JaccardSimilarity",
    "LinReg": "LinearRegression",
    "MagDiff": "MagnitudeDifference",
    "AngShape": "OrthogonalAngularShapeMetricCentered",
    "OrthProc": "OrthogonalProcrustesCenteredAndNormalized",
    "PWCCA": "PWCCA",
    "PermProc": "PermutationProcrustes",
    "ProcDist": "ProcrustesSizeAndShapeDistance",
    "RSA": "RSA",
    "RSMDiff": "RSMNormDifference",
    "RankSim": "RankSimilarity",
    "SVCCA": "SVCCA",
    "2nd-Cos": "SecondOrderCosineSimilarity",
    "SoftCorr": "SoftCorrelationMatch",
    "UnifDiff": "UniformityDifference",
    "RTD": "RTD",
}
"""The abbreviations of ReSi's tables -> the names of its classes."""

RESI_MEDIANS: Mapping[str, Mapping[str, float]] = {
    "graphs": _medians(
        **{"2nd-Cos": 7.0}, RSA=7.8, DistCorr=8, RTD=8, ProcDist=8, RankSim=9, Jaccard=9, RSMDiff=10, AngShape=10,
        OrthProc=10, CKA=10, SoftCorr=10, AlignCos=10, LinReg=11.4, HardCorr=11.6, PermProc=12, IMD=14, EOS=15, SVCCA=15,
        GULP=15, UnifDiff=16, PWCCA=16, MagDiff=18, ConcDiff=19,
    ),
    "text": _medians(
        **{"2nd-Cos": 11.8}, CKA=5.5, DistCorr=6, AlignCos=6.5, ProcDist=8.3, RSA=8.8, AngShape=9, OrthProc=9, SVCCA=9.5,
        SoftCorr=11.6, PermProc=11.6, Jaccard=12, LinReg=12, RankSim=12, HardCorr=12, ConcDiff=12, PWCCA=13, RSMDiff=13,
        GULP=13, RTD=15, IMD=15, MagDiff=16.5, EOS=18, UnifDiff=18.5,
    ),
    "images": _medians(
        **{"2nd-Cos": 8}, Jaccard=7, DistCorr=8, AngShape=8, AlignCos=8, OrthProc=8.5, RankSim=9, CKA=10, RTD=10.2,
        LinReg=11, ProcDist=11.1, GULP=12, RSA=12, EOS=12, RSMDiff=12.1, PWCCA=12.2, IMD=12.2, PermProc=13, HardCorr=14,
        SoftCorr=14, MagDiff=14.5, SVCCA=14.5, ConcDiff=15, UnifDiff=19,
    ),
}  # fmt: skip
"""Domain -> name of ReSi's class -> median rank over the experiments of the paper; less is better."""


RESI_STAND_INS: Mapping[str, str] = {"IMDScore": "imd", "RTD": "rtd:trials=2,batch=100"}
"""Name of ReSi's class -> what stands for it in runs of our own.

ReSi estimates the heat trace of IMD by random probes, which is exact here; RTD of 10 times 500 stimuli takes half a minute
a pair.
"""


def resi_labels() -> dict[str, str]:
    """Return the name of every class that ReSi ranks, and the label of the measure that stands for it in our runs."""
    return {name: measure(RESI_STAND_INS.get(name, name)).label for name in _ABBREVIATIONS.values()}


def resi_medians(domain: str) -> dict[str, float]:
    """Return the published median ranks of a domain under the names of ReSi and under ours.

    Ours are the label that the name of ReSi's class resolves to, and the one that stands for it in our runs.
    """
    published = dict(RESI_MEDIANS.get(domain, {}))
    stand_ins = resi_labels()
    for name, median in list(published.items()):
        published[measure(name).label] = published[stand_ins[name]] = median
    return published


_OURS = "IMD is exact here and estimated from random vectors there; why it does worse is not known. "
_ONE_COMPONENT = "The released SVCCA keeps one component, so that its published rank is that of another measure. "
RESI_REMARKS: Mapping[str, str] = {
    "images": f"{_OURS}The paper's networks are ResNets, VGGs and ViTs on ImageNet-100 and CIFAR-100; ours are small, and digits "
    "are simple. Shape without normalisation sees the scale of a representation, which random labels change here; for the other "
    "differences no reason is known.",
    "text": f"{_ONE_COMPONENT}{_OURS}Here one architecture on one task decides, with two groups in the test of augmentation; the "
    "intervals of the median ranks span half of the table. For the other differences no reason is known.",
    "graphs": f"{_ONE_COMPONENT}{_OURS}Measures that see the scale do better here: the groups differ in it, as the difference of "
    "magnitudes alone shows by an AUPRC of 0.81 to 1.00 for random labels and 0.66 to 1.00 for dropped edges. Whether those of "
    "the paper do is not known; nor is a reason for the measures that match single features.",
}
"""Domain -> why our ranks differ from the published ones, as far as that is known."""
