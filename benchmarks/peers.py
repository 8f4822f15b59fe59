"""Public packages on the same data: the time of a pair, and whether it is the same number.

Each is run on a few pairs of the 169-pair row and extrapolated to all of them; congruence computes all of them, in the same
run. Packages that are not installed are left out (`pip install 'congruence[peers]'`).
"""

from __future__ import annotations

import importlib.util
import statistics
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

from benchmarks.measuring import (
    AGREE,
    Array,
    Disagreement,
    Result,
    forget_peak,
    peak_memory,
    product_rate,
    result,
    seconds_of,
)
from benchmarks.pairs import TASKS, TINY, Task, compare_all, random_pairs, sides, warm_up

SAMPLE, SLOW = 3, 20.0
"""How many pairs are timed, and after how many seconds for one of them no other is."""


@dataclass(frozen=True)
class Peer:
    """One function of one package.

    Parameters
    ----------
    package, module : str
        Names on the package index and in Python.
    call : str
        What is called, for the page.
    label : str
        The measure here that is the same, or nearest to it.
    value : callable
        From two representations to the package's number.
    differs : str
        Why the numbers are not the same; nothing where they must be.
    """

    package: str
    module: str
    call: str
    label: str
    value: Callable[[Array, Array], float]
    differs: str = ""

    @property
    def installed(self) -> bool:
        """Whether the package is here."""
        return importlib.util.find_spec(self.module) is not None


def _ckatorch(x: Array, y: Array) -> float:
    import torch
    from ckatorch.core import cka_base

    return float(cka_base(torch.from_numpy(x), torch.from_numpy(y)))


def _ckatorch_rbf(x: Array, y: Array) -> float:
    import torch
    from ckatorch.core import cka_base

    return float(cka_base(torch.from_numpy(x), torch.from_numpy(y), kernel="rbf", threshold=0.4))


def _pytorch_cka(x: Array, y: Array) -> float:
    import torch
    from cka import cka_from_features

    return float(cka_from_features([torch.from_numpy(x)], [torch.from_numpy(y)])[0, 0])


def _rsatoolbox(x: Array, y: Array) -> float:
    from rsatoolbox.data import Dataset
    from rsatoolbox.rdm import calc_rdm, compare

    rdms = [calc_rdm(Dataset(v), method="correlation") for v in (x, y)]
    return float(compare(*rdms, method="spearman")[0, 0])


def _repsim(name: str, *arguments: str) -> Callable[[Array, Array], float]:
    def value(x: Array, y: Array) -> float:
        import repsim

        return float(getattr(repsim, name)([x, y], *arguments)[0, 1])

    return value


PEERS = (
    Peer("ckatorch", "ckatorch", "cka_base", "cka", _ckatorch),
    Peer(
        "ckatorch",
        "ckatorch",
        'cka_base(kernel="rbf", threshold=0.4)',
        "cka:kernel=rbf",
        _ckatorch_rbf,
        "its median is over all n x n distances, the zero diagonal included; ours is over pairs",
    ),
    Peer("pytorch-cka", "cka", "cka_from_features", "cka:estimator=debiased", _pytorch_cka),
    Peer("rsatoolbox", "rsatoolbox", 'compare(method="spearman")', "rsa", _rsatoolbox),
    Peer("repsim", "repsim", 'cka("linear", "gretton")', "cka", _repsim("cka", "linear", "gretton")),
    Peer("repsim", "repsim", 'cca("yanai")', "cca:statistic=mean_squared", _repsim("cca", "yanai")),
    Peer(
        "repsim",
        "repsim",
        'svcca("yanai")',
        "svcca:statistic=mean_squared",
        _repsim("svcca", "yanai"),
        "it keeps more directions than reach 0.99 of the variance, here all of them",
    ),
    Peer("repsim", "repsim", "pwcca", "pwcca:weights=mean", _repsim("pwcca")),
)


def available() -> tuple[Peer, ...]:
    """Return the peers whose packages are installed."""
    return tuple(peer for peer in PEERS if peer.installed)


def name_of(peer: Peer) -> str:
    """Return how a result is called."""
    return f"{peer.package} {peer.call}"


def measure(row: str, name: str, folder: Path, *, tiny: bool = False) -> Result:
    """Measure one package's function."""
    del folder
    (peer,) = (peer for peer in PEERS if name_of(peer) == name)
    return measure_peer(row, peer, (TINY if tiny else TASKS)["169"])


def measure_peer(row: str, peer: Peer, task: Task) -> Result:
    """Time some pairs of a peer and all of ours, and compare their values."""
    a, b = sides(task.a, task.b, task.n, task.p)
    warm_up(peer.label)
    others = b or a
    rate = product_rate()
    forget_peak()
    seconds, found = seconds_of(lambda: compare_all(a, b, peer.label))
    peak = peak_memory()
    chosen = random_pairs(list(a), list(others), SAMPLE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other packages
        timed: list[tuple[float, float]] = []
        for i, j in chosen:
            timed.append(seconds_of(partial(peer.value, a[i], others[j])))
            if timed[-1][0] > SLOW:
                break
    matrix = found.matrix(peer.label)
    known = zip(chosen[: len(timed)], timed, strict=True)
    difference = max(abs(float(matrix.sel(a=i, b=j)) - value) for (i, j), (_, value) in known)
    if not peer.differs and not difference <= AGREE:
        message = f"{name_of(peer)} and {peer.label} differ by {difference:.1e}."
        raise Disagreement(message)
    a_pair = statistics.median(took for took, _ in timed)
    columns = {
        "package": f"{peer.package} {metadata.version(peer.package)}",
        "call": peer.call,
        "here": peer.label,
        "a pair, s": a_pair,
        f"{task.pairs} pairs, s": a_pair * task.pairs,
        "congruence, s": seconds,
        "ratio": a_pair * task.pairs / seconds,
        "largest difference": difference,
        "why": peer.differs or "the same number",
    }
    return result(row, name_of(peer), columns, (), rate, peak)
