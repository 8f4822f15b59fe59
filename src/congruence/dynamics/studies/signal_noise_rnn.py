"""signal-noise-rnn: some directions of a recurrent layer converge early, others never (Morcos et al. 2018, Figure 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from congruence.dynamics.studies._directions import DirectionsStudy, Times
from congruence.dynamics.studies._prose import TEXT, parsed, pieces
from congruence.studies import Tables, Tier, register


@dataclass(frozen=True)
class Settings(Times):
    """Layers and width of the LSTM, seeds, training, schedule, and stimuli: as many windows of unseen text as there are, at most."""

    depth: int = 2
    width: int = 64
    seeds: int = 6
    updates: int = 2000
    batch: int = 64
    learning_rate: float = 3e-3
    every: int = 100
    stimuli: int = 2000
    steps: str = "last_step"

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the recurrent layers."""
        return tuple(f"lstm{k + 1}" for k in range(self.depth))


@register
class SignalNoiseRnn(DirectionsStudy):
    """Character LSTMs that differ in their seeds, recorded while they are trained."""

    name: ClassVar[str] = "signal-noise-rnn"
    title: ClassVar[str] = "Some directions of a recurrent layer converge early, others never"
    claim: ClassVar[str] = (
        "Half way through the training of a recurrent language model some canonical directions of a layer are what they "
        "will be and others are not; those that had settled early stay in the layer, the others leave it."
    )
    source: ClassVar[str] = (
        "Morcos et al. 2018, section 2.2 and Figure 1 (b, c, e, f); there PTB (half of 500 epochs) and WikiText-2"
    )
    learnt: ClassVar[tuple[str, str, str]] = ("nats per character of unseen text", "half_loss", "unseen_loss")
    tiers: ClassVar[Mapping[str, Tier]] = {
        "quick": Tier(Settings(1, 8, 2, 40, 16, 1e-2, 4, 100), "some seconds: one narrow layer, hardly trained"),
        "small": Tier(Settings(), f"about 6 minutes: {TEXT}"),
    }

    def pieces(self, settings: Settings) -> Sequence[str]:
        """Return one piece for each seed."""
        return pieces(settings.seeds)

    def work(self, settings: Settings, piece: str) -> Tables:
        """Train and record one language model; a layer is its state after the last character of a window."""
        from congruence.dynamics.studies._loops import Before, Text, in_batches, language_model, train

        corpus, seed = parsed(piece)
        text = Text.of(corpus)
        model = language_model(text.characters, settings.width, settings.depth, seed)

        def training(before: Before) -> None:
            train(model, text.draw(settings.batch), settings.updates, settings.learning_rate, seed, before)

        probe, cells = in_batches(text.windows(settings.stimuli)), "!*[1]*"
        return self.recorded(
            settings, seed, model, training, probe, lambda: text.loss(model), leave_out=cells, corpus=corpus
        )
