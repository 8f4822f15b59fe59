"""Stimulus ids, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from congruence.errors import AlignmentError, ParameterError
from congruence.representation import Ids, check_ids

IdsSpec = Iterable[Any] | Callable[[int, Any], Iterable[Any]] | None


class StimulusIds:
    """Hands out the ids of one batch after the other, each id once.

    Parameters
    ----------
    spec : iterable, callable or None
        All ids in order; or a function of batch number and batch that gives the ids of that batch; or None, for
        positions.

    Raises
    ------
    AlignmentError
        If an id is repeated.
    """

    def __init__(self, spec: IdsSpec) -> None:
        if isinstance(spec, str | bytes) or not (spec is None or callable(spec) or isinstance(spec, Iterable)):
            message = f"ids must be a list of ids, a function of batch number and batch, or None; got {spec!r}."
            raise ParameterError(message)
        self._function = spec if callable(spec) else None
        listed = None if spec is None or callable(spec) else [_plain(item) for item in spec]
        self._all = None if listed is None else check_ids(listed, len(listed), "ids")
        self._seen: set[str] = set()
        self.handed_out = 0

    @property
    def are_positions(self) -> bool:
        """Whether no ids were given."""
        return self._all is None and self._function is None

    def take(self, index: int, batch: Any, n: int) -> Ids:
        """Return the ids of the `n` stimuli of batch `index`, as text.

        Raises
        ------
        AlignmentError
            If there are not `n` of them, or one was handed out before.
        """
        start, stop = self.handed_out, self.handed_out + n
        self.handed_out = stop
        if self._function is not None:
            return self._fresh(index, self._function(index, batch), n)
        if self._all is None:
            return np.arange(start, stop).astype(str)
        if stop > self._all.shape[0]:
            message = (
                f"ids has {self._all.shape[0]} entries, but the batches hold {stop} stimuli or more (batch {index})."
            )
            raise AlignmentError(message)
        return self._all[start:stop]

    def _fresh(self, index: int, given: Iterable[Any], n: int) -> Ids:
        ids = check_ids([_plain(item) for item in given], n, f"Batch {index}")
        repeated = [str(stimulus) for stimulus in ids if str(stimulus) in self._seen]
        if repeated:
            message = f"Batch {index} repeats the stimulus id {repeated[0]!r} of an earlier batch. Ids must be unique."
            raise AlignmentError(message)
        self._seen.update(map(str, ids))
        return ids

    def require_all_used(self) -> None:
        """Raise an AlignmentError if ids are left over when the batches have ended."""
        if self._all is not None and self.handed_out != self._all.shape[0]:
            message = f"ids has {self._all.shape[0]} entries, but the batches hold only {self.handed_out} stimuli."
            raise AlignmentError(message)


class ExpandedIds:
    """Recorded ids of batches whose steps made several stimuli of one (``stimulus@place``), batch by batch."""

    def __init__(self, recorded: Ids | None) -> None:
        self._recorded = np.empty(0, dtype=str) if recorded is None else recorded
        self._at = 0

    def take(self, ids: Ids) -> Ids:
        """Return the recorded ids that come from the stimuli `ids`, which follow those of the batch before."""
        start = self._at
        for stimulus in ids:
            while self._at < len(self._recorded) and str(self._recorded[self._at]).rpartition("@")[0] == stimulus:
                self._at += 1
        return self._recorded[start : self._at]


def _plain(item: Any) -> Any:
    """Return the number in a scalar of NumPy or PyTorch, so that its text is the number and not its type."""
    return item.item() if hasattr(item, "item") else item
