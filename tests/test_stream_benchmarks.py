"""The scripts behind the marks of streams and of minibatch CKA run; what they measure is left to quiet machines."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "benchmarks"


def run(script, *arguments):
    command = [sys.executable, SCRIPTS / script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout


def test_stream(tmp_path):
    out = run("stream.py", "--n", "3000", "--p", "8", "--rounds", "1", "--folder", str(tmp_path))
    assert re.search(r"ratio +\d+\.\d+, peak +\d+ MiB", out)
    values = re.search(r"cka ([\d.]+), cca ([\d.]+), procrustes ([\d.]+)", out)
    assert values is not None
    assert all(0 < float(value) < 1 for value in values.groups())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.hf
def test_minibatch():
    out = run("minibatch.py", "--batches", "2", "--layers", "2", "--width", "32", "--tokens", "8", "--batch-size", "6")
    assert "3 x 3 states, batch (6, 8)" in out
    assert re.search(r"ratio \d+\.\d+", out)
