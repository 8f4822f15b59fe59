"""congruence extract: record what the layers of a model put out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from congruence.cli._terminal import console, plural, print_json, print_table, progress, resumable
from congruence.cli.layers import DATA_HELP, MODEL_HELP, WEIGHTS_HELP
from congruence.errors import OutputExistsError

if TYPE_CHECKING:
    from congruence.store import Activations

NAME = "extract"
EXAMPLES = """[bold]Examples[/bold]

The encoder layers of a text model, averaged over the tokens of each line:
  congruence extract hf:./my-bert --data sentences.txt --layers 'encoder.layer.?' --steps token_mean --out bert.zarr

Your own model and images, channels averaged over space:
  congruence extract py:my_models:resnet --data images/ --layers 'layer*' --steps spatial_mean --out resnet.zarr

Finish a run that was interrupted:
  congruence extract hf:./my-bert --data sentences.txt --layers 'encoder.layer.?' --steps token_mean --out bert.zarr --resume"""


def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="STORE", help="Folder of the store, such as bert.zarr.")],
    data: Annotated[
        str | None,
        typer.Option(metavar="DATA", help=f"{DATA_HELP} May be left out if the py: model comes with its batches."),
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option(
            "--layers",
            "-l",
            metavar="PATTERN",
            help="Layers to record: a name, a glob such as 'encoder.layer.*', or re:REGEX; repeatable. \\[default: all] "
            "See: congruence layers MODEL",
        ),
    ] = None,
    steps: Annotated[
        str | None,
        typer.Option(metavar="STEPS", help="What to do before writing, such as token_mean or spatial_mean."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Finish an interrupted run.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a store.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Stimuli in a batch.")] = 32,
    max_length: Annotated[
        int | None, typer.Option(min=1, help="Most tokens of a text. \\[default: what the model takes]")
    ] = None,
    device: Annotated[str | None, typer.Option(metavar="DEVICE", help="Such as cpu or cuda.")] = None,
    dtype: Annotated[
        str | None, typer.Option(metavar="TYPE", help="Store as float16, bfloat16, float32 or float64.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(metavar="FILE", help=WEIGHTS_HELP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Record what the layers of a model put out for every stimulus, batch by batch, into a store."""
    from congruence import extraction

    if not (resume or overwrite):
        _require_new(out)
    loaded = extraction.load_model(model, weights)
    source = _source(loaded, data, batch_size, max_length)
    with resumable(out), progress("Recording", "stimuli") as update:
        activations = extraction.extract(
            loaded.model,
            source.batches,
            layers or "*",
            steps,
            source.ids,
            out,
            resume,
            overwrite=overwrite,
            device=device,
            dtype=dtype,
            progress=None if update is None else _reporter(update, source),
            model_name=loaded.name,
            dataset=source.name,
        )
    if as_json:
        print_json(_as_json(activations, out))
    else:
        _show(activations, out)


def _require_new(out: Path) -> None:
    """Refuse a store that exists before the model is loaded, which can take long."""
    if out.is_dir() and any(out.iterdir()):
        message = f"{out} exists. Continue it with --resume, or replace it with --overwrite."
        raise OutputExistsError(message)


def _source(loaded: Any, data: str | None, batch_size: int, max_length: int | None) -> Any:
    """Return the stimuli: those asked for, or those the model came with."""
    from congruence import extraction

    if data is not None:
        return extraction.load_data(data, loaded, batch_size, max_length)
    if loaded.batches is None:
        message = f"{loaded.name} comes without batches. Give stimuli with --data."
        raise typer.BadParameter(message)
    return extraction.Data(loaded.batches, None, loaded.name)


def _reporter(update: Any, source: Any) -> Any:
    """Return a progress callback in stimuli; the total is known where the ids are."""
    total = None if source.ids is None else len(source.ids)
    return lambda _, stimuli: update(stimuli, total)


def _as_json(activations: Activations, out: Path) -> dict[str, Any]:
    layers = [
        {
            "name": name,
            "shape": list(activations.shape(name)),
            "dtype": str(activations.dtype(name)),
            "constant": activations.is_constant(name),
        }
        for name in activations
    ]
    return {"store": str(out), "n": activations.n, "layers": layers}


def _show(activations: Activations, out: Path) -> None:
    shown = console()
    rows = [(name, " x ".join(map(str, activations.shape(name))), str(activations.dtype(name))) for name in activations]
    shown.print(f"Recorded {plural(len(rows), 'layer')} for {plural(activations.n, 'stimulus', 'stimuli')}.\n")
    print_table(shown, ["layer", "shape", "type"], rows, "ntt")
    shown.print(f"\nStore: {out}", soft_wrap=True)
    constant = [name for name in activations if activations.is_constant(name)]
    if constant:
        shown.print(
            f"The same for every stimulus, so no similarity to it is defined: {', '.join(constant)}. With --on-error "
            "record its pairs count as failed (exit code 3) and all others are computed; --layers '!NAME' leaves it out.",
            soft_wrap=True,
        )
    more = " --on-error record" if constant else ""
    shown.print(
        f"Compare its layers: congruence compare {out} -m cka:estimator=debiased --out RUN{more}", soft_wrap=True
    )
