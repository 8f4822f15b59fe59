"""compare: two models from their embeddings and unembeddings."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import Annotated, Any

import numpy as np

from congruence.errors import Caveat, CongruenceWarning, DegenerateError, ParameterError
from congruence.identifiability import _spaces
from congruence.identifiability._distributions import Distributions, scan
from congruence.identifiability._likelihood import (
    ALL_PIVOTS,
    LabelChoice,
    Likelihoods,
    allowed_labels,
    choose_labels,
    differences,
    draw_input_sets,
    input_terms,
    label_terms,
)
from congruence.identifiability._model import (
    Factor,
    Labels,
    Pair,
    joint_factor,
    read_pair,
    require_diversity,
    require_rank,
)
from congruence.identifiability._result import Identifiability
from congruence.validate import Interval, parameter

REP_PIVOTS, REP_SETS = 100, 200
"""Pivots and label sets of d_rep, as in the original."""
ILL_CONDITIONED = 1e8


@dataclass(frozen=True)
class _Inputs:
    """The input set, its terms, how many were tried, and what is to be said of it."""

    members: tuple[int, ...]
    t2: float
    t4: float
    tried: int
    caveats: tuple[Caveat, ...]


def compare(
    f1: Any,
    g1: Any,
    f2: Any,
    g2: Any,
    /,
    *,
    lam: float = 1e-5,
    n_input_sets: int = 100,
    seed: int = 0,
    label_pivot: int | None = None,
    left_out_label: int | EllipsisType | None = ...,
    input_set: Sequence[int] | None = None,
) -> Identifiability:
    """Return how close two models p(y|x) = softmax(f(x)·g(y)) are in what they predict and in how they represent it.

    Parameters
    ----------
    f1, f2 : array, shape (n, M)
        Embeddings of the same inputs (NumPy, PyTorch, any array-API array, or a Representation whose ids are compared).
    g1, g2 : array, shape (K, M)
        Unembeddings of the same labels: the rows of the last linear layer. A bias of that layer is left out: it shifts
        Lᵀf by a constant and cancels in Nᵀg, so no distance of representations changes; the distributions are those
        without it.
    lam : float
        Weight of t3 and t4, the differences of the scales, in d_LLV.
    n_input_sets : int
        How many disjoint sets of M + 1 inputs are tried for the one with the least t2.
    seed : int
        Of the input sets, and of whatever else has to be sampled.
    label_pivot : int, optional
        The label y0; by default the one that minimises t1.
    left_out_label : int or None, optional
        The label without a part in L and t1, None for none; by default the one that minimises t1.
    input_set : sequence of int, optional
        M + 1 inputs, the pivot first.

    Returns
    -------
    Identifiability
        Also says in words what it means: ``print(result)``.

    Raises
    ------
    ShapeError
        If shapes do not fit, or labels or inputs are too few for an invertible L and N.
    InputError
        If values or logits are not finite, or embeddings look like probabilities.
    AlignmentError
        If Representations with different ids are given.
    DegenerateError
        If f or g has rank below M, a difference of log-likelihoods is constant, or a set is not diverse.
    ParameterError
        If a parameter is out of its range.

    Warns
    -----
    CongruenceWarning
        If fewer input sets are possible, none has t2 < 1, canonical correlations are 1 for any data, a search was
        sampled, or L or N is ill-conditioned.

    Notes
    -----
    All pivots and left-out labels are tried up to 2,048 labels, beyond that 256 random pivots with every label left out;
    label sets are exhaustive up to 100,000, beyond that a random sample, and d_svd_f is then the largest found. Log-
    likelihoods are computed in blocks, so n x K is never held as a whole. All numbers are computed in float64.

    References
    ----------
    Nielsen et al. 2025, arXiv 2506.03784; Nielsen et al. 2026, arXiv 2602.15438.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> f, g = rng.normal(size=(500, 2)), rng.normal(size=(6, 2))
    >>> turn = np.array([[2.0, 1.0], [0.0, 1.0]])
    >>> same = compare(f, g, f @ turn.T, g @ np.linalg.inv(turn))
    >>> same.d_llv < 1e-10, same.d_fg < 1e-10
    (True, True)
    """
    lam, n_input_sets, seed = _numbers(lam, n_input_sets, seed)
    pair = read_pair(f1, g1, f2, g2)
    pivot, left_out = _check_labels(pair, label_pivot, left_out_label)
    require_diversity(pair, one_left_out=left_out_label is not None)
    factors = joint_factor(pair.first.f, pair.second.f), joint_factor(pair.first.g, pair.second.g)
    require_rank(factors[0], pair.first.f, pair.second.f, "f")
    require_rank(factors[1], pair.first.g, pair.second.g, "g")
    distances, sums = scan(pair)
    likelihoods = Likelihoods(pair, sums)
    choice = choose_labels(likelihoods, factors[0], pivot, left_out, search=left_out_label is ..., seed=seed)
    inputs = _inputs(pair, input_set, n_input_sets, seed)
    found = _assemble(likelihoods, factors, distances, choice, inputs, lam, seed)
    for caveat in found.caveats:
        warnings.warn(CongruenceWarning(caveat), stacklevel=2)
    return found


def _assemble(
    likelihoods: Likelihoods,
    factors: tuple[Factor, Factor],
    distances: Distributions,
    choice: LabelChoice,
    inputs: _Inputs,
    lam: float,
    seed: int,
) -> Identifiability:
    """Return the result for sets that are chosen."""
    pair = likelihoods.pair
    t1, t3 = label_terms(likelihoods, choice)
    search = _spaces.search_label_sets(pair, factors[0], choice.pivot, allowed_labels(pair.labels, choice), seed)
    identified = _spaces.identified_distance(pair, factors[0], distances.d_logit, seed, REP_PIVOTS, REP_SETS)
    spaces = _spaces_of(pair, factors, search, inputs.members)
    return Identifiability(
        **vars(distances),
        **spaces,
        d_llv=max(t1, inputs.t2, lam * t3, lam * inputs.t4),
        t1=t1,
        t2=inputs.t2,
        t3=t3,
        t4=inputs.t4,
        d_rep=identified.distance,
        bound_rep=identified.bound,
        label_pivot=choice.pivot,
        left_out_label=choice.left_out,
        input_set=inputs.members,
        n=pair.n,
        labels=pair.labels,
        dimension=pair.dimension,
        lam=lam,
        seed=seed,
        input_sets=inputs.tried,
        label_sets=search.tried,
        pivots=choice.searched,
        exhaustive=choice.exhaustive and search.exhaustive,
        caveats=(*inputs.caveats, *_floors(pair), *_searches(choice, search, pair), *_conditions(spaces)),
    )


def _spaces_of(
    pair: Pair, factors: tuple[Factor, Factor], search: _spaces.LabelSearch, members: tuple[int, ...]
) -> dict[str, Any]:
    """Return the fields of the result that concern the representations."""
    of_f, of_g = factors
    edges = differences(pair.first, members, of="inputs"), differences(pair.second, members, of="inputs")
    conditions = [
        float(_spaces.conditions_of(edge, model.noise_f)) for edge, model in zip(edges, pair.models, strict=True)
    ]
    return {
        "m_cca_f": float(_spaces.canonical_correlations(of_f).mean()),
        "m_cca_g": float(_spaces.canonical_correlations(of_g).mean()),
        "d_svd_f": search.distance,
        "d_svd_g": _spaces.fixed_unembedding_distance(of_g, edges),
        "d_svd_f_raw": 1 - _spaces.mean_singular_value(of_f.first, of_f.second),
        "d_svd_g_raw": 1 - _spaces.mean_singular_value(of_g.first, of_g.second),
        "unexplained": _spaces.unexplained_logits(pair.first, of_f, of_f.first),
        "label_set": search.members,
        "condition_l": search.condition,
        "condition_n": (conditions[0], conditions[1]),
    }


# ---- what the user chose ---------------------------------------------------------------------------------------------


def _numbers(lam: Any, n_input_sets: Any, seed: Any) -> tuple[float, int, int]:
    """Return the numbers, converted, or raise a ParameterError that states the rule."""
    return (
        float(parameter("compare", "lam", Annotated[float, Interval(0)], lam)),
        int(parameter("compare", "n_input_sets", Annotated[int, Interval(1)], n_input_sets)),
        int(parameter("compare", "seed", Annotated[int, Interval(0, 2**32 - 1)], seed)),
    )


def _check_labels(pair: Pair, pivot: int | None, left_out: int | EllipsisType | None) -> tuple[int | None, int | None]:
    """Return the pivot and the left-out label that are fixed, as integers in range."""
    fixed = None if isinstance(left_out, EllipsisType) else left_out
    found = [
        None if label is None else _index(label, pair.labels, name, "labels")
        for name, label in (("label_pivot", pivot), ("left_out_label", fixed))
    ]
    if found[0] is not None and found[0] == found[1]:
        message = f"label_pivot and left_out_label must differ; got {found[0]} for both."
        raise ParameterError(message)
    return found[0], found[1]


def _index(value: Any, count: int, name: str, what: str) -> int:
    try:
        found = operator.index(value)
    except TypeError as error:
        message = f"{name} must be an integer; got {value!r}."
        raise ParameterError(message) from error
    if isinstance(value, bool) or not 0 <= found < count:
        message = f"{name} must be an integer from 0 to {count - 1} ({count} {what}); got {value!r}."
        raise ParameterError(message)
    return found


# ---- inputs ----------------------------------------------------------------------------------------------------------


def _inputs(pair: Pair, given: Sequence[int] | None, count: int, seed: int) -> _Inputs:
    return _sampled_inputs(pair, count, seed) if given is None else _given_inputs(pair, given)


def _given_inputs(pair: Pair, given: Sequence[int]) -> _Inputs:
    members = tuple(_index(i, pair.n, "input_set", "inputs") for i in given)
    needed = pair.dimension + 1
    if len(members) != needed or len(set(members)) != needed:
        message = f"input_set must have M + 1 = {needed} distinct inputs, the pivot first; got {len(members)} ({len(set(members))} distinct)."
        raise ParameterError(message)
    sets = np.array([members])
    terms = input_terms(pair, sets)
    if not np.isfinite(terms.apart[0]) or not _diverse(pair, sets)[0]:
        message = f"input_set {members} is not diverse: N is singular in one of the models. Choose other inputs."
        raise DegenerateError(message)
    return _Inputs(members, float(terms.apart[0]), float(terms.scale[0]), 1, ())


def _sampled_inputs(pair: Pair, count: int, seed: int) -> _Inputs:
    """Return the set with the least t2 among `count` disjoint ones, or as many as there are inputs for."""
    possible = min(count, pair.n // (pair.dimension + 1))
    caveats = []
    if possible < count:
        text = f"{pair.n} inputs make {possible} disjoint sets of M + 1 = {pair.dimension + 1}, fewer than the {count} asked for; t2 and d_llv may be larger than with more inputs."
        caveats.append(Caveat("few_input_sets", text))
    sets = draw_input_sets(pair.n, pair.dimension, possible, seed)
    terms = input_terms(pair, sets)
    apart = np.where(_diverse(pair, sets), terms.apart, np.inf)
    best = int(apart.argmin())
    if not np.isfinite(apart[best]):
        message = f"None of the {possible} input sets tried is diverse: N is singular, or a difference of log-likelihoods constant over the labels, in each. Give more inputs or other ones."
        raise DegenerateError(message)
    if apart[best] >= 1:
        text = f"no input set of {possible} has t2 < 1 (the least is {apart[best]:.4g}); the best is taken, where the original computation silently falls back on the first."
        caveats.append(Caveat("no_close_input_set", text))
    members = tuple(sets[best].tolist())
    return _Inputs(members, float(apart[best]), float(terms.scale[best]), possible, tuple(caveats))


def _diverse(pair: Pair, sets: Labels) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Return for each set whether N is invertible in both models."""
    found = [
        np.isfinite(_spaces.conditions_of(model.f[sets[:, 1:]] - model.f[sets[:, :1]], model.noise_f))
        for model in pair.models
    ]
    return found[0] & found[1]


# ---- what is to be said of it ----------------------------------------------------------------------------------------


def _floors(pair: Pair) -> list[Caveat]:
    """Return a caveat where canonical correlations are 1 whatever the data."""
    found = []
    for name, what, rows in (("m_cca_f", "inputs", pair.n), ("m_cca_g", "labels", pair.labels)):
        forced = min(pair.dimension, 2 * pair.dimension - (rows - 1))
        if forced > 0:
            level = forced / pair.dimension
            text = f"{name} rests on {rows} {what}: {forced} of its {pair.dimension} canonical correlations are 1 for any data (2 M > {rows} - 1), so it cannot be below {level:.3g}."
            found.append(Caveat("cca_floor", text, level))
    return found


def _searches(choice: LabelChoice, search: _spaces.LabelSearch, pair: Pair) -> list[Caveat]:
    found = []
    if not choice.exhaustive:
        text = f"{choice.searched} of {pair.labels} labels were tried as pivot (all are tried up to {ALL_PIVOTS}); another might give a smaller t1. Fix one with label_pivot."
        found.append(Caveat("sampled_pivots", text))
    if not search.exhaustive:
        text = f"{search.tried} random label sets were tried; d_svd_f is the largest found and may be larger on others."
        found.append(Caveat("sampled_label_sets", text))
    if search.degenerate:
        text = f"{search.degenerate} of {search.tried} label sets have a singular L and no part in d_svd_f."
        found.append(Caveat("degenerate_label_sets", text))
    return found


def _conditions(spaces: dict[str, Any]) -> list[Caveat]:
    worst = max(*spaces["condition_l"], *spaces["condition_n"])
    if worst < ILL_CONDITIONED:
        return []
    text = f"L or N is ill-conditioned (condition number {worst:.3g}): d_svd_f or d_svd_g has lost about {np.log10(worst):.0f} of 16 digits."
    return [Caveat("ill_conditioned", text)]
