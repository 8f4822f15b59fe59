"""Numbers that the papers print, beside which the results page puts ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
)


def _table_f1(tap: str, *values: float) -> Published:
    return Published(
        "Kornblith et al. 2019, Table F.1", f"10 translation transformers, 75,804 tokens, {tap}", _percent(*values)
    )


def _ding(task: str, procrustes: float, cka: float, pwcca: float, remark: str = "") -> Published:
    values = {"procrustes": procrustes, "cka": cka, "pwcca": pwcca}
    return Published("Ding et al. 2021, from the authors' results", task, values, remark)


_DROPPED = (
    "The authors' PWCCA normalises its weights over all directions of the first representation and then drops those beyond "
    "the width of the second, so that deleting directions adds to the distance by itself; ours renormalises the weights "
    "that are left, and does not see the deletion."
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
        _ding("10 x 10 BERT-medium, numerical stress test", 0.071, 0.122, 0.031),
    ),
}
"""Benchmark and beginning of a case's name -> what was published. Subtasks without verified numbers are left out."""


def published_for(benchmark: str, case: str) -> tuple[Published, ...]:
    """Return the published tables that belong beside a case."""
    return next(
        (found for (test, start), found in PUBLISHED.items() if test == benchmark and case.startswith(start)), ()
    )
