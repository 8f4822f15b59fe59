"""Leading directions from eigenvectors: they are those of the singular value decomposition, or it is asked."""

from __future__ import annotations

import numpy as np
import pytest

from congruence import linalg, measure
from congruence.measures import _leading
from congruence.measures._leading import leading_basis

RNG = np.random.default_rng(0)
DECAY = 0.9 ** np.arange(60)
SPECS = [
    "svcca",
    "svcca:variance=0.6",
    "svcca:variance=1",
    "svcca:components=7",
    "svcca:components=500",
    "svcca:threshold_on=singular_values",
]


def with_spectrum(n: int, p: int, values: np.ndarray) -> np.ndarray:
    """A centred matrix with the given singular values."""
    left = np.linalg.qr(linalg.centre_columns(RNG.normal(size=(n, len(values)))))[0]
    return left * values @ np.linalg.qr(RNG.normal(size=(p, len(values))))[0].T


CASES = {
    "tall": with_spectrum(200, 60, DECAY),
    "wide": with_spectrum(61, 90, DECAY) + 3.0,
    "graded": with_spectrum(150, 60, 0.6 ** np.arange(60)),
    "deficient": with_spectrum(150, 80, DECAY),
    "noise": RNG.normal(size=(90, 40)),
    "dead units": with_spectrum(150, 60, DECAY) * (np.arange(60) % 3 > 0),
    "a large mean": RNG.normal(size=(90, 40)) + 1e6,
    "one feature": RNG.normal(size=(20, 1)),
}


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("name", CASES)
def test_the_space_is_that_of_the_singular_value_decomposition(name: str, spec: str) -> None:
    x, kept = CASES[name], measure(spec).kept
    basis = leading_basis(x, kept)
    axes = linalg.principal(x)
    wanted = axes.left[:, : kept(axes.values)]
    assert basis.shape == wanted.shape
    np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-12)  # rounding of 60 columns
    # The decomposition itself turns the last direction by about eps over its gap: here at most some 1e-11.
    assert np.linalg.norm(basis - wanted @ (wanted.T @ basis)) < 1e-9


def decomposed(monkeypatch: pytest.MonkeyPatch, x: np.ndarray, spec: str) -> bool:
    """Whether the singular value decomposition was asked."""
    calls = []
    svd = linalg.thin_svd
    monkeypatch.setattr(linalg, "thin_svd", lambda matrix: calls.append(1) or svd(matrix))
    leading_basis(x, measure(spec).kept)
    return bool(calls)


def test_ordinary_data_need_no_decomposition(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not decomposed(monkeypatch, CASES["tall"], "svcca")
    assert not decomposed(monkeypatch, CASES["wide"], "svcca")
    assert not decomposed(monkeypatch, CASES["dead units"], "svcca")


@pytest.mark.parametrize(
    ("values", "spec"),
    [
        pytest.param([1.0, 1e-8, 1e-9], "svcca:components=2", id="below the rounding"),
        pytest.param([1.0, 0.5, 0.5 - 1e-9, 0.1], "svcca:components=2", id="a cut between equals"),
        pytest.param([3.0, 1.0], "svcca:variance=0.9", id="a threshold reached by a hair"),
    ],
)
def test_what_rounding_could_decide_is_decomposed(
    monkeypatch: pytest.MonkeyPatch, values: list[float], spec: str
) -> None:
    assert decomposed(monkeypatch, with_spectrum(40, 10, np.array(values)), spec)


def test_a_mean_beyond_the_precision_is_decomposed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert decomposed(monkeypatch, RNG.normal(size=(40, 5)) + 1e9, "svcca")


def test_corrections_that_are_not_small_are_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_leading, "CUT", 0.0)
    assert decomposed(monkeypatch, CASES["graded"], "svcca:components=20")
