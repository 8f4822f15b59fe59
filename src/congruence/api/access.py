"""open, load and report: what is on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from congruence.engine import RESULT, is_run
from congruence.errors import StoreError
from congruence.reporting import report as report
from congruence.representation import Representation
from congruence.results import Comparison
from congruence.store import open_source


def open(path: str | Path) -> Mapping[str, Representation]:  # noqa: A001
    """Open a store of activations, or files of arrays.

    Parameters
    ----------
    path : path or URL
        A store (written by `extract`), a ``.npy``, ``.npz`` or ``.safetensors`` file, or a folder of them.

    Returns
    -------
    Activations, or mapping of str to Representation
        Values are read when an entry is asked for.

    Raises
    ------
    InputError
        If a file is missing, damaged or of another kind.
    StoreError
        If a store cannot be read, or `path` is a finished comparison.
    """
    if isinstance(path, Path) or "://" not in path:
        folder = Path(path)
        if folder.name != RESULT and not is_run(folder):
            return open_source(path)
        message = f"{path} holds a comparison, not activations. Read it with congruence.load({str(path)!r})."
        raise StoreError(message)
    return open_source(path)


def load(run: str | Path) -> Comparison:
    """Return the result in a run folder.

    Parameters
    ----------
    run : path
        The folder given as `out` to `compare` (``--out`` on the command line), or its ``comparison.zarr``.

    Raises
    ------
    StoreError
        If there is no finished result, or a newer version of congruence wrote it.
    CorruptStoreError
        If bytes are missing or differ from what was written.
    """
    folder = Path(run)
    if not is_run(folder) or (folder / RESULT).exists():
        return Comparison.load(folder)
    message = f"{run} holds a comparison that was interrupted. Finish it: compare the same again with exists='resume'."
    raise StoreError(message)
