"""How far two conditional distributions are apart, over blocks of inputs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from congruence.identifiability._model import BLOCK, Matrix, Pair, read_pair


@dataclass(frozen=True)
class Distributions:
    """Distances of the distributions p and p' of two models, averaged over the inputs; information in nats.

    Attributes
    ----------
    kl, kl_reverse : float
        KL(p, p') and KL(p', p).
    kl_symmetric : float
        The mean of both.
    jsd : float
        Jensen-Shannon divergence, 0 to ln 2.
    total_variation : float
        Half the sum of absolute differences, 0 to 1.
    disagreement : float
        Share of the inputs on which the most likely labels differ.
    d_logit : float
        Logit distance: root of the mean over x of the sum over y of the squared differences of f(x)·(g(y) - mean g).
        Zero only for equal distributions.
    """

    kl: float
    kl_reverse: float
    jsd: float
    total_variation: float
    disagreement: float
    d_logit: float

    @property
    def kl_symmetric(self) -> float:
        """The mean of both divergences."""
        return (self.kl + self.kl_reverse) / 2


def distributions(f1: Any, g1: Any, f2: Any, g2: Any, /) -> Distributions:
    """Return how far two models are apart in what they predict; the dimensions of their representations may differ.

    Parameters
    ----------
    f1, f2 : array, shape (n, M1) and (n, M2)
        Embeddings of the same inputs.
    g1, g2 : array, shape (K, M1) and (K, M2)
        Unembeddings of the same labels.

    Returns
    -------
    Distributions

    Raises
    ------
    ShapeError
        If the shapes do not fit.
    InputError
        If values are not finite, or probabilities.

    Notes
    -----
    Inputs are taken in blocks, so that n x K is never held as a whole. Time O(n K M).

    References
    ----------
    Nielsen et al. 2025, arXiv 2506.03784; for the logit distance Nielsen et al. 2026, arXiv 2602.15438.

    Examples
    --------
    >>> import numpy as np
    >>> f, g = np.array([[1.0, 0], [0, 2], [-1, 1]]), np.array([[1.0, 0], [0, 1], [1, 1], [-1, 1]])
    >>> distributions(f, g, 2 * f, g / 2 + 1).d_logit < 1e-15
    True
    """
    return scan(read_pair(f1, g1, f2, g2))[0]


def scan(pair: Pair) -> tuple[Distributions, tuple[Matrix, Matrix]]:
    """Return the distances and, for both models, the logarithms of the sums that normalise, shape (n,) each."""
    rows, sums = [], []
    for inputs in blocks(pair.n, pair.labels):
        first, second = (model.logits(inputs) for model in pair.models)
        apart = _centred(first) - _centred(second)
        normal = log_sums(first), log_sums(second)
        first -= normal[0][:, None]
        second -= normal[1][:, None]
        sums.append(normal)
        rows.append(np.column_stack([*_divergences(first, second), (apart * apart).sum(axis=1)]))
    kl, kl_reverse, jsd, variation, disagreement, squared = np.concatenate(rows).mean(axis=0).tolist()
    found = Distributions(
        # What cannot be negative is so only by rounding.
        kl=max(kl, 0.0),
        kl_reverse=max(kl_reverse, 0.0),
        jsd=min(max(jsd, 0.0), math.log(2)),
        total_variation=min(variation, 1.0),
        disagreement=disagreement,
        d_logit=math.sqrt(squared),
    )
    return found, (np.concatenate([s[0] for s in sums]), np.concatenate([s[1] for s in sums]))


def blocks(count: int, width: int) -> Iterator[slice]:
    """Return slices of rows such that a block of them, `width` wide, has at most `BLOCK` entries."""
    size = max(1, BLOCK // width)
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def log_sums(logits: Matrix) -> Matrix:
    """Return ln sum_y exp of every row, without overflow."""
    top = logits.max(axis=1)
    found: Matrix = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    return found


def _centred(logits: Matrix) -> Matrix:
    found: Matrix = logits - logits.mean(axis=1, keepdims=True)
    return found


def _divergences(first: Matrix, second: Matrix) -> tuple[Matrix, Matrix, Matrix, Matrix, Matrix]:
    """Return KL both ways, JSD, total variation and disagreement of every input from log-likelihoods."""
    p, q = np.exp(first), np.exp(second)
    ratio = first - second
    middle = np.logaddexp(first, second) - math.log(2)
    jsd = ((p * (first - middle)).sum(axis=1) + (q * (second - middle)).sum(axis=1)) / 2
    other = (first.argmax(axis=1) != second.argmax(axis=1)).astype(float)
    return (p * ratio).sum(axis=1), -(q * ratio).sum(axis=1), jsd, np.abs(p - q).sum(axis=1) / 2, other
