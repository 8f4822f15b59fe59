"""Texts out of R's lazy-load database: the data of an installed R package, read without R.

``data/Rdata.rdx`` is the index: a list, serialised and compressed, of where in ``data/Rdata.rdb`` every variable lies (offset and
length). There stand four bytes, the length of what follows once it is no longer compressed, and the variable itself.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

from congruence.errors import StoreError
from congruence.validate import require_extra

DATABASE = Path("data/Rdata")


def installed(package: Path) -> bool:
    """Return whether a folder is that of an R package with such data."""
    return all((package / DATABASE).with_suffix(suffix).is_file() for suffix in (".rdx", ".rdb"))


def lines(package: Path) -> dict[str, list[str]]:
    """Return the lines of every text of an installed R package, by name.

    Raises
    ------
    StoreError
        If the database is damaged, or holds anything but texts.
    MissingExtraError
        If ``rdata``, which parses what R serialises, is not installed.
    """
    path = (package / DATABASE).with_suffix(".rdx")
    require_extra("rdata", "recurrent", f"Reading {path}")
    places = _parsed(path, zlib.decompress, path.read_bytes(), 47)  # gzip, as the database of an index is, or zlib
    variables = places.get("variables") if isinstance(places, dict) else None
    if not isinstance(variables, dict) or not variables:
        raise _damaged(path, "a list with the places of variables", type(places).__name__)
    content = path.with_suffix(".rdb").read_bytes()
    return {str(name): _text(path.with_suffix(".rdb"), str(name), content, place) for name, place in variables.items()}


def _text(path: Path, name: str, content: bytes, place: Any) -> list[str]:
    """Return the lines of one variable."""
    import numpy as np

    start, length = (int(number) for number in place)
    chunk = content[start : start + length]
    if len(chunk) < length or length < 4:
        raise _damaged(path, f"{length} bytes of '{name}' from byte {start} on", f"{len(chunk)}")
    found = _parsed(path, _chunk, chunk)
    if not isinstance(found, np.ndarray) or not all(isinstance(line, str) for line in found):
        raise _damaged(path, f"'{name}' to be lines of text", type(found).__name__)
    return [str(line) for line in found]


def _chunk(chunk: bytes) -> bytes:
    """Return what a chunk holds; its first four bytes say how long that is."""
    found = zlib.decompress(chunk[4:])
    if len(found) != struct.unpack(">I", chunk[:4])[0]:
        message = "the length is not what the chunk says"
        raise ValueError(message)
    return found


def _parsed(path: Path, unpack: Any, *given: Any) -> Any:
    """Return what R serialised into bytes that are compressed."""
    rdata: Any = require_extra("rdata", "recurrent", f"Reading {path}")
    try:
        return rdata.conversion.convert(rdata.parser.parse_data(unpack(*given), extension=".rds"))
    except (zlib.error, ValueError, LookupError, EOFError, struct.error, NotImplementedError) as error:
        message = f"{path} is damaged, or no lazy-load database of R: {error}. Install the package again."
        raise StoreError(message) from error


def _damaged(path: Path, expected: str, found: str) -> StoreError:
    return StoreError(f"{path} is damaged, or no lazy-load database of texts: expected {expected}; got {found}. Install the package again.")  # fmt: skip
