"""One half of symmetric matrices between stimuli: the rectangles of a `Segment`, one after the other in a row.

Where representations are few, passes over n x n entries cost as much as the products; half the entries are half of them, and
a row that is worked on in place is never copied. For NumPy; other libraries work on whole matrices.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
from array_api_compat import is_numpy_array

from congruence import linalg
from congruence.measures.block import Segment
from congruence.validate import Array

Floats = np.ndarray[Any, Any]

CHUNK = 2**15
"""Entries that are worked on at a time: they stay in the cache of a core."""


def whole(n: int) -> Segment:
    """Return the segment that covers n x n matrices."""
    return Segment(0, n)


def write_squared_distances(x: Floats, row: Floats, segment: Segment) -> None:
    """Write the squared Euclidean distances between the rows of `x`, as exact as `linalg.squared_distances`."""
    centred = linalg.centre_columns(x)
    squares = linalg.row_squares(centred)
    for rows, columns, part in segment.views(row):
        np.matmul(centred[rows], centred[columns].T, out=part)
        i, j = linalg.distances_in_place(part, squares[rows], squares[columns], square=rows == columns)
        if i.shape[0]:
            part[i, j] = linalg.differences(x, i + rows.start, j + columns.start)
        if rows == columns:
            np.fill_diagonal(part, 0.0)


def different_pairs(row: Floats, segment: Segment) -> list[Floats]:
    """Return the entries of all pairs of different stimuli, each pair once: some vectors, in an order that n decides."""
    squares = [part[_below(part.shape[0])] for rows, columns, part in segment.views(row) if rows == columns]
    return [np.concatenate(squares), row[segment.on_diagonal :]]


@cache
def _below(size: int) -> tuple[Floats, Floats]:
    """Return the places below the diagonal of a square."""
    rows, columns = np.tril_indices(size, -1)
    return rows, columns


def squared_distances(x: Array) -> Array:
    """Return the squared Euclidean distances of all pairs of different rows, shape (n (n - 1) / 2,)."""
    if not is_numpy_array(x):
        return linalg.upper(linalg.squared_distances(x))
    segment = whole(x.shape[0])
    row = np.empty(segment.entries, dtype=x.dtype)
    write_squared_distances(x, row, segment)
    return np.concatenate(different_pairs(row, segment))


def cosine_distances(x: Array) -> Array:
    """Return 1 - cosine of all pairs of different rows, shape (n (n - 1) / 2,), as exact as `linalg.cosine_distances`."""
    return linalg.halved_distances(squared_distances(linalg.unit_rows(x)))


def median_distance(row: Floats, segment: Segment) -> float:
    """Return the median Euclidean distance over pairs of different stimuli whose squared distance in `row` is not 0."""
    return sum(map(math.sqrt, _middle(different_pairs(row, segment)))) / 2


def _middle(parts: Sequence[Floats]) -> tuple[float, float]:
    """Return the two middle ones of the positive values in vectors without negative ones; of an odd number, one twice.

    What a sample brackets is all that is looked at closely.
    """
    total = sum(part.shape[0] for part in parts)
    sample = np.concatenate([part[:: max(1, total // 8192)] for part in parts])
    sample = np.sort(sample[sample > 0])
    middle, around = sample.shape[0] // 2, sample.shape[0] // 40  # more than four standard errors of a median
    low, high = (sample[middle - around], sample[middle + around]) if around else (0.0, np.inf)
    positive = below = 0
    inside = []
    for chunk in (chunk for part in parts for chunk in in_chunks(part)):
        reaches = chunk >= low
        positive += int(np.count_nonzero(chunk))
        below += chunk.shape[0] - int(np.count_nonzero(reaches))
        inside.append(chunk[reaches & (chunk <= high)])
    ranks = (total - positive + (positive - 1) // 2, total - positive + positive // 2)
    candidates = np.concatenate(inside)
    if not (below <= ranks[0] and ranks[1] < below + candidates.shape[0]):
        below, candidates = 0, np.concatenate(parts)
    places = [rank - below for rank in ranks]
    found = np.partition(candidates, places)
    return float(found[places[0]]), float(found[places[1]])


def in_chunks(row: Floats) -> Iterator[Floats]:
    """Iterate over views of a row that stay in the cache."""
    for start in range(0, row.shape[0], CHUNK):
        yield row[start : start + CHUNK]


def double_centre(row: Floats, segment: Segment, n: int) -> Floats:
    """Centre rows and columns of the matrix in place, and return its diagonal, shape (n,)."""
    sums = np.zeros(n)
    for rows, columns, part in segment.views(row):
        sums[rows] += part.sum(axis=1)
        if rows != columns:
            sums[columns] += part.sum(axis=0)
    means = sums / n
    middle, diagonal = means.mean(), np.empty(n)
    for rows, columns, part in segment.views(row):
        height = max(1, CHUNK // part.shape[1])
        for start in range(0, part.shape[0], height):
            left = means[rows][start : start + height, None]
            part[start : start + height] -= (left + means[columns]) - middle  # symmetric to the bit
        if rows == columns:
            diagonal[rows] = np.diagonal(part)
    return diagonal
