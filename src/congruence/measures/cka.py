"""Centred kernel alignment: the cosine between two centred Gram matrices. Source: Kornblith et al. 2019."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import numpy as np
from array_api_compat import array_namespace

from congruence import linalg
from congruence.errors import Caveat
from congruence.measures import halves
from congruence.measures._base import register
from congruence.measures._info import MeasureInfo, Needs, Reference, both
from congruence.measures._kernels import CKAState, KernelAlignment
from congruence.measures._work import Workload, factor_work, gram_work
from congruence.measures.block import Gram, Segment
from congruence.validate import Array, Interval

KORNBLITH = Reference(
    "Kornblith, Norouzi, Lee & Hinton 2019, Similarity of Neural Network Representations Revisited",
    "eqs 4-6, Table 1",
    "arXiv:1905.00414",
)
SONG = Reference("Song et al. 2012, Feature Selection via Dependence Maximization", "eq. 4 (HSIC_1)", "JMLR 13")
LANGE = Reference("Lange et al. 2023, Deep Networks as Paths on the Manifold of Neural Representations", "", "TAG-ML")


@register
@dataclass(frozen=True)
class CKA(KernelAlignment):
    """Centred kernel alignment: how alike two representations arrange the stimuli.

    CKA(K, L) = ⟨K, L⟩ / √(⟨K, K⟩⟨L, L⟩) with K, L the double-centred Gram matrices and ⟨K, L⟩ the estimator:

    - biased: tr(K L), in [0, 1]; for the linear kernel ‖XᵀY‖²_F / (‖XᵀX‖_F ‖YᵀY‖_F);
    - debiased: HSIC_1(K, L), unbiased for independent stimuli, in [-1, 1];
    - zero_diagonal: tr(K̃ L̃) with the diagonals of K and L set to zero after centring, in [-1, 1].

    1 means the same arrangement up to what the kernel ignores; 0 means unrelated (only the debiased estimator reaches
    it at small n: the biased one of unrelated data is about p / (n - 1 + p)).

    Parameters
    ----------
    kernel : {"linear", "rbf", "laplace", "cosine", "polynomial"}
        linear: x·x'. rbf: exp(-d² / 2σ²). laplace: exp(-d / σ). cosine: cosine of the rows as they are. polynomial:
        (x·x' / s + 1)^degree of centred x, with s = ‖X‖²_F / n.
    estimator : {"biased", "debiased", "zero_diagonal"}
        See above.
    bandwidth : float
        σ as a fraction of the median Euclidean distance between different stimuli (rbf and laplace), each side its own.
    degree : int
        Degree of the polynomial kernel.

    Raises
    ------
    DegenerateError
        If a stimulus is all zero (cosine), or if the Gram matrix vanishes after centring.

    Warns
    -----
    CongruenceWarning
        ``cka_bias``: the biased estimator is far from 0 for unrelated data of this size; the level is given.

    Notes
    -----
    All three estimators are ⟨K, L⟩ + c₁ k·l + c₂ Σk Σl with k, l the diagonals, because rows of centred Gram matrices
    sum to zero. Cost: prepare O(n² p) for Gram forms and O(n p²) for the linear kernel with p < n; compare O(n²) or
    O(n p²). Invariant to orthogonal maps, isotropic scaling and translation (cosine: not to translation).

    References
    ----------
    Kornblith et al. 2019, arXiv:1905.00414, eqs 4-6; Song et al. 2012, JMLR 13, eq. 4 (debiased).
    """

    name: ClassVar[str] = "cka"
    kernel: Literal["linear", "rbf", "laplace", "cosine", "polynomial"] = "linear"
    estimator: Literal["biased", "debiased", "zero_diagonal"] = "biased"
    bandwidth: Annotated[float, Interval(0, low_open=True)] = 0.4
    degree: Annotated[int, Interval(1, 10)] = 3

    def check(self) -> None:
        """Refuse parameters that the kernel does not have."""
        self.only_with("bandwidth", when=self.kernel in {"rbf", "laplace"}, condition="kernel=rbf or kernel=laplace")
        self.only_with("degree", when=self.kernel == "polynomial", condition="kernel=polynomial")

    @property
    def info(self) -> MeasureInfo:
        """Claims of this kernel and estimator."""
        biased = self.estimator == "biased"
        cosine = self.kernel == "cosine"
        invariant = (
            ("orthogonal", "isotropic_scaling") if cosine else ("orthogonal", "isotropic_scaling", "translation")
        )
        return MeasureInfo(
            label=self.label,
            title=f"{self.estimator.replace('_', '-')} CKA, {self.kernel} kernel",
            definition=_DEFINITIONS[self.estimator],
            orientation="similarity",
            range=(0.0, 1.0) if biased else (-1.0, 1.0),
            identity=1.0,
            symmetric=True,
            conversions=frozenset({"one_minus", "angular"}) if biased else frozenset({"one_minus"}),
            metric_conversions=frozenset({"angular"}) if biased else frozenset(),
            space="centred Gram matrices up to scale",
            needs=Needs(n=3 if biased else 4, nonzero_rows=cosine),
            meaning=(_LEAST[self.estimator], "the same similarity structure"),
            cost="prepare O(n p min(n, p)), compare O(n p min(n, p)) for the linear and cosine kernels; O(n² p) and O(n²) otherwise",
            references=(KORNBLITH, *(() if biased else (SONG,) if self.estimator == "debiased" else (LANGE,))),
            **both(*invariant),
        )  # fmt: skip

    def _centred_gram(self, x: Array, *, whole: bool) -> tuple[Array, bool, int]:
        """Return a factor of the centred Gram matrix or that matrix, which of them it is, and the width of `x`.

        Where the `whole` matrix is used, and not a few rows of it at a time, only factors of narrow data are worth it.
        """
        x = linalg.unit_scale(self.checked(x))
        n, p = x.shape
        if self.kernel in {"linear", "cosine"}:
            factor = linalg.centre_columns(linalg.unit_rows(x) if self.kernel == "cosine" else x)
            factored = narrow(n, p) if whole else p < n
            return (factor, True, p) if factored else (_product(factor), False, p)
        return linalg.double_centre(self._gram(linalg.centre_columns(x))), False, p

    @property
    def _entrywise(self) -> bool:
        """Whether the kernel is no inner product."""
        return self.kernel not in {"linear", "cosine"}

    def _is_wide(self, state: CKAState) -> bool:
        """Return whether there are as many features as stimuli, where they make the bias."""
        return self.kernel in {"linear", "cosine"} and state.p >= state.n

    def _bias_caveat(self, a: CKAState, b: CKAState, level: float) -> Caveat:
        """Return the caveat of a high level."""
        text = (
            f"biased CKA of unrelated representations of this kind would be {level:.3g} on average "
            f"(n={a.n}, p={a.p} and {b.p}); use estimator=debiased or more stimuli"
        )
        return Caveat("cka_bias", text, level)

    def workload(self, n: int, p: int, count: int) -> Workload:
        """Return the cost: factors for narrow data with the linear and cosine kernels, kernel matrices otherwise."""
        if self.kernel not in {"linear", "cosine"}:
            return gram_work(n, p, passes=60)
        if narrow(n, p):
            return replace(factor_work(n, p, count, prepare=1.0 * n * p * p), streams=True, remade=False)
        return replace(gram_work(n, p, passes=5), remade=p >= n)

    def _gram(self, x: Array) -> Array:
        """Return the kernel matrix of centred values, up to a constant that centring removes.

        For exp(-t) that is exp(-t) - 1, which keeps its digits where a large bandwidth makes t small.
        """
        xp = array_namespace(x)
        if self.kernel == "polynomial":
            gram = _product(x)
            scale = linalg.inner(x, x) / x.shape[0]
            return (gram / scale + 1.0) ** self.degree
        squared = linalg.squared_distances(x)
        median = _median_distance(squared)
        if self.kernel == "rbf":
            return xp.expm1(squared / (-2.0 * (self.bandwidth * median) ** 2))
        return xp.expm1(xp.sqrt(squared) / (-self.bandwidth * median))

    def _write_kernel(self, x: Array, row: Array, segment: Segment) -> Array:
        """Write half of the centred kernel matrix, as `_gram` makes all of it of centred values; return its diagonal."""
        if self.kernel == "polynomial":
            x = linalg.centre_columns(x)
            Gram(x).row(segment, row)
            scale = linalg.inner(x, x) / x.shape[0]
            for chunk in halves.in_chunks(row):
                chunk /= scale
                chunk += 1.0
                chunk **= self.degree
        else:
            halves.write_squared_distances(x, row, segment)
            median = halves.median_distance(row, segment)
            for chunk in halves.in_chunks(row):
                if self.kernel == "laplace":
                    np.sqrt(chunk, out=chunk)
                chunk /= -2.0 * (self.bandwidth * median) ** 2 if self.kernel == "rbf" else -self.bandwidth * median
                np.expm1(chunk, out=chunk)
        return halves.double_centre(row, segment, x.shape[0])


def narrow(n: int, p: int) -> bool:
    """Return whether a factor (n, p) is kept, and not the Gram matrix.

    Norms and pairs are cheaper from Gram matrices, which at p = n / 2 are twice as large.
    """
    return 2 * p < n


_LEAST = {
    "biased": "unrelated (the biased estimator stays above 0 for unrelated data)",
    "debiased": "less alike than unrelated data, which are at 0 on average",
    "zero_diagonal": "less alike than unrelated data, which are somewhat above 0 on average",
}

_DEFINITIONS = {
    "biased": "tr(KL) / sqrt(tr(KK) tr(LL)), K and L the double-centred Gram matrices",
    "debiased": "HSIC1(K, L) / sqrt(HSIC1(K, K) HSIC1(L, L)), HSIC1 the unbiased estimator of Song et al. 2012",
    "zero_diagonal": "cosine of the double-centred Gram matrices with their diagonals set to zero",
}


def _product(factor: Array) -> Array:
    """Return F Fᵀ, shape (n, n)."""
    return factor @ array_namespace(factor).matrix_transpose(factor)


def _median_distance(squared: Array) -> float:
    """Return the median Euclidean distance over pairs i < j that differ."""
    xp = array_namespace(squared)
    distances = xp.sqrt(linalg.upper(squared))
    if not bool(xp.all(distances > 0)):
        distances = xp.take(distances, xp.nonzero(distances > 0)[0])
    return linalg.median(distances)
