"""kill -9 while a step is being recorded, then go on from a checkpoint: the run of a training that was left alone."""

import multiprocessing
import signal

import pytest

import recorder_worker
from congruence.store import runs

LAYERS = 5
DESCRIPTIONS = 2 * LAYERS  # of a step: every layer is described when it starts and when it is finished


@pytest.fixture(scope="module")
def processes():
    """Processes that start quickly, from one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    # the first optimiser that a process makes imports PyTorch's compiler, which takes longer than the training
    context.set_forkserver_preload(["congruence.dynamics.recorder", "torch._dynamo"])
    return context


def start(processes, *arguments):
    process = processes.Process(target=recorder_worker.work, args=tuple(map(str, arguments[:2])) + arguments[2:])
    process.start()
    process.join(240)
    return process.exitcode


def files(folder):
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and "lock" not in p.name
    }


@pytest.fixture(scope="module")
def whole(processes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    assert start(processes, folder / "run.zarr", folder / "checkpoint.pt") == 0
    return files(folder / "run.zarr")


@pytest.mark.parametrize(
    ("count", "kept"),
    [
        (3, ()),  # in the first step, before there is a run
        (DESCRIPTIONS + 7, (0,)),  # while step 2 is finished, before the first checkpoint
        (3 * DESCRIPTIONS + 2, (0, 2, 4)),  # while step 6 is started; the training goes on from step 6
    ],
)
def test_a_killed_recording_goes_on_to_the_same_bytes(processes, whole, tmp_path, count, kept):
    out, checkpoint = tmp_path / "run.zarr", tmp_path / "checkpoint.pt"
    assert start(processes, out, checkpoint, count) == -signal.SIGKILL
    assert runs.recorded_steps(out) == kept
    assert start(processes, out, checkpoint) == 0
    assert files(out) == whole
