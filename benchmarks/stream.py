"""What a comparison of more data than memory costs over reading the data and the three products XᵀX, YᵀY, XᵀY.

Two representations that share their latents are written to a store as float32, without compression. Then, in turn, the
floor (read a chunk, convert it to float64, multiply) and the comparison by CKA, CCA and Procrustes are timed; the ratio is
the median over the rounds. Peak memory is that of a process that does nothing but compare. The values must be those that
follow from the sums of the floor.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import congruence as cg
from benchmarks.data import write_store
from benchmarks.measuring import AGREE, Array, Check, Disagreement, Result, peak_memory, result, seconds_of
from benchmarks.pairs import compare_all, warm_up

MEASURES = ("cka", "cca", "procrustes")
MEMORY = "1.5GB"
BATCH = 8192


@dataclass(frozen=True)
class Size:
    """Stimuli, features, and how often it is measured."""

    n: int
    p: int
    rounds: int


FULL, TINY = Size(1_000_000, 256, 3), Size(3000, 8, 1)


@dataclass(frozen=True)
class Sums:
    """Seconds of reading and of the products, and the sums themselves."""

    reading: float
    products: float
    totals: tuple[Array, Array, Array]
    means: tuple[Array, Array]

    @property
    def seconds(self) -> float:
        """Both together; the conversion to float64 is left out."""
        return self.reading + self.products


def measure(row: str, name: str, folder: Path, *, tiny: bool = False) -> Result:
    """Time the comparison against the floor, in turn."""
    size = TINY if tiny else FULL
    store = folder / "run.zarr"
    _write(store, size)
    floors, seconds, peaks, values = [], [], [], {}
    for _ in range(size.rounds):
        floors.append(floor(store))
        command = [sys.executable, "-m", "benchmarks.stream", str(store)]
        out = subprocess.run(command, check=True, capture_output=True, text=True)
        took, peak, values = json.loads(out.stdout)
        seconds.append(took)
        peaks.append(peak)
    difference = _require_agreement(values, direct(floors[0], size.n))
    ratio = statistics.median(s / f.seconds for s, f in zip(seconds, floors, strict=True))
    middle = sorted(floors, key=lambda f: f.seconds)[len(floors) // 2]
    columns = {
        "stimuli": f"{size.n:,}",
        "measures": ", ".join(MEASURES),
        "comparison, s": statistics.median(seconds),
        "reading, s": middle.reading,
        "three products, s": middle.products,
        "time / (reading + products)": ratio,
        "largest difference": difference,
    }
    checks = (
        Check("times reading and products", ratio, 1.5, False),
        Check("GiB of memory", max(peaks) / 2**30, 2, False),
    )
    rate = 6 * size.n * size.p**2 / middle.products
    return result(row, name, columns, checks, rate, max(peaks))


def _write(path: Path, size: Size) -> None:
    """Write layers x and y: latents with a power-law spectrum, a rotation each, a noise floor."""
    rng = np.random.default_rng(0)
    spectrum = np.arange(1, size.p + 1) ** -0.5
    mixings = [np.linalg.qr(rng.normal(size=(size.p, size.p)))[0] for _ in "xy"]

    def rows(part: slice) -> list[Array]:
        shape = (part.stop - part.start, size.p)
        latent = rng.normal(size=shape) * spectrum
        return [latent @ mixing + 0.02 * rng.normal(size=shape) for mixing in mixings]

    write_store(path, ["x", "y"], size.n, BATCH, rows)


def floor(path: Path) -> Sums:
    """Return what reading and the three products take."""
    layers = [cg.open(path).chunked(name) for name in "xy"]
    n, p = layers[0].shape
    reading = multiplying = 0.0
    totals = [np.zeros((p, p)) for _ in range(3)]
    sums = [np.zeros(p) for _ in "xy"]
    for start in range(0, n, BATCH):
        stop = min(start + BATCH, n)
        took, chunks = seconds_of(lambda start=start, stop=stop: [layer.read(start, stop) for layer in layers])
        reading += took
        x, y = (chunk.astype(np.float64) for chunk in chunks)
        multiplying += seconds_of(lambda x=x, y=y: _add(totals, x, y))[0]
        for total, chunk in zip(sums, (x, y), strict=True):
            total += chunk.sum(axis=0)
    return Sums(reading, multiplying, tuple(totals), (sums[0] / n, sums[1] / n))


def _add(totals: list[Array], x: Array, y: Array) -> None:
    for total, (a, b) in zip(totals, ((x, x), (y, y), (x, y)), strict=True):
        total += a.T @ b


def direct(sums: Sums, n: int) -> dict[str, float]:
    """Return the values that follow from the centred products."""
    means = [(0, 0), (1, 1), (0, 1)]
    xx, yy, xy = (
        total - n * np.outer(sums.means[i], sums.means[j]) for total, (i, j) in zip(sums.totals, means, strict=True)
    )
    norms = [np.linalg.cholesky(total) for total in (xx, yy)]
    whitened = np.linalg.solve(norms[0], np.linalg.solve(norms[1], xy.T).T)
    nuclear = np.linalg.svd(xy, compute_uv=False).sum()
    return {
        "cka": float(np.sum(xy**2) / np.sqrt(np.sum(xx**2) * np.sum(yy**2))),
        "cca": float(np.linalg.svd(whitened, compute_uv=False).mean()),
        "procrustes": float(np.arccos(nuclear / np.sqrt(np.trace(xx) * np.trace(yy)))),
    }


def _require_agreement(values: dict[str, float], expected: dict[str, float]) -> float:
    differences = {label: abs(values[label] - expected[label]) for label in MEASURES}
    worst = max(differences, key=lambda label: differences[label])
    if not differences[worst] <= AGREE:
        message = f"{worst} of the stream: {values[worst]!r}, and {expected[worst]!r} directly."
        raise Disagreement(message)
    return differences[worst]


def main() -> None:
    """Compare the two layers of a store, and print seconds, peak memory and the values."""
    (store,) = sys.argv[1:]
    warm_up(MEASURES)
    seconds, found = seconds_of(lambda: compare_all(store, None, MEASURES, memory=MEMORY, pairs=[("x", "y")]))
    peak = peak_memory()
    print(json.dumps([seconds, peak, {label: float(found.matrix(label).sel(a="x", b="y")) for label in MEASURES}]))


if __name__ == "__main__":
    main()
