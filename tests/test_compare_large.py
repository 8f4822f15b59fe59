"""cg.compare with more data than memory: read in chunks from stores and .npy files, summed, and put with the rest."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

import congruence as cg
from commands import congruence
from congruence import api
from congruence.engine import Shape, job, make_plan
from congruence.engine.stream import Stream
from congruence.engine.stream.values import FORMS
from congruence.measures import CKA, REGISTRY, measure
from congruence.representation import Deferred, Representation
from congruence.store import Recorded, StoreWriter

N = 700
SUMMED = [
    m.label
    for cls in REGISTRY.values()
    if cls in FORMS
    for m in cls.variants()
    if not isinstance(m, CKA) or m.kernel == "linear"
]


def layers(n=N, widths=(12, 9, 15), seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(n, 6))
    return {
        f"layer{k}": (latent @ rng.normal(size=(6, p)) + 0.5 * rng.normal(size=(n, p))).astype(dtype)
        for k, p in enumerate(widths)
    }


def write_store(path, arrays, ids=None, batch=128):
    first = next(iter(arrays.values()))
    with StoreWriter(path, provenance={"model": path.stem}) as writer:
        for index, start in enumerate(range(0, len(first), batch)):
            part = slice(start, start + batch)
            recorded = {name: Recorded(x[part], None, False, str(x.dtype), ()) for name, x in arrays.items()}
            writer.append(index, None if ids is None else ids[part], f"{path.stem}{index}", recorded)
        writer.finish(list(arrays), list(arrays))
    return path


@pytest.fixture
def large(monkeypatch):
    """Lets everything that is on disk count as large."""
    monkeypatch.setattr(job, "LARGE_BYTES", 0)


@pytest.fixture
def stores(tmp_path, large):
    a, b = layers(), layers(widths=(10, 14), seed=1)
    return write_store(tmp_path / "a.zarr", a), write_store(tmp_path / "b.zarr", b), a, b


def require_close(got, expected, tolerance=1e-10):
    """Compare everything but seconds; values relative to the largest, where they have units."""
    for label in expected.measures:
        ours, theirs = got.matrix(label).values, expected.matrix(label).values
        np.testing.assert_allclose(ours, theirs, atol=tolerance * max(1, np.nanmax(np.abs(theirs))), rtol=0)
    for name in ("status", "reason", "n", "measure", "a", "b"):
        assert np.array_equal(got.dataset[name].values, expected.dataset[name].values), name
    assert dict(got.infos) == dict(expected.infos)


# ---- the same numbers ------------------------------------------------------------------------------------------------


def test_every_variant_equals_memory(stores):
    path_a, path_b, a, b = stores
    # 1e-10 is the promise for what is computed in float64 either way
    require_close(cg.compare(path_a, path_b, SUMMED), cg.compare(a, b, SUMMED))
    plan = cg.plan(path_a, path_b, SUMMED)
    assert {m.form for m in plan.measures} == {"covariance"}


def test_within_one_side(stores):
    path_a, _, a, _ = stores
    measures = ["cka:estimator=debiased", "linear_regression", "svcca"]
    require_close(cg.compare(path_a, measures=measures), cg.compare(a, measures=measures))


def test_some_measures_are_summed_and_the_others_held(stores, tmp_path):
    path_a, path_b, a, b = stores
    measures = ["cka", "rsa", "procrustes", "mutual_knn"]
    plan = cg.plan(path_a, path_b, measures)
    assert [m.sums for m in plan.measures] == [True, False, True, False]
    got = cg.compare(path_a, path_b, measures, out=tmp_path / "run")
    require_close(got, cg.compare(a, b, measures))
    assert cg.load(tmp_path / "run").equals(got)
    assert [c.code for c in got.caveats("cka", "layer0", "layer0")] == [
        c.code for c in cg.compare(a, b, measures).caveats("cka", "layer0", "layer0")
    ]


def test_npy_files_and_stimulus_ids(tmp_path, large):
    a = layers(dtype=np.float64)
    for name, x in a.items():
        np.save(tmp_path / f"{name}.npy", np.asfortranarray(x) if name == "layer1" else x)
    got = cg.compare([tmp_path / f"{name}.npy" for name in a], measures=["cka", "cca"])
    require_close(got, cg.compare(a, measures=["cka", "cca"]))
    ids = [f"s{i}" for i in range(N)]
    store = write_store(tmp_path / "ids.zarr", a, ids)
    in_memory = {name: cg.Representation(x, name, ids) for name, x in a.items()}
    require_close(cg.compare(store, measures="cka", align=True), cg.compare(list(in_memory.values()), measures="cka"))
    fewer = {name: cg.Representation(x[::2], f"{name}'", ids[::2]) for name, x in a.items()}
    got = cg.compare(store, list(fewer.values()), "cka", align=True)
    require_close(got, cg.compare(list(in_memory.values()), list(fewer.values()), "cka", align=True))
    with pytest.raises(cg.AlignmentError, match="hold different stimuli"):
        cg.compare(store, list(fewer.values()), "cka")


def test_layers_with_more_axes_are_reduced_as_they_are_read(tmp_path, large):
    rng = np.random.default_rng(0)
    arrays = {"conv": rng.normal(size=(300, 3, 2, 2)), "tokens": rng.normal(size=(300, 5, 4))}
    path = write_store(tmp_path / "maps.zarr", arrays)
    measures = ["cka", "procrustes", "rsa"]
    require_close(cg.compare(path, measures=measures), cg.compare(arrays, measures=measures))


def test_fingerprints_are_those_of_the_values_wherever_they_are(stores, tmp_path):
    path_a, _, a, _ = stores
    np.save(tmp_path / "layer0.npy", a["layer0"])

    def fingerprint(source):
        listed = cg.compare(source, measures="cka").provenance["inputs"]["a"]
        return next(entry["fingerprint"] for entry in listed if entry["name"] == "layer0")

    assert fingerprint(path_a) == fingerprint(a) == fingerprint(tmp_path / "layer0.npy")
    assert fingerprint({"layer0": a["layer0"] + 1}) != fingerprint(a)


# ---- the plan --------------------------------------------------------------------------------------------------------


def shape(n, widths_a, widths_b=None, *, large=True):
    count = len(widths_a) + len(widths_b or ())
    return Shape(n, widths_a, widths_b, row_bytes=(4 * max(widths_a),) * count, large=large)


def test_what_is_on_disk_is_summed_where_that_costs_less():
    million, few = shape(1_000_000, (256,), (256,)), shape(1000, (768,) * 40)
    measures = [measure(name) for name in ("cka", "cca", "procrustes")]
    assert all(m.sums for m in make_plan(million, measures, "2GiB").measures)
    assert not any(m.sums for m in make_plan(few, measures, "2GiB").measures)
    plan = make_plan(million, measures, "2GiB")
    assert plan.peak_bytes < 2 * 2**30
    # two passes' worth of products at most, however many measures take them
    assert plan.flops < 2 * 3 * 2 * 1e6 * 256**2
    text = str(plan)
    assert "form   covariance: products of features, summed over chunks" in text
    assert "its products of features are those of cka" in text
    assert "1 group of pairs, each read in one pass or more" in text


def test_what_is_at_hand_is_summed_only_where_nothing_else_fits():
    cca = [measure("cca")]
    at_hand = shape(50_000, (64,), (64,), large=False)
    assert not make_plan(at_hand, cca, "2GB").measures[0].sums
    assert make_plan(at_hand, cca, "60MB").measures[0].sums
    a = layers(20_000, (16, 16))
    got = cg.compare(a, measures=["cka", "cca"], memory="12MB")
    assert {m.form for m in cg.plan(a, measures=["cka", "cca"], memory="12MB").measures} == {"covariance"}
    require_close(got, cg.compare(a, measures=["cka", "cca"]))


def test_a_measure_of_all_pairs_of_stimuli_is_refused_before_anything_is_computed(monkeypatch):
    def read(self, start, stop):
        raise AssertionError

    monkeypatch.setattr(Stream, "read", read)
    for label in ("rsa", "mutual_knn", "cka:kernel=rbf", "rsa:compare=kendall"):
        with pytest.raises(
            cg.ParameterError,
            match=rf"{label} \(n=1000000, p=256\)\. It compares all pairs of stimuli.* at least [\d.]+ TB",
        ):
            make_plan(shape(1_000_000, (256,), (256,)), [measure("cka"), measure(label)], "4GB")


def test_the_least_budget_of_a_stream_is_named_and_works():
    big = shape(1_000_000, (512,), (256,))
    with pytest.raises(
        cg.ParameterError, match=r"does not hold the sums of one pair for cca \(n=1000000, p=512\)"
    ) as caught:
        make_plan(big, [measure("cca")], "10MB")
    amount, unit = str(caught.value).rstrip(".").split()[-2:]
    assert make_plan(big, [measure("cca")], f"{float(amount) * 1.01}{unit}").measures[0].sums


def test_a_budget_leaves_less_of_the_files_in_memory(tmp_path, monkeypatch):
    a = layers(400, (40,) * 3)
    path = write_store(tmp_path / "some.zarr", a)
    monkeypatch.setattr(job, "BOUNDED_BYTES", 150_000)  # the store holds 192,000 or more
    for memory, kind in ((None, Representation), ("8MB", Deferred)):
        request = api.prepare(str(path), None, "cka", memory=memory)
        assert all(type(item.representation) is kind for item in request.a)
    require_close(cg.compare(path, measures="cka", memory="8MB"), cg.compare(a, measures="cka"))


def test_many_representations_share_passes_as_far_as_memory_allows(tmp_path, large):
    a = layers(400, (40,) * 6)
    path = write_store(tmp_path / "many.zarr", a)
    plan = cg.plan(path, measures=["cka", "cca"], memory="1MB")
    assert plan.measures[0].passes > 1
    assert plan.peak_bytes <= 1_000_000
    require_close(cg.compare(path, measures=["cka", "cca"], memory="1MB"), cg.compare(a, measures=["cka", "cca"]))


# ---- journal, progress, interruption ---------------------------------------------------------------------------------


def test_groups_that_are_done_are_not_computed_again(tmp_path, large):
    a = layers(400, (40,) * 6)
    path = write_store(tmp_path / "many.zarr", a)
    arguments = {"measures": ["cka", "cca"], "memory": "1MB"}
    whole = cg.compare(path, **arguments)

    class Stop(Exception):
        pass

    def stop(progress):
        if progress.done:
            raise Stop

    with pytest.raises(Stop):
        cg.compare(path, **arguments, out=tmp_path / "run", progress=stop)
    assert (tmp_path / "run" / "journal.jsonl").read_bytes().count(b"\n") > 1
    seen = []
    resumed = cg.compare(path, **arguments, out=tmp_path / "run", exists="resume", progress=seen.append)
    assert resumed.equals(whole)
    assert seen[0].done > 0


SLOWLY = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs start with interrupts ignored
import congruence.engine.journal as journal
from congruence.engine import job
job.LARGE_BYTES = 0
record = journal.Journal.record
def slowly(self, rows):
    record(self, rows)
    time.sleep(0.5)
journal.Journal.record = slowly
from congruence.cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_process_that_is_stopped_between_groups_is_resumed(tmp_path, large, monkeypatch, how):
    monkeypatch.chdir(tmp_path)
    write_store(tmp_path / "many.zarr", layers(400, (40,) * 6))
    command = ["compare", "many.zarr", "-m", "cka", "-m", "procrustes", "--memory", "1MB", "--out", "run"]
    running = subprocess.Popen(
        [sys.executable, "-c", SLOWLY, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    journal, deadline = tmp_path / "run" / "journal.jsonl", time.monotonic() + 60
    while not (journal.exists() and journal.read_bytes().count(b"\n") > 1):
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    running.send_signal(how)
    _, said = running.communicate(timeout=60)
    if how == signal.SIGINT:
        assert running.returncode == 130
        assert "Traceback" not in said
        assert said.endswith(f"congruence {' '.join(command)} --resume\n")
    assert congruence(*command, "--resume").code == 0
    assert cg.load("run").equals(cg.compare("many.zarr", measures=["cka", "procrustes"], memory="1MB"))


def test_progress_tells_of_every_chunk(stores):
    path_a, path_b, _, _ = stores
    seen = []
    cg.compare(path_a, path_b, ["cka", "procrustes"], progress=seen.append)
    assert (seen[-1].done, seen[-1].total) == (12, 12)
    assert seen[0].detail == f"summing (pass 1): {N}/{N} stimuli"
    assert seen[0].part == 12


def test_progress_tells_of_every_segment():
    rng = np.random.default_rng(0)
    arrays = {f"x{k}": rng.normal(size=(150, 20)) for k in range(10)}
    seen = []
    cg.compare(arrays, measures="cka:kernel=rbf,estimator=debiased", memory="3MB", progress=seen.append)
    details = [p.detail for p in seen if p.detail]
    assert details[0].startswith("segment 1 of ")
    assert len(details) == int(details[0].split()[-1]) > 1
    assert [p.part for p in seen if p.detail] == sorted(p.part for p in seen if p.detail)


# ---- faults ----------------------------------------------------------------------------------------------------------


def test_nan_in_one_row_is_found_with_its_position(tmp_path, large):
    a = layers(5000, (8, 8))
    a["layer1"][4321, 5] = np.nan
    path = write_store(tmp_path / "bad.zarr", a)
    with pytest.raises(cg.errors.InputError, match=r"layer1 has 1 NaN value among stimuli .*position \(4321, 5\)"):
        cg.compare(path, measures=["cka", "procrustes"], out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    result = cg.compare(path, measures=["cka", "procrustes"], on_error="record")
    assert result.matrix("cka").sel(a="layer0", b="layer0") == 1.0
    failed = result.failures()
    assert len(failed) == 6
    assert failed["reason"].str.contains("position .4321, 5.").all()


def test_unequal_stimuli_among_many(tmp_path, large):
    paths = [write_store(tmp_path / f"m{k}.zarr", layers(300 + (k == 3))) for k in range(5)]
    with pytest.raises(cg.ShapeError, match="300 stimuli and .* has 301"):
        cg.compare(paths, measures="cka")


@pytest.mark.parametrize("kind", ["store", "npy"])
def test_data_that_change_during_the_run_are_refused(tmp_path, large, kind):
    a = layers(600, (8, 8), dtype=np.float64)
    if kind == "store":
        source = write_store(tmp_path / "a.zarr", a)
    else:
        source = tmp_path / "files"
        source.mkdir()
        for name, x in a.items():
            np.save(source / f"{name}.npy", x)
    request = cg.api.prepare(source, measures=["cka", "rsa"])
    if kind == "store":
        (tmp_path / "a.zarr").rename(tmp_path / "old.zarr")
        write_store(tmp_path / "a.zarr", layers(600, (8, 8), seed=5, dtype=np.float64))
    else:
        np.save(source / "layer0.npy", a["layer0"] + 1)
        os.utime(source / "layer0.npy", ns=(1, 1))
    with pytest.raises(cg.StoreError, match="layer0.* the file changed while it was read"):
        cg.api.run(request, tmp_path / "run")


def test_memory_stays_within_the_budget(tmp_path):
    """The peak of a process of its own, where nothing but the comparison takes memory."""
    n, p, budget = 100_000, 64, 100_000_000
    write_store(tmp_path / "big.zarr", layers(n, (p, p, p, p)), batch=8192)
    script = """
        import json, sys
        import congruence as cg
        from congruence.engine import job
        job.LARGE_BYTES = 0
        result = cg.compare(sys.argv[1], measures=["cka", "cca", "procrustes"], memory=int(sys.argv[2]))
        status = open("/proc/self/status").read()  # getrusage would count what the parent had when it forked
        peak = 1024 * int(status.split("VmHWM:")[1].split()[0])
        print(json.dumps([peak, float(result.matrix("cka").values[0, 1])]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "big.zarr"), str(budget)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    peak, value = json.loads(done.stdout)
    assert 0 < value < 1
    assert peak < budget + 500_000_000  # all states in float64, as they are held in memory, would add 205 MB
