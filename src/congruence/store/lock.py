"""One writer at a time: a lock of the kernel's, which is released when its process dies."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from congruence.errors import LockedStoreError, StoreError
from congruence.store.atomic import disk_errors

LOCK_NAME = ".lock"
_held: set[int] = set()


def _forget_in_child() -> None:
    """Close the locks that a forked child inherits: it must not hold them after its parent was killed."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_forget_in_child)


@contextmanager
def exclusive_lock(folder: str | Path) -> Iterator[None]:
    """Hold the lock of a folder (created if missing); another holder is a LockedStoreError at once.

    Parameters
    ----------
    folder : path
        Local folder of a store or a run.

    Raises
    ------
    LockedStoreError
        If another process (or this one) holds it; the message names process and host if known.
    StoreError
        If the folder cannot be created or locked.
    """
    folder = Path(folder)
    path = folder / LOCK_NAME
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _acquire(path)
    _held.add(descriptor)
    try:
        yield
    finally:
        if descriptor in _held:  # not so in a forked child, which holds nothing
            path.unlink(missing_ok=True)
            _held.discard(descriptor)
            os.close(descriptor)


def _acquire(path: Path) -> int:
    """Return a descriptor that holds the lock, with the owner written into the file."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _lock(descriptor, path)
            # A holder removes the file when it is done: a lock on a removed file protects nothing.
            if _is_current(descriptor, path):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        import fcntl
    except ModuleNotFoundError as error:
        message = f"{path.parent} cannot be locked: this system has no POSIX locks. Write on Linux or macOS."
        raise StoreError(message) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        message = f"{path.parent} is being written by {_owner(path)}. Wait until it has finished, or stop it."
        raise LockedStoreError(message) from error


def _is_current(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _owner(path: Path) -> str:
    """Return who holds the lock, as far as the lock file tells."""
    try:
        owner = json.loads(path.read_bytes())
        return f"process {owner['pid']} on {owner['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"  # it has only just taken the lock, or released it
