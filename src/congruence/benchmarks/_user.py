"""Functions of users as measures: ``--also my_module:my_measure`` ranks ten lines of code beside everything else."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import numpy as np

from congruence.errors import DegenerateError, InputError, ParameterError
from congruence.measures import REGISTRY, Measure, MeasureInfo
from congruence.validate import Array

Orientation = Literal["similarity", "distance"]
ORIENTATIONS: tuple[Orientation, ...] = ("similarity", "distance")


@dataclass(frozen=True)
class UserMeasure(Measure[np.ndarray[Any, Any]]):
    """A plain function of two (n, p) arrays; `wrapped` makes a subclass for each."""

    name: ClassVar[str] = "user"
    function: ClassVar[Callable[[Any, Any], Any]]
    claims: ClassVar[MeasureInfo]
    code: ClassVar[str]
    """Hash of the source, so that an edited function is computed again; empty where there is no source."""

    @property
    def info(self) -> MeasureInfo:
        """What is known of the function: its orientation, and whether it was symmetric when it was tried."""
        return self.claims

    def prepare(self, x: Array) -> np.ndarray[Any, Any]:
        """Return the values as a float64 array of NumPy that cannot be written to."""
        values = np.array(x, dtype=np.float64)
        values.flags.writeable = False
        return values

    def compare(self, a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
        """Return the number that the function gives; NaN or infinity is a DegenerateError."""
        value = as_number(type(self).function(a, b), self.name)
        if not np.isfinite(value):
            message = f"{self.name} returned {value}."
            raise DegenerateError(message)
        return value


def as_number(value: Any, name: str) -> float:
    """Return what a user's function returned as a float, or raise an InputError."""
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        message = f"{name} must return one number; got {type(value).__name__}."
        raise InputError(message) from error


def user_measure(spec: str) -> Measure[Any]:
    """Return the measure that ``MODULE:NAME`` or ``MODULE:NAME:distance`` names.

    Parameters
    ----------
    spec : str
        A function f(X, Y) -> float of two arrays of shape (n, p1) and (n, p2), in a module that can be imported from the
        working directory; or a Measure. Whether more means more alike is, in this order, what the spec says, what the
        function's attribute ``orientation`` says, or found by comparing random arrays with themselves.

    Raises
    ------
    ParameterError
        If the spec is malformed, or it cannot be told whether more means more alike.
    InputError
        If the module cannot be imported, or the function does not return a number.
    """
    from congruence.extraction.specs import import_object

    parts = spec.split(":")
    declared = parts.pop() if len(parts) == 3 else None
    if len(parts) != 2 or not all(parts) or (declared is not None and declared not in ORIENTATIONS):
        message = f"'{spec}' is not of the form MODULE:NAME, MODULE:NAME:similarity or MODULE:NAME:distance."
        raise ParameterError(message)
    found = import_object(parts[0], parts[1], spec)
    if isinstance(found, type) and issubclass(found, Measure):
        found = found()
    if isinstance(found, Measure):
        return found
    if not callable(found):
        message = f"'{spec}' is no function f(X, Y); got {type(found).__name__}."
        raise ParameterError(message)
    return wrapped(found, ".".join(parts), declared)


def wrapped(function: Callable[[Any, Any], Any], title: str, orientation: Orientation | None = None) -> UserMeasure:
    """Return a function of two arrays as a measure; see `user_measure`."""
    name = title.rpartition(".")[2]
    name = title if name in REGISTRY else name
    declared = orientation or getattr(function, "orientation", None)
    same, other, swapped = _tried(function, name, required=declared is None)
    declared = declared or _orientation(same, other, name)
    if declared not in ORIENTATIONS:
        message = f"{name}.orientation must be 'similarity' or 'distance'; got {declared!r}."
        raise ParameterError(message)
    claims = MeasureInfo(
        label=name,
        title=title,
        definition=(inspect.getdoc(function) or "a function of two arrays").splitlines()[0],
        orientation=declared,
        range=(-np.inf, np.inf),
        identity=same,
        symmetric=bool(np.isclose(other, swapped, rtol=1e-9, atol=1e-12)),  # equal up to the order of sums
    )
    members = {"name": name, "function": staticmethod(function), "claims": claims, "code": _code(function)}
    kind: Any = dataclass(frozen=True)(type("UserMeasure", (UserMeasure,), members))
    return cast("UserMeasure", kind())


def _tried(function: Callable[[Any, Any], Any], name: str, *, required: bool) -> tuple[float, float, float]:
    """Return f(X, X), f(X, Y) and f(Y, X) of unrelated arrays; NaN where it fails and nothing depends on it."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 6)), rng.normal(size=(40, 6))
    found = []
    for first, second in ((x, x), (x, y), (y, x)):
        try:
            value = function(first.copy(), second.copy())
        except Exception as error:
            if not required:
                return np.nan, np.nan, np.nan
            message = f"{name} failed on two arrays of shape (40, 6): {type(error).__name__}: {error}. If it suits other arrays, write MODULE:NAME:similarity or MODULE:NAME:distance."
            raise InputError(message) from error
        found.append(as_number(value, name))
    return found[0], found[1], found[2]


def _orientation(same: float, other: float, name: str) -> Orientation:
    if not np.isfinite([same, other]).all() or same == other:
        message = f"It cannot be told whether more of {name} means more alike: it gives {same:g} for an array and itself, and {other:g} for unrelated arrays. Write MODULE:NAME:similarity or MODULE:NAME:distance."
        raise ParameterError(message)
    return "similarity" if same > other else "distance"


def _code(function: Callable[[Any, Any], Any]) -> str:
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        return ""
    return hashlib.sha256(source.encode()).hexdigest()
