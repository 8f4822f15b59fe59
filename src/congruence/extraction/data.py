"""Stimuli as text: files of lines, columns of a table, folders of images, and functions that make batches."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from congruence import validate
from congruence.errors import CongruenceError, InputError, ParameterError
from congruence.extraction.images import plain_transform
from congruence.extraction.inputs import describe
from congruence.extraction.specs import LoadedModel, call, find_object
from congruence.representation import check_ids

_TABLE = re.compile(r"(?P<file>.+\.csv)(?::(?P<column>[^:]+))?(?::(?P<ids>[^:]+))?", re.IGNORECASE)
_IMAGES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True, eq=False)
class Data:
    """Batches for a model.

    Parameters
    ----------
    batches : iterable
        What the model takes; every iteration starts again.
    ids : tuple of str, optional
        Ids of all stimuli in order; None for positions.
    name : str
        What to call the data set.
    """

    batches: Any
    ids: tuple[str, ...] | None
    name: str


def load_data(spec: str, loaded: LoadedModel, batch_size: int = 32, max_length: int | None = None) -> Data:
    """Open the stimuli that `spec` describes, in the form that a model takes.

    Parameters
    ----------
    spec : str
        A text file (one stimulus a line, blank lines left out; ids are line numbers from 0); ``FILE.csv:COLUMN`` or
        ``FILE.csv:COLUMN:IDCOLUMN`` (ids are row numbers from 0 without an id column; the column may be left out if it
        is the only one); a folder of .png and .jpg images, at any depth (ids are the paths inside the folder); or
        ``py:MODULE:FUNCTION``, a function that returns an iterable of batches.
    loaded : LoadedModel
        Brings the tokenizer for text, or the transform. Without a transform images become RGB tensors of 224 x 224
        with values from 0 to 1.
    batch_size : int
        Stimuli in a batch; texts are padded to the longest of their batch.
    max_length : int, optional
        Most tokens of a text; longer ones are cut. By default what the model can take.

    Returns
    -------
    Data
        The batches in file order, the ids, and a name.

    Raises
    ------
    InputError
        If a file or column is missing, empty or cannot be decoded, or the model has no tokenizer for text.
    AlignmentError
        If ids in a table are repeated.
    """
    if batch_size < 1:
        message = f"batch_size must be at least 1; got {batch_size!r}."
        raise ParameterError(message)
    if spec.startswith("py:"):
        return Data(_PythonBatches(spec, find_object(spec)), None, spec.removeprefix("py:"))
    table = _TABLE.fullmatch(spec)
    path = Path(table["file"] if table else spec)
    if not path.exists():
        message = f"{path}: there is no such file or folder. Give a text file, FILE.csv:COLUMN, a folder of images, or py:MODULE:FUNCTION."
        raise InputError(message)
    if path.is_dir():
        return _images(path, loaded, batch_size)
    texts, ids = _read_table(path, table["column"], table["ids"]) if table else _read_lines(path)
    return Data(_TextBatches(path, tuple(texts), _encoder(path, loaded, max_length), batch_size), tuple(ids), path.name)


class _PythonBatches:
    """Batches of a user's function; what can be read only once is made anew for every iteration."""

    def __init__(self, spec: str, function: Any) -> None:
        self._spec, self._function = spec, function

    def __iter__(self) -> Iterator[Any]:
        made = call(self._spec, self._function) if callable(self._function) else self._function
        if not hasattr(made, "__iter__"):
            message = f"'{self._spec}' must return an iterable of batches; got {type(made).__name__}."
            raise ParameterError(message)
        return iter([made] if isinstance(made, torch.Tensor | dict) else made)


# ---- text ------------------------------------------------------------------------------------------------------------


def _read_lines(path: Path) -> tuple[list[str], list[str]]:
    """Return the lines of a text file that are not blank, and their numbers."""
    kept = [(number, line.strip()) for number, line in enumerate(io.StringIO(_text(path))) if line.strip()]
    if not kept:
        message = f"{path} is empty: it has no line of text."
        raise InputError(message)
    return [line for _, line in kept], [str(number) for number, _ in kept]


def _text(path: Path) -> str:
    """Return the contents of a text file."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"{path} is no UTF-8 text (byte {error.start}). Convert it to UTF-8."
        raise InputError(message) from error
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror or error}."
        raise InputError(message) from error


def _read_table(path: Path, column: str | None, id_column: str | None) -> tuple[list[str], list[str]]:
    """Return the cells of a column that are not blank, and their ids."""
    columns, rows = _parse_table(path)
    texts = _cells(path, columns, rows, column)
    kept = [number for number, text in enumerate(texts) if text]
    if not kept:
        message = f"{path} is empty: it has no text{f' in column {column!r}' if column else ''}."
        raise InputError(message)
    named = (
        [str(number) for number in range(len(rows))] if id_column is None else _cells(path, columns, rows, id_column)
    )
    ids = [named[number] for number in kept]
    check_ids(ids, len(ids), str(path))
    return [texts[number] for number in kept], ids


def _parse_table(path: Path) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of a table; every row must be as long as the header."""
    try:
        lines = [row for row in csv.reader(io.StringIO(_text(path)), strict=True) if row]
    except csv.Error as error:
        message = f"{path} is no table of comma-separated values: {error}."
        raise InputError(message) from error
    if not lines:
        message = f"{path} is empty."
        raise InputError(message)
    header, *rows = lines
    for number, row in enumerate(rows):
        if len(row) != len(header):
            message = f"{path}: row {number} has {len(row)} cells, but the header {len(header)}. Quote texts that hold commas."
            raise InputError(message)
    return header, rows


def _cells(path: Path, columns: list[str], rows: list[list[str]], column: str | None) -> list[str]:
    """Return the cells of a column, the only one if none is named."""
    if column is None and len(columns) > 1:
        message = f"{path} has {len(columns)} columns. Name one of them, as in {path}:{columns[0]}. {validate.closest('', columns)}"
        raise InputError(message)
    if column is not None and column not in columns:
        message = f"{path} has no column '{column}'. {validate.closest(column, columns)}"
        raise InputError(message)
    place = 0 if column is None else columns.index(column)
    return [row[place].strip() for row in rows]


Encode = Callable[[list[str]], Any]


def _encoder(path: Path, loaded: LoadedModel, max_length: int | None) -> Encode:
    """Return what turns a list of texts into a batch."""
    if loaded.tokenizer is None:
        if loaded.transform is None:
            message = f"{path} holds text, but the model {loaded.name} has no tokenizer. Let a py: function return the model and a tokenizer."
            raise InputError(message)
        return loaded.transform
    tokenizer, longest = loaded.tokenizer, max_length or _longest(loaded)

    def encode(texts: list[str]) -> Any:
        limit = {} if longest is None else {"truncation": True, "max_length": longest}
        return tokenizer(texts, padding=True, return_tensors="pt", **limit)

    return encode


def _longest(loaded: LoadedModel) -> int | None:
    """Return the most tokens that a model and its tokenizer take; None if neither says."""
    config = getattr(loaded.model, "config", None)
    said = (loaded.tokenizer.model_max_length, getattr(config, "max_position_embeddings", None))
    limits = [int(limit) for limit in said if limit is not None and 0 < limit < 10**9]  # 1e30 stands for no limit
    return min(limits) if limits else None


@dataclass(frozen=True, eq=False)
class _TextBatches:
    """Texts, encoded batch by batch."""

    path: Path
    texts: Sequence[str]
    encode: Encode
    batch_size: int

    def __len__(self) -> int:
        return -(-len(self.texts) // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, len(self.texts), self.batch_size):
            yield self.encode(list(self.texts[start : start + self.batch_size]))


# ---- images ----------------------------------------------------------------------------------------------------------


def _images(folder: Path, loaded: LoadedModel, batch_size: int) -> Data:
    """Return the images of a folder in the order of their paths."""
    image = validate.require_extra("PIL.Image", "demo", f"Reading the images in {folder}")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _IMAGES and path.is_file())
    if not paths:
        message = f"{folder} is empty: it has no .png or .jpg image."
        raise InputError(message)
    ids = tuple(path.relative_to(folder).as_posix() for path in paths)
    return Data(_ImageBatches(tuple(paths), image, loaded.transform or plain_transform(), batch_size), ids, folder.name)


@dataclass(frozen=True, eq=False)
class _ImageBatches:
    """Images, read and transformed batch by batch."""

    paths: Sequence[Path]
    library: Any
    transform: Callable[[Any], Any]
    batch_size: int

    def __len__(self) -> int:
        return -(-len(self.paths) // self.batch_size)

    def __iter__(self) -> Iterator[torch.Tensor]:
        for start in range(0, len(self.paths), self.batch_size):
            paths = self.paths[start : start + self.batch_size]
            tensors = [self._read(path) for path in paths]
            for path, tensor in zip(paths, tensors, strict=True):
                if tensor.shape != tensors[0].shape:
                    message = f"{path} becomes a tensor of shape {tuple(tensor.shape)}, but {paths[0]} one of {tuple(tensors[0].shape)}. Resize in the transform."
                    raise InputError(message)
            yield torch.stack(tensors)

    def _read(self, path: Path) -> torch.Tensor:
        try:
            with self.library.open(path) as image:
                tensor = self.transform(image)
        except CongruenceError:
            raise
        except Exception as error:
            message = f"{path} cannot be read as an image: {describe(error)}"
            raise InputError(message) from error
        return torch.as_tensor(tensor)
