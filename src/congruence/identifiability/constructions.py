"""Pairs of models made to order: what theory says about them is known beforehand, for tests and for teaching.

All are in two dimensions with evenly spaced unembeddings, as in Nielsen et al. 2025 (arXiv 2506.03784).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.optimize

from congruence.errors import ParameterError
from congruence.identifiability._model import Matrix, read_pair
from congruence.identifiability._pair import compare

PERMUTATION = (5, 0, 2, 4, 6, 1, 3)
"""The places that the seven clusters of the paper's Table 1 move to."""
STEPS = {4: 0.005, 5: 0.004, 6: 0.004, 10: 0.0025, 18: 0.002}
"""Noise per step of the paper's perturbed models, by the number of labels."""
_SPREAD = math.pi / 64


class ModelPair(NamedTuple):
    """Embeddings and unembeddings of two models: what `congruence.identifiability.compare` takes."""

    f1: Matrix
    g1: Matrix
    f2: Matrix
    g2: Matrix


def permuted_clusters(
    rho: float, *, per_label: int = 500, permutation: Sequence[int] = PERMUTATION, length: float = 2.0, seed: int = 0
) -> ModelPair:
    """Return two models whose KL divergence vanishes as `rho` grows while their representations stay dissimilar.

    Embeddings gather round the unembedding of their label. In the second model the clusters have changed places; every
    label keeps its inputs, so both models predict the same ever more certainly.

    Parameters
    ----------
    rho : float
        Norm of the unembeddings.
    per_label : int
        Inputs of every label.
    permutation : sequence of int
        Place of each label in the second model; its length K is the number of labels.
    length : float
        Least norm of an embedding.
    seed : int
        Of the angles and norms of the embeddings, which do not depend on `rho`.

    Returns
    -------
    ModelPair
        f of shape (K per_label, 2), g of shape (K, 2).

    Raises
    ------
    ParameterError
        If `permutation` is none, or a size is not positive.

    References
    ----------
    Nielsen et al. 2025, Theorem 3.1 and Table 1.
    """
    places = np.asarray(permutation)
    if sorted(places.tolist()) != list(range(len(places))) or len(places) < 3:
        message = f"permutation must hold every number from 0 to K - 1 once, K >= 3; got {list(permutation)}."
        raise ParameterError(message)
    _require_positive("rho", rho)
    _require_positive("per_label", per_label)
    labels = len(places)
    turns, norms = _clusters(labels, per_label, length, np.random.default_rng(seed))
    centres = _even_angles(labels)
    first = _points(centres[:, None] + turns, norms), _points(centres, rho)
    second = _points(centres[places, None] + turns[places], norms), _points(centres[places], rho)
    return ModelPair(*first, *second)


def perturbed_embeddings(
    labels: int,
    noise: float,
    *,
    per_label: int = 100,
    length: float = 5.0,
    norm: float = 20.0,
    seed: int = 0,
    noise_seed: int | None = None,
) -> ModelPair:
    """Return a model with evenly spaced unembeddings, and the same with noise on its embeddings.

    Parameters
    ----------
    labels : int
        K, at least 3.
    noise : float
        Standard deviation of the noise, which is the same draw for every value.
    per_label : int
        Inputs of every label.
    length, norm : float
        Least norm of the embeddings, norm of the unembeddings.
    seed : int
        Of the embeddings, and of the noise if it has no seed of its own.
    noise_seed : int, optional
        Of the noise.

    Returns
    -------
    ModelPair

    Raises
    ------
    ParameterError
        If a parameter is out of its range.

    References
    ----------
    Nielsen et al. 2025, Figure 16.
    """
    if labels < 3:
        message = f"labels must be an integer >= 3; got {labels!r}."
        raise ParameterError(message)
    if not 0 <= noise < math.inf:
        message = f"noise must be a number >= 0; got {noise!r}."
        raise ParameterError(message)
    _require_positive("per_label", per_label)
    rng = np.random.default_rng(seed)
    turns, norms = _clusters(labels, per_label, length, rng)
    centres = _even_angles(labels)
    f, g = _points(centres[:, None] + turns, norms), _points(centres, norm)
    source = rng if noise_seed is None else np.random.default_rng(noise_seed)
    return ModelPair(f, g, f + noise * source.standard_normal(f.shape), g)


def perturbed_to(d_llv: float, labels: int = 6, *, seed: int = 0, **options: Any) -> ModelPair:
    """Return a perturbed pair whose d_LLV, as `compare` finds it with the same seed, is `d_llv`.

    Parameters
    ----------
    d_llv : float
        The distance wanted, above 0 and below what noise can reach (about 1).
    labels : int
        K, at least 4.
    seed : int
        Of the embeddings, the noise and the input sets.
    **options
        Passed on to `perturbed_embeddings`.

    Returns
    -------
    ModelPair

    Raises
    ------
    ParameterError
        If no amount of noise gives that distance.
    """
    _require_positive("d_llv", d_llv)
    few = min(100, labels * int(options.get("per_label", 100)) // 3)

    def excess(logarithm: float) -> float:
        pair = perturbed_embeddings(labels, math.exp(logarithm), seed=seed, **options)
        return compare(*pair, n_input_sets=few, seed=seed).d_llv - d_llv

    low, high = math.log(1e-9), math.log(float(options.get("length", 5.0)) / 10)
    if excess(low) > 0 or excess(high) < 0:
        message = f"d_llv must be between about {excess(low) + d_llv:.2g} and {excess(high) + d_llv:.2g} for {labels} labels; got {d_llv!r}."
        raise ParameterError(message)
    found = scipy.optimize.brentq(excess, low, high, xtol=1e-12, rtol=1e-12)
    return perturbed_embeddings(labels, math.exp(found), seed=seed, **options)


def reparametrised(f: Any, g: Any, *, seed: int = 0) -> ModelPair:
    """Return a model and the same model in other coordinates: f A and g A^-ᵀ + shift, with random A and shift.

    Every distribution is the same, so all distances of distributions and of fixed representations are zero.

    Parameters
    ----------
    f : array, shape (n, M)
        Embeddings.
    g : array, shape (K, M)
        Unembeddings.
    seed : int
        Of the map and the shift.

    Returns
    -------
    ModelPair
    """
    model = read_pair(f, g, f, g).first
    rng = np.random.default_rng(seed)
    size = model.dimension
    left, right = (np.linalg.qr(rng.normal(size=(size, size)))[0] for _ in range(2))
    stretch = np.exp(rng.uniform(-1, 1, size))
    forward, back = (left * stretch) @ right, (left / stretch) @ right
    shift = rng.normal(size=size) * float(np.abs(model.g).max())
    return ModelPair(model.f, model.g, model.f @ forward, model.g @ back + shift)


def _even_angles(labels: int) -> Matrix:
    return 2 * np.pi * np.arange(labels) / labels


def _clusters(labels: int, per_label: int, length: float, rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    """Return the angles of the inputs relative to their label's, and their norms, shape (labels, inputs) each."""
    turns = rng.uniform(-_SPREAD, _SPREAD, (labels, per_label))
    return turns, length + np.abs(0.01 * rng.standard_normal((labels, per_label)))


def _points(angles: Matrix, norms: Matrix | float) -> Matrix:
    """Return points of the plane, shape (points, 2)."""
    angles, norms = np.broadcast_arrays(angles, norms)
    found: Matrix = np.column_stack([(norms * np.cos(angles)).ravel(), (norms * np.sin(angles)).ravel()])
    return found


def _require_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        message = f"{name} must be a number > 0; got {value!r}."
        raise ParameterError(message)
