"""All pairs on a GPU against the CPU of the same machine: ratios, and the share of the matrix-product rate.

    python benchmarks/gpu.py [--measure cka ...] [--precision float64|float32] [--cpu 40] [--out FILE]

Every row compares all pairs of 129 representations (8,385 values, n=1000, p=768) that live on the GPU, with `cg.compare`,
and in the same run those of the first 40 with NumPy on the CPU, from where the time of all is extrapolated by the planned
arithmetic. The values of those must agree. Shares are of the planned arithmetic at the rate of a large matrix product of the
same precision on the same device, with TF32 off; products of float64 and float32 are timed separately.

Without a GPU it says so and exits with code 2. `--device cpu --tiny` runs the code anywhere, with tensors on the CPU.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import congruence as cg
from congruence.measures import devices, spectra

MEASURES = (
    "cka",
    "cka:kernel=rbf",
    "cca",
    "cca:statistic=mean_squared",
    "svcca",
    "pwcca",
    "procrustes",
    "rsa",
    "mutual_knn",
)
WITHIN = {"float64": 1e-8, "float32": 1e-3}
"""How far values may be from NumPy's in float64: the angle of Procrustes near 0, and the rounding of the data."""


@dataclass(frozen=True)
class Size:
    """How large the row is, and of how many representations the CPU computes the pairs."""

    representations: int
    n: int
    p: int
    cpu: int
    product: int


FULL, TINY = Size(129, 1000, 768, 40, 8192), Size(5, 60, 12, 4, 64)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    measure: str
    precision: str
    seconds: float
    cpu_seconds: float
    share: float
    difference: float

    @property
    def ratio(self) -> float:
        """How many times faster than the CPU."""
        return self.cpu_seconds / self.seconds


def make_data(torch: Any, size: Size, device: str, dtype: Any) -> dict[str, Any]:
    """Return representations of one latent structure on the device: power-law spectrum, a rotation each, a noise floor."""
    source = torch.Generator(device).manual_seed(0)

    def normal(*shape: int) -> Any:
        return torch.randn(shape, generator=source, device=device, dtype=torch.float64)

    latent = normal(size.n, size.p) * torch.arange(1, size.p + 1, device=device, dtype=torch.float64) ** -0.7
    found = {}
    for i in range(size.representations):
        rotation = torch.linalg.qr(normal(size.p, size.p))[0]
        found[f"layer{i}"] = (latent @ rotation + 0.05 * normal(size.n, size.p)).to(dtype)
    return found


def seconds_of(work: Callable[[], Any], repeats: int = 1) -> float:
    """Return the median time of work that ends on the host."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def product_rate(torch: Any, size: Size, device: str, dtype: Any) -> float:
    """Return the rate of a large matrix product on the device, in flop a second (median of five, one to warm up)."""
    x = torch.ones((size.product, size.product), device=device, dtype=dtype)
    with devices.full_precision():
        seconds = seconds_of(lambda: float((x @ x)[0, 0]), repeats=6)
    return 2 * size.product**3 / seconds


def compared(data: dict[str, Any], label: str, device: str | None) -> np.ndarray:
    """Return all values of a measure."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cg.CongruenceWarning)
        return cg.compare(data, measures=label, device=device).matrix(label).values


def measure_row(torch: Any, size: Size, label: str, precision: str, device: str) -> Row:
    """Time all pairs on the device and some on the CPU, and compare the values of those."""
    dtype = getattr(torch, precision)
    there = make_data(torch, size, device, dtype)
    here = {name: x.cpu().double().numpy() for name, x in list(there.items())[: size.cpu]}
    compared(dict(list(there.items())[: size.cpu]), label, None)  # loads libraries and fills the pool of memory
    found: list[np.ndarray] = []
    seconds = seconds_of(lambda: found.append(compared(there, label, None)))
    wanted: list[np.ndarray] = []
    cpu_seconds = seconds_of(lambda: wanted.append(compared(here, label, "cpu")))
    flops, cpu_flops = cg.plan(there, measures=label).flops, cg.plan(here, measures=label).flops
    share = flops / seconds / product_rate(torch, size, device, dtype)
    difference = np.abs(found[0][: size.cpu, : size.cpu] - wanted[0]).max()
    return Row(label, precision, seconds, cpu_seconds * flops / cpu_flops, share, float(difference))


def decompositions(torch: Any, size: Size, precision: str, device: str) -> str:
    """Return a line that compares the two ways to a nuclear norm on this device, each on a stack of eight products."""
    generator = torch.Generator(device).manual_seed(1)
    shape = (8, size.p, size.p)
    stack = torch.randn(shape, generator=generator, device=device, dtype=getattr(torch, precision))
    with devices.full_precision():
        ways = {
            name: seconds_of(lambda way=way: float(way(stack)[0].sum()), repeats=3) / 8
            for name, way in (("eigenvalues", spectra._from_eigenvalues), ("polar iterations", spectra._from_polar))
        }
    told = ", ".join(f"{name} {1e3 * seconds:.2f} ms" for name, seconds in ways.items())
    return f"One nuclear norm of {size.p} x {size.p} in {precision}: {told}."


def table(rows: list[Row]) -> list[str]:
    """Return the rows as Markdown."""
    lines = [
        "| measure | precision | device, s | CPU (float64), s | ratio | share of the product rate | largest difference |",
        "|---|---|---|---|---|---|---|",
    ]
    return lines + [
        f"| `{r.measure}` | {r.precision} | {r.seconds:.3g} | {r.cpu_seconds:.3g} | **{r.ratio:.1f} x** | {r.share:.0%} "
        f"| {r.difference:.0e} |"
        for r in rows
    ]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, ..., or cpu for tensors on the CPU")
    parser.add_argument("--measure", action="append", help="measures to run; all by default")
    parser.add_argument("--precision", action="append", choices=list(WITHIN), help="both by default")
    parser.add_argument("--cpu", type=int, help="of how many representations the CPU computes the pairs")
    parser.add_argument("--tiny", action="store_true", help="sizes that show only that it runs")
    parser.add_argument("--out", type=Path, help="Markdown page to write")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the rows asked for, print them, and return the exit code."""
    options = parse(arguments)
    try:
        device = devices.resolve(options.device) or devices.CPU
        import torch
    except (cg.ParameterError, ImportError) as error:
        print(f"benchmarks/gpu.py: {error}", file=sys.stderr)
        return 2
    full = TINY if options.tiny else FULL
    size = Size(full.representations, full.n, full.p, options.cpu or full.cpu, full.product)
    name = torch.cuda.get_device_name(device) if devices.is_accelerator(device) else "CPU"
    pairs = size.representations * (size.representations + 1) // 2
    page = [f"{pairs:,} pairs, n={size.n}, p={size.p}, on {name} with PyTorch {torch.__version__}", ""]
    rows: list[Row] = []
    for precision in options.precision or WITHIN:
        page.append(decompositions(torch, size, precision, device))
        rate = product_rate(torch, size, device, getattr(torch, precision))
        page.append(f"Matrix product in {precision}: {rate / 1e9:.0f} GFLOP/s.")
        for label in options.measure or MEASURES:
            rows.append(measure_row(torch, size, label, precision, device))
            print(table(rows)[-1], flush=True)
    page += ["", *table(rows), ""]
    print(*page, sep="\n")
    if options.out:
        options.out.write_text("\n".join(page))
    wrong = [row for row in rows if not row.difference <= WITHIN[row.precision]]
    for row in wrong:
        print(f"{row.measure} in {row.precision}: values differ by {row.difference:.1e}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
