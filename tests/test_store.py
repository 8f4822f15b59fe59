"""Stores of activations: round trips, resuming, damage, versions."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from congruence import steps
from congruence.errors import (
    AlignmentError,
    CongruenceWarning,
    CorruptStoreError,
    InputError,
    MissingExtraError,
    OutputExistsError,
    ParameterError,
    ShapeError,
    StoreError,
    UnknownNameError,
)
from congruence.store import Activations, Recorded, StoreWriter, inspect, layout

DTYPES = [
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
]
PROVENANCE = {"model": "net", "dataset": "sentences", "contract": {"fingerprint": "abc", "layers": ["seq", "flat"]}}


@pytest.fixture(autouse=True, scope="module")
def unforced_writes() -> Iterator[None]:
    """Do not wait for the disk: no test here cuts the power, and it would be most of their time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give small arrays several blocks of stimuli and of positions."""
    monkeypatch.setattr(layout, "_CHUNK_BYTES", 2**11)
    monkeypatch.setattr(layout, "_MOST_ROWS", 8)
    monkeypatch.setattr(layout, "_MASK_SPAN", 16)


def batch(index: int, rows: int = 5, length: int = 10) -> dict[str, Recorded]:
    rng = np.random.default_rng(index)
    mask = np.arange(length) < rng.integers(1, length + 1, size=(rows, 1))
    seq = Recorded(rng.normal(size=(rows, length, 6)).astype(np.float32), mask, steps=("unit_norm:over=rows",))
    return {"seq": seq, "flat": Recorded(rng.normal(size=(rows, 7)))}


LENGTHS = (10, 4, 33, 12)


def ids_of(index: int) -> list[str]:
    return [f"s{index}-{i}" for i in range(5)]


def fill(writer: StoreWriter, first: int = 0, last: int = 4) -> None:
    for index in range(last):
        if index < first:
            writer.check(index, ids_of(index), f"d{index}")
        else:
            writer.append(index, ids_of(index), f"d{index}", batch(index, length=LENGTHS[index]))


def write(path: Path, **options: Any) -> Path:
    with StoreWriter(path, provenance=PROVENANCE, **options) as writer:
        fill(writer)
        writer.finish(["flat", "seq"], ["seq", "flat"])
    return path


@pytest.fixture
def store(tmp_path: Path, small_chunks: None) -> Path:
    return write(tmp_path / "run.zarr")


def expected(name: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return what the store must hold: all batches, padded with zeros to the longest."""
    values, masks = [], []
    for index, length in enumerate(LENGTHS):
        recorded = batch(index, length=length)[name]
        if name == "flat":
            values.append(recorded.values)
        else:
            pad = max(LENGTHS) - length
            values.append(np.pad(recorded.values, ((0, 0), (0, pad), (0, 0))))
            masks.append(np.pad(recorded.mask, ((0, 0), (0, pad))))
    return np.concatenate(values), np.concatenate(masks) if masks else np.zeros(0)


# ---- round trips -----------------------------------------------------------------------------------------------------


def test_a_store_gives_back_what_was_recorded(store: Path) -> None:
    acts = Activations(store)
    assert list(acts) == ["flat", "seq"]
    assert acts.definition_order == ("seq", "flat")
    assert (len(acts), acts.n, acts.batches, acts.complete) == (2, 20, 4, True)
    assert acts.ids is not None
    assert list(acts.ids) == [i for index in range(4) for i in ids_of(index)]
    assert acts.provenance["model"] == "net"
    assert acts.provenance["versions"]["congruence"]
    values, mask = expected("seq")
    assert acts.shape("seq") == values.shape == (20, 33, 6)
    assert acts.dtype("seq") == np.float32
    np.testing.assert_array_equal(acts.array("seq"), values, strict=True)
    np.testing.assert_array_equal(acts.mask("seq"), mask, strict=True)
    np.testing.assert_array_equal(acts.array("flat"), expected("flat")[0], strict=True)
    assert acts.mask("flat") is None


def test_a_representation_knows_where_it_comes_from(store: Path) -> None:
    acts = Activations(store)
    found = acts["seq"]
    assert found.steps == (steps.UnitNorm(over="rows"),)
    assert found.origin.to_dict() == {
        "model": "net",
        "layer": "seq",
        "dataset": "sentences",
        "fingerprint": acts.content_hash("seq"),
    }
    assert found.ids is not None
    assert acts.ids is not None
    assert list(found.ids) == list(acts.ids)
    assert found.mask.shape == (20, 33)
    assert found.matrix().values.shape == (20, 6)  # averaged over the valid positions


def test_parts_are_read_with_their_ids_and_masks(store: Path) -> None:
    acts = Activations(store)
    values, mask = expected("seq")
    for start, stop in [(0, 20), (0, 1), (7, 9), (8, 16), (19, 20), (3, 18)]:
        part = acts.rows("seq", start, stop)
        np.testing.assert_array_equal(part.values, values[start:stop], strict=True)
        np.testing.assert_array_equal(part.mask, mask[start:stop], strict=True)
        assert part.ids is not None
        assert acts.ids is not None
        assert list(part.ids) == list(acts.ids[start:stop])
    for start, stop in [(-1, 3), (3, 3), (5, 21)]:
        with pytest.raises(ShapeError, match=f"has 20 stimuli; rows {start} to {stop} are not a range"):
            acts.rows("seq", start, stop)


def test_stimuli_without_ids_count_from_zero(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "s", provenance={}) as writer:
        writer.append(0, None, "0", {"x": Recorded(np.eye(3))})
        writer.append(1, None, "1", {"x": Recorded(np.eye(3))})
        writer.finish()
    acts = Activations(tmp_path / "s")
    assert acts.ids is None
    assert acts["x"].ids is None
    assert list(acts.rows("x", 2, 4).stimulus_ids) == ["2", "3"]


def test_any_zarr_library_reads_the_arrays(store: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        group = zarr.open_group(store, mode="r")
        members = {name for name, _ in group.members(max_depth=None)}
        values = group["layers/00000_seq"][:]
        mask = group["masks/00000_seq"][:]
        lines = bytes(group["batches"][:]).splitlines()
    assert members == {"layers", "masks", "batches", "layers/00000_seq", "layers/00001_flat", "masks/00000_seq"}
    np.testing.assert_array_equal(values, expected("seq")[0], strict=True)
    np.testing.assert_array_equal(mask, expected("seq")[1], strict=True)
    assert json.loads(lines[0].split(b" ", 1)[1])["ids"] == ids_of(0)


@st.composite
def runs(draw: st.DrawFn) -> list[dict[str, Recorded]]:
    """Draw the batches of a run with one layer of any shape, dtype and mask."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    row = tuple(draw(st.lists(st.integers(1, 4), max_size=3)))
    sequence = draw(st.booleans()) or len(row) == 1
    masked = sequence and (draw(st.booleans()) or len(row) != 1)  # only a mask tells that other shapes have positions
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    batches = []
    for _ in range(draw(st.integers(1, 4))):
        rows, length = draw(st.integers(1, 6)), draw(st.integers(1, 40))
        shape = (rows, length, *row) if sequence else (rows, *row)
        values = (rng.normal(size=shape) * 50).astype(dtype)
        mask = rng.random((rows, length)) < 0.7 if masked else None
        batches.append({"x": Recorded(values, mask)})
    return batches


@settings(max_examples=30, deadline=None)
@given(run=runs(), cut=st.integers(0, 4))
def test_any_run_round_trips_and_its_hash_is_independent_of_interruption(
    tmp_path_factory: pytest.TempPathFactory, run: list[dict[str, Recorded]], cut: int
) -> None:
    path = tmp_path_factory.mktemp("runs") / "s"
    found = []
    for stops in ([len(run)], [min(cut, len(run)), len(run)]):
        for stop in stops:
            with StoreWriter(path, provenance={}, resume=True) as writer:
                done = writer.batches
                for index, arrays in enumerate(run[:stop]):
                    if index < done:
                        writer.check(index, None, str(index))
                    else:
                        writer.append(index, None, str(index), arrays)
                if stop == len(run):
                    writer.finish()
        found.append((Activations(path).content_hash("x"), Activations(path).array("x").tobytes()))
        acts = Activations(path)
        assert inspect(path).ok
        start = 0
        for arrays in run:
            recorded = arrays["x"]
            stop = start + recorded.values.shape[0]
            part, mask = acts.array("x")[start:stop], acts.mask("x")
            if mask is not None:
                length = recorded.values.shape[1]
                assert not part[:, length:].any()
                assert not mask[start:stop, length:].any()
                part = part[:, :length]
                whole = np.ones(recorded.values.shape[:2], bool) if recorded.mask is None else recorded.mask
                np.testing.assert_array_equal(mask[start:stop, :length], whole)
            np.testing.assert_array_equal(part, recorded.values, strict=True)
            start = stop
        shutil.rmtree(path)
    assert found[0] == found[1]


def test_content_hashes_do_not_depend_on_batches_or_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values, found = np.random.default_rng(0).normal(size=(24, 6)).astype(np.float32), []
    for size, most in [(24, 512), (5, 512), (7, 4)]:
        monkeypatch.setattr(layout, "_MOST_ROWS", most)
        with StoreWriter(tmp_path / f"{size}", provenance={}) as writer:
            for index, start in enumerate(range(0, 24, size)):
                writer.append(index, None, "", {"x": Recorded(values[start : start + size])})
            writer.finish()
        found.append(Activations(tmp_path / f"{size}").content_hash("x"))
    crcs = b"".join(google_crc32c.value(row.tobytes()).to_bytes(4, "little") for row in values)
    parts = {"dtype": "float32", "shape": [24, 6], "values": hashlib.sha256(crcs).hexdigest(), "mask": None}
    assert found == [hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()] * 3


def test_content_hashes_tell_values_masks_and_shapes_apart(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    partial = np.array([[1, 1, 1, 0], [1, 1, 1, 1]], dtype=bool)
    other = values.copy()
    other[1, 3, 2] = np.nextafter(other[1, 3, 2], np.float32(0))
    variants = [
        Recorded(values),
        Recorded(values, np.ones((2, 4), bool)),
        Recorded(values, partial),
        Recorded(values.reshape(2, 3, 4)),
        Recorded(values.view(np.int32)),
        Recorded(other),
    ]
    found = set()
    for index, recorded in enumerate(variants):
        with StoreWriter(tmp_path / str(index), provenance={}) as writer:
            writer.append(0, None, "", {"x": recorded})
            writer.finish()
        found.add(Activations(tmp_path / str(index)).content_hash("x"))
    assert len(found) == len(variants)


NAMES = [
    "",
    ".",
    "..",
    "/",
    "a/../b",
    "../../outside",
    "encoder/layer.0[1][0]",
    "zarr.json",
    "__init__",
    "c.0",
    "Ä–λ–中文–🙂",
    "x" * 300,
    "A",
    "a",
    "a ",
    "name#2",
    'quo"te<b>',
    "new\nline",
    "\udcff",
]


def test_any_name_can_be_stored(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "s", provenance={}) as writer:
        writer.append(0, NAMES, "", {name: Recorded(np.full((len(NAMES), 2), i)) for i, name in enumerate(NAMES)})
        writer.finish()
    acts = Activations(tmp_path / "s")
    assert list(acts) == NAMES
    assert acts.ids is not None
    assert list(acts.ids) == NAMES
    assert [int(acts.array(name)[0, 0]) for name in NAMES] == list(range(len(NAMES)))
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
    assert inspect(tmp_path / "s").ok


def test_half_precision_that_numpy_lacks_keeps_its_name(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "s", provenance={}) as writer:
        writer.append(0, None, "", {"x": Recorded(np.ones((3, 2), np.float32), dtype="bfloat16", recurrent=True)})
        writer.finish()
    acts = Activations(tmp_path / "s")
    assert (acts.dtype("x"), acts.model_dtype("x")) == (np.float32, "bfloat16")
    assert acts["x"].recurrent


def test_big_endian_and_strided_values_are_stored_as_they_read(tmp_path: Path) -> None:
    values = np.arange(24, dtype=">f8").reshape(4, 6)[::2, ::3]
    with StoreWriter(tmp_path / "s", provenance={}) as writer:
        writer.append(0, None, "", {"x": Recorded(values)})
        writer.finish()
    np.testing.assert_array_equal(Activations(tmp_path / "s").array("x"), values)


# ---- as a mapping, for people, by URL --------------------------------------------------------------------------------


def test_an_unknown_layer_is_an_error_that_names_the_closest(store: Path) -> None:
    acts = Activations(store)
    assert "seq" in acts
    assert "sec" not in acts
    for ask in (acts.__getitem__, acts.array, acts.mask, acts.shape, acts.dtype, acts.content_hash):
        with pytest.raises(UnknownNameError, match="has no layer 'sec'. Closest: seq."):
            ask("sec")
    assert acts.get("seq") is not None


def test_representations_for_people_are_escaped(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "s", provenance={}) as writer:
        arrays = {f"<b>{i}": Recorded(np.ones((3, 2))) for i in range(25)}
        writer.append(0, None, "", arrays)
        writer.finish()
    acts = Activations(tmp_path / "s")
    assert "25 layers, 3 stimuli, positions" in repr(acts)
    assert "<b>0: (3, 2) float64" in repr(acts)
    assert "and 5 more" in repr(acts)
    assert "&lt;b&gt;0" in acts._repr_html_()
    assert "<b>" not in acts._repr_html_()


def test_a_store_opened_in_another_process_reads_the_same(store: Path) -> None:
    acts = pickle.loads(pickle.dumps(Activations(store)))
    np.testing.assert_array_equal(acts.array("seq"), expected("seq")[0])


def test_a_store_is_read_by_url(store: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    np.testing.assert_array_equal(Activations(store.as_uri()).array("seq"), expected("seq")[0])
    memory = fsspec.filesystem("memory")
    memory.put(f"{store}/", "/bucket/run.zarr/", recursive=True)
    acts = Activations("memory://bucket/run.zarr")
    assert acts.path == "memory://bucket/run.zarr"
    np.testing.assert_array_equal(acts.array("seq"), expected("seq")[0])
    assert inspect("memory://bucket/run.zarr").ok
    memory.rm("/bucket/run.zarr/layers/00000_seq/c.1.0.0")
    with pytest.raises(CorruptStoreError, match="memory://bucket/run.zarr: layer 'seq': chunk .*c.1.0.0 is missing"):
        acts.array("seq")
    with pytest.raises(StoreError, match="memory://nowhere is no store of activations"):
        Activations("memory://nowhere")
    with pytest.raises(StoreError, match="nonsense://x/zarr.json cannot be read: .*nonsense"):
        Activations("nonsense://x")


def test_a_url_without_fsspec_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(MissingExtraError, match="Reading s3://bucket/x needs fsspec; install it with"):
        Activations("s3://bucket/x")


def test_writing_to_a_url_is_refused() -> None:
    with pytest.raises(StoreError, match="written to a local folder; got s3://bucket/x"):
        StoreWriter("s3://bucket/x", provenance={})


# ---- resuming --------------------------------------------------------------------------------------------------------


def test_a_failure_keeps_the_batches_before_it(tmp_path: Path, small_chunks: None) -> None:
    undisturbed = write(tmp_path / "whole")

    def fail() -> None:
        with StoreWriter(tmp_path / "s", provenance=PROVENANCE) as writer:
            fill(writer, last=3)
            message = "forward"
            raise RuntimeError(message)

    with pytest.raises(RuntimeError, match="forward"):
        fail()
    with pytest.raises(
        StoreError, match="s is incomplete: .* Finish it first: extract the same again with resume=True"
    ):
        Activations(tmp_path / "s")
    partial = Activations(tmp_path / "s", allow_incomplete=True)
    assert (partial.n, partial.complete, partial.content_hash("seq")) == (15, False, None)
    assert "incomplete" in repr(partial)
    np.testing.assert_array_equal(partial.array("seq"), expected("seq")[0][:15])
    report = inspect(tmp_path / "s")
    assert (report.complete, report.ok, report.n) == (False, True, 15)
    with StoreWriter(tmp_path / "s", provenance=PROVENANCE, resume=True) as writer:
        assert (writer.batches, writer.stimuli, writer.names) == (3, 15, ("seq", "flat"))
        fill(writer, first=3)
        writer.finish(["flat", "seq"], ["seq", "flat"])
    for file in sorted(undisturbed.rglob("*")):
        if file.is_file():
            assert (tmp_path / "s" / file.relative_to(undisturbed)).read_bytes() == file.read_bytes(), file


def test_resuming_a_finished_run_checks_it_and_changes_nothing(store: Path) -> None:
    before = {file: file.read_bytes() for file in store.rglob("*") if file.is_file()}
    with StoreWriter(store, provenance=PROVENANCE, resume=True) as writer:
        assert writer.batches == 4
        fill(writer, first=4)
        with pytest.raises(StoreError, match="is complete with 4 batches; batch 4 is one more"):
            writer.append(4, ids_of(4), "", batch(4))
        writer.finish()
    assert {file: file.read_bytes() for file in store.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize(
    ("index", "ids", "digest", "message"),
    [
        (
            1,
            ids_of(2),
            "d1",
            r"batch 1 is not the one .*stimulus 0 was 's1-0' and is 's2-0'\): a shuffled or changed loader",
        ),
        (1, ids_of(1)[:4], "d1", "it had 5 stimuli and has 4"),
        (1, None, "d1", "recorded with ids, now without"),
        (1, ids_of(1), "d2", "the same ids, other content"),
        (2, ids_of(2), "d2", "Batch 2 cannot be checked: 2 are on disk, and 1 is the next"),
    ],
)
def test_a_shuffled_or_changed_loader_is_refused(
    tmp_path: Path, index: int, ids: list[str] | None, digest: str, message: str
) -> None:
    with StoreWriter(tmp_path / "s", provenance={}) as writer:
        fill(writer, last=2)
    with StoreWriter(tmp_path / "s", provenance={}, resume=True) as writer:
        writer.check(0, ids_of(0), "d0")
        with pytest.raises(StoreError, match=message):
            writer.check(index, ids, digest)
    assert Activations(tmp_path / "s", allow_incomplete=True).n == 10


def test_ids_that_appear_on_resuming_are_refused(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "s", provenance={}) as writer:
        writer.append(0, None, "", batch(0))
    with (
        StoreWriter(tmp_path / "s", provenance={}, resume=True) as writer,
        pytest.raises(StoreError, match="recorded without ids, now with ids"),
    ):
        writer.check(0, ids_of(0), "")


def test_recorded_batches_must_be_given_again(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "s", provenance={}) as writer:
        fill(writer, last=2)
    with StoreWriter(tmp_path / "s", provenance={}, resume=True) as writer:
        writer.check(0, ids_of(0), "d0")
        for attempt in (writer.finish, lambda: writer.append(2, ids_of(2), "d2", batch(2))):
            with pytest.raises(StoreError, match="has 2 batches and only the first 1 were given again"):
                attempt()


@pytest.mark.parametrize(
    ("contract", "message"),
    [
        (
            {"fingerprint": "other", "layers": ["seq", "flat"]},
            r'other settings \(fingerprint: "abc" then, "other" now\)',
        ),
        ({"fingerprint": "abc"}, r'\(layers: \["seq", "flat"\] then, null now\)'),
        (
            {"fingerprint": "abc", "layers": ["seq", "flat"], "dtype": "x" * 99},
            r'dtype: null then, "x+\.\.\. now',
        ),
    ],
)
def test_resuming_under_another_contract_is_refused(store: Path, contract: dict[str, Any], message: str) -> None:
    with pytest.raises(StoreError, match=message):
        StoreWriter(store, provenance={"contract": contract}, resume=True)
    assert inspect(store).ok


# ---- where a store may be written ------------------------------------------------------------------------------------


def test_an_existing_store_needs_a_word(store: Path) -> None:
    with pytest.raises(
        OutputExistsError, match="run.zarr exists. Continue it with resume=True, or replace it with overwrite=True"
    ):
        StoreWriter(store, provenance={})
    with pytest.raises(ParameterError, match="resume=True and overwrite=True exclude each other"):
        StoreWriter(store, provenance={}, resume=True, overwrite=True)
    with StoreWriter(store, provenance={}, overwrite=True) as writer:
        assert writer.batches == 0
        writer.append(0, None, "", {"new": Recorded(np.ones((3, 2)))})
        writer.finish()
    assert list(Activations(store)) == ["new"]
    assert sorted(path.name for path in (store / "layers").iterdir()) == ["00000_new", "zarr.json"]


@pytest.mark.parametrize("options", [{}, {"resume": True}, {"overwrite": True}])
def test_what_is_no_store_is_left_alone(tmp_path: Path, options: dict[str, bool]) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/thesis.tex").write_text("years of work")
    with pytest.raises(OutputExistsError, match="folder exists and is no store of activations, so it is left alone"):
        StoreWriter(tmp_path / "folder", provenance={}, **options)
    with pytest.raises(OutputExistsError, match="thesis.tex exists and is no folder"):
        StoreWriter(tmp_path / "folder/thesis.tex", provenance={}, **options)
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["thesis.tex"]


def test_a_run_that_recorded_nothing_leaves_nothing(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "a", provenance={}) as writer, pytest.raises(StoreError, match="nothing was recorded"):
        writer.finish()
    with (
        StoreWriter(tmp_path / "b", provenance={}) as writer,
        pytest.raises(ShapeError, match="has 2 stimuli in batch 0"),
    ):
        writer.append(0, None, "", {"x": Recorded(np.ones((3, 2))), "y": Recorded(np.ones((2, 2)))})
    assert list(tmp_path.iterdir()) == []


def test_a_writer_can_be_closed_twice(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path / "s", provenance={})
    writer.append(0, None, "", batch(0))
    writer.close()
    writer.close()
    assert Activations(tmp_path / "s", allow_incomplete=True).n == 5


# ---- what a batch must be --------------------------------------------------------------------------------------------

FINE = {"x": Recorded(np.ones((3, 2))), "s": Recorded(np.ones((3, 4, 2)), np.ones((3, 4), bool))}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": Recorded(np.ones((3, 5)))}, ShapeError, r"Layer 'x' has shape \(3, 5\) in batch 1; .* it is \(b, 2\)"),
        ({"x": Recorded(np.ones((3, 2, 2)))}, ShapeError, r"Layer 'x' has shape \(3, 2, 2\) in batch 1"),
        ({"x": Recorded(np.ones((3, 2)), np.ones((3, 2), bool))}, ShapeError, "Layer 'x' has shape"),
        (
            {"s": Recorded(np.ones((3, 4, 9)))},
            ShapeError,
            r"Layer 's' has shape \(3, 4, 9\) in batch 1; .* \(b, t, 2\)",
        ),
        ({"s": Recorded(np.ones(3))}, ShapeError, r"Layer 's' has shape \(3,\) in batch 1"),
        ({"x": Recorded(np.ones((4, 2)))}, ShapeError, "Layer 's' has 3 stimuli in batch 1 and layer 'x' has 4"),
        ({"x": Recorded(np.ones((0, 2)))}, ShapeError, r"Layer 'x' has no values: shape \(0, 2\)"),
        ({"x": Recorded(np.array(1.0))}, ShapeError, r"Layer 'x' has no values: shape \(\)"),
        (
            {"s": Recorded(np.ones((3, 4, 2)), np.ones((3, 5), bool))},
            ShapeError,
            r"mask of layer 's' must have shape \(3, 4\)",
        ),
        (
            {"x": Recorded(np.ones((3, 2), np.float32))},
            InputError,
            "Layer 'x' has dtype float32 in batch 1; .* is float64",
        ),
        (
            {"x": Recorded(np.ones((3, 2), complex))},
            InputError,
            "Layer 'x' must hold real numbers .* got dtype complex128",
        ),
        ({"x": Recorded(np.ones((3, 2), object))}, InputError, "Layer 'x' must hold real numbers .* got dtype object"),
        ({"x": Recorded(np.ones((3, 2)), steps=("flatten",))}, StoreError, r"Layer 'x' has .*flatten.* in batch 1"),
        (
            {"z": Recorded(np.ones((3, 2)))},
            StoreError,
            "Layer 'z' is new in batch 1; every batch must have the same layers",
        ),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_and_leaves_the_others(
    tmp_path: Path, change: dict[str, Recorded], error: type[Exception], message: str
) -> None:
    with StoreWriter(tmp_path / "s", provenance={}) as writer:
        writer.append(0, None, "", FINE)
        with pytest.raises(error, match=message):
            writer.append(1, None, "", {**FINE, **change})
        writer.append(1, None, "", FINE)
        writer.finish()
    np.testing.assert_array_equal(Activations(tmp_path / "s").array("x"), np.ones((6, 2)))


def test_batches_come_in_order_with_all_layers_and_unique_ids(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "s", provenance={}) as writer:
        writer.append(0, ["a", "b", "c"], "", FINE)
        with pytest.raises(StoreError, match="Batch 2 is not the next one; expected 1"):
            writer.append(2, ["d", "e", "f"], "", FINE)
        with pytest.raises(StoreError, match="Batch 1 has no layers"):
            writer.append(1, ["d", "e", "f"], "", {})
        with pytest.raises(StoreError, match="Layer 's' is missing from batch 1"):
            writer.append(1, ["d", "e", "f"], "", {"x": FINE["x"]})
        with pytest.raises(AlignmentError, match="Stimulus id 'b' in batch 1 is repeated"):
            writer.append(1, ["d", "b", "f"], "", FINE)
        with pytest.raises(AlignmentError, match="Stimulus id 'd' in batch 1 is repeated"):
            writer.append(1, ["d", "e", "d"], "", FINE)
        with pytest.raises(AlignmentError, match="Batch 1 has 3 stimuli but 2 ids"):
            writer.append(1, ["d", "e"], "", FINE)
        with pytest.raises(AlignmentError, match="Batch 1 comes without ids, unlike the batches before"):
            writer.append(1, None, "", FINE)
        for order in (["x"], ["x", "s", "y"], ["x", "x", "s"]):
            with pytest.raises(StoreError, match="must name each recorded layer once"):
                writer.finish(order)
        writer.finish()
    assert Activations(tmp_path / "s").n == 3


def test_what_was_appended_is_not_held(tmp_path: Path) -> None:
    values = np.ones((3, 2))
    with StoreWriter(tmp_path / "s", provenance={}) as writer:
        writer.append(0, None, "", {"x": Recorded(values)})
        values[:] = 9
        writer.finish()
    np.testing.assert_array_equal(Activations(tmp_path / "s").array("x"), np.ones((3, 2)))


# ---- damage ----------------------------------------------------------------------------------------------------------


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-3])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def zero(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def swap(file: Path) -> None:
    """Put another chunk of the same array in its place: its own checksum is right."""
    other = next(path for path in sorted(file.parent.glob("c.*")) if path.read_bytes() != file.read_bytes())
    file.write_bytes(other.read_bytes())


CHUNKS = ["layers/00000_seq/c.1.0.0", "layers/00000_seq/c.2.0.0", "layers/00001_flat/c.0.0", "masks/00000_seq/c.1.0"]
DAMAGES: list[tuple[Callable[[Path], None], str]] = [
    (Path.unlink, "is missing"),
    (truncate, r"has \d+ bytes instead of \d+"),
    (empty, r"has 0 bytes instead of \d+"),
    (flip, r"was altered \(its checksum is wrong\)"),
    (zero, r"was altered \(its checksum is wrong\)"),
    (swap, "holds other values than those that were recorded"),
]


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize(("damage", "message"), DAMAGES, ids=lambda value: getattr(value, "__name__", ""))
def test_a_damaged_chunk_is_named_by_every_reader(
    store: Path, chunk: str, damage: Callable[[Path], None], message: str
) -> None:
    damage(store / chunk)
    name = "flat" if "flat" in chunk else "seq"
    what = f"run.zarr: {'mask of ' if 'masks' in chunk else ''}layer '{name}': chunk {chunk} ({message}). Restore it"
    acts = Activations(store)
    with pytest.raises(CorruptStoreError, match=what):
        _ = acts[name]
    with pytest.raises(CorruptStoreError, match=what):
        (acts.mask if "masks" in chunk else acts.array)(name)
    with pytest.raises(CorruptStoreError, match=what):
        acts.rows(name, 0, 20)
    report = inspect(store)
    assert not report.ok
    assert [layer.name for layer in report.layers if layer.status == "corrupt"] == [name]
    assert len(report.problems) == 1
    other = "seq" if name == "flat" else "flat"
    np.testing.assert_array_equal(acts.array(other), expected(other)[0])  # the rest can be read


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("damage", [Path.unlink, flip])
def test_resuming_computes_what_is_damaged_again(store: Path, chunk: str, damage: Callable[[Path], None]) -> None:
    before = {file: file.read_bytes() for file in store.rglob("*") if file.is_file()}
    damage(store / chunk)
    with pytest.warns(CongruenceWarning, match=f"store_repair: .*chunk {chunk} .*Now batches . to 3 are written again"):
        writer = StoreWriter(store, provenance=PROVENANCE, resume=True)
    with writer:
        assert writer.batches < 4
        assert not Activations(store, allow_incomplete=True).complete
        fill(writer, first=writer.batches)
        writer.finish(["flat", "seq"], ["seq", "flat"])
    assert {file: file.read_bytes() for file in store.rglob("*") if file.is_file()} == before


def edit(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(file.read_bytes())
    change(document)
    file.write_text(json.dumps(document))


@pytest.mark.parametrize("key", ["zarr.json", "layers/00001_flat/zarr.json", "batches/c.0"])
@pytest.mark.parametrize("damage", [truncate, flip, empty])
def test_damaged_metadata_are_named(store: Path, key: str, damage: Callable[[Path], None]) -> None:
    damage(store / key)
    with pytest.raises(
        CorruptStoreError, match=f"run.zarr: {key} differs from what was written. Restore it from a copy"
    ):
        Activations(store).array("flat")
    if key.startswith("layers"):
        report = inspect(store)
        assert [layer.status for layer in report.layers] == ["corrupt", "ok"]
        assert report.to_dict()["ok"] is False


def test_a_layer_without_its_description_is_corrupt(store: Path) -> None:
    (store / "layers/00001_flat/zarr.json").unlink()
    with pytest.raises(CorruptStoreError, match="layers/00001_flat/zarr.json is missing"):
        Activations(store).array("flat")
    with pytest.warns(CongruenceWarning, match="Now batches 0 to 3 are written again"):
        StoreWriter(store, provenance=PROVENANCE, resume=True).close()


def test_a_journal_line_that_was_altered_is_written_again(store: Path) -> None:
    before = {file: file.read_bytes() for file in store.rglob("*") if file.is_file()}
    lines = (store / "batches/c.0").read_bytes().splitlines(keepends=True)
    (store / "batches/c.0").write_bytes(b"".join([lines[0], lines[1].replace(b"s1-0", b"s1-9"), *lines[2:]]))
    with pytest.warns(CongruenceWarning, match="batches/c.0 differs from what was written.* batches from 1 on"):
        writer = StoreWriter(store, provenance=PROVENANCE, resume=True)
    with writer:
        assert writer.batches == 1
        fill(writer, first=1)
        writer.finish(["flat", "seq"], ["seq", "flat"])
    assert {file: file.read_bytes() for file in store.rglob("*") if file.is_file()} == before


def test_whole_journal_lines_that_were_cut_off_are_missed(store: Path) -> None:
    lines = (store / "batches/c.0").read_bytes().splitlines(keepends=True)
    (store / "batches/c.0").write_bytes(b"".join(lines[:3]))
    with pytest.raises(CorruptStoreError, match="batches/c.0 differs from what was written"):
        Activations(store)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(shape=[19, 7]),
        lambda d: d.update(data_type="float32"),
        lambda d: d["attributes"]["congruence"].update(name="other"),
        lambda d: d["attributes"]["congruence"].update(recurrent=True),
        lambda d: d.update(attributes=[]),
    ],
)
def test_an_edited_description_is_noticed(store: Path, change: Callable[[dict[str, Any]], None]) -> None:
    edit(store / "layers/00001_flat/zarr.json", change)
    with pytest.raises(CorruptStoreError, match="layers/00001_flat/zarr.json differs from what was written"):
        Activations(store).array("flat")


def test_own_attributes_may_be_added(store: Path) -> None:
    zarr.open_group(store, mode="r+").attrs["note"] = "mine"
    zarr.open_array(store / "layers/00001_flat", mode="r+").attrs["note"] = "mine"
    np.testing.assert_array_equal(Activations(store).array("flat"), expected("flat")[0])


def test_inspect_finds_values_that_were_replaced_with_all_their_checksums(store: Path) -> None:
    """Every checksum of the layer is made right again; only its content hash tells."""
    chunk = store / "layers/00001_flat/c.0.0"
    values = np.frombuffer(chunk.read_bytes()[:-4], np.float64).copy()
    values[0] += 1
    crc = google_crc32c.value(values.tobytes())
    chunk.write_bytes(values.tobytes() + crc.to_bytes(4, "little"))

    def forge(document: dict[str, Any]) -> None:
        own = document["attributes"]["congruence"]
        own["checksums"][0][0] = crc
        del own["checksum"]
        own["checksum"] = hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()

    edit(store / "layers/00001_flat/zarr.json", forge)
    report = inspect(store)
    assert report.problems == (
        f"{store}: layer 'flat': its values differ from the recorded content hash. {layout.REPAIR}",
    )


# ---- inspect, versions, other folders --------------------------------------------------------------------------------


def test_inspect_reports_and_counts(store: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = inspect(store, lambda done, total: seen.append((done, total)))
    files = sum(1 for folder in ("layers", "masks") for _ in (store / folder).glob("*/c.*"))
    assert seen == [(i + 1, files) for i in range(files)]
    assert (report.complete, report.format_version, report.model, report.n, report.batches) == (True, 1, "net", 20, 4)
    assert report.ok
    flat, seq = report.layers
    assert (seq.name, seq.shape, seq.dtype, seq.mask, seq.status) == ("seq", (20, 33, 6), "float32", True, "ok")
    assert flat.content_hash == Activations(store).content_hash("flat")
    assert report.bytes == sum(f.stat().st_size for d in ("layers", "masks") for f in (store / d).glob("*/c.*"))
    assert json.loads(json.dumps(report.to_dict()))["layers"][1]["shape"] == [20, 33, 6]


def test_a_newer_format_is_refused_with_both_versions(store: Path) -> None:
    edit(store / "zarr.json", lambda d: d["attributes"]["congruence"].update(format_version=7))
    message = (
        "run.zarr is written in store format 7; this version of congruence reads formats up to 1. Upgrade congruence"
    )
    for attempt in (
        lambda: Activations(store),
        lambda: inspect(store),
        lambda: StoreWriter(store, provenance=PROVENANCE, resume=True),
    ):
        with pytest.raises(StoreError, match=message):
            attempt()


def test_other_folders_are_no_store(tmp_path: Path) -> None:
    zarr.create_group(tmp_path / "other")
    (tmp_path / "list").mkdir()
    (tmp_path / "list/zarr.json").write_text("[1]")
    (tmp_path / "file").write_text("text")
    for path, why in (("missing", "it does not exist"), ("file", "it has no zarr.json"), (".", "it has no zarr.json")):
        with pytest.raises(StoreError, match=f"is no store of activations: {why}"):
            Activations(tmp_path / path)
    with pytest.raises(StoreError, match="other is no store of activations .no congruence description"):
        Activations(tmp_path / "other")
    with pytest.raises(CorruptStoreError, match="list: zarr.json differs from what was written"):
        Activations(tmp_path / "list")


def test_a_file_that_cannot_be_read_is_a_store_error(store: Path) -> None:
    (store / "layers/00001_flat/c.0.0").unlink()
    (store / "layers/00001_flat/c.0.0").mkdir()
    with pytest.raises(StoreError, match="c.0.0 cannot be read: Is a directory"):
        Activations(store).array("flat")


# ---- constant and dropped layers -------------------------------------------------------------------------------------


def flat(values: Any) -> Recorded:
    return Recorded(np.asarray(values), None, False, "float64", ())


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_layer_that_is_the_same_for_all_stimuli_is_known_without_reading_it(tmp_path, small_chunks, interrupted):
    random = np.random.default_rng(0)
    batches = [
        {
            "same": flat(np.full((3, 2), 0.1)),
            "rounded": flat(np.full((3, 2), 0.1) * (1 + index * np.finfo(float).eps)),
            "tokens": flat(np.ones((3, 4 + index, 2))),
            "late": flat(np.full((3, 2), float(index == 3))),
            "places": flat(np.tile(random.normal(size=(1, 4, 2)), (3, 1, 1))),
            "integers": flat(np.full((3, 2), 7)),
            "nan": flat(np.full((3, 2), np.nan)),
            "wide": flat(random.normal(size=(3, 40))),
        }
        for index in range(4)
    ]
    with StoreWriter(tmp_path / "run.zarr", provenance=PROVENANCE) as writer:
        for index, arrays in enumerate(batches[: 2 if interrupted else 4]):
            writer.append(index, None, str(index), arrays)
        if not interrupted:
            writer.finish()
    if interrupted:
        assert not Activations(tmp_path / "run.zarr", allow_incomplete=True).is_constant("same")
        with StoreWriter(tmp_path / "run.zarr", provenance=PROVENANCE, resume=True) as writer:
            for index, arrays in enumerate(batches):
                writer.check(index, None, str(index)) if index < 2 else writer.append(index, None, str(index), arrays)
            writer.finish()
    store = Activations(tmp_path / "run.zarr")
    assert [name for name in store if store.is_constant(name)] == ["same", "rounded", "tokens", "integers"]


def test_a_dropped_layer_leaves_nothing_behind_but_its_name(tmp_path):
    names = ("first", "second", "third")
    with StoreWriter(tmp_path / "run.zarr", provenance=PROVENANCE) as writer:
        writer.append(0, None, "0", {name: flat(np.full((2, 3 + i, 2), float(i))) for i, name in enumerate(names)})
        writer.drop("second", "no row per stimulus")
        assert writer.names == ("first", "third")
        assert writer.dropped == {"second": "no row per stimulus"}
        writer.append(1, None, "1", {name: flat(np.full((2, 7, 2), 9.0)) for name in ("first", "third")})
        writer.finish()
    store = Activations(tmp_path / "run.zarr")
    assert list(store) == ["first", "third"]
    assert store.provenance["skipped_layers"] == {"second": "no row per stimulus"}
    assert store.mask("third").sum(axis=1).tolist() == [5, 5, 7, 7]
    assert store.mask("first").sum(axis=1).tolist() == [3, 3, 7, 7]
    assert not list((tmp_path / "run.zarr").rglob("*second*"))
    with pytest.raises(UnknownNameError, match="has no layer 'second'"):
        store["second"]
    assert inspect(tmp_path / "run.zarr").ok
