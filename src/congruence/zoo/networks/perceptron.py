"""Multilayer perceptrons."""

from __future__ import annotations

from collections import OrderedDict
from math import prod

from torch import nn

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}


def perceptron(shape: tuple[int, ...], classes: int, width: int, depth: int, activation: str) -> nn.Sequential:
    """Return hidden layers, each a linear map and a nonlinearity, and logits."""
    layers, inputs = OrderedDict[str, nn.Module](flat=nn.Flatten()), prod(shape)
    for number in range(1, depth + 1):
        layers[f"hidden{number}"] = nn.Sequential(nn.Linear(inputs, width), ACTIVATIONS[activation]())
        inputs = width
    layers["logits"] = nn.Linear(inputs, classes)
    return nn.Sequential(layers)
