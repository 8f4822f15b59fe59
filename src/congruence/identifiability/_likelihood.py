"""d_LLV: standard deviations of log-likelihoods, and the sets of labels and inputs that it is taken over.

Source: Nielsen et al. 2025 (arXiv 2506.03784), definition of d^lambda_LLV and the computation its authors released.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from congruence.errors import DegenerateError
from congruence.identifiability._distributions import blocks
from congruence.identifiability._model import BLOCK, EPS, Factor, Labels, Matrix, Model, Pair, triangle

WHOLE = 2**27
"""Up to this many entries (labels x labels x inputs) every pair of labels is computed from the log-likelihoods."""
PIVOTS = 256
"""Pivots that are tried where there are more than `ALL_PIVOTS` labels."""
ALL_PIVOTS = 2048


@dataclass(frozen=True, eq=False)
class Terms:
    """What one pivot and some items give: one entry an item.

    Attributes
    ----------
    apart : array
        The larger of the two standard deviations of an item: that of ln p(item) / s - ln p'(item) / s', and the same for
        the pivot, with s and s' those of ln p(item) - ln p(pivot).
    scale : array
        |s - s'|.
    constant : array of bool
        Where s or s' is zero up to rounding: the item is undefined.
    """

    apart: Matrix
    scale: Matrix
    constant: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


@dataclass(frozen=True, eq=False)
class Likelihoods:
    """Log-likelihoods of both models, computed where they are needed.

    Parameters
    ----------
    pair : Pair
        The models.
    log_sums : pair of array, shape (n,)
        Logarithms of the sums that normalise.
    """

    pair: Pair
    log_sums: tuple[Matrix, Matrix]

    def of_labels(self, labels: Labels) -> tuple[Matrix, Matrix]:
        """Return the log-likelihoods of some labels in both models, shape (labels, n) each."""
        first, second = (
            np.ascontiguousarray((model.logits(slice(None), labels) - sums[:, None]).T)
            for model, sums in zip(self.pair.models, self.log_sums, strict=True)
        )
        return first, second


def compare_items(items: tuple[Matrix, Matrix], pivots: tuple[Matrix, Matrix]) -> Terms:
    """Return the terms of items and pivots (broadcast); standard deviations, with n - 1, run over the last axis."""
    scales, constant = [], []
    for values, pivot in zip(items, pivots, strict=True):
        scales.append(np.std(values - pivot, axis=-1, ddof=1))
        noise = 8 * EPS * np.maximum(np.abs(values).max(axis=-1), np.abs(pivot).max(axis=-1))
        constant.append(scales[-1] <= noise)
    undefined = constant[0] | constant[1]
    divisors = [np.where(undefined, 1.0, scale)[..., None] for scale in scales]
    sides = [np.std(side[0] / divisors[0] - side[1] / divisors[1], axis=-1, ddof=1) for side in (items, pivots)]
    return Terms(np.maximum(*sides), np.abs(scales[0] - scales[1]), undefined)


# ---- labels ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LabelChoice:
    """The pivot and the label left out (None: none is), and how they were found.

    `searched` is the number of pivots that were tried; `exhaustive` whether these were all.
    """

    pivot: int
    left_out: int | None
    searched: int
    exhaustive: bool


def choose_labels(
    likelihoods: Likelihoods, factor: Factor, pivot: int | None, left_out: int | None, *, search: bool, seed: int
) -> LabelChoice:
    """Return the pivot and left-out label that minimise t1; among equals the first pivot, then the first label.

    Parameters
    ----------
    likelihoods : Likelihoods
        The log-likelihoods.
    factor : Factor
        Of the embeddings.
    pivot : int, optional
        A fixed pivot.
    left_out : int, optional
        A fixed label to leave out (None: none is left out, unless `search`).
    search : bool
        Whether to look for the best label to leave out.
    seed : int
        Of the choice of pivots to try where there are too many labels to try all.
    """
    labels = likelihoods.pair.labels
    if pivot is not None and not search:
        return LabelChoice(pivot, left_out, 1, exhaustive=True)
    candidates, exhaustive = _candidates(labels, pivot, left_out, seed)
    apart = _pair_terms(likelihoods, factor, candidates, left_out)
    worst, which = _worst(apart, search=search)
    best = int(np.argmin(worst))
    chosen = int(candidates[best])
    if search:
        left_out = int(which[best])
    return LabelChoice(chosen, left_out, len(candidates), exhaustive)


def _candidates(labels: int, pivot: int | None, left_out: int | None, seed: int) -> tuple[Labels, bool]:
    """Return the pivots to try, ascending, and whether they are all."""
    if pivot is not None:
        return np.array([pivot]), True
    allowed = np.array([k for k in range(labels) if k != left_out])
    if labels <= ALL_PIVOTS:
        return allowed, True
    return np.sort(np.random.default_rng(seed).choice(allowed, PIVOTS, replace=False)), False


def _worst(apart: Matrix, *, search: bool) -> tuple[Matrix, Labels]:
    """Return t1 for each row of candidates, and the label to leave out; entries of -inf are not in the set.

    Without a label left out t1 is the largest entry of a row. Leaving out the largest gives the second largest; if both
    are equal any label does, and the first is taken.
    """
    if not search:
        return apart.max(axis=1), np.zeros(len(apart), dtype=np.int64)
    top_two = np.partition(apart, -2, axis=1)[:, -2:]
    tied = top_two[:, 0] == top_two[:, 1]
    first_in_set = np.isfinite(apart).argmax(axis=1)
    found: Labels = np.where(tied, first_in_set, apart.argmax(axis=1))
    return top_two[:, 0], found


def _pair_terms(likelihoods: Likelihoods, factor: Factor, candidates: Labels, left_out: int | None) -> Matrix:
    """Return what each candidate gives with every label, shape (candidates, K); -inf for itself and the left-out one."""
    pair = likelihoods.pair
    if pair.labels * len(candidates) * pair.n <= WHOLE:
        apart = _exact_terms(likelihoods, candidates, left_out)
    else:
        apart = _screened_terms(likelihoods, factor, candidates, left_out)
    apart[np.arange(len(candidates)), candidates] = -np.inf
    if left_out is not None:
        apart[:, left_out] = -np.inf
    return apart


def _exact_terms(likelihoods: Likelihoods, candidates: Labels, left_out: int | None) -> Matrix:
    table = likelihoods.of_labels(np.arange(likelihoods.pair.labels))
    apart = np.empty((len(candidates), likelihoods.pair.labels))
    for row, pivot in enumerate(candidates):
        found = compare_items(table, (table[0][pivot], table[1][pivot]))
        _require_defined(found.constant, int(pivot), np.arange(likelihoods.pair.labels), left_out)
        apart[row] = found.apart
    return apart


def _screened_terms(likelihoods: Likelihoods, factor: Factor, candidates: Labels, left_out: int | None) -> Matrix:
    """Return the terms from variances and covariances of single labels, which cost no pass over the inputs per pivot.

    Var(a/s - b/s') = Var a / s² + Var b / s'² - 2 Cov(a, b) / (s s') loses digits where the models are close (about 1e-8
    remains): good enough to choose by, and what is reported is computed from the log-likelihoods of the chosen sets.
    """
    pair = likelihoods.pair
    everything = np.arange(pair.labels)
    first, second, both = _moments(likelihoods)
    spread = [
        triangle(part) @ model.g.T for part, model in zip((factor.first, factor.second), pair.models, strict=True)
    ]
    apart = np.empty((len(candidates), pair.labels))
    for some in blocks(len(candidates), pair.labels):
        scales = [_column_distances(table, candidates[some]) / math.sqrt(pair.n - 1) for table in spread]
        for row, pivot, s, t in zip(range(some.start, some.stop), candidates[some], *scales, strict=True):
            constant = (s <= 8 * EPS * np.abs(spread[0]).max()) | (t <= 8 * EPS * np.abs(spread[1]).max())
            _require_defined(constant, int(pivot), everything, left_out)
            s[pivot] = t[pivot] = 1.0
            item = first / s**2 + second / t**2 - 2 * both / (s * t)
            itself = first[pivot] / s**2 + second[pivot] / t**2 - 2 * both[pivot] / (s * t)
            apart[row] = np.sqrt(np.maximum(np.maximum(item, itself), 0.0))
    return apart


def _column_distances(table: Matrix, some: Labels) -> Matrix:
    """Return the distances of some columns from all, shape (some, columns); close ones from the differences."""
    squares = np.einsum("ij,ij->j", table, table)
    sums = squares[some][:, None] + squares
    found: Matrix = sums - 2 * (table[:, some].T @ table)
    for row, column in zip(*np.nonzero(found < 1e-6 * sums), strict=True):
        found[row, column] = ((table[:, some[row]] - table[:, column]) ** 2).sum()
    return np.sqrt(found)


def _moments(likelihoods: Likelihoods) -> tuple[Matrix, Matrix, Matrix]:
    """Return the variances of every label's log-likelihood in both models, and their covariance, shape (K,) each."""
    pair = likelihoods.pair
    parts = []
    for labels in blocks(pair.labels, pair.n):
        first, second = likelihoods.of_labels(np.arange(pair.labels)[labels])
        first -= first.mean(axis=1, keepdims=True)
        second -= second.mean(axis=1, keepdims=True)
        parts.append(np.stack([(a * b).sum(axis=1) for a, b in ((first, first), (second, second), (first, second))]))
    first, second, both = np.concatenate(parts, axis=1) / (pair.n - 1)
    return first, second, both


def _require_defined(
    constant: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], pivot: int, labels: Labels, left_out: int | None
) -> None:
    """Raise a DegenerateError if a label other than the pivot and the left-out one has a constant difference to it."""
    bad = labels[constant & (labels != pivot) & (labels != (-1 if left_out is None else left_out))]
    if bad.size:
        more = f" (and {bad.size - 1} more labels)" if bad.size > 1 else ""
        message = f"ln p(y|x) - ln p(y0|x) is constant over the inputs for label y = {bad[0]} and pivot y0 = {pivot}{more}: its variance is zero and d_LLV undefined. Two labels with equal unembeddings do that: remove one of them from g1 and g2, or leave it out with left_out_label={bad[0]}."
        raise DegenerateError(message)


def label_terms(likelihoods: Likelihoods, choice: LabelChoice) -> tuple[float, float]:
    """Return t1 and t3: the largest distance and difference of scales over the labels of a choice."""
    pair = likelihoods.pair
    allowed = allowed_labels(pair.labels, choice)
    pivot = likelihoods.of_labels(np.array([choice.pivot]))
    apart, scale = [], []
    for some in blocks(len(allowed), pair.n):
        found = compare_items(likelihoods.of_labels(allowed[some]), (pivot[0][0], pivot[1][0]))
        _require_defined(found.constant, choice.pivot, allowed[some], choice.left_out)
        apart.append(found.apart.max())
        scale.append(found.scale.max())
    return float(max(apart)), float(max(scale))


def allowed_labels(labels: int, choice: LabelChoice) -> Labels:
    """Return the labels without the pivot and the one left out."""
    apart = [choice.pivot] if choice.left_out is None else [choice.pivot, choice.left_out]
    return np.setdiff1d(np.arange(labels), apart)


# ---- inputs ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class InputTerms:
    """t2 and t4 of some input sets, shape (sets,); infinite for a set on which they are undefined."""

    apart: Matrix
    scale: Matrix


def draw_input_sets(n: int, dimension: int, count: int, seed: int) -> Labels:
    """Return `count` sets of M + 1 inputs, all distinct, the first of each its pivot, shape (count, M + 1).

    The generator is the one whose stream NumPy has frozen: a seed gives the same sets in every version, and those that
    the original computation draws after ``numpy.random.seed(seed)``.
    """
    size = dimension + 1
    drawn = np.random.RandomState(seed).choice(n, size * count, replace=False)
    return np.asarray(drawn, dtype=np.int64).reshape(count, size)


def input_terms(pair: Pair, sets: Labels) -> InputTerms:
    """Return t2 and t4 of every set, shape (sets, M + 1): standard deviations over all labels.

    The normalising sum of an input is the same for all its labels and has no part in them: logits do.
    """
    count, size = sets.shape
    items, pivots = sets[:, 1:].ravel(), np.repeat(sets[:, 0], size - 1)
    step = max(1, BLOCK // pair.labels)
    apart, scale = [], []
    for start in range(0, len(items), step):
        some = slice(start, start + step)
        distinct, place = np.unique(pivots[some], return_inverse=True)
        found = compare_items(_logits(pair, items[some]), _rows(_logits(pair, distinct), place))
        apart.append(np.where(found.constant, np.inf, found.apart))
        scale.append(np.where(found.constant, np.inf, found.scale))
    worst, widest = (np.concatenate(parts).reshape(count, size - 1).max(axis=1) for parts in (apart, scale))
    return InputTerms(worst, widest)


def _logits(pair: Pair, inputs: Labels) -> tuple[Matrix, Matrix]:
    return pair.first.logits(inputs), pair.second.logits(inputs)


def _rows(tables: tuple[Matrix, Matrix], place: Labels) -> tuple[Matrix, Matrix]:
    if len(tables[0]) == 1:
        return tables  # broadcast instead of copied
    return tables[0][place], tables[1][place]


def differences(model: Model, members: Sequence[int] | Labels, *, of: str) -> Matrix:
    """Return the rows of Lᵀ or Nᵀ: the set without its pivot, minus the pivot, shape (M, M)."""
    values = model.g if of == "labels" else model.f
    found: Matrix = values[np.asarray(members[1:])] - values[members[0]]
    return found
