"""A killed writer loses nothing that was committed, and a resumed run writes the same bytes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("store_deaths.py")


def deaths(how: str, number: int, folder: Path) -> dict[str, Any]:
    command = [sys.executable, str(SCRIPT), how, str(number), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.parametrize(("how", "step", "least"), [("flushed", 29, 20), ("buffered", 19, 20)])
def test_a_death_in_any_file_operation_leaves_the_same_bytes_after_resuming(
    tmp_path: Path, how: str, step: int, least: int
) -> None:
    report = deaths(how, step, tmp_path)
    assert report["wrong"] == []
    assert report["deaths"] >= least
    assert len(report["resumed"]) >= 4  # different numbers of complete batches were found


def test_kill_9_at_random_moments_leaves_the_same_bytes_after_resuming(tmp_path: Path) -> None:
    report = deaths("random", 20, tmp_path)
    assert report["wrong"] == []
    assert report["deaths"] >= 20
    assert len(report["resumed"]) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("how", ["flushed", "buffered"])
def test_a_death_in_every_file_operation_leaves_the_same_bytes_after_resuming(tmp_path: Path, how: str) -> None:
    report = deaths(how, 1, tmp_path)
    assert report["wrong"] == []
    assert report["deaths"] >= 200
