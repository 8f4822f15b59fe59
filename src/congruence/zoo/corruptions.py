"""Corruptions of images: test sets whose distribution differs from that of training, in five severities.

In the manner of Hendrycks & Dietterich 2019 (arXiv 1903.12261) and, for digits, Mu & Gilmer 2019 (arXiv 1906.02337); the
strengths are our own.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from scipy import ndimage

from congruence.validate import Interval
from congruence.zoo.specs import Spec, parse

Images = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Corruption(Spec):
    """A change of images with values from 0 to 1, shape (n, height, width).

    Parameters
    ----------
    severity : int
        From 1 (weak) to 5 (strong).
    """

    levels: ClassVar[tuple[float, ...]]
    severity: Annotated[int, Interval(1, 5)] = 3

    @property
    def level(self) -> float:
        """The strength that belongs to the severity."""
        return self.levels[self.severity - 1]

    @abstractmethod
    def apply(self, images: Images, rng: np.random.Generator) -> Images:
        """Return the changed images; values may leave [0, 1]."""

    def __call__(self, images: Images, seed: int = 0) -> Images:
        """Return the changed images, float32 values from 0 to 1."""
        changed = self.apply(images, np.random.default_rng(seed))
        return np.clip(changed, 0, 1).astype(np.float32)


class GaussianNoise(Corruption):
    """Independent noise at every pixel; the level is its standard deviation."""

    name = "gaussian_noise"
    levels = (0.1, 0.2, 0.3, 0.45, 0.6)

    def apply(self, images: Images, rng: np.random.Generator) -> Images:
        """Return the images with noise."""
        return images + self.level * rng.standard_normal(images.shape)


class ImpulseNoise(Corruption):
    """Pixels set to black or white; the level is their share."""

    name = "impulse_noise"
    levels = (0.03, 0.07, 0.12, 0.2, 0.3)

    def apply(self, images: Images, rng: np.random.Generator) -> Images:
        """Return the images with salt and pepper."""
        hit, white = rng.random(images.shape) < self.level, rng.random(images.shape) < 0.5
        return np.where(hit, white, images)


class Blur(Corruption):
    """Gaussian blur; the level is its standard deviation as a share of the width."""

    name = "blur"
    levels = (0.02, 0.035, 0.05, 0.075, 0.1)

    def apply(self, images: Images, rng: np.random.Generator) -> Images:
        """Return the blurred images."""
        del rng
        sigma = self.level * images.shape[2]
        blurred: Images = ndimage.gaussian_filter(images, (0, sigma, sigma))
        return blurred


class Contrast(Corruption):
    """Values drawn towards the mean of their image; the level is the share of the contrast that is left."""

    name = "contrast"
    levels = (0.6, 0.45, 0.3, 0.2, 0.1)

    def apply(self, images: Images, rng: np.random.Generator) -> Images:
        """Return the images with less contrast."""
        del rng
        mean = images.mean(axis=(1, 2), keepdims=True)
        changed: Images = mean + self.level * (images - mean)
        return changed


class Brightness(Corruption):
    """A lighter background; the level is added to all values."""

    name = "brightness"
    levels = (0.1, 0.2, 0.3, 0.4, 0.55)

    def apply(self, images: Images, rng: np.random.Generator) -> Images:
        """Return the lighter images."""
        del rng
        return images + self.level


class Rotation(Corruption):
    """Every image turned by the level in degrees, to either side at random."""

    name = "rotation"
    levels = (10.0, 20.0, 30.0, 40.0, 55.0)

    def apply(self, images: Images, rng: np.random.Generator) -> Images:
        """Return the turned images."""
        angles = self.level * rng.choice([-1.0, 1.0], len(images))
        return np.stack(
            [ndimage.rotate(im, angle, reshape=False, order=1) for im, angle in zip(images, angles, strict=True)]
        )


class Translation(Corruption):
    """Every image moved in a random direction; the level is the distance as a share of the width."""

    name = "translation"
    levels = (0.05, 0.1, 0.15, 0.2, 0.27)

    def apply(self, images: Images, rng: np.random.Generator) -> Images:
        """Return the moved images."""
        angle = rng.uniform(0, 2 * np.pi, len(images))
        moves = self.level * images.shape[2] * np.stack([np.sin(angle), np.cos(angle)], axis=1)
        return np.stack([ndimage.shift(image, move, order=1) for image, move in zip(images, moves, strict=True)])


class Occlusion(Corruption):
    """A grey square at a random place; the level is its side as a share of the width."""

    name = "occlusion"
    levels = (0.15, 0.25, 0.35, 0.45, 0.55)

    def apply(self, images: Images, rng: np.random.Generator) -> Images:
        """Return the images with a part hidden."""
        changed, (height, width) = images.copy(), images.shape[1:]
        side = max(1, round(self.level * width))
        tops, lefts = rng.integers(0, height - side + 1, len(images)), rng.integers(0, width - side + 1, len(images))
        for image, top, left in zip(changed, tops, lefts, strict=True):
            image[top : top + side, left : left + side] = 0.5
        return changed


class Pixelate(Corruption):
    """Fewer pixels; the level is the share of the resolution that is left."""

    name = "pixelate"
    levels = (0.75, 0.6, 0.45, 0.35, 0.25)

    def apply(self, images: Images, rng: np.random.Generator) -> Images:
        """Return the coarse images."""
        del rng
        height, width = images.shape[1:]
        rows = _coarse(height, max(2, round(self.level * height)))
        columns = _coarse(width, max(2, round(self.level * width)))
        coarse: Images = rows @ images @ columns.T
        return coarse


def _coarse(size: int, cells: int) -> Images:
    """Return the matrix that replaces every pixel by the mean of its cell."""
    cell = np.arange(size) * cells // size
    same = cell[:, None] == cell[None, :]
    matrix: Images = same / same.sum(axis=1, keepdims=True)
    return matrix


_ALL = (GaussianNoise, ImpulseNoise, Blur, Contrast, Brightness, Rotation, Translation, Occlusion, Pixelate)

CORRUPTIONS: dict[str, type[Corruption]] = {kind.name: kind for kind in _ALL}
"""Name -> corruption."""


def corruption(spec: str | Corruption) -> Corruption:
    """Return the corruption that a text such as ``"blur:severity=2"`` describes."""
    return parse(spec, CORRUPTIONS, "corruption")
