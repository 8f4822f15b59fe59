"""Where the bytes of a store come from: a local folder, or a URL through fsspec."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit
from urllib.request import url2pathname

from congruence.errors import StoreError
from congruence.validate import require_extra


class Folder(Protocol):
    """Read access to the files of a store; picklable, so that a worker can read what it was told of."""

    @property
    def label(self) -> str:
        """The path or URL, for messages."""

    def read(self, key: str) -> bytes | None:
        """Return the contents of a file; None if it does not exist."""


@dataclass(frozen=True)
class LocalFolder:
    """Files under a folder of this machine."""

    root: Path

    @property
    def label(self) -> str:
        """The path."""
        return str(self.root)

    def read(self, key: str) -> bytes | None:
        """Return the contents of a file; None if it does not exist."""
        try:
            return (self.root / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            message = f"{self.root / key} cannot be read: {error.strerror or error}."
            raise StoreError(message) from error


@dataclass(frozen=True)
class RemoteFolder:
    """Files under a URL that fsspec can open."""

    url: str

    @property
    def label(self) -> str:
        """The URL."""
        return self.url

    def read(self, key: str) -> bytes | None:
        """Return the contents of a file; None if it does not exist."""
        fsspec = require_extra("fsspec", "dask", f"Reading {self.url}")
        try:
            filesystem, root = fsspec.core.url_to_fs(self.url)
            contents: bytes = filesystem.cat_file(f"{root.rstrip('/')}/{key}")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, ImportError) as error:
            message = f"{self.url}/{key} cannot be read: {error}"
            raise StoreError(message) from error
        return contents


def is_url(path: str | Path) -> bool:
    """Return whether `path` is a URL rather than a local path."""
    return isinstance(path, str) and "://" in path


def open_folder(path: str | Path) -> Folder:
    """Return read access to a path or a URL."""
    if not is_url(path):
        return LocalFolder(Path(path))
    parts = urlsplit(str(path))
    if parts.scheme == "file":
        return LocalFolder(Path(url2pathname(parts.path)))
    return RemoteFolder(str(path).rstrip("/"))
