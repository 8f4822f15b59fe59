"""docs/benchmarks.md, made from the results on disk."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.measuring import Check, Result
from benchmarks.rows import ROWS, Row

NOTES = Path(__file__).with_name("notes.toml")

HEAD = """# Benchmarks

Made by `make bench` from what it measured; nothing here is typed by hand but the notes. Times are those of this machine on
that day: the ratios are what counts, and each is of two things measured in the same run."""


def write_page(folder: Path, out: Path) -> None:
    """Write the page of all results in a folder."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page(read(folder), notes()), "utf-8")


def read(folder: Path) -> dict[str, list[Result]]:
    """Return the results by row, in the order of the rows."""
    found = {row.name: [Result.read(path) for path in sorted((folder / row.name).glob("*.json"))] for row in ROWS}
    order = {row.name: row.names for row in ROWS}
    return {
        row: sorted(results, key=lambda r: order[r.row].index(r.name) if r.name in order[r.row] else len(order[r.row]))
        for row, results in found.items()
        if results
    }


def notes() -> dict[str, dict[str, str]]:
    """Return what is to be said about marks that are missed: the reason and what was tried, by row and measurement."""
    return tomllib.loads(NOTES.read_text("utf-8"))


def page(results: dict[str, list[Result]], said: dict[str, dict[str, str]]) -> str:
    """Return the page as Markdown."""
    everything = [result for row in results.values() for result in row]
    parts = [HEAD, _machines(everything), _marks(everything, said)]
    parts += [_section(row, results[row.name]) for row in ROWS if row.name in results]
    return "\n\n".join(parts) + "\n"


def _machines(results: Sequence[Result]) -> str:
    """Return on what and when it was measured."""
    machines = sorted({result.machine for result in results})
    dates = sorted({result.made[:10] for result in results})
    rates = [result.rate / 1e9 for result in results]
    lines = [f"- {machine}" for machine in machines]
    when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    lines.append(
        f"- {when}; float64 matrix product {min(rates):.0f} to {max(rates):.0f} GFLOP/s, measured beside every line"
    )
    return "\n".join(lines)


def _marks(results: Sequence[Result], said: dict[str, dict[str, str]]) -> str:
    """Return the table of marks, and what there is to say about those that are missed."""
    rows = [(result, check) for result in results for check in result.checks]
    missed = [(result, check) for result, check in rows if not check.met]
    lines = [f"## Marks\n\n{len(rows) - len(missed)} of {len(rows)} are met.\n"]
    lines += _table(
        ("row", "what", "mark", "measured", ""),
        (
            (result.row, f"`{result.name}`", _mark(check), f"**{number(check.got)}**", "met" if check.met else "MISSED")
            for result, check in rows
        ),
    )
    if missed:
        lines.append("\nMissed:\n")
        lines += [
            f"- {result.row}, `{result.name}`, {_mark(check)}: {number(check.got)}. "
            + said.get(result.row, {}).get(result.name, "No reason is known yet.")
            for result, check in missed
        ]
    return "\n".join(lines)


def _mark(check: Check) -> str:
    return f"{'at least' if check.at_least else 'at most'} {number(check.limit)} {check.what}"


def _section(row: Row, results: Sequence[Result]) -> str:
    """Return the table of a row."""
    names = list(dict.fromkeys(name for result in results for name in result.columns))
    lines = [f"## {row.title}\n\n{row.about}\n"]
    lines += _table(
        (*names, "GFLOP/s", "peak memory, GiB", "measured"),
        (
            (
                *(number(result.columns.get(name, "")) for name in names),
                f"{result.rate / 1e9:.0f}",
                f"{result.peak_bytes / 2**30:.2f}",
                result.made[:16],
            )
            for result in results
        ),
    )
    return "\n".join(lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def number(value: float | int | str) -> str:
    """Return a number as a page shows it."""
    if isinstance(value, str):
        return value.replace("|", "\\|")
    if isinstance(value, int):
        return f"{value:,}"
    if value != 0 and abs(value) < 1e-3:
        return f"{value:.0e}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
