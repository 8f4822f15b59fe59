"""A recorded run over time: convergence, panes, velocity, paths, and when layers converge."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats
from torch import nn

import congruence as cg
import reference
from congruence import dynamics
from congruence.dynamics import CheckpointSeries, Recorder
from congruence.errors import (
    CongruenceWarning,
    DegenerateError,
    ParameterError,
    ShapeError,
    StoreError,
    UnknownNameError,
)

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")
import matplotlib.pyplot as plt  # noqa: E402

STEPS, N = (0, 2, 4, 6, 7), 40


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2))


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    out = tmp_path_factory.mktemp("series") / "run.zarr"
    model = net()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.3)
    x = torch.randn(N, 4)
    with Recorder(model, [x[:25], x[25:]], ["0", "2", "4"], every=2, out=out, ids=range(100, 100 + N)) as recorder:
        for _ in range(7):
            recorder.step()
            optimiser.zero_grad()
            (model(x) - x[:, :2] * x[:, 2:]).square().mean().backward()
            optimiser.step()
    return cg.open(out)


def values(series, step, layer):
    return series[step].array(layer).astype(float)


# ---- what is there ---------------------------------------------------------------------------------------------------


def test_a_run_is_opened_as_a_series(series):
    assert isinstance(series, CheckpointSeries)
    assert series.steps == tuple(series) == STEPS
    assert series.layers == series.definition_order == ("0", "2", "4")
    assert series.finished
    assert series.diverged is None
    assert series.schedule == "every 2"
    assert list(series.ids) == [str(k) for k in range(100, 100 + N)]
    assert len(series) == 5
    assert 4 in series
    assert 5 not in series
    assert series[4].shape("2") == (N, 5)
    assert "5 steps from 0 to 7, 3 layers)" in repr(series)


def test_an_unknown_step_or_layer_is_refused(series):
    with pytest.raises(UnknownNameError, match="has no step 5. Available: 0, 2, 4, 6, 7"):
        series[5]
    with pytest.raises(UnknownNameError, match="has no layer '1'"):
        series.convergence(layers=["1"])
    with pytest.raises(UnknownNameError, match="has no step 3"):
        series.convergence(against=3)
    with pytest.raises(ParameterError, match="at least one layer and one step"):
        series.convergence(layers=[])


def test_a_folder_without_a_complete_step_is_no_series(tmp_path):
    with pytest.raises(StoreError, match="does not exist"):
        CheckpointSeries(tmp_path / "nothing")
    recorder = Recorder(net(), torch.ones(3, 4), out=tmp_path / "run.zarr")
    recorder.step()
    recorder.close()
    assert not cg.open(tmp_path / "run.zarr").finished
    (tmp_path / "run.zarr/steps/000000000/zarr.json").unlink()
    with pytest.raises(StoreError, match="has no complete step yet"):
        cg.open(tmp_path / "run.zarr")


# ---- over training ---------------------------------------------------------------------------------------------------


def test_convergence_is_each_layer_against_itself_at_the_end(series):
    found = series.convergence("svcca")
    assert found.dims == ("layer", "step")
    assert found.name == found.attrs["measure"] == "svcca"
    assert found.attrs["against"] == 7
    for layer, step in itertools.product(series.layers, STEPS):
        expected = reference.svcca(values(series, step, layer), values(series, 7, layer))
        # both are computed in float64 from the same float32 values, by different decompositions
        assert float(found.sel(layer=layer, step=step)) == pytest.approx(expected, abs=1e-9)
    assert (found.sel(step=7) > 1 - 1e-9).all()


def test_convergence_of_some_layers_at_some_steps_against_another(series):
    found = series.convergence(cg.measure("cka"), layers=["4", "0"], at=[4, 0], against=2)
    assert found["layer"].values.tolist() == ["4", "0"]
    assert found["step"].values.tolist() == [0, 4]
    expected = reference.cka(values(series, 4, "0"), values(series, 2, "0"))
    assert float(found.sel(layer="0", step=4)) == pytest.approx(expected, abs=1e-9)


def test_panes_are_all_layers_against_all_layers_at_the_end(series):
    found = series.against_final("cka")
    assert found.dims == ("step", "layer", "final_layer")
    for layer, final in itertools.product(series.layers, repeat=2):
        expected = reference.cka(values(series, 2, layer), values(series, 7, final))
        assert float(found.sel(step=2, layer=layer, final_layer=final)) == pytest.approx(expected, abs=1e-9)
    diagonal = np.stack([np.diagonal(pane) for pane in found.values], axis=1)
    # blocks of pairs of different sizes sum in another order
    np.testing.assert_allclose(diagonal, series.convergence("cka").values, atol=1e-12)


def test_velocity_is_the_distance_to_the_step_before_per_update(series):
    found = series.velocity("shape")
    assert found["step"].values.tolist() == [2, 4, 6, 7]
    assert found["since"].values.tolist() == [0, 2, 4, 6]
    for layer, since, step in (("0", 0, 2), ("4", 6, 7)):
        expected = reference.shape(values(series, since, layer), values(series, step, layer)) / (step - since)
        # an angle close to 0 has half of the digits of its cosine
        assert float(found.sel(layer=layer, step=step)) == pytest.approx(expected, abs=1e-7)
    alike = series.velocity("cka", layers="2", at=[0, 6])
    assert alike.name == "cka|one_minus"
    assert alike.attrs["orientation"] == "distance"
    expected = 1 - reference.cka(values(series, 0, "2"), values(series, 6, "2"))
    assert float(alike[0, 0]) == pytest.approx(expected / 6, abs=1e-9)


def test_a_velocity_needs_two_steps(series):
    with pytest.raises(ParameterError, match="needs two recorded steps or more; got .4."):
        series.velocity(at=[4])


def test_distances_are_labelled_with_layer_and_step(series):
    found = series.distances(layers=["2", "0"], at=[0, 7])
    assert found["state"].values.tolist() == ["0/2", "7/2", "0/0", "7/0"]
    assert found["layer"].values.tolist() == ["2", "2", "0", "0"]
    expected = reference.shape(values(series, 7, "2"), values(series, 0, "0"))
    assert float(found.sel(state="7/2", other="0/0")) == pytest.approx(expected, abs=1e-7)
    with pytest.raises(ParameterError, match="cka is a similarity; distances need a distance"):
        series.distances("cka")


def test_large_layers_stay_on_disk_with_the_same_numbers(series, monkeypatch):
    expected = series.convergence("cka", steps="unit_norm")
    monkeypatch.setattr("congruence.dynamics.series.is_large", lambda size: True)
    found = series.convergence("cka", steps="unit_norm")
    # sums over stimuli in parts round differently
    np.testing.assert_allclose(found.values, expected.values, atol=1e-10)
    np.testing.assert_allclose(series.convergence("cka", steps="pca:components=2")[:, -1], 1, atol=1e-10)


def diverging(folder, step):
    """A run of three steps of which one, and those after it, is not finite."""
    model, x = net(), torch.randn(20, 4, generator=torch.Generator().manual_seed(3))
    with Recorder(model, x, "4", every=1, out=folder / "run.zarr") as recorder:
        for k in range(3):
            with torch.no_grad():
                model[4].weight += 0.1 * k
                if k >= step:
                    model[4].bias[0] = torch.nan
                if k >= step:
                    with pytest.warns(CongruenceWarning, match=f"diverged: Step {k}"):
                        recorder.step()
                else:
                    recorder.step()
        if step < 3:
            with pytest.warns(CongruenceWarning, match="diverged: Step 3"):
                recorder.finish()
    return cg.open(folder / "run.zarr")


def test_a_run_that_diverged_says_where(tmp_path):
    series = diverging(tmp_path, 1)
    assert series.diverged == 1
    assert series.finite == (0,)
    assert series.nonfinite == {step: {"4": 20} for step in (1, 2, 3)}
    assert "not finite from step 1 on" in repr(series)
    lost = r"diverged at step 1\. 3 of 4 states hold values that are not finite \(first: 1/4\)"
    final = r"1 of the layers have no state at step 3, with which the others are compared \(first: 4\)"
    instead = r"up to the last step before that with at=run\.finite, against=0\."
    for compared in (series.convergence, series.against_final):
        with pytest.raises(DegenerateError, match=f"Nothing can be compared: .*{lost}.*svcca failed for 4 of 4 pairs.*{final}.*{instead}"):  # fmt: skip
            compared()
    with pytest.warns(CongruenceWarning, match=f"diverged: .*{lost}, so that cka failed for 3 of 4 pairs.*{instead}"):
        found = series.convergence("cka", against=0)
    assert np.isnan(found.values[0, 1:]).all()
    assert found.values[0, 0] == pytest.approx(1)
    with pytest.raises(
        DegenerateError, match=r"Nothing can be compared: .*diverged at step 1\. .* with at=run\.finite\."
    ):
        series.velocity("procrustes")


@pytest.fixture(scope="module")
def diverged(tmp_path_factory):
    """A run of six steps whose last layer is not finite from step 3 on, and the one below it from step 4 on."""
    model, x = net(), torch.randn(20, 4, generator=torch.Generator().manual_seed(3))
    recorder = Recorder(model, x, ["0", "2", "4"], every=1, out=tmp_path_factory.mktemp("lost") / "run.zarr")

    def train():
        for k in range(5):
            model[0].weight += 0.1 * k
            model[2].weight += 0.1 * torch.eye(5, 6) * k
            if k == 3:
                model[4].bias[:] = torch.nan
            if k == 4:
                model[2].bias[0] = torch.inf
            recorder.step()
        recorder.finish()

    with torch.no_grad(), pytest.warns(CongruenceWarning, match="diverged"):
        train()
    return cg.open(recorder.path)


def test_layers_that_have_no_final_state_are_named_with_the_step(diverged):
    assert diverged.diverged == 3
    assert diverged.finite == (0, 1, 2)
    with pytest.warns(CongruenceWarning, match=r"diverged at step 3\. 5 of 18 states .*first: 3/4.*failed for 12 of 18 pairs\. 2 of the layers have no state at step 5.*first: 2.*against=2") as caught:  # fmt: skip
        curve = diverged.convergence("cka")
    assert len(caught) == 1
    assert curve.attrs["diverged"] == 3
    assert np.isfinite(curve.sel(layer="0")).all()
    with pytest.warns(CongruenceWarning, match=r"run diverged at step 3, so that 2 of 3 layers have no time \(first: 2\). Take the curve up to the last finite step"):  # fmt: skip
        times = dynamics.time_to(curve, of="way")
    assert np.isfinite(times.values).tolist() == [True, False, False]
    with pytest.raises(DegenerateError, match="have no order: .*The run diverged at step 3. Take the curve"):
        dynamics.bottom_up(times)


def test_up_to_the_last_finite_step_a_diverged_run_is_a_run(diverged):
    last = diverged.finite[-1]
    curve = diverged.convergence("cka:estimator=debiased", at=diverged.finite, against=last)
    assert "diverged" not in curve.attrs
    assert curve.sel(step=last).values == pytest.approx([1, 1, 1])
    assert np.isfinite(dynamics.time_to(curve, of="way").values).all()
    assert np.isfinite(dynamics.trajectories(diverged.distances("procrustes", at=diverged.finite))).all()


def test_a_final_step_that_other_layers_lost_is_said(diverged):
    with pytest.warns(CongruenceWarning, match="diverged at step 3. At step 5, with which the others are compared, layer 2 holds values that are not finite. .*against=2"):  # fmt: skip
        curve = diverged.convergence("cka", layers="0")
    assert np.isfinite(curve.values).all()
    assert curve.attrs["diverged"] == 3


def test_paths_and_speeds_of_a_diverged_run_name_the_step(diverged):
    with pytest.warns(
        CongruenceWarning, match="diverged at step 3. 5 of 18 states .*procrustes failed for 5 of 15 pairs"
    ):
        speed = diverged.velocity("procrustes")
    assert np.isfinite(speed.values).sum() == 10
    with pytest.warns(CongruenceWarning, match="diverged at step 3"):
        distances = diverged.distances("procrustes")
    with pytest.raises(
        DegenerateError, match="distances are missing. The run diverged at step 3: take distances before"
    ):
        dynamics.trajectories(distances)


def test_a_run_without_a_finite_step_has_nothing_to_compare_with(tmp_path):
    with pytest.raises(DegenerateError, match="diverged at step 0.*No recorded step is finite: record again"):
        diverging(tmp_path, 0).convergence("cka")


def test_caveats_are_said_once_for_all_layers(tmp_path):
    with Recorder(net(), torch.randn(7, 4), ["0", "2"], every=1, out=tmp_path / "run.zarr") as recorder:
        recorder.step()
    with pytest.warns(CongruenceWarning) as caught:
        cg.open(tmp_path / "run.zarr").convergence("cca")
    # seven stimuli; and the six units of layer 0 are linear in four numbers
    assert [warning.message.code for warning in caught] == ["cca_floor", "float32_directions"]
    assert "cca, 4 of 4 pairs" in str(caught[0].message)


# ---- when layers converge --------------------------------------------------------------------------------------------


def curve(rows, steps=(0, 10, 20, 40), orientation="similarity"):
    names = [f"layer{k}" for k in range(len(rows))]
    attributes = {"orientation": orientation, "measure": "cka"}
    return xr.DataArray(np.array(rows, float), {"layer": names, "step": list(steps)}, name="cka", attrs=attributes)


def test_the_time_to_a_fraction_of_the_final_similarity():
    found = dynamics.time_to(curve([[0.2, 0.6, 0.9, 1.0], [0.95, 0.97, 0.99, 1.0]]), 0.75)
    # 0.75 lies halfway between 0.6 at step 10 and 0.9 at step 20
    np.testing.assert_allclose(found.values, [15.0, 0.0])
    assert found.attrs == {"fraction": 0.75, "of": "final", "measure": "cka", "units": "steps"}


def test_the_time_to_a_share_of_the_way():
    similar = curve([[0.2, 0.6, 0.9, 1.0], [0.96, 0.97, 0.99, 1.0], [0.5, 0.5, 0.5, 0.5]])
    # 0.2 + 0.75 * 0.8 = 0.8, two thirds between 0.6 and 0.9; 0.96 + 0.75 * 0.04 = 0.99; no way at all
    np.testing.assert_allclose(dynamics.time_to(similar, 0.75, "way").values, [10 + 20 / 3, 20.0, np.nan])
    apart = curve([[1.0, 0.5, 0.1, 0.0]], orientation="distance")
    np.testing.assert_allclose(dynamics.time_to(apart, 0.7, "way").values, [15.0])


def test_gaps_are_bridged_and_missing_ends_have_no_time():
    found = dynamics.time_to(curve([[0.2, np.nan, 0.8, 1.0], [np.nan, 0.5, 0.8, 1.0]]), 0.5)
    np.testing.assert_allclose(found.values, [10.0, np.nan])


def test_times_refuse_a_curve_that_does_not_end_at_its_final_state(series):
    for chosen in ({"against": series.steps[1]}, {"at": series.steps[:-1]}):
        curve = series.convergence("cka", **chosen)
        with pytest.raises(ParameterError, match="last step of a curve must be that of the state it is compared with"):
            dynamics.time_to(curve)
    assert np.isfinite(dynamics.time_to(series.convergence("cka", at=series.steps[:2], against=series.steps[1]))).all()


def test_times_refuse_what_they_cannot_mean():
    with pytest.raises(ParameterError, match="fraction must be between 0 and 1; got 1"):
        dynamics.time_to(curve([[0, 1, 1, 1]]), 1)
    with pytest.raises(ParameterError, match="of must be 'final' or 'way'"):
        dynamics.time_to(curve([[0, 1, 1, 1]]), of="start")
    with pytest.raises(ParameterError, match="cka is a distance, .* use of='way'"):
        dynamics.time_to(curve([[1, 1, 1, 0]], orientation="distance"))
    with pytest.raises(ShapeError, match="dimensions layer and step, with two steps"):
        dynamics.time_to(curve([[1]], steps=[0]))


def times(*columns, names="abcd"):
    return [xr.DataArray(np.array(column, float), {"layer": list(names)}, ("layer",)) for column in columns]


def brute_force(columns):
    """Spearman's correlations by SciPy, over every relabelling of every run."""
    orders = itertools.permutations(range(len(columns[0])))
    table = np.array([[stats.spearmanr(order, column)[0] for column in columns] for order in orders])  # identity first
    means = [np.mean(chosen) for chosen in itertools.product(*table.T)]
    return means[0], np.mean(np.array(means) >= means[0] - 1e-12)


@pytest.mark.parametrize("columns", [([1, 2, 3, 4],), ([1, 3, 2, 2],), ([5, 1, 9], [1, 2, 3])])
def test_the_bottom_up_test_is_exact_for_few_layers(columns):
    names = "abcd"[: len(columns[0])]
    found = dynamics.bottom_up(times(*columns, names=names)).all
    correlation, p = brute_force(columns)
    assert found.correlation == pytest.approx(correlation)
    assert found.p == pytest.approx(p)
    assert found.exact
    assert found.runs == pytest.approx([stats.spearmanr(range(len(c)), c)[0] for c in columns])


def test_hidden_layers_are_tested_by_themselves():
    found = dynamics.bottom_up(times([1, 2, 3, 0]))
    assert found.hidden.layers == ("a", "b", "c")
    assert found.hidden.correlation == pytest.approx(1)
    assert found.hidden.p == pytest.approx(1 / 6)
    assert found.all.correlation == pytest.approx(stats.spearmanr(range(4), [1, 2, 3, 0])[0])
    assert np.isnan(found.hidden.low)
    named = dynamics.bottom_up(times([1, 2, 3, 0]), hidden=["d", "b"], depth=["d", "c", "b", "a"])
    assert named.hidden.layers == ("d", "b")
    assert named.hidden.correlation == pytest.approx(1)


def test_a_sample_of_relabellings_agrees_with_all_of_them():
    columns = [[1, 3, 2, 4], [2, 1, 4, 3], [1, 2, 4, 3]]
    _, exact = brute_force(columns)
    found = dynamics.depth_test([*times(*columns), *times([1, 2, 3, 4])], "abcd", relabellings=20_000)
    assert not found.exact  # 24 ** 4 relabellings
    sampled = dynamics.depth_test(times(*columns), "abcd").p
    assert sampled == pytest.approx(exact)
    mean, scale = found.correlation, np.sqrt(1 / 3 / 4)  # Spearman's rho of 4 has variance 1/3, and there are 4 runs
    assert found.p == pytest.approx(stats.norm.sf(mean / scale), abs=0.03)  # the normal form is close, not exact


def test_the_interval_comes_from_resampled_runs():
    runs = times([1, 2, 3, 4], [1, 2, 3, 4], [4, 3, 2, 1], [1, 2, 3, 4])
    found = dynamics.depth_test(runs, "abcd")
    # the number of reversed runs among four drawn is binomial (4, 1/4): 2.5 % and 97.5 % are at 3 and 0 of them
    assert (found.low, found.high) == pytest.approx((1 - 2 * 3 / 4, 1.0))


def test_layers_without_a_time_are_left_out_and_counted():
    found = dynamics.depth_test(times([1, np.nan, 3, 4]), "abcd")
    assert found.left_out == 1
    assert found.correlation == pytest.approx(1)
    with pytest.raises(DegenerateError, match="same time, or none, have no order: a 5, b 5"):
        dynamics.depth_test(times([5, 5], names="ab"), "ab")
    with pytest.raises(UnknownNameError, match="no layer 'z'"):
        dynamics.bottom_up(times([1, 2, 3, 4]), hidden=["z"])
    with pytest.raises(UnknownNameError, match="no layer 'd'"):
        dynamics.bottom_up([*times([1, 2, 3, 4]), *times([1, 2, 3], names="abc")])
    with pytest.raises(ParameterError, match="at least one run"):
        dynamics.bottom_up([])


# ---- paths -----------------------------------------------------------------------------------------------------------


def apart(points):
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    names = [f"{k}/a" for k in range(len(points))]
    coordinates = {
        "state": names,
        "other": names,
        "step": ("state", range(len(points))),
        "layer": ("state", ["a"] * len(points)),
    }
    return xr.DataArray(
        distances, coordinates, ("state", "other"), name="shape", attrs={"is_metric": True, "measure": "shape"}
    )


def test_points_of_a_plane_are_found_again():
    points = np.random.default_rng(0).normal(size=(7, 2))
    found = dynamics.trajectories(apart(points))
    np.testing.assert_allclose(apart(found.values).values, apart(points).values, atol=1e-10)
    assert sum(found.attrs["explained"]) == pytest.approx(1)
    assert found["step"].values.tolist() == list(range(7))
    assert sum(dynamics.trajectories(apart(points), 1).attrs["explained"]) < 1


def test_paths_refuse_what_is_no_space():
    distances = apart(np.eye(3))
    with pytest.raises(ParameterError, match="shape is no metric"):
        dynamics.trajectories(distances.assign_attrs(is_metric=False))
    with pytest.raises(ParameterError, match="axes must be at least 1 and less than the 3 states; got 3"):
        dynamics.trajectories(distances, 3)
    with pytest.raises(ShapeError, match="must be a square matrix"):
        dynamics.trajectories(distances[:2])
    with pytest.raises(DegenerateError, match="2 of 9 distances are missing"):
        dynamics.trajectories(distances.where(distances["state"] != "0/a").where(np.eye(3) == 0, 0).fillna(np.nan))
    with pytest.raises(DegenerateError, match="All states are the same"):
        dynamics.trajectories(distances * 0)


def test_states_that_are_the_same_up_to_rounding_have_no_path(tmp_path):
    with Recorder(net(), torch.randn(20, 4, generator=torch.Generator().manual_seed(3)), "4", 1, tmp_path / "run.zarr") as recorder:  # fmt: skip
        for _ in range(4):
            recorder.step()
    for name in ("shape", "procrustes"):
        distances = cg.open(tmp_path / "run.zarr").distances(name)
        with pytest.raises(DegenerateError, match="All states are the same up to rounding"):
            dynamics.trajectories(distances)
        moved = distances + (1 - np.eye(len(distances))) * 1e-3  # all equally far from each other
        moved.attrs = distances.attrs
        assert dynamics.trajectories(moved).attrs["explained"] == pytest.approx([1 / (len(distances) - 1)] * 2)


# ---- pictures --------------------------------------------------------------------------------------------------------


def test_convergence_is_drawn_with_a_line_a_layer(series):
    found = series.convergence("cka")
    ax = dynamics.plot_convergence(found)
    assert [line.get_label() for line in ax.get_lines()] == ["0", "2", "4"]
    np.testing.assert_array_equal(ax.get_lines()[1].get_ydata(), found.sel(layer="2").values)
    np.testing.assert_array_equal(ax.get_lines()[1].get_xdata(), STEPS)
    assert ax.get_title() == "Each layer and itself at step 7"
    assert dynamics.plot_convergence(series.velocity()).get_ylabel() == "shape per update"


def test_panes_are_those_of_the_paper_by_default(series):
    panes = series.against_final("cka")
    axes = dynamics.plot_panes(panes)
    assert [ax.get_title() for ax in axes] == ["step 0", "step 2", "step 6", "step 7"]
    np.testing.assert_array_equal(axes[1].images[0].get_array(), panes.sel(step=2).values)
    assert len(dynamics.plot_panes(panes, at=[4])) == 1


def test_paths_are_drawn_a_line_a_layer(series):
    found = dynamics.trajectories(series.distances())
    ax = dynamics.plot_trajectories(found)
    own = found.values[[name == "2" for name in found["layer"].values]]
    np.testing.assert_array_equal(ax.get_lines()[1].get_xydata(), own[:, :2])
    with pytest.raises(ShapeError, match="needs two axes"):
        dynamics.plot_trajectories(dynamics.trajectories(series.distances(), 1))
    with pytest.raises(ShapeError, match="needs the dimensions layer, step"):
        dynamics.plot_convergence(found)


def test_results_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        dynamics.depth_test(times([1, 2, 3, 4]), "abcd").p = 0
