"""The rows of the page: what each measures, in which module, and what it needs."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from benchmarks import pairs, peers
from benchmarks.measuring import Result


@dataclass(frozen=True)
class Row:
    """Measurements that share data.

    Parameters
    ----------
    name, title, about : str
        What it is called on the command line and on the page, and what the page says of it.
    module : str
        Where its `measure(row, name, folder, tiny=...)` is; imported when it is run.
    names : tuple of str
        Its measurements.
    needs : tuple of str
        Modules that must be installed.
    """

    name: str
    title: str
    about: str
    module: str
    names: tuple[str, ...]
    needs: tuple[str, ...] = ()

    @property
    def lacking(self) -> tuple[str, ...]:
        """What it needs and is not installed."""
        return tuple(module for module in self.needs if importlib.util.find_spec(module) is None)

    def measure(self, name: str, folder: Path, *, tiny: bool) -> Result:
        """Make one measurement, with `folder` for what has to be on disk."""
        made: Result = importlib.import_module(self.module).measure(self.name, name, folder, tiny=tiny)
        return made


LOOP_ABOUT = (
    "All pairs by `congruence.compare`, in full. The pair loop (`benchmarks/loop.py`) on 24 random pairs of the same data in "
    "the same run, on all cores, extrapolated to all pairs; its values are the check. The floor is the arithmetic at the rate "
    "of a matrix product and the decompositions, each at the time of one of them while every core does one."
)
_TITLES = {
    "169": "169 pairs: two models of 13 layers, n = 2,000, p = 768",
    "780": "780 pairs: all pairs of 40, n = 1,000, p = 768",
    "8385": "8,385 pairs: all pairs of 130, n = 1,000, p = 768",
}

ROWS = (
    *(Row(name, title, LOOP_ABOUT, "benchmarks.pairs", pairs.TASKS[name].measures) for name, title in _TITLES.items()),
    Row(
        "845650",
        "845,650 pairs: 1,300 representations, n = 1,000, p = 768, float32 in a store on disk",
        "Linear CKA by `congruence.compare` with `memory='3.5GB'`, reading included, in a process of its own. The pair loop is "
        "that of the other rows, on 24 random pairs, extrapolated.",
        "benchmarks.million",
        ("cka",),
    ),
    Row(
        "stream",
        "More data than memory: n = 1,000,000, p = 256, two representations, float32 in a store on disk",
        "`congruence.compare` with `memory='1.5GB'` in a process of its own, against reading the data and the products XᵀX, YᵀY, "
        "XᵀY in turn; medians over three rounds. Values are checked against those that follow from the products.",
        "benchmarks.stream",
        ("CKA, CCA and Procrustes",),
    ),
    Row(
        "minibatch",
        "Without a store: two BERT encoders of 12 layers, all hidden states",
        "`congruence.compare_models` against bare forward passes of the same batches, in turn; the median over batches. Values "
        "are checked against states that the models return themselves.",
        "benchmarks.minibatch",
        ("BERT",),
        ("torch", "transformers"),
    ),
    Row(
        "conv",
        "2 x 4 convolutional layers, 512 images, 256 x 16 x 16",
        "All pairs in full; the pair loop (Gram matrices and their products) on 8 random pairs, extrapolated to 16.",
        "benchmarks.convolution",
        ("images", "batches"),
    ),
    Row(
        "dask",
        "Two Dask workers on one machine",
        "The same tiles, of 48 representations in a store (n = 1,000, p = 512), on one worker and on two that are running already.",
        "benchmarks.workers",
        ("procrustes",),
        ("distributed",),
    ),
    Row(
        "peers",
        "Public packages, on the data of the 169 pairs",
        "Each package on three random pairs (the median; on one where that takes over 20 s), extrapolated; congruence computes "
        "all of them in the same run. "
        "Packages that run models themselves, or need torchvision, are left out.",
        "benchmarks.peers",
        tuple(map(peers.name_of, peers.available())),
    ),
)
