"""congruence inspect: what a store holds, and whether every byte is as it was written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from congruence.cli._terminal import console, plural, print_json, print_table, progress
from congruence.errors import CorruptStoreError

if TYPE_CHECKING:
    from congruence.store import StoreReport

NAME = "inspect"
EXAMPLES = """[bold]Example[/bold]

  congruence inspect bert.zarr"""


def command(
    store: Annotated[str, typer.Argument(metavar="STORE", help="A store written by congruence extract.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Show the layers of a store and check every chunk against its checksum (exit code 2 if one is wrong)."""
    from congruence import store as stores

    with progress("Checking", "chunks") as update:
        report = stores.inspect(store, update)
    if as_json:
        print_json(report.to_dict())
    else:
        _show(report)
    if not report.ok:
        more = f" ({len(report.problems) - 1} more problems above)" if len(report.problems) > 1 else ""
        message = f"{report.problems[0]}{more}"
        raise CorruptStoreError(message)


def _show(report: StoreReport) -> None:
    shown = console()
    state = "complete" if report.complete else "unfinished: go on with the same command and --resume"
    shown.print(f"{report.path}  (format {report.format_version}, {state})", soft_wrap=True)
    shown.print(
        f"model {report.model or 'unknown'}, {plural(report.n, 'stimulus', 'stimuli')} in {plural(report.batches, 'batch', 'batches')}, {report.bytes / 1e6:,.1f} MB\n"
    )
    rows = [
        (r.name, " x ".join(map(str, r.shape)), r.dtype, "with mask" if r.mask else "", r.status) for r in report.layers
    ]
    print_table(shown, ["layer", "shape", "type", "", "state"], rows, "ntttt")
    for problem in report.problems:
        shown.print(f"  {problem}", style="red", soft_wrap=True)
