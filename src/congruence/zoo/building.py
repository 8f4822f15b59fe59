"""Networks as they are before their training."""

from __future__ import annotations

import torch
from torch import nn

from congruence.zoo.config import Config
from congruence.zoo.randomness import Purpose, torch_seed, weight_seed


def untrained_network(config: Config) -> nn.Module:
    """Return a network of the right shape whose weights mean nothing."""
    with torch.random.fork_rng(devices=[]):
        return config.network.build(config.dataset.shape, config.dataset.classes)


def initial_network(config: Config, seed: int) -> nn.Module:
    """Return the network of a seed before the first step, drawn without touching the random state of PyTorch."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(weight_seed(config, seed), Purpose.WEIGHTS))
        return config.network.build(config.dataset.shape, config.dataset.classes)
