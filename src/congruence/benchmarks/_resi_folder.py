"""Representations and outputs that ReSi kept: the folder ``cache`` of its experiments, one ``.npz`` file each.

    IDENTIFIER__ARCHITECTURE__TRAINED-ON__SEED__DATASET__LAYER.npz    representation: (n, p), or (n, c, h, w)
    DOMAIN_ARCHITECTURE_TRAINED-ON_IDENTIFIER_SEED__DATASET__output.npz    output: logits, (n, classes)
    ... __accuracy.npz    output: a number

Names as in `_resi_names`. Nothing is downloaded, and no pickle is read.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from congruence.benchmarks._base import Floats
from congruence.benchmarks._resi_names import Layer, Network, case_name, parse_layer, parse_output
from congruence.benchmarks._settings import AUGMENTATION, RANDOM_LABELS, Final
from congruence.benchmarks.resources import published_folder
from congruence.errors import InputError, StoreError
from congruence.representation import Deferred, Origin, Representation

FOLDER = "resi/cache"
WHAT = "the folder 'cache' of the experiments of ReSi, with a file IDENTIFIER__ARCHITECTURE__TRAINED-ON__SEED__DATASET__LAYER.npz for each representation"
_TORN = (OSError, ValueError, KeyError, zipfile.BadZipFile)


@dataclass(frozen=True)
class Place:
    """What ReSi keeps of one architecture on one data set.

    Attributes
    ----------
    architecture, dataset : str
        In ReSi's words.
    layers : mapping of Layer to Path
        The files of representations.
    """

    architecture: str
    dataset: str
    layers: Mapping[Layer, Path]

    @property
    def last(self) -> dict[Network, Path]:
        """The file of the last layer of every network.

        Raises
        ------
        StoreError
            If a network has other layers but not the last: without it, its group would be smaller than it is.
        """
        number = max(layer.number for layer in self.layers)
        found = {layer.network: path for layer, path in sorted(self.layers.items()) if layer.number == number}
        for layer, path in sorted(self.layers.items()):
            if layer.network not in found:
                message = f"{path.parent} holds layer {number} of {self.architecture} on {self.dataset}, but of {layer.network.name} only others, such as {path.name}. Every network needs its last layer: add the file, or take those of the network away."
                raise StoreError(message)
        return found


@dataclass(frozen=True)
class _File:
    """A file, what its representation is called, and where it comes from."""

    path: Path
    name: str
    origin: Origin


def places() -> list[Place]:
    """Return what the folder holds, by architecture and data set.

    Raises
    ------
    StoreError
        If the folder is not there, or holds no representation; the message says where it is expected.
    InputError
        If two architectures or data sets would have one name.
    """
    root = published_folder(FOLDER, WHAT)
    found: dict[tuple[str, str], dict[Layer, Path]] = {}
    for path in sorted(root.glob("*.npz")):
        layer = parse_layer(path.stem)
        if layer is not None:
            found.setdefault((layer.network.architecture, layer.dataset), {})[layer] = path
    if not found:
        message = f"{root} holds no representations of ReSi: expected {WHAT}."
        raise StoreError(message)
    names: dict[str, tuple[str, str]] = {}
    for (architecture, dataset), layers in found.items():
        other = names.setdefault(case_name(next(iter(layers)).network, dataset), (architecture, dataset))
        if other != (architecture, dataset):
            message = f"{root} holds {architecture} on {dataset} and {other[0]} on {other[1]}, which have one name here, where dots are dashes. Rename the files of one."
            raise InputError(message)
    return [Place(*where, layers) for where, layers in found.items()]


# ---- the tests -------------------------------------------------------------------------------------------------------


def group_cases(test: str) -> Iterator[tuple[str, Final]]:
    """Yield the tests of groups: networks trained for a test, and beside them those trained as usual where ReSi does.

    They are the ones with 0 % random labels, and with no edges dropped.

    Raises
    ------
    InputError
        If a group has a single network.
    """
    for place in places():
        last = place.last
        special = [network for network in last if network.test == test]
        seeds = {network.seed for network in special}
        joins = test == RANDOM_LABELS or (test == AUGMENTATION and any(n.domain == "graphs" for n in special))
        usual = [n for n in last if joins and not n.test and n.trained_on == place.dataset and n.seed in seeds]
        chosen = sorted([*usual, *special])
        labels = tuple(network.group for network in chosen)
        if len(set(labels)) < 2:
            continue
        if lone := [label for label in labels if labels.count(label) < 2]:
            message = f"{last[chosen[0]].parent} has one network of the group {lone[0]} ({place.architecture} on {place.dataset}); {test} needs two of each. Add another seed, or move its files elsewhere."
            raise InputError(message)
        files = [_File(last[network], network.name, Origin(network.name)) for network in chosen]
        yield case_name(chosen[0], place.dataset), Final(_representations(files), labels, _key(place, files))


def prediction_cases(quantity: str) -> Iterator[tuple[str, list[Deferred], list[Any], dict[str, Any]]]:
    """Yield networks that differ in seeds only, and what is known of each: accuracies, or logits of shape (n, classes).

    They are those that were trained as usual, on the data set itself where there are such.

    Parameters
    ----------
    quantity : {"accuracy", "output"}
        What must be there for a network to take part.
    """
    for place in places():
        last = place.last
        known = {network: path for network, path in _functions(place, last, quantity).items() if not network.test}
        groups = sorted({network.group for network in known if network.trained_on == place.dataset})
        groups = groups or sorted({network.group for network in known})
        if len(groups) > 1:
            message = f"{next(iter(known.values())).parent} holds more than one group of {place.architecture} with an {quantity} on {place.dataset}: {', '.join(groups)}. Expected one, which differs in seeds only: take the others away."
            raise InputError(message)
        for group in groups:
            chosen = sorted(network for network in known if network.group == group)
            files = [_File(last[network], network.name, Origin(network.name)) for network in chosen]
            values = _known([known[network] for network in chosen], quantity)
            yield case_name(chosen[0], place.dataset), _representations(files), values, _key(place, files)


def layer_cases() -> Iterator[tuple[str, list[Deferred], tuple[str, ...], int, dict[str, Any]]]:
    """Yield networks that have the same layers, three or more: name, representations, networks, depth and key."""
    for place in places():
        numbers: dict[Network, list[int]] = {}
        for layer in sorted(place.layers):
            numbers.setdefault(layer.network, []).append(layer.number)
        deepest = max(numbers.values(), key=len)
        networks = [network for network, found in numbers.items() if found == deepest and not network.test]
        if len(deepest) < 3 or not networks:
            continue
        files = [
            _File(place.layers[Layer(n, place.dataset, k)], f"{n.name}/{k}", Origin(n.name, str(k)))
            for n in networks
            for k in deepest
        ]
        names = tuple(network.name for network in networks)
        yield case_name(networks[0], place.dataset), _representations(files), names, len(deepest), _key(place, files)


def _functions(place: Place, networks: Mapping[Network, Path], quantity: str) -> dict[Network, Path]:
    """Return the files of what networks put out, or how accurate they are, on the data set of a place."""
    root = next(iter(networks.values())).parent
    parsed = ((path, parse_output(path.stem, networks)) for path in sorted(root.glob(f"*__{quantity}.npz")))
    return {found[0]: path for path, found in parsed if found is not None and found[1] == place.dataset}


def _known(paths: Sequence[Path], quantity: str) -> list[Any]:
    """Return accuracies, or logits that all have one shape.

    Raises
    ------
    InputError
        If a file holds anything else: an output that is not a number would have a class all the same.
    """
    found = [_read(path, "output") for path in paths]
    for path, values in zip(paths, found, strict=True):
        if quantity == "accuracy":
            expected, fits = "a single finite number", values.size == 1
        else:
            expected, fits = "finite logits of shape (n, classes)", values.ndim == 2 and values.size > 0
        if not (fits and values.dtype.kind in "fiu" and np.isfinite(values).all()):
            message = f"{path} must hold {expected} as 'output'; got {values.dtype} of shape {values.shape}, or values that are not finite. Write the file again."
            raise InputError(message)
        if quantity == "output" and values.shape != found[0].shape:
            message = f"{path} has outputs of shape {values.shape}, and {paths[0].name} of {found[0].shape}. Both must be answers to the same stimuli: write the wrong one again."
            raise InputError(message)
    return [values.item() for values in found] if quantity == "accuracy" else found


def _key(place: Place, files: Sequence[_File]) -> dict[str, Any]:
    return {"resi": [place.architecture, place.dataset], "files": [file.path.name for file in files]}


# ---- files -----------------------------------------------------------------------------------------------------------


def _representations(files: Sequence[_File]) -> list[Deferred]:
    """Return files as representations that are read when their turn comes; maps share the least size of all."""
    headers = [_header(file.path) for file in files]
    maps = [shape[2:] for shape, _ in headers if len(shape) == 4]
    size = (min(h for h, _ in maps), min(w for _, w in maps)) if maps else None
    return [_deferred(file, *header, size) for file, header in zip(files, headers, strict=True)]


def _deferred(file: _File, shape: Sequence[int], dtype: str, size: tuple[int, int] | None) -> Deferred:
    p = shape[1] * (size[0] * size[1] if size and len(shape) == 4 else 1)
    return Deferred(file.name, (shape[0], p), dtype, partial(_load, file, size), origin=file.origin)


def _load(file: _File, size: tuple[int, int] | None) -> Representation:
    values = _read(file.path, "representation")
    if values.ndim == 4 and size is not None:
        values = _pooled(values, size).reshape(len(values), -1)
    return Representation(np.ascontiguousarray(values), file.name, origin=file.origin)


def _pooled(values: Floats, size: tuple[int, int]) -> Floats:
    """Return maps (n, c, h, w) averaged over the windows of adaptive pooling, as ReSi makes sizes equal."""
    for axis, count in ((2, size[0]), (3, size[1])):
        length = values.shape[axis]
        if length == count:
            continue
        ends = [(i * length // count, -(-(i + 1) * length // count)) for i in range(count)]
        parts = [np.take(values, range(start, stop), axis).mean(axis, keepdims=True) for start, stop in ends]
        values = np.concatenate(parts, axis)
    return values


def _header(path: Path) -> tuple[tuple[int, ...], str]:
    """Return shape and dtype of a representation without reading its values."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open("representation.npy") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
    except _TORN as error:
        message = (
            f"{path} is no representation of ReSi: {error}. Expected an .npz file with the array 'representation'."
        )
        raise StoreError(message) from error
    if len(shape) not in {2, 4} or dtype.kind != "f":
        message = f"{path} must hold numbers of shape (n, p) or (n, c, h, w); got {dtype} of shape {shape}."
        raise InputError(message)
    return shape, str(dtype)


def _read(path: Path, array: str) -> Any:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return archive[array]
    except _TORN as error:
        message = f"{path} cannot be read: {error}. Expected an .npz file with the array '{array}'."
        raise StoreError(message) from error
