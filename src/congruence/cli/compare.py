"""congruence compare: the main command."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from congruence.cli import _models, _summary
from congruence.cli._terminal import console, print_json, progress, resumable
from congruence.cli.layers import DATA_HELP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from congruence.api import Request
    from congruence.cli._gates import Gate, Scope, Verdict
    from congruence.engine import Mode, OnError
    from congruence.errors import Caveat
    from congruence.results import Comparison

NAME = "compare"
EXAMPLES = """[bold]Examples[/bold]

What did fine-tuning change, layer by layer?
  congruence compare base.zarr tuned.zarr -m cka:estimator=debiased -m procrustes --out run

How alike are all layers of one network? (one store only)
  congruence compare base.zarr -m cka --out run

Fail if a quantised copy has moved too far (exit code 1):
  congruence compare full.zarr int8.zarr -m cka --out run --fail-under cka=0.99

Two models in one pass, without storing anything:
  congruence compare hf:./base hf:./tuned --stream --data sentences.txt --layers 'encoder.layer.?' --out run

Finish a run that was interrupted:
  congruence compare base.zarr tuned.zarr -m cka --out run --resume"""


class PairChoice(StrEnum):
    """Which pairs to compute."""

    all = "all"
    matched = "matched"


class OnErrorChoice(StrEnum):
    """What a failing pair does."""

    raise_ = "raise"
    record = "record"


class GateChoice(StrEnum):
    """Which pairs the gates look at."""

    matched = "matched"
    all = "all"


def command(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A", help="Store, .npy, .npz, .safetensors, or a folder of them; with --stream hf:... or py:..."
        ),
    ],
    b: Annotated[
        str | None, typer.Argument(metavar="B", help="The other side. Without it A is compared with itself.")
    ] = None,
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="RUN", help="Folder for the result: page, table, everything.")
    ],
    measures: Annotated[
        list[str] | None,
        typer.Option(
            "--measure",
            "-m",
            metavar="MEASURE",
            help="A measure, such as cka or cka:kernel=rbf,estimator=debiased; repeatable. See: congruence measures. "
            "\\[default: cka:estimator=debiased and procrustes]",
        ),
    ] = None,
    pairs: Annotated[
        PairChoice, typer.Option(help="All pairs, or only layers of the same name on both sides.")
    ] = PairChoice.all,
    steps: Annotated[
        str | None,
        typer.Option(
            metavar="STEPS",
            help="How to make stimuli x features matrices, such as spatial_mean or token_mean,pca:components=50. By "
            "default images are flattened and tokens averaged.",
        ),
    ] = None,
    align: Annotated[
        bool, typer.Option("--align", help="Keep the stimuli that both sides have, matched by their ids.")
    ] = False,
    on_error: Annotated[
        OnErrorChoice | None,
        typer.Option(
            help="Stop at the first pair that fails, or record it and go on (exit code 3). \\[default: raise, with "
            "--stream record]"
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Finish an interrupted run.")] = False,
    update: Annotated[
        bool, typer.Option("--update", help="Add measures or representations to a run; the rest is kept.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run.")] = False,
    fail_under: Annotated[
        list[str] | None,
        typer.Option(metavar="MEASURE=VALUE", help="Gate: exit code 1 if a value is below this; repeatable."),
    ] = None,
    fail_over: Annotated[
        list[str] | None,
        typer.Option(metavar="MEASURE=VALUE", help="Gate: exit code 1 if a value is above this; repeatable."),
    ] = None,
    gate: Annotated[
        GateChoice | None,
        typer.Option(help="Pairs the gates look at. \\[default: matched, or all where no name is on both sides]"),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Memory budget, with --dask of each worker, such as 4GB. \\[default: half of the machine's]",
        ),
    ] = None,
    dask: Annotated[
        str | None,
        typer.Option(metavar="ADDR", help="Compute on Dask: local:4 for four workers here, or tcp://host:8786."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(metavar="DEVICE", help="Compute on cuda, cuda:1, ... \\[default: the CPU]"),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for prepared representations, which later runs read instead of preparing them again. "
            "\\[default: CONGRUENCE_CACHE_DIR, or congruence/states in your cache folder]",
        ),
    ] = None,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Keep no prepared representations and use none.")
    ] = False,
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE",
            help="Precision of the work, float32 or float64; with --stream the type to which activations are rounded.",
        ),
    ] = None,
    stream: Annotated[
        bool,
        typer.Option("--stream", help="A and B are models: compare them in one pass, by debiased cka batch by batch."),
    ] = False,
    data: Annotated[
        str | None,
        typer.Option(metavar="DATA", help=f"With --stream: {DATA_HELP} May be left out if A comes with its batches."),
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option(
            "--layers", "-l", metavar="PATTERN", help="With --stream: layers to compare, as in extract; repeatable."
        ),
    ] = None,
    layers_b: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="With --stream: layers of B, if its names differ.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=4, help="With --stream: stimuli in a batch. \\[default: 64]")
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(min=1, help="With --stream: most tokens of a text. \\[default: what the model takes]")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print how it would be computed and what it would cost, and stop.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON, and nothing else, on stdout.")
    ] = False,
) -> int:
    """Compare representations, every one of A with every one of B, and write a page, a table and the full result."""
    from congruence.cli import _gates
    from congruence.engine import require_writable_run

    mode = _mode(resume=resume, update=update, overwrite=overwrite)
    gates = [_gates.parse_gate(text, "under") for text in fail_under or ()]
    gates += [_gates.parse_gate(text, "over") for text in fail_over or ()]
    if cache is not None and no_cache:
        message = "--cache and --no-cache exclude each other; give one of them."
        raise typer.BadParameter(message)
    options = _models.ModelOptions(data, layers, layers_b, batch_size, max_length)
    unfit = {"align": align, "update": update, "memory": memory, "dask": dask, "cache": cache, "no-cache": no_cache}
    _models.check(a, b, options, stream=stream, others=unfit)
    require_writable_run(out, mode)
    asked: Scope | None = None if gate is None else gate.value
    if stream:
        failing: OnError = "record" if on_error is None else on_error.value
        streamed = _models.prepare(a, b, options, measures=measures, steps=steps, device=device, dtype=dtype)
        _gates.require_computed(gates, [streamed.work.cka.label])
        if explain:
            typer.echo(streamed.explain())
            return 0
        result = streamed.run(out, mode, pairs.value, failing)
        scope = _gates.scope_of(result.a, None if b is None else result.b, gates, asked)
        return _finish(result, (), gates, scope, out, within=b is None, as_json=as_json)
    request = _prepared(
        a, b, measures, pairs, steps, memory, dask, device, dtype, on_error or OnErrorChoice.raise_, align=align
    )
    plan = request.plan()
    if explain:
        typer.echo(str(plan))
        return 0
    _gates.require_computed(gates, [m.label for m in request.measures])
    scope = _gates.scope_of(request.names_a, None if request.b is None else request.names_b, gates, asked)
    result = _run(request, out, mode, None if no_cache else cache or "auto")
    return _finish(result, request.notes, gates, scope, out, within=request.b is None, as_json=as_json)


def _prepared(
    a: str,
    b: str | None,
    measures: list[str] | None,
    pairs: PairChoice,
    steps: str | None,
    memory: str | None,
    dask: str | None,
    device: str | None,
    dtype: str | None,
    on_error: OnErrorChoice,
    *,
    align: bool,
) -> Request:
    from congruence import api

    return api.prepare(
        a,
        b,
        measures or api.DEFAULT_MEASURES,
        pairs=pairs.value,
        steps=steps,
        align=align,
        on_error=on_error.value,
        memory=memory,
        executor=dask,
        device=device,
        dtype=dtype,
    )


def _finish(
    result: Comparison,
    notes: Sequence[Caveat],
    gates: Sequence[Gate],
    scope: Scope,
    out: Path,
    *,
    within: bool,
    as_json: bool,
) -> int:
    """Judge a result, print it, and return the exit code."""
    from congruence.cli import _gates

    verdicts = _gates.judge(result, gates, scope, within=within)
    if as_json:
        print_json(_as_json(result, notes, verdicts, out))
    else:
        _show(result, notes, verdicts, out, within=within)
    return _code(result, verdicts)


def _mode(*, resume: bool, update: bool, overwrite: bool) -> Mode:
    chosen: list[Mode] = []
    chosen += ["resume"] if resume else []
    chosen += ["update"] if update else []
    chosen += ["overwrite"] if overwrite else []
    if len(chosen) > 1:
        message = f"--{chosen[0]} and --{chosen[1]} exclude each other; give one of them."
        raise typer.BadParameter(message)
    return chosen[0] if chosen else "error"


def _run(request: Request, out: Path, mode: Mode, cache: Path | str | None) -> Comparison:
    """Compute; an interruption keeps what is done and says how to go on."""
    from congruence import api

    with resumable(out, update=mode == "update"), progress("Comparing", "pairs") as update:
        report = None if update is None else (lambda p: update(p.done, p.total, p.part, p.detail))
        return api.run(request, out, exists=mode, progress=report, cache=cache)


def _code(result: Comparison, verdicts: list[Verdict]) -> int:
    if len(result.failures()):
        return 3
    return 1 if any(verdict.offending for verdict in verdicts) else 0


def _as_json(result: Comparison, notes: Sequence[Caveat], verdicts: list[Verdict], out: Path) -> dict[str, object]:
    table = result.to_dataframe()
    rows = table.to_dict(orient="records")
    for row in rows:
        row["warnings"] = [vars(c) for c in result.caveats(row["measure"], row["a"], row["b"])]
    return {
        "run": str(out),
        "page": str(out / "report.html"),
        "measures": list(result.measures),
        "a": list(result.a),
        "b": list(result.b),
        "rows": rows,
        "gates": [verdict.to_dict() for verdict in verdicts],
        "notes": [vars(note) for note in notes],
        "failed": len(result.failures()),
        "exit_code": _code(result, verdicts),
    }


def _show(result: Comparison, notes: Sequence[Caveat], verdicts: list[Verdict], out: Path, *, within: bool) -> None:
    shown = console()
    _summary.show_numbers(shown, result, within=within)
    _summary.show_failures(shown, result)
    _summary.show_caveats(shown, notes, result)
    _summary.show_gates(shown, verdicts)
    _summary.show_files(shown, out)
