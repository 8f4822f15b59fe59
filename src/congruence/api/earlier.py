"""Runs that are there already: whether a run is the same one, and which of its numbers still hold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from congruence.api.request import Request, parse_measures
from congruence.engine import RESULT, Cell, Mode, Row
from congruence.errors import StoreError
from congruence.measures import Measure
from congruence.results import Comparison

_SAME = ("congruence", "measures", "pairs", "dtype")


def key(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return what makes a run the same run."""
    same = {part: provenance[part] for part in _SAME} | {"device": _kind(provenance)}
    return same | {side: _fingerprints(provenance, side) for side in ("a", "b")}


def _kind(provenance: Mapping[str, Any]) -> str:
    """Return the kind of device, on which the precision depends: one GPU is like another."""
    return str(provenance.get("device", "cpu")).partition(":")[0]


def _fingerprints(provenance: Mapping[str, Any], side: str) -> dict[str, str] | None:
    """Return fingerprint by name for one side; None for the second of a comparison within one side."""
    listed = provenance["inputs"][side]
    return None if listed is None else {entry["name"]: entry["fingerprint"] for entry in listed}


def finished(folder: Path, exists: Mode) -> Comparison | None:
    """Return the finished result in a run folder that is to be resumed or updated."""
    if exists not in {"resume", "update"} or not (folder / RESULT).exists():
        return None
    found = Comparison.load(folder)
    if "inputs" not in found.provenance:
        message = f"{folder} holds a result that does not say what it was computed from. Choose another output, or replace it with exists='overwrite'."
        raise StoreError(message)
    return found


def is_unfinished(folder: Path) -> bool:
    """Return whether a run was interrupted; its journal then says what it was."""
    return (folder / "journal.jsonl").exists()


def require_same(request: Request, before: Comparison, folder: Path) -> None:
    """Raise a StoreError if a finished run that is to be resumed had other inputs."""
    then, now = key(before.provenance), key(request.provenance())
    differing = [part for part in now if now[part] != then[part]]
    if differing:
        message = (
            f"{folder} holds a finished run with other inputs (what differs: {', '.join(differing)}). Add to it with "
            "exists='update', replace it with exists='overwrite', or choose another output."
        )
        raise StoreError(message)


def joint_measures(request: Request, before: Comparison, folder: Path) -> tuple[Measure[Any], ...]:
    """Return the measures of an earlier run and those asked for, so that an update keeps what is there.

    Raises
    ------
    StoreError
        If something in the earlier run could not be kept.
    """
    then, now = before.provenance, request.provenance()
    differing = [(part, then[part], now[part]) for part in ("congruence", "pairs", "dtype") if then[part] != now[part]]
    if _kind(then) != _kind(now):
        differing.append(("device", _kind(then), _kind(now)))
    for part, old, new in differing:
        message = f"{folder} was computed with {part}={old!r} and now it is {new!r}. Choose another output, or replace it with exists='overwrite'."
        raise StoreError(message)
    if (then["inputs"]["b"] is None) != (request.b is None):
        message = f"{folder} compares {'two sides' if request.b is None else 'one side with itself'}, and so must an update. Choose another output."
        raise StoreError(message)
    gone = sorted({*before.a, *before.b} - {*request.names_a, *request.names_b})
    if gone:
        message = f"{folder} has '{gone[0]}', which is not given now ({len(gone)} in all). Give it too, or choose another output."
        raise StoreError(message)
    return parse_measures([*before.measures, *request.measures])


def known_rows(request: Request, before: Comparison) -> list[Row]:
    """Return the good cells of an earlier result whose representations are still the same."""
    now = request.provenance()
    same = {side: _unchanged(before.provenance, now, side) for side in ("a", "b")}
    columns = same["a"] if request.b is None else same["b"]
    table = before.to_dataframe()
    table = table[(table["status"] == "ok") & table["a"].isin(same["a"]) & table["b"].isin(columns)]
    rows: dict[tuple[str, str], dict[str, Cell]] = {}
    for label, a, b, value, seconds in table[["measure", "a", "b", "value", "seconds"]].itertuples(index=False):
        cell = Cell(float(value), "ok", "", before.caveats(label, a, b), float(seconds))
        rows.setdefault((label, a), {})[b] = cell
    return [Row(label, a, cells) for (label, a), cells in rows.items()]


def _unchanged(then: Mapping[str, Any], now: Mapping[str, Any], side: str) -> set[str]:
    """Return the names on one side whose values are the same in two runs."""
    before, after = _fingerprints(then, side) or {}, _fingerprints(now, side) or {}
    return {name for name, found in before.items() if after.get(name) == found}
