"""bottom-up-rnn: recurrent language models converge bottom-up, too (Morcos et al. 2018, section 4.1; Raghu et al., App. 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from congruence.dynamics.studies._bottom_up import BottomUpStudy
from congruence.dynamics.studies._prose import TEXT, parsed, pieces
from congruence.studies import Tables, Tier, register


@dataclass(frozen=True)
class Settings:
    """Layers and width of the LSTM, seeds, training, schedule, stimuli, measures and the fraction of convergence."""

    layers: int = 4
    width: int = 64
    seeds: int = 6
    updates: int = 1500
    batch: int = 64
    learning_rate: float = 3e-3
    every: int = 75
    stimuli: int = 600
    measures: tuple[str, ...] = ("pwcca", "svcca", "cka:estimator=debiased")
    fraction: float = 0.9


@register
class BottomUpRnn(BottomUpStudy):
    """Character LSTMs that differ in their seeds, recorded while they are trained."""

    name: ClassVar[str] = "bottom-up-rnn"
    title: ClassVar[str] = "Recurrent layers converge bottom-up"
    claim: ClassVar[str] = "In recurrent language models the time to converge to the final state grows with depth."
    source: ClassVar[str] = (
        "Morcos et al. 2018, section 4.1 and Figure 6 (PWCCA; PTB and WikiText-2); Raghu et al. 2017, appendix 6"
    )
    tiers: ClassVar[Mapping[str, Tier]] = {
        "quick": Tier(
            Settings(2, 8, 2, 40, 16, 1e-2, 10, 100, ("pwcca",)), "some seconds: two narrow layers, hardly trained"
        ),
        "small": Tier(
            Settings(),
            f"about 5 minutes: {TEXT}",
        ),
    }

    def pieces(self, settings: Settings) -> Sequence[str]:
        """Return one piece for each seed."""
        return pieces(settings.seeds)

    def work(self, settings: Settings, piece: str) -> Tables:
        """Train and record one language model; a layer is its state after the last character of a window."""
        from congruence.dynamics.studies._loops import Before, Text, in_batches, language_model, recorded_curves, train

        corpus, seed = parsed(piece)
        text = Text.of(corpus)
        model = language_model(text.characters, settings.width, settings.layers, seed)

        def training(before: Before) -> None:
            train(model, text.draw(settings.batch), settings.updates, settings.learning_rate, seed, before)

        layers = [*(f"lstm{k + 1}" for k in range(settings.layers)), "logits", "!*[1]*"]
        rows = recorded_curves(
            model, training, in_batches(text.windows(settings.stimuli)), layers,
            every=settings.every, steps="last_step", measures=settings.measures,
        )  # fmt: skip
        return {
            "curves": [{"seed": seed, **row} for row in rows],
            "networks": [{"seed": seed, "corpus": corpus, "unseen_loss": text.loss(model)}],
        }
