"""The memory of an unfinished comparison: finished rows in one append-only file, guarded by the run's lock.

A line of `journal.jsonl` is a checksum and a JSON object; the first is the key of the run. A process that is killed
while it writes leaves at most one incomplete last line, which the next reader cuts off. A line that was altered is left
out, and what it held is computed again.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import zlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from congruence.engine.job import Cell, Row
from congruence.errors import Caveat, CorruptStoreError, OutputExistsError, StoreError
from congruence.results.storage import FOLDER
from congruence.store import exclusive_lock

Mode = Literal["error", "resume", "update", "overwrite"]

JOURNAL, RESULT, SUMS = "journal.jsonl", FOLDER, "sums.npz"
_OWN = (JOURNAL, RESULT, SUMS, "comparison.csv", "report.html")


def is_run(folder: Path) -> bool:
    """Return whether a folder holds a comparison, finished or not."""
    return (folder / JOURNAL).exists() or (folder / RESULT).exists()


def require_writable_run(folder: Path, mode: Mode) -> None:
    """Raise an OutputExistsError if writing to `folder` would touch what it must not."""
    if not folder.exists():
        return
    if not folder.is_dir():
        message = f"{folder} exists and is not a folder; choose another output."
        raise OutputExistsError(message)
    if not any(entry.name != ".lock" for entry in folder.iterdir()):  # a killed process can leave its lock alone
        return
    if not is_run(folder):
        message = f"{folder} exists and holds no comparison; it is left alone. Choose another output."
        raise OutputExistsError(message)
    if mode == "error":
        message = f"{folder} exists. Continue it with exists='resume', add to it with exists='update', or replace it with exists='overwrite'."
        raise OutputExistsError(message)


class Journal:
    """Finished rows of one run folder.

    Parameters
    ----------
    folder : Path
        The run folder; created if it does not exist.
    key : mapping
        What makes the run the same run: fingerprints of the inputs, measures, pairs, steps, version. JSON values.
    mode : {"error", "resume", "update", "overwrite"}
        What to do with a run that is already there.

    Raises
    ------
    OutputExistsError
        If the folder exists and `mode` says nothing about it, or it is not a run.
    LockedStoreError
        If another process is writing to it.
    StoreError
        If a run to resume was started with other inputs; the message names what differs.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any], mode: Mode = "error") -> None:
        self.folder = folder
        self.key = json.loads(json.dumps(key))
        self.mode = mode
        self.rows: list[Row] = []
        self._stack = ExitStack()
        self._file: FileIO | None = None

    def __enter__(self) -> Self:
        require_writable_run(self.folder, self.mode)
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._stack:
            self._stack.enter_context(exclusive_lock(self.folder))
            if self.mode == "overwrite":
                self._clear()
            elif self.mode in {"resume", "update"}:
                self._read()
            # Unbuffered: what a full disk refused must not be tried again when the file is closed.
            self._file = self._stack.enter_context(FileIO(self.folder / JOURNAL, "a"))
            if self._file.tell() == 0:
                self._append({"key": self.key})
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def record(self, rows: Sequence[Row]) -> None:
        """Write the rows of one finished tile; they are on disk when this returns."""
        self.rows.extend(rows)
        self._append(
            *({"measure": r.measure, "a": r.a, "cells": {b: _cell_out(c) for b, c in r.cells.items()}} for r in rows)
        )

    def finish(self) -> None:
        """Remove the journal: the result is saved."""
        (self.folder / JOURNAL).unlink()

    def _append(self, *entries: Mapping[str, Any]) -> None:
        """Write some lines and force them to disk; on a full disk take back what was written of them."""
        file = self._file
        if file is None:
            message = "The journal is not open."
            raise StoreError(message)
        start = os.fstat(file.fileno()).st_size
        left = memoryview(b"".join(map(_line, entries)))
        try:
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
        except OSError as error:
            file.truncate(start)
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            message = (
                f"No space left for {self.folder}; what is done stays. Free some space and go on with exists='resume'."
            )
            raise StoreError(message) from error

    def _clear(self) -> None:
        for name in _OWN:
            path = self.folder / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _read(self) -> None:
        """Load the finished rows of an earlier process and cut off a line that it did not finish."""
        path = self.folder / JOURNAL
        if not path.exists():
            return
        content = path.read_bytes()
        complete = content[: content.rfind(b"\n") + 1]
        if len(complete) < len(content):
            with path.open("r+b") as file:
                file.truncate(len(complete))
        if not complete:
            return
        lines = [_entry(line) for line in complete.splitlines()]
        if lines[0] is None:
            message = (
                f"{path} differs from what was written, so it cannot be told which run it belongs to. Start again with "
                "overwrite, or choose another output."
            )
            raise CorruptStoreError(message)
        if self.mode == "update" and lines[0]["key"] != self.key:
            path.unlink()  # an unfinished update of other inputs; the finished result beside it is what counts
            return
        _require_same_key(lines[0]["key"], self.key, self.folder)
        for line in filter(None, lines[1:]):
            cells = {b: _cell_in(cell) for b, cell in line["cells"].items()}
            self.rows.append(Row(line["measure"], line["a"], cells))


def _line(entry: Mapping[str, Any]) -> bytes:
    """Return an entry as a line: the checksum, the JSON."""
    content = json.dumps(entry).encode()
    return b"%08x %s\n" % (zlib.crc32(content), content)


def _entry(line: bytes) -> dict[str, Any] | None:
    """Return the entry in a line; None if the line is not what was written."""
    checksum, _, content = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(content):
        return None
    entry: dict[str, Any] = json.loads(content)
    return entry


def _cell_out(cell: Cell) -> list[Any]:
    """Return a cell as JSON; Python's JSON writes floats so that they read back equal, NaN included."""
    return [cell.value, cell.status, cell.reason, [asdict(caveat) for caveat in cell.caveats], cell.seconds]


def _cell_in(entry: list[Any]) -> Cell:
    value, status, reason, caveats, seconds = entry
    return Cell(value, status, reason, tuple(Caveat(**caveat) for caveat in caveats), seconds)


def _require_same_key(old: Mapping[str, Any], new: Mapping[str, Any], folder: Path) -> None:
    """Raise a StoreError that names the parts in which two runs differ."""
    differing = sorted(part for part in old.keys() | new.keys() if old.get(part) != new.get(part))
    if not differing:
        return
    details = "; ".join(f"{part}: {_short(old.get(part))} then, {_short(new.get(part))} now" for part in differing)
    message = f"{folder} was started with other inputs ({details}). Resume with the same ones, or replace it with exists='overwrite'."
    raise StoreError(message)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
