"""Locks of the kernel, whole files, and what the operating system refuses."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from congruence.errors import LockedStoreError, StoreError
from congruence.store import Recorded, StoreWriter, atomic, exclusive_lock, journal, write_bytes

HOLDER = """
import sys, time
from congruence.store import exclusive_lock
with exclusive_lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""
FORKING_HOLDER = """
import os, sys, time
from congruence.store import exclusive_lock
with exclusive_lock(sys.argv[1]):
    listen, tell = os.pipe()
    if os.fork() == 0:
        os.write(tell, b".")  # it runs, and so has let go of what it inherited
        time.sleep(60)
        os._exit(0)
    os.read(listen, 1)
    print("held", flush=True)
    time.sleep(60)
"""


def holder(folder: Path, source: str = HOLDER) -> subprocess.Popen[str]:
    """Start a process group that holds the lock."""
    command = [sys.executable, "-c", source, str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_a_second_holder_is_refused_by_name_until_the_first_dies(tmp_path: Path) -> None:
    process = holder(tmp_path)
    try:
        expected = f"{tmp_path} is being written by process {process.pid} on {os.uname().nodename}"
        with pytest.raises(LockedStoreError, match=expected), exclusive_lock(tmp_path):
            pass
    finally:
        end(process)
    with exclusive_lock(tmp_path):
        assert (tmp_path / ".lock").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_second_store_writer_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    process = holder(tmp_path / "store")
    try:
        for mode in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(LockedStoreError, match="is being written by process"):
                StoreWriter(tmp_path / "store", provenance={}, **mode)
    finally:
        end(process)
    with StoreWriter(tmp_path / "store", provenance={}) as writer:
        assert writer.batches == 0


def test_the_children_of_a_killed_holder_do_not_hold_its_lock(tmp_path: Path) -> None:
    process = holder(tmp_path, FORKING_HOLDER)
    try:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with exclusive_lock(tmp_path):
            assert (tmp_path / ".lock").exists()
    finally:
        end(process)


def test_the_same_process_cannot_hold_a_lock_twice(tmp_path: Path) -> None:
    with (
        exclusive_lock(tmp_path),
        pytest.raises(LockedStoreError, match=f"process {os.getpid()}"),
        exclusive_lock(tmp_path),
    ):
        pass


def test_an_owner_that_cannot_be_read_is_another_process(tmp_path: Path) -> None:
    with exclusive_lock(tmp_path):
        (tmp_path / ".lock").write_text("")
        with pytest.raises(LockedStoreError, match="by another process"), exclusive_lock(tmp_path):
            pass


def test_a_lock_file_that_survived_a_kill_blocks_nobody(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text('{"pid": 1, "host": "elsewhere"}')
    with exclusive_lock(tmp_path):
        pass
    assert not (tmp_path / ".lock").exists()


def test_a_lock_file_that_its_holder_removes_at_that_moment_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, calls = fcntl.flock, []

    def locked_too_late(descriptor: int, operation: int) -> None:
        if not calls:
            (tmp_path / ".lock").unlink()
        calls.append(descriptor)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", locked_too_late)
    with exclusive_lock(tmp_path):
        assert len(calls) == 2
        with pytest.raises(LockedStoreError), exclusive_lock(tmp_path):
            pass


def test_a_system_without_posix_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with pytest.raises(StoreError, match="cannot be locked: this system has no POSIX locks"), exclusive_lock(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StoreError, match="file/run cannot be written: Not a directory"),
        exclusive_lock(tmp_path / "file/run"),
    ):
        pass


# ---- whole files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_written_in_parts_and_replaced_whole(tmp_path: Path, durable: bool) -> None:
    write_bytes(tmp_path / "a", b"old")
    write_bytes(tmp_path / "a", b"one", np.arange(2, dtype=np.uint8), durable=durable)
    assert (tmp_path / "a").read_bytes() == b"one\x00\x01"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bytes(tmp_path / "a", b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        StoreError, match=f"No space left on the disk of {tmp_path}/a; what is complete stays. Free space"
    ):
        write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_file_in_a_missing_folder_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="missing/a cannot be written: No such file or directory. Check the path"):
        write_bytes(tmp_path / "missing/a", b"")


def small(index: int) -> dict[str, Recorded]:
    return {"layer": Recorded(np.full((600, 2), index, dtype=np.float32))}


def test_a_full_disk_while_appending_leaves_a_store_that_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = tmp_path / "undisturbed"
    with StoreWriter(undisturbed, provenance={}, flush_seconds=0) as writer:
        for index in range(4):
            writer.append(index, None, str(index), small(index))
        writer.finish()

    path, write = tmp_path / "store", atomic._write

    def run_out_of_space() -> None:
        with StoreWriter(path, provenance={}, flush_seconds=0) as writer:
            for index in range(4):
                monkeypatch.setattr(atomic, "_write", full if index == 2 else write)
                writer.append(index, None, str(index), small(index))

    with pytest.raises(StoreError, match="No space left on the disk of .*c.2.0; what is complete stays"):
        run_out_of_space()
    monkeypatch.setattr(atomic, "_write", write)
    assert not list(path.rglob("*.partial"))
    with StoreWriter(path, provenance={}, resume=True) as writer:
        assert writer.batches == 2
        writer.check(0, None, "0")
        writer.check(1, None, "1")
        for index in (2, 3):
            writer.append(index, None, str(index), small(index))
        writer.finish()
    for file in ("layers/00000_layer/c.0.0", "layers/00000_layer/c.4.0", "batches/c.0"):
        assert (path / file).read_bytes() == (undisturbed / file).read_bytes()


def test_a_full_disk_in_the_journal_takes_back_what_was_appended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal"
    batch = journal.Batch(2, ("a", "b"), "digest", (0,), (False,))
    journal.append_lines(path, [batch])
    before = path.read_bytes()

    class FullFile:
        """A raw file on a disk that fills up in the middle of a line."""

        def __init__(self, file: object) -> None:
            self.file = file
            self.full = False

        def write(self, data: bytes) -> int:
            if self.full:
                full()
            self.full = True
            return int(self.file.write(data[:7]))  # type: ignore[attr-defined]

        def __getattr__(self, name: str) -> object:
            return getattr(self.file, name)

        def __enter__(self) -> FullFile:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()  # type: ignore[attr-defined]

    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *a, **k: FullFile(opened(self, *a, **k)))
    with pytest.raises(StoreError, match="No space left"):
        journal.append_lines(path, [batch])
    monkeypatch.undo()
    assert path.read_bytes() == before


def test_a_full_disk_while_leaving_is_raised_unless_something_else_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(name: str, error: Exception | None) -> None:
        with StoreWriter(tmp_path / name, provenance={}) as writer:
            writer.append(0, None, "0", {"layer": Recorded(np.ones((3, 2)))})
            monkeypatch.setattr(atomic, "_write", full)
            if error is not None:
                raise error

    original = atomic._write
    with pytest.raises(StoreError, match="No space left"):
        write("a", None)
    monkeypatch.setattr(atomic, "_write", original)
    with pytest.raises(RuntimeError, match="model failed") as caught:
        write("b", RuntimeError("model failed"))
    assert "No space left" in caught.value.__notes__[0]
    monkeypatch.setattr(atomic, "_write", original)
    for name in ("a", "b"):  # neither stays locked
        with StoreWriter(tmp_path / name, provenance={}, resume=True) as writer:
            assert writer.batches == 0
