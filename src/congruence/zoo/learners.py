"""Networks in training: one, or many seeds of one architecture as a stack that one call of PyTorch moves on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from congruence.zoo.weights import restore, trained_state


class Learner(ABC):
    """Some networks with the same architecture; axis 0 of all that goes in and out is the network."""

    parameters: dict[str, Tensor]
    """What the optimiser changes, by name."""

    @abstractmethod
    def logits(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return shape (networks, n, classes) for inputs of shape (networks, n, ...)."""

    @abstractmethod
    def state(self, index: int) -> dict[str, Tensor]:
        """Return what training changes of one network."""

    @abstractmethod
    def restore(self, index: int, tensors: Mapping[str, Tensor], source: Any) -> None:
        """Put a state back."""

    @abstractmethod
    def part(self, tensor: Tensor, index: int) -> Tensor:
        """Return the part of a parameter's tensor, or of the optimiser's beside it, that belongs to one network."""

    @abstractmethod
    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Return the tensor that has these parts."""


class Single(Learner):
    """One network."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model.train()
        for parameter in model.parameters():
            if parameter.ndim == 4:  # convolutions on the CPU are a third faster with the channels last
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}

    def logits(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return shape (1, n, classes)."""
        return torch.as_tensor(call(self._model, {key: value[0] for key, value in inputs.items()}))[None]

    def state(self, index: int) -> dict[str, Tensor]:
        """Return what training changes."""
        del index
        return trained_state(self._model)

    def restore(self, index: int, tensors: Mapping[str, Tensor], source: Any) -> None:
        """Put a state back."""
        del index
        restore(self._model, tensors, source)

    def part(self, tensor: Tensor, index: int) -> Tensor:
        """Return the tensor."""
        del index
        return tensor

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Return the only part."""
        return parts[0]


class Stack(Learner):
    """Many networks without buffers, their parameters stacked; the same computation as one after the other."""

    def __init__(self, models: Sequence[nn.Module]) -> None:
        self._model = models[0].train()
        stacked, _ = stack_module_state(list(models))
        self.parameters = {name: tensor.detach().requires_grad_() for name, tensor in stacked.items()}

    def logits(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return shape (networks, n, classes)."""

        def one(parameters: dict[str, Tensor], given: dict[str, Tensor]) -> Any:
            return functional_call(self._model, parameters, tuple(given.values()))

        return torch.as_tensor(torch.vmap(one)(self.parameters, dict(inputs)))

    def state(self, index: int) -> dict[str, Tensor]:
        """Return the parameters of one network."""
        return {name: tensor[index] for name, tensor in self.parameters.items()}

    def restore(self, index: int, tensors: Mapping[str, Tensor], source: Any) -> None:
        """Put the parameters of one network back."""
        restore(self._model, tensors, source)  # checks names and shapes
        with torch.no_grad():
            for name, tensor in self.parameters.items():
                tensor[index] = tensors[name]

    def part(self, tensor: Tensor, index: int) -> Tensor:
        """Return the slice of one network."""
        return tensor[index]

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Return the parts stacked."""
        return torch.stack(list(parts))


def call(model: nn.Module, inputs: Mapping[str, Tensor]) -> Any:
    """Return what a network makes of a batch."""
    return model(inputs["input"]) if set(inputs) == {"input"} else model(**inputs)
