"""The data of the benchmarks: power-law spectrum, a latent that the models share, a rotation each, a noise floor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.measuring import Array
from congruence.store import Recorded, StoreWriter


def make_data(count: int, n: int, p: int, seed: int) -> list[Array]:
    """Return representations (n, p) of one latent structure."""
    latent = np.random.default_rng(1234).normal(size=(n, p)) * np.arange(1, p + 1) ** -0.7
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        rotation = np.linalg.qr(rng.normal(size=(p, p)))[0]
        found.append(latent @ rotation + 0.05 * rng.normal(size=(n, p)))
    return found


def write_store(path: Path, names: list[str], n: int, batch: int, rows: Callable[[slice], list[Array]]) -> None:
    """Write layers as float32, a batch of stimuli at a time; `rows` returns those of all layers."""
    with StoreWriter(path, provenance={"model": "benchmark"}) as writer:
        for index, start in enumerate(range(0, n, batch)):
            found = rows(slice(start, min(start + batch, n)))
            layers = {
                name: Recorded(x.astype(np.float32), None, False, "float32", ())
                for name, x in zip(names, found, strict=True)
            }
            writer.append(index, None, str(index), layers)
        writer.finish(names, names)
