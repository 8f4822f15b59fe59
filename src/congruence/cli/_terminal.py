"""What the commands share: where text goes, tables, progress bars."""

from __future__ import annotations

import json
import math
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

WIDTH_OF_LOGS = 140
LEAST_TEXT = 24
"""Letters in a line of a column of text, below which it is hard to read."""


def console() -> Console:
    """Return where results go; names such as ``lstm[1]`` are printed as they are, control characters as escapes."""
    from rich.console import Console

    from congruence.results.markup import visible

    class Visible(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(visible(text), **options)

    terminal = sys.stdout.isatty()
    return Visible(markup=False, highlight=False, emoji=False, width=None if terminal else WIDTH_OF_LOGS)


def complain(message: str) -> None:
    """Print one error line on stderr."""
    note(f"error: {message}")


def note(message: str) -> None:
    """Print a remark on stderr."""
    from congruence.results.markup import visible

    print(f"congruence: {visible(on_command_line(message))}", file=sys.stderr)


_IN_PYTHON = (
    (re.compile(r"\b(resume|overwrite|align)=True\b"), r"--\1"),
    (re.compile(r"\bexists='(\w+)'"), r"--\1"),
    (re.compile(r"\bmeasures=\['([^']*)'\]"), r"-m \1"),
    (re.compile(r"\bon_error='(\w+)'"), r"--on-error \1"),
    (re.compile(r"\b(pairs|steps|device|dtype|memory)='([^']*)'"), r"--\1 \2"),
)


def on_command_line(text: str) -> str:
    """Return a message with the options that it names as Python does (``resume=True``) as they are given here."""
    for pattern, option in _IN_PYTHON:
        text = pattern.sub(option, text)
    return text


def print_json(value: Any) -> None:
    """Print JSON on stdout; numbers that JSON does not know become null."""
    print(json.dumps(_strict(value), indent=2, ensure_ascii=False))


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _strict(inside) for key, inside in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(inside) for inside in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def print_table(shown: Console, columns: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> None:
    """Print a table without frames.

    Parameters
    ----------
    shown : Console
        Where to.
    columns : sequence of str
        Headings; without any the table has no head. Long ones are broken where the terminal is narrow.
    rows : sequence of sequence of str
        Cells.
    align : str
        One letter a column: ``n`` a name, kept whole as long as there is room; ``t`` text; ``r`` a number, never cut: if there is no
        room for all, the table is printed in parts.
    """
    from congruence.results.markup import visible

    rows = [[visible(cell).replace("\n", "\\n") for cell in row] for row in rows]
    broken = [re.sub(r"([:,=])(?=\S)", r"\1\n", column) for column in columns]
    for heads in (columns, broken):
        made = _table(heads, rows, align)
        if _width(shown, made) <= shown.width or _folds(shown, rows, align):
            shown.print(made)
            return
    numbers = [place for place, kind in enumerate(align) if kind == "r"]
    if len(numbers) < 2:
        for line in (*([columns] if any(columns) else []), *rows):  # not even one number fits beside its name
            shown.print("  ".join(filter(None, line)), soft_wrap=True)
        return
    halves = numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :]
    for half in halves:
        kept = [place for place, kind in enumerate(align) if kind != "r" or place in half]
        cells = [[row[place] for place in kept] for row in rows]
        print_table(shown, [columns[place] for place in kept], cells, "".join(align[place] for place in kept))
        if half is halves[0]:
            shown.print()


def _folds(shown: Console, rows: Sequence[Sequence[str]], align: str) -> bool:
    """Return whether a table without numbers fits once its texts are broken into lines."""
    longest = (max((len(row[place]) for row in rows), default=0) for place in range(len(align)))
    least = sum(
        min(size, LEAST_TEXT) + 2 if kind == "t" else size + 2 for size, kind in zip(longest, align, strict=True)
    )
    return "r" not in align and least <= shown.width


def _width(shown: Console, made: Table) -> int:
    """Return how wide a table would be without limits."""
    from rich.measure import Measurement

    return Measurement.get(shown, shown.options.update(width=10_000), made).maximum


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    made = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, show_header=any(columns), padding=(0, 1, 0, 0))
    for place, (column, kind) in enumerate(zip(columns, align, strict=True)):
        longest = max((len(row[place]) for row in rows), default=0)
        least = {"n": min(longest, 32), "r": longest}.get(kind)
        made.add_column(column, justify="right" if kind == "r" else "left", overflow="fold", min_width=least)
    for row in rows:
        made.add_row(*row)
    return made


class Update(Protocol):
    """Updates a bar."""

    def __call__(self, done: int, total: int | None, part: float = 0.0, detail: str = "") -> None:
        """Say how much is done of all, how much of what is at hand, and what that is."""


@contextmanager
def progress(what: str, unit: str) -> Iterator[Update | None]:
    """Show a bar with a rate while the work goes on; yields what updates it, or None where nobody looks."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich import progress as bars
    from rich.console import Console

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.TextColumn("{task.fields[count]}"),
        bars.TextColumn("{task.fields[rate]}"),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(what, total=None, count="", rate="")

        def update(done: int, total: int | None, part: float = 0.0, detail: str = "") -> None:
            seconds = shown.tasks[0].elapsed or 0.0
            count = f"{done:,}/{total:,} {unit}" if total else f"{done:,} {unit}"
            rate = f"{done / seconds:,.1f} {unit}/s" if seconds > 0 else ""
            shown.update(task, completed=done + part, total=total, count=count, rate=detail or rate)

        yield update


@contextmanager
def resumable(out: Path, *, update: bool = False) -> Iterator[None]:
    """Turn an interruption into a line that says what is kept and how to go on, and exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        note(f"interrupted; what is done is kept in {out}. Go on with:")
        print(f"  {continuing(sys.argv[1:], update=update)}", file=sys.stderr)
        raise SystemExit(130) from None


def continuing(arguments: Sequence[str], *, update: bool = False) -> str:
    """Return the command that finishes an interrupted one."""
    kept = [argument for argument in arguments if argument not in {"--resume", "--overwrite", "--update"}]
    return shlex.join(["congruence", *kept, "--update" if update else "--resume"])


def plural(count: int, one: str, many: str = "") -> str:
    """Return a count with its noun."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
