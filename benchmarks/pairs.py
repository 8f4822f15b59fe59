"""All pairs at once against a loop over pairs: ratios, agreement, and the floor that the arithmetic sets.

    python benchmarks/pairs.py [--row 169|8385|780|845650] [--measure cka ...] [--out docs/benchmarks.md]

Every row computes all pairs with `congruence.compare`, in full, and in the same run times the plain pair formula (NumPy and
SciPy, all cores, columns centred beforehand) on 24 random pairs, which is extrapolated to all of them. The values of those
pairs must agree. Times are the machine's of that day; the ratios are what counts.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import scipy.linalg
import scipy.stats

import congruence as cg

Array = np.ndarray
SAMPLE = 24


@dataclass(frozen=True)
class Task:
    """A set of representations: two models against each other, or all within one side."""

    a: int
    b: int | None
    n: int
    p: int
    measures: tuple[str, ...]

    @property
    def pairs(self) -> int:
        """Values to compute, symmetric measures once a pair."""
        return self.a * (self.a + 1) // 2 if self.b is None else self.a * self.b


FIRST_SET = (
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
SYMMETRIC = tuple(label for label in FIRST_SET if label != "pwcca")
TASKS = {
    "169": Task(13, 13, 2000, 768, FIRST_SET),
    "780": Task(39, None, 1000, 768, SYMMETRIC),
    "8385": Task(129, None, 1000, 768, SYMMETRIC),
}
MILLION = "845650"


def make_data(count: int, n: int, p: int, seed: int) -> list[Array]:
    """Return representations of one latent structure: power-law spectrum, a rotation each, and a noise floor."""
    latent = np.random.default_rng(1234).normal(size=(n, p)) * np.arange(1, p + 1) ** -0.7
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        rotation = np.linalg.qr(rng.normal(size=(p, p)))[0]
        found.append(latent @ rotation + 0.05 * rng.normal(size=(n, p)))
    return found


# ---- the pair loop: what a pair costs if nothing is shared -----------------------------------------------------------


def _cka(x: Array, y: Array) -> float:
    return float(np.sum((x.T @ y) ** 2) / np.sqrt(np.sum((x.T @ x) ** 2) * np.sum((y.T @ y) ** 2)))


def _kernel(x: Array) -> Array:
    gram = x @ x.T
    squares = np.diag(gram)
    distances = np.maximum(squares[:, None] + squares[None, :] - 2 * gram, 0)
    median = np.median(np.sqrt(distances[np.triu_indices(len(x), 1)]))
    kernel = np.exp(-distances / (2 * (0.4 * median) ** 2))
    kernel -= kernel.mean(axis=0)
    return kernel - kernel.mean(axis=1, keepdims=True)


def _rbf_cka(x: Array, y: Array) -> float:
    k, m = _kernel(x), _kernel(y)
    return float(np.sum(k * m) / np.sqrt(np.sum(k * k) * np.sum(m * m)))


def _basis(x: Array) -> Array:
    return scipy.linalg.qr(x, mode="economic")[0]


def _cca(x: Array, y: Array) -> float:
    return float(np.mean(np.minimum(scipy.linalg.svdvals(_basis(x).T @ _basis(y)), 1)))


def _squared_cca(x: Array, y: Array) -> float:
    return float(np.sum((_basis(x).T @ _basis(y)) ** 2) / min(x.shape[1], y.shape[1]))


def _leading(x: Array) -> Array:
    left, singular, _ = scipy.linalg.svd(x, full_matrices=False)
    share = np.cumsum(singular**2) / np.sum(singular**2)
    return left[:, : int(np.searchsorted(share, 0.99)) + 1]


def _svcca(x: Array, y: Array) -> float:
    return float(np.mean(np.minimum(scipy.linalg.svdvals(_leading(x).T @ _leading(y)), 1)))


def _pwcca(x: Array, y: Array) -> float:
    basis = _basis(x)
    left, rho, _ = scipy.linalg.svd(basis.T @ _basis(y), full_matrices=False)
    weights = np.abs((basis @ left).T @ x).sum(axis=1)
    return float(weights @ np.minimum(rho, 1) / weights.sum())


def _procrustes(x: Array, y: Array) -> float:
    nuclear = scipy.linalg.svdvals(x.T @ y).sum()
    return float(np.arccos(min(1.0, nuclear / (np.linalg.norm(x) * np.linalg.norm(y)))))


def _ranks(x: Array) -> Array:
    return scipy.stats.rankdata(1 - np.corrcoef(x)[np.triu_indices(len(x), 1)])


def _rsa(x: Array, y: Array) -> float:
    return float(np.corrcoef(_ranks(x), _ranks(y))[0, 1])


def _neighbours(x: Array) -> Array:
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    return np.argpartition(-similarity, 10, axis=1)[:, :10]


def _mutual_knn(x: Array, y: Array) -> float:
    pairs = zip(_neighbours(x), _neighbours(y), strict=True)
    return float(np.mean([len(np.intersect1d(a, b)) / 10 for a, b in pairs]))


LOOP: dict[str, tuple[Callable[[Array, Array], float], bool]] = {  # and whether it takes centred columns
    "cka": (_cka, True),
    "cka:kernel=rbf": (_rbf_cka, True),
    "cca": (_cca, True),
    "cca:statistic=mean_squared": (_squared_cca, True),
    "svcca": (_svcca, True),
    "pwcca": (_pwcca, True),
    "procrustes": (_procrustes, True),
    "rsa": (_rsa, False),
    "mutual_knn": (_mutual_knn, False),
}


# ---- measuring -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    pairs: int
    measure: str
    seconds: float
    loop: float
    floor: float
    difference: float
    form: str

    @property
    def ratio(self) -> float:
        """How many times faster than the pair loop."""
        return self.loop / self.seconds


def product_rate() -> float:
    """Return the rate of this machine's float64 matrix product now, in flop a second (median of five)."""
    x = np.random.default_rng(0).normal(size=(1500, 1500))
    times = []
    for _ in range(5):
        start = time.perf_counter()
        x @ x
        times.append(time.perf_counter() - start)
    return 2 * 1500**3 / statistics.median(times)


def measure_row(task: Task, label: str, sample: int = SAMPLE) -> Row:
    """Time all pairs in one go and the pair loop on a sample, and compare their values."""
    a = {f"a{i}": x for i, x in enumerate(make_data(task.a, task.n, task.p, seed=1))}
    b = None if task.b is None else {f"b{i}": x for i, x in enumerate(make_data(task.b, task.n, task.p, seed=2))}
    rate = product_rate()
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cg.CongruenceWarning)
        result = cg.compare(a, b, [label])
    seconds = time.perf_counter() - start
    plan = cg.plan(a, b, [label])
    formula, centred = LOOP[label]
    rng = np.random.default_rng(7)
    others = a if b is None else b
    times, difference = [], 0.0
    for _ in range(sample):
        first, second = rng.choice(list(a)), rng.choice(list(others))
        x, y = (v - v.mean(axis=0) if centred else v for v in (a[first], others[second]))
        start = time.perf_counter()
        value = formula(x, y)
        times.append(time.perf_counter() - start)
        got = float(result.matrix(label).sel(a=first, b=second))
        near_zero = label == "procrustes" and first == second and b is None  # arccos magnifies rounding there
        difference = max(difference, 0.0 if near_zero else abs(got - value))
    loop = statistics.mean(times) * task.pairs
    return Row(task.pairs, label, seconds, loop, plan.flops / rate, difference, plan.measures[0].form)


def million(folder: Path, count: int = 1300) -> list[str]:
    """Time linear CKA of 845,650 pairs from a store within 4 GiB, in a process of its own; return lines for the page."""
    store = folder / "models.zarr"
    if not store.exists():
        _write_store(store, count)
    script = (
        "import resource, sys, time, congruence as cg\n"
        "start = time.perf_counter()\n"
        f"result = cg.compare({str(store)!r}, measures=['cka'], memory='3.5GB')\n"
        "seconds = time.perf_counter() - start\n"
        f"plan = cg.plan({str(store)!r}, measures=['cka'], memory='3.5GB')\n"
        "print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, plan.flops, result.matrix('cka').shape[0])"
    )
    rate = product_rate()
    out = subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, capture_output=True, text=True)
    seconds, peak, flops, size = map(float, out.stdout.split())
    floor = flops / rate
    return [
        f"{int(size * (size + 1) / 2):,} pairs of {int(size)} representations (n=1000, p=768, float32 in a store on disk), "
        f"linear CKA: {seconds:.0f} s, {seconds / floor:.2f} x the floor of {floor:.0f} s, "
        f"peak resident memory {peak / 2**30:.2f} GiB.",
    ]


def _write_store(path: Path, count: int) -> None:
    """Write representations as one store, made from a few rotations so that making them is not what takes long."""
    from congruence.store import Recorded, StoreWriter

    n, p, block = 1000, 768, 100
    base = make_data(12, n, p, seed=3)
    rng = np.random.default_rng(5)
    with StoreWriter(path, provenance={"model": "benchmark"}) as writer:
        noise = [rng.normal(size=(n, p)).astype(np.float32) for _ in range(8)]
        for index, start in enumerate(range(0, n, block)):
            rows = slice(start, start + block)
            arrays = {
                f"layer{r}": Recorded(
                    (base[r % 12][rows] + (0.02 + 0.001 * (r % 97)) * noise[r % 8][rows]).astype(np.float32),
                    None,
                    False,
                    "float32",
                    (),
                )
                for r in range(count)
            }
            writer.append(index, None, f"block {index}", arrays)
        writer.finish(None, None)


# ---- reporting -------------------------------------------------------------------------------------------------------


def machine_line() -> str:
    """Return what the numbers were measured on."""
    cores = len(os.sched_getaffinity(0))
    packages = ", ".join(f"{name} {metadata.version(name)}" for name in ("congruence", "numpy", "scipy"))
    return f"{platform.machine()}, {cores} cores, Python {platform.python_version()}, {packages}"


def table(rows: list[Row]) -> list[str]:
    """Return the rows as Markdown."""
    lines = [
        "| pairs | measure | form | all pairs, s | pair loop, s | ratio | floor, s | largest difference |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.pairs:,} | `{r.measure}` | {r.form} | {r.seconds:.2f} | {r.loop:.0f} | **{r.ratio:.1f} x** | {r.floor:.2f} "
        f"| {r.difference:.0e} |"
        for r in rows
    ]
    return lines


def main() -> None:
    """Run the rows asked for, print them, and write the page if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", action="append", choices=[*TASKS, MILLION], help="rows to run; all by default")
    parser.add_argument("--measure", action="append", help="measures to run; all by default")
    parser.add_argument("--out", type=Path, help="Markdown page to write")
    parser.add_argument("--scratch", type=Path, help="folder for the store of the largest row")
    options = parser.parse_args()
    rows: list[Row] = []
    for name in options.row or TASKS:
        for label in TASKS[name].measures if name in TASKS else ():
            if options.measure is None or label in options.measure:
                rows.append(measure_row(TASKS[name], label))
                print(table(rows)[-1], flush=True)
    extra: list[str] = []
    if MILLION in (options.row or (MILLION,)):
        with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
            extra = million(Path(folder))
        print(*extra, sep="\n")
    rate = product_rate() / 1e9
    page = [
        "# Speed",
        "",
        "Made by `make bench`: all pairs with `congruence.compare`, in full; the pair loop on 24 random pairs of the same data, "
        "extrapolated; the floor is the planned arithmetic at the rate of a matrix product, both in the same run. The largest "
        "difference is between the values of those pairs.",
        "",
        f"{machine_line()}; float64 matrix product {rate:.0f} GFLOP/s; peak memory of the run "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB.",
        "",
        *table(rows),
        "",
        *extra,
        "",
    ]
    if options.out:
        options.out.write_text("\n".join(page))


if __name__ == "__main__":
    main()
