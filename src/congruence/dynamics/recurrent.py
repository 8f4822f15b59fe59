"""The hidden states of a recurrent module at every time step: all layers, both directions, hidden and cell states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from congruence.errors import InputError, ParameterError, ShapeError
from congruence.representation import Origin, Representation

State = tuple[Tensor, ...]
"""Hidden state, shape (n, p), and for an LSTM the cell state."""
Weights = dict[str, Tensor | None]
Advance = Callable[[Tensor, State, Weights], State]


def unroll(
    module: nn.RNNBase, inputs: Tensor | PackedSequence, initial: Any = None, *, lengths: Any = None
) -> dict[str, Representation]:
    """Return the states of an RNN, GRU or LSTM at every time step.

    The module is computed step by step from its weights, as in evaluation mode: without dropout between its layers. Its
    outputs show the hidden state of its top layer only, and of a cell state only the last one.

    Parameters
    ----------
    module : torch.nn.RNN, GRU or LSTM
        With any number of layers, one direction or two, with projections or without.
    inputs : tensor, shape (n, time, p) or as ``batch_first`` says, or PackedSequence
        What the module is called with.
    initial : tensor or pair of tensors, optional
        The initial state, as the module takes it; zeros by default.
    lengths : sequence of int, shape (n,), optional
        Valid steps of every sequence, for padded inputs. A backward direction then begins at the last valid step, as
        for packed sequences. Not with a PackedSequence, which brings its own.

    Returns
    -------
    dict of str to Representation
        ``hidden[LAYER]`` and for an LSTM ``cell[LAYER]``, with ``.reverse`` after it for the backward direction: values
        of shape (n, time, p), time in the order of the inputs, zeros where a sequence has ended, with a mask if the
        lengths differ. Sequences are in the order in which they were given.

    Raises
    ------
    ParameterError
        If the module is of another kind.
    InputError
        If the inputs are neither a tensor nor a PackedSequence.
    ShapeError
        If inputs or lengths do not fit the module.

    Notes
    -----
    The hidden states of the top layer equal the module's output up to rounding.
    """
    if not isinstance(module, nn.RNN | nn.GRU | nn.LSTM):
        message = f"unroll takes a torch.nn.RNN, GRU or LSTM; got {type(module).__name__}. Give the module itself, and record other layers with congruence.extract."
        raise ParameterError(message)
    x, sizes = _padded(module, inputs, lengths)
    starts = _initial(module, initial, x)
    valid = torch.arange(x.shape[1], device=x.device)[None] < sizes[:, None]
    mask = None if bool(valid.all()) else valid.cpu().numpy()
    found: dict[str, Tensor] = {}
    with torch.no_grad():
        for layer in range(module.num_layers):
            outputs = []
            for direction in range(2 if module.bidirectional else 1):
                start = tuple(state[layer * (2 if module.bidirectional else 1) + direction] for state in starts)
                states = _direction(module, layer, x, start, valid, backward=direction == 1)
                outputs.append(states[0])
                for kind, values in zip(("hidden", "cell"), states, strict=False):
                    found[f"{kind}[{layer}]{'.reverse' if direction else ''}"] = values
            x = torch.cat(outputs, dim=-1)
    origin = Origin(model=type(module).__name__)
    return {
        name: Representation(values.cpu().numpy(), name, mask=mask, recurrent=True, origin=origin)
        for name, values in found.items()
    }


def _padded(module: nn.RNNBase, inputs: Tensor | PackedSequence, lengths: Any) -> tuple[Tensor, Tensor]:
    """Return inputs of shape (n, time, p) and the lengths."""
    if isinstance(inputs, PackedSequence):
        if lengths is not None:
            message = "A PackedSequence brings its lengths; leave out lengths."
            raise ParameterError(message)
        x, sizes = pad_packed_sequence(inputs, batch_first=True)
        return x, sizes.to(x.device)
    given: Any = inputs
    if not isinstance(given, Tensor):
        message = f"inputs must be a tensor or a PackedSequence; got {type(given).__name__}. Pad sequences of different lengths to one tensor, and give lengths."
        raise InputError(message)
    if inputs.ndim != 3 or inputs.shape[2] != module.input_size:
        order = "(n, time, p)" if module.batch_first else "(time, n, p)"
        message = f"inputs must have shape {order} with p = {module.input_size}; got {tuple(inputs.shape)}."
        raise ShapeError(message)
    x = inputs if module.batch_first else inputs.transpose(0, 1)
    n, length = x.shape[:2]
    if lengths is None:
        return x, torch.full((n,), length, device=x.device)
    sizes = torch.as_tensor(np.asarray(lengths), device=x.device)
    if sizes.shape != (n,) or int(sizes.min()) < 1 or int(sizes.max()) > length:
        message = f"lengths must be {n} numbers from 1 to {length}; got {sizes.tolist()[:8]}."
        raise ShapeError(message)
    return x, sizes


def _initial(module: nn.RNNBase, initial: Any, x: Tensor) -> tuple[Tensor, ...]:
    """Return the initial states, each of shape (layers x directions, n, p)."""
    count = module.num_layers * (2 if module.bidirectional else 1)
    projected = module.proj_size or module.hidden_size
    widths = (projected, module.hidden_size) if isinstance(module, nn.LSTM) else (module.hidden_size,)
    expected = [(count, x.shape[0], width) for width in widths]
    if initial is None:
        return tuple(torch.zeros(shape, dtype=x.dtype, device=x.device) for shape in expected)
    states = tuple(initial) if isinstance(initial, tuple | list) else (initial,)
    if [tuple(state.shape) for state in states] != expected:
        message = f"initial must have the shapes {expected}; got {[tuple(state.shape) for state in states]}."
        raise ShapeError(message)
    return states


def _direction(
    module: nn.RNNBase, layer: int, x: Tensor, start: State, valid: Tensor, *, backward: bool
) -> tuple[Tensor, ...]:
    """Return the states of one layer in one direction, each of shape (n, time, p)."""
    suffix = f"_l{layer}{'_reverse' if backward else ''}"
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
    weights: Weights = {name: getattr(module, name + suffix, None) for name in names}
    advance = _ADVANCE[module.mode]
    state, steps = start, range(x.shape[1])
    kept: list[State] = []
    for t in reversed(steps) if backward else steps:
        after = advance(x[:, t], state, weights)
        here = valid[:, t, None]
        # a sequence that has ended, or that the backward direction has not reached, keeps its state
        state = tuple(torch.where(here, new, old) for new, old in zip(after, state, strict=True))
        kept.append(tuple(torch.where(here, new, torch.zeros_like(new)) for new in state))
    ordered = kept[::-1] if backward else kept
    return tuple(torch.stack(values, dim=1) for values in zip(*ordered, strict=True))


# ---- one step, as in the documentation of torch.nn.RNN, GRU and LSTM --------------------------------------------------


def _gates(x: Tensor, h: Tensor, weights: Weights) -> tuple[Tensor, Tensor]:
    """Return what the input and the hidden state add to the gates."""
    assert weights["weight_ih"] is not None
    assert weights["weight_hh"] is not None
    return linear(x, weights["weight_ih"], weights["bias_ih"]), linear(h, weights["weight_hh"], weights["bias_hh"])


def _tanh(x: Tensor, state: State, weights: Weights) -> State:
    return (torch.tanh(torch.add(*_gates(x, state[0], weights))),)


def _relu(x: Tensor, state: State, weights: Weights) -> State:
    return (torch.relu(torch.add(*_gates(x, state[0], weights))),)


def _gru(x: Tensor, state: State, weights: Weights) -> State:
    first, second = (gates.chunk(3, dim=1) for gates in _gates(x, state[0], weights))
    reset, update = torch.sigmoid(first[0] + second[0]), torch.sigmoid(first[1] + second[1])
    new = torch.tanh(first[2] + reset * second[2])
    return ((1 - update) * new + update * state[0],)


def _lstm(x: Tensor, state: State, weights: Weights) -> State:
    entry, forget, new, exit_ = torch.add(*_gates(x, state[0], weights)).chunk(4, dim=1)
    cell = torch.sigmoid(forget) * state[1] + torch.sigmoid(entry) * torch.tanh(new)
    hidden = torch.sigmoid(exit_) * torch.tanh(cell)
    projection = weights["weight_hr"]
    return (hidden if projection is None else linear(hidden, projection), cell)


_ADVANCE: dict[str, Advance] = {"RNN_TANH": _tanh, "RNN_RELU": _relu, "GRU": _gru, "LSTM": _lstm}
