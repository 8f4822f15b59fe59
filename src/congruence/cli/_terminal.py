"""What the commands share: where text goes, tables, progress bars."""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console
    from rich.table import Table

WIDTH_OF_LOGS = 140


def console() -> Console:
    """Return where results go; names such as ``lstm[1]`` are printed as they are."""
    from rich.console import Console

    terminal = sys.stdout.isatty()
    return Console(markup=False, highlight=False, emoji=False, width=None if terminal else WIDTH_OF_LOGS)


def complain(message: str) -> None:
    """Print one error line on stderr."""
    print(f"congruence: error: {message}", file=sys.stderr)


def note(message: str) -> None:
    """Print a remark on stderr."""
    print(f"congruence: {message}", file=sys.stderr)


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


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, numeric: int = 0, title: str = "") -> Table:
    """Return a table without frames; the last `numeric` columns are aligned to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    made = Table(
        box=SIMPLE_HEAD,
        title=title or None,
        title_justify="left",
        pad_edge=False,
        show_edge=False,
        show_header=any(columns),
    )
    for place, column in enumerate(columns):
        right = place >= len(columns) - numeric
        made.add_column(column, justify="right" if right else "left", no_wrap=right, overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


@contextmanager
def progress(what: str, unit: str) -> Iterator[Callable[[int, int | None], None] | None]:
    """Show a bar with a rate while the work goes on; yields a callable of (done, total), or None where nobody looks."""
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

        def update(done: int, total: int | None) -> None:
            seconds = shown.tasks[0].elapsed or 0.0
            count = f"{done:,}/{total:,} {unit}" if total else f"{done:,} {unit}"
            rate = f"{done / seconds:,.1f} {unit}/s" if seconds > 0 else ""
            shown.update(task, completed=done, total=total, count=count, rate=rate)

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
