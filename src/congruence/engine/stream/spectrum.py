"""From sums to singular values and orthonormal bases, with an estimate of what rounding left of them.

Products of features square the condition number, so the directions of small singular values are lost in them. They are
found again by a further pass in whitened coordinates: `whitened_frame` takes what one pass knows and gives the next one
coordinates in which the representation is well-conditioned. That is Cholesky's QR done twice, with eigenvectors in the
place of the triangular factor so that rank deficiency does no harm; the resolution multiplies with every pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from congruence import linalg
from congruence.engine.stream.moments import Frame, Matrix, Moments

EPS = float(np.finfo(np.float64).eps)
FLOOR = math.sqrt(EPS)
"""Smallest singular value, as a share of the largest, that a pass can tell from rounding: the next resolves its square."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Singular value decomposition of the centred values of one representation, from sums over its stimuli.

    Parameters
    ----------
    n, p : int
        Stimuli and features.
    values : ndarray, shape (r,)
        Singular values above the tolerance of `linalg.principal`, in descending order; r is the rank.
    right : ndarray, shape (p, p)
        Right singular vectors as rows, those of the null space included.
    left : ndarray, shape (p, r)
        Maps z, the coordinates of the sums, to the left singular vectors: U = z `left`.
    errors : ndarray, shape (r,)
        Estimated error of the square of each left singular vector's norm, which should be 1.
    hidden : bool
        Whether there may be a direction above the tolerance that the sums do not resolve.
    """

    n: int
    p: int
    values: Matrix
    right: Matrix
    left: Matrix
    errors: Matrix
    hidden: bool

    @property
    def rank(self) -> int:
        """Numerical rank r."""
        return int(self.values.shape[0])

    @property
    def energy(self) -> float:
        """Squared Frobenius norm of what is within the rank."""
        return float(self.values @ self.values)

    def inexact(self, directions: int) -> bool:
        """Return whether another pass would make the leading `directions` more exact than they can be in memory.

        In memory, too, rounding turns the direction of a singular value s by eps s_max / s.
        """
        unavoidable = EPS * float(self.values[0]) / self.values[:directions]
        inexact = self.errors[:directions] > np.maximum(TARGET, unavoidable)
        return bool(np.any(inexact)) or (self.hidden and directions == self.rank)


TARGET = 1e-9
"""Error of a single direction that calls for another pass: averages over directions are then exact to about 1e-11."""


def spectrum_of(moments: Moments, i: int) -> Spectrum:
    """Return the decomposition of representation `i`.

    Raises
    ------
    DegenerateError
        If the stimuli differ by no more than rounding.
    """
    frame, n = moments.frames[i], moments.n
    second = moments.second(i)
    factor, maps, lost = _factor(moments.product(i, i), second, whitened=frame.basis is not None)
    in_features = frame.to_features(factor)  # (q, p), with the singular values of the centred data
    left, values, right = scipy.linalg.svd(in_features)
    offset = math.ldexp(float(np.max(np.abs(moments.mean(i)))), frame.exponent)
    tolerance = linalg.rank_tolerance((n, frame.p), float(np.max(values, initial=0.0)), offset, EPS)
    rank = linalg.require_rank(int(np.sum(values > tolerance)))
    basis = maps @ left[:, :rank]
    errors = EPS * (second @ basis**2)
    hidden = np.linalg.norm(frame.to_features(lost), axis=1) > tolerance
    return Spectrum(n, frame.p, values[:rank], right, basis, errors, bool(hidden.any()))


def _factor(product: Matrix, second: Matrix, *, whitened: bool) -> tuple[Matrix, Matrix, Matrix]:
    """Return F with FᵀF the product, the map W with F W = I on its rows, and the rows that rounding has drowned.

    The features are scaled first, so that features in different units do not count as ill-conditioned. Whitened ones
    have size 1 already; a smaller one is one that the rest of the data do not need.
    """
    diagonal = np.where(np.diagonal(product) > 16 * EPS * second, np.diagonal(product), 0.0)  # a constant feature
    if whitened:
        diagonal = np.where(diagonal > 0, np.maximum(diagonal, 1.0), 0.0)
    scale = np.sqrt(diagonal)
    inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
    eigenvalues, vectors = scipy.linalg.eigh(product * np.outer(inverse, inverse))
    growth = float(np.max(second * inverse**2, initial=1.0))
    noise = 8 * EPS * (float(eigenvalues[-1]) + math.sqrt(len(scale))) * growth
    kept = eigenvalues > noise
    roots = np.sqrt(eigenvalues[kept])
    rows, drowned = vectors[:, kept].T, vectors[:, ~kept].T
    factor = roots[:, None] * rows * scale
    maps = (rows / roots[:, None] * inverse).T
    return factor, maps, math.sqrt(noise) * drowned * scale


def whitened_frame(moments: Moments, i: int, spectrum: Spectrum, n: int) -> Frame:
    """Return the frame in which a pass over `n` stimuli resolves what these sums, of the same or fewer, do not."""
    frame = moments.frames[i]
    sizes = np.full(frame.p, FLOOR * float(spectrum.values[0]))
    sizes[: spectrum.rank] = np.maximum(spectrum.values, sizes[: spectrum.rank])
    sizes *= math.sqrt(n / moments.n)
    return Frame(moments.mean(i), frame.exponent, spectrum.right.T / sizes, sizes[:, None] * spectrum.right)


def drifted(moments: Moments, i: int) -> bool:
    """Return whether a feature's mean is so far from where it was expected that its variance lost digits."""
    frame = moments.frames[i]
    second, centred = moments.second(i), np.diagonal(moments.product(i, i))
    rounding = moments.n * (4 * EPS * np.ldexp(np.abs(frame.shift), frame.exponent)) ** 2
    noticeable = second > rounding if frame.basis is None else second > EPS
    return bool(np.any(noticeable & (second > 1e4 * centred)))
