"""signal-noise-training: some directions of a layer converge early, others never (Morcos et al. 2018, Figure 1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from congruence.dynamics.studies._directions import DirectionsStudy, Times
from congruence.studies import Tables, Tier, register


@dataclass(frozen=True)
class Settings(Times):
    """Network and data of the zoo, seeds, training, schedule, stimuli, and layers."""

    architecture: str = "tiny10:width=0.5"
    data: str = "mnist_5k"
    layers: tuple[str, ...] = ("conv5", "conv8")
    seeds: int = 5
    updates: int = 400
    batch: int = 100
    learning_rate: float = 3e-3
    every: int = 20
    stimuli: int = 1000
    steps: str | None = "spatial_mean"


@register
class SignalNoiseTraining(DirectionsStudy):
    """Networks that differ in their seeds, recorded while they are trained."""

    name: ClassVar[str] = "signal-noise-training"
    title: ClassVar[str] = "Some directions of a layer converge early, others never"
    claim: ClassVar[str] = (
        "Half way through the training some canonical directions of a layer are what they will be and others are not; "
        "those that had settled early stay in the layer, the others leave it."
    )
    source: ClassVar[str] = "Morcos et al. 2018, section 2.2 and Figure 1; there CIFAR-10, one network"
    learnt: ClassVar[tuple[str, str, str]] = ("test accuracy", "half_accuracy", "test_accuracy")
    tiers: ClassVar[Mapping[str, Tier]] = {
        "quick": Tier(
            Settings("mlp:width=20,depth=2", "digits", ("hidden2",), 2, 60, 50, 5e-3, 6, 200, None),
            "some seconds: perceptrons on 1,797 digits",
        ),
        "small": Tier(Settings(), "about 3 minutes: convolutional networks on 5,000 digits"),
    }

    def work(self, settings: Settings, piece: str) -> Tables:
        """Train and record one network, and follow its directions."""
        from congruence.dynamics.studies._loops import Before, Images, train

        seed = int(piece.removeprefix("seed-"))
        data = Images.of(settings.architecture, settings.data, seed, settings.batch, settings.stimuli)

        def training(before: Before) -> None:
            train(data.model, data.draw, settings.updates, settings.learning_rate, seed, before)

        return self.recorded(settings, seed, data.model, training, data.probe, data.accuracy)
