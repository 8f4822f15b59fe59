"""Bad input to the comparison of two models, from Python and from the command line: one clear line, exit code 2."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch

import congruence as cg
from commands import congruence
from congruence.identifiability import _model, _spaces, compare, constructions, d_svd, distributions, m_cca, m_svd

RNG = np.random.default_rng(11)
F, G = RNG.normal(size=(60, 2)), RNG.normal(size=(7, 2))
F2, G2 = F + 0.1 * RNG.normal(size=F.shape), G + 0.1 * RNG.normal(size=G.shape)
GOOD = {"f1": F, "g1": G, "f2": F2, "g2": G2}
PROBABILITIES = np.exp(F @ G.T) / np.exp(F @ G.T).sum(axis=1, keepdims=True)


def at(array, place, value):
    changed = array.copy()
    changed[place] = value
    return changed


TWIN = at(G, 3, G[5])
BAD = {
    "f and g of different M": (
        {"g1": RNG.normal(size=(7, 3))},
        cg.ShapeError,
        r"f1 and g1 must have the same M; got f1 of shape \(60, 2\) and g1 of shape \(7, 3\)",
    ),
    "models of different M": (
        {"f2": RNG.normal(size=(60, 3)), "g2": RNG.normal(size=(7, 3))},
        cg.ShapeError,
        "Representations must have the same M in both models; got 2 and 3",
    ),
    "too few labels": (
        {"g1": G[:3], "g2": G2[:3]},
        cg.ShapeError,
        r"3 labels are too few for M = 2: no invertible L. At least 4 are needed \(M \+ 2: .*left_out_label=None 3 do",
    ),
    "far too few labels": ({"g1": G[:2], "g2": G2[:2]}, cg.ShapeError, "2 labels are too few .* At least 4 are needed"),
    "too few inputs": (
        {"f1": F[:2], "f2": F2[:2]},
        cg.ShapeError,
        r"2 inputs are too few for M = 2: no invertible N. At least 3 are needed",
    ),
    "other inputs": ({"f2": F2[:50]}, cg.ShapeError, "the same inputs in the same order; f1 has 60 and f2 has 50"),
    "other labels": ({"g2": G2[:5]}, cg.ShapeError, "the same labels in the same order; g1 has 7 and g2 has 5"),
    "no matrix": ({"f1": F[:, 0]}, cg.ShapeError, r"f1 must be two-dimensional \(n inputs, M\); got shape \(60,\)"),
    "no matrix of labels": ({"g2": G2[0]}, cg.ShapeError, r"g2 must be two-dimensional \(K labels, M\)"),
    "empty": ({"f1": np.empty((0, 2))}, cg.ShapeError, r"f1 is empty: shape \(0, 2\)"),
    "NaN": ({"f2": at(F2, (4, 1), np.nan)}, cg.InputError, r"f2 has 1 NaN value; the first is at position \(4, 1\)"),
    "infinite": ({"g1": at(G, (2, 0), np.inf)}, cg.InputError, r"g1 has 1 infinite value"),
    "infinite logits": (
        {"f1": F * 1e200, "g1": G * 1e200},
        cg.InputError,
        "The logits f1·g1 are not finite: the values are too large to multiply",
    ),
    "probabilities": (
        {"f1": PROBABILITIES, "g1": RNG.normal(size=(9, 7)), "f2": PROBABILITIES, "g2": RNG.normal(size=(9, 7))},
        cg.InputError,
        "f1 looks like probabilities: no entry is negative and every row sums to 1. f must hold embeddings",
    ),
    "rank-deficient f": (
        {"f2": np.outer(F[:, 0], [1.0, 2.0]) + 3},
        cg.DegenerateError,
        "f2 has rank 1 of M = 2 after centring: its inputs lie in 1 dimensions",
    ),
    "constant f": ({"f1": np.full((60, 2), 1.5)}, cg.DegenerateError, "f1 has rank 0 .* lie in one point"),
    "rank-deficient g": (
        {"g1": np.outer(G[:, 0], [1.0, 2.0])},
        cg.DegenerateError,
        "g1 has rank 1 of M = 2 after centring: its labels lie in 1 dimensions",
    ),
    "a constant difference": (
        {"g1": TWIN},
        cg.DegenerateError,
        r"constant over the inputs for label y = 5 and pivot y0 = 3: its variance is zero and d_LLV undefined",
    ),
    "text": ({"f1": np.array([["a", "b"]])}, cg.InputError, "f1 must hold real numbers|f1 .*must hold real numbers"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays_from_python(case):
    changed, error, message = BAD[case]
    with pytest.raises(error, match=message):
        compare(*(GOOD | changed).values(), n_input_sets=5)


@pytest.mark.parametrize("case", [case for case in BAD if case != "text"])
def test_bad_arrays_from_the_command_line(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    changed, _, message = BAD[case]
    for name, array in (GOOD | changed).items():
        np.save(f"{name}.npy", array)
    outcome = congruence("identifiability", "f1.npy", "g1.npy", "f2.npy", "g2.npy", "--input-sets", 5, "-o", "r.json")
    assert outcome.code == 2
    assert outcome.out == ""
    assert re.search(message, outcome.error)
    assert not (tmp_path / "r.json").exists()


PARAMETERS = {
    "pivot too large": ({"label_pivot": 7}, ["--label-pivot", "7"], r"label_pivot must be an integer from 0 to 6"),
    "pivot negative": ({"label_pivot": -1}, ["--label-pivot", "-1"], r"label_pivot must be an integer from 0 to 6"),
    "left out too large": ({"left_out_label": 9}, ["--left-out-label", "9"], "left_out_label must be an integer"),
    "one label twice": (
        {"label_pivot": 2, "left_out_label": 2},
        ["--label-pivot", "2", "--left-out-label", "2"],
        "label_pivot and left_out_label must differ; got 2 for both",
    ),
    "input set of two": ({"input_set": [1, 2]}, ["--input-set", "1,2"], r"M \+ 1 = 3 distinct inputs.*got 2"),
    "input set with a repetition": (
        {"input_set": [1, 2, 2]},
        ["--input-set", "1,2,2"],
        r"M \+ 1 = 3 distinct inputs, the pivot first; got 3 \(2 distinct\)",
    ),
    "input out of range": ({"input_set": [1, 2, 60]}, ["--input-set", "1,2,60"], "input_set must be an integer from 0"),
    "negative weight": ({"lam": -1}, ["--lam", "-1"], r"compare.lam must be a number >= 0; got -1"),
    "infinite weight": ({"lam": np.inf}, ["--lam", "inf"], "compare.lam must be a number >= 0; got inf"),
    "no input sets": ({"n_input_sets": 0}, ["--input-sets", "0"], "compare.n_input_sets must be an integer >= 1"),
    "negative seed": ({"seed": -1}, ["--seed", "-1"], "compare.seed must be an integer >= 0"),
}


@pytest.mark.parametrize("case", PARAMETERS)
def test_bad_parameters_both_ways(case, tmp_path, monkeypatch):
    options, arguments, message = PARAMETERS[case]
    with pytest.raises(cg.ParameterError, match=message):
        compare(*GOOD.values(), **{"n_input_sets": 5, **options})
    monkeypatch.chdir(tmp_path)
    np.savez("models.npz", **GOOD)
    sources = [f"models.npz:{name}" for name in GOOD]
    outcome = congruence("identifiability", *sources, *arguments)
    assert outcome.code == 2
    with pytest.raises(cg.ParameterError, match=message):
        raise cg.ParameterError(outcome.error)


def test_parameters_of_a_wrong_kind():
    with pytest.raises(cg.ParameterError, match="label_pivot must be an integer; got 1.5"):
        compare(*GOOD.values(), label_pivot=1.5)
    with pytest.raises(cg.ParameterError, match="label_pivot must be an integer from 0 to 6"):
        compare(*GOOD.values(), label_pivot=True)


def test_options_that_are_no_numbers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("m.npz", **GOOD)
    sources = [f"m.npz:{name}" for name in GOOD]
    for option in ("--left-out-label", "--input-set"):
        outcome = congruence("identifiability", *sources, option, "x")
        assert outcome.code == 2
        assert "'x' is not a whole number" in outcome.error


def test_an_input_set_that_is_not_diverse():
    f = at(F, 9, F[4])
    with pytest.raises(cg.DegenerateError, match=r"input_set \(1, 4, 9\) is not diverse: N is singular"):
        compare(f, G, F2, G2, input_set=[1, 4, 9])
    with pytest.raises(cg.DegenerateError, match=r"input_set \(4, 9, 1\) is not diverse"):
        compare(f, G, F2, G2, input_set=[4, 9, 1])


def test_inputs_of_which_no_set_is_diverse():
    """Two distinct inputs beside many copies of a third: the sets that are drawn have copies in them."""
    f = np.repeat(F[:1], 60, axis=0)
    f[58:] = F[58:]
    with pytest.raises(cg.DegenerateError, match="None of the 5 input sets tried is diverse"):
        compare(f, G, f, G2, n_input_sets=5)


def test_labels_of_which_no_set_is_diverse():
    """All allowed labels on a line through the pivot: g has rank 2 only by the label left out."""
    g = np.outer(np.arange(7.0), [1.0, 1.0])
    g[6] = [1.0, -4.0]
    with pytest.raises(cg.DegenerateError, match="L is singular for every set of 2 labels with pivot 0"):
        compare(F, g, F2, G2, label_pivot=0, left_out_label=6, input_set=[0, 1, 2])


def test_labels_on_a_line_have_no_linear_map():
    line = np.outer(np.arange(7.0), [1.0, 1.0])
    pair = _model.read_pair(F, line, F2, G2)
    with pytest.raises(cg.DegenerateError, match="L is singular for all label sets that were tried"):
        _spaces.identified_distance(pair, _model.joint_factor(F, F2), 1.0, 0, 3, 5)


def test_a_constant_difference_is_no_matter_outside_the_set():
    found = compare(F, TWIN, F2, G2, label_pivot=3, left_out_label=5, n_input_sets=5)
    assert found.t1 > 0
    with pytest.raises(cg.DegenerateError, match="label y = 5 and pivot y0 = 3.*left_out_label=5"):
        compare(F, TWIN, F2, G2, label_pivot=3, left_out_label=0, n_input_sets=5)


def test_a_constant_difference_is_found_while_screening(monkeypatch):
    from congruence.identifiability import _likelihood

    monkeypatch.setattr(_likelihood, "WHOLE", 0)
    with pytest.raises(cg.DegenerateError, match="label y = 5 and pivot y0 = 3"):
        compare(F, TWIN, F2, G2, n_input_sets=5)


def test_ids_of_inputs_and_labels_are_compared():
    def named(values, ids):
        return cg.Representation(values, "f", ids=ids)

    ids = [f"x{i}" for i in range(60)]
    with pytest.raises(cg.AlignmentError, match="x0"):
        compare(named(F, ids), G, named(F2, [*ids[1:], "new"]), G2)
    labels = ["cat", "dog", "owl", "fox", "bat", "elk", "ant"]
    with pytest.raises(cg.AlignmentError):
        compare(F, named(G, labels), F2, named(G2, labels[::-1]))
    found = compare(named(F, ids), named(G, labels), named(F2, ids), named(G2, labels), n_input_sets=5)
    assert found == compare(*GOOD.values(), n_input_sets=5)


def test_distributions_refuse_what_compare_refuses():
    with pytest.raises(cg.ShapeError, match="the same labels"):
        distributions(F, G, F2, G2[:4])
    with pytest.raises(cg.InputError, match="looks like probabilities"):
        distributions(PROBABILITIES, RNG.normal(size=(4, 7)), PROBABILITIES, RNG.normal(size=(4, 7)))


def test_measures_of_spaces_refuse_degenerate_ones():
    with pytest.raises(cg.ShapeError, match=r"matrices of one shape \(n, M\) with n >= 2; got \(60, 2\) and \(60, 1\)"):
        m_svd(F, F[:, :1])
    with pytest.raises(cg.DegenerateError, match="z2: column 1 is constant"):
        d_svd(F, np.column_stack([F[:, 0], np.ones(60)]))
    with pytest.raises(cg.DegenerateError, match="z1 has rank 1 of M = 2"):
        m_cca(np.outer(F[:, 0], [1, 1]), F)
    with pytest.raises(cg.InputError, match="z1 has 1 NaN"):
        m_cca(at(F, (0, 0), np.nan), F)


def test_constructions_refuse_what_they_cannot_make():
    with pytest.raises(cg.ParameterError, match="permutation must hold every number from 0 to K - 1 once"):
        constructions.permuted_clusters(1, permutation=(0, 1, 1))
    with pytest.raises(cg.ParameterError, match="rho must be a number > 0; got 0"):
        constructions.permuted_clusters(0)
    with pytest.raises(cg.ParameterError, match="noise must be a number >= 0; got nan"):
        constructions.perturbed_embeddings(4, float("nan"))
    with pytest.raises(cg.ParameterError, match="labels must be an integer >= 3; got 2"):
        constructions.perturbed_embeddings(2, 0.1)
    with pytest.raises(cg.ParameterError, match=r"d_llv must be between about .* for 5 labels; got 50"):
        constructions.perturbed_to(50, 5, per_label=20)


# ---- the command line ------------------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, array in GOOD.items():
        np.save(f"{name}.npy", array)
    np.savez("a.npz", f=F, g=G)
    return tmp_path


FILES = ("f1.npy", "g1.npy", "f2.npy", "g2.npy")


def test_the_command_prints_the_numbers_and_the_explanation(here):
    outcome = congruence("identifiability", *FILES, "--input-sets", 5)
    found = compare(*GOOD.values(), n_input_sets=5)
    assert outcome.code == 0
    assert outcome.err == ""
    assert f"{found.d_llv:.6g}" in outcome.out
    assert found.explain().splitlines()[0] in outcome.out
    assert "\n".join(found.explain().splitlines()[1:]) in outcome.out


def test_the_command_prints_json_and_writes_the_result(here):
    outcome = congruence("identifiability", *FILES, "--json", "-o", "out.json", "--input-sets", 20)
    found = compare(*GOOD.values(), n_input_sets=20)
    assert outcome.json == json.loads(json.dumps(found.to_dict()))
    assert cg.identifiability.load(here / "out.json") == found


def test_the_command_takes_sets_and_arrays_inside_files(here):
    outcome = congruence(
        "identifiability",
        *("a.npz:f", "a.npz:g", "f2.npy", "g2.npy"),
        *("--label-pivot", 1, "--left-out-label", "none", "--input-set", "3,8,20", "--seed", 4, "--lam", 0.5, "--json"),
    )
    expected = compare(*GOOD.values(), label_pivot=1, left_out_label=None, input_set=(3, 8, 20), seed=4, lam=0.5)
    assert outcome.json == json.loads(json.dumps(expected.to_dict()))


def test_the_command_warns_on_stderr(here):
    outcome = congruence("identifiability", *FILES, "--input-sets", 100)
    assert outcome.code == 0
    assert "congruence: warning: 60 inputs make 20 disjoint sets" in outcome.err
    assert "Read with care" not in outcome.out


def test_files_that_do_not_hold_one_array(here):
    outcome = congruence("identifiability", "a.npz", *FILES[1:])
    assert outcome.code == 2
    assert outcome.error == "a.npz holds 2 arrays; name one of them: a.npz:f."
    outcome = congruence("identifiability", "a.npz:h", *FILES[1:])
    assert "a.npz has no array 'h'" in outcome.error
    outcome = congruence("identifiability", "missing.npy", *FILES[1:])
    assert outcome.code == 2
    assert "missing.npy does not exist" in outcome.error


def test_torch_tensors_with_bad_values_are_refused():
    with pytest.raises(cg.InputError, match="f1 has 1 NaN"):
        compare(torch.from_numpy(at(F, (0, 0), np.nan)), G, F2, G2)
