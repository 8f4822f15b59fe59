"""The models that are compared, and what makes them incomparable."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from congruence import linalg, validate
from congruence.errors import DegenerateError, InputError, ShapeError
from congruence.representation import Representation, require_aligned

Matrix = np.ndarray[Any, np.dtype[np.float64]]
Labels = np.ndarray[Any, np.dtype[np.int64]]
EPS = float(np.finfo(np.float64).eps)
BLOCK = 2**21
"""Entries of a table of inputs x labels that are held at once (16 MiB); some ten such tables are alive together."""


@dataclass(frozen=True, eq=False)
class Model:
    """p(y|x) = softmax(f(x)·g(y)): embeddings of the inputs and unembeddings of the labels.

    Parameters
    ----------
    f : array, shape (n, M)
        Embeddings.
    g : array, shape (K, M)
        Unembeddings.
    number : int
        1 or 2, for messages.
    """

    f: Matrix
    g: Matrix
    number: int

    @property
    def dimension(self) -> int:
        """M, the dimension of the representations."""
        return int(self.f.shape[1])

    @cached_property
    def noise_f(self) -> float:
        """Size below which a difference of two embeddings is rounding."""
        return _noise_of_differences(self.f)

    @cached_property
    def noise_g(self) -> float:
        """Size below which a difference of two unembeddings is rounding."""
        return _noise_of_differences(self.g)

    def logits(self, inputs: Any, labels: Any = slice(None)) -> Matrix:
        """Return f(x)·g(y) for some inputs and labels, shape (inputs, labels)."""
        with np.errstate(over="ignore", invalid="ignore"):
            found: Matrix = self.f[inputs] @ self.g[labels].T
        if not np.isfinite(found).all():
            message = f"The logits f{self.number}·g{self.number} are not finite: the values are too large to multiply. Check their scale."
            raise InputError(message)
        return found


@dataclass(frozen=True, eq=False)
class Pair:
    """Two models of the same inputs and labels."""

    first: Model
    second: Model

    @property
    def models(self) -> tuple[Model, Model]:
        """Both of them."""
        return self.first, self.second

    @property
    def n(self) -> int:
        """Number of inputs."""
        return int(self.first.f.shape[0])

    @property
    def labels(self) -> int:
        """K, the number of labels."""
        return int(self.first.g.shape[0])

    @property
    def dimension(self) -> int:
        """M of the first model; `compare` takes pairs in which it is that of the second, too."""
        return self.first.dimension


def read_pair(f1: Any, g1: Any, f2: Any, g2: Any) -> Pair:
    """Return two models from arrays (or Representations, whose ids are then compared) of any library.

    Raises
    ------
    ShapeError
        If an array is no matrix, f and g of a model differ in M, or the models have different inputs or labels.
    AlignmentError
        If ids of inputs or labels are given and differ.
    InputError
        If there are NaN, infinite values, or probabilities where embeddings are expected.
    """
    values = {name: _matrix(value, name) for name, value in (("f1", f1), ("g1", g1), ("f2", f2), ("g2", g2))}
    for number in (1, 2):
        _require_no_probabilities(values[f"f{number}"], f"f{number}")
        _require_one_dimension(values[f"f{number}"], values[f"g{number}"], number)
    _require_same(values["f1"], values["f2"], "f", "inputs")
    _require_same(values["g1"], values["g2"], "g", "labels")
    for a, b in ((f1, f2), (g1, g2)):
        if isinstance(a, Representation) and isinstance(b, Representation):
            require_aligned(a, b)
    return Pair(Model(values["f1"], values["g1"], 1), Model(values["f2"], values["g2"], 2))


def _matrix(value: Any, name: str) -> Matrix:
    """Return a finite float64 matrix."""
    raw = value.values if isinstance(value, Representation) else value
    array = validate.as_array(raw, name)
    if array.ndim != 2:
        rows = "n inputs" if name.startswith("f") else "K labels"
        message = f"{name} must be two-dimensional ({rows}, M); got shape {tuple(array.shape)}."
        raise ShapeError(message)
    if 0 in array.shape:
        message = f"{name} is empty: shape {tuple(array.shape)}."
        raise ShapeError(message)
    found = np.ascontiguousarray(linalg.to_numpy(_widened(array)), dtype=np.float64)
    validate.require_finite(found, name)
    return found


def _widened(array: validate.Array) -> validate.Array:
    """Return types that NumPy does not have (bfloat16) as float32; nothing is lost."""
    return linalg.at_least_single(array)


def _require_no_probabilities(f: Matrix, name: str) -> None:
    if f.shape[1] < 2 or (f < 0).any() or np.abs(f.sum(axis=1) - 1).max() > 1e-4:
        return
    message = f"{name} looks like probabilities: no entry is negative and every row sums to 1. f must hold embeddings (the input of the last linear layer) and g its rows (the unembeddings); probabilities are computed from them."
    raise InputError(message)


def _require_one_dimension(f: Matrix, g: Matrix, number: int) -> None:
    if f.shape[1] != g.shape[1]:
        message = f"f{number} and g{number} must have the same M; got f{number} of shape {f.shape} and g{number} of shape {g.shape}. Rows are inputs and labels; transpose g{number} if it has labels in columns."
        raise ShapeError(message)


def _require_same(a: Matrix, b: Matrix, side: str, what: str) -> None:
    if a.shape[0] != b.shape[0]:
        message = f"Both models must have the same {what} in the same order; {side}1 has {a.shape[0]} and {side}2 has {b.shape[0]}. Keep the {what} that they share."
        raise ShapeError(message)


# ---- what diversity takes --------------------------------------------------------------------------------------------


def require_diversity(pair: Pair, *, one_left_out: bool) -> None:
    """Raise a ShapeError if there are too few labels or inputs for an invertible L and N.

    Parameters
    ----------
    pair : Pair
        The models.
    one_left_out : bool
        Whether a label is left out besides the pivot.
    """
    m = pair.dimension
    if pair.second.dimension != m:
        message = f"Representations must have the same M in both models; got {m} and {pair.second.dimension}. What needs no common M is in congruence.identifiability.distributions."
        raise ShapeError(message)
    needed = m + 2 if one_left_out else m + 1
    if pair.labels < needed:
        advice = f" (M + 2: a pivot, M others and the one left out{'; with left_out_label=None ' + str(m + 1) + ' do' if pair.labels == m + 1 else ''})"
        message = f"{pair.labels} labels are too few for M = {m}: no invertible L. At least {needed} are needed{advice if one_left_out else ' (M + 1: a pivot and M others)'}."
        raise ShapeError(message)
    if pair.n < m + 1:
        message = f"{pair.n} inputs are too few for M = {m}: no invertible N. At least {m + 1} are needed (M + 1: a pivot and M others)."
        raise ShapeError(message)


# ---- one triangular factor stands for all the rows -------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Factor:
    """The R of a QR decomposition of the centred columns of two matrices side by side.

    Whatever depends on the rows through inner products of (combinations of) columns, as correlations do, can be had from
    R instead; it is exact to rounding, which products such as covariances are not.

    Parameters
    ----------
    first, second : array, shape (r, M)
        The columns of R that belong to either matrix.
    rows : int
        Number of rows of the matrices.
    """

    first: Matrix
    second: Matrix
    rows: int


def joint_factor(x: Matrix, y: Matrix) -> Factor:
    """Return the `Factor` of two matrices with the same rows, which are taken in blocks."""
    means = x.mean(axis=0), y.mean(axis=0)
    width = x.shape[1] + y.shape[1]
    size = max(4 * width, BLOCK // width)
    upper: Matrix = np.empty((0, width))
    for start in range(0, x.shape[0], size):
        rows = slice(start, start + size)
        block = np.hstack([x[rows] - means[0], y[rows] - means[1]])
        upper = triangle(np.vstack([upper, block]))
    return Factor(upper[:, : x.shape[1]], upper[:, x.shape[1] :], x.shape[0])


def triangle(x: Matrix) -> Matrix:
    """Return the R of a QR decomposition, shape (min(n, p), p)."""
    return np.asarray(np.linalg.qr(x, mode="r"))


def require_rank(factor: Factor, x: Matrix, y: Matrix, side: str) -> None:
    """Raise a DegenerateError if a matrix, centred, spans fewer than M directions: no set of its rows is diverse."""
    for part, values, number in ((factor.first, x, 1), (factor.second, y, 2)):
        singular = np.linalg.svd(part, compute_uv=False)
        offset = float(np.abs(values.mean(axis=0)).max())
        rank = int((singular > linalg.rank_tolerance(values.shape, float(singular[0]), offset, EPS)).sum())
        if rank < values.shape[1]:
            what = "inputs" if side == "f" else "labels"
            message = f"{side}{number} has rank {rank} of M = {values.shape[1]} after centring: its {what} lie in {'one point' if rank == 0 else f'{rank} dimensions'}, and no set of them is diverse. Reduce f{number} and g{number} to the directions that both use."
            raise DegenerateError(message)


def _noise_of_differences(values: Matrix) -> float:
    return 4 * EPS * max(float(values.max()), -float(values.min())) * math.sqrt(values.shape[1])
