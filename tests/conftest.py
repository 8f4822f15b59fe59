"""No test reads or writes the cache of the person who runs it, nor that of another test."""

from __future__ import annotations

import os
import shutil
import tempfile
from itertools import count
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Every core has a worker. With a thread for every core in each of them, the threads wait for one another in busy
    # loops, and training a small network takes ten times as long. It must be said before NumPy and PyTorch are loaded.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

VARIABLE = "CONGRUENCE_CACHE_DIR"
_folders = Path(tempfile.mkdtemp(prefix="congruence-tests-"))
_numbers = count()


def pytest_configure() -> None:
    os.environ[VARIABLE] = str(_folders / "shared")  # for fixtures that are made before the first test


def pytest_unconfigure() -> None:
    shutil.rmtree(_folders, ignore_errors=True)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(_folders / str(next(_numbers))))
