"""Two networks of four convolutional layers, images as stimuli: linear CKA, and debiased CKA from batches of 64."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

import congruence as cg
from benchmarks.measuring import (
    Array,
    Check,
    Result,
    forget_peak,
    peak_memory,
    product_rate,
    result,
    seconds_of,
)
from benchmarks.pairs import compare_all, random_pairs, require_agreement, warm_up
from congruence.engine.minibatch import MinibatchCKA

BATCHED = "cka:estimator=debiased"


@dataclass(frozen=True)
class Size:
    """Layers a network, images, the shape of a layer, images a batch, and pairs of the loop."""

    layers: int
    images: int
    shape: tuple[int, int, int]
    batch: int
    sample: int


FULL, TINY = Size(4, 512, (256, 16, 16), 64, 8), Size(2, 24, (6, 3, 3), 8, 3)


@lru_cache(maxsize=1)
def networks(size: Size) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return the layers of two networks as float32: few shared directions, noise, then a rectifier."""
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(size.images, 32)).astype(np.float32)

    def layer() -> Array:
        features = int(np.prod(size.shape))
        mixing = rng.standard_normal((32, features), dtype=np.float32)
        x = latent @ mixing + 2 * rng.standard_normal((size.images, features), dtype=np.float32)
        return np.maximum(x, 0).reshape(size.images, *size.shape)

    a, b = ({f"{side}{i}": layer() for i in range(size.layers)} for side in "ab")
    return a, b


def measure(row: str, name: str, folder: Path, *, tiny: bool = False) -> Result:
    """Measure one line of the row."""
    del folder
    size = TINY if tiny else FULL
    return {"images": measure_images, "batches": measure_batches}[name](row, name, size)


def measure_images(row: str, name: str, size: Size) -> Result:
    """Time linear CKA of all pairs of layers, images as stimuli."""
    a, b = networks(size)

    def everything() -> Any:
        return compare_all(a, b, "cka").matrix("cka")

    plan = cg.plan(a, b, ["cka"])
    return _measured(row, name, "linear CKA, images as stimuli", size, everything, _gram_cka, plan.flops)


def measure_batches(row: str, name: str, size: Size) -> Result:
    """Time debiased CKA of all pairs of layers from sums over batches."""
    a, b = networks(size)

    def everything() -> Any:
        sums = MinibatchCKA(list(a), list(b))
        for part in _batches(size):
            sums.update(*({name: x[part].reshape(size.batch, -1) for name, x in side.items()} for side in (a, b)))
        return sums.result().matrix(BATCHED)

    flops = float(2 * size.layers * size.images * size.batch * np.prod(size.shape))

    def formula(x: Array, y: Array) -> float:
        terms = sum(_hsic_terms(x[part], y[part]) for part in _batches(size))
        return float(terms[0] / np.sqrt(terms[1] * terms[2]))

    return _measured(row, name, f"debiased CKA, batches of {size.batch}", size, everything, formula, flops)


def _measured(
    row: str,
    name: str,
    what: str,
    size: Size,
    everything: Callable[[], Any],
    formula: Callable[[Array, Array], float],
    flops: float,
) -> Result:
    """Return the result of all pairs at once against a formula for one pair."""
    a, b = networks(size)
    warm_up("cka")
    rate = product_rate()
    forget_peak()
    seconds, found = seconds_of(everything)
    peak = peak_memory()
    chosen = random_pairs(list(a), list(b), size.sample)
    timed = [
        seconds_of(lambda i=i, j=j: formula(*(x.reshape(size.images, -1).astype(np.float64) for x in (a[i], b[j]))))
        for i, j in chosen
    ]
    difference = require_agreement(found, chosen, [value for _, value in timed], what)
    loop = statistics.mean(took for took, _ in timed) * size.layers**2
    floor = flops / rate
    columns = {
        "what": what,
        "all pairs, s": seconds,
        "pair loop, s": loop,
        "ratio": loop / seconds,
        "floor, s": floor,
        "time / floor": seconds / floor,
        "largest difference": difference,
    }
    return result(row, name, columns, [Check("times the floor", seconds / floor, 1.8, False)], rate, peak)


def _batches(size: Size) -> list[slice]:
    return [slice(start, start + size.batch) for start in range(0, size.images, size.batch)]


def _gram_cka(x: Array, y: Array) -> float:
    k, m = (_centred(v @ v.T) for v in (x, y))
    return float(np.sum(k * m) / np.sqrt(np.sum(k * k) * np.sum(m * m)))


def _centred(gram: Array) -> Array:
    gram = gram - gram.mean(axis=0)
    return gram - gram.mean(axis=1, keepdims=True)


def _hsic_terms(x: Array, y: Array) -> Array:
    """Return HSIC₁ of (x, y), (x, x) and (y, y) of one batch, as Song et al. 2012 write it."""
    k, m = (v @ v.T for v in (x, y))
    for gram in (k, m):
        np.fill_diagonal(gram, 0)
    return np.array([_hsic(*pair) for pair in ((k, m), (k, k), (m, m))])


def _hsic(k: Array, m: Array) -> float:
    n = len(k)
    value = np.sum(k * m) + k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 * (k.sum(axis=0) @ m.sum(axis=0)) / (n - 2)
    return float(value / (n * (n - 3)))
