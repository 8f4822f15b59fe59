"""Linear CKA of 845,650 pairs from a store on disk within 4 GiB, in a process of its own."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import congruence as cg
from benchmarks.data import make_data, write_store
from benchmarks.loop import time_pairs
from benchmarks.measuring import SAMPLE, Array, Check, Result, peak_memory, product_rate, result, seconds_of
from benchmarks.pairs import compare_all, random_pairs, require_agreement, warm_up

MEMORY = "3.5GB"


@dataclass(frozen=True)
class Size:
    """How many representations of which shape, written in batches of how many stimuli."""

    count: int
    n: int
    p: int
    batch: int


FULL, TINY = Size(1300, 1000, 768, 100), Size(6, 40, 12, 20)


def measure(row: str, label: str, folder: Path, *, tiny: bool = False) -> Result:
    """Time the comparison, and check values of random pairs against the direct formula."""
    size = TINY if tiny else FULL
    store = folder / "models.zarr"
    _write(store, size)
    before = product_rate()
    command = [sys.executable, "-m", "benchmarks.million", str(store), str(folder / "run")]
    out = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, peak, flops = json.loads(out.stdout)
    rate = math.sqrt(before * product_rate())
    found = cg.load(folder / "run").matrix(label)
    acts = cg.open(store)
    chosen = random_pairs(list(found["a"].values), list(found["b"].values), SAMPLE)
    times, values = time_pairs("cka", [(_values(acts[i]), _values(acts[j])) for i, j in chosen])
    difference = require_agreement(found, chosen, values, "cka")
    pairs, floor = size.count * (size.count + 1) // 2, flops / rate
    columns = {
        "pairs": f"{pairs:,}",
        "all pairs, s": seconds,
        "floor, s": floor,
        "pair loop, s": float(np.mean(times)) * pairs,
        "ratio": float(np.mean(times)) * pairs / seconds,
        "largest difference": difference,
    }
    checks = (
        Check("times the floor", seconds / floor, 2.5, False),
        Check("GiB of memory", peak / 2**30, 4, False),
    )
    return result(row, label, columns, checks, rate, peak)


def _values(representation: cg.Representation) -> Array:
    return np.asarray(representation.values, dtype=np.float64)


def _write(path: Path, size: Size) -> None:
    """Write representations made from a few rotations, so that making them is not what takes long."""
    base = make_data(12, size.n, size.p, seed=3)
    rng = np.random.default_rng(5)
    noise = [rng.normal(size=(size.n, size.p)) for _ in range(8)]

    def rows(part: slice) -> list[Array]:
        return [
            (base[r % 12][part] + (0.02 + 0.001 * (r % 97)) * noise[r % 8][part]).astype(np.float32)
            for r in range(size.count)
        ]

    write_store(path, [f"layer{r}" for r in range(size.count)], size.n, size.batch, rows)


def main() -> None:
    """Compare everything in a store, save it, and print seconds, peak memory and planned flop."""
    store, run = sys.argv[1:]
    warm_up("cka")
    seconds, found = seconds_of(lambda: compare_all(store, None, "cka", memory=MEMORY))
    peak = peak_memory()
    found.save(run)
    print(json.dumps([seconds, peak, cg.plan(store, measures=["cka"], memory=MEMORY).flops]))


if __name__ == "__main__":
    main()
