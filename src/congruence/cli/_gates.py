"""Gates: thresholds that a result must keep, for continuous integration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from congruence.errors import GateError
from congruence.measures import measure
from congruence.results import Comparison

Direction = Literal["under", "over"]
Scope = Literal["matched", "all"]


@dataclass(frozen=True)
class Gate:
    """A bound on one measure: values under (or over) it fail, and so does NaN."""

    measure: str
    bound: float
    direction: Direction

    def fails(self, value: float) -> bool:
        """Return whether a value breaks the gate."""
        if math.isnan(value):
            return True
        return value < self.bound if self.direction == "under" else value > self.bound

    def __str__(self) -> str:
        return f"{self.measure} {'at least' if self.direction == 'under' else 'at most'} {self.bound:g}"


@dataclass(frozen=True)
class Verdict:
    """What a gate found.

    Parameters
    ----------
    gate : Gate
        The bound.
    scope : {"matched", "all"}
        Which pairs were looked at.
    pairs : int
        How many that were.
    offending : tuple of (str, str, float)
        Those that fail, worst first.
    """

    gate: Gate
    scope: Scope
    pairs: int
    offending: tuple[tuple[str, str, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for ``--json``."""
        return {
            "measure": self.gate.measure,
            "fail": self.gate.direction,
            "bound": self.gate.bound,
            "gate": self.scope,
            "pairs": self.pairs,
            "passed": not self.offending,
            "offending": [{"a": a, "b": b, "value": value} for a, b, value in self.offending],
        }


def parse_gate(text: str, direction: Direction) -> Gate:
    """Return the gate of ``MEASURE=VALUE``; the measure may have parameters, so the last ``=`` counts."""
    spec, equals, bound = text.rpartition("=")
    try:
        value = float(bound)
    except ValueError:
        value = math.nan
    if not equals or not spec or math.isnan(value):
        message = f"--fail-{direction} {text}: '{bound}' is not a number. Write MEASURE=VALUE, such as cka=0.9 or cka:estimator=debiased=0.9."
        raise GateError(message)
    return Gate(measure(spec).label, value, direction)


def require_computed(gates: Sequence[Gate], labels: Sequence[str]) -> None:
    """Raise a GateError for a gate on a measure that is not among those computed."""
    for gate in gates:
        if gate.measure not in labels:
            message = f"--fail-{gate.direction} names {gate.measure}, which is not computed. Add: -m {gate.measure}"
            raise GateError(message)


def scope_of(a: Sequence[str], b: Sequence[str] | None, gates: Sequence[Gate], asked: Scope | None) -> Scope:
    """Return which pairs of names the gates look at, `b=None` within one side; a GateError if there is none."""
    within = b is None
    second = a if b is None else b
    # two single files have two names: where no name is on both sides, every pair is meant
    scope = asked or ("matched" if pairs_of(a, second, "matched", within=within) else "all")
    if gates and not pairs_of(a, second, scope, within=within):
        if scope == "matched" and within:
            message = "--gate matched needs A and B; within A alone use --gate all."
        elif scope == "matched":
            message = f"--gate matched: no name is in both A ({a[0]}, ...) and B ({second[0]}, ...). Use --gate all."
        else:
            message = "--gate all: there is no pair to look at; A holds one representation only."
        raise GateError(message)
    return scope


def pairs_of(a: Sequence[str], b: Sequence[str], scope: Scope, *, within: bool) -> list[tuple[str, str]]:
    """Return the pairs in a scope: equal names, or all; within one side never a representation with itself."""
    if scope == "matched":
        return [] if within else [(name, name) for name in a if name in set(b)]
    return [(x, y) for x in a for y in b if not (within and x == y)]


def judge(result: Comparison, gates: Sequence[Gate], scope: Scope, *, within: bool) -> list[Verdict]:
    """Return what every gate finds in a result; pairs that were not asked for are not looked at."""
    return [_judge(result, gate, scope, within=within) for gate in gates]


def _judge(result: Comparison, gate: Gate, scope: Scope, *, within: bool) -> Verdict:
    pairs = pairs_of(result.a, result.b, scope, within=within)
    if within and result.info(gate.measure).symmetric:
        order = {name: place for place, name in enumerate(result.a)}
        pairs = [(a, b) for a, b in pairs if order[a] < order[b]]
    values = result.matrix(gate.measure).values
    status = result.dataset["status"].sel(measure=gate.measure).values
    row, column = ({name: place for place, name in enumerate(side)} for side in (result.a, result.b))
    cells = [(a, b, row[a], column[b]) for a, b in pairs]
    asked = [(a, b, float(values[i, j])) for a, b, i, j in cells if status[i, j] != "skipped"]
    offending = [(a, b, value) for a, b, value in asked if gate.fails(value)]
    worst_first = sorted(offending, key=lambda o: -math.inf if math.isnan(o[2]) else _badness(gate, o[2]))
    return Verdict(gate, scope, len(asked), tuple(worst_first))


def _badness(gate: Gate, value: float) -> float:
    return value if gate.direction == "under" else -value
