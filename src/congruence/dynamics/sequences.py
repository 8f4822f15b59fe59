"""How states move over a sequence: every time step against every other."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from array_api_compat import array_namespace

from congruence.dynamics._paired import state_measure
from congruence.engine import run_comparison
from congruence.errors import Caveat, CongruenceWarning, DegenerateError, ParameterError, ShapeError
from congruence.linalg import to_numpy
from congruence.measures import Measure
from congruence.representation import Representation
from congruence.results.summary import warn_of
from congruence.validate import as_array

if TYPE_CHECKING:
    import xarray as xr


def time_similarity(
    states: Any,
    measure: str | Measure[Any] = "cca",
    *,
    mask: Any = None,
    at: Sequence[int] | None = None,
    memory: str | float | None = None,
    executor: Any = None,
) -> xr.DataArray:
    """Compare the states at every time step with those at every other, sequences as stimuli.

    Parameters
    ----------
    states : array of shape (n, time, p), or Representation
        Of n sequences: hidden states of a recurrent layer (see `unroll`), or a layer of a transformer, with token
        positions as time. A Representation, such as ``acts[layer]`` of `congruence.extract`, brings its mask.
    measure : str or Measure
        See `congruence.list_measures`; or ``"cosine"``, the mean over sequences of the cosine between their states at
        the two steps, or ``"euclidean"``, the mean distance between them.
    mask : array of bool, shape (n, time), optional
        Valid positions, where sequences differ in length. A step is compared over the same sequences as every other, so
        that those are left out that are not valid at all compared steps.
    at : sequence of int, optional
        Which steps, counted from 0; by default all.
    memory, executor
        See `congruence.compare`.

    Returns
    -------
    xarray.DataArray, shape (time, other_time)
        Symmetric if the measure is; NaN for steps that cannot be compared, such as one at which all states are equal.
        ``attrs["n"]`` is the number of sequences.

    Raises
    ------
    ShapeError
        If the states have other axes, or are sequences of different lengths without a mask.
    ParameterError
        If `at` names a step that is not there.
    DegenerateError
        If no sequence is valid at all steps, or no step can be compared.

    Warns
    -----
    CongruenceWarning
        If sequences are left out (``short_sequences``), steps cannot be compared (``failed_pairs``), or values must be
        read with care.

    References
    ----------
    Morcos et al. 2018, appendix A.3 and figure A3.

    Examples
    --------
    >>> states = np.random.default_rng(0).normal(size=(30, 4, 3)).cumsum(axis=1)
    >>> time_similarity(states, "cosine").shape
    (4, 4)
    """
    values, valid = _states(states, mask)
    n, length = (int(size) for size in values.shape[:2])
    steps = list(range(length)) if at is None else [int(step) for step in at]
    for step in steps:
        if not 0 <= step < length:
            message = f"at names step {step}, but the sequences have the steps 0 to {length - 1}."
            raise ParameterError(message)
    if not steps or len(set(steps)) < len(steps):
        message = f"at must name different steps, one at least; got {steps}."
        raise ParameterError(message)
    kept = _whole(valid, steps, n)
    chosen = state_measure(measure)
    sources = [_step(values, step, kept) for step in steps]
    result = run_comparison(sources, None, [chosen], on_error="record", memory=memory, executor=executor)
    failures = result.failures()
    if len(failures) == len(steps) ** 2:
        message = f"No steps can be compared: {failures['reason'][0]}"
        raise DegenerateError(message)
    if len(failures):
        first = failures.iloc[0]
        text = f"{chosen.label}, {len(failures)} of {len(steps) ** 2} pairs of steps failed, first {first.a} and {first.b}: {first.reason}"
        warnings.warn(CongruenceWarning(Caveat("failed_pairs", text)), stacklevel=2)
    warn_of([], result, stacklevel=3)
    return _labelled(result.matrix(chosen).values, steps, chosen, n if kept is None else len(kept))


def _labelled(values: Any, steps: list[int], chosen: Measure[Any], n: int) -> xr.DataArray:
    import xarray as xr

    about = {"measure": chosen.label, "long_name": chosen.info.title, "orientation": chosen.info.orientation, "n": n}
    coordinates = {"time": steps, "other_time": steps}
    return xr.DataArray(values, coordinates, ("time", "other_time"), name=chosen.label, attrs=about)


def _states(states: Any, mask: Any) -> tuple[Any, Any]:
    """Return the states as one array, and where they are valid."""
    if isinstance(states, Representation):
        mask = states.mask if mask is None else mask
        states = states.values
    if isinstance(states, list | tuple):
        lengths = sorted({int(np.shape(one)[0]) for one in states if np.ndim(one) == 2})
        if len(lengths) > 1:
            message = f"The sequences have lengths from {lengths[0]} to {lengths[-1]}. Pad them to one array of shape (n, time, p), and say with mask, of shape (n, time), which positions are valid."
            raise ShapeError(message)
        states = np.stack([np.asarray(one) for one in states]) if lengths else np.asarray(states)
    values = as_array(states, "states")
    if values.ndim != 3:
        message = f"states must have shape (n, time, p); got {tuple(values.shape)}."
        raise ShapeError(message)
    if mask is None:
        return values, None
    valid = np.asarray(to_numpy(mask), dtype=np.bool_)
    if valid.shape != tuple(values.shape[:2]):
        message = f"mask must have shape (n, time) = {tuple(values.shape[:2])}; got {valid.shape}."
        raise ShapeError(message)
    return values, valid


def _whole(valid: Any, steps: list[int], n: int) -> Any:
    """Return the sequences that are valid at all steps; None for all."""
    if valid is None:
        return None
    kept = np.flatnonzero(valid[:, steps].all(axis=1))
    if kept.size == n:
        return None
    shortest = int(valid.sum(axis=1).min())
    if kept.size == 0:
        message = f"None of the {n} sequences is valid at all of the {len(steps)} steps. Choose fewer: at=range({shortest}) keeps every sequence that is padded at its end."
        raise DegenerateError(message)
    text = f"{n - kept.size} of {n} sequences are not valid at all of the {len(steps)} steps, and are left out."
    warnings.warn(CongruenceWarning(Caveat("short_sequences", text)), stacklevel=3)
    return kept


def _step(values: Any, step: int, kept: Any) -> Representation:
    found = values[:, step, :]
    if kept is not None:
        xp = array_namespace(values)
        found = xp.take(found, xp.asarray(kept, device=values.device), axis=0)
    return Representation(found, str(step))


def repeat_input(inputs: Any, start: int) -> Any:
    """Return sequences in which the input at `start` is repeated until the end: the variant that shows what time alone does.

    Parameters
    ----------
    inputs : array, shape (n, time) or (n, time, p)
        Tokens or features.
    start : int
        The step from which on the input stays what it is there.

    Returns
    -------
    array of the same shape and library

    Raises
    ------
    ShapeError
        If there is no axis of time.
    ParameterError
        If `start` is no step.

    References
    ----------
    Morcos et al. 2018, appendix A.3 and figure A4.
    """
    values = as_array(inputs, "inputs")
    if values.ndim < 2:
        message = f"inputs must have shape (n, time) or (n, time, p); got {tuple(values.shape)}."
        raise ShapeError(message)
    length = int(values.shape[1])
    if not 0 <= start < length:
        message = f"start must be a step from 0 to {length - 1}; got {start!r}."
        raise ParameterError(message)
    xp = array_namespace(values)
    places = xp.asarray(np.minimum(np.arange(length), start), device=values.device)
    return xp.take(values, places, axis=1)
