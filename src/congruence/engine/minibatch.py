"""Unbiased CKA from batches: all pairs of layers at once, in memory that holds a few numbers a pair.

HSIC_1 of a batch is an unbiased estimate of HSIC whatever the size of the batch, so it may be averaged over batches;
CKA is the ratio of three such averages (Nguyen, Raghu & Kornblith 2020, arXiv:2010.15327). The state is a sum: parts
of the batches can be taken in different processes and added.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from array_api_compat import array_namespace

from congruence import linalg, validate
from congruence.engine.job import OnError, Pairs, wanted_pairs
from congruence.errors import (
    Caveat,
    CongruenceWarning,
    DegenerateError,
    InputError,
    ParameterError,
    ShapeError,
    UnknownNameError,
)
from congruence.measures import CKA
from congruence.results import Comparison
from congruence.validate import Array

Matrix = np.ndarray[Any, np.dtype[np.float64]]
Activity = Mapping[str, Array]
"""What the layers put out for one batch: arrays of shape (m, p) by name."""

LEAST = 4
"""HSIC_1 of fewer stimuli does not exist."""


class MinibatchCKA:
    """Sums over batches from which debiased CKA of all pairs of layers follows.

    Parameters
    ----------
    names_a, names_b : sequence of str
        Layers of the two sides; leaving out `names_b` compares within `names_a`.
    measure : CKA, optional
        A debiased CKA; by default with the linear kernel. Bandwidths are fractions of the median within each batch.
    models : tuple of str
        What messages call the two sides.

    Raises
    ------
    ParameterError
        If the measure is not debiased: only HSIC_1 may be averaged over batches.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> sums = MinibatchCKA(["x", "y"])
    >>> for _ in range(20):
    ...     x = rng.normal(size=(32, 5))
    ...     sums.update({"x": x, "y": x[:, :3] + rng.normal(size=(32, 3))})
    >>> float(sums.result().matrix("cka:estimator=debiased").sel(a="x", b="x"))
    1.0
    """

    def __init__(
        self,
        names_a: Sequence[str],
        names_b: Sequence[str] | None = None,
        *,
        measure: CKA | None = None,
        models: tuple[str, str] = ("A", "B"),
    ) -> None:
        self.names_a = tuple(names_a)
        self.names_b = None if names_b is None else tuple(names_b)
        self.measure = CKA(estimator="debiased") if measure is None else measure
        if self.measure.estimator != "debiased":
            message = f"Only HSIC_1 may be averaged over batches, so the estimator must be debiased; got {self.measure.label}."
            raise ParameterError(message)
        self.about: dict[str, Any] = {}
        """What the provenance of the result says of the models, as plain data."""
        self._models = models
        self._state = {name: np.zeros(shape) for name, shape in self._shapes().items()}

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the sums that are kept and their shapes: h stands for HSIC_1 of a batch, m for its stimuli."""
        a, b = len(self.names_a), len(self.names_b or self.names_a)
        numbers = dict.fromkeys(("stimuli", "batches", "dropped_stimuli", "dropped_batches"), ())
        first = dict.fromkeys(("own_a", "square_own_a"), (a,))  # Σ m h_aa, Σ m² h_aa²
        second = dict.fromkeys(("own_b", "square_own_b"), (b,))
        pairs = dict.fromkeys(("cross", "square_cross", "cross_own_a", "cross_own_b", "own_own"), (a, b))
        return {**numbers, **first, **second, **pairs}

    # ---- one batch ---------------------------------------------------------------------------------------------------

    def update(self, acts_a: Activity, acts_b: Activity | None = None) -> None:
        """Add one batch; fewer than four stimuli are left out and counted.

        Parameters
        ----------
        acts_a, acts_b : mapping of str to array, shape (m, p)
            What every layer put out, for the same stimuli in the same order: NumPy, PyTorch or other arrays.

        Raises
        ------
        UnknownNameError
            If a layer is missing.
        ShapeError
            If an array is no matrix, or the numbers of stimuli differ.
        InputError
            If there is NaN or infinity; the message names the layer and the batch.
        """
        layers = self._layers(acts_a, acts_b)
        m = self._count(layers)
        if m < LEAST:
            self._add(dropped_batches=1, dropped_stimuli=m)
            return
        if self._state["batches"] == 0:
            for title, x in layers.items():
                validate.as_floating(x[:1, ...], title)  # warns of types that are converted
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is reported below
            product = _products([self._gram(x, title) for title, x in layers.items()]) / (m * (m - 3))
        if not np.isfinite(product).all():
            message = f"Batch {self.batches}: the squares of the activations overflow. Scale them down."
            raise InputError(message)
        a = len(self.names_a)
        own, own_b = np.diagonal(product)[:a], np.diagonal(product)[a if self.names_b is not None else 0 :]
        cross = product[:a, a:] if self.names_b is not None else product
        self._add(
            batches=1,
            stimuli=m,
            own_a=m * own,
            own_b=m * own_b,
            cross=m * cross,
            square_own_a=(m * own) ** 2,
            square_own_b=(m * own_b) ** 2,
            square_cross=(m * cross) ** 2,
            cross_own_a=m * m * cross * own[:, None],
            cross_own_b=m * m * cross * own_b,
            own_own=m * m * np.outer(own, own_b),
        )

    def _add(self, **terms: Any) -> None:
        for name, term in terms.items():
            self._state[name] += term

    def _layers(self, acts_a: Activity, acts_b: Activity | None) -> dict[str, Array]:
        """Return the arrays of all layers, side a first, by what messages call them."""
        if (acts_b is None) != (self.names_b is None):
            message = f"update() takes the activations of {'one side' if self.names_b is None else 'both sides'}, as the names were given."
            raise ParameterError(message)
        found: dict[str, Array] = {}
        for model, names, acts in zip(
            self._models, (self.names_a, self.names_b or ()), (acts_a, acts_b or {}), strict=True
        ):
            for name in names:
                if name not in acts:
                    message = f"{model}: batch {self._seen} lacks the layer '{name}'. {validate.closest(name, acts)}"
                    raise UnknownNameError(message)
                title = name if self.names_b is None else f"{model}: {name}"
                found[title] = validate.as_array(acts[name], title)
        return found

    def _count(self, layers: Mapping[str, Array]) -> int:
        """Return the number of stimuli of a batch, the same for all layers."""
        (first, reference), *_ = layers.items()
        for title, x in layers.items():
            if x.ndim != 2:
                message = f"{title} must be two-dimensional (stimuli, features) in batch {self._seen}; got shape {tuple(x.shape)}. Reduce it with steps."
                raise ShapeError(message)
            if x.shape[0] != reference.shape[0]:
                message = f"All layers must hold the same stimuli; in batch {self._seen} {first} has {reference.shape[0]} and {title} has {x.shape[0]}."
                raise ShapeError(message)
        return int(reference.shape[0])

    def _gram(self, x: Array, title: str) -> Array:
        """Return the U-centred Gram matrix of a batch as a vector, shape (m²,)."""
        try:
            validate.require_finite(x, title)
        except InputError as error:
            message = f"In batch {self._seen}, {error}"
            raise InputError(message) from None
        if self.measure.kernel == "linear":
            return _u_centred(_linear_gram(x))
        gram, _ = self.measure.stream_gram(x)
        values = gram.values
        return _u_centred(values @ array_namespace(values).matrix_transpose(values) if gram.factored else values)

    # ---- sums --------------------------------------------------------------------------------------------------------

    @property
    def batches(self) -> int:
        """Number of batches that were added."""
        return int(self._state["batches"])

    @property
    def stimuli(self) -> int:
        """Number of stimuli in them."""
        return int(self._state["stimuli"])

    @property
    def _seen(self) -> int:
        """Number of the batch at hand, those left out included."""
        return int(self._state["batches"] + self._state["dropped_batches"])

    def merge(self, other: MinibatchCKA) -> None:
        """Add the batches that another accumulator took, of the same layers.

        Raises
        ------
        ParameterError
            If the layers or the measures differ.
        """
        if (self.names_a, self.names_b, self.measure) != (other.names_a, other.names_b, other.measure):
            message = "Only sums over the same layers by the same measure can be merged."
            raise ParameterError(message)
        self._add(**other._state)
        self.about.pop("batches_digest", None)  # it is that of one part

    def state_dict(self) -> dict[str, Matrix]:
        """Return the sums as arrays; those of several processes may be added, entry by entry."""
        return {name: value.copy() for name, value in self._state.items()}

    def with_state(self, state: Mapping[str, Any]) -> Self:
        """Return sums over the same layers that go on from those of a `state_dict`; see `from_state`."""
        found = self.from_state(state, self.names_a, self.names_b, measure=self.measure, models=self._models)
        found.about.update(self.about)
        return found

    @classmethod
    def from_state(
        cls,
        state: Mapping[str, Any],
        names_a: Sequence[str],
        names_b: Sequence[str] | None = None,
        *,
        measure: CKA | None = None,
        models: tuple[str, str] = ("A", "B"),
    ) -> Self:
        """Return an accumulator that goes on from the sums of `state_dict`.

        Raises
        ------
        ShapeError
            If the sums are not those of these layers.
        """
        found = cls(names_a, names_b, measure=measure, models=models)
        for name, shape in found._shapes().items():
            value = np.asarray(state.get(name), dtype=np.float64)
            if value.shape != shape:
                message = f"The state is not one of {len(found.names_a)} by {len(found.names_b or names_a)} layers: '{name}' must have shape {shape}; got {value.shape}."
                raise ShapeError(message)
            found._state[name] = value.copy()
        return found

    # ---- result ------------------------------------------------------------------------------------------------------

    def result(
        self,
        *,
        pairs: Pairs = "all",
        on_error: OnError = "record",
        provenance: Mapping[str, Any] | None = None,
        seconds: float = 0.0,
    ) -> Comparison:
        """Return the values of all pairs, with standard errors.

        Standard errors come from the spread of the three averages over batches, by the delta method; they need two
        batches or more, and independent ones.

        Parameters
        ----------
        pairs : {"all", "matched"} or list of (str, str)
            Which pairs; the others get the status ``"skipped"``.
        on_error : {"record", "raise"}
            What becomes of a layer that does not vary: failed pairs, since the batches are gone when it is found, or
            an error.
        provenance : mapping, optional
            Plain data; ``estimator``, ``batches``, ``stimuli`` and ``batch_size`` (the mean) are added.
        seconds : float
            Time that it all took, shared out among the cells.

        Raises
        ------
        InputError
            If no batch held four stimuli or more.
        DegenerateError
            With ``on_error="raise"``, if a layer does not vary.

        Warns
        -----
        CongruenceWarning
            ``small_batches``: batches of fewer than four stimuli were left out.
        """
        dropped = int(self._state["dropped_batches"])
        if self.batches == 0:
            message = f"No batch held {LEAST} stimuli or more ({dropped} held fewer); use larger batches."
            raise InputError(message)
        if dropped:
            text = f"{dropped} batch{'es' if dropped > 1 else ''} of fewer than {LEAST} stimuli ({int(self._state['dropped_stimuli'])} stimuli in all) left out"
            warnings.warn(CongruenceWarning(Caveat("small_batches", text)), stacklevel=2)
        names_b = self.names_b or self.names_a
        value, error = self._values()
        wanted = wanted_pairs(list(self.names_a), list(names_b), pairs)
        reason = np.where(wanted, self._reasons(on_error), "")
        about = {
            "estimator": "minibatch",
            "batches": self.batches,
            "stimuli": self.stimuli,
            "batch_size": self.stimuli / self.batches,
            "dropped_batches": dropped,
        }
        return Comparison.build(
            [self.measure],
            self.names_a,
            names_b,
            value=value[None],
            status=np.where(wanted, np.where(reason == "", "ok", "failed"), "skipped")[None],
            reason=reason[None],
            n=self.stimuli,
            seconds=seconds / value.size,
            standard_error=error[None],
            provenance={**(provenance or {}), **self.about, **about},
        )

    def _values(self) -> tuple[Matrix, Matrix]:
        """Return the ratios of the averages, and their standard errors, shapes (a, b)."""
        s, count = self._state, self.batches
        a, b = s["own_a"][:, None], s["own_b"][None, :]
        with np.errstate(invalid="ignore", divide="ignore"):  # layers that do not vary are reported as such
            root = np.sqrt(a * b)
            value = s["cross"] / root
            # f = c / √(ab) has the gradient f (1/c, -1/2a, -1/2b), which is orthogonal to (c, a, b): the second moments
            # of the batches about zero give the variance of f without their means
            spread = s["square_cross"] / root**2
            variance = (
                spread
                - value / root * (s["cross_own_a"] / a + s["cross_own_b"] / b)
                + value**2
                / 4
                * (s["square_own_a"][:, None] / a**2 + 2 * s["own_own"] / root**2 + s["square_own_b"] / b**2)
            )
            certain = variance <= 64 * float(np.finfo(np.float64).eps) * spread  # a layer and itself
            error = np.sqrt(np.where(certain, 0.0, variance) * (count / (count - 1) if count > 1 else np.nan))
        return np.clip(value, -1.0, 1.0), error

    def _reasons(self, on_error: OnError) -> np.ndarray[Any, np.dtype[np.object_]]:
        """Return why pairs have no value, shape (a, b); empty where they do."""
        names = (self.names_a, self.names_b or self.names_a)
        reason = np.full([len(side) for side in names], "", dtype=object)
        for model, side, own, rows in zip(self._models, names, ("own_a", "own_b"), (reason, reason.T), strict=True):
            for k in np.flatnonzero(~(self._state[own] > 0)):
                title = side[k] if self.names_b is None else f"{model}: {side[k]}"
                text = f"{title}: {self.measure.label} is undefined: the layer does not vary within the batches."
                if on_error == "raise":
                    raise DegenerateError(text)
                rows[k] = [text if not known or known == text else f"{known} {text}" for known in rows[k]]
        return reason


# ---- Gram matrices of a batch ----------------------------------------------------------------------------------------


def _linear_gram(x: Array) -> Array:
    """Return the centred Gram matrix in float64, shape (m, m); zero if the stimuli differ by rounding only."""
    xp = array_namespace(x)
    eps = float(xp.finfo(x.dtype).eps) if xp.isdtype(x.dtype, "real floating") else 0.0
    x = xp.astype(x, xp.float64)
    spread = float(xp.max(xp.max(x, axis=0) - xp.min(x, axis=0)))
    if spread <= 4 * eps * linalg.largest(x):
        return xp.zeros((x.shape[0], x.shape[0]), dtype=xp.float64, device=x.device)
    centred = linalg.centre_columns(x)
    return centred @ xp.matrix_transpose(centred)


def _u_centred(gram: Array) -> Array:
    """Return the U-centred form of a centred Gram matrix as a vector: inner products of two are m (m - 3) HSIC_1.

    Rows of a centred K sum to zero, so without the diagonal k they sum to -k.
    """
    xp = array_namespace(gram)
    m = int(gram.shape[0])
    diagonal = xp.linalg.diagonal(gram)
    shared = float(xp.sum(diagonal)) / ((m - 1) * (m - 2))
    centred = gram + (diagonal[:, None] + diagonal[None, :]) / (m - 2) - shared
    off = 1 - xp.eye(m, dtype=gram.dtype, device=gram.device)
    return xp.reshape(centred * off, (-1,))


def _products(vectors: Sequence[Array]) -> Matrix:
    """Return the inner products of all pairs of vectors, from whatever libraries and devices they come."""
    stack = np.stack([linalg.to_numpy(vector) for vector in vectors])
    return np.asarray(stack @ stack.T)
