"""Principal directions that two representations share."""

import numpy as np
import pytest

import congruence as cg
from congruence import dynamics
from congruence.errors import DegenerateError, ParameterError, ShapeError

RNG = np.random.default_rng(3)
X = RNG.normal(size=(40, 12)) @ np.diag(2.0 ** -np.arange(12)) + 5
Y = np.hstack([X[:, :3], RNG.normal(size=(40, 30)) / 4])


def test_directions_are_those_of_the_singular_value_decomposition():
    found = dynamics.shared_directions(X, Y, 6)
    x, y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    left, values, _ = np.linalg.svd(x, full_matrices=False)
    np.testing.assert_allclose(found.own, (values**2 / np.sqrt((values**4).sum()))[:6], rtol=1e-10)
    for k in range(6):
        image = y @ (y.T @ left[:, k])
        assert found.cosines[k] == pytest.approx(left[:, k] @ image / np.linalg.norm(image), abs=1e-9)
        assert found.other[k] == pytest.approx(np.linalg.norm(image) / np.linalg.norm(y @ y.T), rel=1e-9)


def test_all_directions_together_make_linear_cka():
    found = dynamics.shared_directions(X, Y, 40)
    assert (found.own * found.other * found.cosines).sum() == pytest.approx(cg.measure("cka")(X, Y), abs=1e-12)


def test_a_representation_shares_all_directions_with_a_turned_and_scaled_copy_of_itself():
    turn = np.linalg.qr(RNG.normal(size=(12, 12)))[0]
    found = dynamics.shared_directions(X, 7 * X @ turn - 2, 5)
    np.testing.assert_allclose(found.cosines, 1, atol=1e-9)
    np.testing.assert_allclose(found.own, found.other, rtol=1e-9)
    assert found.shared == 5


def test_directions_count_as_shared_up_to_the_first_that_is_not():
    basis = np.linalg.qr(np.hstack([np.ones((40, 1)), RNG.normal(size=(40, 9))]))[0][:, 1:]  # orthonormal and centred
    x = basis[:, :5] * [5, 4, 3, 2, 1]
    y = np.hstack([basis[:, :2] * [4, 5], basis[:, 3:4] * 3, basis[:, 5:8]])  # all but the third and the fifth
    found = dynamics.shared_directions(x, y, 5)
    np.testing.assert_allclose(found.cosines[[0, 1, 3]], 1, atol=1e-9)
    np.testing.assert_allclose(found.other[[2, 4]], 0, atol=1e-9)
    assert found.shared == 2


def test_unrelated_isotropic_directions_have_the_cosine_of_the_participation_ratio():
    y = np.random.default_rng(0).normal(size=(400, 100))
    found = dynamics.shared_directions(np.random.default_rng(1).normal(size=(400, 60)), y, 60)
    values = np.linalg.svd(y - y.mean(axis=0), compute_uv=False) ** 2
    ratio = values.sum() ** 2 / (values**2).sum()
    # the mean of 60 cosines whose scatter is about 1 / sqrt(400)
    assert found.cosines.mean() == pytest.approx(np.sqrt(ratio / 400), abs=4 / np.sqrt(400 * 60))
    assert found.shared == 0


def test_bad_input_is_refused():
    for count in (0, 41):
        with pytest.raises(ParameterError, match=f"count must be from 1 to 40, the number of stimuli; got {count}"):
            dynamics.shared_directions(X, Y, count)
    with pytest.raises(ShapeError, match="40.*39"):
        dynamics.shared_directions(X, Y[:39], 2)
    with pytest.raises(DegenerateError, match="y is constant"):
        dynamics.shared_directions(X, np.ones((40, 2)), 2)
