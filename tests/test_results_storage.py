"""Saving and loading: lossless, all at once, and damage is found."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from congruence.errors import Caveat, CorruptStoreError, OutputExistsError, StoreError
from congruence.measures import measure
from congruence.results import Comparison, storage

FOREIGN = replace(measure("procrustes:form=size_and_shape").info, label="their package/measure:é=1", identity=-0.0)


def small(**changes) -> Comparison:
    given_values = {"value": np.arange(12.0).reshape(2, 3, 2), "provenance": {"seed": 0}, **changes}
    return Comparison.build([measure("cka").info, FOREIGN], ["x/1", "y", "z"], ["x/1", "ÿ"], **given_values)


def same(loaded: Comparison, saved: Comparison) -> bool:
    return loaded.equals(saved, ignore_seconds=False) and dict(loaded.provenance) == dict(saved.provenance)


def entries(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


names = st.lists(st.text(max_size=8), min_size=1, max_size=3, unique=True)
caveat = st.builds(Caveat, st.text(max_size=5), st.text(max_size=9), st.none() | st.floats(allow_nan=False))
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), a=names, b=names, provenance=st.dictionaries(st.text(max_size=5), plain, max_size=2))
def test_everything_comes_back(data, tmp_path, a, b, provenance) -> None:
    shape = (2, len(a), len(b))
    saved = Comparison.build(
        [measure("cka").info, FOREIGN],
        a,
        b,
        value=data.draw(hnp.arrays(float, shape)),  # with NaN, infinities and signed zeros
        status=data.draw(hnp.arrays(object, shape, elements=st.sampled_from(["ok", "failed", "skipped"]))),
        reason=data.draw(hnp.arrays(object, shape, elements=st.text(max_size=6))),
        caveats=data.draw(hnp.arrays(object, shape, elements=st.lists(caveat, max_size=2).map(tuple))),
        n=data.draw(hnp.arrays(np.int64, shape)),
        seconds=data.draw(hnp.arrays(float, shape)),
        provenance=provenance,
    )
    loaded = Comparison.load(saved.save(tmp_path / "run", overwrite=True))
    assert same(loaded, saved)
    assert loaded.dataset["value"].values.tobytes() == saved.dataset["value"].values.tobytes()  # every bit
    assert (loaded.a, loaded.b, loaded.infos) == (tuple(a), tuple(b), saved.infos)


def test_the_sign_of_zero_and_the_kind_of_nan_stay(tmp_path) -> None:
    quiet_negative = np.array(0xFFF8000000000001, dtype=np.uint64).view(float)
    for value in (-0.0, quiet_negative, -np.inf, 5e-324):
        loaded = Comparison.load(small(value=value).save(tmp_path, overwrite=True))
        assert loaded.dataset["value"].values.tobytes() == np.full((2, 3, 2), value).tobytes()


def test_a_run_folder_or_its_group_can_be_named(tmp_path) -> None:
    saved = small()
    assert saved.save(tmp_path / "run") == tmp_path / "run" / "comparison.zarr"
    assert saved.save(tmp_path / "mine.zarr") == tmp_path / "mine.zarr"
    for place in (tmp_path / "run", tmp_path / "run" / "comparison.zarr", str(tmp_path / "mine.zarr")):
        assert same(Comparison.load(place), saved)
    assert entries(tmp_path) == ["mine.zarr", "run"]


def test_a_measure_outside_the_registry_keeps_its_description(tmp_path) -> None:
    loaded = Comparison.load(small().save(tmp_path))
    assert loaded.info(FOREIGN.label) == FOREIGN
    assert loaded.matrix(FOREIGN.label).sel(a="z", b="ÿ").item() == 11


def test_what_is_there_is_replaced_only_on_request(tmp_path) -> None:
    first, second = small(), small(n=9)
    first.save(tmp_path)
    with pytest.raises(OutputExistsError, match=r"comparison.zarr exists; .*overwrite=True"):
        second.save(tmp_path)
    assert same(Comparison.load(tmp_path), first)
    second.save(tmp_path, overwrite=True)
    assert same(Comparison.load(tmp_path), second)
    assert entries(tmp_path) == ["comparison.zarr"]


def test_text_is_stored_without_pickle_and_once_for_equal_cells(tmp_path) -> None:
    a = [f"layer{i}" for i in range(120)]
    saved = Comparison.build([measure("cka")], a, a, value=np.zeros((1, 120, 120)), reason="word " * 500)
    group = saved.save(tmp_path)
    assert sum(file.stat().st_size for file in group.rglob("*") if file.is_file()) < 20_000
    types = [json.loads(file.read_text())["data_type"] for file in group.glob("*/zarr.json")]
    assert set(types) == {"float64", "int32", "int64", "uint8"}


# ---- damage ----------------------------------------------------------------------------------------------------------


def chunks(group: Path) -> list[Path]:
    return sorted(file for file in group.rglob("*") if file.is_file() and file.name != "zarr.json")


@pytest.mark.parametrize("index", range(7))
def test_a_flipped_bit_is_found_in_every_array(tmp_path, index) -> None:
    group = small(caveats={(0, 0, 0): (Caveat("a", "b"),)}).save(tmp_path)
    arrays = sorted(folder for folder in group.iterdir() if folder.is_dir())
    assert len(arrays) == 7
    victim = chunks(arrays[index])[0]
    content = bytearray(victim.read_bytes())
    content[-1] ^= 1
    victim.write_bytes(content)
    with pytest.raises(CorruptStoreError, match=r"comparison.zarr is damaged: .*run the comparison again"):
        Comparison.load(tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "missing", "metadata"])
def test_missing_and_truncated_parts_are_found(tmp_path, damage) -> None:
    group = small().save(tmp_path)
    victim = chunks(group / "value")[0] if damage != "metadata" else group / "zarr.json"
    if damage == "missing":
        victim.unlink()
    else:
        victim.write_bytes(victim.read_bytes()[:-5])
    with pytest.raises(CorruptStoreError, match="comparison.zarr is damaged"):
        Comparison.load(tmp_path)


def test_a_newer_format_is_refused(tmp_path) -> None:
    group = small().save(tmp_path)
    described = json.loads((group / "zarr.json").read_text())
    described["attributes"] |= {"format_version": storage.FORMAT_VERSION + 1, "congruence_version": "9.9"}
    (group / "zarr.json").write_text(json.dumps(described))
    with pytest.raises(StoreError, match=r"format version 2, written by congruence 9.9; .*Upgrade congruence"):
        Comparison.load(tmp_path)


def test_other_folders_are_refused(tmp_path) -> None:
    with pytest.raises(StoreError, match=r"no saved comparison at .*nowhere.comparison.zarr"):
        Comparison.load(tmp_path / "nowhere")
    group = small().save(tmp_path)
    described = json.loads((group / "zarr.json").read_text())
    described["attributes"]["format"] = "something else"
    (group / "zarr.json").write_text(json.dumps(described))
    with pytest.raises(StoreError, match="is a zarr group, but no comparison"):
        Comparison.load(tmp_path)


def test_a_full_disk_leaves_nothing_behind_and_the_old_result_in_place(tmp_path, monkeypatch) -> None:
    first = small()
    first.save(tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(storage, "_write_array", full)
    with pytest.raises(StoreError, match=r"comparison.zarr could not be written: No space left on device"):
        small(n=4).save(tmp_path, overwrite=True)
    assert entries(tmp_path) == ["comparison.zarr"]
    assert same(Comparison.load(tmp_path), first)


def test_a_crash_in_the_middle_of_an_overwrite_leaves_the_old_result(tmp_path, monkeypatch) -> None:
    first, second = small(), small(n=4)
    first.save(tmp_path)
    rename = Path.rename

    def killed(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise KeyboardInterrupt  # between the two moves
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        second.save(tmp_path, overwrite=True)
    monkeypatch.undo()
    assert same(Comparison.load(tmp_path), first)
    second.save(tmp_path, overwrite=True)
    assert same(Comparison.load(tmp_path), second)
    assert entries(tmp_path) == ["comparison.zarr"]


def test_a_text_file_is_whole_or_absent(tmp_path) -> None:
    path = tmp_path / "table.csv"
    storage.write_atomically(path, lambda file: file.write("old"))

    def half(file) -> None:
        file.write("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StoreError, match="table.csv could not be written: No space"):
        storage.write_atomically(path, half)
    assert path.read_text() == "old"
    assert entries(tmp_path) == ["table.csv"]
