"""Freeze training: layers that have converged are no longer trained, the lowest first (Raghu et al. 2017, section 4.2)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from congruence.dynamics.recorder import Recorder
from congruence.dynamics.series import CheckpointSeries, MeasureSpec
from congruence.errors import ExtractionError, ParameterError, UnknownNameError
from congruence.extraction.hooks import device_of, undisturbed
from congruence.extraction.inputs import as_call, moved
from congruence.extraction.naming import core, flatten_output
from congruence.validate import closest

Group = str | Sequence[str]
"""A layer: the path of a module, or those of several that are frozen together."""


class Rule(Protocol):
    """Says how many of the lowest layers are frozen."""

    def frozen(self, step: int, layers: Sequence[Sequence[str]]) -> int:
        """Return how many of `layers` are frozen from update `step` on."""


@dataclass(frozen=True)
class LinearFreeze:
    """The schedule of the paper: of L layers the lowest l are frozen at l/L of all updates.

    Parameters
    ----------
    total : int
        Number of updates of the training.
    begin : float
        Share of the updates before which nothing is frozen; the rest is divided as above. 0 in the paper.
    """

    total: int
    begin: float = 0.0

    def __post_init__(self) -> None:
        if self.total < 1 or not 0 <= self.begin < 1:
            message = f"LinearFreeze needs total of at least 1 and begin from 0 to below 1; got {self.total!r} and {self.begin!r}."
            raise ParameterError(message)

    def frozen(self, step: int, layers: Sequence[Sequence[str]]) -> int:
        """Return how many of `layers` are frozen from update `step` on."""
        first = round(self.begin * self.total)
        return min(len(layers), max(0, (step - first) * len(layers) // (self.total - first)))


@dataclass(frozen=True)
class ConvergedFreeze:
    """Freeze a layer when it has stopped to move, and all layers below it are frozen.

    A layer has stopped when its similarity with itself at the recorded step before was at least `threshold`, `patience`
    times in succession. What the final state will be is not known while training.

    Parameters
    ----------
    recorder : Recorder
        Of the same model, recording the layers; its schedule says how often they are looked at. Call its `step` before
        that of the freezer. Where a layer has several modules, the last of them is looked at.
    measure : str or Measure
        A similarity.
    threshold : float
        Least similarity of a layer that stands still.
    patience : int
        How many times in succession.
    """

    recorder: Recorder
    measure: MeasureSpec = "svcca"
    threshold: float = 0.99
    patience: int = 2
    _known: dict[tuple[str, int, int], float] = field(default_factory=dict, init=False, repr=False, compare=False)

    def frozen(self, step: int, layers: Sequence[Sequence[str]]) -> int:
        """Return how many of `layers` are frozen from update `step` on, from what is recorded until then."""
        times = [recorded for recorded in self.recorder.recorded if recorded <= step]
        if len(times) <= self.patience:
            return 0
        count, first = 0, times[0]
        for names in layers:
            after = self._stands_still(names[-1], times, first)
            if after is None:
                break
            count, first = count + 1, after
        return count

    def _stands_still(self, layer: str, times: Sequence[int], first: int) -> int | None:
        """Return the first recorded step, not before `first`, at which a layer has stood still for long enough."""
        run = 0
        for before, now in zip(times, times[1:], strict=False):
            run = run + 1 if self._similarity(layer, before, now) >= self.threshold else 0
            if run >= self.patience and now >= first:
                return now
        return None

    def _similarity(self, layer: str, before: int, now: int) -> float:
        """Return how similar a layer is to itself at an earlier step; asked for at every update, and computed once."""
        if (layer, before, now) not in self._known:
            series = CheckpointSeries(self.recorder.path)
            found = series.convergence(self.measure, layers=[layer], at=[before], against=now)
            self._known[layer, before, now] = float(found.values[0, 0])
        return self._known[layer, before, now]


@dataclass(frozen=True)
class Saving:
    """What freezing has saved.

    Parameters
    ----------
    events : tuple of (int, str)
        At which update which layer was frozen.
    share : float
        Share of the floating-point operations of all backward passes so far that were left out, estimated.
    updates : int
        How many updates this is about.
    """

    events: tuple[tuple[int, str], ...]
    share: float
    updates: int


class Freezer:
    """Freezes layers of a model while it is trained; call `step` before every update.

    The parameters of a frozen layer get no gradient (and so no update, whatever momentum or weight decay), and its
    normalisation layers keep their statistics and use them, also after ``model.train()``. Dropout goes on. The highest of
    `layers` is never frozen if nothing else would be trained.

    Parameters
    ----------
    model : torch.nn.Module
        The model that is trained.
    layers : sequence of str, or of sequences of str
        Paths of its modules from the lowest to the highest; modules in one sequence are frozen together, such as a
        convolution and its batch norm.
    rule : LinearFreeze, ConvergedFreeze, or anything with their method
        When.
    example : tensor, tuple or mapping, optional
        A batch that the model takes, for an estimate of what is saved.

    Raises
    ------
    UnknownNameError
        If the model has no such module.
    ParameterError
        If a module is named twice, or none is.
    """

    def __init__(self, model: nn.Module, layers: Sequence[Group], rule: Rule, example: Any = None) -> None:
        modules = dict(core(model).named_modules())
        self._groups = [(group,) if isinstance(group, str) else tuple(group) for group in layers]
        names = [name for group in self._groups for name in group]
        for name in names:
            if name not in modules:
                message = f"The model has no module '{name}'. {closest(name, modules)}"
                raise UnknownNameError(message)
        if not names or len(set(names)) < len(names) or not all(self._groups):
            message = f"layers must name modules from the lowest to the highest, each once; got {list(layers)}."
            raise ParameterError(message)
        self._model, self._modules, self._rule, self._example = model, modules, rule, example
        inside = {id(p) for name in names for p in modules[name].parameters()}
        others = any(p.requires_grad and id(p) not in inside for p in core(model).parameters())
        self._most = len(self._groups) - (not others)  # with nothing left to train, a backward pass would be an error
        self._count, self._next = 0, 0
        self._events: list[tuple[int, str]] = []
        self._were_trained: list[nn.Parameter] = []
        self._handles: list[Any] = []
        self._costs: list[tuple[int, int]] = [] if example is None else [(0, backward_flops(model, example))]

    @property
    def frozen(self) -> tuple[str, ...]:
        """The modules that are frozen."""
        return tuple(name for group in self._groups[: self._count] for name in group)

    def step(self, at: int | None = None) -> tuple[str, ...]:
        """Freeze what is due.

        Parameters
        ----------
        at : int, optional
            How many updates the model has had; by default one more than at the call before, and 0 at the first.

        Returns
        -------
        tuple of str
            The modules that were frozen now.
        """
        step = self._next if at is None else at
        self._next = step + 1
        due = max(self._count, min(self._most, self._rule.frozen(step, self._groups)))
        fresh = [name for group in self._groups[self._count : due] for name in group]
        for name in fresh:
            self._freeze(self._modules[name])
            self._events.append((step, name))
        self._count = due
        if fresh and self._example is not None:
            self._costs.append((step, backward_flops(self._model, self._example)))
        return tuple(fresh)

    def _freeze(self, module: nn.Module) -> None:
        for parameter in module.parameters():
            if parameter.requires_grad:
                self._were_trained.append(parameter)
            parameter.requires_grad_(False)
            parameter.grad = None  # an optimiser would go on with the last one
        for inside in module.modules():
            if getattr(inside, "running_mean", None) is not None:
                self._handles.append(inside.register_forward_pre_hook(_keep_statistics))

    def release(self) -> None:
        """Let everything be trained again that was before."""
        for parameter in self._were_trained:
            parameter.requires_grad_(True)
        for handle in self._handles:
            handle.remove()
        self._were_trained, self._handles, self._count = [], [], 0
        if self._costs:
            self._costs.append((self._next, self._costs[0][1]))

    @property
    def saving(self) -> Saving:
        """What was saved until now.

        Raises
        ------
        ParameterError
            If no example batch was given.
        """
        if self._example is None:
            message = "What freezing saves is estimated from a batch: Freezer(model, layers, rule, example=batch)."
            raise ParameterError(message)
        ends = [*(start for start, _ in self._costs[1:]), self._next]
        spent = sum((end - start) * cost for (start, cost), end in zip(self._costs, ends, strict=True))
        whole = self._next * self._costs[0][1]
        return Saving(tuple(self._events), 1 - spent / whole if whole else 0.0, self._next)


def _keep_statistics(module: nn.Module, args: Any) -> None:
    """Put a normalisation layer in evaluation mode before it runs: ``model.train()`` may have been called since."""
    del args
    module.training = False


def backward_flops(model: nn.Module, batch: Any) -> int:
    """Return the floating-point operations of one backward pass, as PyTorch counts them.

    Convolutions, matrix products and attention are counted, for the gradients that are needed: not for frozen parameters,
    nor for inputs below which nothing is trained. Recurrent layers run by fused kernels on a CPU are not counted.

    Parameters
    ----------
    model : torch.nn.Module
        A copy of it is run.
    batch : tensor, tuple or mapping
        What it takes.

    Returns
    -------
    int
        0 if nothing is trained.

    Raises
    ------
    ExtractionError
        If the model puts out no tensor.
    """
    own: nn.Module = copy.deepcopy(core(model))
    arguments, keywords = as_call(moved(batch, device_of(own)), 0)
    with undisturbed(own), torch.enable_grad():
        found = flatten_output(own(*arguments, **keywords))
        tensors = [tensor for _, tensor in found if isinstance(tensor, Tensor) and tensor.is_floating_point()]
        if not tensors:
            message = "The model puts out no tensor, so there is no backward pass to count."
            raise ExtractionError(message)
        trained = [tensor.float().sum() for tensor in tensors[:1] if tensor.requires_grad]
        counter = FlopCounterMode(display=False)
        with counter:
            for loss in trained:
                torch.autograd.backward(loss)
    return int(counter.get_total_flops())
