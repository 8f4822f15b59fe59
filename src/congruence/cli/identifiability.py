"""congruence identifiability: two models from their embeddings and unembeddings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from congruence.cli._terminal import console, print_json, print_table

if TYPE_CHECKING:
    from rich.console import Console

    from congruence.identifiability import Identifiability
    from congruence.representation import Representation

NAME = "identifiability"
EXAMPLES = """[bold]Examples[/bold]

Embeddings (inputs x M) and unembeddings (labels x M) of two models, as files of arrays:
  congruence identifiability f1.npy g1.npy f2.npy g2.npy

Arrays inside files are named after a colon; the sets of the paper can be fixed:
  congruence identifiability a.npz:f a.npz:g b.npz:f b.npz:g --label-pivot 3 --left-out-label none --json

Two language models with one tokeniser, or two checkpoints of one, on texts:
  congruence identifiability hf:gpt-a hf:gpt-b --data texts.txt"""

ROWS = (
    ("kl", "KL divergence, p from p' (nats)"),
    ("kl_reverse", "KL divergence, p' from p"),
    ("jsd", "Jensen-Shannon divergence"),
    ("total_variation", "total variation"),
    ("disagreement", "other most likely label"),
    ("d_logit", "logit distance"),
    ("d_llv", "d_LLV"),
    ("t1", "  over the inputs"),
    ("t2", "  over the labels"),
    ("m_cca_f", "mean canonical correlation of f"),
    ("m_cca_g", "mean canonical correlation of g"),
    ("d_svd_f", "d_SVD of Lᵀf"),
    ("d_svd_g", "d_SVD of Nᵀg"),
    ("d_fg", "d_fg"),
    ("bound", "its bound 2 M d_LLV"),
)


def command(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="F1 G1 F2 G2",
            help="Embeddings (n x M) and unembeddings (K x M) of two models; or two models, hf:... or py:..., with --data.",
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option("--data", help="What two models are run on: a file of texts, a folder of images, py:..."),
    ] = None,
    head: Annotated[
        str | None, typer.Option("--head", help="Name of the models' last linear layer. \\[default: found]")
    ] = None,
    max_inputs: Annotated[
        int, typer.Option("--max-inputs", help="Stop after so many inputs (tokens) of a model.")
    ] = 10_000,
    lam: Annotated[float, typer.Option("--lam", help="Weight of the differences of scale in d_LLV.")] = 1e-5,
    input_sets: Annotated[int, typer.Option("--input-sets", help="Input sets to try.")] = 100,
    seed: Annotated[int, typer.Option("--seed", help="Of the input sets and of sampled searches.")] = 0,
    label_pivot: Annotated[
        int | None, typer.Option("--label-pivot", help="The pivot label. \\[default: the best]")
    ] = None,
    left_out_label: Annotated[
        str | None,
        typer.Option("--left-out-label", metavar="LABEL|none", help="The label left out. \\[default: the best]"),
    ] = None,
    input_set: Annotated[
        str | None,
        typer.Option("--input-set", metavar="I,J,...", help="M + 1 inputs, the pivot first. \\[default: the best]"),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write the result as JSON.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> None:
    """Say how close two models softmax(f·g) are as distributions and as representations, and what bounds what."""
    options: dict[str, Any] = {
        "lam": lam,
        "n_input_sets": input_sets,
        "seed": seed,
        "label_pivot": label_pivot,
        "left_out_label": _left_out(left_out_label),
        "input_set": _members(input_set),
    }
    if data is None:
        result = _compare_arrays(sources, options)
    else:
        result = _compare_models(sources, data, {"head": head, "max_inputs": max_inputs, **options})
    if out is not None:
        result.save(out)
    if as_json:
        print_json(result.to_dict())
    else:
        _show(console(), result)


def _compare_arrays(sources: list[str], options: dict[str, Any]) -> Identifiability:
    from congruence import identifiability

    if len(sources) != 4:
        message = f"expected four arrays, F1 G1 F2 G2 (or two models with --data); got {len(sources)}."
        raise typer.BadParameter(message)
    f1, g1, f2, g2 = map(_read, sources)
    return identifiability.compare(f1, g1, f2, g2, **options)


def _compare_models(sources: list[str], data: str, options: dict[str, Any]) -> Identifiability:
    from congruence import identifiability

    if len(sources) != 2:
        message = f"--data goes with two models, hf:... or py:...; got {len(sources)} arguments."
        raise typer.BadParameter(message)
    return identifiability.compare_heads(sources[0], sources[1], data, **options)


def _read(source: str) -> Representation:
    """Return the one array of a file, or the one that is named after a colon."""
    from congruence.errors import InputError
    from congruence.store import open_source

    path, colon, name = source.rpartition(":")
    if not colon or Path(source).exists():
        path, name = source, ""
    found = open_source(path)
    if name:
        return found[name]
    if len(found) != 1:
        message = f"{path} holds {len(found)} arrays; name one of them: {path}:{next(iter(found), 'NAME')}."
        raise InputError(message)
    return next(iter(found.values()))


def _left_out(text: str | None) -> Any:
    if text is None:
        return ...
    return None if text.lower() == "none" else _integer(text, "--left-out-label")


def _members(text: str | None) -> list[int] | None:
    return None if text is None else [_integer(part, "--input-set") for part in text.split(",")]


def _integer(text: str, option: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        message = f"'{text}' is not a whole number."
        raise typer.BadParameter(message, param_hint=option) from error


def _show(shown: Console, result: Identifiability) -> None:
    rows = [(label, f"{getattr(result, name):.6g}") for name, label in ROWS]
    print_table(shown, ["", "value"], rows, "nr")
    shown.print()
    for line in result.explain().splitlines():
        if not line.startswith("Read with care"):  # those went to stderr as warnings
            shown.print(line, soft_wrap=True)
