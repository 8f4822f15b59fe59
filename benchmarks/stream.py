"""What a comparison of more data than memory costs over reading the data and the three products XᵀX, YᵀY, XᵀY.

    python benchmarks/stream.py [--n 1000000] [--p 256] [--rounds 3] [--spectrum 0.5] [--folder FOLDER]

Two representations that share their latents (power-law spectrum, noise floor) are written to a store as float32. Then,
in turn, the floor (read a chunk, convert it to float64, multiply) and the comparison by CKA, CCA and Procrustes are
timed; the ratio is the median over the rounds. Peak memory is that of a process that does nothing but compare.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from congruence.engine.stream import Stream, stream_comparison
from congruence.measures import measure
from congruence.store import Activations, Recorded, StoreWriter

MEASURES = ("cka", "cca", "procrustes")
BATCH = 8192


def write(path: Path, n: int, p: int, decay: float) -> None:
    """Write the two representations, layers x and y, in batches."""
    rng = np.random.default_rng(0)
    spectrum = np.arange(1, p + 1) ** -decay
    mixings = [np.linalg.qr(rng.normal(size=(p, p)))[0] for _ in "xy"]
    with StoreWriter(path, provenance={}) as writer:
        for index, start in enumerate(range(0, n, BATCH)):
            m = min(BATCH, n - start)
            latent = rng.normal(size=(m, p)) * spectrum
            layers = {
                name: (latent @ mixing + 0.02 * rng.normal(size=(m, p))).astype(np.float32)
                for name, mixing in zip("xy", mixings, strict=True)
            }
            recorded = {name: Recorded(x, None, False, "float32", ()) for name, x in layers.items()}
            writer.append(index, None, str(index), recorded)
        writer.finish(["x", "y"], ["x", "y"])


def floor(path: Path, rows: int) -> tuple[float, float]:
    """Return the seconds of reading and of the three products, conversions left out."""
    streams = [Stream.of_layer(Activations(path), name) for name in "xy"]
    reading = multiplying = 0.0
    totals = [np.zeros((streams[0].p, streams[0].p)) for _ in range(3)]
    for start in range(0, streams[0].n, rows):
        began = time.perf_counter()
        chunks = [stream.read(start, min(start + rows, stream.n)) for stream in streams]
        reading += time.perf_counter() - began
        x, y = (chunk.astype(np.float64) for chunk in chunks)
        began = time.perf_counter()
        for total, (a, b) in zip(totals, ((x, x), (y, y), (x, y)), strict=True):
            total += a.T @ b
        multiplying += time.perf_counter() - began
    return reading, multiplying


def compare(path: Path) -> tuple[float, int, str]:
    """Return the seconds of the comparison, the peak memory of this process in bytes, and the values."""
    store = Activations(path)
    began = time.perf_counter()
    sides = [[Stream.of_layer(store, name)] for name in "xy"]
    result = stream_comparison(*sides, [measure(spec) for spec in MEASURES])
    seconds = time.perf_counter() - began
    values = ", ".join(f"{spec} {float(result.matrix(spec)[0, 0]):.6f}" for spec in MEASURES)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return seconds, peak, f"{values} ({result.provenance['stream']})"


def main() -> None:
    """Print one line a round, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--p", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--spectrum", type=float, default=0.5, help="exponent of the decay of the latents")
    parser.add_argument("--folder", type=Path, help="where to write the store; a temporary one by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "run.zarr"
        write(path, options.n, options.p, options.spectrum)
        print(f"n={options.n}, p={options.p}, float32, {', '.join(MEASURES)}, numpy {np.__version__}", flush=True)
        ratios = []
        for _ in range(options.rounds):
            reading, multiplying = floor(path, BATCH)
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                seconds, peak, values = pool.apply(compare, (path,))
            ratios.append(seconds / (reading + multiplying))
            rate = 6 * options.n * options.p**2 / multiplying / 1e9
            print(
                f"reading {reading:6.2f} s, products {multiplying:6.2f} s ({rate:5.1f} GFLOP/s), comparison {seconds:6.2f} s: "
                f"ratio {ratios[-1]:5.2f}, peak {peak / 2**20:6.0f} MiB",
                flush=True,
            )
        print(f"median ratio {statistics.median(ratios):.2f}; {values}")


if __name__ == "__main__":
    main()
