"""Training as a path: states placed in the plane so that their distances are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from congruence.errors import DegenerateError, ParameterError, ShapeError

if TYPE_CHECKING:
    import xarray as xr


def trajectories(distances: xr.DataArray, axes: int = 2) -> xr.DataArray:
    """Place states so that their distances are kept as well as they can be (classical multidimensional scaling).

    With D the matrix of distances and J = I - 11'/m, the coordinates are the leading eigenvectors of -J D^2 J / 2, each
    times the root of its eigenvalue (Torgerson 1952). Of distances between points of a plane it returns that plane.

    Parameters
    ----------
    distances : xarray.DataArray, shape (m, m)
        Distances of a metric; see `CheckpointSeries.distances`.
    axes : int
        How many coordinates, at least 1 and less than m.

    Returns
    -------
    xarray.DataArray, shape (state, axis)
        The coordinates of the states (`layer`, `step`) are kept. ``attrs["explained"]`` is the share of the sum of the
        absolute eigenvalues on each axis: what a picture of these axes shows.

    Raises
    ------
    ParameterError
        If the distances are those of a measure that is no metric, or `axes` is out of range.
    ShapeError
        If the matrix is not square.
    DegenerateError
        If a distance is missing, or all states are the same up to rounding.
    """
    import xarray as xr

    values = np.asarray(distances.values, dtype=float)
    if values.ndim != 2 or values.shape[0] != values.shape[1]:
        message = f"distances must be a square matrix; got shape {values.shape}."
        raise ShapeError(message)
    if not distances.attrs.get("is_metric", True):
        message = (
            f"{distances.name} is no metric, so its values are no distances in a space. Use 'shape' or 'procrustes'."
        )
        raise ParameterError(message)
    m = values.shape[0]
    if not 1 <= axes < m:
        message = f"axes must be at least 1 and less than the {m} states; got {axes!r}."
        raise ParameterError(message)
    if not np.isfinite(values).all():
        message = f"{int(np.sum(~np.isfinite(values)))} of {m * m} distances are missing. {_leave_out(distances)}"
        raise DegenerateError(message)
    squared = ((values + values.T) / 2) ** 2
    centred = squared - squared.mean(axis=0) - squared.mean(axis=1, keepdims=True) + squared.mean()
    eigenvalues, vectors = np.linalg.eigh(-centred / 2)
    eigenvalues, vectors = eigenvalues[::-1], vectors[:, ::-1]
    total = float(np.abs(eigenvalues).sum())
    if total == 0 or values.max() <= distances.attrs.get("rounding", 0.0):
        raise DegenerateError(_SAME)
    places = vectors[:, :axes] * np.sqrt(np.maximum(eigenvalues[:axes], 0))
    places *= np.where(places[-1] < 0, -1.0, 1.0)  # an eigenvector has no sign of its own: the last state is positive
    state = distances.dims[0]
    kept = {name: where for name, where in distances.coords.items() if where.dims == (state,)}
    about = {"explained": (np.abs(eigenvalues[:axes]) / total).tolist(), "measure": distances.attrs.get("measure")}
    return xr.DataArray(places, kept | {"axis": np.arange(axes)}, (state, "axis"), attrs=about)


_SAME = "All states are the same up to rounding, so there is nothing to place. Take steps or layers that differ."


def _leave_out(distances: xr.DataArray) -> str:
    """Return what to do about missing distances."""
    step = distances.attrs.get("diverged")
    if step is None:
        return "Leave out the states that failed."
    return f"The run diverged at step {step}: take distances before that, run.distances(..., at=run.finite)."
