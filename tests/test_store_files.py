"""Sources of representations: .npy, .npz and .safetensors files, folders, and every way in which they can be wrong."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from congruence.errors import CongruenceWarning, CorruptStoreError, InputError, StoreError, UnknownNameError
from congruence.store import Activations, Recorded, StoreWriter, open_source
from congruence.store.safetensors_files import open_safetensors

X = np.arange(12, dtype=np.float32).reshape(4, 3)
Y = np.arange(20, dtype=np.float64).reshape(4, 5)


def safetensors_bytes(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def make_store(path: Path) -> Path:
    with StoreWriter(path, provenance={"model": path.name}) as writer:
        writer.append(0, list("abcd"), "", {"layer.0": Recorded(X), "layer.1": Recorded(Y)})
        writer.finish()
    return path


# ---- what can be opened ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [X, np.asfortranarray(Y), np.arange(4), np.ones((4, 2), bool), X.astype(">f8")])
def test_a_npy_file_is_named_by_its_stem(tmp_path: Path, values: np.ndarray[Any, Any]) -> None:
    np.save(tmp_path / "layer.3.npy", values)
    source = open_source(tmp_path / "layer.3.npy")
    assert list(source) == ["layer.3"]
    assert source.shape("layer.3") == values.shape
    assert source.dtype("layer.3") == values.dtype
    found = source["layer.3"]
    assert found.name == "layer.3"
    assert found.ids is None
    np.testing.assert_array_equal(found.values, values, strict=True)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_npz_file_is_named_by_its_keys(tmp_path: Path, save: Callable[..., None]) -> None:
    save(tmp_path / "acts.npz", **{"b": X, "a/0": Y})
    source = open_source(tmp_path / "acts.npz")
    assert list(source) == ["b", "a/0"]
    assert source.shape("a/0") == (4, 5)
    np.testing.assert_array_equal(source["b"].values, X, strict=True)
    np.testing.assert_array_equal(source["a/0"].values, Y, strict=True)
    save(tmp_path / "one.npz", only=X)
    assert list(open_source(str(tmp_path / "one.npz"))) == ["one"]


def test_a_safetensors_file_is_named_by_its_keys(tmp_path: Path) -> None:
    numpy = pytest.importorskip("safetensors.numpy")
    arrays = {
        "x": X,
        "y": Y,
        "half": X.astype(np.float16),
        "flags": X > 3,
        "counts": Y.astype(np.int64),
        "small": X.astype("u1"),
    }
    numpy.save_file(arrays, tmp_path / "acts.safetensors", metadata={"format": "np"})
    source = open_source(tmp_path / "acts.safetensors")
    assert set(source) == set(arrays)
    for name, values in arrays.items():
        assert (source.shape(name), source.dtype(name)) == (values.shape, values.dtype)
        np.testing.assert_array_equal(source[name].values, values, strict=True)


def test_bfloat16_becomes_float32_with_a_warning(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    save_file = pytest.importorskip("safetensors.torch").save_file
    values = torch.tensor([[1.5, -2.0, 3.140625], [1e38, -1e-38, 0.0], [0.1, 7.0, float("inf")]], dtype=torch.bfloat16)
    save_file({"x": values}, tmp_path / "a.safetensors")
    source = open_source(tmp_path / "a.safetensors")
    assert source.dtype("a") == np.float32
    with pytest.warns(CongruenceWarning, match="half_input: 'x' in .*a.safetensors holds bfloat16 values"):
        found = source["a"].values
    np.testing.assert_array_equal(found, values.float().numpy(), strict=True)


def test_a_store_is_opened_as_a_store(tmp_path: Path) -> None:
    make_store(tmp_path / "run.zarr")
    for path in (tmp_path / "run.zarr", str(tmp_path / "run.zarr"), (tmp_path / "run.zarr").as_uri()):
        source = open_source(path)
        assert isinstance(source, Activations)
        assert list(source) == ["layer.0", "layer.1"]


def test_a_folder_gives_stems_keys_and_layers(tmp_path: Path) -> None:
    make_store(tmp_path / "bert.zarr")
    make_store(tmp_path / "gpt-1.5")
    np.save(tmp_path / "c.npy", X)
    np.savez(tmp_path / "single.npz", anything=X)
    np.savez(tmp_path / "multi.npz", p=X, q=Y)
    (tmp_path / "s.safetensors").write_bytes(
        safetensors_bytes({"k": {"dtype": "F32", "shape": [4, 3], "data_offsets": [0, 48]}}, X.tobytes())
    )
    (tmp_path / "README.md").write_text("ignored")
    (tmp_path / ".hidden.npy").write_text("ignored")
    (tmp_path / "notes").mkdir()
    source = open_source(tmp_path)
    stores = [f"{name}/layer.{i}" for name in ("bert", "gpt-1.5") for i in (0, 1)]
    assert list(source) == [*stores[:2], "c", *stores[2:], "multi/p", "multi/q", "s", "single"]
    assert len(source) == 9
    assert "c" in source
    assert source.shape("bert/layer.1") == (4, 5)
    assert source.dtype("gpt-1.5/layer.1") == np.float64
    layer = source["bert/layer.0"]
    assert (layer.name, layer.origin.model, layer.origin.layer) == ("bert/layer.0", "bert.zarr", "layer.0")
    assert list(layer.stimulus_ids) == list("abcd")
    np.testing.assert_array_equal(source["multi/q"].values, Y)
    np.testing.assert_array_equal(source["s"].values, X)
    assert "9 arrays" in repr(source)
    for ask in (source.__getitem__, source.shape, source.dtype):
        with pytest.raises(UnknownNameError, match="has no array 'multi'. Closest: .*multi/"):
            ask("multi")


# ---- what cannot -----------------------------------------------------------------------------------------------------


def npy_bytes(values: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values, **options)
    return stream.getvalue()


def npz_bytes(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def zip_bytes(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("_", "."), data)
    return stream.getvalue()


OBJECTS = np.array([{"a": 1}, None], dtype=object)
TENSOR = {"dtype": "F32", "shape": [4, 3], "data_offsets": [0, 48]}
WRONG = [
    ("a.npy", b"", "a.npy is no NumPy array: the file is empty. Write it with numpy.save"),
    ("a.npy", b"1.0, 2.0\n3.0, 4.0\n", "a.npy is no NumPy array: it is text"),
    ("a.npy", pickle.dumps(X), "a.npy is no NumPy array: it is a pickle, which is never loaded"),
    ("a.npy", b"\x00\x01\x02" * 9, r"a.npy is no NumPy array: it starts with b'\\x00"),
    (
        "a.npy",
        npy_bytes(OBJECTS, allow_pickle=True),
        r"a.npy holds Python objects \(a pickle\), which are never loaded",
    ),
    ("a.npy", npy_bytes(X.astype(complex)), "a.npy must hold real numbers; got complex numbers"),
    ("a.npy", npy_bytes(np.array(["a", "b"])), "a.npy must hold real numbers; got dtype <U1"),
    ("a.npy", npy_bytes(np.zeros(3, [("x", float)])), "a.npy must hold real numbers; got dtype"),
    ("a.npy", npy_bytes(X)[:-4], r"a.npy is truncated: shape \(4, 3\) of float32 does not fit in its 172 bytes"),
    ("a.npy", npy_bytes(X)[:40], "a.npy cannot be read: .*damaged or of another kind"),
    ("a.npy", npy_bytes(X).replace(b"NUMPY\x01", b"NUMPY\x03"), "a.npy is in version 3.0 of NumPy's format"),
    ("a.npy", npy_bytes(X)[:7], "a.npy cannot be read"),
    ("a.npz", b"", "a.npz is no .npz archive: the file is empty"),
    ("a.npz", b"text", "a.npz is no .npz archive: it is text"),
    ("a.npz", pickle.dumps({"a": X}), "a.npz is no .npz archive: it is a pickle, which is never loaded"),
    ("a.npz", npy_bytes(X), "a.npz is no .npz archive: it is a .npy file"),
    ("a.npz", npz_bytes(x=X, bad=OBJECTS), r"'bad' in .*a.npz holds Python objects \(a pickle\)"),
    ("a.npz", npz_bytes(z=X.astype(complex)), "'z' in .*a.npz must hold real numbers; got complex numbers"),
    ("a.npz", npz_bytes(), "a.npz holds no arrays"),
    ("a.npz", zip_bytes(readme_txt=b"hello"), "'readme.txt' in .*a.npz is no array"),
    ("a.npz", zip_bytes(x_npy=b""), "'x' in .*a.npz is no NumPy array: the file is empty"),
    ("a.npz", zip_bytes(x_npy=npy_bytes(X)[:-4]), "'x' in .*a.npz is truncated"),
    ("a.npz", npz_bytes(x=X)[:-30], "a.npz is no .npz archive"),
    ("a.safetensors", b"", "a.safetensors is no intact .safetensors file: the file is empty"),
    ("a.safetensors", b"just some text", "its header is truncated, or it is another format"),
    ("a.safetensors", safetensors_bytes(b"{not json"), "its header is no JSON"),
    ("a.safetensors", safetensors_bytes(b"\xff\xfe"), "its header is no JSON"),
    ("a.safetensors", safetensors_bytes([]), "its header is no JSON object"),
    ("a.safetensors", safetensors_bytes({"__metadata__": {}}), "a.safetensors holds no arrays"),
    ("a.safetensors", safetensors_bytes({"x": TENSOR}, bytes(40)), "'x' is truncated"),
    (
        "a.safetensors",
        safetensors_bytes({"x": {**TENSOR, "shape": [4, 4]}}, bytes(48)),
        "the description of 'x' is wrong",
    ),
    (
        "a.safetensors",
        safetensors_bytes({"x": {**TENSOR, "shape": [-4, -3]}}, bytes(48)),
        "the description of 'x' is wrong",
    ),
    ("a.safetensors", safetensors_bytes({"x": {"shape": [4]}}), "the description of 'x' is wrong"),
    (
        "a.safetensors",
        safetensors_bytes({"x": {**TENSOR, "dtype": "F8_E4M3"}}, bytes(48)),
        "'x' in .* real numbers .* got F8_E4M3",
    ),
    ("a.safetensors", safetensors_bytes({"x": {**TENSOR, "dtype": "C64"}}, bytes(48)), "'x' in .* got C64"),
    (
        "a.pt",
        b"weights",
        "a.pt is of no known kind. Give a store, a .npy, .npz or .safetensors file, or a folder of them",
    ),
    ("a", b"", "a is of no known kind"),
]


@pytest.mark.parametrize(
    ("name", "data", "message"), WRONG, ids=lambda value: str(value)[:40] if isinstance(value, str) else ""
)
def test_a_file_that_is_wrong_is_named(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        open_source(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)
    if name.startswith("a."):
        with pytest.raises(InputError, match=r"holds no representations" if name == "a.pt" else message):
            open_source(tmp_path)


def test_damage_inside_an_archive_is_found_when_it_is_read(tmp_path: Path) -> None:
    data = bytearray(npz_bytes(x=np.ones((400, 50))))
    data[len(data) - 1000] ^= 1
    (tmp_path / "a.npz").write_bytes(data)
    source = open_source(tmp_path / "a.npz")
    with pytest.raises(InputError, match="a.npz cannot be read: Bad CRC-32 for file 'x.npy'"):
        _ = source["a"]


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.safetensors"])
@pytest.mark.parametrize("change", ["truncated", "removed"])
def test_a_file_that_changes_after_it_was_opened_is_an_error(tmp_path: Path, name: str, change: str) -> None:
    path = tmp_path / name
    path.write_bytes(
        {"a.npy": npy_bytes(X), "a.npz": npz_bytes(a=X)}.get(name, safetensors_bytes({"a": TENSOR}, X.tobytes()))
    )
    source = open_source(path)
    if change == "truncated":
        path.write_bytes(path.read_bytes()[:-4])
    else:
        path.unlink()
    with pytest.raises(InputError, match=f"{path} (cannot be read|is no intact)"):
        _ = source["a"]


def test_a_folder_that_cannot_be_opened_as_a_safetensors_file(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").mkdir()
    with pytest.raises(InputError, match="holds no representations"):
        open_source(tmp_path / "a.safetensors")


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").mkdir()
    with pytest.raises(InputError, match="a.safetensors cannot be read: Is a directory"):
        open_safetensors(tmp_path / "a.safetensors")


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere.npy does not exist. Give a store, a .npy"):
        open_source(tmp_path / "nowhere.npy")


def test_a_folder_without_representations_says_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no representations \(found: nothing\)"):
        open_source(tmp_path)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match=r"holds no representations \(found: notes.txt\)"):
        open_source(tmp_path)


def test_two_arrays_of_one_name_are_an_error(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", X)
    np.savez(tmp_path / "a.npz", only=X)
    with pytest.raises(InputError, match="has two arrays named 'a', one of them in a.npz"):
        open_source(tmp_path)


def test_folders_that_look_like_stores_are_judged_as_stores(tmp_path: Path) -> None:
    make_store(tmp_path / "whole.zarr")
    (tmp_path / "broken.zarr").mkdir()
    (tmp_path / "broken.zarr/zarr.json").write_text("{")
    for path in (tmp_path, tmp_path / "broken.zarr"):
        with pytest.raises(CorruptStoreError, match="broken.zarr: zarr.json differs from what was written"):
            open_source(path)
    (tmp_path / "broken.zarr/zarr.json").write_text("{}")
    with pytest.raises(StoreError, match="broken.zarr is no store of activations"):
        open_source(tmp_path / "broken.zarr")
