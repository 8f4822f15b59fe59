"""Run a study in a folder: pieces are kept as they are finished, then come tables, figures and the verdict.

Layout: ``study.json`` (what it is), ``pieces/NAME.json``, then ``TABLE.csv`` for every table, ``summary.csv``,
``figures/*.png`` and last ``result.json`` (summary, verdict, times).
"""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import platform
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, TextIO

import numpy as np

import congruence
from congruence.errors import MissingExtraError, OutputExistsError, StoreError
from congruence.results.storage import write_atomically
from congruence.store import exclusive_lock
from congruence.store.lock import LOCK_NAME
from congruence.studies._base import Row, Study, Tables, Verdict, study

RUN, RESULT, PIECES, FIGURES = "study.json", "result.json", "pieces", "figures"
Exists = Literal["error", "resume", "overwrite"]
Stage = Callable[[str, int, int], None]
"""Called with the name of the piece, how many are done, and how many there are."""


@dataclass(frozen=True, eq=False)
class StudyRun:
    """A finished study.

    Attributes
    ----------
    folder : Path
        Where everything is.
    name, tier : str
        What was run.
    summary : list of dict
        The table of the study.
    verdict : Verdict
        What became of the finding.
    seconds : float
        Computing time, over all sessions.
    notes : tuple of str
        What could not be done, such as figures without matplotlib.
    """

    folder: Path
    name: str
    tier: str
    summary: list[Row]
    verdict: Verdict
    seconds: float
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {**dataclasses.asdict(self), "folder": str(self.folder)}


def run(
    name: str | Study, tier: str = "quick", *, out: str | Path, exists: Exists = "error", stage: Stage | None = None
) -> StudyRun:
    """Run a study and write its tables, figures and verdict.

    Parameters
    ----------
    name : str or Study
        The study.
    tier : {"quick", "small", "paper"}
        How much of it.
    out : path
        Folder of the run.
    exists : {"error", "resume", "overwrite"}
        What to do with a folder that has a run: refuse, finish it, or replace it.
    stage : callable, optional
        Told about every piece.

    Returns
    -------
    StudyRun

    Raises
    ------
    UnknownNameError
        If there is no such study or tier.
    OutputExistsError
        If the folder has a run, and `exists` is "error".
    StoreError
        If the folder has a run of another study, tier, revision or settings, or cannot be written.
    """
    chosen = study(name) if isinstance(name, str) else name
    settings = chosen.tier(tier).settings
    folder = Path(out)
    described = {"study": chosen.name, "tier": tier, "revision": chosen.revision, "settings": _plain(dataclasses.asdict(settings))}  # fmt: skip
    with exclusive_lock(folder):
        _prepare(folder, described, exists)
        _write_json(folder / RUN, {**described, "provenance": _provenance()})
        pieces = chosen.pieces(settings)
        done = [_piece(chosen, settings, folder, piece, k, len(pieces), stage) for k, piece in enumerate(pieces)]
        tables: Tables = {}
        for content in done:
            for table, rows in content["tables"].items():
                tables.setdefault(table, []).extend(rows)
        return _finish(chosen, tier, tables, folder, math.fsum(content["seconds"] for content in done))


def _finish(chosen: Study, tier: str, tables: Tables, folder: Path, seconds: float) -> StudyRun:
    """Write the tables, the figures and the verdict."""
    settings = chosen.tier(tier).settings
    for table, rows in tables.items():
        _write_csv(folder / f"{table}.csv", rows)
    summary = chosen.summarise(settings, tables)
    _write_csv(folder / "summary.csv", summary)
    verdict = chosen.judge(settings, tables)
    notes: tuple[str, ...] = ()
    (folder / FIGURES).mkdir(exist_ok=True)
    try:
        chosen.draw(settings, tables, folder / FIGURES)
    except MissingExtraError as error:
        notes = (f"No figures: {error}",)
    found = StudyRun(folder, chosen.name, tier, summary, verdict, seconds, notes)
    content = _plain({key: value for key, value in found.to_dict().items() if key != "folder"})
    _write_json(folder / RESULT, content)
    return found


def load(folder: str | Path) -> StudyRun:
    """Return a finished study.

    Raises
    ------
    StoreError
        If the folder has none.
    """
    path = Path(folder) / RESULT
    content = _read_json(path, "name", "tier", "summary", "verdict", "seconds", "notes")
    verdict = Verdict(**content.pop("verdict"))
    return StudyRun(folder=Path(folder), verdict=verdict, notes=tuple(content.pop("notes")), **content)


def _prepare(folder: Path, described: Mapping[str, Any], exists: Exists) -> None:
    """Empty the folder if that was asked for, or raise an error if what it has does not fit."""
    if not (folder / RUN).exists():
        if any(path.name != LOCK_NAME for path in folder.iterdir()):
            message = f"{folder} is not empty and has no study. Choose another folder."
            raise OutputExistsError(message)
        return
    if exists == "error":
        message = f"{folder} has a study. Finish it with exists='resume', replace it with exists='overwrite', or choose another folder."
        raise OutputExistsError(message)
    if exists == "overwrite":
        for path in (folder / RUN, folder / RESULT, *folder.glob("*.csv")):
            path.unlink(missing_ok=True)
        for inside in (folder / PIECES, folder / FIGURES):
            shutil.rmtree(inside, ignore_errors=True)
        return
    before = {"revision": 1, **_read_json(folder / RUN)}  # folders from before there were revisions have the first
    for key, value in described.items():
        if before.get(key) != value:
            message = f"{folder} has a study with another {key} ({before.get(key)}, not {value}). Choose another folder, or replace it with exists='overwrite'."
            raise StoreError(message)


def _piece(
    chosen: Study, settings: Any, folder: Path, piece: str, done: int, total: int, stage: Stage | None
) -> dict[str, Any]:
    """Return one piece, from the folder if it is there."""
    if stage is not None:
        stage(piece, done, total)
    path = folder / PIECES / f"{piece}.json"
    if path.exists():
        return _read_json(path, "tables", "seconds")
    start = time.perf_counter()
    tables = chosen.work(settings, piece)
    content: dict[str, Any] = _plain({"tables": tables, "seconds": time.perf_counter() - start})
    _write_json(path, content)
    return content


# ---- files -----------------------------------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    """Return what JSON can hold: tuples as lists, NumPy numbers as Python's, NaN as None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inside) for key, inside in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inside) for inside in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, str | bool | int | None):
        return value
    number = value.item() if isinstance(value, np.generic) else value
    if isinstance(number, float) and not math.isfinite(number):
        return None
    return number


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=1, allow_nan=False)
    write_atomically(path, lambda file: file.write(text + "\n"))


def _read_json(path: Path, *needed: str) -> dict[str, Any]:
    """Return the content of a file, which has these keys."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        message = f"{path} cannot be read: {error}. Remove it and resume, or run the study again."
        raise StoreError(message) from error
    if not isinstance(content, dict) or not content.keys() >= set(needed):
        message = f"{path} is damaged. Remove it and resume, or run the study again."
        raise StoreError(message)
    return content


def _write_csv(path: Path, rows: Sequence[Row]) -> None:
    columns = list(dict.fromkeys(column for row in rows for column in row))

    def write(file: TextIO) -> None:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)

    write_atomically(path, write)


def _provenance() -> dict[str, str]:
    versions = {"congruence": congruence.__version__, "python": platform.python_version()}
    for package in ("numpy", "scipy", "torch"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions
