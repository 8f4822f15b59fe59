"""The plan: from shapes, measures and a memory budget to forms, tiles and predicted cost. No array is touched."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from congruence.engine.job import Shape
from congruence.errors import ParameterError
from congruence.measures import Measure, Workload
from congruence.measures.devices import free_memory, is_accelerator
from congruence.measures.parallel import cores

STACK = 400_000_000
"""Memory that the block kernels use on top of prepared states (stacked Gram rows)."""

TILE_FLOPS = 1e12
"""Work after which a tile is written down: some ten to twenty seconds, which is what a kill costs at most."""

UNITS = {
    "": 1,
    "b": 1,
    "kb": 1e3,
    "mb": 1e6,
    "gb": 1e9,
    "tb": 1e12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}


def parse_memory(memory: str | float | None, device: str | None = None) -> int:
    """Return a memory budget in bytes: a number, text such as ``"4GB"`` or ``"500 MiB"``, or half of the machine's.

    On an accelerator it is never more than what is free there.
    """
    if is_accelerator(device):
        free = free_memory(str(device))
        return free if memory is None else min(free, parse_memory(memory))
    if memory is None:
        return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2)
    text = str(memory).strip().lower()
    unit = text.lstrip("0123456789.eE+ ")
    try:
        value = float(text[: len(text) - len(unit)]) * UNITS[unit.strip()]
    except (ValueError, KeyError):
        value = -1.0
    if not value > 0:
        message = f"memory must be a number of bytes or text such as '4GB' or '500MiB'; got {memory!r}."
        raise ParameterError(message)
    return int(value)


@dataclass(frozen=True)
class MeasurePlan:
    """How one measure is computed.

    Parameters
    ----------
    measure : str
        Label.
    form, why : str
        What the kernel works on, and why.
    group : int
        Representations a side of a tile; their states are held at once.
    tiles : int
        How many tiles there are.
    passes : int
        How often every representation is read and prepared.
    pairs : int
        How many values are computed.
    flops, state_bytes, peak_bytes : float
        Predicted work, size of one prepared state, and greatest memory beside the input.
    streams : bool
        Whether the Gram matrices are worked through in segments because the states do not fit.
    stack_bytes : int
        Memory for the stacked rows of one segment.
    """

    measure: str
    form: str
    why: str
    group: int
    tiles: int
    passes: int
    pairs: int
    flops: float
    state_bytes: int
    peak_bytes: int
    streams: bool = False
    stack_bytes: int = 0


@dataclass(frozen=True)
class Plan:
    """How a comparison is computed, measure by measure; `str(plan)` explains it."""

    shape: Shape
    memory: int
    measures: tuple[MeasurePlan, ...]
    device: str | None = None

    @property
    def stack_bytes(self) -> int:
        """Memory that the block kernels may use on top of prepared states."""
        return stack_room(self.memory)

    @property
    def flops(self) -> float:
        """Predicted floating-point operations of all measures."""
        return sum(plan.flops for plan in self.measures)

    @property
    def peak_bytes(self) -> int:
        """Predicted greatest memory, the input not counted."""
        return max(plan.peak_bytes for plan in self.measures)

    def __str__(self) -> str:
        sides = f"{len(self.shape.widths_a)}" + (
            f" x {len(self.shape.widths_b)}" if self.shape.widths_b else " within one side"
        )
        lines = [
            f"{sides} representations, n = {self.shape.n} stimuli, up to p = {self.shape.widest} features; "
            f"memory budget {_bytes(self.memory)}" + (f"; on {self.device}" if is_accelerator(self.device) else ""),
        ]
        for plan in self.measures:
            again = f", every representation prepared {plan.passes} times" if plan.passes > 1 else ""
            lines += [
                f"{plan.measure}",
                f"  form   {plan.form}: {plan.why}",
                f"  work   {plan.pairs} values, about {plan.flops:.2g} flop; {plan.tiles} tile{'s' if plan.tiles > 1 else ''}"
                f" of {plan.group} representations a side{again}",
                f"  memory about {_bytes(plan.peak_bytes)} ({_bytes(plan.state_bytes)} a prepared representation)",
            ]
        lines.append(f"together about {self.flops:.2g} flop and {_bytes(self.peak_bytes)} at most")
        return "\n".join(lines)


def make_plan(
    shape: Shape, measures: Sequence[Measure[Any]], memory: str | float | None = None, device: str | None = None
) -> Plan:
    """Return the plan of a comparison.

    Parameters
    ----------
    shape : Shape
        Stimuli and widths.
    measures : sequence of Measure
        What is to be computed.
    memory : int, float or str, optional
        Budget in bytes, or text such as ``"4GB"``; half of the machine's memory by default, and never more than what is
        free on an accelerator.
    device : str, optional
        Resolved name of the device that computes.

    Raises
    ------
    ParameterError
        If the budget does not hold one tile of some measure; the message gives the least that works.
    """
    budget = parse_memory(memory, device)
    return Plan(shape, budget, tuple(_plan_measure(shape, measure, memory, device) for measure in measures), device)


def stack_room(budget: int) -> int:
    """Return how much of a budget the block kernels may use on top of prepared states."""
    return min(STACK, budget // 4)


def _plan_measure(shape: Shape, measure: Measure[Any], memory: str | float | None, device: str | None) -> MeasurePlan:
    place = None if measure.cpu_only else device
    budget = parse_memory(memory, place)
    work = measure.workload(shape.n, shape.widest, shape.count)
    pairs = shape.pairs(symmetric=measure.info.symmetric)
    at_once = 1 if is_accelerator(place) else cores()
    scratch = at_once * work.scratch_bytes
    room = budget - scratch - stack_room(budget)
    group = max(0, math.floor(room / (2 * work.state_bytes)))
    sides = max(len(shape.widths_a), len(shape.widths_b or ()))
    if shape.count * work.state_bytes <= room:
        group = sides  # everything at once
    elif work.streams and room > 0:
        return _segmented(shape, measure, work, pairs, room + stack_room(budget), scratch)
    elif group < 1:
        least = 2 * work.state_bytes + scratch
        message = (
            f"A memory budget of {_bytes(budget)} does not hold one tile of {measure.label} (n={shape.n}, p={shape.widest}); "
            f"it needs at least {_bytes(math.ceil(least * 4 / 3))}."
        )
        raise ParameterError(message)
    if work.pair_flops * group * group > TILE_FLOPS:
        group = max(1, min(group, math.isqrt(int(TILE_FLOPS / work.pair_flops))))
    rows, columns = math.ceil(len(shape.widths_a) / group), math.ceil(len(shape.widths_b or shape.widths_a) / group)
    within = shape.widths_b is None and measure.info.symmetric
    tiles = rows * (rows + 1) // 2 if within else rows * columns
    passes = 1 if shape.count * work.state_bytes <= room else max(rows, columns)
    held = min(shape.count, 2 * group) if passes > 1 else shape.count
    peak = held * work.state_bytes + scratch + (stack_room(budget) if work.streams else 0)
    flops = work.prepare_flops * shape.count * passes + work.pair_flops * pairs
    return MeasurePlan(measure.label, work.form, work.why, group, tiles, passes, pairs, flops, work.state_bytes, peak)


def _segmented(shape: Shape, measure: Measure[Any], work: Workload, pairs: int, room: int, scratch: int) -> MeasurePlan:
    """Return the plan that works through the Gram matrices in segments: each pass stacks what fits, of all of them."""
    whole = 4 * shape.count * shape.n * (shape.n + 128)
    passes = max(1, math.ceil(whole / room))
    count = max(len(shape.widths_a), len(shape.widths_b or ()))
    return MeasurePlan(
        measure=measure.label,
        form=work.form,
        why=f"{work.why}; they do not all fit, so their rows are compared in {passes} passes over the representations",
        group=count,
        tiles=1,
        passes=passes,
        pairs=pairs,
        flops=work.prepare_flops * shape.count + work.pair_flops * pairs,
        state_bytes=work.state_bytes,
        peak_bytes=min(whole, room) + scratch,
        streams=True,
        stack_bytes=min(whole, room),
    )


def _bytes(size: float) -> str:
    """Return a size for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
