"""Recording without a trace: hooks that are always removed, and a model that is left as it was found."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from congruence.errors import ParameterError
from congruence.extraction.naming import NamedModule, Path, flatten_output

Receive = Callable[[NamedModule, int, Path, Tensor | PackedSequence], None]
"""Gets the module that fired, the number of its call in this forward (from 1), and one tensor with its path."""


@contextmanager
def listening(modules: Iterable[NamedModule], receive: Receive) -> Iterator[Counter[str]]:
    """Hand every tensor that the modules put out to `receive`, at the moment they put it out.

    Yields the number of calls per module since it was last cleared; clear it before each forward.
    """
    calls: Counter[str] = Counter()

    def heard(named: NamedModule, module: nn.Module, args: Any, output: Any) -> None:
        del module, args
        calls[named.name] += 1
        for path, tensor in flatten_output(output):
            receive(named, calls[named.name], path, tensor)

    handles = []
    try:
        for named in modules:
            handles.append(named.module.register_forward_hook(partial(heard, named)))  # noqa: PERF401 - removed below
        yield calls
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def undisturbed(model: nn.Module, device: torch.device | None = None) -> Iterator[None]:
    """Put the model in evaluation mode on `device`; at the end restore modes, device and random states.

    Tensors that the model makes in inference mode and keeps become ordinary ones. The fused attention of PyTorch is off inside, because it does not call the modules it replaces.
    """
    training = [(module, module.training) for module in model.modules()]
    fused = torch.backends.mha.get_fastpath_enabled()
    with _random_states(), _eager(model), _on_device(model, device):
        try:
            model.eval()
            torch.backends.mha.set_fastpath_enabled(False)
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fused)
            for module, mode in training:
                module.training = mode  # not train(): it would reach into submodules, and classes override it
                _normalise(module)


def _normalise(module: nn.Module) -> None:
    """Replace what a forward left in a module, such as a cached mask, by tensors that training can go on with."""
    for attributes in (vars(module), module._buffers):
        for key, value in list(attributes.items()):
            if isinstance(value, Tensor) and value.is_inference():
                attributes[key] = value.clone()


@contextmanager
def _random_states() -> Iterator[None]:
    """Restore the random states of PyTorch, NumPy and Python at the end."""
    cuda = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    states = torch.get_rng_state(), torch.cuda.get_rng_state_all() if cuda else []
    others = np.random.get_state(), random.getstate()  # noqa: NPY002 - the state that a model's own code would use
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        if cuda:
            torch.cuda.set_rng_state_all(states[1])
        np.random.set_state(others[0])  # noqa: NPY002
        random.setstate(others[1])


@contextmanager
def _eager(model: nn.Module) -> Iterator[None]:
    """Run compiled modules as they were written: compiled code does not call the hooks of what is inside it."""
    if any("_orig_mod" in module._modules or module._compiled_call_impl is not None for module in model.modules()):
        with torch.compiler.set_stance("force_eager"):
            yield
    else:
        yield


def device_of(model: nn.Module) -> torch.device | None:
    """Return the device of a model's first parameter or buffer; None if it has neither."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return None


@contextmanager
def _on_device(model: nn.Module, device: torch.device | None) -> Iterator[None]:
    """Move the model to `device`, and back at the end."""
    home = {tensor.device for tensor in (*model.parameters(), *model.buffers())}
    if device is None or home <= {device}:
        yield
        return
    if len(home) > 1:
        message = f"The model is spread over {len(home)} devices, so it cannot be moved to {device}. Leave out device."
        raise ParameterError(message)
    try:
        model.to(device)
        yield
    finally:
        model.to(home.pop())
