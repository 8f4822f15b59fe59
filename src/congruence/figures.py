"""Pictures of labelled arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

    from congruence.measures import MeasureInfo


def heatmap(values: xr.DataArray, info: MeasureInfo, *, ax: Axes | None = None) -> Axes:
    """Draw a matrix."""
    raise NotImplementedError


def layer_curve(values: xr.DataArray, info: MeasureInfo, *, ax: Axes | None = None) -> Axes:
    """Draw a curve."""
    raise NotImplementedError
