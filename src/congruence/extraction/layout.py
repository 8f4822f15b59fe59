"""Which axis of an output holds the stimuli, and which positions of a sequence are valid.

Modules with ``batch_first=False`` put time on axis 0 and the stimuli on axis 1; what is inside such a module inherits
that, up to the next module that says otherwise. Their outputs are transposed, so that axis 0 is always the stimulus.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from congruence.extraction.inputs import first_tensor
from congruence.extraction.naming import Path, core, flatten_output


@dataclass(frozen=True, eq=False)
class Sequence:
    """One tensor of an output with the stimuli on axis 0.

    Parameters
    ----------
    values : Tensor, shape (n, ...)
        The values.
    mask : Tensor of bool, shape (n, t), optional
        Valid positions.
    recurrent : bool
        Whether these are the outputs of a recurrent module over time.
    """

    values: Tensor
    mask: Tensor | None = None
    recurrent: bool = False


# ---- which modules put time first ------------------------------------------------------------------------------------


def batch_first(module: nn.Module) -> bool | None:
    """Return what a module says about its own layout; None if it says nothing."""
    if isinstance(module, nn.TransformerEncoder | nn.TransformerDecoder):
        return batch_first(module.layers[0])
    if isinstance(module, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer):
        return batch_first(module.self_attn)
    said = getattr(module, "batch_first", None)
    return said if isinstance(said, bool) else None


def time_first_modules(model: nn.Module, axis: int) -> frozenset[int]:
    """Return the identities of the modules whose outputs hold the stimuli on axis 1.

    `axis` is the axis of the stimuli in what the model is given, which modules without a word of their own share.
    """
    return frozenset(key for key, first in _walk(core(model), axis == 1, set()) if first)


def _walk(module: nn.Module, inherited: bool, seen: set[int]) -> Iterator[tuple[int, bool]]:
    """Yield (identity, time first) for a module and everything inside it."""
    if id(module) in seen:
        return
    seen.add(id(module))
    said = batch_first(module)
    time_first = inherited if said is None else not said
    yield id(module), time_first
    for child in module.children():
        yield from _walk(child, time_first, seen)


def stimulus_axis(model: nn.Module, call: Any, batch: Any) -> int:
    """Return the axis of a batch's first tensor that holds the stimuli: 0, or 1 if the model takes time first.

    The model takes time first if it is such a module itself (nn.LSTM, nn.Transformer), or if a module inside with
    ``batch_first=False`` gets an input whose stimuli (its axis 1) are as many as the batch has on axis 1 and not on
    axis 0. That is seen in one forward, which models without such modules are spared.
    """
    inner = core(model)
    first = first_tensor(batch, 0)
    if isinstance(first, PackedSequence) or first.ndim < 2:
        return 0
    if batch_first(inner) is False:
        return 1 if first.ndim == 3 else 0
    inside = [module for module in inner.modules() if batch_first(module) is False]
    if not inside or first.shape[0] == first.shape[1]:
        return 0
    with _stimuli_seen(inside) as seen, torch.inference_mode():
        call()
    return 1 if first.shape[1] in seen and first.shape[0] not in seen else 0


@contextmanager
def _stimuli_seen(modules: list[nn.Module]) -> Iterator[set[int]]:
    """Collect the numbers of stimuli that modules with time first are called with."""
    seen: set[int] = set()

    def look(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        del module
        _, first = next(flatten_output([*args, *kwargs.values()]), ((), None))
        if isinstance(first, PackedSequence):
            seen.add(int(first.batch_sizes[0]))
        elif first is not None and first.ndim == 3:
            seen.add(int(first.shape[1]))

    handles = [module.register_forward_pre_hook(look, with_kwargs=True) for module in modules]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


# ---- from an output to stimuli by ... --------------------------------------------------------------------------------


def stimuli_first(
    module: nn.Module, path: Path, output: Tensor | PackedSequence, n: int, *, time_first: bool
) -> Sequence:
    """Return one tensor of a module's output with the stimuli on axis 0, where the module's layout says they are."""
    recurrent = isinstance(module, nn.RNNBase)
    if isinstance(output, PackedSequence):
        values, lengths = pad_packed_sequence(output, batch_first=True)
        mask = torch.arange(values.shape[1], device=values.device)[None, :] < lengths.to(values.device)[:, None]
        return Sequence(values, mask, recurrent)
    if recurrent and path and path[0] == 1:  # h_n and c_n are (layers, stimuli, units), whatever batch_first says
        return Sequence(output.movedim(1, 0) if output.ndim == 3 else output)
    if isinstance(module, nn.MultiheadAttention) and path == (1,):  # the weights hold the stimuli on axis 0 always
        return Sequence(output)
    moved = output.movedim(1, 0) if time_first and _stimuli_on_axis_1(output, n) else output
    return Sequence(moved, None, recurrent and moved.ndim == 3)


def _stimuli_on_axis_1(output: Tensor, n: int) -> bool:
    """Return whether the output of a module that puts time first has its stimuli on axis 1.

    With two axes, time may be gone, such as after the last step was taken: then axis 0 goes first.
    """
    if output.ndim < 2 or output.shape[1] != n:
        return False
    return output.ndim > 2 or output.shape[0] != n


def batch_mask(batch: Any, name: str) -> Tensor | None:
    """Return the attention mask in a batch of keywords that concerns the module `name`, shape (n, t)."""
    if not isinstance(batch, Mapping):
        return None
    decoder = "decoder" in name.split(".") and any(str(key).startswith("decoder_") for key in batch)
    mask = batch.get("decoder_attention_mask" if decoder else "attention_mask")
    return mask if isinstance(mask, Tensor) and mask.ndim == 2 else None


def with_mask(sequence: Sequence, mask: Tensor | None) -> Sequence:
    """Return the sequence with a batch's mask, if it is one of (n, t, d) with as many positions and has none yet."""
    values = sequence.values
    if mask is None or sequence.mask is not None or values.ndim != 3 or tuple(values.shape[:2]) != tuple(mask.shape):
        return sequence
    return Sequence(values, (mask != 0).to(values.device), sequence.recurrent)
