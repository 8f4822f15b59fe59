"""Images as tensors, for models that do not say how they want them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

IMAGE_SIZE = 224


def plain_transform(size: int | tuple[int, int] = IMAGE_SIZE) -> Callable[[Any], torch.Tensor]:
    """Return a function from a PIL image to an RGB tensor with values from 0 to 1.

    Parameters
    ----------
    size : int or tuple of int
        Height and width of the tensors; images of other shapes are stretched.
    """
    height, width = (size, size) if isinstance(size, int) else size

    def transform(image: Any) -> torch.Tensor:
        scaled = np.array(image.convert("RGB").resize((width, height)), dtype=np.float32) / 255
        return torch.from_numpy(scaled).permute(2, 0, 1).contiguous()

    return transform
