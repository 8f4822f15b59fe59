"""compare --stream: two models, or one, in one pass, from text to results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from congruence.cli._terminal import progress, resumable

if TYPE_CHECKING:
    from congruence.engine import Mode, OnError, Pairs
    from congruence.engine.models import ModelPass
    from congruence.results import Comparison


@dataclass(frozen=True)
class ModelOptions:
    """Options that go with --stream only, as they were given."""

    data: str | None
    layers: list[str] | None
    layers_b: list[str] | None
    batch_size: int | None
    max_length: int | None

    def given(self) -> list[str]:
        """Return the names of those that were given."""
        return [f"--{name.replace('_', '-')}" for name, value in vars(self).items() if value is not None]


def is_model(spec: str | None) -> bool:
    """Return whether an argument names a model."""
    return spec is not None and spec.startswith(("hf:", "py:"))


def check(a: str, b: str | None, options: ModelOptions, *, stream: bool, others: Mapping[str, object]) -> None:
    """Refuse what does not go together: models without --stream, or --stream with what needs stored activations.

    Raises
    ------
    typer.BadParameter
        The message says what to do.
    """
    if not stream:
        for model in filter(is_model, (a, b)):
            message = f"{model} is a model. Compare models in one pass with --stream --data DATA, or record it first: congruence extract {model} --data DATA --out STORE"
            raise typer.BadParameter(message)
        if options.given():
            message = f"{options.given()[0]} goes with models and --stream; what is stored has its layers and stimuli already."
            raise typer.BadParameter(message)
        return
    for source in (a, b):
        if source is not None and not is_model(source):
            message = f"--stream compares models (hf:..., py:...), and {source} is none. Leave --stream out: stores that are too large for the memory are read in parts anyway."
            raise typer.BadParameter(message)
    if b is None and options.layers_b is not None:
        message = "--layers-b names layers of B, and there is no B; --layers alone says which layers of A are compared."
        raise typer.BadParameter(message)
    for name, value in others.items():
        if value not in (None, False):
            message = f"--{name} has no effect with --stream; leave it out."
            raise typer.BadParameter(message)


@dataclass(frozen=True, eq=False)
class Streamed:
    """A pass over models that is ready to run, and how many stimuli it will see, if that is known."""

    work: ModelPass
    stimuli: int | None

    def explain(self) -> str:
        """Return how it is computed."""
        work = self.work
        sides = " with ".join(work.model_names[: 1 if work.model_b is None else 2])
        count = "all" if self.stimuli is None else f"{self.stimuli:,}"
        return (
            f"one pass over {sides}: {count} stimuli, batch by batch\n"
            f"{work.cka.label}\n"
            "  form   minibatch sums: every batch gives an unbiased HSIC for all pairs of layers, which may be averaged\n"
            "  memory what one batch puts out, and five numbers a pair of layers"
        )

    def run(self, out: Path, mode: Mode, pairs: Pairs, on_error: OnError) -> Comparison:
        """Compute; an interruption keeps the sums and says how to go on."""
        from congruence.api.models import run_models

        with resumable(out), progress("Comparing", "stimuli") as update:
            report = None if update is None else (lambda _, stimuli: update(stimuli, self.stimuli))
            return run_models(self.work, out, pairs=pairs, exists=mode, on_error=on_error, progress=report)


def prepare(
    a: str,
    b: str | None,
    options: ModelOptions,
    *,
    measures: list[str] | None,
    steps: str | None,
    device: str | None,
    dtype: str | None,
) -> Streamed:
    """Load the models and open the stimuli; every model gets them in the form that it takes."""
    from congruence import extraction
    from congruence.engine.models import DEFAULT, ModelPass

    if measures is not None and len(measures) > 1:
        message = "--stream computes one measure, a debiased cka. Extract the activations to compare them by several."
        raise typer.BadParameter(message)
    loaded = [extraction.load_model(spec) for spec in (a, b) if spec is not None]
    batches, stimuli = _batches(loaded, options)
    names = [model.name for model in loaded]
    if len(set(names)) < len(names):
        names = [f"{name} ({side})" for name, side in zip(names, "AB", strict=True)]
    work = ModelPass(
        loaded[0].model,
        loaded[1].model if b is not None else None,
        batches[0],
        options.layers or "*",
        options.layers_b if b is not None else None,
        batches[1] if len(batches) > 1 else None,
        steps,
        measures[0] if measures else DEFAULT,
        device,
        dtype,
        model_names=(names[0], names[-1]),
    )
    return Streamed(work, stimuli)


def _batches(loaded: list[Any], options: ModelOptions) -> tuple[list[Any], int | None]:
    """Return the batches of every model, or those that all share, and the number of stimuli if it is known."""
    from congruence import extraction

    if options.data is None:
        own = [model.batches for model in loaded if model.batches is not None]
        if not own:
            message = f"{loaded[0].name} comes without batches. Give stimuli with --data."
            raise typer.BadParameter(message)
        return own, None
    shared = options.data.startswith("py:")  # one function makes them for both, perhaps anew at every call
    size = options.batch_size or BATCH_SIZE
    found = [
        extraction.load_data(options.data, model, size, options.max_length) for model in loaded[: 1 if shared else 2]
    ]
    return [data.batches for data in found], None if found[0].ids is None else len(found[0].ids)


BATCH_SIZE = 64
"""Larger batches give less noise a stimulus; smaller ones take less memory."""
