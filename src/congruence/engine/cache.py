"""Prepared states on disk, by the hash of what they were made from: no representation is prepared twice.

One file a state: a header (JSON) and the raw arrays, each with its checksum. Files appear whole, under a name that says
all that the state depends on, so processes share a folder without locks. What cannot be read for any reason is prepared
again and replaced. The least recently used files go first when the folder reaches its bound.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import threading
import time
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from threadpoolctl import threadpool_info

from congruence import __version__
from congruence.engine.job import Shape
from congruence.engine.memory import parse_memory
from congruence.engine.states import decode, encode, read_state, state_type, write_state
from congruence.errors import ParameterError
from congruence.measures import Measure
from congruence.representation import Deferred, Source
from congruence.store.atomic import disk_errors

FOLDER_VARIABLE, SIZE_VARIABLE = "CONGRUENCE_CACHE_DIR", "CONGRUENCE_CACHE_SIZE"

DEFAULT_LIMIT = 5_000_000_000

WORTH = 100.0
"""Least work a byte of state, in flop: a core does some 10 GFLOP/s in decompositions, a cold disk gives 0.2 GB/s, and a
state is written once before it is read, so below this the cache could cost more than it saves."""

SPARE = 500_000_000
"""Bytes that the cache leaves free on its disk: a run must not fail for the sake of its cache."""

SUFFIX = ".state"
_ABANDONED_SECONDS = 3600.0


@dataclass
class _Tally:
    """What this process knows of the size of a folder."""

    total: int | None = None
    fresh: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


_tallies: dict[Path, _Tally] = {}


@dataclass(frozen=True)
class StateCache:
    """A folder of prepared states; it can be sent to another process.

    Parameters
    ----------
    folder : Path
        Where the files are; other files in it are left alone.
    limit : int
        Greatest size of all files in bytes. Several processes that write at once can exceed it by a tenth each.
    worth : float
        States that took less work a byte (in flop) are not kept.
    """

    folder: Path
    limit: int = DEFAULT_LIMIT
    worth: float = WORTH

    def for_job(self, measure: Measure[Any], shape: Shape) -> StateCache | None:
        """Return the cache if the states of a job are worth keeping.

        They are dearer to prepare than to read, all of them fit (a folder that is too small for one run would only be
        churned), and the code that prepares them is ours: that of others can change under the same label.
        """
        work = measure.workload(shape.n, shape.widest, shape.count)
        own = type(measure).__module__.partition(".")[0] == "congruence"
        dear = work.prepare_flops - work.block_flops >= self.worth * work.state_bytes
        return self if own and dear and shape.count * work.state_bytes <= self.limit // 2 else None

    def place(self, measure: Measure[Any], source: Source, dtype: str | None) -> Place | None:
        """Return where the state of a representation is kept; None if what it is made from has no fixed identity."""
        content = _content(source)
        expected = state_type(measure)
        if content is None or expected is None:
            return None
        made_from = {
            "measure": measure.label,
            "class": f"{type(measure).__module__}.{type(measure).__qualname__}",
            "dtype": dtype,
            "content": content,
            **environment(),
        }
        return Place(self, source, made_from, expected)

    def make_room(self, size: int) -> bool:
        """Delete the least recently used files until `size` more bytes fit; return whether they do."""
        if size > self.limit // 2 or shutil.disk_usage(self.folder).free < size + SPARE:
            return False
        tally = _tallies.setdefault(self.folder, _Tally())
        with tally.lock:
            if tally.total is None or tally.total + size > self.limit or tally.fresh > self.limit // 10:
                tally.total, tally.fresh = self._prune(size), 0
            tally.total += size
            tally.fresh += size
        return True

    def _prune(self, incoming: int) -> int:
        """Bring the folder under its bound and return its size; what writers left who were killed goes too."""
        files: list[tuple[float, int, Path]] = []
        for path in self.folder.iterdir():
            found = _stat(path)
            if found is None:
                continue
            if path.suffix == SUFFIX:
                files.append((found.st_mtime, found.st_size, path))
            elif _is_partial(path) and time.time() - found.st_mtime > _ABANDONED_SECONDS:
                path.unlink(missing_ok=True)
        total = sum(size for _, size, _ in files)
        goal = self.limit if total + incoming <= self.limit else self.limit * 9 // 10  # room for more than this one
        for _, size, path in sorted(files):
            if total + incoming <= goal:
                break
            path.unlink(missing_ok=True)
            total -= size
        return total


@dataclass(frozen=True, eq=False)
class Place:
    """Where one state is kept, and all that it was made from."""

    cache: StateCache
    source: Source
    made_from: dict[str, Any]
    expected: Any

    @property
    def path(self) -> Path:
        """Its file."""
        name = hashlib.sha256(json.dumps(self.made_from, sort_keys=True).encode()).hexdigest()
        return self.cache.folder / f"{name}{SUFFIX}"

    def read(self) -> Any:
        """Return the state to the last bit; None if it is not there, damaged, or its store has changed since.

        Who prepares it instead meets the change and refuses it.
        """
        path = self.path
        try:
            with path.open("rb") as file:
                found = read_state(file, self.made_from)
            os.utime(path)  # the time of last use, which decides what goes first
        except OSError:
            return None  # gone, or not for us to read: it is prepared again
        if found is None or (isinstance(self.source, Deferred) and _has_changed(self.source)):
            return None
        return decode(*found, self.expected)

    def write(self, state: Any) -> None:
        """Keep a state if it can be written down; a cache that cannot be written is no reason to end a run."""
        parts = encode(state, self.expected)
        if parts is None:
            return
        path = self.path
        partial = path.with_name(f".{uuid4().hex}.partial")
        try:
            self.cache.folder.mkdir(parents=True, exist_ok=True)
            if not self.cache.make_room(sum(array.nbytes for array in parts[1])):
                return
            try:
                with partial.open("wb") as file:
                    write_state(file, self.made_from, *parts)
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
        except OSError:
            return


# ---- what a state depends on -----------------------------------------------------------------------------------------


def _content(source: Source) -> list[Any] | None:
    """Return what identifies the values of a representation, their layout in memory included."""
    if isinstance(source, Deferred):
        if source.rows is None or source.origin.fingerprint is None or not _is_float(source.dtype):
            return None
        return ["store", source.origin.fingerprint, source.dtype, list(source.shape)]
    values = source.values
    if not isinstance(values, np.ndarray) or not _is_float(str(values.dtype)):
        return None
    digest = hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()
    return ["array", digest, values.dtype.str, list(values.shape), list(values.strides)]


def _has_changed(source: Deferred) -> bool:
    return source.rows is None or source.rows.changed()


def _is_float(dtype: str) -> bool:
    """Whether values are used as they are; a conversion warns, and a state that is read would not."""
    return dtype in {"float32", "float64"}


@cache
def environment() -> dict[str, Any]:
    """Return what the last bits of a state depend on beside its input: the code, the libraries and their kernels."""
    code = hashlib.sha256()
    package = resources.files("congruence")
    for folder in (package, package / "measures"):
        for source in sorted((f for f in folder.iterdir() if f.name.endswith(".py")), key=lambda f: f.name):
            code.update(source.read_bytes())
    kernels = {
        f"{library['internal_api']} {library['version']} {library.get('architecture')}"
        for library in threadpool_info()
        if library["user_api"] == "blas" and "torch" not in library["filepath"]
    }
    return {
        "congruence": __version__,
        "code": code.hexdigest(),
        "numpy": np.__version__,
        "scipy": metadata.version("scipy"),
        "blas": sorted(kernels),
    }


# ---- the folder ------------------------------------------------------------------------------------------------------


def open_cache(cache: str | Path | None, *, kept: bool) -> StateCache | None:
    """Return the cache that a run uses.

    Parameters
    ----------
    cache : path, "auto" or None
        A folder; the user's own for runs that are kept; or none.
    kept : bool
        Whether the run is kept in a folder (``out=``).

    Raises
    ------
    StoreError
        If a folder that was asked for cannot be written.
    ParameterError
        If the size in the environment means nothing.
    """
    limit = _limit()
    if cache is None or limit == 0 or (cache == "auto" and not kept):
        return None
    if cache == "auto":
        return StateCache(default_folder().absolute(), limit)
    folder = Path(cache).absolute()
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        trial = folder / f".{uuid4().hex}.partial"
        trial.touch()
        trial.unlink()
    return StateCache(folder, limit)


def default_folder() -> Path:
    """Return the folder that ``CONGRUENCE_CACHE_DIR`` names, or ``congruence/states`` in the user's cache folder."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named)
    home = Path.home()
    if sys.platform == "darwin":
        base = home / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "congruence" / "states"


def _limit() -> int:
    """Return the size bound in bytes; 0 switches the cache off."""
    text = os.environ.get(SIZE_VARIABLE, "").strip()
    if not text:
        return DEFAULT_LIMIT
    if text == "0":
        return 0
    try:
        return parse_memory(text)
    except ParameterError as error:
        message = f"{SIZE_VARIABLE} must be a size such as '5GB', or 0 for no cache; got {text!r}."
        raise ParameterError(message) from error


def _is_partial(path: Path) -> bool:
    return path.name.startswith(".") and path.suffix == ".partial"


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None  # another process has just deleted it
