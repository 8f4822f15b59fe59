"""Amounts of memory: read from text, and written for people."""

from __future__ import annotations

import math
import os

from congruence.errors import ParameterError
from congruence.measures.devices import free_memory, is_accelerator

UNITS: dict[str, float] = {
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
    free = free_memory(device) if device is not None and is_accelerator(device) else None
    if free is not None:
        return free if memory is None else min(free, parse_memory(memory))
    if memory is None:
        return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2)
    text = str(memory).strip().lower()
    unit = text.lstrip("0123456789.eE+ ")
    try:
        value = float(text[: len(text) - len(unit)]) * UNITS[unit.strip()]
    except (ValueError, KeyError):
        value = -1.0
    if not 1 <= value < math.inf:
        message = f"memory must be a number of bytes or text such as '4GB' or '500MiB'; got {memory!r}."
        raise ParameterError(message)
    return round(value)


def rounded_up(size: int) -> int:
    """Return the least size that is no smaller and that `shown_bytes` shows exactly."""
    unit: int = 10 ** max(0, len(str(size)) - 3)
    return -(-size // unit) * unit


def shown_bytes(size: float) -> str:
    """Return a size for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
