"""Minibatch CKA: sums over batches, their parts, and how far the result can be trusted."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from congruence.engine.minibatch import MinibatchCKA
from congruence.errors import (
    CongruenceWarning,
    DegenerateError,
    InputError,
    ParameterError,
    ShapeError,
    UnknownNameError,
)
from congruence.measures import CKA, measure
from congruence.results import Comparison

LABEL = "cka:estimator=debiased"


def batch(seed, m=32, shared=4):
    """Two layers a side that share latents."""
    rng = np.random.default_rng([7, seed])
    z = rng.normal(size=(m, shared))
    layer = {p: z @ np.random.default_rng(p).normal(size=(shared, p)) + rng.normal(size=(m, p)) for p in (5, 9, 6, 3)}
    return {"one": layer[5], "two": layer[9] + 3.0}, {"three": layer[6], "four": 10 * layer[3]}


def hsic1(k, l):  # noqa: E741 - the paper's letter
    """Song et al. 2012, eq. 4, term by term."""
    n = len(k)
    k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))  # noqa: E741
    total = np.trace(k @ l) + k.sum() * l.sum() / ((n - 1) * (n - 2)) - 2 * (k @ l).sum() / (n - 2)
    return total / (n * (n - 3))


def direct(batches, name_a, name_b):
    """Weighted averages of three HSICs, and their ratio."""
    sums = np.zeros(3)
    for a, b in batches:
        x, y = a[name_a], b[name_b]
        k, l = x @ x.T, y @ y.T  # noqa: E741
        sums += len(x) * np.array([hsic1(k, l), hsic1(k, k), hsic1(l, l)])
    return sums[0] / np.sqrt(sums[1] * sums[2])


def accumulated(batches, **options):
    sums = MinibatchCKA(["one", "two"], ["three", "four"], **options)
    for a, b in batches:
        sums.update(a, b)
    return sums


# ---- the value -------------------------------------------------------------------------------------------------------


def test_equals_the_formula():
    batches = [batch(k, m) for k, m in enumerate([32, 8, 50, 4])]
    result = accumulated(batches).result()
    assert isinstance(result, Comparison)
    assert result.measures == (LABEL,)
    for a, b in itertools.product(("one", "two"), ("three", "four")):
        # 1e-13: sums of a few hundred products
        assert float(result.matrix(LABEL).sel(a=a, b=b)) == pytest.approx(direct(batches, a, b), abs=1e-13)
    assert (result.dataset["n"] == 94).all()
    expected = {"estimator": "minibatch", "batches": 4, "stimuli": 94, "batch_size": 23.5, "dropped_batches": 0}
    assert dict(result.provenance) == expected


def test_one_batch_is_debiased_cka():
    a, b = batch(0, 200)
    result = accumulated([(a, b)]).result()
    expected = measure(LABEL)(a["one"], b["four"])
    assert float(result.matrix(LABEL).sel(a="one", b="four")) == pytest.approx(expected, abs=1e-13)
    assert np.isnan(result.dataset["standard_error"]).all()


@pytest.mark.parametrize("kernel", ["rbf", "laplace", "polynomial", "cosine"])
def test_other_kernels(kernel):
    own = CKA(kernel=kernel, estimator="debiased")
    a, b = batch(0, 60)
    result = accumulated([(a, b)], measure=own).result()
    assert result.measures == (own.label,)
    assert float(result.matrix(own).sel(a="two", b="three")) == pytest.approx(own(a["two"], b["three"]), abs=1e-12)


def test_a_layer_and_itself_are_exactly_one():
    sums = MinibatchCKA(["one", "two"])
    for k in range(7):
        sums.update(batch(k)[0])
    result = sums.result()
    assert [float(result.matrix(LABEL)[i, i]) for i in (0, 1)] == [1.0, 1.0]
    assert [float(result.dataset["standard_error"][0, i, i]) for i in (0, 1)] == [0.0, 0.0]
    assert float(result.matrix(LABEL)[0, 1]) == float(result.matrix(LABEL)[1, 0])
    both = MinibatchCKA(["one"], ["other"])
    for k in range(7):
        both.update({"one": batch(k)[0]["one"]}, {"other": batch(k)[0]["one"]})
    assert float(both.result().matrix(LABEL)[0, 0]) == pytest.approx(1.0, abs=1e-15)


def test_agrees_in_expectation_with_all_stimuli_at_once():
    stream = [batch(k, 16) for k in range(400)]
    result = accumulated(stream).result()
    whole = [np.concatenate([a["one"] for a, _ in stream]), np.concatenate([b["three"] for _, b in stream])]
    value, error = (
        float(v.sel(a="one", b="three")) for v in (result.matrix(LABEL), result.dataset["standard_error"][0])
    )
    assert error < 0.03
    assert abs(value - measure(LABEL)(*whole)) < 3 * error


def test_unrelated_layers_are_near_zero_however_small_the_batches():
    sums = MinibatchCKA(["x"], ["y"])
    for k in range(1000):
        rng = np.random.default_rng(k)
        sums.update({"x": rng.normal(size=(4, 30))}, {"y": rng.normal(size=(4, 30))})
    result = sums.result()
    error = float(result.dataset["standard_error"][0, 0, 0])
    assert abs(float(result.matrix(LABEL)[0, 0])) < 3 * error < 0.2  # biased CKA would be 0.91


# ---- its error -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[32], [8, 40]])
def test_standard_error_agrees_with_a_bootstrap_over_batches(sizes):
    batches = [batch(k, sizes[k % len(sizes)]) for k in range(120)]
    parts = [accumulated([pair]).state_dict() for pair in batches]
    rng = np.random.default_rng(0)
    values = []
    for _ in range(120):
        chosen = rng.integers(len(parts), size=len(parts))
        state = {name: sum(parts[k][name] for k in chosen) for name in parts[0]}
        values.append(MinibatchCKA.from_state(state, ["one", "two"], ["three", "four"]).result().matrix(LABEL).values)
    bootstrap = np.std(values, axis=0)
    error = accumulated(batches).result().dataset["standard_error"].values[0]
    # 120 resamples know a standard deviation to 7 %, and the delta method is right to first order
    np.testing.assert_allclose(error, bootstrap, rtol=0.25)


def test_standard_error_is_that_of_the_value():
    values, errors = [], []
    for repeat in range(50):
        result = accumulated([batch(1000 * repeat + k) for k in range(25)]).result()
        values.append(result.matrix(LABEL).values)
        errors.append(result.dataset["standard_error"].values[0])
    # 50 repeats know a standard deviation to 10 %
    np.testing.assert_allclose(np.mean(errors, axis=0), np.std(values, axis=0, ddof=1), rtol=0.3)


# ---- parts -----------------------------------------------------------------------------------------------------------


def test_merging_is_adding():
    batches = [batch(k, 20) for k in range(9)]
    whole = accumulated(batches)
    for cut in (1, 4, 8):
        for first, second in ((batches[:cut], batches[cut:]), (batches[cut:], batches[:cut])):
            merged = accumulated(first)
            merged.merge(accumulated(second))
            assert (merged.batches, merged.stimuli) == (9, 180)
            for name, value in merged.state_dict().items():
                np.testing.assert_allclose(value, whole.state_dict()[name], rtol=1e-13)
    with pytest.raises(ParameterError, match="same layers by the same measure"):
        whole.merge(MinibatchCKA(["one", "two"], ["three"]))


def test_states_are_arrays_that_can_be_added():
    batches = [batch(k, 20) for k in range(6)]
    states = [accumulated(batches[start::3]).state_dict() for start in range(3)]  # as on three ranks
    reduced = {name: sum(torch.from_numpy(np.asarray(state[name])) for state in states) for name in states[0]}
    ours = MinibatchCKA.from_state(reduced, ["one", "two"], ["three", "four"])
    expected = accumulated(batches).result()
    np.testing.assert_allclose(ours.result().matrix(LABEL), expected.matrix(LABEL), rtol=1e-13)
    assert ours.result().provenance == expected.provenance
    ours.update(*batch(6))
    assert ours.batches == 7
    assert states[0]["batches"] == 2


@pytest.mark.parametrize("names", [(["one"], ["three", "four"]), (["one", "two"], None)])
def test_a_state_of_other_layers_is_refused(names):
    state = accumulated([batch(0)]).state_dict()
    if names[1] is None:
        del state["own_own"]
    with pytest.raises(ShapeError, match="The state is not one of"):
        MinibatchCKA.from_state(state, *names)


def test_the_state_does_not_grow():
    sums = accumulated([batch(0)])
    before = sum(v.nbytes for v in sums.state_dict().values())
    for k in range(20):
        sums.update(*batch(k, 100))
    assert sum(v.nbytes for v in sums.state_dict().values()) == before < 1000


def test_tensors_and_arrays_give_the_same():
    batches = [batch(k) for k in range(5)]
    tensors = [tuple({k: torch.from_numpy(v) for k, v in side.items()} for side in pair) for pair in batches]
    mixed = [(a, {k: torch.from_numpy(v) for k, v in b.items()}) for a, b in batches]
    results = [accumulated(kind).result().matrix(LABEL).values for kind in (batches, tensors, mixed)]
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], atol=1e-13)
    single = [tuple({k: v.float() for k, v in side.items()} for side in pair) for pair in tensors]
    np.testing.assert_allclose(accumulated(single).result().matrix(LABEL), results[0], atol=1e-6)


# ---- what is refused, and what is said -------------------------------------------------------------------------------


def test_batches_that_are_too_small_are_counted():
    batches = [batch(0), batch(1, 3), batch(2), batch(3, 1)]
    sums = accumulated(batches)
    with pytest.warns(CongruenceWarning, match=r"2 batches of fewer than 4 stimuli \(4 stimuli in all\) left out"):
        result = sums.result()
    assert result.provenance["dropped_batches"] == 2
    assert result.equals(accumulated([batches[0], batches[2]]).result())
    with pytest.raises(InputError, match=r"No batch held 4 stimuli or more \(1 held fewer\)"):
        accumulated([batch(1, 3)]).result()
    with pytest.raises(InputError, match=r"\(0 held fewer\)"):
        accumulated([]).result()


@pytest.mark.parametrize(("value", "kind"), [(np.nan, "NaN"), (np.inf, "infinite")])
def test_values_that_are_not_finite_are_named(value, kind):
    sums = accumulated([batch(0), batch(1, 3)])
    a, b = batch(2)
    b["three"][5, 2] = value
    message = rf"In batch 2, B: three has 1 {kind} value; the first is at position \(5, 2\)"
    with pytest.raises(InputError, match=message):
        sums.update(a, b)
    assert sums.batches == 1
    a["one"][0, 0] = value
    own = MinibatchCKA(["one"], ["three"], models=("bert", "roberta"))
    with pytest.raises(InputError, match=rf"In batch 0, bert: one has 1 {kind}"):
        own.update(a, b)


def test_squares_that_overflow():
    a, b = batch(0)
    with pytest.raises(InputError, match="Batch 0: the squares of the activations overflow"):
        accumulated([({**a, "one": a["one"] * 1e160}, b)])


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_a_layer_that_does_not_vary(scale):
    def flat(seed, dtype):
        a, b = batch(seed)
        rounding = np.finfo(dtype).eps * (np.arange(32) % 3)[:, None]
        return a, {**b, "three": (scale * (1 + rounding) * np.ones((32, 6))).astype(dtype)}

    sums = accumulated([flat(k, dtype) for k, dtype in enumerate((np.float64, np.float32))])
    result = sums.result()
    assert result.dataset["status"].values[0].tolist() == [["failed", "ok"], ["failed", "ok"]]
    assert np.isnan(result.matrix(LABEL).sel(b="three")).all()
    reason = f"B: three: {LABEL} is undefined: the layer does not vary within the batches."
    assert set(result.failures()["reason"]) == {reason}
    with pytest.raises(DegenerateError, match="B: three: .* does not vary"):
        sums.result(on_error="raise")


def test_shapes_and_names():
    a, b = batch(0)
    sums = MinibatchCKA(["one", "two"], ["three", "four"])
    with pytest.raises(UnknownNameError, match="B: batch 0 lacks the layer 'four'. .*fuor"):
        sums.update(a, {"three": b["three"], "fuor": b["four"]})
    with pytest.raises(ShapeError, match="in batch 0 A: one has 32 and B: three has 31"):
        sums.update(a, {**b, "three": b["three"][1:]})
    with pytest.raises(ShapeError, match=r"A: two must be two-dimensional .* in batch 0; got shape \(32, 3, 3\)"):
        sums.update({**a, "two": a["two"].reshape(32, 3, 3)}, b)
    with pytest.raises(ParameterError, match="takes the activations of both sides"):
        sums.update(a)
    with pytest.raises(ParameterError, match="takes the activations of one side"):
        MinibatchCKA(["one"]).update(a, b)
    assert sums.batches == 0


def test_only_unbiased_estimates_can_be_averaged():
    with pytest.raises(ParameterError, match="must be debiased; got cka"):
        MinibatchCKA(["one"], measure=CKA())


def test_types_that_are_converted_are_noted_once():
    a, b = batch(0)
    half = {k: torch.from_numpy(v).to(torch.bfloat16) for k, v in a.items()}
    sums = MinibatchCKA(["one"], ["three"])
    with pytest.warns(CongruenceWarning, match="A: one holds bfloat16 values"):
        sums.update(half, b)
    sums.update(half, b)  # a second warning would be an error
    assert sums.batches == 2
