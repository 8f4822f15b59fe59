"""The trainings that studies record: images of the zoo, and characters of prose."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from congruence import zoo
from congruence.dynamics._paired import state_measure
from congruence.dynamics.convergence import BottomUp, bottom_up, time_to
from congruence.dynamics.recorder import Recorder
from congruence.dynamics.series import CheckpointSeries
from congruence.dynamics.studies._prose import prose
from congruence.errors import CongruenceWarning
from congruence.studies import Row, Tables
from congruence.zoo.building import initial_network
from congruence.zoo.evaluation import evaluate

if TYPE_CHECKING:
    import xarray as xr

Before = Callable[[int], None]
LENGTH = 20
"""Steps of a sequence, as in Morcos et al. 2018."""


def train(
    model: nn.Module, draw: Callable[[np.random.Generator], tuple[Tensor, Tensor]], updates: int, rate: float, seed: int, before: Before | None = None
) -> None:  # fmt: skip
    """Train on batches that `draw` gives, calling `before` ahead of every update; Adam, reproducible from the seed."""
    optimiser, rng = torch.optim.Adam(model.parameters(), lr=rate), np.random.default_rng(seed)
    for step in range(updates):
        if before is not None:
            before(step)
        x, y = draw(rng)
        model.train()
        optimiser.zero_grad()
        logits = model(x)
        torch.autograd.backward(cross_entropy(logits.reshape(-1, logits.shape[-1]), y.reshape(-1)))
        optimiser.step()


def in_batches(stimuli: Tensor, size: int = 250) -> list[Tensor]:
    """Return stimuli as the batches of a probe."""
    return [stimuli[start : start + size] for start in range(0, len(stimuli), size)]


# ---- images ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Images:
    """A network of the zoo before its training, batches to train it on, and the stimuli of the probe."""

    model: nn.Module
    draw: Callable[[np.random.Generator], tuple[Tensor, Tensor]]
    probe: list[Tensor]
    config: zoo.Config

    @classmethod
    def of(cls, architecture: str, data: str, seed: int, batch: int, stimuli: int) -> Images:
        """Return what the names in the zoo stand for."""
        config = zoo.Config(architecture, data)
        known = config.dataset.load("train")
        x, y = torch.from_numpy(known.inputs["input"]), torch.from_numpy(known.labels)

        def draw(rng: np.random.Generator) -> tuple[Tensor, Tensor]:
            rows = torch.from_numpy(rng.integers(len(y), size=batch))
            return x[rows], y[rows]

        probe = config.dataset.load("test").inputs["input"]
        chosen = np.random.default_rng(0).permutation(len(probe))[:stimuli]  # the same for every seed
        return cls(initial_network(config, seed), draw, in_batches(torch.from_numpy(probe[chosen])), config)

    @property
    def layers(self) -> list[str]:
        """The blocks that have weights, the lowest first: pooling puts out what is below it once more."""
        return [name for name, child in self.model.named_children() if any(True for _ in child.parameters())]

    def accuracy(self) -> float:
        """Return the accuracy on the test set."""
        return float(evaluate(self.model, self.config.dataset.load("test")).accuracy)


# ---- characters ------------------------------------------------------------------------------------------------------


class Characters(nn.Module):
    """A language model of characters: embedding, LSTM layers with names of their own, logits."""

    def __init__(self, characters: int, width: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, width)
        for k in range(layers):
            self.add_module(f"lstm{k + 1}", nn.LSTM(width, width, batch_first=True))
        self.logits = nn.Linear(width, characters)
        self.depth = layers

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of the next character, shape (n, time, characters)."""
        x = self.embedding(x)
        for k in range(self.depth):
            x, _ = self.get_submodule(f"lstm{k + 1}")(x)
        found: Tensor = self.logits(x)
        return found


def language_model(characters: int, width: int, layers: int, seed: int) -> Characters:
    """Return a language model before its training, whose weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Characters(characters, width, layers)


@dataclass(frozen=True, eq=False)
class Text:
    """Prose as numbers of characters: a part to train on, and windows of the rest."""

    known: np.ndarray[Any, np.dtype[np.int64]]
    unseen: np.ndarray[Any, np.dtype[np.int64]]
    characters: int

    @classmethod
    def of(cls, corpus: str) -> Text:
        """Return the sentences of a corpus; the last tenth is not trained on."""
        text = prose(corpus)
        alphabet = {character: k for k, character in enumerate(sorted(set(text)))}
        codes = np.array([alphabet[character] for character in text], dtype=np.int64)
        cut = len(codes) * 9 // 10
        return cls(codes[:cut], codes[cut:], len(alphabet))

    def draw(self, batch: int) -> Callable[[np.random.Generator], tuple[Tensor, Tensor]]:
        """Return what draws windows and the characters after them."""

        def drawn(rng: np.random.Generator) -> tuple[Tensor, Tensor]:
            starts = rng.integers(len(self.known) - LENGTH, size=batch)
            windows = torch.from_numpy(self.known[starts[:, None] + np.arange(LENGTH + 1)])
            return windows[:, :-1], windows[:, 1:]

        return drawn

    def windows(self, count: int) -> Tensor:
        """Return windows of unseen text that do not overlap, as many as asked for or as there are, evenly spread."""
        most = len(self.unseen) // LENGTH
        starts = LENGTH * np.linspace(0, most - 1, min(count, most)).astype(int)
        return torch.from_numpy(self.unseen[starts[:, None] + np.arange(LENGTH)])

    def loss(self, model: nn.Module) -> float:
        """Return nats per character of unseen text."""
        most = (len(self.unseen) - 1) // LENGTH
        windows = torch.from_numpy(self.unseen[LENGTH * np.arange(most)[:, None] + np.arange(LENGTH + 1)])
        model.eval()
        with torch.no_grad():
            logits = model(windows[:, :-1])
        return float(cross_entropy(logits.reshape(-1, self.characters), windows[:, 1:].reshape(-1)))


# ---- recorded --------------------------------------------------------------------------------------------------------


@contextmanager
def recorded(
    model: nn.Module, training: Callable[[Before], None], probe: list[Tensor], layers: Sequence[str], *, every: int, steps: str | None
) -> Iterator[CheckpointSeries]:  # fmt: skip
    """Record a training and give what was recorded, which is gone afterwards; what it warns of is known to the study."""
    with tempfile.TemporaryDirectory(prefix="congruence-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", CongruenceWarning)
        recorder = Recorder(model, probe, list(layers), every, Path(folder) / "run.zarr", steps=steps)

        def before(step: int) -> None:
            recorder.step(step)

        training(before)
        recorder.finish()
        yield CheckpointSeries(recorder.path)


def recorded_curves(
    model: nn.Module,
    training: Callable[[Before], None],
    probe: list[Tensor],
    layers: Sequence[str],
    *,
    every: int,
    steps: str | None,
    measures: Sequence[str],
) -> list[Row]:
    """Record a training and return the convergence of every layer: rows of measure, orientation, layer, step, value.

    A measure may also be ``"cosine"`` or ``"euclidean"``, as in `time_similarity`: features stay the same over a training.
    """
    with recorded(model, training, probe, layers, every=every, steps=steps) as series:
        rows: list[Row] = []
        for label in measures:
            chosen = state_measure(label)
            curve, orientation = series.convergence(chosen), chosen.info.orientation
            rows += [
                {"measure": label, "orientation": orientation, "layer": str(name), "step": int(step), "value": float(curve.sel(layer=name, step=step))}
                for name in curve["layer"].values
                for step in curve["step"].values
            ]  # fmt: skip
    return rows


def curves_of(tables: Tables, label: str) -> list[xr.DataArray]:
    """Return the curves of one measure in the table of curves, one array of shape (layer, step) a seed."""
    import xarray as xr

    found = []
    for seed in dict.fromkeys(row["seed"] for row in tables["curves"]):
        rows = [row for row in tables["curves"] if (row["seed"], row["measure"]) == (seed, label)]
        layers = list(dict.fromkeys(row["layer"] for row in rows))
        steps = list(dict.fromkeys(row["step"] for row in rows))
        values = np.array([np.nan if row["value"] is None else row["value"] for row in rows], dtype=float)
        values, about = values.reshape(len(layers), len(steps)), {"orientation": rows[0]["orientation"]}
        found.append(xr.DataArray(values, {"layer": layers, "step": steps}, ("layer", "step"), name=label, attrs=about))
    return found


def bottom_up_tests(tables: Tables, label: str, fraction: float, of: Any) -> BottomUp:
    """Return the bottom-up statistic of one measure over the seeds in the table of curves."""
    return bottom_up([time_to(curve, fraction, of) for curve in curves_of(tables, label)])
