"""Files that are either whole or absent."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from congruence.errors import StoreError

_FULL = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system says about `path` into a StoreError with a way out."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        if error.errno in _FULL:
            message = f"No space left on the disk of {path}; what is complete stays. Free space and resume."
        else:
            message = f"{path} cannot be written: {error.strerror or error}. Check the path and its permissions."
        raise StoreError(message) from error


def write_bytes(path: str | Path, *parts: Any, durable: bool = True) -> None:
    """Write a file through a temporary one beside it; after a crash the old file or the new one is there, whole.

    The caller is the only writer of `path` (holds its folder's lock, or owns it).

    Parameters
    ----------
    path : path
        File to write or replace; its folder exists.
    *parts : bytes-like
        Contents, in order.
    durable : bool
        Wait until the disk has it (against power loss; a killed process needs no such wait).

    Raises
    ------
    StoreError
        If the disk is full, or the file cannot be written; nothing half-written is left.
    """
    path = Path(path)
    # One fixed name: what a killed writer left is replaced by the next one instead of piling up.
    temporary = path.with_name(f".{path.name}.partial")
    with disk_errors(path):
        try:
            _write(temporary, parts, durable)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if durable:
            sync_folder(path.parent)


def _write(path: Path, parts: tuple[Any, ...], durable: bool) -> None:
    with path.open("wb") as file:
        for part in parts:
            file.write(part)
        if durable:
            file.flush()
            os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable (a rename is not, until its folder is synced)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
