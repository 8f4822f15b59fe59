"""What several sections of a page need of one comparison, computed once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from congruence import figures
from congruence.figures import CurveKind
from congruence.reporting._groups import Group, caveat_groups, failure_groups
from congruence.results import Comparison

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, eq=False)
class View:
    """A comparison, seen for its page."""

    comparison: Comparison

    @cached_property
    def matrices(self) -> dict[str, xr.DataArray]:
        """Values (a, b) by label."""
        return {label: self.comparison.matrix(label) for label in self.comparison.measures}

    @cached_property
    def levels(self) -> dict[str, xr.DataArray]:
        """What unrelated data would give (a, b), by label."""
        return {label: self.comparison.levels(label) for label in self.comparison.measures}

    @cached_property
    def kind(self) -> CurveKind:
        """Which pairs make the curves."""
        return figures.curve_kind([(self.matrices[label], info) for label, info in self.comparison.infos.items()])

    @cached_property
    def curves(self) -> dict[str, xr.DataArray]:
        """One value for each layer, by label."""
        infos = self.comparison.infos
        return {label: figures.depth_curve(self.matrices[label], info, self.kind) for label, info in infos.items()}

    @cached_property
    def caveats(self) -> list[Group]:
        """Warnings by code."""
        return caveat_groups(self.comparison)

    @cached_property
    def failures(self) -> list[Group]:
        """Failed pairs by reason."""
        return failure_groups(self.comparison)
