"""Networks trained on radial data, kept in the cache: two studies look at them."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from congruence.errors import InputError, StoreError
from congruence.identifiability._training import Recipe, Trained, evaluate_stack, radial_data, train_stack
from congruence.identifiability.studies._pairs import as_row, compare_quietly
from congruence.store import write_bytes
from congruence.store.numpy_files import open_npz
from congruence.studies import Row
from congruence.zoo.cache import cache_folder
from congruence.zoo.config import digest

FORMAT = 1
"""Part of every name in the cache: raised when the same settings come to mean another computation."""


@dataclass(frozen=True)
class Radial:
    """Settings of a stack of networks: classes, sizes of the data, seeds and how they are trained."""

    classes: int
    train: int
    test: int
    seeds: int
    recipe: Recipe


def trained(radial: Radial) -> Trained:
    """Return the networks' outputs, from the cache if they have been trained before.

    Raises
    ------
    StoreError
        If the cache has a damaged file.
    """
    name = digest({"format": FORMAT, **dataclasses.asdict(radial)})
    path = cache_folder() / "identifiability" / f"radial-{name}.npz"
    if path.exists():
        try:
            return Trained(**{key: entry.read() for key, entry in open_npz(path).items()})
        except InputError as error:
            message = f"{error} Remove {path} and run again."
            raise StoreError(message) from error
    data = radial_data(radial.classes, radial.train, radial.test)
    found = evaluate_stack(train_stack(radial.recipe, data, range(radial.seeds)), data)
    buffer = io.BytesIO()
    np.savez(buffer, **vars(found))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, buffer.getvalue())
    return found


def pair_rows(found: Trained, seeds: Sequence[int], input_sets: int) -> list[Row]:
    """Return one row for each pair of networks."""
    rows: list[Row] = []
    for a, b in combinations(seeds, 2):
        result = compare_quietly(found.f[a], found.g[a], found.f[b], found.g[b], n_input_sets=input_sets)
        rows.append({"a": a, "b": b, **as_row(result)})
    return rows


def model_rows(found: Trained) -> list[Row]:
    """Return one row for each network: accuracy and loss on the test inputs."""
    values = zip(found.accuracy.tolist(), found.loss.tolist(), strict=True)
    return [{"model": k, "accuracy": accuracy, "loss": loss} for k, (accuracy, loss) in enumerate(values)]
