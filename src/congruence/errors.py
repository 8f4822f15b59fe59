"""Everything congruence raises and warns.

CongruenceError
 ├─ InputError (ValueError)            values, shapes or numbers that no measure can use
 │   ├─ ShapeError                     wrong number of axes, stimuli or features
 │   ├─ AlignmentError                 stimulus ids that do not match
 │   └─ DegenerateError                the number asked for is undefined on this data
 ├─ ParameterError (ValueError)        a parameter outside its rule
 ├─ UnknownNameError (LookupError)     a measure, parameter, layer or name that does not exist
 ├─ ExtractionError (RuntimeError)     a model that cannot be recorded
 ├─ StoreError (OSError)               a store or run that cannot be read or written
 │   ├─ CorruptStoreError              bytes that differ from what was written
 │   ├─ LockedStoreError               another process is writing
 │   └─ OutputExistsError (FileExistsError)
 ├─ WorkerError (RuntimeError)         a process that died before its work was done
 ├─ GateError (RuntimeError)           a gate that cannot be evaluated
 └─ MissingExtraError (ImportError)    an optional dependency that is not installed

CongruenceWarning (UserWarning) carries a `Caveat`: a code, a text, and the value unrelated data would give.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Self


class CongruenceError(Exception):
    """Base of every error that congruence raises on purpose."""

    def about(self, name: str) -> Self:
        """Return the same error with the representation it concerns put in front of its message."""
        message = str(self)
        if message.startswith((f"{name} ", f"{name}:")):
            return self
        named = copy.copy(self)
        named.args = (f"{name}: {message}",)
        return named

    def __str__(self) -> str:
        # OSError and LookupError format their arguments in their own way; ours are one sentence.
        return str(self.args[0]) if self.args else ""


class InputError(CongruenceError, ValueError):
    """Values that no measure can use."""


class ShapeError(InputError):
    """An array with the wrong number of axes, stimuli or features."""


class AlignmentError(InputError):
    """Two representations whose stimulus ids differ."""


class DegenerateError(InputError):
    """Data on which the requested number is undefined."""


class ParameterError(CongruenceError, ValueError):
    """A parameter that breaks its rule."""


class UnknownNameError(CongruenceError, LookupError):
    """A name that does not exist; the message lists the closest ones."""


class ExtractionError(CongruenceError, RuntimeError):
    """A model whose activations cannot be recorded."""


class StoreError(CongruenceError, OSError):
    """A store or a run folder that cannot be read or written."""


class CorruptStoreError(StoreError):
    """Bytes on disk that differ from what was written."""


class LockedStoreError(StoreError):
    """A store that another process is writing."""


class OutputExistsError(StoreError, FileExistsError):
    """An output that exists, without a word on what to do with it."""


class WorkerError(CongruenceError, RuntimeError):
    """A worker, or its scheduler, that died before its work was done."""


class GateError(CongruenceError, RuntimeError):
    """A gate that names a measure or a threshold that cannot be evaluated."""


class MissingExtraError(CongruenceError, ImportError):
    """An optional dependency that is not installed; the message names the extra."""


@dataclass(frozen=True)
class Caveat:
    """A reason to distrust one number.

    Parameters
    ----------
    code : str
        Stable identifier, such as ``"cca_floor"``.
    text : str
        One sentence for people.
    level : float, optional
        The value that unrelated data would give (or the least that any data reaches).
    """

    code: str
    text: str
    level: float | None = None

    def __str__(self) -> str:
        return f"{self.code}: {self.text}"


class CongruenceWarning(UserWarning):
    """A number that is right and must be read with care."""

    def __init__(self, caveat: Caveat | str) -> None:
        self.caveat = caveat if isinstance(caveat, Caveat) else Caveat("note", caveat)
        super().__init__(str(self.caveat))

    @property
    def code(self) -> str:
        """Identifier of the caveat."""
        return self.caveat.code
