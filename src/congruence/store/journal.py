"""Which batches are complete: one line per batch, appended after the chunks that hold its rows.

The file is at the same time the only chunk of the zarr array ``batches`` (bytes). A line is a checksum and a JSON
object; a kill while it is appended leaves at most one torn last line, which does not count.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from congruence.errors import CorruptStoreError
from congruence.store.atomic import disk_errors, write_bytes
from congruence.store.folder import Folder
from congruence.store.layout import JOURNAL, REPAIR

JOURNAL_FILE = f"{JOURNAL}/c.0"


@dataclass(frozen=True)
class Batch:
    """One complete batch.

    Parameters
    ----------
    rows : int
        Number of stimuli.
    ids : tuple of str, optional
        Their ids; None for positions.
    digest : str
        Hash of what the model was given.
    lengths : tuple of int
        Positions of each layer's sequences in this batch, layers in order; 0 for a layer without.
    masked : tuple of bool
        Whether the batch came with a mask, layers in order.
    """

    rows: int
    ids: tuple[str, ...] | None
    digest: str
    lengths: tuple[int, ...]
    masked: tuple[bool, ...]


def render(batches: Iterable[Batch]) -> bytes:
    """Return the lines of some batches."""
    lines = (json.dumps(asdict(batch)).encode() for batch in batches)
    return b"".join(b"%08x %s\n" % (zlib.crc32(line), line) for line in lines)


def parse(data: bytes) -> tuple[list[Batch], bool, bool]:
    """Return the batches before the first wrong line, whether no line is wrong, and whether the last one is torn."""
    *lines, tail = data.split(b"\n")
    batches: list[Batch] = []
    for line in lines:
        batch = _batch(line)
        if batch is None:
            return batches, False, bool(tail)
        batches.append(batch)
    return batches, True, bool(tail)


def _batch(line: bytes) -> Batch | None:
    """Return the batch that a line describes; None if its checksum is wrong."""
    checksum, _, body = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(body):
        return None
    fields = json.loads(body)
    ids = None if fields["ids"] is None else tuple(fields["ids"])
    return Batch(fields["rows"], ids, fields["digest"], tuple(fields["lengths"]), tuple(fields["masked"]))


def read_journal(folder: Folder, *, complete: bool) -> list[Batch]:
    """Return the batches of a store; only in one that is not `complete` a torn last line counts as absent.

    Raises
    ------
    CorruptStoreError
        If a line was altered.
    """
    batches, intact, torn = parse(folder.read(JOURNAL_FILE) or b"")
    if not intact or (torn and complete):
        raise altered_journal(folder)
    return batches


def altered_journal(folder: Folder) -> CorruptStoreError:
    """Return the error for a journal that differs from what was written."""
    return CorruptStoreError(f"{folder.label}: {JOURNAL_FILE} differs from what was written. {REPAIR}")


def append_lines(path: Path, batches: Sequence[Batch]) -> None:
    """Append some batches; a full disk leaves the file as it was."""
    with disk_errors(path), path.open("ab", buffering=0) as file:
        start = file.tell()
        data = render(batches)
        try:
            while data:
                data = data[file.write(data) :]
        except OSError:
            os.ftruncate(file.fileno(), start)
            raise


def rewrite(path: Path, batches: Sequence[Batch]) -> None:
    """Replace the journal by one with exactly these batches."""
    path.parent.mkdir(exist_ok=True)
    write_bytes(path, render(batches))


# ---- what the batches say about the rows -----------------------------------------------------------------------------


def stimuli(batches: Iterable[Batch]) -> int:
    """Return the number of stimuli in some batches."""
    return sum(batch.rows for batch in batches)


def all_ids(batches: Sequence[Batch]) -> list[str] | None:
    """Return the ids of all stimuli in order; None for positions."""
    if not batches or batches[0].ids is None:
        return None
    return [i for batch in batches for i in batch.ids or ()]


def row_lengths(batches: Sequence[Batch], layer: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the number of positions that each stimulus has in a layer, shape (n,); 0 for a layer without sequences."""
    lengths = np.array([batch.lengths[layer] for batch in batches], dtype=np.int64)
    return np.repeat(lengths, [batch.rows for batch in batches])


def is_masked(batches: Sequence[Batch], layer: int) -> bool:
    """Return whether a layer has positions that may be padding: a mask was given, or the lengths differ."""
    return any(batch.masked[layer] for batch in batches) or len({batch.lengths[layer] for batch in batches}) > 1


def difference(recorded: tuple[str, ...] | None, found: tuple[str, ...] | None) -> str:
    """Return what differs between the ids of a batch, or say that the content does."""
    if recorded == found:
        return "the same ids, other content"
    if recorded is None or found is None:
        return "recorded with ids, now without" if found is None else "recorded without ids, now with ids"
    for place, (before, now) in enumerate(zip(recorded, found, strict=False)):
        if before != now:
            return f"stimulus {place} was {before!r} and is {now!r}"
    return f"it had {len(recorded)} stimuli and has {len(found)}"
