"""kill -9 during compare, then resume: the same result as an undisturbed run."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import congruence as cg
from commands import congruence

MEASURES = ["cka", "procrustes", "svcca", "rsa"]
COMMAND = ["compare", "many.npz", *(part for m in MEASURES for part in ("-m", m)), "--out"]

# A pause after the rows of each measure stretches the run, so that a kill falls into the middle of it.
SLOWLY = """
import sys, time
import congruence.engine.journal as journal
record = journal.Journal.record
def slowly(self, rows):
    record(self, rows)
    time.sleep(0.5)
journal.Journal.record = slowly
from congruence.cli import main
main(sys.argv[1:])
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(2)
    np.savez("many.npz", **{f"l{i:02d}": rng.normal(size=(60, 8)) for i in range(12)})
    assert congruence(*COMMAND, "whole").code == 0
    return cg.load("whole")


def start(out):
    return subprocess.Popen(
        [sys.executable, "-c", SLOWLY, *COMMAND, out], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def rows_of(out):
    """Complete lines in the journal, the first of which is the key of the run."""
    journal = Path(out) / "journal.jsonl"
    return journal.read_bytes().count(b"\n") - 1 if journal.exists() else 0


def test_a_killed_run_is_resumed_from_its_journal(here):
    running = start("run")
    deadline = time.monotonic() + 120
    while rows_of("run") < 12:
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    running.kill()
    running.wait()
    done = rows_of("run")
    seen = []
    result = cg.api.run(cg.api.prepare("many.npz", measures=MEASURES), "run", exists="resume", progress=seen.append)
    assert result.equals(here)
    assert 12 <= done < 48
    assert seen[0].measure != "cka"  # its rows were there


@pytest.mark.slow
def test_twenty_kills_at_random_moments(here):
    begun = time.monotonic()
    running = start("timed")
    running.wait()
    length = time.monotonic() - begun
    assert running.returncode == 0
    chance, unfinished = random.Random(0), 0
    for moment in range(20):
        running = start(f"run{moment}")
        time.sleep(chance.uniform(0, length))
        running.kill()
        running.wait()
        unfinished += 0 < rows_of(f"run{moment}") < 48
        outcome = congruence(*COMMAND, f"run{moment}", "--resume", "--json")
        assert outcome.code == 0, outcome.err
        assert cg.load(f"run{moment}").equals(here)
        assert json.loads(outcome.out)["failed"] == 0
    assert unfinished >= 3  # the others were killed before the first row or after the last
