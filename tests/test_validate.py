"""Checks of what comes from outside: arrays of every library and type, parameters, names."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from congruence import validate
from congruence.errors import (
    CongruenceWarning,
    DegenerateError,
    InputError,
    MissingExtraError,
    ParameterError,
    ShapeError,
    UnknownNameError,
)
from congruence.measures import measure
from congruence.testing import gaussian
from congruence.validate import Interval, as_array, as_floating, features

# ---- what counts as an array -----------------------------------------------------------------------------------------


def test_arrays_pass_without_a_copy():
    x = gaussian(4, 2)
    assert as_array(x) is x
    assert as_floating(x) is x
    torch = pytest.importorskip("torch", reason="the torch extra is not installed")
    tensor = torch.ones((3, 2), dtype=torch.float64, requires_grad=True)
    assert not as_array(tensor).requires_grad
    assert as_array(tensor).data_ptr() == tensor.data_ptr()


def test_lists_and_numbers_become_arrays():
    assert as_array([[1.0, 2.0]]).shape == (1, 2)
    assert as_array(((1, 2), (3, 4))).shape == (2, 2)
    assert as_array(np.float64(3)).ndim == as_array(3).ndim == 0


def test_other_kinds_of_numpy_arrays_lose_their_special_meaning(tmp_path):
    values = gaussian(4, 3)
    path = tmp_path / "values.npy"
    np.save(path, values)
    mapped = np.load(path, mmap_mode="r")
    assert type(as_array(mapped)) is np.ndarray
    assert np.shares_memory(as_array(mapped), mapped)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        matrix = np.matrix(values)
    assert type(as_array(matrix)) is np.ndarray
    # for a matrix, x * x is a product of matrices
    assert measure("rsa")(matrix, values) == measure("rsa")(values, values)


NO_ARRAYS = [
    ("text", r"X must be an array \(NumPy, PyTorch, JAX or another array-API array\); got str"),
    ({"a": 1}, "X must be an array .*; got dict"),
    (None, "X must be an array .*; got NoneType"),
    ([["a", "b"]], "X must hold real numbers; got dtype <U1"),
    (np.array([[1, "a"]], dtype=object), "X must hold real numbers; got dtype object"),
    (np.array([[1j, 2]]), "X must hold real numbers; got dtype complex128"),
    (np.array(["2020-01-01"], dtype="datetime64[D]"), r"X must hold real numbers; got dtype datetime64\[D\]"),
    ([[1, 2], [3]], "X must have rows of equal length; got a list that is no matrix"),
    (np.ma.masked_invalid([[1.0, np.nan]]), "X is a masked array; no measure knows what to do with the masked values"),
]


@pytest.mark.parametrize(("value", "message"), NO_ARRAYS)
def test_what_is_no_array_of_numbers_is_refused(value, message):
    with pytest.raises(InputError, match=message):
        as_array(value)


def test_complex_tensors_are_refused():
    torch = pytest.importorskip("torch", reason="the torch extra is not installed")
    with pytest.raises(InputError, match=r"layer1 must hold real numbers; got dtype torch\.complex64"):
        as_array(torch.ones(2, dtype=torch.complex64), "layer1")
    jax = pytest.importorskip("jax", reason="the jax extra is not installed")
    with pytest.raises(InputError, match="X must hold real numbers; got dtype complex64"):
        as_array(jax.numpy.ones(2, dtype="complex64"))


# ---- precision -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [">f8", "<f8", ">f4", "f4", "longdouble"])
def test_floats_of_any_order_and_size_become_float64_in_silence(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = as_floating(np.array([[1.5, 2.0]], dtype=kind))
    assert found.dtype == np.dtype("=f8")
    assert found.tolist() == [[1.5, 2.0]]


@pytest.mark.parametrize(("dtype", "wanted"), [(None, "float64"), ("float32", "float32"), ("float64", "float64")])
@pytest.mark.parametrize("kind", ["float16", "float32", "int32", "bool", "uint8"])
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_precision_of_the_computation(library, kind, dtype, wanted):
    x = np.array([[1, 0], [0, 1], [1, 1]], dtype=kind)
    if library == "torch":
        x = pytest.importorskip("torch", reason="the torch extra is not installed").asarray(x)
    code = {"float16": "half_input", "float32": None}.get(kind, "integer_input")
    if code == "half_input" and dtype == kind:
        code = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = as_floating(x, "layer1", dtype)
    assert str(found.dtype).removeprefix("torch.") == wanted
    assert [w.message.code for w in caught] == ([code] if code else [])
    if code:
        kind_found = str(x.dtype).removeprefix("torch.")
        assert f"layer1 holds {kind_found} values" in str(caught[0].message)
    assert np.asarray(found).tolist() == [[1, 0], [0, 1], [1, 1]]


def test_half_precision_says_how_many_digits_it_has():
    with pytest.warns(CongruenceWarning, match="X holds float16 values, about 3 significant digits"):
        as_floating(np.ones((2, 2), dtype=np.float16))
    torch = pytest.importorskip("torch", reason="the torch extra is not installed")
    with pytest.warns(CongruenceWarning, match="X holds bfloat16 values, about 2 significant digits"):
        assert as_floating(torch.ones((2, 2), dtype=torch.bfloat16)).dtype == torch.float64


def test_unknown_precision_is_refused():
    with pytest.raises(ParameterError, match="dtype must be float32 or float64; got 'float16'"):
        as_floating(gaussian(3, 2), dtype="float16")


def test_the_gpu_keeps_its_precision(monkeypatch):
    """There is none here: an array that says it lives elsewhere stands in for one."""
    torch = pytest.importorskip("torch", reason="the torch extra is not installed")
    assert validate.on_cpu(np.ones(2))
    assert validate.on_cpu(torch.ones(2))
    assert not validate.on_cpu(torch.ones(2, device="meta"))
    meta = torch.ones((4, 2), dtype=torch.float32, device="meta")
    assert as_floating(meta).dtype == torch.float32
    assert as_floating(torch.ones((4, 2), dtype=torch.float64, device="meta")).dtype == torch.float64
    with pytest.warns(CongruenceWarning, match="half_input"):
        assert as_floating(torch.ones((4, 2), dtype=torch.float16, device="meta")).dtype == torch.float32


# ---- what a measure can use ------------------------------------------------------------------------------------------

BAD = [
    (
        np.ones(5),
        ShapeError,
        r"acts must be two-dimensional .*; got shape \(5,\)\. Reshape a single feature to \(n, 1\)",
    ),
    (np.ones((5, 2, 2)), ShapeError, r"got shape \(5, 2, 2\)\. Reduce it with steps, such as Flatten or SpatialMean"),
    (np.float64(1), ShapeError, r"acts must be two-dimensional .*; got shape \(\)"),
    (np.ones((0, 3)), ShapeError, r"acts is empty: shape \(0, 3\)"),
    (np.ones((3, 0)), ShapeError, r"acts is empty: shape \(3, 0\)"),
    (np.ones((1, 3)), ShapeError, "acts has 1 stimulus; at least 3 are needed"),
    (np.ones((2, 3)), ShapeError, "acts has 2 stimuli; at least 3 are needed"),
    (np.ones((4, 3)), DegenerateError, "acts is constant: every stimulus has the same values"),
    (np.tile([1.0, -2.0, 1e9], (4, 1)), DegenerateError, "acts is constant"),
    (np.full((4, 3), 0.1) * (1 + 1e-16), DegenerateError, "acts is constant"),
    (np.zeros((4, 3)), DegenerateError, "acts is constant"),
]


@pytest.mark.parametrize(("x", "error", "message"), BAD)
def test_what_no_measure_can_use_is_refused(x, error, message):
    with pytest.raises(error, match=message):
        features(x, "acts")


@pytest.mark.filterwarnings("ignore:half_input")
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_means_of_one_number_are_constant_in_the_precision_in_which_they_were_taken(dtype):
    x = np.stack([np.full((t, 6), 0.1, dtype).cumsum(axis=0)[-1] / dtype(t) for t in (3, 7, 11, 16)])  # sums round
    assert not np.array_equal(x, x[:1].repeat(4, axis=0))
    with pytest.raises(DegenerateError, match="acts is constant"):
        features(x, "acts")


def test_a_large_constant_feature_does_not_hide_the_others():
    x = np.hstack([np.full((5, 1), 1e6), gaussian(5, 2)]).astype(np.float32)
    assert features(x, "acts").shape == (5, 3)


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize(
    ("places", "message"),
    [
        ({(1, 2): np.nan}, r"acts has 1 NaN value; the first is at position \(1, 2\)\. Remove those"),
        ({(3, 0): np.inf}, r"acts has 1 infinite value; the first is at position \(3, 0\)"),
        ({(2, 1): -np.inf, (2, 2): np.inf}, r"acts has 2 infinite values; the first is at position \(2, 1\)"),
        ({(0, 1): np.inf, (3, 1): np.nan}, r"acts has 2 NaN or infinite values; the first is at position \(0, 1\)"),
    ],
)
def test_nonfinite_values_are_counted_and_placed(library, places, message):
    x = gaussian(4, 3)
    for place, value in places.items():
        x[place] = value
    if library == "torch":
        x = pytest.importorskip("torch", reason="the torch extra is not installed").asarray(x)
    with pytest.raises(InputError, match=message):
        features(x, "acts")


def test_overflow_of_a_conversion_is_refused():
    x = gaussian(4, 3)
    x[1, 1] = 1e200  # infinite in float32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # NumPy says so, too
        with pytest.raises(InputError, match=r"1 infinite value; the first is at position \(1, 1\)"):
            features(x, "acts", "float32")
    assert features(x, "acts") is x


@given(scale=st.floats(-300, 300), seed=st.integers(0, 999))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_stimuli_that_differ_are_accepted_at_any_size(scale, seed):
    x = gaussian(4, 3, seed=seed) * 10.0**scale
    assert features(x) is x


def test_pairs_must_fit():
    with pytest.raises(ShapeError, match="X and Y must hold the same stimuli in the same order; X has 5 and Y has 6"):
        measure("cka")(gaussian(5, 2), gaussian(6, 2))
    torch = pytest.importorskip("torch", reason="the torch extra is not installed")
    with pytest.raises(InputError, match="X and Y must be arrays of one library; got numpy and torch"):
        measure("cka")(gaussian(5, 2), torch.asarray(gaussian(5, 2)))
    with pytest.raises(InputError, match="X and Y must live on one device; got cpu and meta"):
        validate.require_same_namespace(torch.ones(2), torch.ones(2, device="meta"))


def test_lists_are_measured_too():
    x, y = gaussian(6, 2, seed=1), gaussian(6, 3, seed=2)
    assert measure("rsa")(x.tolist(), y.tolist()) == measure("rsa")(x, y)


def test_equal_widths_where_a_measure_needs_them(monkeypatch):
    from dataclasses import replace

    from congruence.measures import CKA, Needs

    class Matched(CKA):
        @property
        def info(self):
            return replace(super().info, needs=Needs(equal_p=True))

    with pytest.raises(ShapeError, match="cka needs the same number of features; X has 2 and Y has 3"):
        Matched()(gaussian(6, 2), gaussian(6, 3))


# ---- parameters ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Knobs:
    """One parameter of every kind."""

    count: Annotated[int, Interval(1, 9)] = 3
    share: Annotated[float, Interval(0, 1, low_open=True)] = 0.5
    mode: Literal["fast", "slow"] = "fast"
    on: bool = False
    label: str = "x"
    limit: Annotated[int, Interval(0)] | None = None
    plain: float = 1.0
    hidden: int = field(default=2, metadata={"parameter": "shown"})

    def __post_init__(self):
        validate.check_parameters(self, "knobs")


@pytest.mark.parametrize(
    ("given_value", "wanted"),
    [
        ({"count": "4"}, 4), ({"count": 4.0}, 4), ({"count": np.int64(4)}, 4), ({"share": "0.25"}, 0.25),
        ({"share": 1}, 1.0), ({"mode": "slow"}, "slow"), ({"on": "True"}, True), ({"on": True}, True),
        ({"label": "y"}, "y"), ({"limit": "none"}, None), ({"limit": None}, None), ({"limit": "7"}, 7),
        ({"plain": "-1e3"}, -1000.0),
    ],
)  # fmt: skip
def test_values_become_what_is_declared(given_value, wanted):
    (name,) = given_value
    found = getattr(Knobs(**given_value), name)
    assert found == wanted
    assert type(found) is type(wanted)


@pytest.mark.parametrize(
    ("given_value", "message"),
    [
        ({"count": 0}, r"knobs\.count must be an integer >= 1 and <= 9; got 0"),
        ({"count": 2.5}, r"knobs\.count must be an integer >= 1 and <= 9; got 2\.5"),
        ({"count": True}, r"knobs\.count must be an integer .*; got True"),
        ({"share": 0}, r"knobs\.share must be a number > 0 and <= 1; got 0"),
        ({"share": "nan"}, r"knobs\.share must be a number > 0 and <= 1; got 'nan'"),
        ({"mode": "quick"}, r"knobs\.mode must be fast\|slow; got 'quick'\. Available: fast, slow\."),
        ({"mode": "fsat"}, r"knobs\.mode must be fast\|slow; got 'fsat'\. Closest: fast"),
        ({"on": "maybe"}, r"knobs\.on must be true or false; got 'maybe'"),
        ({"limit": -1}, r"knobs\.limit must be an integer >= 0; got -1"),
        ({"plain": "inf"}, r"knobs\.plain must be a number; got 'inf'"),
        ({"label": 3}, r"knobs\.label must be text; got 3"),
        ({"hidden": 1.5}, r"knobs\.shown must be an integer; got 1\.5"),
    ],
)
def test_values_outside_their_rule_are_refused(given_value, message):
    with pytest.raises(ParameterError, match=message):
        Knobs(**given_value)


def test_specifications_name_what_is_not_default():
    knobs = Knobs(count=4, share=1.0, hidden=5, limit=0, on=True)
    assert validate.non_default(knobs) == {"count": 4, "share": 1.0, "on": True, "limit": 0, "shown": 5}
    spec = validate.render_spec("knobs", validate.non_default(knobs))
    assert spec == "knobs:count=4,share=1,on=true,limit=0,shown=5"
    name, written = validate.parse_spec(spec)
    assert validate.build(Knobs, name, written) == knobs
    assert validate.render_spec("knobs", {}) == "knobs"
    with pytest.raises(UnknownNameError, match=r"knobs has no parameter 'hidden'\. Closest: .*"):
        validate.build(Knobs, "knobs", {"hidden": "5"})


@given(count=st.integers(1, 9), share=st.floats(1e-12, 1), plain=st.floats(-1e20, 1e20), on=st.booleans())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_specifications_round_trip(count, share, plain, on):
    knobs = Knobs(count=count, share=share, plain=plain, on=on)
    name, written = validate.parse_spec(validate.render_spec("knobs", validate.non_default(knobs)))
    assert validate.build(Knobs, name, written) == knobs


def test_intervals():
    assert str(Interval()) == "finite"
    assert str(Interval(0)) == ">= 0"
    assert str(Interval(high=3)) == "<= 3"
    assert Interval(0, 1).holds(0)
    assert not Interval(0, 1, low_open=True).holds(0)
    assert not Interval(0, 1).holds(1.1)


# ---- names -----------------------------------------------------------------------------------------------------------


def test_closest_names():
    assert validate.closest("conv", ["conv1", "conv2", "fc"]) == "Closest: conv2, conv1."
    assert validate.closest("zzz", ["conv1", "fc"]) == "Available: conv1, fc."
    assert validate.closest("zzz", (f"l{i}" for i in range(20))).endswith("l11, ....")
    assert validate.closest("zzz", []) == "None is available."


def test_missing_extras_name_themselves(monkeypatch):
    assert validate.require_extra("json", "json", "this test") is sys.modules["json"]
    with pytest.raises(
        MissingExtraError, match=r"Drawing needs nosuchmodule; install it with: pip install 'congruence\[plot\]'"
    ):
        validate.require_extra("nosuchmodule.part", "plot", "Drawing")


def test_a_fault_inside_an_installed_package_shows(monkeypatch, tmp_path):
    (tmp_path / "broken_package.py").write_text("import another_that_is_missing\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="another_that_is_missing") as caught:
        validate.require_extra("broken_package", "plot", "Plots")
    assert not isinstance(caught.value, MissingExtraError)
