"""Alignment: the cosine of two centred Gram matrices, by several estimators. What CKA and distance correlation share."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from array_api_compat import array_namespace, is_numpy_array

from congruence import linalg
from congruence.errors import Caveat, DegenerateError
from congruence.measures import halves
from congruence.measures._base import Findings, Measure
from congruence.measures.block import Gram, Matrix, Segment, same_states, state_energies
from congruence.validate import Array, require_same_n

BIAS_LEVEL = 0.1
"""From which value for unrelated data on the biased estimator is warned of."""


class CKAState(NamedTuple):
    """A centred Gram matrix K, as factor F with K = F Fᵀ or as K itself, and what normalises it.

    values : (n, p) if `factored`, else (n, n).
    diagonal : (n,), the diagonal of K.
    trace : the sum of the diagonal.
    self_similarity : the estimator's ⟨K, K⟩; frobenius: ‖K‖_F.
    """

    values: Array
    factored: bool
    diagonal: Array
    trace: float
    self_similarity: float
    frobenius: float
    p: int

    @property
    def n(self) -> int:
        """Number of stimuli."""
        return int(self.values.shape[0])


class KernelAlignment(Measure[CKAState]):
    """⟨K, L⟩ / √(⟨K, K⟩⟨L, L⟩) of centred Gram matrices, with ⟨K, L⟩ one of three estimators; see `CKA`."""

    estimator: str

    @abstractmethod
    def _centred_gram(self, x: Array, *, whole: bool) -> tuple[Array, bool, int]:
        """Return a factor of the centred Gram matrix or that matrix, which of them it is, and the width of `x`.

        Where the `whole` matrix is used, and not a few rows of it at a time, only factors of narrow data are worth it.
        """

    @abstractmethod
    def _bias_caveat(self, a: CKAState, b: CKAState, level: float) -> Caveat:
        """Return the caveat that unrelated data are at `level`."""

    @property
    @abstractmethod
    def _entrywise(self) -> bool:
        """Whether the kernel is a function of products or distances, which is worked out in place: see `_write_kernel`."""

    @abstractmethod
    def _write_kernel(self, x: Array, row: Array, segment: Segment) -> Array:
        """Write half of the centred kernel matrix of `x` where that is made entry by entry, and return its diagonal."""

    def _value(self, cosine: Matrix) -> Matrix:
        """Return what the measure makes of the cosine."""
        return cosine

    def _is_wide(self, state: CKAState) -> bool:
        """Return whether the level of unrelated data is told whatever it is."""
        del state
        return False

    def prepare(self, x: Array) -> CKAState:
        """Return the centred Gram matrix of `x`, factored if that is smaller, with its norm."""
        values, factored, p = self._centred_gram(x, whole=True)
        state = self._bare_state(values, factored=factored, p=p)
        full = _gram_inner(state, state)
        own = self.require_self_similarity(self._corrected(full, state, state), full, state)
        return state._replace(self_similarity=own, frobenius=math.sqrt(full))

    def compare(self, a: CKAState, b: CKAState) -> float:
        """Return the normalised alignment of two states."""
        cosine = self._inner(a, b) / math.sqrt(a.self_similarity * b.self_similarity)
        return float(self._value(np.asarray(linalg.clip(cosine, *self._bounds))))

    @property
    def _bounds(self) -> tuple[float, float]:
        """Least and greatest cosine."""
        return (0.0 if self.estimator == "biased" else -1.0), 1.0

    def compare_block(self, first: Sequence[CKAState], second: Sequence[CKAState]) -> Matrix:
        """Return all alignments from one stream of stacked Gram rows."""
        cross = state_energies(lambda state: Gram(state.values, state.factored), first, second)
        return self._normalised(cross, first, second)

    def examine_block(self, first: Sequence[CKAState], second: Sequence[CKAState]) -> Findings:
        """Return all alignments with their caveats."""
        return Findings(self.compare_block(first, second), self._flagged(first, second))

    def _flagged(
        self, first: Sequence[CKAState], second: Sequence[CKAState]
    ) -> dict[tuple[int, int], tuple[Caveat, ...]]:
        """Return the caveats of the pairs that have any, without asking a million pairs one by one."""
        if self.estimator != "biased":
            return {}
        n = first[0].n
        ratio_a, ratio_b = (np.array([s.trace / s.frobenius for s in side]) for side in (first, second))
        wide_a, wide_b = (np.array([self._is_wide(s) for s in side]) for side in (first, second))
        flagged = self._value(np.outer(ratio_a, ratio_b) / (n - 1)) >= BIAS_LEVEL
        flagged |= wide_a[:, None] | wide_b[None, :]
        if same_states(first, second):
            found = {(i, j): self.caveats(first[i], first[j]) for i, j in np.argwhere(np.triu(flagged)).tolist()}
            return {**{(j, i): reasons for (i, j), reasons in found.items()}, **found}
        return {(i, j): self.caveats(first[i], second[j]) for i, j in np.argwhere(flagged).tolist()}

    def stream_gram(self, x: Array) -> tuple[Gram, CKAState]:
        """Return the centred Gram matrix, and a state without it and without the norm, which a stream finds by itself."""
        values, factored, p = self._centred_gram(x, whole=False)
        state = self._bare_state(values, factored=factored, p=p)
        nothing = array_namespace(values).zeros((state.n, 0), dtype=values.dtype, device=values.device)
        return Gram(values, factored), state._replace(values=nothing)  # and no view, which would keep all of it

    def stream_row(self, x: Array, segment: Segment, out: Array | None) -> tuple[Array, CKAState]:
        """Return a segment of the centred Gram matrix, and a state as `stream_gram` does.

        A whole kernel matrix is made in `out` itself, one half of it.
        """
        if not (self._entrywise and is_numpy_array(x) and segment == halves.whole(x.shape[0])):
            gram, state = self.stream_gram(x)
            return gram.row(segment, out), state
        x = linalg.unit_scale(self.checked(x))
        row = np.empty(segment.entries, dtype=x.dtype) if out is None else out
        diagonal = self._write_kernel(x, row, segment)
        nothing = np.empty((x.shape[0], 0), dtype=x.dtype)
        trace = float(np.sum(diagonal, dtype=np.float64))
        return row, CKAState(nothing, False, diagonal, trace, 1.0, 1.0, x.shape[1])  # noqa: FBT003

    def finish_state(self, state: CKAState, own: float) -> CKAState:
        """Return the state with ‖K‖_F² = `own` and what follows from it."""
        value = self.require_self_similarity(self._corrected(own, state, state), own, state)
        return state._replace(frobenius=math.sqrt(own), self_similarity=value)

    def finish_stream(self, cross: Matrix, first: Sequence[CKAState], second: Sequence[CKAState]) -> Findings:
        """Return values and caveats from the inner products that a stream has summed up."""
        return Findings(self._normalised(cross, first, second), self._flagged(first, second))

    def _normalised(self, cross: Matrix, first: Sequence[CKAState], second: Sequence[CKAState]) -> Matrix:
        """Return the estimator's values from tr(K L) of all pairs."""
        diagonals_a, traces_a, own_a = _moments(first)
        diagonals_b, traces_b, own_b = _moments(second)
        on_diagonal, on_traces = self.corrections(diagonals_a.shape[1])
        values = cross + on_diagonal * (diagonals_a @ diagonals_b.T) + on_traces * np.outer(traces_a, traces_b)
        cosines = np.clip(values / np.sqrt(np.outer(own_a, own_b)), *self._bounds)
        return np.asarray(self._value(cosines), dtype=np.float64)

    def caveats(self, a: CKAState, b: CKAState) -> tuple[Caveat, ...]:
        """Return the level that unrelated data reach, where the biased estimator is far from 0."""
        if self.estimator != "biased":
            return ()
        # Exact mean of tr(K L) when the rows of one side are permuted at random.
        cosine = a.trace * b.trace / ((a.n - 1) * a.frobenius * b.frobenius)
        level = float(self._value(np.asarray(cosine)))
        if level < BIAS_LEVEL and not (self._is_wide(a) or self._is_wide(b)):
            return ()
        return (self._bias_caveat(a, b, level),)

    def _bare_state(self, values: Array, *, factored: bool, p: int) -> CKAState:
        """Return a state whose norms are still to be found."""
        xp = array_namespace(values)
        diagonal = linalg.row_squares(values) if factored else xp.asarray(xp.linalg.diagonal(values), copy=True)
        return CKAState(values, factored, diagonal, float(xp.sum(diagonal, dtype=xp.float64)), 1.0, 1.0, p)

    def require_self_similarity(self, own: float, full: float, state: CKAState) -> float:
        """Return a self-similarity, unless it is rounding noise of ‖K‖², which would normalise any value to anything."""
        if own <= 1e3 * float(array_namespace(state.values).finfo(state.values.dtype).eps) * full:
            message = f"{self.label} is undefined: the {self.estimator} self-similarity of the Gram matrix vanishes."
            raise DegenerateError(message)
        return own

    def _inner(self, a: CKAState, b: CKAState) -> float:
        """Return the estimator's ⟨K, L⟩, up to a factor that depends on n only."""
        require_same_n(a.n, b.n)
        return self._corrected(_gram_inner(a, b), a, b)

    def _corrected(self, full: float, a: CKAState, b: CKAState) -> float:
        """Return the estimator's ⟨K, L⟩ from tr(K L)."""
        on_diagonal, on_traces = self.corrections(a.n)
        if on_diagonal == 0:
            return full
        return full + on_diagonal * linalg.inner(a.diagonal, b.diagonal) + on_traces * a.trace * b.trace

    def corrections(self, n: int) -> tuple[float, float]:
        """Return c₁ and c₂ of ⟨K, L⟩ + c₁ k·l + c₂ Σk Σl.

        For the debiased estimator that is HSIC_1 n (n - 3): the row sums of a centred K without its diagonal are minus
        that diagonal.
        """
        if self.estimator == "biased":
            return 0.0, 0.0
        if self.estimator == "zero_diagonal":
            return -1.0, 0.0
        return -n / (n - 2), 1 / ((n - 1) * (n - 2))


def _moments(states: Sequence[CKAState]) -> tuple[Matrix, Matrix, Matrix]:
    """Return the diagonals (R, n), traces (R,) and self-similarities (R,) of some states."""
    stacked = array_namespace(states[0].diagonal).stack([state.diagonal for state in states])
    diagonals = np.asarray(linalg.to_numpy(stacked), dtype=np.float64)
    return diagonals, np.array([s.trace for s in states]), np.array([s.self_similarity for s in states])


def _gram_inner(a: CKAState, b: CKAState) -> float:
    """Return tr(K L) from whatever form the two Gram matrices are in."""
    if not a.factored and not b.factored:
        return linalg.inner(a.values, b.values)
    xp = array_namespace(a.values, b.values)
    if a.factored and b.factored:
        cross = xp.matrix_transpose(a.values) @ b.values  # (p1, p2)
        return linalg.inner(cross, cross)
    factor, gram = (a.values, b.values) if a.factored else (b.values, a.values)
    return linalg.inner(gram @ factor, factor)
