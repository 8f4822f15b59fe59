"""What happens at which step: augmentation of the batches, and checkpoints that are kept."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional


def keeps(kind: str, step: int, per_epoch: int) -> bool:
    """Return whether the weights after `step` steps are kept."""
    if kind == "log":
        return step & (step - 1) == 0
    return kind == "epochs" and step % per_epoch == 0


def _shift(images: Tensor, random: torch.Generator) -> Tensor:
    """Return every image moved by up to a tenth of its size; what comes in at the edges repeats the edge."""
    n, _, height, width = images.shape
    reach = max(1, round(height / 10))
    padded = functional.pad(images, (reach,) * 4, mode="replicate")
    moves = torch.randint(0, 2 * reach + 1, (n, 2), generator=random)
    rows, columns = moves[:, :1] + torch.arange(height), moves[:, 1:] + torch.arange(width)
    moved = padded[torch.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # (n, height, width, c)
    return moved.permute(0, 3, 1, 2)


def _noise(images: Tensor, random: torch.Generator) -> Tensor:
    """Return the images with Gaussian noise, in units of the standardised pixels."""
    return images + 0.3 * torch.randn(images.shape, generator=random)


AUGMENTATIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {"shift": _shift, "noise": _noise}
"""Name -> function of a batch of images (n, c, height, width) and a generator."""
