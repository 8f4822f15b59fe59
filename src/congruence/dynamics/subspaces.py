"""What one representation makes of the leading directions of another (Kornblith et al. 2019, section 6.4 and Figure 8)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.linalg

from congruence import linalg
from congruence.errors import ParameterError
from congruence.validate import features, require_same_n

Values = np.ndarray[Any, np.dtype[np.float64]]

SHARED = 0.5**0.5
"""A direction is shared if Y Yᵀ takes it more along itself than across: the cosine is above 1/√2."""


class SharedDirections(NamedTuple):
    """Leading directions of one representation, seen by it and by another; each (k,).

    own : ‖K u‖ for the eigenvectors u of K = X Xᵀ, that is its eigenvalues, in descending order.
    other : ‖L u‖ for L = Y Yᵀ.
    cosines : uᵀ L u / ‖L u‖ in [0, 1]; 1 if u is an eigenvector of L as well, 0 where L u is 0.
    """

    own: Values
    other: Values
    cosines: Values

    @property
    def shared(self) -> int:
        """How many directions from the first on are shared: cosine above `SHARED`, without a gap."""
        below = np.flatnonzero(self.cosines <= SHARED)
        return int(below[0]) if len(below) else len(self.cosines)


def shared_directions(x: Any, y: Any, count: int) -> SharedDirections:
    """Return what representation `y` makes of the leading principal directions of the stimuli in `x`.

    Columns are centred, and K = X Xᵀ, L = Y Yᵀ scaled to ‖K‖ = ‖L‖ = 1 (Frobenius), so that linear CKA is the sum of
    ``own * uᵀ L u`` over all directions: a direction adds to it that is large in both.

    Parameters
    ----------
    x, y : array, shape (n, p) and (n, q)
        Two representations of the same stimuli.
    count : int
        How many directions of `x`; at most n.

    Returns
    -------
    SharedDirections
        Not symmetric in `x` and `y`. For unrelated isotropic directions the cosine is about sqrt(r/n), where r is the
        participation ratio (tr L)²/tr L².

    Raises
    ------
    ShapeError
        If the numbers of stimuli differ.
    ParameterError
        If `count` is not from 1 to n.
    DegenerateError
        If all stimuli of a representation are the same.

    References
    ----------
    Kornblith et al. 2019, arXiv:1905.00414, section 6.4 and Figure 8. Cost: O(n² (p + q) + n³).
    """
    gram = unit_gram(x, "x")
    return along(leading_directions(gram, count), unit_gram(y, "y"))


def unit_gram(x: Any, name: str = "x") -> Values:
    """Return the Gram matrix (n, n) of centred columns, scaled to a Frobenius norm of 1.

    Parameters
    ----------
    x : array, shape (n, p)
        A representation.
    name : str
        What to call it in messages.
    """
    values = linalg.to_numpy(linalg.centre_columns(linalg.unit_scale(features(x, name, "float64"))))
    gram = values @ values.T
    return np.asarray(gram / np.linalg.norm(gram))


def leading_directions(gram: Values, count: int) -> tuple[Values, Values]:
    """Return the leading eigenvalues (count,) of a Gram matrix (n, n), in descending order, and eigenvectors (n, count)."""
    n = len(gram)
    if not 1 <= count <= n:
        message = f"count must be from 1 to {n}, the number of stimuli; got {count}."
        raise ParameterError(message)
    values, vectors = scipy.linalg.eigh(gram, subset_by_index=(n - count, n - 1))
    return np.maximum(values[::-1], 0.0), vectors[:, ::-1]


def along(directions: tuple[Values, Values], gram: Values) -> SharedDirections:
    """Return what another Gram matrix (n, n) makes of the leading directions of a first one."""
    own, vectors = directions
    require_same_n(len(vectors), len(gram))
    images = gram @ vectors
    norms = np.linalg.norm(images, axis=0)
    kept = np.einsum("ij,ij->j", vectors, images)
    cosines = np.divide(kept, norms, out=np.zeros_like(norms), where=norms > 0)
    return SharedDirections(own, norms, np.clip(cosines, 0.0, 1.0))
