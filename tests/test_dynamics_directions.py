"""Directions of layers: canonical correlations, projections of running networks, compression, classes."""

import numpy as np
import pytest
from scipy.linalg import eigh

import congruence as cg
from congruence import dynamics
from congruence.errors import InputError, ParameterError, ShapeError, UnknownNameError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 6)) @ RNG.normal(size=(6, 6)) + 3.0
Y = np.hstack([X[:, :2] + 0.5 * RNG.normal(size=(80, 2)), RNG.normal(size=(80, 3))])


def test_canonical_directions_are_those_of_the_eigenproblem():
    found = dynamics.canonical_directions(X, Y)
    x, y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    squares = eigh(x.T @ y @ np.linalg.inv(y.T @ y) @ y.T @ x, x.T @ x, eigvals_only=True)[::-1]
    np.testing.assert_allclose(found.correlations**2, squares[:5], atol=1e-10)
    np.testing.assert_allclose(found.variates.T @ found.variates, np.eye(5), atol=1e-10)
    np.testing.assert_allclose(x @ found.weights, found.variates, atol=1e-10)
    assert found.correlations.mean() == pytest.approx(cg.measure("cca")(X, Y), abs=1e-10)
    kept = dynamics.canonical_directions(X, Y, variance=0.9)
    assert kept.correlations.mean() == pytest.approx(cg.measure("svcca:variance=0.9")(X, Y), abs=1e-10)


def test_all_svcca_directions_are_the_leading_components():
    full = dynamics.svcca_projection(X, X @ RNG.normal(size=(6, 6)), 6, variance=1)
    np.testing.assert_allclose(full(X), X, atol=1e-9)
    k = len(dynamics.canonical_directions(X, X, variance=0.9).correlations)
    kept = dynamics.svcca_projection(X, X, k, variance=0.9)
    np.testing.assert_allclose(kept(X), dynamics.pca_projection(X, k)(X), atol=1e-9)


def test_directions_read_from_few_neurons_are_fitted_from_those_alone():
    whole = dynamics.svcca_projection(X, Y, 2)
    np.testing.assert_allclose(dynamics.aligned_projection(X, Y, 2, 6)(X), whole(X), atol=1e-9)
    few = dynamics.aligned_projection(X, Y, 2, 3)
    variates = dynamics.canonical_directions(X, Y, variance=0.99).variates[:, :2]
    aligned = [np.linalg.norm([(X[:, j] - X[:, j].mean()) @ variates[:, i] for i in range(2)]) for j in range(6)]
    chosen = np.argsort(aligned)[3:]
    design = np.hstack([np.ones((80, 1)), X[:, chosen]])
    told = design @ np.linalg.lstsq(design, variates, rcond=None)[0]
    design = np.hstack([np.ones((80, 1)), told])
    np.testing.assert_allclose(few(X), design @ np.linalg.lstsq(design, X, rcond=None)[0], atol=1e-9)
    other = X.copy()
    other[:, [j for j in range(6) if j not in chosen]] += 7.0  # what they do is not seen
    np.testing.assert_allclose(few(other), few(X), atol=1e-9)


def test_projected_neurons_are_least_squares_fits_from_the_directions():
    projection = dynamics.svcca_projection(X, Y, 2)
    variates = dynamics.canonical_directions(X, Y, variance=0.99).variates[:, :2]
    design = np.hstack([np.ones((80, 1)), variates])
    expected = design @ np.linalg.lstsq(design, X, rcond=None)[0]
    np.testing.assert_allclose(projection(X), expected, atol=1e-9)
    assert projection.rank == 2
    again = projection(projection(X))
    np.testing.assert_allclose(again, projection(X), atol=1e-9)  # a projection


def test_kept_neurons_are_kept_and_the_others_are_their_means():
    x = X * np.array([1, 5, 1, 1, 9, 1])
    assert dynamics.most_active_neurons(x, 2).tolist() == np.argsort(-np.abs(x).mean(axis=0))[:2].tolist()
    found = dynamics.neuron_projection(x, [4, 1])(x)
    np.testing.assert_allclose(found[:, [1, 4]], x[:, [1, 4]], atol=1e-12)
    np.testing.assert_allclose(found[:, 0], x[:, 0].mean(), atol=1e-12)


def test_stable_directions_stay_and_unstable_ones_go():
    signal, early = RNG.normal(size=(200, 3)), RNG.normal(size=(200, 3))
    middle, end = (np.hstack([signal, RNG.normal(size=(200, 3))]) for _ in range(2))
    found = dynamics.stable_directions(np.hstack([signal, early]), middle, 3)
    assert dynamics.subspace_distance(found.stable, end) < 0.05  # the signal is in all layers
    assert dynamics.subspace_distance(found.unstable, end) > 0.6
    assert dynamics.subspace_distance(found.unstable, middle) == pytest.approx(0, abs=1e-9)
    with pytest.raises(ParameterError, match="count must be from 1 to 3, half of the 6 canonical directions; got 4"):
        dynamics.stable_directions(middle, end, 4)


def test_class_sensitivity_is_the_multiple_correlation():
    logits = X @ RNG.normal(size=(6, 3)) + RNG.normal(size=(80, 3)) * [0.0, 1.0, 20.0]
    images = RNG.normal(size=(80, 2, 4, 4))
    found = dynamics.class_sensitivity({"x": X, "images": images}, logits, variance=1, classes={0: "dog", 2: "cat"})
    design = np.hstack([np.ones((80, 1)), X])
    for name, k in (("dog", 0), ("cat", 2)):
        fit = design @ np.linalg.lstsq(design, logits[:, k], rcond=None)[0]
        r = np.corrcoef(fit, logits[:, k])[0, 1]
        assert float(found.sel({"layer": "x", "class": name})) == pytest.approx(r, abs=1e-10)
    assert float(found.sel({"layer": "x", "class": "dog"})) == pytest.approx(1)
    expected = dynamics.dft_cca(images, logits[:, :1, None, None] * np.ones((1, 1, 4, 4))).by_frequency.sel(fy=0, fx=0)
    assert float(found.sel({"layer": "images", "class": "dog"})) == pytest.approx(float(expected), abs=1e-10)
    with pytest.raises(ShapeError, match=r"Layer bad must have shape \(n, p\) or \(n, c, h, w\); got \(80,\)"):
        dynamics.class_sensitivity({"bad": X[:, 0]}, logits)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dynamics.aligned_projection(X, Y, 2, 7), "k must be from 1 to 6, the number of neurons; got 7"),
        (lambda: dynamics.svcca_projection(X, Y, 6), "k must be from 1 to 5, the number of SVCCA directions; got 6"),
        (lambda: dynamics.pca_projection(X, 0), "k must be from 1 to 6, the number of principal components; got 0"),
        (lambda: dynamics.most_active_neurons(X, 7), "k must be from 1 to 6, the number of neurons; got 7"),
        (lambda: dynamics.canonical_directions(X, Y, variance=2), "variance must be above 0 and at most 1; got 2"),
    ],
)
def test_wrong_numbers_are_refused(call, message):
    with pytest.raises(ParameterError, match=message):
        call()


# ---- networks --------------------------------------------------------------------------------------------------------


@pytest.fixture
def network():
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(12, 8), torch.nn.ReLU(), torch.nn.Linear(8, 4)
    ).double()  # fmt: skip
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.double)
    return model, torch.randn(60, 1, 4, 4, generator=generator, dtype=torch.double)


def outputs(model, images, layer):
    with __import__("torch").no_grad():
        return model[: layer + 1](images).numpy()


def test_a_network_runs_with_a_layer_projected_and_is_left_as_it_was(network):
    import torch

    model, images = network
    hidden = outputs(model, images, 4)
    projection = dynamics.pca_projection(hidden, 3)
    with dynamics.projected(model, "4", projection) as changed, torch.no_grad():
        found = changed(images).numpy()
    with torch.no_grad():
        expected = model[5](torch.from_numpy(projection(hidden))).numpy()
        whole = model(images).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-10)
    assert np.abs(found - whole).max() > 1e-3
    with pytest.raises(ZeroDivisionError), dynamics.projected(model, "4", projection):
        _ = 1 / 0
    with torch.no_grad():
        np.testing.assert_array_equal(model(images).numpy(), whole)


def test_channels_are_projected_at_every_place(network):
    import torch

    model, images = network
    maps = outputs(model, images, 1)
    rows = maps.transpose(0, 2, 3, 1).reshape(-1, 3)
    projection = dynamics.pca_projection(rows, 2)
    with dynamics.projected(model, "1", projection), torch.no_grad():
        found = model[:2](images), model(images)
    expected = projection(rows).reshape(60, 2, 2, 3).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(model[2:](torch.from_numpy(expected)).detach(), found[1], atol=1e-10)
    flat = dynamics.pca_projection(maps.reshape(60, -1), 4)
    with dynamics.projected(model, "1", flat), torch.no_grad():
        found = model(images)
    expected = flat(maps.reshape(60, -1)).reshape(maps.shape)
    np.testing.assert_allclose(model[2:](torch.from_numpy(expected)).detach(), found, atol=1e-10)


def test_the_accuracy_that_is_kept_grows_to_the_whole(network):
    model, images = network
    labels = outputs(model, images, 5).argmax(axis=1)
    hidden, logits = outputs(model, images, 4), outputs(model, images, 5)
    varying = np.linalg.matrix_rank(hidden - hidden.mean(axis=0))
    kinds = {
        "svcca": {k: dynamics.svcca_projection(hidden, logits, k, variance=1) for k in (1, 4)},
        "pca": {k: dynamics.pca_projection(hidden, k) for k in (1, varying)},
    }
    model.train()
    found = dynamics.accuracy_kept(model, "4", images.split(25), labels, kinds)
    assert model.training
    assert found.attrs["full"] == 1
    assert float(found.sel(kind="pca", k=varying)) == 1
    assert float(found.sel(kind="svcca", k=1)) < 1
    with pytest.raises(ShapeError, match="There are 60 stimuli in the batches and 59 labels"):
        dynamics.accuracy_kept(model, "4", images.split(25), labels[1:], {})


def test_a_compressed_layer_does_what_the_layer_does_to_its_projected_input(network):
    import torch

    model, images = network
    hidden = outputs(model, images, 4)
    projection = dynamics.svcca_projection(hidden, outputs(model, images, 5), 3)
    small = dynamics.compressed(model[5], projection)
    with torch.no_grad():
        expected = model[5](torch.from_numpy(projection(hidden)))
        torch.testing.assert_close(small(torch.from_numpy(hidden)), expected, rtol=0, atol=1e-10)
    assert sum(p.numel() for p in small.parameters()) == 3 * (8 + 4) + 3 + 4
    free = torch.nn.Linear(8, 4, bias=False).double()
    torch.testing.assert_close(
        dynamics.compressed(free, projection)(torch.from_numpy(hidden)), free(torch.from_numpy(projection(hidden)))
    )
    with pytest.raises(ShapeError, match="The layer takes 12 values, and the projection is for 8"):
        dynamics.compressed(model[3], projection)


def test_layers_that_do_not_fit_are_refused(network):
    import torch

    model, images = network
    projection = dynamics.pca_projection(outputs(model, images, 4), 3)
    with pytest.raises(UnknownNameError, match="The network has no module 'hidden'"), dynamics.projected(model, "hidden", projection):  # fmt: skip
        pass
    with pytest.raises(ShapeError, match=r"'3' puts out shape \(60, 8\)|'5' puts out shape \(60, 4\), and the projection is for 8"), dynamics.projected(model, "5", projection):  # fmt: skip
        model(images)
    recurrent = torch.nn.Sequential(torch.nn.GRU(4, 8)).double()
    with pytest.raises(InputError, match="'0' puts out tuple and no tensor"), dynamics.projected(recurrent, "0", projection):  # fmt: skip
        recurrent(images[:, 0])
