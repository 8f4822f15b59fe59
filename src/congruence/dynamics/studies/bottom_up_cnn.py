"""bottom-up-cnn: in convolutional networks lower layers converge first (Raghu et al. 2017, section 4.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from congruence.dynamics.studies._bottom_up import BottomUpStudy
from congruence.studies import Tables, Tier, register


@dataclass(frozen=True)
class Settings:
    """Network and data of the zoo, seeds, training, schedule, stimuli, measures and the fraction of convergence."""

    architecture: str = "tiny10:width=0.5"
    data: str = "mnist_5k"
    seeds: int = 8
    updates: int = 400
    batch: int = 100
    learning_rate: float = 3e-3
    every: int = 20
    stimuli: int = 500
    steps: str | None = "spatial_mean"
    measures: tuple[str, ...] = ("svcca", "cka:estimator=debiased")
    fraction: float = 0.9


@register
class BottomUpCnn(BottomUpStudy):
    """Networks that differ in their seeds, recorded while they are trained."""

    name: ClassVar[str] = "bottom-up-cnn"
    title: ClassVar[str] = "Lower layers converge first"
    claim: ClassVar[str] = "In convolutional networks the time to converge to the final state grows with depth."
    source: ClassVar[str] = "Raghu et al. 2017, section 4.1 and Figure 4; there CIFAR-10, one network"
    tiers: ClassVar[Mapping[str, Tier]] = {
        "quick": Tier(
            Settings("mlp:width=16,depth=3", "digits", 2, 60, 50, 5e-3, 15, 100, None, ("svcca",)),
            "some seconds: perceptrons on 1,797 digits",
        ),
        "small": Tier(Settings(), "about 5 minutes: convolutional networks on 5,000 digits"),
    }

    def work(self, settings: Settings, piece: str) -> Tables:
        """Train and record one network."""
        from congruence.dynamics.studies._loops import Before, Images, recorded_curves, train

        seed = int(piece.removeprefix("seed-"))
        data = Images.of(settings.architecture, settings.data, seed, settings.batch, settings.stimuli)

        def training(before: Before) -> None:
            train(data.model, data.draw, settings.updates, settings.learning_rate, seed, before)

        rows = recorded_curves(
            data.model, training, data.probe, data.layers,
            every=settings.every, steps=settings.steps, measures=settings.measures,
        )  # fmt: skip
        return {
            "curves": [{"seed": seed, **row} for row in rows],
            "networks": [{"seed": seed, "test_accuracy": data.accuracy()}],
        }
