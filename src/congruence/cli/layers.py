"""congruence layers: the names that can be given to --layers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from congruence.cli._terminal import console, plural, print_json, print_table

if TYPE_CHECKING:
    from rich.console import Console

    from congruence.extraction import LayerRow, LoadedModel

NAME = "layers"
EXAMPLES = """[bold]Examples[/bold]

A model of Hugging Face transformers, in a folder or on the hub:
  congruence layers hf:./my-bert
  congruence layers hf:sentence-transformers/all-MiniLM-L6-v2

A model that your own function returns (my_models.py in this folder, def resnet(): ...):
  congruence layers py:my_models:resnet

With the shapes that the layers put out for the first lines of a file:
  congruence layers hf:./my-bert --data sentences.txt"""

MODEL_HELP = "hf:FOLDER or hf:NAME (Hugging Face), or py:MODULE:FUNCTION (a function that returns a torch.nn.Module)."
WEIGHTS_HELP = "Weights (.safetensors) for a py: model."
DATA_HELP = "Text file (a stimulus a line), FILE.csv:COLUMN\\[:IDCOLUMN], folder of images, or py:MODULE:FUNCTION."


def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    data: Annotated[str | None, typer.Option(metavar="DATA", help=f"Run one batch, to see shapes. {DATA_HELP}")] = None,
    weights: Annotated[Path | None, typer.Option(metavar="FILE", help=WEIGHTS_HELP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """List the layers of a model: the names to select them by, and what they are."""
    from congruence import extraction

    loaded = extraction.load_model(model, weights)
    batch = first_batch(loaded, data)
    rows = extraction.layer_table(loaded.model, batch)
    if as_json:
        print_json([vars(row) for row in rows])
        return
    shown = console()
    _print(shown, rows, with_shapes=batch is not None)
    repeated = [row for row in rows if row.aliases]
    for row in repeated:
        shown.print(f"{row.name} is also {', '.join(row.aliases)}", style="dim", soft_wrap=True)
    shown.print(
        f"\n{plural(len(rows), 'layer')}. Record some: congruence extract {model} --data FILE --layers '{_pattern(rows)}' --out STORE",
        soft_wrap=True,
    )


def first_batch(loaded: LoadedModel, data: str | None) -> Any:
    """Return the first batch of the data or of what the model came with, or None without either."""
    from congruence import extraction
    from congruence.extraction.inputs import iterate

    batches = loaded.batches if data is None else extraction.load_data(data, loaded, batch_size=2).batches
    return None if batches is None else next(iter(iterate(batches)), None)


def _print(shown: Console, rows: list[LayerRow], *, with_shapes: bool) -> None:
    heads = ["layer", "type", *(["output"] if with_shapes else []), "parameters"]
    cells = [
        (r.name, r.module_type, *([_shape(r)] if with_shapes else []), f"{r.parameters:,}" if r.parameters else "")
        for r in rows
    ]
    print_table(shown, heads, cells, "nttr" if with_shapes else "ntr")


def _shape(row: LayerRow) -> str:
    if row.shape is None:
        return "" if row.calls else "not called"
    sizes = " x ".join(["n", *map(str, row.shape[1:])])
    return f"{sizes}  ({row.calls} calls)" if row.calls and row.calls > 1 else sizes


def _pattern(rows: list[LayerRow]) -> str:
    """Return an example of a pattern for this model."""
    return rows[len(rows) // 2].name
