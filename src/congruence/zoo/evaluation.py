"""How well a network does on labelled stimuli."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from congruence.zoo.learners import call
from congruence.zoo.probes import Labelled


class Score(NamedTuple):
    """Share of right answers, and mean cross-entropy in nats."""

    accuracy: float
    loss: float


def logits(model: nn.Module, data: Labelled, batch_size: int = 250) -> torch.Tensor:
    """Return what a network answers, shape (n, classes); it is in evaluation mode meanwhile."""
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        found = [
            call(model, batch if isinstance(batch, dict) else {"input": batch}) for batch in data.batches(batch_size)
        ]
    model.train(was_training)
    return torch.cat(found)


def evaluate(model: nn.Module, data: Labelled) -> Score:
    """Return accuracy and loss on labelled stimuli."""
    answers, labels = logits(model, data), torch.from_numpy(data.labels)
    right = (answers.argmax(dim=1) == labels).double().mean()
    return Score(float(right), float(functional.cross_entropy(answers.double(), labels)))
