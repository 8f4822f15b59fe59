"""Networks as they are before their training."""

from __future__ import annotations

import torch
from torch import nn

from congruence.zoo.config import Config
from congruence.zoo.layout import home_of
from congruence.zoo.randomness import Purpose, torch_seed, weight_seed
from congruence.zoo.weights import read, restore


def untrained_network(config: Config) -> nn.Module:
    """Return a network of the right shape whose weights mean nothing."""
    return _drawn(config, 0)


def initial_network(config: Config, seed: int) -> nn.Module:
    """Return the network of a seed before the first step; the network it starts from, if any, has been trained."""
    model = _drawn(config, torch_seed(weight_seed(config, seed), Purpose.WEIGHTS))
    if config.start is not None:
        origin, number = config.start
        path = home_of(origin).weights(number)
        restore(model, read(path)[0], path, fresh=config.network.head)
    return model


def _drawn(config: Config, seed: int) -> nn.Module:
    """Return a network with random weights, without touching the random state of PyTorch."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return config.network.build(config.dataset.shape, config.dataset.classes)
