"""A request: what is to be compared, read and checked, and how it is described in the provenance."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import congruence
from congruence.api import inputs
from congruence.api.inputs import Item, Source
from congruence.engine import Job, OnError, Pairs, Plan, home, make_plan, parse_memory, require_pairs
from congruence.errors import Caveat, ParameterError
from congruence.measures import Measure, measure
from congruence.measures.devices import CPU, is_accelerator, resolve
from congruence.steps import StepSpec, parse_steps

DEFAULT_MEASURES = ("cka:estimator=debiased", "procrustes")
"""One similarity whose 0 means unrelated at any size, and one distance that is a metric."""

Measures = str | Measure[Any] | Sequence[str | Measure[Any]]

_PACKAGES = ("numpy", "scipy", "torch", "transformers", "jax", "zarr", "xarray")


@dataclass(frozen=True, eq=False)
class Request:
    """A comparison whose inputs were read, aligned and checked; nothing has been computed or written.

    Parameters
    ----------
    a, b : tuple of Item
        The representations of both sides as (n, p) values; `b=None` compares within `a`.
    measures : tuple of Measure
        Distinct measures.
    pairs, on_error, dtype, memory, executor, device
        As in `compare`; the device by its full name.
    notes : tuple of Caveat
        What was noticed while the inputs were read.
    about : mapping
        Description of the inputs (with fingerprints) and further choices, for the provenance.
    """

    a: tuple[Item, ...]
    b: tuple[Item, ...] | None
    measures: tuple[Measure[Any], ...]
    pairs: Pairs
    on_error: OnError
    dtype: str | None
    memory: str | float | None
    executor: Any
    device: str | None
    notes: tuple[Caveat, ...]
    about: Mapping[str, Any]

    @property
    def names_a(self) -> tuple[str, ...]:
        """Names on the first side."""
        return tuple(item.representation.name for item in self.a)

    @property
    def names_b(self) -> tuple[str, ...]:
        """Names on the second side, which is the first if only one was given."""
        return self.names_a if self.b is None else tuple(item.representation.name for item in self.b)

    def plan(self) -> Plan:
        """Return how the comparison would be computed, and what it would cost."""
        first = tuple(item.representation for item in self.a)
        second = None if self.b is None else tuple(item.representation for item in self.b)
        job = Job.build(first, second, self.measures, self.pairs)
        return make_plan(job.shape, self.measures, self.memory, self.lives_on)

    @property
    def lives_on(self) -> str:
        """The device on which representations are compared."""
        return self.device or home(item.representation for item in (*self.a, *(self.b or ()))) or CPU

    def provenance(self) -> dict[str, Any]:
        """Return everything a result of this request says about its making, as plain data."""
        return {
            **description(),
            "measures": [m.label for m in self.measures],
            "pairs": self.pairs if isinstance(self.pairs, str) else [list(pair) for pair in self.pairs],
            "on_error": self.on_error,
            "dtype": self.dtype,
            "device": self.lives_on,
            **self.about,
            "notes": [asdict(note) for note in self.notes],
        }


def prepare(
    a: Source,
    b: Source | None = None,
    measures: Measures = DEFAULT_MEASURES,
    *,
    pairs: Pairs = "all",
    steps: StepSpec = None,
    align: bool = False,
    on_error: OnError = "raise",
    dtype: str | None = None,
    memory: str | float | None = None,
    executor: Any = None,
    device: Any = None,
) -> Request:
    """Return the request that these arguments of `compare` make: inputs read, named, aligned and checked."""
    chosen = parse_measures(measures)
    chosen_steps = parse_steps(steps)
    if on_error not in {"raise", "record"}:
        message = f"on_error must be 'raise' or 'record'; got {on_error!r}."
        raise ParameterError(message)
    require_pairs(pairs)
    if b is None and pairs == "matched":
        message = "pairs='matched' needs two sides: within one side it would compare everything with itself."
        raise ParameterError(message)
    parse_memory(memory)
    place = resolve(device)
    first, second = inputs.read_sides(
        a, b, whole=chosen_steps is not None, elsewhere=executor is not None, bounded=memory is not None
    )
    items = inputs.aligned([*first, *(second or ())], align=align)
    items = inputs.aligned(inputs.matrices(items, chosen_steps), align=align)
    items, notes = inputs.noticed(lambda: inputs.admitted(items, chosen, dtype, on_error=on_error))
    side_a, side_b = tuple(items[: len(first)]), None if second is None else tuple(items[len(first) :])
    about = {
        "steps": None if chosen_steps is None else [str(step) for step in chosen_steps],
        "align": align,
        "inputs": {
            "a": [_described(item) for item in side_a],
            "b": None if side_b is None else [_described(item) for item in side_b],
        },
    }
    request = Request(side_a, side_b, chosen, pairs, on_error, dtype, memory, executor, place, tuple(notes), about)
    return replace(request, notes=(*request.notes, *_moved_to_the_cpu(request)))


def _moved_to_the_cpu(request: Request) -> list[Caveat]:
    """Return a note for every measure that runs on the CPU although its arrays live elsewhere."""
    if not is_accelerator(request.lives_on):
        return []
    return [
        Caveat("on_cpu", f"{m.label} is compared on the CPU, and not on {request.lives_on}: {m.cpu_only}.")
        for m in request.measures
        if m.cpu_only
    ]


def parse_measures(measures: Measures) -> tuple[Measure[Any], ...]:
    """Return distinct measures in the order given."""
    listed = [measures] if isinstance(measures, str | Measure) else list(measures)
    found = {item.label: item for item in map(measure, listed)}
    if not found:
        message = "Give at least one measure, such as measures=['cka']."
        raise ParameterError(message)
    return tuple(found.values())


def _described(item: Item) -> dict[str, Any]:
    r = item.representation
    return {
        "name": r.name,
        "source": item.title,
        "n": r.n,
        "p": r.p,
        "dtype": r.dtype,
        "ids": "positions" if r.ids is None else "given",
        "steps": [str(step) for step in r.steps],
        "origin": r.origin.to_dict(),
        "fingerprint": inputs.fingerprint(r),
    }


def description() -> dict[str, Any]:
    """Return when and with what a result is made."""
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return {"congruence": congruence.__version__, "created": created, "versions": _versions()}


def _versions() -> dict[str, str]:
    """Return the versions of Python, the platform and the packages that numbers can depend on."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue  # an extra that is not installed
    return found
