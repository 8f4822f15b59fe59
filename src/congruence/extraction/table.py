"""The layers of a model, as a table: what can be selected, and what it puts out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from congruence.extraction.fingerprint import require_initialised
from congruence.extraction.hooks import device_of, listening, undisturbed
from congruence.extraction.inputs import call_model, count, moved
from congruence.extraction.layout import stimuli_first, stimulus_axis, time_first_modules
from congruence.extraction.naming import NamedModule, Path, label, named_modules, runnable
from congruence.extraction.recording import unusable


@dataclass(frozen=True)
class LayerRow:
    """One line of the table: a module, or one more output of it.

    Parameters
    ----------
    name : str
        Name to select it by, and of its representation.
    module_type : str
        Class of the module.
    parameters : int
        Number of parameters of the module and what is inside it; 0 for further outputs of a module.
    shape : tuple of int, optional
        Shape of the output for the example batch, stimuli on axis 0; None without a batch, or without an output.
    calls : int, optional
        How often the module is called in one forward; None without a batch.
    aliases : tuple of str
        Further paths of the same module, which select it too.
    """

    name: str
    module_type: str
    parameters: int
    shape: tuple[int, ...] | None = None
    calls: int | None = None
    aliases: tuple[str, ...] = ()


def layer_table(model: nn.Module, example_batch: Any = None) -> list[LayerRow]:
    """Return the layers of a model in definition order, the model's own output last.

    Parameters
    ----------
    model : torch.nn.Module
        Any module; wrappers are looked through.
    example_batch : tensor, tuple or mapping, optional
        What the model takes. With it the table has shapes, calls, and a row for every output of a module with several.

    Returns
    -------
    list of LayerRow
        One row per module, followed by one per further output.

    Raises
    ------
    ExtractionError
        If the model fails on the batch.
    """
    require_initialised(model)
    modules = named_modules(model)
    if example_batch is None:
        return [_row(named) for named in modules]
    shapes, calls = _run_once(runnable(model), modules, example_batch)
    rows = []
    for named in modules:
        outputs = shapes.get(named.name, {})
        rows.append(_row(named, outputs.pop(named.name, None), calls[named.name]))
        rows += [
            LayerRow(name, type(named.module).__name__, 0, shape, calls[named.name]) for name, shape in outputs.items()
        ]
    return rows


def _row(named: NamedModule, shape: tuple[int, ...] | None = None, calls: int | None = None) -> LayerRow:
    size = sum(parameter.numel() for parameter in named.module.parameters())
    return LayerRow(named.name, type(named.module).__name__, size, shape, calls, named.aliases)


def _run_once(
    model: nn.Module, modules: list[NamedModule], batch: Any
) -> tuple[dict[str, dict[str, tuple[int, ...]]], Counter[str]]:
    """Run the model on one batch; return the shapes of the outputs by module and name, and the calls by module."""
    batch = moved(batch, device_of(model))
    taken = {named.name for named in modules}
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}

    def receive(named: NamedModule, call: int, path: Path, output: Tensor | PackedSequence) -> None:
        if unusable(output) is None:
            values = stimuli_first(named.module, path, output, n, time_first=id(named.module) in time_first).values
            shapes.setdefault(named.name, {})[label(named.name, call, path, taken)] = tuple(values.shape)

    with undisturbed(model):
        axis = stimulus_axis(model, lambda: call_model(model, batch, 0), batch)
        n, time_first = count(batch, 0, axis), time_first_modules(model, axis)
        with listening(modules, receive) as calls:
            call_model(model, batch, 0)
    return shapes, calls
