"""Figures: true labels, true values, colours that fit the measure."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from congruence import figures
from congruence.errors import Caveat, MissingExtraError, ParameterError
from congruence.measures import measure
from congruence.results import Comparison

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")
import matplotlib.pyplot as plt  # noqa: E402


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def compare(a, b, specs=("cka",), value=None, **changes) -> Comparison:
    measures = [measure(spec) for spec in specs]
    shape = (len(measures), len(a), len(b))
    value = np.random.default_rng(0).random(shape) if value is None else value
    return Comparison.build(measures, a, b, value=np.broadcast_to(value, shape), **changes)


# ---- heatmap ---------------------------------------------------------------------------------------------------------


def test_a_heatmap_has_the_names_and_the_values_in_execution_order() -> None:
    found = compare(["late", "early"], ["b1", "$b2$", "b3"])
    ax = found.plot(measure="cka")
    image = ax.images[0]
    np.testing.assert_array_equal(image.get_array(), found.matrix("cka").values)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["late", "early"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["b1", r"\$b2\$", "b3"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first row is at the top
    assert ax.get_title() == "cka"
    assert sorted(text.get_text() for text in ax.texts) == sorted(
        f"{v:.2f}" for v in found.matrix("cka").values.ravel()
    )


def test_it_draws_where_it_is_told() -> None:
    _, given = plt.subplots()
    assert compare(["x"], ["y"]).plot(ax=given) is given


def test_hundreds_of_layers_get_as_many_labels_as_can_be_read() -> None:
    names = [f"layer{i}" for i in range(300)]
    ax = compare(names, names).plot()
    shown = [tick.get_text() for tick in ax.get_yticklabels()]
    assert len(shown) <= figures.MOST_TICKS
    assert shown == [names[int(place)] for place in ax.get_yticks()]
    assert not ax.texts


def test_long_names_keep_both_ends() -> None:
    name = "model." + "x" * 80 + ".attention"
    ax = compare([name], ["y"]).plot()
    (shown,) = [tick.get_text() for tick in ax.get_yticklabels()]
    assert shown.startswith("model.")
    assert shown.endswith(".attention")
    assert len(shown) == 40


def test_missing_values_are_not_drawn_as_numbers() -> None:
    found = compare(["x", "y"], ["x"], value=np.array([[0.5], [np.nan]]))
    ax = found.plot()
    assert [text.get_text() for text in ax.texts] == ["0.50"]
    ax.figure.canvas.draw()


@pytest.mark.parametrize(
    ("spec", "values", "low", "high", "most_alike"),
    [
        ("cka", [0.2, 0.9], 0, 1, figures.PALETTES["sequential"][-1]),
        ("cka:estimator=debiased", [0.2, 0.9], -1, 1, figures.PALETTES["diverging"][-1]),
        ("procrustes", [0.2, 0.9], 0, np.pi / 2, figures.PALETTES["sequential"][-1]),
        ("procrustes:form=size_and_shape", [3.0, 7.0], 0, 7, figures.PALETTES["sequential"][-1]),
    ],
)
def test_colours_span_the_range_and_brighter_is_more_alike(spec, values, low, high, most_alike) -> None:
    found = compare(["x"], ["y", "z"], [spec], value=np.array(values))
    colours = figures.colour_scale(found.matrix(spec), found.info(spec))
    assert (colours.low, colours.high) == (low, high)
    identical = low if found.info(spec).orientation == "distance" else high
    assert colours.colour(identical)[0] == most_alike
    assert colours.colour(colours.low)[0] == colours.stops[0]


def test_colours_can_span_the_data_and_survive_one_value() -> None:
    found = compare(["x"], ["y", "z"], value=np.array([0.25, 0.75]))
    colours = figures.colour_scale(found.matrix("cka"), found.info("cka"), "data")
    assert (colours.low, colours.high) == (0.25, 0.75)
    for value in (0.5, np.nan):
        flat = compare(["x"], ["y", "z"], ["cka", "cka:estimator=debiased"], value=value)
        for spec in flat.measures:
            colours = figures.colour_scale(flat.matrix(spec), flat.info(spec), "data")
            assert colours.low < colours.high


def test_ink_can_be_read_on_every_colour() -> None:
    found = compare(["x"], ["y"])
    colours = figures.colour_scale(found.matrix("cka"), found.info("cka"))
    assert colours.colour(0.0) == (figures.PALETTES["sequential"][0], "#ffffff")
    assert colours.colour(1.0) == (figures.PALETTES["sequential"][-1], "#000000")


# ---- curve -----------------------------------------------------------------------------------------------------------


def test_equal_names_make_the_curve_whatever_their_order() -> None:
    found = compare(["p", "q", "only_a", "r"], ["r", "q", "p"])
    curve = figures.depth_curve(found.matrix("cka"), found.info("cka"))
    assert curve.attrs["kind"] == "matched"
    assert curve["layer"].values.tolist() == curve["partner"].values.tolist() == ["p", "q", "r"]
    assert curve.values.tolist() == [found.matrix("cka").sel(a=name, b=name).item() for name in ("p", "q", "r")]


def test_within_one_network_each_layer_meets_the_next() -> None:
    value = np.array([[1.0, 0.7, 0.2], [0.7, 1.0, 0.6], [0.2, 0.6, 1.0]])
    found = compare(["p", "q", "r"], ["p", "q", "r"], value=value)
    curve = figures.depth_curve(found.matrix("cka"), found.info("cka"))
    assert curve.attrs["kind"] == "next"
    assert curve.values.tolist() == [0.7, 0.6]
    assert curve["partner"].values.tolist() == ["q", "r"]
    alone = compare(["p", "q", "r"], ["p", "q", "r"], value=np.where(np.eye(3) == 1, 1.0, np.nan))
    assert figures.curve_kind([(alone.matrix("cka"), alone.info("cka"))]) == "matched"


@pytest.mark.parametrize(("spec", "partners"), [("cka", ["u", "v"]), ("procrustes", ["w", "u"])])
def test_without_common_names_the_most_similar_layer_counts(spec, partners) -> None:
    found = compare(["p", "q"], ["u", "v", "w"], [spec], value=np.array([[0.9, 0.5, 0.1], [0.2, 0.8, np.nan]]))
    curve = figures.depth_curve(found.matrix(spec), found.info(spec))
    assert curve.attrs["kind"] == "best"
    assert curve["partner"].values.tolist() == partners


def test_the_curve_shows_the_values_and_what_unrelated_data_would_give() -> None:
    found = compare(["p", "q"], ["p", "q"], caveats={(0, 1, 1): (Caveat("floor", "t", 0.3),)})
    ax = found.plot("layers")
    values, level = ax.lines
    np.testing.assert_array_equal(values.get_ydata(), np.diagonal(found.matrix("cka").values))
    np.testing.assert_array_equal(level.get_ydata(), [np.nan, 0.3])
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["p", "q"]
    assert ax.get_title() == figures.CURVES["matched"]
    assert len(compare(["p", "q"], ["p", "q"]).plot("layers").lines) == 1


# ---- refusals --------------------------------------------------------------------------------------------------------


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"plot.kind must be heatmap\|layers; got 'pie'"):
        compare(["x"], ["y"]).plot("pie")


@pytest.mark.parametrize("kind", ["heatmap", "layers"])
def test_without_matplotlib_the_extra_is_named(monkeypatch, kind) -> None:
    for module in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"Plotting needs matplotlib; .*congruence\[plot\]"):
        compare(["x"], ["y"]).plot(kind)
