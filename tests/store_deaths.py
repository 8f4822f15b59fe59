"""Writers that die at a chosen or a random moment, and what a resumed run makes of what they leave.

Runs as a script in a process of its own, because it forks (safe only without threads): ``store_deaths.py HOW N FOLDER``
kills N times at random moments, or at every N-th file operation (``flushed``: commits after every batch; ``buffered``).
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from congruence.store import Activations, Recorded, StoreWriter, atomic, journal, layout

ROWS = (5, 3, 8, 1, 7, 6, 4, 9, 2, 5)
LENGTHS = (9, 4, 21, 9, 30, 3, 12, 40, 7, 9)
# Several blocks of stimuli and of positions, and batches that end inside a block.
layout._CHUNK_BYTES, layout._MOST_ROWS, layout._MASK_SPAN = 2**12, 8, 16
# What was written survives the death of a process without it, and it is most of the time on a busy disk.
os.fsync = lambda descriptor: None


def batches() -> Iterator[tuple[list[str], str, dict[str, Recorded]]]:
    rng = np.random.default_rng(5)
    first = 0
    for rows, length in zip(ROWS, LENGTHS, strict=True):
        values = rng.normal(size=(rows, length, 6)).astype(np.float32)
        mask = np.arange(length) < rng.integers(1, length + 1, size=(rows, 1))
        layers = {
            "encoder/layer.0[1]": Recorded(values, mask),
            "pooled": Recorded(rng.normal(size=(rows, 40))),
            "rnn": Recorded(rng.normal(size=(rows, 10, 3)).astype(np.float16), recurrent=True),
            "counts": Recorded(rng.integers(0, 99, size=(rows, 2, 2, 2))),
        }
        yield [f"s{first + i}" for i in range(rows)], f"digest{first}", layers
        first += rows


def run(path: Path, pause: float = 0.0, flush_seconds: float = 0.0) -> int:
    """Write or resume the store; return how many batches were there."""
    with StoreWriter(path, provenance={"model": "m"}, resume=True, flush_seconds=flush_seconds) as writer:
        done = writer.batches
        for index, (ids, digest, layers) in enumerate(batches()):
            if index < done:
                writer.check(index, ids, digest)
            else:
                writer.append(index, ids, digest, layers)
                time.sleep(pause)
        writer.finish()
    return done


def contents(path: Path) -> dict[str, bytes]:
    """Return every chunk, the journal and the content hashes."""
    found = {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}
    return {name: data for name, data in found.items() if not name.endswith(("zarr.json", ".lock"))}


def hashes(path: Path) -> dict[str, str | None]:
    acts = Activations(path)
    return {name: acts.content_hash(name) for name in acts}


def in_child(task: Callable[[], object], after: float | None = None) -> int:
    """Run a task in a fork, killed `after` some seconds; return its status (0: it finished)."""
    child = os.fork()
    if child == 0:
        task()
        os._exit(0)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def die_at(operation: int, when: str, path: Path, flush_seconds: float) -> None:
    """Run, and die in the middle of a file operation or right after it; writes, renames and appends are counted."""
    count = -1

    def counted(function: Callable[..., object], half: Callable[..., object]) -> Callable[..., object]:
        def replacement(*arguments: object) -> object:
            nonlocal count
            count += 1
            if count == operation and when == "middle":
                half(*arguments)
                os._exit(9)
            result = function(*arguments)
            if count == operation:
                os._exit(9)
            return result

        return replacement

    def half_file(file: Path, parts: tuple[bytes, ...], durable: bool) -> None:
        whole = b"".join(bytes(part) for part in parts)
        file.write_bytes(whole[: len(whole) // 2])

    def half_lines(file: Path, lines: list[journal.Batch]) -> None:
        with file.open("ab") as stream:
            stream.write(journal.render(lines)[:-20])

    atomic._write = counted(atomic._write, half_file)
    journal.append_lines = counted(journal.append_lines, half_lines)
    Path.replace = counted(Path.replace, lambda *_: None)  # type: ignore[method-assign]
    run(path, flush_seconds=flush_seconds)


def at_operations(folder: Path, flush_seconds: float, step: int) -> dict[str, object]:
    run(folder / "undisturbed", flush_seconds=flush_seconds)
    expected, expected_hashes = contents(folder / "undisturbed"), hashes(folder / "undisturbed")
    deaths, wrong, resumed = 0, [], set()
    for start, when in enumerate(("middle", "after")):
        operation = start * step // 2
        while True:
            path = folder / f"{when}{operation}"
            if in_child(lambda: die_at(operation, when, path, flush_seconds)) == 0:  # noqa: B023 (runs at once)
                break
            deaths += 1
            resumed.add(run(path, flush_seconds=flush_seconds))
            if contents(path) != expected or hashes(path) != expected_hashes:
                wrong.append(path.name)
            operation += step
    return {"deaths": deaths, "wrong": wrong, "resumed": sorted(resumed)}


def at_random_moments(folder: Path, kills: int) -> dict[str, object]:
    began = time.monotonic()
    run(folder / "undisturbed", pause=0.004)
    duration = time.monotonic() - began
    expected, expected_hashes = contents(folder / "undisturbed"), hashes(folder / "undisturbed")
    rng = random.Random(3)
    killed, wrong, seen = 0, [], set()
    while killed < kills:
        path = folder / f"store{killed}"
        for _ in range(4):  # several deaths of one run
            status = in_child(lambda: run(path, pause=0.004), after=rng.uniform(0.0, 0.5 * duration))  # noqa: B023
            killed += os.WIFSIGNALED(status)
            lines = path / journal.JOURNAL_FILE
            seen.add(len(journal.parse(lines.read_bytes())[0]) if lines.exists() else 0)
        run(path)
        if contents(path) != expected or hashes(path) != expected_hashes:
            wrong.append(path.name)
    return {"deaths": killed, "wrong": wrong, "resumed": sorted(seen)}


if __name__ == "__main__":
    how, number, where = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    if how == "random":
        report = at_random_moments(where, kills=number)
    else:
        report = at_operations(where, 0.0 if how == "flushed" else 60.0, step=number)
    sys.stdout.write(json.dumps(report))
