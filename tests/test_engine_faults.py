"""Processes that die, disks that fill, schedulers that are not there: clear errors, and nothing done is lost."""

from __future__ import annotations

import errno
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import congruence as cg
from commands import congruence
from congruence.engine import Journal, run_comparison
from congruence.engine import cluster as cluster_module
from congruence.engine import journal as journal_module
from congruence.engine.executors import compute_tiles, opened
from congruence.engine.job import Job
from congruence.engine.tiles import Handling, Tile
from congruence.errors import (
    AlignmentError,
    CorruptStoreError,
    ParameterError,
    ShapeError,
    StoreError,
    WorkerError,
)
from congruence.measures import REGISTRY, measure
from congruence.representation import Representation
from congruence.results import Comparison
from congruence.store import Activations, Recorded, StoreWriter, defer_layer
from faulty_measures import FOLDER, Deadly

MEASURES = [cls() for cls in REGISTRY.values()]


def representations(n: int = 24, widths: tuple[int, ...] = (3, 4, 5)) -> list[Representation]:
    rng = np.random.default_rng(0)
    return [Representation(rng.normal(size=(n, p)), name=f"layer{i}") for i, p in enumerate(widths)]


def write_store(path: Path, *, seed: int = 0, n: int = 80, ids: list[str] | None = None) -> Path:
    rng = np.random.default_rng(seed)
    with StoreWriter(path, provenance={}, overwrite=path.exists()) as writer:
        layers = {name: Recorded(rng.normal(size=(n, p))) for name, p in (("one", 6), ("two", 9))}
        writer.append(0, ids, "digest", layers)
        writer.finish()
    return path


@pytest.fixture
def deaths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "deaths"
    folder.mkdir()
    monkeypatch.setenv(FOLDER, str(folder))
    return folder


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two Dask workers, which give up a tile when its first worker dies, or its second, as each test says."""
    distributed = pytest.importorskip("distributed")
    folder = tmp_path_factory.mktemp("deaths")
    with (
        pytest.MonkeyPatch.context() as patched,
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0", env={FOLDER: str(folder)}, silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        patched.setenv(FOLDER, str(folder))
        client.deaths = folder
        yield client


def run(folder: Path, mode: Any = "error", executor: Any = None, times: int = 1, **options: Any) -> Comparison:
    with Journal(folder, {"inputs": "k"}, mode) as journal:
        return run_comparison(representations(), None, [Deadly(times)], journal=journal, executor=executor, **options)


def expected() -> Comparison:
    return run_comparison(representations(), None, [Deadly(times=0)])


def agrees(found: Comparison) -> bool:
    """Whether the values are those of a run without faults (whose measure has another label)."""
    return np.array_equal(found.dataset["value"].values, expected().dataset["value"].values)


# ---- workers ---------------------------------------------------------------------------------------------------------


def test_dask_agrees_with_here_to_the_last_bit(client: Any) -> None:
    a = representations(n=40, widths=(4, 30, 39, 50))
    here = run_comparison(a, None, MEASURES)
    assert run_comparison(a, None, MEASURES, executor="threads").equals(here)
    assert run_comparison(a, None, MEASURES, executor=client).equals(here)


def test_a_tile_whose_dask_worker_was_killed_is_computed_again(client: Any, tmp_path: Path) -> None:
    assert agrees(run(tmp_path / "run", executor=client))
    assert len(list(client.deaths.iterdir())) == 1
    next(client.deaths.iterdir()).unlink()


def test_a_tile_that_kills_every_dask_worker_ends_the_run_and_loses_nothing(client: Any, tmp_path: Path) -> None:
    client.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", 0))
    with pytest.raises(
        WorkerError, match=r"a tile was tried several times, and each time its worker died .* resume it"
    ):
        run(tmp_path / "run", executor=client, times=1)
    with Journal(tmp_path / "run", {"inputs": "k"}, "resume") as journal:
        assert all(cell.status == "ok" for row in journal.rows for cell in row.cells.values())
    assert agrees(run(tmp_path / "run", "resume"))  # the one death is over


def test_a_process_that_dies_ends_the_run_and_loses_nothing(deaths: Path, tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match=r"A worker process died before its tile was done .* resume it"):
        run(tmp_path / "run", executor="processes")
    assert len(list(deaths.iterdir())) == 1
    assert agrees(run(tmp_path / "run", "resume"))


class Direct:
    """Computes when asked, as an object with nothing but `submit`; counts what is under way."""

    def __init__(self, *, fails_at: int | None = None) -> None:
        self.sent, self.fails_at = 0, fails_at
        self.most, self.taken = 0, 0

    def submit(self, work: Any, /, *arguments: Any) -> Future[Any]:
        self.sent += 1
        self.most = max(self.most, self.sent - self.taken)
        future: Future[Any] = Future()
        if self.fails_at == self.sent:
            future.set_exception(ArithmeticError("tile"))
        else:
            future.set_result(work(*arguments))
        return future


def tiles(count: int) -> list[Tile]:
    job = Job.build(representations(widths=(3,)), None, [measure("cka")])
    return [Tile(job, measure("cka"), np.ones((1, 1), dtype=bool), Handling()) for _ in range(count)]


def test_a_bounded_number_of_tiles_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("congruence.engine.executors.cores", lambda: 2)
    executor = Direct()
    found = []
    for tile, _ in compute_tiles(tiles(50), executor):
        executor.taken += 1
        found.append(tile)
    assert len(set(map(id, found))) == 50
    assert executor.most <= 8


def test_what_succeeded_is_handed_over_before_what_failed() -> None:
    found = []
    with pytest.raises(ArithmeticError, match="tile"):
        found.extend(1 for _ in compute_tiles(tiles(4), Direct(fails_at=1)))
    assert len(found) == 3


def test_anything_that_submits_is_an_executor() -> None:
    a = representations()
    assert run_comparison(a, None, [measure("cka")], executor=Direct()).equals(
        run_comparison(a, None, [measure("cka")])
    )

    class Other:
        def submit(self, work: Any, /, *arguments: Any) -> Any:
            return work(*arguments)

    with pytest.raises(ParameterError, match=r"Other.submit must return a concurrent.futures.Future; got list"):
        run_comparison(a, None, [measure("cka")], executor=Other())


def test_layers_of_a_store_travel_as_their_names(tmp_path: Path) -> None:
    n = 3000
    store = Activations(write_store(tmp_path / "run.zarr", n=n, ids=[f"stimulus number {i}" for i in range(n)]))
    layers = [defer_layer(store, name) for name in store]
    job = Job.build(layers, None, [measure("cka")])
    tile = Tile(job, measure("cka"), np.ones((2, 2), dtype=bool), Handling())
    sent = pickle.dumps(tile.to_send())
    assert len(sent) < 5000
    assert len(pickle.dumps(tile)) > 10 * len(sent)  # the ids alone
    assert pickle.loads(sent).compute()[0].cells.keys() == {"one", "two"}


def test_workers_find_a_store_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_store(tmp_path / "run.zarr")
    monkeypatch.chdir(tmp_path)
    deferred = defer_layer(Activations("run.zarr"), "one")
    monkeypatch.chdir("/")
    assert deferred.load().n == 80


# ---- schedulers ------------------------------------------------------------------------------------------------------


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A port that accepts connections, and says nothing."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        found.listen()
        yield found


def address(listener: socket.socket) -> str:
    return f"tcp://127.0.0.1:{listener.getsockname()[1]}"


def refused(spec: str, message: str) -> float:
    """Return how long it took to refuse a scheduler's address."""
    pytest.importorskip("distributed")
    begun = time.monotonic()
    with pytest.raises(ParameterError, match=message), opened(spec):
        pass
    return time.monotonic() - begun


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("tcp://127.0.0.1:1", "waited 1 s"),
        ("tcp://no-such-host.invalid:8786", "waited 1 s"),
        ("foo://host:1", "unknown address scheme 'foo'"),
        ("tcp://127.0.0.1:port", "port"),
        ("tcp://", "missing port"),
    ],
)
def test_a_scheduler_that_cannot_be_reached_is_named(monkeypatch: pytest.MonkeyPatch, spec: str, why: str) -> None:
    monkeypatch.setattr(cluster_module, "CONNECT_SECONDS", 1.0)
    assert refused(spec, rf"No Dask scheduler answers at {spec} \(.*{why}.*\); start one with 'dask scheduler'") < 10


def test_a_script_without_a_guard_is_told_what_it_lacks(tmp_path: Path) -> None:
    script = tmp_path / "script.py"  # run again by every process it starts
    script.write_text(
        "import numpy as np, congruence as cg\n"
        "x = np.arange(30.0).reshape(10, 3) ** 2\n"
        "cg.compare({'a': x, 'b': x[:, ::2]}, measures='cka', executor='processes')\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "WorkerError: A worker process died" in last
    assert "call from under `if __name__ == '__main__':`" in last


def test_dask_workers_that_cannot_start_are_told_what_they_may_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")

    def start(**options: Any) -> None:
        message = "Nanny failed to start."
        raise RuntimeError(message)

    monkeypatch.setattr(distributed, "LocalCluster", start)
    with (
        pytest.raises(WorkerError, match=r"2 Dask workers of 'local:2' cannot be started \(Nanny .*if __name__ =="),
        opened("local:2"),
    ):
        pass


def test_a_port_that_is_silent_is_no_scheduler(monkeypatch: pytest.MonkeyPatch, listening: socket.socket) -> None:
    monkeypatch.setattr(cluster_module, "CONNECT_SECONDS", 1.0)
    assert refused(address(listening), r"No Dask scheduler answers at .* \(waited 1 s\)") < 10


def test_a_port_of_something_else_is_no_scheduler(listening: socket.socket) -> None:
    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(100)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    server = threading.Thread(target=serve)
    server.start()
    assert refused(address(listening), r"No Dask scheduler answers at .* \(something else listens there\)") < 10
    server.join()


@pytest.mark.slow
def test_the_command_line_says_so_within_ten_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", representations()[0].values)
    begun = time.monotonic()
    found = congruence("compare", "x.npy", "-m", "cka", "--out", "run", "--dask", "tcp://127.0.0.1:1")
    assert time.monotonic() - begun < 10
    assert found.code == 2
    assert found.error.startswith("No Dask scheduler answers at tcp://127.0.0.1:1 (waited 5 s)")
    assert not Path("run").exists()


SCHEDULER = """
import time
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as cluster:
        print(cluster.scheduler_address, flush=True)
        time.sleep(600)
"""


@pytest.fixture
def scheduler(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A scheduler in another process, with one worker, and its address."""
    pytest.importorskip("distributed")
    script = tmp_path / "scheduler.py"
    script.write_text(SCHEDULER)
    environment = {**os.environ, "PYTHONPATH": request.param}
    command = [sys.executable, str(script)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as running:
        assert running.stdout is not None
        yield running, running.stdout.readline().strip()
        running.kill()


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", [str(Path(__file__).parent)], indirect=True)
def test_a_scheduler_that_is_killed_ends_the_run_and_loses_nothing(scheduler: Any, tmp_path: Path) -> None:
    process, where = scheduler

    def kill(progress: Any) -> None:
        process.kill()
        process.wait()

    with pytest.raises(WorkerError, match="The Dask scheduler is gone, or it dropped our work"):
        run(tmp_path / "run", executor=where, times=0, progress=kill)
    with Journal(tmp_path / "run", {"inputs": "k"}, "resume") as journal:
        assert journal.rows
    assert agrees(run(tmp_path / "run", "resume", times=0))


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", [""], indirect=True)
def test_workers_that_lack_a_module_are_told_apart_from_dead_ones(scheduler: Any, tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match=r"The Dask workers cannot load .* \(No module named 'faulty_measures'\)"):
        run(tmp_path / "run", executor=scheduler[1])


# ---- stores and inputs -----------------------------------------------------------------------------------------------


def test_a_store_that_changes_during_the_run_is_refused_and_what_is_done_stays(tmp_path: Path) -> None:
    write_store(tmp_path / "kept.zarr")
    write_store(tmp_path / "changed.zarr", seed=1)
    path = tmp_path / "acts.zarr"
    path.symlink_to(tmp_path / "kept.zarr")
    measures = ["cka:estimator=debiased", "cca", "procrustes", "rsa", "svcca", "pwcca", "linear_regression"]
    whole = cg.compare(path, measures=measures, cache=None)

    def point_to(name: str) -> None:
        (tmp_path / "link").symlink_to(tmp_path / name)
        (tmp_path / "link").replace(path)

    def change(progress: Any) -> None:
        point_to("changed.zarr")

    with ThreadPoolExecutor(1) as pool, pytest.raises(AlignmentError, match="has changed on disk since the comparison"):
        cg.compare(path, measures=measures, executor=pool, out=tmp_path / "run", progress=change)
    with pytest.raises(StoreError, match="was started with other inputs"):
        cg.compare(path, measures=measures, out=tmp_path / "run", exists="resume")
    point_to("kept.zarr")
    seen: list[Any] = []
    assert cg.compare(
        path, measures=measures, out=tmp_path / "run", exists="resume", progress=seen.append, cache=None
    ).equals(whole)
    assert len(seen) < len(measures)  # some measures were done


def test_unequal_numbers_of_stimuli_among_many_are_named() -> None:
    rng = np.random.default_rng(0)
    layers = {f"layer{i}": rng.normal(size=(20 if i != 7 else 19, 3)) for i in range(10)}
    with pytest.raises(ShapeError, match="layer0 has 20 stimuli and layer7 has 19"):
        cg.compare(layers, measures="cka")


def test_a_budget_too_small_says_the_least_that_works(tmp_path: Path) -> None:
    layers = {r.name: r.values for r in representations(n=300, widths=(40, 50))}
    with pytest.raises(ParameterError, match="does not hold one tile of rsa .* needs at least"):
        cg.compare(layers, measures="rsa", memory="100kB", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# ---- the run folder --------------------------------------------------------------------------------------------------


class FullDisk(FileIO):
    """A file on a disk that takes some bytes more and then none."""

    left = 10**9

    def write(self, data: Any) -> int:
        if FullDisk.left <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = super().write(data[: FullDisk.left])
        FullDisk.left -= taken
        return taken


@pytest.mark.parametrize("bytes_left", [0, 10, 150, 250])
def test_a_disk_that_fills_in_the_middle_of_a_line_leaves_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bytes_left: int
) -> None:
    whole = run(tmp_path / "whole", times=0)
    run_folder = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(journal_module, "FileIO", FullDisk)
        patched.setattr(FullDisk, "left", bytes_left)
        with pytest.raises(StoreError, match="No space left for .*; what is done stays"):
            run(run_folder, times=0)
    content = (run_folder / "journal.jsonl").read_bytes()
    assert content == b"" or content.endswith(b"\n")
    assert run(run_folder, "resume", times=0).equals(whole)


def test_an_altered_line_of_a_journal_is_computed_again(tmp_path: Path) -> None:
    whole = run(tmp_path / "run", times=0)
    path = tmp_path / "run" / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"0.", b"9.", 1)
    path.write_bytes(b"".join(lines))
    assert run(tmp_path / "run", "resume", times=0).equals(whole)
    path.write_bytes(b"?" + path.read_bytes())
    with pytest.raises(CorruptStoreError, match=r"journal.jsonl differs from what was written, .* overwrite"):
        run(tmp_path / "run", "resume", times=0)


PAUSED = """
import sys, time
import congruence.engine.journal as journal
record = journal.Journal.record
def paused(self, rows):
    record(self, rows)
    print("recorded", flush=True)
    time.sleep(600)
journal.Journal.record = paused
from congruence.cli import main
main(sys.argv[1:])
"""


def test_of_two_processes_that_resume_one_run_the_second_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("net.npz", **{r.name: r.values for r in representations()})
    command = ["compare", "net.npz", "-m", "cka", "-m", "procrustes", "--out", "run"]
    first = subprocess.Popen([sys.executable, "-c", PAUSED, *command], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert first.stdout.readline() == "recorded\n"
    second = congruence(*command, "--resume")
    assert second.code == 2
    assert f"run is being written by process {first.pid}" in second.error
    first.kill()
    first.wait()
    first.stdout.close()
    assert congruence(*command, "--resume").code == 0
    assert congruence(*command[:-1], "whole").code == 0
    assert cg.load("run").equals(cg.load("whole"))


def test_update_computes_the_new_pairs_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(REGISTRY, "deadly", Deadly)
    pairs: list[tuple[int, int]] = []
    compare = Deadly.compare

    def counted(self: Deadly, a: int, b: int) -> float:
        pairs.append((a, b))
        return compare(self, a, b)

    monkeypatch.setattr(Deadly, "compare", counted)
    models = {p: r.values for p, r in zip(range(3, 9), representations(widths=tuple(range(3, 9))), strict=True)}
    Path("models").mkdir()
    for p in (3, 4, 5):
        np.save(f"models/m{p}.npy", models[p])
    command = ["compare", "models", "-m", "deadly:times=0", "--out", "run"]
    assert congruence(*command).code == 0
    assert len(pairs) == 9  # not symmetric: both orders
    for p in (6, 7, 8):
        np.save(f"models/m{p}.npy", models[p])
    pairs.clear()
    assert congruence(*command, "--update").code == 0
    assert len(pairs) == 36 - 9
    assert all(max(pair) > 5 for pair in pairs)
    assert congruence(*command[:-1], "whole").code == 0
    assert cg.load("run").equals(cg.load("whole"))
