"""Directions of a layer: those it shares with another, how much of the layer they are, and what they say of a class.

Sources: Raghu et al. 2017, SVCCA (projection, compression, class sensitivity); Morcos et al. 2018 (stable and unstable).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from congruence import linalg
from congruence.errors import ParameterError, ShapeError
from congruence.validate import features, require_same_n

if TYPE_CHECKING:
    import xarray as xr

Values = np.ndarray[Any, np.dtype[np.float64]]


class Canonical(NamedTuple):
    """Canonical directions of a layer with another, the most alike first.

    variates : (n, m), orthonormal columns, linear in the centred neurons of the first layer.
    weights : (p, m), variates = (x - mean) @ weights.
    correlations : (m,), in [0, 1].
    """

    variates: Values
    weights: Values
    correlations: Values


def canonical_directions(x: Any, y: Any, *, variance: float = 1.0) -> Canonical:
    """Return the directions of `x` in order of their canonical correlation with `y` (SVCCA directions for variance < 1).

    Parameters
    ----------
    x, y : array, shape (n, p) and (n, q)
        Two layers on the same stimuli.
    variance : float
        Keep the leading principal directions of each that reach this share of the variance first; 1 keeps all.

    Returns
    -------
    Canonical
        m = min of the numbers of directions that were kept.

    Raises
    ------
    ShapeError
        If the numbers of stimuli differ.
    ParameterError
        If `variance` is not in (0, 1].
    """
    if not 0 < variance <= 1:
        message = f"variance must be above 0 and at most 1; got {variance:g}."
        raise ParameterError(message)
    first, second = _leading(x, "x", variance), _leading(y, "y", variance)
    require_same_n(len(first.left), len(second.left))
    turn, rho, _ = np.linalg.svd(first.left.T @ second.left, full_matrices=False)
    return Canonical(first.left @ turn, (first.right.T / first.values) @ turn, np.clip(rho, 0.0, 1.0))


def _leading(x: Any, name: str, variance: float) -> linalg.Principal:
    """Return the leading principal axes of a layer."""
    axes = linalg.principal(linalg.to_numpy(features(x, name, "float64")))
    share = np.cumsum(axes.values**2)
    kept = len(share) if variance == 1 else int(np.argmax(share >= variance * share[-1] * (1 - 1e-12))) + 1
    return linalg.Principal(axes.left[:, :kept], axes.values[:kept], axes.right[:kept])


class Stability(NamedTuple):
    """Directions that training had settled by some time, and directions that it had not; each (n, count)."""

    stable: Values
    unstable: Values


def stable_directions(early: Any, middle: Any, count: int) -> Stability:
    """Return the directions of a layer in the middle of training that were most, and least, like the layer early on.

    Parameters
    ----------
    early, middle : array, shape (n, p)
        The layer at both times, on the same stimuli.
    count : int
        How many of each; at most half of the directions there are.

    Returns
    -------
    Stability
        Orthonormal variates of the layer in the middle. `subspace_distance` follows each over training.

    References
    ----------
    Morcos et al. 2018, section 2.2 and Figure 1 (d-f), with the 100 most and least alike.
    """
    found = canonical_directions(middle, early)
    m = len(found.correlations)
    if not 1 <= count <= m // 2:
        message = f"count must be from 1 to {m // 2}, half of the {m} canonical directions; got {count}."
        raise ParameterError(message)
    return Stability(found.variates[:, :count], found.variates[:, m - count :])


def subspace_distance(directions: Values, layer: Any) -> float:
    """Return 1 less the mean canonical correlation of some directions with a layer; 0 if the layer contains them.

    Parameters
    ----------
    directions : ndarray, shape (n, k)
        Orthonormal columns.
    layer : array, shape (n, p)
        Another layer, or the same at another time.
    """
    basis = linalg.to_numpy(linalg.column_basis(features(layer, "layer", "float64")))
    require_same_n(len(directions), len(basis))
    rho = np.clip(np.linalg.svd(directions.T @ basis, compute_uv=False), 0.0, 1.0)
    return float(1 - rho.sum() / min(directions.shape[1], basis.shape[1]))


# ---- projections -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Projection:
    """A layer seen through k directions: x becomes mean + (x - mean) @ encode @ decode.

    Attributes
    ----------
    mean : ndarray, shape (p,)
        Of the neurons.
    encode, decode : ndarray, shape (p, k) and (k, p)
        Into the directions, and back.
    """

    mean: Values
    encode: Values
    decode: Values

    @property
    def rank(self) -> int:
        """Number of directions k."""
        return int(self.encode.shape[1])

    def __call__(self, x: Any) -> Values:
        """Return shape (n, p) of what is left of shape (n, p)."""
        return np.asarray(self.mean + (np.asarray(x, dtype=float) - self.mean) @ self.encode @ self.decode)


def svcca_projection(x: Any, y: Any, k: int, *, variance: float = 0.99) -> Projection:
    """Return the projection of layer `x` to its k leading SVCCA directions with `y` (another network, or logits).

    Every neuron is replaced by its least-squares fit from the k variates: X becomes Z Zᵀ X for orthonormal variates Z.

    Parameters
    ----------
    x, y : array, shape (n, p) and (n, q)
        Two layers on the same stimuli.
    k : int
        How many directions.
    variance : float
        Share of the variance kept before CCA.

    Raises
    ------
    ParameterError
        If there are fewer than k directions.

    References
    ----------
    Raghu et al. 2017, arXiv:1706.05806, section 2.1 and Figure 2.
    """
    found = canonical_directions(x, y, variance=variance)
    _require_count(k, len(found.correlations), "SVCCA directions")
    values = linalg.to_numpy(features(x, "x", "float64"))
    mean = values.mean(axis=0)
    return Projection(mean, found.weights[:, :k], found.variates[:, :k].T @ (values - mean))


def aligned_projection(x: Any, y: Any, k: int, m: int, *, variance: float = 0.99) -> Projection:
    """Return the projection of layer `x` to its k leading SVCCA directions with `y` as far as m neurons can tell them.

    The neurons are those best aligned with the directions: with the largest ‖Zᵀ x_j‖ for orthonormal variates Z and centred
    neurons x_j. Z is replaced by its least-squares fit from them, and every neuron by its least-squares fit from that.

    Parameters
    ----------
    x, y : array, shape (n, p) and (n, q)
        Two layers on the same stimuli.
    k, m : int
        How many directions, and neurons; m = p gives `svcca_projection`.
    variance : float
        Share of the variance kept before CCA.

    Raises
    ------
    ParameterError
        If there are fewer than k directions or m neurons.

    References
    ----------
    Raghu et al. 2017, arXiv:1706.05806, section 2.1 and Figure 2 (b): directions are distributed over neurons.
    """
    found = canonical_directions(x, y, variance=variance)
    _require_count(k, len(found.correlations), "SVCCA directions")
    values = linalg.to_numpy(features(x, "x", "float64"))
    _require_count(m, values.shape[1], "neurons")
    mean = values.mean(axis=0)
    centred, variates = values - mean, found.variates[:, :k]
    chosen = np.argsort(-np.linalg.norm(variates.T @ centred, axis=0), kind="stable")[:m]
    weights = np.zeros((values.shape[1], k))
    weights[chosen] = np.linalg.lstsq(centred[:, chosen], variates, rcond=None)[0]
    fitted = centred @ weights
    return Projection(mean, weights, np.linalg.lstsq(fitted, centred, rcond=None)[0])


def pca_projection(x: Any, k: int) -> Projection:
    """Return the projection of layer `x`, shape (n, p), to its k leading principal components."""
    axes = _leading(x, "x", 1.0)
    _require_count(k, len(axes.values), "principal components")
    return Projection(linalg.to_numpy(features(x, "x", "float64")).mean(axis=0), axes.right[:k].T, axes.right[:k])


def neuron_projection(x: Any, neurons: Any) -> Projection:
    """Return the projection of layer `x`, shape (n, p), that keeps some neurons and sets the others to their means."""
    values = linalg.to_numpy(features(x, "x", "float64"))
    rows = np.eye(values.shape[1])[np.asarray(neurons, dtype=int)]
    return Projection(values.mean(axis=0), rows.T, rows)


def most_active_neurons(x: Any, k: int) -> np.ndarray[Any, Any]:
    """Return the k neurons of layer `x`, shape (n, p), with the largest mean absolute activation, the largest first."""
    values = linalg.to_numpy(features(x, "x", "float64"))
    _require_count(k, values.shape[1], "neurons")
    return np.argsort(-np.abs(values).mean(axis=0), kind="stable")[:k]


def _require_count(k: int, there: int, what: str) -> None:
    if not 1 <= k <= there:
        message = f"k must be from 1 to {there}, the number of {what}; got {k}."
        raise ParameterError(message)


# ---- classes ---------------------------------------------------------------------------------------------------------


def class_sensitivity(
    layers: Mapping[str, Any], logits: Any, *, classes: Mapping[int, str] | None = None, variance: float = 0.99
) -> xr.DataArray:
    """Return how well each layer tells each class: the canonical correlation of the layer with the logit of the class.

    With one logit this is the multiple correlation R, in [0, 1]: 1 if the logit is linear in the layer.

    Parameters
    ----------
    layers : mapping of str to array, shape (n, p) or (n, c, h, w)
        What layers put out. Of a convolutional layer the constant spatial frequency is taken, that is the spatial means
        of its channels (DFT-CCA of a vector with a layer): a lower bound of what the whole layer tells.
    logits : array, shape (n, classes)
        What the network says of the same stimuli.
    classes : mapping of int to str, optional
        Which logits, and what they are called; all by default.
    variance : float
        Share of the variance of a layer that is kept, so that noise directions do not fit the logit.

    Returns
    -------
    xarray.DataArray, shape (layer, class)

    Raises
    ------
    ShapeError
        If a layer has neither two axes nor four, or the numbers of stimuli differ.

    References
    ----------
    Raghu et al. 2017, arXiv:1706.05806, section 4.3 and Figure 6.
    """
    import xarray as xr

    answers = linalg.to_numpy(features(logits, "logits", "float64"))
    named = dict(enumerate(map(str, range(answers.shape[1])))) if classes is None else dict(classes)
    centred = answers - answers.mean(axis=0)
    rows = []
    for name, values in layers.items():
        basis = _leading(_matrix(values, name), name, variance).left
        require_same_n(len(basis), len(centred))
        fitted = np.linalg.norm(basis.T @ centred[:, list(named)], axis=0)
        rows.append(np.clip(fitted / np.linalg.norm(centred[:, list(named)], axis=0), 0.0, 1.0))
    coordinates = {"layer": list(layers), "class": list(named.values())}
    return xr.DataArray(np.array(rows), coordinates, ("layer", "class"), name="sensitivity")


def _matrix(values: Any, name: str) -> Any:
    """Return a layer as (n, p): spatial means of a convolutional one."""
    if getattr(values, "ndim", 0) == 4:
        return linalg.to_numpy(values).astype(float).mean(axis=(2, 3))
    if getattr(values, "ndim", 0) != 2:
        message = f"Layer {name} must have shape (n, p) or (n, c, h, w); got {tuple(getattr(values, 'shape', ()))}."
        raise ShapeError(message)
    return values
