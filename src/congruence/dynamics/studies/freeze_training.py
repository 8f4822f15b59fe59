"""freeze-training: layers that are frozen bottom-up cost no accuracy and save compute (Raghu et al. 2017, section 4.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from congruence import figures
from congruence.dynamics.studies._shared import CORRELATIONS, mean_interval
from congruence.studies import Outcome, Row, Study, Tables, Tier, Verdict, register

SCHEDULES = ("none", "linear", "converged")
MARGIN = 0.01
"""Loss of accuracy that still counts as none."""


@dataclass(frozen=True)
class Settings:
    """Network and data of the zoo, seeds, training, and the rule of measured convergence."""

    architecture: str = "tiny10:width=0.5"
    data: str = "mnist_5k"
    seeds: int = 10
    updates: int = 400
    batch: int = 100
    learning_rate: float = 3e-3
    every: int = 40
    stimuli: int = 300
    steps: str | None = "spatial_mean"
    measure: str = "svcca"
    threshold: float = 0.95
    patience: int = 2


@register
class FreezeTraining(Study):
    """The same trainings with and without freezing."""

    name: ClassVar[str] = "freeze-training"
    title: ClassVar[str] = "Freeze training"
    claim: ClassVar[str] = (
        "Freezing layer l of L at l/L of the training saves compute at the test accuracy of the whole training, or a better one."
    )
    source: ClassVar[str] = "Raghu et al. 2017, section 4.2 and Figure 5; there CIFAR-10, 10 runs, 160,000 steps"
    tiers: ClassVar[Mapping[str, Tier]] = {
        "quick": Tier(
            Settings("mlp:width=16,depth=3", "digits", 2, 60, 50, 5e-3, 15, 100, None, "cka", 0.9, 1),
            "some seconds: perceptrons on 1,797 digits",
        ),
        "small": Tier(Settings(), "about 15 minutes: 3 x 10 convolutional networks on 5,000 digits"),
    }

    def pieces(self, settings: Settings) -> Sequence[str]:
        """Return one piece for each seed and schedule."""
        return [f"seed-{seed}-{schedule}" for seed in range(settings.seeds) for schedule in SCHEDULES]

    def work(self, settings: Settings, piece: str) -> Tables:
        """Train one network."""
        _, number, schedule = piece.split("-")
        accuracy, saving = _trained(settings, int(number), schedule)
        events = [] if saving is None else [{"seed": int(number), "schedule": schedule, "update": step, "layer": name} for step, name in saving.events]  # fmt: skip
        share = 0.0 if saving is None else saving.share
        row: Row = {"seed": int(number), "schedule": schedule, "test_accuracy": accuracy, "saved": share}
        return {"networks": [row], "events": events}

    def summarise(self, settings: Settings, tables: Tables) -> list[Row]:
        """Return accuracy, the difference that freezing makes with its interval, and what it saves."""
        plain = _accuracies(tables, "none")
        found: list[Row] = []
        for schedule in SCHEDULES:
            own = _accuracies(tables, schedule)
            mean, low, high = mean_interval(own - plain, CORRELATIONS)
            saved = float(np.mean([row["saved"] for row in tables["networks"] if row["schedule"] == schedule]))
            found.append({"schedule": schedule, "seeds": settings.seeds, "test_accuracy": float(own.mean()), "difference": mean, "low": low, "high": high, "saved_backward": saved})  # fmt: skip
        return found

    def judge(self, settings: Settings, tables: Tables) -> Verdict:
        """Return whether the linear schedule is as accurate, up to a margin that its interval must keep."""
        lines = {line["schedule"]: line for line in self.summarise(settings, tables)}
        linear = lines["linear"]
        outcome: Outcome = "differs"  # the interval does not decide
        if linear["low"] > -MARGIN and linear["saved_backward"] > 0:
            outcome = "reproduced"
        elif linear["high"] < 0:
            outcome = "not reproduced"
        text = "; ".join(
            f"{name}: accuracy {line['test_accuracy']:.4f}, difference {line['difference']:+.4f} ({line['low']:+.4f} to {line['high']:+.4f}), {line['saved_backward']:.0%} of the backward operations saved"
            for name, line in lines.items()
            if name != "none"
        )
        statistics = {
            f"{name} {key}": float(line[key])
            for name, line in lines.items()
            if name != "none"
            for key in ("difference", "low", "high", "saved_backward")
        }
        plain = f"Without freezing {lines['none']['test_accuracy']:.4f} over {settings.seeds} seeds; "
        return Verdict(outcome, plain + text + ".", statistics)

    def draw(self, settings: Settings, tables: Tables, folder: Path) -> None:
        """Draw the accuracies, seed by seed."""
        del settings
        plain = _accuracies(tables, "none")
        series = [figures.Series(name, plain, _accuracies(tables, name)) for name in SCHEDULES[1:]]
        ax = figures.points(series, xlabel="test accuracy without freezing", ylabel="with freezing", title=self.title)
        figures.save_figure(ax, folder / "accuracy.png")


def _accuracies(tables: Tables, schedule: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the accuracies of a schedule by seed."""
    rows = sorted((row["seed"], row["test_accuracy"]) for row in tables["networks"] if row["schedule"] == schedule)
    return np.array([accuracy for _, accuracy in rows], dtype=np.float64)


def _trained(settings: Settings, seed: int, schedule: str) -> tuple[float, Any]:
    """Return the test accuracy of one training, and what freezing saved."""
    import tempfile
    import warnings

    from congruence.dynamics.freezing import ConvergedFreeze, Freezer, LinearFreeze
    from congruence.dynamics.recorder import Recorder
    from congruence.dynamics.studies._loops import Images, train
    from congruence.errors import CongruenceWarning

    data = Images.of(settings.architecture, settings.data, seed, settings.batch, settings.stimuli)
    layers = data.layers
    with tempfile.TemporaryDirectory(prefix="congruence-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", CongruenceWarning)
        recorder = Recorder(
            data.model, data.probe, layers, settings.every, Path(folder) / "run.zarr", steps=settings.steps
        )
        rule: Any = LinearFreeze(settings.updates)
        if schedule == "converged":
            rule = ConvergedFreeze(recorder, settings.measure, settings.threshold, settings.patience)
        freezer = Freezer(data.model, layers, rule, data.probe[0]) if schedule != "none" else None

        def before(step: int) -> None:
            if schedule == "converged":
                recorder.step(step)
            if freezer is not None:
                freezer.step(step)

        train(data.model, data.draw, settings.updates, settings.learning_rate, seed, before)
        recorder.close()
    return data.accuracy(), None if freezer is None else freezer.saving
