"""Trained populations as representations: what several benchmarks take from the zoo."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from congruence import zoo
from congruence.benchmarks._base import Stage
from congruence.errors import InputError
from congruence.representation import Origin, Representation

if TYPE_CHECKING:
    from congruence.zoo.progress import Report


QUICK_CNN = zoo.Config("tiny10:width=0.25", "digits:size=16", "training:epochs=4,batch_size=64")
QUICK_VIT = zoo.Config("vit:depth=2,dim=16,heads=2,patch=4", "digits", "training:epochs=15,batch_size=64")
QUICK_MLP = zoo.Config("mlp:width=128,depth=4", "digits", "training:epochs=12,batch_size=64")
SMALL_CNN = zoo.Config("tiny10", "mnist_5k")
SMALL_VIT = zoo.Config("vit", "mnist_5k")
SMALL_TEXT = zoo.Config("minilm", "entailment")
"""Populations that several benchmarks share, and so train once."""


@dataclass(frozen=True)
class Networks:
    """Which networks, and what they are looked at with.

    Parameters
    ----------
    config : zoo.Config
        What the networks have in common.
    seeds : int
        How many.
    probe : zoo.Probe
        Stimuli.
    steps : str, optional
        Steps that make matrices, such as ``"spatial_mean"``; by default images are flattened and tokens averaged.
    tap : str, optional
        Tap point of the layers, where the architecture has several.
    """

    config: zoo.Config
    seeds: int
    probe: zoo.Probe
    steps: str | None = None
    tap: str | None = None

    def key(self) -> dict[str, Any]:
        """Return plain data that says what the representations are."""
        return {**asdict(self), "config": self.config.document(), "probe": asdict(self.probe)}

    def train(self, stage: Stage) -> zoo.Population:
        """Return the population, from the cache or trained now; networks that diverged are an error.

        Raises
        ------
        InputError
            If fewer than two networks were trained to the end.
        """
        what = f"training {self.config.label}"

        def report(said: Report) -> None:
            stage(f"{what} (seed {said.seeds[0]})" if len(said.seeds) == 1 else what, said.step, said.steps)

        population = zoo.train(self.config, self.seeds, progress=report)
        if len(population.seeds) < 2:
            message = f"{self.config.label}: {len(population.diverged)} of {self.seeds} networks diverged. Lower the learning rate."
            raise InputError(message)
        return population

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers in order of depth, without the logits."""
        found = self.config.network.layers(self.tap)
        # averaged over space, the last convolution and the pooling after it are the same
        return tuple(name for name in found if name != "pool") if self.steps == "spatial_mean" else found


def representations(networks: Networks, population: zoo.Population, stage: Stage) -> list[Representation]:
    """Return the layers of all networks as (n, p) matrices, called ``seed-0/conv1`` and so on, network by network."""
    found = []
    for done, seed in enumerate(population.seeds):
        stage(f"recording {networks.config.label}", done, len(population.seeds))
        stores = population.activations(networks.probe, networks.layers, steps=networks.steps, seeds=[seed])
        for name, store in stores.items():
            found += [renamed(store[layer].matrix(), f"{name}/{layer}", name, layer) for layer in networks.layers]
    return found


def renamed(representation: Representation, name: str, model: str, layer: str) -> Representation:
    """Return a representation under another name."""
    origin = replace(representation.origin, model=model, layer=layer)
    return replace(representation, name=name, origin=origin)


def subset(found: Iterable[Representation], n: int) -> list[Representation]:
    """Return the representations of the first `n` stimuli."""
    return [representation.take(np.arange(n)) for representation in found]


def matrix(values: Any, name: str, model: str, layer: str, ids: Any = None) -> Representation:
    """Return values, shape (n, p), as a named representation of a layer of a model."""
    return Representation(np.asarray(values), name, ids, origin=Origin(model=model, layer=layer))
