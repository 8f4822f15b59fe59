"""Comparison: labels, tables, conversions and what it looks like."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from congruence.errors import Caveat, ParameterError, ShapeError, UnknownNameError
from congruence.measures import measure
from congruence.results import Comparison

FLOOR = Caveat("cca_floor", "ranks exceed n - 1, so the value is at least 0.4", 0.4)
TIES = Caveat("pwcca_ties", "two correlations are equal")
NASTY = ["<script>alert(1)</script>", "quote\"'&", "slash/ünï{{code}}"]


def make(a=("x", "y", "z"), b=("x", "y"), specs=("cka", "procrustes"), **changes) -> Comparison:
    measures = [measure(spec) for spec in specs]
    shape = (len(measures), len(a), len(b))
    value = np.linspace(0.05, 0.95, math.prod(shape)).reshape(shape)
    return Comparison.build(measures, a, b, **{"value": value, **changes})


# ---- building --------------------------------------------------------------------------------------------------------


def test_values_carry_the_true_names() -> None:
    found = make()
    assert found.dataset["value"].dims == ("measure", "a", "b")
    assert (found.measures, found.a, found.b) == (("cka", "procrustes"), ("x", "y", "z"), ("x", "y"))
    matrix = found.matrix("procrustes")
    assert matrix.dims == ("a", "b")
    assert matrix.sel(a="z", b="x").item() == found.dataset["value"].values[1, 2, 0]
    assert matrix.attrs["orientation"] == "distance"


def test_nothing_is_plausible_where_a_pair_failed() -> None:
    status = np.full((2, 3, 2), "ok", dtype=object)
    status[0, 1, 1] = "failed"
    found = make(status=status, reason=np.where(status == "failed", "constant", ""))
    assert math.isnan(found.matrix("cka").sel(a="y", b="y"))
    assert found.failures().to_dict("records") == [{"measure": "cka", "a": "y", "b": "y", "reason": "constant"}]


def test_standard_errors_are_there_only_if_they_were_estimated(tmp_path) -> None:
    assert "standard_error" not in make().dataset
    status = np.full((2, 3, 2), "ok", dtype=object)
    status[0, 1, 1] = "failed"
    found = make(status=status, standard_error=0.25)
    errors = found.dataset["standard_error"]
    assert np.isnan(errors.values[0, 1, 1])
    assert errors.sel(measure="cka", a="x", b="y").item() == 0.25
    assert not found.equals(make(status=status))
    assert Comparison.load(found.save(tmp_path / "run")).equals(found)
    assert (
        found.as_distance(measures=["cka"])
        .dataset["standard_error"]
        .equals(errors.assign_coords(measure=["cka|one_minus", "procrustes"]))
    )
    with pytest.raises(ShapeError, match=r"standard_error must have shape \(2, 3, 2\)"):
        make(standard_error=np.zeros(3))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"value": np.zeros((2, 2, 3))}, ShapeError, r"value must have shape \(2, 3, 2\) .* got \(2, 2, 3\)"),
        ({"n": np.zeros(3)}, ShapeError, r"n must have shape \(2, 3, 2\)"),
        ({"status": np.full((2, 3), "ok")}, ShapeError, "status must have shape"),
        ({"caveats": np.full((2, 3), None)}, ShapeError, "caveats must have shape"),
        ({"status": "done"}, ParameterError, "status must be one of ok, failed, skipped; got 'done'"),
        ({"a": ("x", "x", "z")}, ParameterError, "Names in a must differ; 'x' is there more than once"),
        ({"b": (), "value": 0.0}, ShapeError, "at least one name in b"),
        ({"specs": ("cka", "cka:kernel=linear")}, ParameterError, "Names in measures must differ; 'cka'"),
        ({"provenance": {"model": object()}}, ParameterError, "provenance must be plain data"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, error, message) -> None:
    with pytest.raises(error, match=message):
        make(**changes)


def test_it_cannot_be_changed() -> None:
    value = np.full((2, 3, 2), 0.5)
    found = make(value=value)
    value[:] = 9
    with pytest.raises(ValueError, match="read-only"):
        found.dataset["value"].values[0, 0, 0] = 9
    found.dataset["more"] = 1
    found.matrix("cka")[0, 0] = 9
    with pytest.raises(FrozenInstanceError):
        found.infos = {}
    assert list(found.dataset.data_vars) == ["value", "status", "reason", "warnings", "n", "seconds"]
    assert found.matrix("cka").values.max() == 0.5


def test_caveats_may_be_given_as_mapping_or_array() -> None:
    cells = np.full((2, 3, 2), None, dtype=object)
    cells[1, 2, 0] = (FLOOR, TIES)
    by_array, by_mapping = make(caveats=cells), make(caveats={(1, 2, 0): (FLOOR, TIES)})
    assert by_array.equals(by_mapping)
    assert by_array.caveats("procrustes", "z", "x") == (FLOOR, TIES)
    assert by_array.caveats("procrustes", "z", "y") == ()
    levels = by_array.levels("procrustes")
    assert levels.sel(a="z", b="x").item() == 0.4
    assert np.isnan(levels.sel(b="y")).all()


def test_the_level_nearest_to_identity_counts() -> None:
    two = (Caveat("first", "", 0.2), Caveat("second", "", 0.7))
    found = make(caveats={(0, 0, 0): two, (1, 0, 0): two})
    assert found.levels("cka").values[0, 0] == 0.7  # similarity
    assert found.levels("procrustes").values[0, 0] == 0.2  # distance


# ---- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spelling",
    ["cka:estimator=debiased", "cka:estimator=debiased,kernel=linear", measure("cka", estimator="debiased")],
)
def test_every_spelling_finds_the_measure(spelling) -> None:
    found = make(specs=("cka", "cka:estimator=debiased"))
    assert found.label(spelling) == "cka:estimator=debiased"
    np.testing.assert_array_equal(found.matrix(spelling).values, found.dataset["value"].values[1])
    assert found.info(spelling) == measure("cka:estimator=debiased").info


@pytest.mark.parametrize("name", ["svcca", "procrustez", "cka:kernel=rbf", "no:such=thing", ""])
def test_a_measure_that_is_not_there_is_an_error_with_the_closest(name) -> None:
    with pytest.raises(UnknownNameError, match=rf"no measure '{name}'.*(Closest|Available): .*(cka|procrustes)"):
        make().matrix(name)


def test_a_representation_that_is_not_there_is_an_error_with_the_closest() -> None:
    with pytest.raises(UnknownNameError, match="Side b .* no 'z'. Available: x, y"):
        make().caveats("cka", "x", "z")


# ---- distances -------------------------------------------------------------------------------------------------------


def test_distances_know_that_they_are_distances() -> None:
    found = make(specs=("cka", "svcca"), caveats={(0, 0, 0): (FLOOR,)})
    far = found.as_distance()
    assert far.measures == ("cka|one_minus", "svcca|one_minus")
    for spelling in ("cka", "cka:kernel=linear", "cka|one_minus", "cka:kernel=linear|one_minus"):
        np.testing.assert_array_equal(far.matrix(spelling).values, 1 - found.matrix("cka").values)
    assert (far.info("cka").orientation, far.info("cka").identity) == ("distance", 0)
    (caveat,) = far.caveats("cka", "x", "x")
    assert caveat.level == 0.6
    assert caveat.text.startswith("of the similarity s: ranks exceed")


def test_one_measure_can_be_converted_among_others() -> None:
    found = make(specs=("cka", "procrustes"))
    far = found.as_distance("angular", measures=["cka:kernel=linear"])
    assert far.measures == ("cka|angular", "procrustes")
    # arccos of values away from 1: a few units in the last place
    np.testing.assert_allclose(np.cos(far.matrix("cka").values), found.matrix("cka").values, rtol=0, atol=1e-15)
    assert far.info("cka").is_metric
    assert far.matrix("procrustes").equals(found.matrix("procrustes"))


@pytest.mark.parametrize(
    ("spec", "how", "message"),
    [
        ("procrustes", "one_minus", "procrustes is already a distance"),
        ("cka:estimator=debiased", "angular", "cka:estimator=debiased is a similarity and has one_minus"),
        ("svcca", "angular", "svcca is a similarity and has one_minus"),
        ("cka", "squared", "as_distance\\(how='squared'\\) is not defined"),
    ],
)
def test_conversions_that_make_no_sense_are_refused(spec, how, message) -> None:
    with pytest.raises(ParameterError, match=message):
        make(specs=(spec,)).as_distance(how)
    with pytest.raises(ParameterError, match=r"has no conversion"):
        make(specs=("cka",)).as_distance().as_distance()


# ---- tables ----------------------------------------------------------------------------------------------------------


def test_one_row_a_cell_without_those_not_asked_for(tmp_path) -> None:
    status = np.full((2, 3, 2), "ok", dtype=object)
    status[:, 0, 1] = "skipped"
    status[0, 1, 1] = "failed"
    value = np.random.default_rng(0).standard_normal((2, 3, 2)) / 3
    found = make(value=value, status=status, reason=np.where(status == "failed", 'a "reason", \n here', ""),
                 caveats={(1, 2, 0): (FLOOR, TIES)}, n=7, seconds=0.25)  # fmt: skip
    table = found.to_dataframe()
    assert list(table.columns) == ["measure", "a", "b", "value", "status", "reason", "warnings", "n", "seconds"]
    assert len(table) == 10
    assert "skipped" not in set(table["status"])
    row = table[(table["measure"] == "procrustes") & (table["a"] == "z") & (table["b"] == "x")].iloc[0]
    assert row["warnings"] == f"{FLOOR} (unrelated data: 0.4); {TIES}"
    assert (row["n"], row["seconds"]) == (7, 0.25)

    path = found.to_csv(tmp_path / "new" / "comparison.csv")
    assert re.search(r",nan,failed,", path.read_text())
    with path.open(newline="") as file:
        read = list(csv.DictReader(file))
    for name in table.columns:
        convert = float if name in {"value", "seconds"} else int if name == "n" else str
        np.testing.assert_array_equal([convert(row[name]) for row in read], table[name].tolist())
    assert [file.name for file in path.parent.iterdir()] == ["comparison.csv"]


def test_equality_is_about_numbers_and_names() -> None:
    found = make(seconds=1.0)
    assert found.equals(make(seconds=2.0, provenance={"time": 3}))
    assert not found.equals(make(seconds=2.0), ignore_seconds=False)
    for change in ({"n": 5}, {"reason": "x"}, {"caveats": {(0, 0, 0): (TIES,)}}, {"a": ("x", "y", "q")}, {"status": "failed"},
                   {"specs": ("procrustes", "cka")}, {"value": np.linspace(0.05, 0.9, 12).reshape(2, 3, 2)}):  # fmt: skip
        assert not found.equals(make(seconds=1.0, **change)), change


# ---- looks -----------------------------------------------------------------------------------------------------------


def test_a_terminal_sees_the_counts() -> None:
    status = np.full((2, 3, 2), "ok", dtype=object)
    status[0] = "failed"
    lines = repr(make(status=status, caveats={(1, 0, 0): (FLOOR,)})).splitlines()
    assert lines[0] == "Comparison: 3 x 2 representations, 2 measures"
    assert lines[1].split() == ["measure", "least", "median", "greatest", "ok", "failed", "skipped", "warned"]
    assert lines[2].split() == ["cka", "-", "-", "-", "0", "6", "0", "0"]
    assert lines[3].split() == ["procrustes", "0.5409", "0.7455", "0.95", "6", "0", "0", "1"]


def test_a_notebook_shows_every_label_escaped() -> None:
    page = make(a=NASTY, b=("x", "\udcff"))._repr_html_()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script" not in page
    assert "quote&quot;&#x27;&amp;" in page
    assert "\\udcff" in page
    assert page.encode()
    assert 'title="0.05"' in page


def test_a_notebook_is_spared_hundreds_of_layers() -> None:
    names = [f"layer{i}" for i in range(400)]
    page = make(a=names, b=names, specs=("cka",))._repr_html_()
    assert len(page) < 40_000
    assert "layer0" in page
    assert "layer399" in page
    assert ">layer200<" not in page
    assert "1 measure" in page
    assert "layer0, layer1, layer2, ... (400 names), layer398, layer399" in repr(make(a=names, b=names, specs=("cka",)))


def test_many_measures_are_counted() -> None:
    specs = [f"mutual_knn:k={k}" for k in range(2, 20)]
    assert "10 more measures" in make(specs=specs)._repr_html_()
