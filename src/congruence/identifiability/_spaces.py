"""How alike two representation spaces are: mean canonical correlation, mean singular value, and the same after fixing.

Sources: Nielsen et al. 2025 (arXiv 2506.03784): m_CCA, m_SVD, d_SVD, d_{f,g}; Nielsen et al. 2026 (arXiv 2602.15438):
d_rep and what bounds it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from congruence import linalg
from congruence.errors import DegenerateError, ShapeError
from congruence.identifiability._model import (
    BLOCK,
    EPS,
    Factor,
    Labels,
    Matrix,
    Model,
    Pair,
    joint_factor,
    require_rank,
    triangle,
)

EXHAUSTIVE = 100_000
"""Up to this many label sets all are tried."""
EFFORT = 1e10
"""Floating-point operations to spend on sets where they are sampled."""
LEAST_SETS, MOST_SETS = 8, 10_000
_FEW_LABELS = 2048


# ---- the measures ----------------------------------------------------------------------------------------------------


def m_cca(x: Any, y: Any, /) -> float:
    """Return the mean canonical correlation of two representations of the same rows, in closed form.

    Parameters
    ----------
    x, y : array, shape (n, M)
        Both of rank M after centring.

    Returns
    -------
    float
        In [0, 1]; 1 if and only if y is an invertible affine function of x.

    Raises
    ------
    ShapeError
        If the shapes differ.
    DegenerateError
        If one of them has a lower rank.

    References
    ----------
    Nielsen et al. 2025, arXiv 2506.03784; the original iterates (NIPALS) to the same value.
    """
    a, b = _same_shape(x, y)
    factor = joint_factor(a, b)
    require_rank(factor, a, b, "z")
    return float(canonical_correlations(factor).mean())


def m_svd(x: Any, y: Any, /) -> float:
    """Return the mean singular value of the cross-correlation matrix of two representations of the same rows.

    Parameters
    ----------
    x, y : array, shape (n, M)
        Without constant columns.

    Returns
    -------
    float
        In [0, 1]; the distance d_SVD is 1 minus it.

    Raises
    ------
    ShapeError
        If the shapes differ.
    DegenerateError
        If a column is constant.

    References
    ----------
    Nielsen et al. 2025, arXiv 2506.03784: the mean covariance of the scores of PLS-SVD after standardising, which is the
    nuclear norm of the cross-correlation matrix over M.
    """
    a, b = _same_shape(x, y)
    factor = joint_factor(a, b)
    for part, values, number in ((factor.first, a, 1), (factor.second, b, 2)):
        _require_varying(part, values, f"z{number}")
    return mean_singular_value(factor.first, factor.second)


def d_svd(x: Any, y: Any, /) -> float:
    """Return 1 - `m_svd`: 0 for equal representations up to the scale and offset of single columns, at most 1."""
    return 1 - m_svd(x, y)


def _same_shape(x: Any, y: Any) -> tuple[Matrix, Matrix]:
    from congruence.validate import as_array, require_finite

    a, b = (np.asarray(linalg.to_numpy(as_array(v, name)), dtype=np.float64) for v, name in ((x, "z1"), (y, "z2")))
    if a.ndim != 2 or a.shape != b.shape or a.shape[0] < 2:
        message = f"z1 and z2 must be matrices of one shape (n, M) with n >= 2; got {a.shape} and {b.shape}."
        raise ShapeError(message)
    for values, name in ((a, "z1"), (b, "z2")):
        require_finite(values, name)
    return a, b


def _require_varying(part: Matrix, values: Matrix, name: str) -> None:
    noise = 8 * EPS * math.sqrt(len(values)) * np.abs(values).max(axis=0)
    constant = np.flatnonzero(np.linalg.norm(part, axis=0) <= noise)
    if constant.size:
        message = f"{name}: column {constant[0]} is constant, so it has no correlation. Leave it out on both sides."
        raise DegenerateError(message)


def canonical_correlations(factor: Factor) -> Matrix:
    """Return the canonical correlations of the two matrices of a factor, descending, shape (min M,)."""
    bases = [np.linalg.svd(part, full_matrices=False)[0] for part in (factor.first, factor.second)]
    found: Matrix = np.minimum(np.linalg.svd(bases[0].T @ bases[1], compute_uv=False), 1.0)
    return found


def mean_singular_value(x: Matrix, y: Matrix) -> float:
    """Return m_SVD of centred columns, from the columns themselves or from their part of a `Factor`."""
    return float(_mean_singular_values(_unit_columns(x)[None], _unit_columns(y)[None])[0])


def _unit_columns(x: Matrix) -> Matrix:
    found: Matrix = x / np.linalg.norm(x, axis=-2, keepdims=True)
    return found


def _mean_singular_values(x: Matrix, y: Matrix) -> Matrix:
    """Return m_SVD of stacks of unit columns, shape (stack, rows, M) each."""
    correlations = np.swapaxes(x, 1, 2) @ y
    found: Matrix = np.minimum(np.linalg.svd(correlations, compute_uv=False).mean(axis=1), 1.0)
    return found


# ---- sets of labels --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LabelSearch:
    """The largest d_SVD of Lᵀf over sets of M labels.

    Attributes
    ----------
    distance : float
        The largest d_SVD(Lᵀf, L'ᵀf').
    members : tuple of int
        The labels of that set, without the pivot.
    condition : (float, float)
        Condition numbers of its L in both models.
    tried, degenerate : int
        Sets tried, and those of them left out because an L is singular.
    exhaustive : bool
        Whether these were all sets.
    """

    distance: float
    members: tuple[int, ...]
    condition: tuple[float, float]
    tried: int
    degenerate: int
    exhaustive: bool


def search_label_sets(pair: Pair, factor: Factor, pivot: int, allowed: Labels, seed: int) -> LabelSearch:
    """Return the set of M allowed labels on which the fixed embeddings are farthest apart.

    (Lᵀf)_y = f·(g(y) - g(pivot)); its column for any label is a column of R (g - g(pivot))ᵀ with R the factor of f, and
    each set takes M of these.
    """
    size = pair.dimension
    exhaustive = math.comb(len(allowed), size) <= EXHAUSTIVE
    count = math.comb(len(allowed), size) if exhaustive else _affordable(size)
    best = LabelSearch(-1.0, (), (0.0, 0.0), count, 0, exhaustive)
    degenerate = 0
    for places in _label_sets(len(allowed), size, count if not exhaustive else None, seed):
        members = allowed[places]
        edges = [model.g[members] - model.g[pivot] for model in pair.models]
        conditions = np.stack([conditions_of(e, model.noise_g) for e, model in zip(edges, pair.models, strict=True)])
        usable = np.isfinite(conditions).all(axis=0)
        degenerate += int((~usable).sum())
        if not usable.any():
            continue
        columns = [
            _unit_columns(part @ np.swapaxes(e[usable], 1, 2))
            for part, e in zip((factor.first, factor.second), edges, strict=True)
        ]
        values = 1 - _mean_singular_values(*columns)
        at = int(values.argmax())
        if values[at] > best.distance:
            first, second = conditions[:, usable][:, at].tolist()
            chosen = tuple(members[usable][at].tolist())
            best = LabelSearch(float(values[at]), chosen, (first, second), count, 0, exhaustive)
    if not best.members:
        message = f"L is singular for every set of {size} labels with pivot {pivot} ({count} tried): the unembeddings lie in fewer than {size} dimensions around it. Choose another label_pivot."
        raise DegenerateError(message)
    return LabelSearch(best.distance, best.members, best.condition, count, degenerate, exhaustive)


def _affordable(size: int, least: int = LEAST_SETS) -> int:
    """Return how many sets of that size can be tried with the effort that is allowed."""
    return int(min(MOST_SETS, max(least, EFFORT / (40 * size**3))))


def _label_sets(labels: int, size: int, count: int | None, seed: int) -> Iterator[Labels]:
    """Yield blocks of sets, shape (block, size): all of them, or `count` at random."""
    block = max(1, BLOCK // (4 * size * size))
    if count is not None:
        yield from _random_sets(np.random.default_rng(seed), labels, size, count, block)
        return
    everything = itertools.combinations(range(labels), size)
    while some := list(itertools.islice(everything, block)):
        yield np.array(some, dtype=np.int64)


def _random_sets(rng: np.random.Generator, labels: int, size: int, count: int, block: int) -> Iterator[Labels]:
    """Yield blocks of `count` random sets of distinct labels, each ascending."""
    few = labels <= _FEW_LABELS
    block = min(block, max(1, BLOCK // labels)) if few else block
    for start in range(0, count, block):
        rows = min(block, count - start)
        if few:  # the smallest of random keys: many draws at once
            drawn = np.argpartition(rng.random((rows, labels)), size - 1, axis=1)[:, :size]
        else:
            drawn = np.stack([rng.choice(labels, size, replace=False) for _ in range(rows)])
        yield np.sort(drawn, axis=1).astype(np.int64)


def conditions_of(edges: Matrix, noise: float) -> Matrix:
    """Return the condition numbers of a stack of matrices whose entries are known to `noise`; infinite where singular."""
    return _conditions(np.linalg.svd(edges, compute_uv=False), noise)


def _conditions(singular: np.ndarray[Any, Any], noise: float) -> Matrix:
    least = np.maximum(singular.shape[-1] * EPS * singular[..., 0], noise)
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Matrix = np.where(singular[..., -1] > least, singular[..., 0] / singular[..., -1], np.inf)
    return found


# ---- unembeddings at a set of inputs ---------------------------------------------------------------------------------


def fixed_unembedding_distance(factor: Factor, edges: tuple[Matrix, Matrix]) -> float:
    """Return d_SVD(Nᵀg, N'ᵀg') over the labels, from the factor of g and the rows of Nᵀ and N'ᵀ."""
    return 1 - mean_singular_value(factor.first @ edges[0].T, factor.second @ edges[1].T)


# ---- the follow-up's distance ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Identified:
    """d_rep and what bounds it.

    Attributes
    ----------
    distance : float
        Root of the mean over pivots and label sets of mean_x |f - L^-T L'ᵀ f'|².
    bound : float
        d_logit times the root of the mean of (M + 1) / s² over the same sets, s the least singular value of L.
    tried : int
        Label sets.
    """

    distance: float
    bound: float
    tried: int


def identified_distance(pair: Pair, factor: Factor, d_logit: float, seed: int, pivots: int, sets: int) -> Identified:
    """Return d_rep over random pivots and label sets; those with a singular L have no part in it.

    f - A f' is computed from the factor of (f, f') and their means, so that the number of inputs does not matter.

    Raises
    ------
    DegenerateError
        If no set has an invertible L.
    """
    first, second = pair.models
    size = pair.dimension
    means = first.f.mean(axis=0), second.f.mean(axis=0)
    squares, inverse_squares = [], []
    for members in _pivoted_sets(pair.labels, size, pivots, sets, seed):
        edges = [model.g[members[:, 1:]] - model.g[members[:, :1]] for model in pair.models]
        singular = np.linalg.svd(edges[0], compute_uv=False)
        usable = np.isfinite(_conditions(singular, first.noise_g))
        maps = np.linalg.solve(edges[0][usable], edges[1][usable])
        centred = factor.first - factor.second @ np.swapaxes(maps, 1, 2)
        offset = means[0] - maps @ means[1]
        squares.append((centred**2).sum(axis=(1, 2)) / pair.n + (offset**2).sum(axis=1))
        inverse_squares.append(singular[usable, -1] ** -2)
    together, inverse = np.concatenate(squares), np.concatenate(inverse_squares)
    if not together.size:
        message = (
            "L is singular for all label sets that were tried: the unembeddings of model 1 lie in too few dimensions."
        )
        raise DegenerateError(message)
    bound = d_logit * math.sqrt((size + 1) * float(inverse.mean()))
    return Identified(math.sqrt(float(together.mean())), bound, len(together))


def _pivoted_sets(labels: int, size: int, pivots: int, sets: int, seed: int) -> Iterator[Labels]:
    """Yield blocks of sets whose first member is the pivot: all if they are few, else `sets` for each of `pivots`.

    Where sets are large there are fewer of them (see `EFFORT`).
    """
    rng = np.random.default_rng(seed)
    pivots = min(pivots, labels)
    total = min(pivots * sets, _affordable(size) * 2)
    block = max(1, BLOCK // (8 * size * size))
    if labels * math.comb(labels - 1, size) <= total:
        for others in _label_sets(labels - 1, size, None, seed):
            for pivot in range(labels):
                yield _with_pivot(np.full(len(others), pivot), others)
        return
    chosen = rng.choice(labels, pivots, replace=False)
    done = 0
    for others in _random_sets(rng, labels - 1, size, total, block):
        yield _with_pivot(chosen[np.arange(done, done + len(others)) % pivots], others)
        done += len(others)


def _with_pivot(pivot: Labels, others: Labels) -> Labels:
    """Return sets of labels with their pivot in front; `others` count the labels without it."""
    return np.column_stack([pivot, others + (others >= pivot[:, None])])


def unexplained_logits(model: Model, factor: Factor, own: Matrix) -> float:
    """Return sum (1 - rho_i²) lambda_i, what the other embeddings leave unexplained of the logits of `model`.

    rho are the canonical correlations of the embeddings and lambda the eigenvalues of the covariance of the centred
    logits, both descending; `own` is the part of the factor that is the model's. The sum is at most d_logit²: no linear function of the other embeddings comes closer to the logits, and no matching of
    correlations to eigenvalues is smaller.
    """
    centred = model.g - model.g.mean(axis=0)
    weights = np.linalg.svd(own @ triangle(centred).T, compute_uv=False) ** 2 / factor.rows
    correlations = canonical_correlations(factor)
    return float(((1 - correlations**2) * weights[: len(correlations)]).sum())
