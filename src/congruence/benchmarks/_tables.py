"""Tables of distances and of scores that someone already has: read, checked, and laid out over ids."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from congruence.errors import InputError, UnknownNameError
from congruence.validate import closest

if TYPE_CHECKING:
    import pandas as pd

Floats = np.ndarray[Any, np.dtype[np.float64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]

# Both orders of a pair come from one symmetric distance; what a table rounds to six digits still agrees. A share of the
# largest distance, so that the unit of the distances does not matter.
AGREEMENT = 1e-6
_BLANK = {"", "nan", "na", "none", "null"}


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of cells of equal length, and what to call the table in messages."""

    name: str
    columns: Mapping[str, np.ndarray[Any, Any]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def text(self, column: str) -> list[str]:
        """Return a column as text."""
        return [str(cell).strip() for cell in self._column(column)]

    def labels(self, column: str) -> list[str]:
        """Return a column of names as text; an empty cell is an InputError."""
        names = ["" if cell is None else str(cell).strip() for cell in self._column(column)]
        empty = [row for row, name in enumerate(names, 1) if name.lower() in {"", "nan"}]
        if empty:
            message = f"{self.name}: column '{column}' is empty in {len(empty)} rows (first: row {empty[0]}). Fill it in, or leave these rows out of both tables."
            raise InputError(message)
        return names

    def numbers(self, column: str) -> Floats:
        """Return a column as numbers; empty cells are NaN, and text is an InputError."""
        cells = self._column(column)
        if cells.dtype.kind in "fiub":
            return cells.astype(np.float64)
        found = np.full(len(cells), np.nan)
        for row, cell in enumerate(cells):
            word = str(cell).strip()
            if word.lower() in _BLANK:
                continue
            try:
                found[row] = float(word)
            except ValueError:
                message = f"{self.name}: column '{column}' must hold numbers; row {row + 1} has {word!r}."
                raise InputError(message) from None
        return found

    def is_numeric(self, column: str) -> bool:
        """Return whether a column holds numbers, not all of them missing."""
        try:
            return bool(np.isfinite(self.numbers(column)).any())
        except InputError:
            return False

    def _column(self, column: str) -> np.ndarray[Any, Any]:
        if column not in self.columns:
            message = f"{self.name} has no column '{column}'. {closest(column, self.columns)}"
            raise UnknownNameError(message)
        return self.columns[column]


def read_table(source: Any, name: str) -> Table:
    """Return the table in a CSV file, a DataFrame or a mapping of columns.

    Raises
    ------
    InputError
        If the file cannot be read, has no rows, rows of different lengths, or columns of one name.
    """
    if isinstance(source, str | Path):
        return _read_csv(Path(source))
    if isinstance(source, Mapping):
        columns = {str(key): np.asarray(list(cells)) for key, cells in source.items()}
    else:
        frame = source.reset_index() if source.index.name else source
        columns = {str(key): frame[key].to_numpy() for key in frame.columns}
    if len({len(cells) for cells in columns.values()}) > 1:
        message = f"{name}: all columns must have the same length."
        raise InputError(message)
    return _checked(name, columns)


def read_scores(path: Path) -> pd.DataFrame:
    """Return a table of scores.

    Raises
    ------
    InputError
        If the file is none, or is torn.
    """
    import pandas as pd

    advice = "Give the folder of a finished run, or its scores.csv."
    try:
        table = pd.read_csv(path, keep_default_na=False, na_values=["nan"])
    except (OSError, ValueError) as error:  # an empty table, and bytes that are no text, are ValueErrors
        message = f"{path} cannot be read as a table of scores: {error}. {advice}"
        raise InputError(message) from error
    numbers = ("value", "n", "failed")
    if lacking := {"benchmark", "case", "measure", "quantity", *numbers} - set(table.columns):
        message = f"{path} is no table of scores: it lacks the column '{min(lacking)}'. {advice}"
        raise InputError(message)
    for name in numbers:
        if table[name].dtype.kind not in "fiu":
            message = f"{path} is no table of scores, or is torn: its column '{name}' must hold numbers. {advice}"
            raise InputError(message)
    return table


def _read_csv(path: Path) -> Table:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header, *rows = [row for row in csv.reader(file) if row] or [[]]
    except FileNotFoundError:
        message = f"There is no file {path}."
        raise InputError(message) from None
    except (UnicodeDecodeError, IsADirectoryError, csv.Error) as error:
        message = f"{path} cannot be read as a CSV file: {error}."
        raise InputError(message) from error
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        message = f"{path} is not separated by commas; save it with commas between cells and points in numbers."
        raise InputError(message)
    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            message = f"{path}: row {number} has {len(row)} cells and the header has {len(header)}."
            raise InputError(message)
    heads = [head.strip() for head in header]
    twice = next((head for head in heads if heads.count(head) > 1), None)
    if twice is not None:
        message = f"{path} has several columns named '{twice}'; rename them."
        raise InputError(message)
    cells = zip(*rows, strict=True) if rows else ([] for _ in heads)
    return _checked(
        str(path), {head: np.asarray(column, dtype=object) for head, column in zip(heads, cells, strict=True)}
    )


def _checked(name: str, columns: Mapping[str, np.ndarray[Any, Any]]) -> Table:
    if not columns or not len(next(iter(columns.values()))):
        message = f"{name} holds no rows."
        raise InputError(message)
    return Table(name, columns)


# ---- ids and pairs ---------------------------------------------------------------------------------------------------


def read_ids(scores: Table) -> list[str]:
    """Return the ids of a table of scores, which must be unique."""
    _require_columns(scores, ("id",), "id, columns of groups, and columns of functionality")
    ids = scores.labels("id")
    if len(set(ids)) < len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        message = f"{scores.name}: the id {twice!r} stands in several rows; give one row for each representation."
        raise InputError(message)
    return ids


@dataclass(frozen=True, eq=False)
class Pairs:
    """Distances laid out as symmetric matrices over ids.

    Parameters
    ----------
    given : ndarray of bool, shape (ids, ids)
        Which pairs the table holds; the diagonal says which self pairs.
    values : mapping of str to ndarray, shape (ids, ids)
        One matrix a distance; NaN where the pair is not given, or its distance failed.
    """

    given: Flags
    values: Mapping[str, Floats]


def read_pairs(table: Table, names: Sequence[str], ids: Sequence[str], scores: Table) -> Pairs:
    """Return the distances `names` of a table as matrices over `ids`.

    Raises
    ------
    InputError
        If an id stands in one table only, a pair is given twice with different distances, or a distance is infinite.
    """
    _require_columns(table, ("a", "b"), "a and b, the ids of a pair, and one column for each distance")
    a, b = table.labels("a"), table.labels("b")
    place = {name: i for i, name in enumerate(ids)}
    _require_known({*a, *b}, place, table.name, scores.name)
    _require_known(place, {*a, *b}, scores.name, table.name)
    first, second = np.array([place[i] for i in a]), np.array([place[i] for i in b])
    low, high = np.minimum(first, second), np.maximum(first, second)
    _, representative, group = np.unique(low * len(ids) + high, return_index=True, return_inverse=True)
    given = np.zeros((len(ids), len(ids)), dtype=bool)
    given[low, high] = given[high, low] = True
    values = {}
    for name in names:
        column = table.numbers(name)
        _require_not_infinite(column, name, table.name, a, b)
        _require_agreement(column, column[representative][group], name, table.name, a, b)
        matrix = np.full(given.shape, np.nan)
        matrix[low, high] = matrix[high, low] = column
        values[name] = matrix
    return Pairs(given, values)


def _require_columns(table: Table, needed: Sequence[str], words: str) -> None:
    missing = [name for name in needed if name not in table.columns]
    if missing:
        message = f"{table.name} has no column '{missing[0]}'. It must have the columns {words}; it has {', '.join(table.columns)}."
        raise UnknownNameError(message)


def _require_known(found: Any, known: Any, where: str, other: str) -> None:
    unknown = [name for name in sorted(found) if name not in known]
    if unknown:
        message = f"{len(unknown)} ids of {where} are not in {other} (first: {unknown[0]!r}). Both tables must name the same representations."
        raise InputError(message)


def _require_not_infinite(column: Floats, name: str, where: str, a: Sequence[str], b: Sequence[str]) -> None:
    bad = np.flatnonzero(np.isinf(column))
    if bad.size:
        row = int(bad[0])
        message = f"{where}: '{name}' is infinite for {bad.size} pairs (first: {a[row]} and {b[row]})."
        raise InputError(message)


def _require_agreement(
    column: Floats, expected: Floats, name: str, where: str, a: Sequence[str], b: Sequence[str]
) -> None:
    scale = float(np.abs(expected).max(initial=0.0, where=~np.isnan(expected)))
    agree = np.isclose(column, expected, rtol=AGREEMENT, atol=AGREEMENT * scale, equal_nan=True)
    if not agree.all():
        row = int(np.argmin(agree))
        message = (
            f"{where}: {np.sum(~agree)} pairs are given twice and disagree on '{name}' (first: {a[row]} and {b[row]}, "
            f"{expected[row]:g} and {column[row]:g}). Keep one order of each pair, or average the two."
        )
        raise InputError(message)
