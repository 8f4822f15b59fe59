"""The benchmarks on tiny sizes: their pair loops are one more independent check, and their code cannot rot."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def pairs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_pairs", FOLDER / "pairs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("label", ["cka", "cka:kernel=rbf", "cca", "svcca", "pwcca", "procrustes", "rsa", "mutual_knn"])
def test_all_pairs_agree_with_the_pair_loop(pairs: ModuleType, label: str) -> None:
    task = pairs.Task(3, 3, 60, 20, (label,))
    row = pairs.measure_row(task, label, sample=6)
    assert row.difference < 1e-10
    assert row.pairs == 9
    assert label in pairs.table([row])[-1]


def test_the_largest_row_runs_from_a_store(pairs: ModuleType, tmp_path: Path) -> None:
    (line,) = pairs.million(tmp_path, count=3)
    assert line.startswith("6 pairs of 3 representations")
