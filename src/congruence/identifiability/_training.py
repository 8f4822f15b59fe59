"""Small networks of the family softmax(f(x)·g(y)), many trained together: one stack of weights, one step for all.

Layout and recipe: Nielsen et al. 2025 (arXiv 2506.03784). f and g are multi-layer perceptrons with three hidden layers and
leaky ReLU, the last layer without a bias; g takes labels as one-hot vectors of which the last entry is cut off. Adam, the
same order of batches for all networks of a stack; seeds differ in their initial weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from congruence.identifiability._model import Labels, Matrix

HIDDEN = 3
Loss = Literal["labels", "kl", "l1", "l2"]


@dataclass(frozen=True, eq=False)
class Data:
    """Inputs and labels to train on and to test with, as PyTorch takes them."""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    classes: int


@dataclass(frozen=True, eq=False)
class Trained:
    """What a stack of networks puts out for the test inputs, and how good it is.

    Attributes
    ----------
    f : array, shape (networks, n, M)
        Embeddings.
    g : array, shape (networks, K, M)
        Unembeddings.
    accuracy, loss : array, shape (networks,)
        On the test inputs; the loss is the mean of -ln p(label).
    """

    f: Matrix
    g: Matrix
    accuracy: Matrix
    loss: Matrix


class StackedMLP(nn.Module):
    """Multi-layer perceptrons of one shape, as stacks of matrices; each starts as PyTorch starts a linear layer.

    Parameters
    ----------
    inputs, width, outputs : int
        Sizes; there are three hidden layers.
    seeds : sequence of int
        One network each.
    """

    def __init__(self, inputs: int, width: int, outputs: int, seeds: Sequence[int]) -> None:
        super().__init__()
        sizes = [inputs, *[width] * HIDDEN, outputs]
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        shapes = list(zip(sizes[:-1], sizes[1:], strict=True))
        self.weights = nn.ParameterList([_uniform((a, b), a, generators) for a, b in shapes])
        self.biases = nn.ParameterList([_uniform((1, b), a, generators) for a, b in shapes[:-1]])

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs, shape (networks, n, outputs), for the inputs x, shape (n, inputs)."""
        out = x.expand(self.weights[0].shape[0], *x.shape)
        for weight, bias in zip(self.weights, self.biases, strict=False):
            out = nn.functional.leaky_relu(torch.baddbmm(bias, out, weight))
        return torch.bmm(out, self.weights[-1])


def _uniform(shape: tuple[int, int], fan_in: int, generators: Sequence[torch.Generator]) -> nn.Parameter:
    bound = 1 / math.sqrt(fan_in)
    return nn.Parameter(torch.stack([torch.empty(shape).uniform_(-bound, bound, generator=g) for g in generators]))


@dataclass(frozen=True)
class Recipe:
    """How a stack is trained.

    Parameters
    ----------
    dimension, width : int
        M, and the width of the hidden layers.
    steps, batch_size : int
        Of Adam.
    learning_rate : float
        Constant.
    norm : float
        If positive, embeddings and unembeddings are scaled to this norm.
    """

    dimension: int = 2
    width: int = 128
    steps: int = 15_000
    batch_size: int = 128
    learning_rate: float = 1e-4
    norm: float = 0.0


class Stack(nn.Module):
    """Embeddings and unembeddings of several networks."""

    def __init__(self, recipe: Recipe, data: Data, seeds: Sequence[int]) -> None:
        super().__init__()
        self.norm = recipe.norm
        self.f = StackedMLP(data.train.shape[1], recipe.width, recipe.dimension, [2 * seed for seed in seeds])
        self.g = StackedMLP(data.classes - 1, recipe.width, recipe.dimension, [2 * seed + 1 for seed in seeds])
        # The last label is the zero vector: K labels need K - 1 entries.
        self.register_buffer("labels", torch.eye(data.classes)[:, :-1].contiguous())

    def embed(self, x: Tensor) -> Tensor:
        """Return f, shape (networks, n, M)."""
        return self._scaled(self.f(x))

    def unembed(self) -> Tensor:
        """Return g, shape (networks, K, M)."""
        return self._scaled(self.g(self.get_buffer("labels")))

    def _scaled(self, out: Tensor) -> Tensor:
        return self.norm * nn.functional.normalize(out, dim=-1, eps=1e-8) if self.norm > 0 else out

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits, shape (networks, n, K)."""
        return torch.bmm(self.embed(x), self.unembed().transpose(1, 2))


def train_stack(
    recipe: Recipe, data: Data, seeds: Sequence[int], *, loss: Loss = "labels", teacher: Stack | None = None
) -> Stack:
    """Return networks trained together.

    Parameters
    ----------
    recipe : Recipe
        How.
    data : Data
        On what.
    seeds : sequence of int
        One network each: the seed of its initial weights.
    loss : {"labels", "kl", "l1", "l2"}
        Negative log-likelihood of the labels; or towards a teacher: KL divergence of its distribution from the student's,
        mean absolute difference of logits, sum over the labels of squared differences of logits (as the original).
    teacher : Stack, optional
        One network whose logits are the target.
    """
    stack = Stack(recipe, data, seeds)
    optimiser = torch.optim.Adam(stack.parameters(), lr=recipe.learning_rate, fused=True)
    for rows in _batches(len(data.train), recipe):
        inputs = data.train[rows]
        logits = stack(inputs)
        if teacher is None:
            value = _likelihood_loss(logits, data.train_labels[rows])
        else:
            with torch.no_grad():
                target = teacher(inputs)
            value = _teacher_loss(logits, target.expand_as(logits), loss)
        optimiser.zero_grad()
        torch.autograd.backward(value.sum())  # networks share no weight: the gradient of a sum is each network's own
        optimiser.step()
    return stack


def _batches(count: int, recipe: Recipe) -> Iterator[Tensor]:
    """Yield the rows of every step, in a new order each epoch; what is left over at its end is dropped."""
    random = torch.Generator().manual_seed(0)
    size = min(recipe.batch_size, count)
    done = 0
    while done < recipe.steps:
        order = torch.randperm(count, generator=random)
        for start in range(0, min(count // size, recipe.steps - done) * size, size):
            yield order[start : start + size]
            done += 1


def _likelihood_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the loss of every network, shape (networks,)."""
    chosen = torch.log_softmax(logits, dim=-1).gather(-1, labels.expand(len(logits), -1)[..., None])
    return -chosen.mean(dim=(1, 2))


def _teacher_loss(logits: Tensor, target: Tensor, loss: Loss) -> Tensor:
    if loss == "kl":
        log_p, log_q = torch.log_softmax(target, dim=-1), torch.log_softmax(logits, dim=-1)
        return (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean(dim=1)
    if loss == "l1":
        return (logits - target).abs().mean(dim=(1, 2))
    return ((logits - target) ** 2).sum(dim=-1).mean(dim=1)


def evaluate_stack(stack: Stack, data: Data) -> Trained:
    """Return representations and quality on the test inputs."""
    with torch.no_grad():
        f, g = stack.embed(data.test), stack.unembed()
        logits = torch.bmm(f, g.transpose(1, 2))
        loss = _likelihood_loss(logits, data.test_labels)
        accuracy = (logits.argmax(dim=-1) == data.test_labels).double().mean(dim=1)
    return Trained(*(np.asarray(part.double()) for part in (f, g, accuracy, loss)))


def radial_data(classes: int, train: int, test: int, seed: int = 0) -> Data:
    """Return points of a normal distribution (sd 3) in the plane, labelled by the angle of the line to the origin.

    Points below the axis are reflected at the origin; [0, pi) is cut into equal bins, one a class.
    """
    parts = []
    for count, offset in ((train, 0), (test, 1)):
        points = np.random.default_rng(seed + offset).normal(0, 3, (count, 2)).astype(np.float32)
        labels = radial_labels(points, classes)
        parts += [torch.from_numpy(points), torch.from_numpy(labels)]
    return Data(parts[0], parts[1], parts[2], parts[3], classes)


def radial_labels(points: Matrix | np.ndarray[tuple[int, ...], np.dtype[np.float32]], classes: int) -> Labels:
    """Return the class of every point."""
    angles = np.arctan2(points[:, 1], points[:, 0]) % np.pi
    return np.minimum((angles / (np.pi / classes)).astype(np.int64), classes - 1)


def image_data(name: str) -> Data:
    """Return the images of a data set of the zoo as rows of pixels."""
    from congruence.zoo.datasets import DATASETS

    found = DATASETS[name]()
    parts = []
    for split in ("train", "test"):
        labelled = found.load(split)
        pixels = np.asarray(labelled.inputs["input"], dtype=np.float32).reshape(len(labelled), -1)
        parts += [torch.from_numpy(pixels), torch.from_numpy(np.asarray(labelled.labels, dtype=np.int64))]
    return Data(parts[0], parts[1], parts[2], parts[3], found.classes)
