"""Where trained populations and the data that no package installs are kept."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path

from congruence.errors import MissingExtraError

VARIABLE, DATA_VARIABLE = "CONGRUENCE_CACHE_DIR", "CONGRUENCE_DATA_DIR"


def cache_folder() -> Path:
    """Return ``$CONGRUENCE_CACHE_DIR``, or ``congruence`` in the user's folder for caches."""
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "congruence"


def data_folder() -> Path:
    """Return ``$CONGRUENCE_DATA_DIR``, where published data are put by hand, or the folder for caches."""
    chosen = os.environ.get(DATA_VARIABLE)
    return Path(chosen).expanduser() if chosen else cache_folder()


def package_file(package: str, version: str, path: str, purpose: str, *, options: str = "") -> Path:
    """Return a file that an installed package brings, without importing the package.

    `options` are those of pip, such as ``--no-deps`` for a package whose code is not needed.

    Raises
    ------
    MissingExtraError
        If the package is not installed, or its file is not where it was; the message has the line that installs it.
    """
    line = f"pip install {options + ' ' if options else ''}'{package}=={version}'"
    try:
        found = Path(str(importlib.metadata.distribution(package).locate_file(path)))
    except importlib.metadata.PackageNotFoundError as error:
        message = f"{purpose} needs {package}; install it with: {line}"
        raise MissingExtraError(message) from error
    if not found.exists():
        message = f"{purpose} needs {path} of {package}, which the installed version lacks; install: {line}"
        raise MissingExtraError(message)
    return found
