"""What a resumed run can take over from a store: everything up to the first damaged chunk."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from congruence.errors import Caveat, CongruenceWarning, CorruptStoreError, OutputExistsError, StoreError
from congruence.store import journal
from congruence.store.atomic import disk_errors
from congruence.store.folder import LocalFolder
from congruence.store.journal import JOURNAL_FILE, Batch
from congruence.store.layers import LayerWriter
from congruence.store.layout import JOURNAL, is_store, read_root, slug

FOLDERS = ("layers", "masks", JOURNAL)


@dataclass(frozen=True, eq=False)
class Recovered:
    """The state of a store on disk, verified.

    Parameters
    ----------
    batches : list of Batch
        Batches that are complete and undamaged.
    layers : dict of str to LayerWriter
        Layers that hold exactly these batches.
    columns : list of str
        Layers by their place in the journal, dropped ones included.
    dropped : dict of str to str
        Layers that were dropped, with the reason.
    complete : bool
        Whether the store was finished and nothing is damaged.
    """

    batches: list[Batch]
    layers: dict[str, LayerWriter]
    columns: list[str]
    dropped: dict[str, str]
    complete: bool


def recover(path: Path, contract: Mapping[str, Any]) -> Recovered:
    """Read and verify a store; the caller holds its lock. The journal on disk then lists the recovered batches.

    Raises
    ------
    StoreError
        If the store was started under another contract, or by a newer version.

    Warns
    -----
    CongruenceWarning
        If something is damaged (``store_repair``).
    """
    folder = LocalFolder(path)
    root = read_root(folder)
    _require_contract(path, root["provenance"].get("contract") or {}, contract)
    lines = folder.read(JOURNAL_FILE) or b""
    batches, intact, _ = journal.parse(lines)
    if not intact:
        _warn(journal.altered_journal(folder), f"batches from {len(batches)} on")
    recorded = len(batches)
    columns, dropped = list(root["columns"]), dict(root["dropped"])
    for name in dropped:
        remove_layer(path, columns.index(name), name)  # a kill may have come between the two halves of dropping it
    layers = _layers(path, root["layers"], columns, batches)
    while layers is None:
        layers = _layers(path, root["layers"], columns, batches)
    if journal.render(batches) != lines:
        journal.rewrite(path / JOURNAL_FILE, batches)
    complete = bool(root["complete"]) and intact and len(batches) == recorded
    return Recovered(batches, layers, columns, dropped, complete)


def _layers(
    path: Path, entries: Sequence[tuple[str, str]], columns: Sequence[str], batches: list[Batch]
) -> dict[str, LayerWriter] | None:
    """Take over all layers; if something is damaged, shorten `batches` to those before it and return None."""
    layers: dict[str, LayerWriter] = {}
    for name, place in entries:
        try:
            layers[name] = LayerWriter.resumed(path, place)
            layers[name].restore(batches, columns.index(name))
        except CorruptStoreError as error:
            if not batches:
                return {}  # nothing to take over: the store is started anew
            _go_back(batches, layers[name].intact if name in layers else 0, error)
            return None
    return layers


def _go_back(batches: list[Batch], rows: int, error: CorruptStoreError) -> None:
    """Keep the batches that end within the first `rows` stimuli."""
    kept, end = 0, 0
    for batch in batches:
        end += batch.rows
        kept += end <= rows
    _warn(error, f"batches {kept} to {len(batches) - 1}")
    del batches[kept:]


def _warn(error: CorruptStoreError, what: str) -> None:
    warnings.warn(CongruenceWarning(Caveat("store_repair", f"{error} Now {what} are written again.")), stacklevel=2)


def _require_contract(path: Path, recorded: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for key in [*recorded, *wanted]:
        if recorded.get(key) != wanted.get(key):
            message = (
                f"{path} was started with other settings ({key}: {_short(recorded.get(key))} then, "
                f"{_short(wanted.get(key))} now). Resume with the same ones, or replace the store with overwrite=True."
            )
            raise StoreError(message)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def clear(path: Path) -> None:
    """Remove the contents of a store; without its journal nothing in it counts, so that goes first."""
    with disk_errors(path):
        (path / JOURNAL_FILE).unlink(missing_ok=True)
        for name in FOLDERS:
            if (path / name).exists():
                shutil.rmtree(path / name)


def remove_layer(path: Path, index: int, name: str) -> None:
    """Remove what a store holds of the layer `name`, the one with that number."""
    for kind in ("layers", "masks"):
        folder = path / kind / slug(index, name)
        with disk_errors(folder):
            if folder.exists():
                shutil.rmtree(folder)


def require_writable(path: Path) -> None:
    """Raise an OutputExistsError for anything but a store, an empty folder or nothing."""
    if not path.exists():
        return
    if not path.is_dir():
        message = f"{path} exists and is no folder. Choose another path."
        raise OutputExistsError(message)
    visible = [entry.name for entry in path.iterdir() if not entry.name.startswith(".")]
    if visible and not is_store(LocalFolder(path)):
        message = f"{path} exists and is no store of activations, so it is left alone. Choose another path."
        raise OutputExistsError(message)
