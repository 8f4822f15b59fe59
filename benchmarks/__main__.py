"""Run the benchmarks, and make docs/benchmarks.md of what they measured.

    python -m benchmarks [--row 8385 ...] [--measure cka ...] [--again] [--out FOLDER] [--page docs/benchmarks.md]

Every measurement is kept as a file as soon as it is made, so a run that was interrupted goes on where it was; `--again`
measures once more. `--page-only` measures nothing. `--tiny` runs everything on sizes that say nothing about speed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measuring import Result, place
from benchmarks.page import write_page
from benchmarks.rows import ROWS, Row
from benchmarks.running import run_apart

RESULTS, PAGE = Path(__file__).parent / "results", Path(__file__).parents[1] / "docs" / "benchmarks.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0, or 1 if something failed or values disagreed (a mark that is missed is no failure)."""
    options = _parsed(arguments)
    start, failed = time.perf_counter(), []
    for row in (row for row in ROWS if row.name in options.row and not options.page_only):
        names = [name for name in row.names if options.measure is None or name in options.measure]
        if row.lacking:
            print(f"{row.name}: left out, {', '.join(row.lacking)} is not installed", flush=True)
        elif todo := _missing(row, names, options.out, again=options.again):
            print(f"{row.name}: {row.title} ({time.perf_counter() - start:.0f} s so far)", flush=True)
            failed += [] if run_apart(row, todo, options.out, tiny=options.tiny) else [row.name]
    if any(options.out.glob("*/*.json")):
        write_page(options.out, options.page)
        print(f"{options.page}; {time.perf_counter() - start:.0f} s", flush=True)
    if failed:
        print(f"FAILED: {', '.join(failed)}; the messages are above", file=sys.stderr)
    return 1 if failed else 0


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = [row.name for row in ROWS]
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--row", action="append", choices=names, help="rows to run; all by default")
    parser.add_argument("--measure", action="append", help="measurements to run; all of a row by default")
    parser.add_argument("--again", action="store_true", help="measure what was measured before, too")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--page", type=Path, help="page to write; docs/benchmarks.md, beside --out if that is given")
    parser.add_argument("--page-only", action="store_true", help="only make the page")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, to see that everything runs; needs --out")
    options = parser.parse_args(arguments)
    options.row = options.row or names
    if options.tiny and options.out == RESULTS:
        parser.error("--tiny needs --out, so that its results are not taken for real ones")
    options.page = options.page or (PAGE if options.out == RESULTS else options.out / "benchmarks.md")
    return options


def _missing(row: Row, names: Sequence[str], out: Path, *, again: bool) -> list[str]:
    """Return what has not been measured yet; say what has."""
    known = [] if again else [name for name in names if place(out, row.name, name).exists()]
    for name in known:
        result = Result.read(place(out, row.name, name))
        print(f"{row.name} {name}: kept, measured {result.made[:16]}", flush=True)
    return [name for name in names if name not in known]


if __name__ == "__main__":
    sys.exit(main())
