"""congruence compare: the main command."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from congruence.cli import _summary
from congruence.cli._terminal import console, print_json, progress, resumable

if TYPE_CHECKING:
    from congruence.api import Request
    from congruence.cli._gates import Verdict
    from congruence.engine import Mode
    from congruence.results import Comparison

NAME = "compare"
EXAMPLES = """[bold]Examples[/bold]

What did fine-tuning change, layer by layer?
  congruence compare base.zarr tuned.zarr -m cka:estimator=debiased -m procrustes --out run

How alike are all layers of one network? (one store only)
  congruence compare base.zarr -m cka --out run

Fail if a quantised copy has moved too far (exit code 1):
  congruence compare full.zarr int8.zarr -m cka --out run --fail-under cka=0.99

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
    a: Annotated[str, typer.Argument(metavar="A", help="Store, .npy, .npz, .safetensors, or a folder of them.")],
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
        OnErrorChoice, typer.Option(help="Stop at the first pair that fails, or record it and go on (exit code 3).")
    ] = OnErrorChoice.raise_,
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
        typer.Option(metavar="SIZE", help="Memory budget, such as 4GB. \\[default: half of the machine's]"),
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
    explain: Annotated[
        bool, typer.Option("--explain", help="Print how it would be computed and what it would cost, and stop.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON, and nothing else, on stdout.")
    ] = False,
) -> int:
    """Compare representations, every one of A with every one of B, and write a page, a table and the full result."""
    from congruence import api
    from congruence.cli import _gates
    from congruence.engine import require_writable_run

    mode = _mode(resume=resume, update=update, overwrite=overwrite)
    gates = [_gates.parse_gate(text, "under") for text in fail_under or ()]
    gates += [_gates.parse_gate(text, "over") for text in fail_over or ()]
    require_writable_run(out, mode)
    if cache is not None and no_cache:
        message = "--cache and --no-cache exclude each other; give one of them."
        raise typer.BadParameter(message)
    request = api.prepare(
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
    )
    plan = request.plan()
    if explain:
        typer.echo(str(plan))
        return 0
    scope = _gates.scope_of(request, gates, None if gate is None else gate.value)
    result = _run(request, out, mode, None if no_cache else cache or "auto")
    verdicts = _gates.judge(result, gates, scope, within=request.b is None)
    if as_json:
        print_json(_as_json(request, result, verdicts, out))
    else:
        _show(request, result, verdicts, out)
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
        report = None if update is None else (lambda p: update(p.done, p.total))
        return api.run(request, out, exists=mode, progress=report, cache=cache)


def _code(result: Comparison, verdicts: list[Verdict]) -> int:
    if len(result.failures()):
        return 3
    return 1 if any(verdict.offending for verdict in verdicts) else 0


def _as_json(request: Request, result: Comparison, verdicts: list[Verdict], out: Path) -> dict[str, object]:
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
        "notes": [vars(n) for n in request.notes],
        "failed": len(result.failures()),
        "exit_code": _code(result, verdicts),
    }


def _show(request: Request, result: Comparison, verdicts: list[Verdict], out: Path) -> None:
    shown = console()
    _summary.show_numbers(shown, request, result)
    _summary.show_failures(shown, result)
    _summary.show_caveats(shown, request.notes, result)
    _summary.show_gates(shown, verdicts)
    _summary.show_files(shown, out)
