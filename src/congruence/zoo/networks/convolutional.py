"""Plain and residual convolutional networks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from congruence.errors import ParameterError

KINDS = {"same": (3, 1, 1), "half": (3, 2, 1), "valid": (3, 1, 0), "pointwise": (1, 1, 0)}
"""Kernel size, stride and padding of a convolution."""


def convolution(inputs: int, outputs: int, kind: str, *, batch_norm: bool = True) -> nn.Sequential:
    """Return a convolution, batch normalisation and ReLU."""
    kernel, stride, padding = KINDS[kind]
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=not batch_norm)
    # He et al. 2015: the variance of the signal stays the same from layer to layer, also without batch norm
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    norm = [nn.BatchNorm2d(outputs)] if batch_norm else []
    return nn.Sequential(layer, *norm, nn.ReLU())


class GlobalAverage(nn.Module):
    """The mean over all places."""

    def forward(self, x: Tensor) -> Tensor:
        """Return shape (n, channels)."""
        return x.mean(dim=(2, 3))


def plain_network(
    label: str, plan: Sequence[tuple[int, str]], shape: tuple[int, ...], classes: int, *, batch_norm: bool
) -> nn.Sequential:
    """Return convolutions as planned (channels, kind), global average pooling and logits.

    Raises
    ------
    ParameterError
        If the images are so small that the convolution without padding has nothing left.
    """
    channels, side, layers = shape[0], shape[1], OrderedDict[str, nn.Module]()
    for number, (wide, kind) in enumerate(plan, 1):
        kernel, stride, padding = KINDS[kind]
        side = (side + 2 * padding - kernel) // stride + 1
        layers[f"conv{number}"] = convolution(channels, wide, kind, batch_norm=batch_norm)
        channels = wide
    if side < 1:
        message = f"{label} needs images of at least 9 x 9 pixels; got {shape[1]} x {shape[2]}. Scale them, as in digits:size=16."
        raise ParameterError(message)
    layers["pool"] = GlobalAverage()
    layers["logits"] = nn.Linear(channels, classes)
    return nn.Sequential(layers)


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut without parameters."""

    def __init__(self, inputs: int, outputs: int, kind: str) -> None:
        super().__init__()
        self.inner = convolution(inputs, outputs, kind)
        self.outer = nn.Sequential(*list(convolution(outputs, outputs, "same"))[:2])
        self._new, self._stride = outputs - inputs, KINDS[kind][1]

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of both ways, after a ReLU."""
        shortcut = x[:, :, :: self._stride, :: self._stride]
        if self._new:
            shortcut = functional.pad(shortcut, (0, 0, 0, 0, 0, self._new))
        return torch.relu(self.outer(self.inner(x)) + shortcut)


def residual_network(
    label: str, n: int, channels: Sequence[int], shape: tuple[int, ...], classes: int
) -> nn.Sequential:
    """Return a stem, three stages of n blocks, global average pooling and logits.

    Raises
    ------
    ParameterError
        If the images are smaller than the two strides need.
    """
    if min(shape[1:]) < 4:
        message = f"{label} needs images of at least 4 x 4 pixels; got {shape[1]} x {shape[2]}."
        raise ParameterError(message)
    layers = OrderedDict[str, nn.Module](stem=convolution(shape[0], channels[0], "same"))
    before = channels[0]
    for stage, wide in enumerate(channels, 1):
        first = ResidualBlock(before, wide, "same" if stage == 1 else "half")
        layers[f"stage{stage}"] = nn.Sequential(first, *(ResidualBlock(wide, wide, "same") for _ in range(n - 1)))
        before = wide
    layers["pool"] = GlobalAverage()
    layers["logits"] = nn.Linear(before, classes)
    return nn.Sequential(layers)
