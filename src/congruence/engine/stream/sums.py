"""The passes that sums take: one over everything, and further ones over what rounding has spoilt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from congruence import validate
from congruence.engine.stream.moments import Frame, Moments, Pair
from congruence.engine.stream.scan import Scanner
from congruence.engine.stream.source import Values
from congruence.engine.stream.spectrum import Spectrum, drifted, whitened_frame
from congruence.engine.stream.values import Cross, Form, Side
from congruence.errors import CongruenceError, DegenerateError

PASSES = 4
"""Passes over a representation at most: each multiplies the resolution, so that two are nearly always enough."""

Forms = Mapping[int, Sequence[Form[Any]]]
"""What is to be computed of every representation."""


class Sums:
    """Sums of some pairs, each from the latest pass that took them.

    Parameters
    ----------
    moments : Moments
        The first pass.
    """

    def __init__(self, moments: Moments) -> None:
        self._latest: dict[Pair, Moments] = {}
        self._sides: dict[int, Side] = {}
        self.replace(moments)

    def replace(self, moments: Moments) -> None:
        """Take the sums of a later pass in the place of earlier ones."""
        for i, j in moments.pairs:
            self._latest[i, j] = moments
            if i == j:
                self._sides[i] = Side(moments, i)

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The pairs that were summed, the smaller number first."""
        return tuple(self._latest)

    def side(self, i: int) -> Side:
        """Return the sums of one representation."""
        return self._sides[i]

    def cross(self, i: int, j: int) -> Cross:
        """Return the sums of two representations, in this order."""
        return Cross(self._latest[min(i, j), max(i, j)], self._sides[i], self._sides[j])


def gather(scanner: Scanner, pairs: Sequence[Pair], forms: Forms) -> Sums:
    """Return the sums of some pairs, as exact as the forms need them.

    Representations that fail are left to `Scanner.failures`; their sums mean nothing.
    """
    members = sorted({i for pair in pairs for i in pair})
    wanted = [*((i, i) for i in members), *pairs]
    squares = any(form.squares for own in forms.values() for form in own)

    def first_frame(i: int, chunk: Values) -> Frame:
        return _pilot(chunk, scanner.n, forms[i])

    sums = Sums(scanner.accumulate(wanted, first_frame, squares=squares))
    for i in members:
        _check_varying(scanner, sums.side(i))
    for _ in range(PASSES - 1):
        better = {i: frame for i in members if (frame := _better_frame(scanner, sums.side(i), forms[i])) is not None}
        again = [pair for pair in sums.pairs if better.keys() & set(pair)]
        if not again:
            break
        frames = {i: better.get(i, sums.side(i).frame) for pair in again for i in pair}
        sums.replace(scanner.accumulate(again, frames, squares=squares))
    return sums


def _pilot(chunk: Values, n: int, forms: Sequence[Form[Any]]) -> Frame:
    """Return the frame that a first chunk suggests: whitened if it is large enough to tell, and ill-conditioned."""
    p = chunk.shape[1]
    some = chunk[: max(8 * p, 1024)]  # as good for this as all of a large chunk
    frame = Frame.near(some)
    if not 4 * p <= len(some) < n:
        return frame
    trial = Moments({0: frame}, [(0, 0)])
    trial.update({0: some})
    spectrum = _needed(Side(trial, 0), forms)
    return frame if spectrum is None else whitened_frame(trial, 0, spectrum, n)


def _better_frame(scanner: Scanner, side: Side, forms: Sequence[Form[Any]]) -> Frame | None:
    """Return the frame for another pass, or None if the sums are as exact as they need to be."""
    if side.index in scanner.failures:
        return None
    if drifted(side.moments, side.index):
        return Frame(side.moments.mean(side.index), side.frame.exponent)
    spectrum = _needed(side, forms)
    return None if spectrum is None else whitened_frame(side.moments, side.index, spectrum, side.n)


def _needed(side: Side, forms: Sequence[Form[Any]]) -> Spectrum | None:
    """Return the spectrum if some form needs directions that it does not give exactly."""
    if not any(form.whitens for form in forms):
        return None
    try:
        spectrum = side.spectrum
    except CongruenceError:
        return None  # preparing the measures that need it meets this again, and reports it
    return spectrum if spectrum.inexact(max(form.directions(spectrum) for form in forms)) else None


def _check_varying(scanner: Scanner, side: Side) -> None:
    """Fail a representation whose stimuli are all equal up to rounding, as in memory; only suspects are read again."""
    i = side.index
    if i in scanner.failures:
        return
    frame, second = side.frame, side.moments.second(i)
    variance = np.diagonal(side.moments.covariance(i, i))
    bound = float(np.max(np.ldexp(np.abs(frame.shift), frame.exponent))) + float(np.sqrt(np.max(second)))
    if float(np.max(variance)) > side.n * (2 * validate.ROUNDING * scanner.eps[i] * bound) ** 2:
        return
    low, high = np.full(frame.p, np.inf), np.full(frame.p, -np.inf)
    for _, chunks in scanner.chunks([i], "looking for any difference"):
        np.minimum(low, chunks[i].min(axis=0), out=low)
        np.maximum(high, chunks[i].max(axis=0), out=high)
    try:
        validate.require_varying(np.stack([low, high]), scanner.titles[i], scanner.eps[i])
    except DegenerateError as error:
        scanner.fail(i, error)
