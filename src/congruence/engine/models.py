"""Compare two models without a store: one pass over both, all pairs of their layers by minibatch CKA."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal

from congruence import steps as _steps
from congruence.engine.job import OnError
from congruence.engine.minibatch import MinibatchCKA
from congruence.errors import CongruenceError, InputError, ParameterError, ShapeError
from congruence.extraction import model_fingerprint
from congruence.extraction.layout import Sequence
from congruence.extraction.recording import Kept, Treatment
from congruence.extraction.run import check_arguments, numbered, usable_device
from congruence.extraction.selection import Layers
from congruence.extraction.session import MasksSpec, Session
from congruence.extraction.stimuli import StimulusIds
from congruence.measures import CKA, Measure
from congruence.measures import measure as parse_measure
from congruence.representation import Ids
from congruence.results import Comparison

DEFAULT = "cka:estimator=debiased"


def compare_models(
    model_a: Any,
    model_b: Any | None,
    batches: Any,
    layers_a: Layers = "*",
    layers_b: Layers | None = None,
    *,
    batches_b: Any | None = None,
    steps: _steps.StepSpec = None,
    measure: str | Measure[Any] = DEFAULT,
    device: Any | None = None,
    masks: MasksSpec = "auto",
    batch_axis: Literal[0, 1] | None = None,
    on_error: OnError = "record",
    progress: Callable[[int, int], None] | None = None,
    model_names: tuple[str, str] = ("model_a", "model_b"),
) -> Comparison:
    """Compare all layers of two models on the same stimuli, in one pass and without storing activations.

    Every batch gives an unbiased estimate of HSIC for every pair of layers; debiased CKA is the ratio of their
    averages, and comes with a standard error. Shuffle the stimuli: batches that hold one kind of stimulus each say
    little about all.

    Parameters
    ----------
    model_a, model_b : torch.nn.Module
        The models; ``model_b=None`` compares the layers of the first with each other.
    batches : iterable
        What the models are called with, as in `extract`: 32 to 256 stimuli a batch.
    layers_a, layers_b : str, list of str, or callable
        Which layers, as in `extract`; `layers_b` is `layers_a` if None.
    batches_b : iterable, optional
        What the second model is called with, if it takes other inputs for the same stimuli (another tokeniser).
    steps : str, Step or list, optional
        How to make (n, p) matrices of what the layers put out; by default what their shape calls for, as in `compare`.
    measure : str or CKA
        A debiased CKA.
    device : str or torch.device, optional
        Where to run; by default where each model is.
    masks, batch_axis
        As in `extract`.
    on_error : {"record", "raise"}
        Whether layers that do not vary become failed pairs, or an error.
    progress : callable, optional
        Called with the numbers of batches and stimuli done.
    model_names : tuple of str
        What messages and the provenance call the models.

    Returns
    -------
    Comparison
        Layers in the order in which they fired; the data set also has ``standard_error``.

    Raises
    ------
    UnknownNameError
        If a pattern matches no layer.
    ShapeError
        If the two models do not get the same number of batches and stimuli.
    InputError
        If there is no batch of four stimuli, or an activation is NaN or infinite (named with model, layer and batch).
    ExtractionError
        If a model fails.
    """
    began = time.perf_counter()
    sides = _sides(model_a, model_b, layers_a, layers_b, steps, masks, batch_axis, device, model_names)
    sums = _accumulated(sides, batches, batches_b, _cka(measure), progress)
    seconds = time.perf_counter() - began
    chosen = _steps.parse_steps(steps)
    about = {
        "models": [side.described() for side in sides],
        "steps": None if chosen is None else [str(step) for step in chosen],
    }
    return sums.result(on_error=on_error, provenance=about, seconds=seconds)


@dataclass(frozen=True, eq=False)
class Side:
    """A model that is being recorded, and what messages call it."""

    name: str
    session: Session

    def activity(self, index: int, batch: Any) -> dict[str, Any]:
        """Run one batch; return what the layers put out as (n, p) arrays by name."""
        try:
            recorded = self.session.run(self.session.admit(index, batch))
        except CongruenceError as error:
            raise error.about(self.name) from error
        return {name: found.values for name, found in recorded.arrays.items()}

    def described(self) -> dict[str, Any]:
        """Return what the provenance says of the model."""
        model = self.session.model
        return {"name": self.name, "type": type(model).__name__, "fingerprint": model_fingerprint(model)}


class _Matrices(Treatment):
    """Makes an (n, p) matrix of every tensor, by the steps that its shape calls for."""

    def __call__(self, sequence: Sequence, ids: Ids) -> Kept:
        """Return a copy that no later operation of the model can change."""
        if sequence.values.ndim == 1:
            return Treatment()(Sequence(sequence.values[:, None]), ids)
        steps = _steps.default_steps(sequence.values.ndim, recurrent=sequence.recurrent)
        return Treatment(steps)(sequence, ids)


def accumulate_models(
    model_a: Any,
    model_b: Any | None,
    batches: Any,
    layers_a: Layers = "*",
    layers_b: Layers | None = None,
    *,
    batches_b: Any | None = None,
    steps: _steps.StepSpec = None,
    measure: str | Measure[Any] = DEFAULT,
    device: Any | None = None,
    masks: MasksSpec = "auto",
    batch_axis: Literal[0, 1] | None = None,
    progress: Callable[[int, int], None] | None = None,
    model_names: tuple[str, str] = ("model_a", "model_b"),
) -> MinibatchCKA:
    """Return the sums behind `compare_models`, to be merged with those of other processes before ``.result()``.

    Parameters and errors are those of `compare_models`.
    """
    sides = _sides(model_a, model_b, layers_a, layers_b, steps, masks, batch_axis, device, model_names)
    return _accumulated(sides, batches, batches_b, _cka(measure), progress)


def _cka(measure: str | Measure[Any]) -> CKA:
    """Return the measure, if it is one that can be averaged over batches."""
    found = parse_measure(measure)
    if not isinstance(found, CKA):
        message = f"Models are compared batch by batch with debiased cka only; got {found.label}. Extract the activations to compare them by it."
        raise ParameterError(message)
    return found


def _sides(
    model_a: Any,
    model_b: Any | None,
    layers_a: Layers,
    layers_b: Layers | None,
    steps: _steps.StepSpec,
    masks: MasksSpec,
    batch_axis: Literal[0, 1] | None,
    device: Any | None,
    names: tuple[str, str],
) -> list[Side]:
    """Return the one or two models, checked, with what to record of each."""
    chosen = _steps.parse_steps(steps)
    _steps.require_rowwise(chosen or (), "while a model is recorded")
    treatment = _Matrices() if chosen is None else Treatment(chosen)
    if model_b is None and layers_b is not None:
        message = "layers_b needs a second model; within one model all of layers_a are compared with each other."
        raise ParameterError(message)
    asked = [(names[0], model_a, layers_a)]
    if model_b is not None:
        asked.append((names[1], model_b, layers_a if layers_b is None else layers_b))
    sides = []
    for name, model, layers in asked:
        check_arguments(model, masks, batch_axis)
        session = Session(model, layers, treatment, StimulusIds(None), masks, batch_axis, usable_device(device))
        sides.append(Side(name, session))
    return sides


def _accumulated(
    sides: list[Side], batches: Any, batches_b: Any | None, measure: CKA, progress: Callable[[int, int], None] | None
) -> MinibatchCKA:
    """Run all batches through the models, whose hooks are gone afterwards whatever happens."""
    sums: MinibatchCKA | None = None
    with ExitStack() as stack:
        for side in sides:
            stack.enter_context(side.session.open())
        for index, inputs in _paired(sides, batches, batches_b):
            found = [side.activity(index, batch) for side, batch in zip(sides, inputs, strict=True)]
            if sums is None:
                for side in sides:
                    side.session.warn()
                names = [side.session.names for side in sides]
                models = (sides[0].name, sides[-1].name)
                sums = MinibatchCKA(*names, measure=measure, models=models)
            sums.update(*found)
            if progress is not None:
                progress(index + 1, sums.stimuli)
    if sums is None:
        message = "batches is empty. A generator can be read only once: give a list or a DataLoader instead."
        raise InputError(message)
    return sums


def _paired(sides: list[Side], batches: Any, batches_b: Any | None) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Yield the number of every batch with what each model is called with."""
    if batches_b is None:
        for index, batch in numbered(batches):
            yield index, (batch,) * len(sides)
        return
    if len(sides) == 1:
        message = "batches_b needs a second model."
        raise ParameterError(message)
    for first, second in zip_longest(numbered(batches), numbered(batches_b)):
        if first is None or second is None:
            index, short, long = (*second[:1], 0, 1) if first is None else (*first[:1], 1, 0)
            message = f"{sides[long].name} has more batches than {sides[short].name}, which has {index}. Both must get the same stimuli."
            raise ShapeError(message)
        yield first[0], (first[1], second[1])
