"""congruence report: write the page of a run again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

NAME = "report"
EXAMPLES = """[bold]Examples[/bold]

  congruence report run
  congruence report run --out page.html"""


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder written by congruence compare.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Where to write. \\[default: RUN/report.html]")
    ] = None,
) -> None:
    """Write the page of a finished comparison: heatmaps, layer curves, warnings, measures, provenance."""
    from congruence import api

    page = out or (run if run.is_dir() and run.suffix != ".zarr" else run.parent) / "report.html"
    api.report(api.load(run), page)
    print(page)
