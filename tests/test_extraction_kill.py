"""kill -9 at random moments, then resume: the store of an undisturbed run, byte by byte."""

import multiprocessing
import random
import time

import numpy as np
import pytest

from congruence import Activations
from congruence.errors import CongruenceError
from extraction_worker import BATCHES, N, work


def files(folder):
    """Every file but the lock, which is empty or names its last holder."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and "lock" not in p.name
    }


@pytest.fixture(scope="module")
def processes():
    """Processes that start quickly, from one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["congruence.extraction"])  # not the worker: this process does not know its folder
    return context


@pytest.fixture(scope="module")
def undisturbed(processes, tmp_path_factory):
    """The store of a run that was left alone, and how long it took from the first batch on."""
    folder = tmp_path_factory.mktemp("whole")
    out, started = folder / "run.zarr", folder / "started"
    process = processes.Process(target=work, args=(str(out), str(started)))
    process.start()
    wait_for(started, process)
    begin = time.monotonic()
    process.join(120)
    assert process.exitcode == 0
    return out, time.monotonic() - begin


def wait_for(path, process):
    limit = time.monotonic() + 120
    while not path.exists():
        assert process.is_alive(), process.exitcode
        assert time.monotonic() < limit
        time.sleep(0.001)


def kill_and_resume(processes, out, started, moment):
    """Kill an extraction `moment` seconds after its first batch, resume it; return the stimuli it had kept."""
    process = processes.Process(target=work, args=(str(out), str(started)))
    process.start()
    wait_for(started, process)
    time.sleep(moment)
    process.kill()
    process.join(60)
    try:
        kept = Activations(out, allow_incomplete=True).n
    except CongruenceError:
        kept = 0  # killed before anything was committed
    again = processes.Process(target=work, args=(str(out), str(started)), kwargs={"resume": True})
    again.start()
    again.join(120)
    assert again.exitcode == 0
    return kept


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_a_killed_run_resumes_to_the_same_bytes(kills, processes, undisturbed, tmp_path):
    whole, seconds = undisturbed
    moments = np.linspace(0.05, 0.95, kills) * seconds + random.Random(kills).uniform(-0.02, 0.02)
    kept = []
    for index, moment in enumerate(moments):
        out = tmp_path / f"{index}.zarr"
        kept.append(kill_and_resume(processes, out, tmp_path / f"started{index}", max(moment, 0)))
        assert files(out) == files(whole)
    assert any(0 < stimuli < BATCHES * N for stimuli in kept)  # a kill did fall into the middle
