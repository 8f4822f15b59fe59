"""The sums of an unfinished comparison of models, in a file of its run folder that is whole at any moment."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from congruence.engine.journal import SUMS
from congruence.errors import CorruptStoreError
from congruence.store import write_bytes

SECONDS = 10.0
"""How much work a kill costs at most, beside a batch."""


@dataclass(frozen=True, eq=False)
class Saved:
    """Sums of the first `batches` batches, whose hash is `digest`."""

    state: Mapping[str, Any]
    batches: int
    digest: str


class KeptSums:
    """Sums kept in a run folder, whose lock the caller holds.

    Parameters
    ----------
    folder : Path
        The run folder.
    seconds : float
        How long sums are not kept while batches go on.
    """

    def __init__(self, folder: Path, seconds: float = SECONDS) -> None:
        self._path, self._seconds = folder / SUMS, seconds
        self._last = time.monotonic()

    @property
    def exist(self) -> bool:
        """Whether anything is kept."""
        return self._path.exists()

    def is_due(self) -> bool:
        """Return whether it is time to save again."""
        return time.monotonic() - self._last >= self._seconds

    def save(self, state: Mapping[str, Any], batches: int, digest: str) -> None:
        """Replace what is kept."""
        file = io.BytesIO()
        about = np.frombuffer(json.dumps({"batches": batches, "digest": digest}).encode(), np.uint8)
        np.savez(file, about=about, **state)
        write_bytes(self._path, file.getvalue())
        self._last = time.monotonic()

    def read(self) -> Saved | None:
        """Return what is kept, if anything.

        Raises
        ------
        CorruptStoreError
            If the file was altered.
        """
        if not self.exist:
            return None
        try:
            with np.load(self._path, allow_pickle=False) as file:
                state = {name: file[name] for name in file.files}
            about = json.loads(state.pop("about").tobytes())
            return Saved(state, int(about["batches"]), str(about["digest"]))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            message = f"{self._path} was altered and cannot be read: {error}. Replace the run with exists='overwrite'."
            raise CorruptStoreError(message) from error

    def remove(self) -> None:
        """Remove what is kept: the result is saved."""
        self._path.unlink(missing_ok=True)
