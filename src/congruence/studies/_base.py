"""What a study is, and the registry of studies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from congruence.errors import UnknownNameError
from congruence.validate import closest

Row = dict[str, Any]
"""One row of a table: column -> text, number, truth value or None."""
Tables = dict[str, list[Row]]
"""Name of a table -> its rows."""
Outcome = Literal["reproduced", "not reproduced", "differs"]
TIERS = ("quick", "small", "paper")


@dataclass(frozen=True)
class Verdict:
    """What became of a finding.

    Attributes
    ----------
    outcome : {"reproduced", "not reproduced", "differs"}
        ``differs``: found in part, or in another form.
    text : str
        One or two sentences with the numbers that decided.
    statistics : mapping of str to float
        These numbers.
    """

    outcome: Outcome
    text: str
    statistics: Mapping[str, float]


@dataclass(frozen=True)
class Tier:
    """How much of a study to do.

    Attributes
    ----------
    settings : object
        A frozen dataclass that JSON can hold; part of what a folder is resumed by.
    takes : str
        How long, in words.
    """

    settings: Any
    takes: str


class Study(ABC):
    """A finding and the computation that tests it, cut into pieces that are kept one by one.

    Attributes
    ----------
    name, title, claim, source : str
        Name on the command line, what it is about, the finding in one sentence, and where it is from.
    tiers : mapping of str to Tier
        ``quick`` (seconds), ``small`` (real data, minutes), ``paper`` (the published setting) as far as they exist.
    revision : int
        Raised with every change of what pieces hold that does not show in the settings: pieces of another revision are not
        put together with new ones.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    claim: ClassVar[str]
    source: ClassVar[str]
    tiers: ClassVar[Mapping[str, Tier]]
    revision: ClassVar[int] = 1

    @abstractmethod
    def pieces(self, settings: Any) -> Sequence[str]:
        """Return the names of the pieces, which become file names."""

    @abstractmethod
    def work(self, settings: Any, piece: str) -> Tables:
        """Compute one piece: the same for the same settings, whatever else has been computed."""

    @abstractmethod
    def summarise(self, settings: Any, tables: Tables) -> list[Row]:
        """Return the table of the study from the rows of all pieces."""

    @abstractmethod
    def judge(self, settings: Any, tables: Tables) -> Verdict:
        """Return what became of the finding."""

    @abstractmethod
    def draw(self, settings: Any, tables: Tables, folder: Path) -> None:
        """Write the figures of the study as PNG files into a folder that exists."""

    def tier(self, name: str) -> Tier:
        """Return a tier by name; an unknown one is an error that lists what there is."""
        if name not in self.tiers:
            message = f"{self.name} has no tier '{name}'. Available: {', '.join(self.tiers)}."
            raise UnknownNameError(message)
        return self.tiers[name]


REGISTRY: dict[str, Study] = {}
"""Name -> study."""


def register(cls: type[Study]) -> type[Study]:
    """Make a study available under its name (a decorator)."""
    REGISTRY[cls.name] = cls()
    return cls


def study(name: str) -> Study:
    """Return a study by name; an unknown name is an error that lists the closest."""
    if name not in REGISTRY:
        message = f"There is no study '{name}'. {closest(name, REGISTRY)}"
        raise UnknownNameError(message)
    return REGISTRY[name]
