"""CCA of convolutional layers frequency by frequency. Source: Raghu et al. 2017, SVCCA, section 3.1 and appendix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from congruence import linalg
from congruence.errors import Caveat, DegenerateError, ParameterError, ShapeError
from congruence.validate import as_array, as_floating, require_finite, require_same_n

if TYPE_CHECKING:
    import xarray as xr

Values = np.ndarray[Any, Any]
Statistic = Literal["mean", "mean_squared"]


@dataclass(frozen=True, eq=False)
class DftCca:
    """Canonical correlations of two convolutional layers by spatial frequency.

    Attributes
    ----------
    value : float
        Mean (squared) correlation over all correlations of all frequencies, in [0, 1].
    by_frequency : xarray.DataArray, shape (fy, fx)
        The mean of every frequency, waves a map in both directions; fx from 0, since a frequency and its negative have
        the same correlations. NaN where a layer has nothing at a frequency.
    correlations : int
        How many correlations the value is the mean of, conjugate frequencies included.
    caveats : tuple of Caveat
        Reasons to distrust the value.
    """

    value: float
    by_frequency: xr.DataArray
    correlations: int
    caveats: tuple[Caveat, ...] = ()

    def __float__(self) -> float:
        return self.value


def dft_cca(a: Any, b: Any, *, statistic: Statistic = "mean", variance: float = 1.0) -> DftCca:
    """Compare two convolutional layers by CCA at every spatial frequency.

    Every channel is Fourier transformed over space; at each frequency f the layers are complex matrices A_f (n, c_a) and
    B_f (n, c_b), centred, whose canonical correlations ρ are the singular values of Q_AᴴQ_B. The value is
    Σ_f Σ_i ρ_fi / Σ_f m_f with m_f = min(rank A_f, rank B_f): 1 if at every frequency the smaller space lies in the
    larger, 0 if none of them meet. Of maps of different size the frequencies are compared that both have.

    Parameters
    ----------
    a, b : array, shape (n, c_a, h_a, w_a) and (n, c_b, h_b, w_b)
        What two layers put out for the same stimuli.
    statistic : {"mean", "mean_squared"}
        Of the correlations.
    variance : float
        Keep the leading directions of each frequency that reach this share of its variance (SVCCA); 1 keeps all.

    Returns
    -------
    DftCca
        ``.value``, and what every frequency contributes. A caveat says if there are too few stimuli for the channels.

    Raises
    ------
    ShapeError
        If an array has no four axes, or the numbers of stimuli differ.
    DegenerateError
        If the layers have no frequency in common at which both vary.

    Notes
    -----
    If convolutions are circular and the stimuli closed under translation, the covariance between frequencies is 0, and
    the value is CCA of the flattened layers exactly (Theorem 1 of the paper); otherwise an approximation that ignores
    what different frequencies share. Cost O(n h w c²) instead of O(n h² w² c²). Computed on the CPU in float64.

    References
    ----------
    Raghu, Gilmer, Yosinski & Sohl-Dickstein 2017, arXiv:1706.05806, section 3.1 and Theorem 1.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(50, 3, 6, 6))
    >>> round(dft_cca(x, x[:, ::-1]).value, 12)
    1.0
    """
    if statistic not in ("mean", "mean_squared"):
        message = f"statistic must be 'mean' or 'mean_squared'; got {statistic!r}."
        raise ParameterError(message)
    if not 0 < variance <= 1:
        message = f"variance must be above 0 and at most 1; got {variance:g}."
        raise ParameterError(message)
    x, y = _checked(a, "a"), _checked(b, "b")
    require_same_n(len(x), len(y))
    size = min(x.shape[2], y.shape[2]), min(x.shape[3], y.shape[3])
    alike = x.shape[2] == y.shape[2], x.shape[3] == y.shape[3]
    rows = _frequencies(size[0], whole=alike[0])
    columns = np.arange(size[1] // 2 + 1 if alike[1] else (size[1] + 1) // 2)  # the other half has the conjugates
    return _averaged(
        _spectrum(x, rows, columns), _spectrum(y, rows, columns), rows, columns, size[1], statistic, variance
    )


def _checked(values: Any, name: str) -> Values:
    """Return a layer as a finite array (n, c, h, w) of float64."""
    found = linalg.to_numpy(as_floating(as_array(values, name), name, "float64"))
    if found.ndim != 4:
        message = f"{name} must have shape (n, c, h, w); got {found.shape}. Of matrices (n, p) use the measure cca."
        raise ShapeError(message)
    if not found.size:
        message = f"{name} is empty: its shape is {found.shape}."
        raise ShapeError(message)
    require_finite(found, name)
    return found


def _frequencies(size: int, *, whole: bool) -> Values:
    """Return the frequencies of an axis: all, or those that a longer axis has too (its half-way frequency is another)."""
    if whole:
        return np.fft.fftfreq(size, 1 / size).round().astype(int)
    reach = (size - 1) // 2
    return np.concatenate([np.arange(reach + 1), np.arange(-reach, 0)])


def _spectrum(values: Values, rows: Values, columns: Values) -> Values:
    """Return centred Fourier coefficients, shape (fy, fx, n, c), scaled so that maps of all sizes are alike."""
    centred = values - values.mean(axis=0)
    found = np.fft.fft2(centred, norm="forward")[:, :, rows][:, :, :, columns]
    return np.ascontiguousarray(found.transpose(2, 3, 0, 1))


def _averaged(
    x: Values, y: Values, rows: Values, columns: Values, width: int, statistic: Statistic, variance: float
) -> DftCca:
    """Return the mean over the correlations of all frequencies."""
    import xarray as xr

    largest = [float(np.abs(part).max()) * np.sqrt(part.shape[2] * part.shape[3]) for part in (x, y)]
    means, total, count, floor = np.full(x.shape[:2], np.nan), 0.0, 0, 0
    for i, j in np.ndindex(*means.shape):
        first, second = (_basis(part[i, j], top, variance) for part, top in zip((x, y), largest, strict=True))
        m = min(first.shape[1], second.shape[1])
        if not m:
            continue
        rho = np.clip(np.linalg.svd(first.conj().T @ second, compute_uv=False), 0.0, 1.0)
        means[i, j] = np.mean(rho if statistic == "mean" else rho**2)
        weight = m * (1 if _is_own_conjugate(int(columns[j]), width) else 2)
        total, count = total + weight * means[i, j], count + weight
        floor += max(0, first.shape[1] + second.shape[1] - (len(first) - 1)) > 0
    if not count:
        message = "a and b have no spatial frequency in common at which both vary between stimuli."
        raise DegenerateError(message)
    text = f"at {floor} of {means.size} frequencies there are too few stimuli for the channels, so that some correlations are 1 for any data; use more stimuli, or less variance"
    caveats = (Caveat("cca_floor", text),) if floor else ()
    by_frequency = xr.DataArray(means, {"fy": rows, "fx": columns}, ("fy", "fx"), name="correlation").sortby("fy")
    return DftCca(float(linalg.clip(total / count, 0.0, 1.0)), by_frequency, count, caveats)


def _is_own_conjugate(frequency: int, width: int) -> bool:
    """Return whether a column of the half plane holds the conjugates of its own entries, and not of one left out."""
    return frequency == 0 or 2 * frequency == width


def _basis(values: Values, largest: float, variance: float) -> Values:
    """Return an orthonormal basis of the leading directions of a complex matrix (n, c)."""
    left, singular, _ = np.linalg.svd(values, full_matrices=False)
    eps = float(np.finfo(np.float64).eps)
    rank = int(
        (singular > max(values.shape) * eps * largest).sum()
    )  # against the whole layer: a frequency can be empty
    if variance < 1 and rank:
        share = np.cumsum(singular[:rank] ** 2)
        rank = int(np.argmax(share >= variance * share[-1] * (1 - 1e-12))) + 1
    found: Values = left[:, :rank]
    return found
