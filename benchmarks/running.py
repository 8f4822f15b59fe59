"""Make the measurements of a row, each kept as soon as it is made."""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from benchmarks.page import number
from benchmarks.rows import Row


def run_apart(row: Row, names: Sequence[str], out: Path, *, tiny: bool) -> bool:
    """Run measurements in a process of their own, whose memory they have to themselves; return whether all went well."""
    process = multiprocessing.get_context("spawn").Process(target=run, args=(row, names, out), kwargs={"tiny": tiny})
    process.start()
    process.join()
    return process.exitcode == 0


def run(row: Row, names: Sequence[str], out: Path, *, tiny: bool) -> None:
    """Make measurements, and save each as soon as it is made; one that fails is told, and the others go on."""
    failed = 0
    for done, name in enumerate(names, 1):
        try:
            with tempfile.TemporaryDirectory(prefix="congruence-bench-") as folder:
                result = row.measure(name, Path(folder), tiny=tiny)
        except Exception:
            print(f"  [{done}/{len(names)}] {name}: FAILED", flush=True)
            traceback.print_exc()
            failed += 1
            continue
        result.save(out)
        marks = "; ".join(
            f"{number(check.got)} {check.what} (mark {number(check.limit)}, {'met' if check.met else 'MISSED'})"
            for check in result.checks
        )
        print(f"  [{done}/{len(names)}] {name}: {marks or 'no mark'}", flush=True)
    sys.exit(1 if failed else 0)
