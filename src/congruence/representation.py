"""A representation: what one layer of one model puts out for a list of stimuli."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from array_api_compat import array_namespace

from congruence import steps as _steps
from congruence import validate
from congruence.errors import AlignmentError, ShapeError
from congruence.validate import Array

Ids = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Origin:
    """Where a representation comes from; everything is optional and goes into the provenance.

    Parameters
    ----------
    model, layer, checkpoint, seed, dataset : str, optional
        The parts of its identity.
    fingerprint : str, optional
        Hash of the values (or of the weights they came from).
    """

    model: str | None = None
    layer: str | None = None
    checkpoint: str | None = None
    seed: str | None = None
    dataset: str | None = None
    fingerprint: str | None = None

    def to_dict(self) -> dict[str, str]:
        """Return the parts that are known."""
        return {key: value for key, value in dataclasses.asdict(self).items() if value is not None}


@dataclass(frozen=True, eq=False)
class Representation:
    """Values of n stimuli, their ids, and where they come from.

    Parameters
    ----------
    values : array, shape (n, p) or (n, ...)
        One row per stimulus. More than two axes are reduced by `matrix`.
    name : str
        Label in results, such as ``"layer3"``.
    ids : sequence of str or int, shape (n,), optional
        Stimulus ids, unique. Without ids the stimuli count as 0..n-1.
    mask : array of bool, shape (n, t), optional
        Valid positions of sequences, for values of shape (n, t, d).
    recurrent : bool
        Whether the values are the outputs of a recurrent layer (its last step is then the default reduction).
    steps : tuple of Step
        Steps that were already applied.
    origin : Origin
        Model, layer, checkpoint, seed, data set.

    Raises
    ------
    AlignmentError
        If ids are repeated or their number differs from n.
    """

    values: Array
    name: str = "X"
    ids: Ids | Sequence[Any] | None = None
    mask: Array | None = None
    recurrent: bool = False
    steps: tuple[_steps.Step, ...] = ()
    origin: Origin = Origin()

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", validate.as_array(self.values, self.name))
        if self.values.ndim == 0:
            message = f"{self.name} must have one row per stimulus; got a single number."
            raise ShapeError(message)
        if self.ids is not None:
            object.__setattr__(self, "ids", check_ids(self.ids, self.n, self.name))

    @property
    def n(self) -> int:
        """Number of stimuli."""
        return int(self.values.shape[0])

    @property
    def p(self) -> int:
        """Number of features: the product of all axes but the first."""
        return int(np.prod(self.values.shape[1:]))

    @property
    def dtype(self) -> str:
        """Precision of the values."""
        return str(self.values.dtype)

    @property
    def stimulus_ids(self) -> Ids:
        """Stimulus ids as text; positions where none were given."""
        return np.arange(self.n).astype(str) if self.ids is None else np.asarray(self.ids)

    def load(self) -> Representation:
        """Return the representation itself: its values are at hand (see `Deferred`)."""
        return self

    def matrix(self, steps: _steps.StepSpec = None) -> Representation:
        """Return the representation as (n, p) values, after `steps` (chosen by shape if None)."""
        chosen = _steps.parse_steps(steps)
        if chosen is None:
            chosen = _steps.default_steps(self.values.ndim, recurrent=self.recurrent)
        if not chosen:
            return self
        block = _steps.apply_steps(chosen, _steps.Block(self.values, self.ids, self.mask))  # type: ignore[arg-type]
        return dataclasses.replace(
            self, values=block.values, ids=block.ids, mask=block.mask, recurrent=False, steps=(*self.steps, *chosen)
        )

    def take(self, rows: np.ndarray[Any, Any]) -> Representation:
        """Return the representation of the stimuli at `rows`, in that order."""
        xp = array_namespace(self.values)
        values = xp.take(self.values, xp.asarray(rows, device=self.values.device), axis=0)
        mask = None if self.mask is None else self.mask[rows]
        return dataclasses.replace(self, values=values, ids=self.stimulus_ids[rows], mask=mask)

    def __repr__(self) -> str:
        applied = f", steps={','.join(map(str, self.steps))}" if self.steps else ""
        return f"Representation({self.name!r}, shape={tuple(self.values.shape)}, ids={'given' if self.ids is not None else 'positions'}{applied})"


class Rows(Protocol):
    """An (n, p) matrix on disk that is read in ranges of stimuli; it can be pickled and used in another process."""

    @property
    def row_bytes(self) -> int:
        """Memory that one stimulus takes while it is read."""

    def read(self, start: int, stop: int) -> Array:
        """Return the stimuli from `start` to `stop` (exclusive)."""

    def changed(self) -> bool:
        """Return whether something else is on disk now than when this was made."""


@dataclass(frozen=True, eq=False)
class Deferred:
    """A representation on disk: name, shape and ids are known, values are read whenever they are asked for.

    Parameters
    ----------
    name : str
        Label in results.
    shape : tuple of int
        (n, p).
    dtype : str
        Of the values.
    opener : callable
        Returns the Representation; it can be pickled, so that a worker elsewhere reads for itself.
    ids : ndarray, optional
        Stimulus ids.
    steps : tuple of Step
        Steps that were applied before it was written.
    origin : Origin
        Where it comes from.
    rows : Rows, optional
        Reads the values in parts; None if they can only be read whole.
    """

    name: str
    shape: tuple[int, int]
    dtype: str
    opener: Callable[[], Representation]
    ids: Ids | None = None
    steps: tuple[_steps.Step, ...] = ()
    origin: Origin = Origin()
    rows: Rows | None = None

    @property
    def n(self) -> int:
        """Number of stimuli."""
        return self.shape[0]

    @property
    def p(self) -> int:
        """Number of features."""
        return self.shape[1]

    @property
    def stimulus_ids(self) -> Ids:
        """Stimulus ids as text; positions where none were given."""
        return np.arange(self.n).astype(str) if self.ids is None else self.ids

    def load(self) -> Representation:
        """Read the values.

        Raises
        ------
        AlignmentError
            If what is read is not what was announced: the file has changed.
        """
        found = dataclasses.replace(self.opener(), name=self.name)
        fingerprint = found.origin.fingerprint
        if tuple(found.values.shape) != self.shape or fingerprint != self.origin.fingerprint:
            message = f"{self.name} has changed on disk since the comparison began; start again with what is there now."
            raise AlignmentError(message)
        return found


Source = Representation | Deferred
"""What the engine compares: values at hand, or read when their turn comes."""


def check_ids(ids: Any, n: int, name: str) -> Ids:
    """Return ids as an array of text, checked for number and uniqueness."""
    array = np.asarray([str(i) for i in ids])
    if array.shape[0] != n:
        message = f"{name} has {n} stimuli but {array.shape[0]} ids."
        raise AlignmentError(message)
    unique, counts = np.unique(array, return_counts=True)
    if unique.shape[0] != n:
        repeated = unique[counts > 1]
        message = (
            f"{name} has {repeated.shape[0]} repeated stimulus ids (first: {str(repeated[0])!r}). Ids must be unique."
        )
        raise AlignmentError(message)
    return array


def _describe(a: Ids, b: Ids) -> str:
    """Return the first ids that differ, position by position."""
    shown = [f"position {i}: {str(a[i])!r} and {str(b[i])!r}" for i in np.flatnonzero(a != b)[:3]]
    return "; ".join(shown)


def require_aligned(a: Source, b: Source) -> None:
    """Raise unless both representations hold the same stimuli in the same order.

    Raises
    ------
    ShapeError
        If neither has ids and the numbers of stimuli differ.
    AlignmentError
        If ids are found on one side only, or stand in another order; the message names the first.
    """
    if a.ids is None and b.ids is None:
        if a.n != b.n:
            message = (
                f"{a.name} has {a.n} stimuli and {b.name} has {b.n}; both must hold the same stimuli in the same order."
            )
            raise ShapeError(message)
        return
    ids_a, ids_b = a.stimulus_ids, b.stimulus_ids
    if ids_a.shape == ids_b.shape and bool(np.all(ids_a == ids_b)):
        return
    remark = "".join(f" {r.name} has no ids, so its stimuli count as 0..{r.n - 1}." for r in (a, b) if r.ids is None)
    only_a, only_b = np.setdiff1d(ids_a, ids_b), np.setdiff1d(ids_b, ids_a)
    if only_a.size or only_b.size:
        parts = [
            f"{only.size} only in {r.name} (first: {str(r.stimulus_ids[np.isin(r.stimulus_ids, only)][0])!r})"
            for only, r in ((only_a, a), (only_b, b))
            if only.size
        ]
        advice = _advice(bool(remark), common=only_a.size < a.n)
        message = f"{a.name} and {b.name} hold different stimuli: {', '.join(parts)}.{remark} {advice}"
        raise AlignmentError(message)
    message = f"{a.name} and {b.name} hold the same stimuli in another order ({int(np.sum(ids_a != ids_b))} of {a.n} positions differ; {_describe(ids_a, ids_b)}). Reorder them with align=True."
    raise AlignmentError(message)


def _advice(without_ids: bool, common: bool) -> str:
    """Return what to do about different stimuli: only what `align` can do is offered."""
    if without_ids:
        return "Give both sides their ids."
    return (
        "Keep the common ones with align=True."
        if common
        else "They have none in common: compare what was recorded on the same ones."
    )


def align(
    a: Representation, b: Representation, how: Literal["reorder", "intersect"] = "intersect"
) -> tuple[Representation, Representation]:
    """Return both representations with the same stimuli in the order of `a`.

    Parameters
    ----------
    a, b : Representation
        Representations to bring in line.
    how : {"reorder", "intersect"}
        ``"reorder"`` demands the same set of ids; ``"intersect"`` keeps the ids that both have.

    Raises
    ------
    AlignmentError
        If ``"reorder"`` finds ids on one side only, or no stimulus is common.
    """
    common = common_ids([a, b])
    if how == "reorder" and not (common.shape[0] == a.n == b.n):
        require_aligned(a, b)
    return restrict(a, common), restrict(b, common)


def common_ids(representations: Sequence[Source]) -> Ids:
    """Return the ids that all representations hold, in the order of the first."""
    first = representations[0].stimulus_ids
    keep = np.ones(first.shape[0], dtype=bool)
    for other in representations[1:]:
        keep &= np.isin(first, other.stimulus_ids)
    if not keep.any():
        message = f"{', '.join(r.name for r in representations[:4])} have no stimulus in common."
        raise AlignmentError(message)
    return np.asarray(first[keep])


def restrict(representation: Representation, ids: Ids) -> Representation:
    """Return `representation` with exactly the stimuli `ids`, in that order."""
    own = representation.stimulus_ids
    if own.shape == ids.shape and bool(np.all(own == ids)):
        return representation
    place = {str(stimulus): row for row, stimulus in enumerate(own)}
    return representation.take(np.asarray([place[str(stimulus)] for stimulus in ids]))
