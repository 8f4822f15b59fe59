"""Two models of the family softmax(f·g): what is computed, what theory says of it, and what is chosen."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.special
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cross_decomposition import CCA, PLSSVD

import congruence as cg
from congruence.errors import CongruenceWarning
from congruence.identifiability import _likelihood, _model, _spaces, compare, constructions, distributions

pytestmark = pytest.mark.filterwarnings("ignore::congruence.errors.CongruenceWarning")


def models(seed=0, n=90, labels=7, dimension=2, noise=0.4):
    """A random model and another near it."""
    rng = np.random.default_rng(seed)
    f, g = rng.normal(size=(n, dimension)), 2 * rng.normal(size=(labels, dimension))
    return f, g, f + noise * rng.normal(size=f.shape), g + noise * rng.normal(size=g.shape)


def log_likelihoods(f, g):
    """Labels x inputs, as the definition says."""
    return scipy.special.log_softmax(f @ g.T, axis=1).T


# ---- loops over the definition ---------------------------------------------------------------------------------------


def terms(first, second, items, pivot):
    """Both kinds of standard deviation of every item, and the differences of the scales; rows are items."""
    apart, scales = [], []
    for y in items:
        s, t = (np.std(table[y] - table[pivot], ddof=1) for table in (first, second))
        apart += [np.std(first[k] / s - second[k] / t, ddof=1) for k in (y, pivot)]
        scales.append(abs(s - t))
    return max(apart), max(scales)


def brute_force_labels(first, second):
    """The first pivot and left-out label with the least t1, by trying all."""
    labels = range(len(first))
    tried = {
        (pivot, out): terms(first, second, [y for y in labels if y not in (pivot, out)], pivot)[0]
        for pivot, out in itertools.permutations(labels, 2)
    }
    best = min(tried.values())
    return next(sets for sets, value in tried.items() if value == best)


def pls_mean(z, w):
    """1 - d_SVD by scikit-learn: mean covariance of the scores of PLS-SVD."""
    z, w = ((v - v.mean(axis=0)) / v.std(axis=0, ddof=1) for v in (z, w))
    left, right = PLSSVD(n_components=z.shape[1]).fit(z, w).transform(z, w)
    return np.mean([np.cov(a, b)[0, 1] for a, b in zip(left.T, right.T, strict=True)])


@pytest.mark.parametrize(("dimension", "labels"), [(1, 5), (2, 7), (3, 6)])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_quantity_equals_a_loop_over_its_definition(seed, dimension, labels):
    f1, g1, f2, g2 = models(seed, labels=labels, dimension=dimension)
    found = compare(f1, g1, f2, g2, n_input_sets=10, seed=seed)
    first, second = log_likelihoods(f1, g1), log_likelihoods(f2, g2)
    pivot, out = brute_force_labels(first, second)
    assert (found.label_pivot, found.left_out_label) == (pivot, out)
    allowed = [y for y in range(labels) if y not in (pivot, out)]
    # sums of some hundred terms in another order
    near = {"rel": 1e-10}
    assert (found.t1, found.t3) == pytest.approx(terms(first, second, allowed, pivot), **near)
    sets = np.random.RandomState(seed).choice(len(f1), 10 * (dimension + 1), replace=False).reshape(10, -1)
    tried = [terms(first.T, second.T, s[1:], s[0]) for s in sets]
    best = int(np.argmin([t2 for t2, _ in tried]))
    assert found.input_set == tuple(sets[best])
    assert (found.t2, found.t4) == pytest.approx(tried[best], **near)
    assert found.d_llv == max(found.t1, found.t2, 1e-5 * found.t3, 1e-5 * found.t4)
    assert found.d_llv_sum == pytest.approx(found.t1 + found.t2 + 1e-5 * (found.t3 + found.t4))
    per_set = {
        s: 1 - pls_mean(*(f @ (g[list(s)] - g[pivot]).T for f, g in ((f1, g1), (f2, g2))))
        for s in itertools.combinations(allowed, dimension)
    }
    assert found.d_svd_f == pytest.approx(max(per_set.values()), rel=1e-8)
    assert per_set[found.label_set] == pytest.approx(max(per_set.values()), rel=1e-8)  # for M = 1 all sets are equal
    assert found.label_sets == len(per_set)
    edges = [f[sets[best][1:]] - f[sets[best][0]] for f in (f1, f2)]
    assert found.d_svd_g == pytest.approx(1 - pls_mean(g1 @ edges[0].T, g2 @ edges[1].T), rel=1e-8)
    assert found.condition_n == pytest.approx([np.linalg.cond(edge) for edge in edges])
    assert found.condition_l == pytest.approx(
        [np.linalg.cond(g[list(found.label_set)] - g[pivot]) for g in (g1, g2)], rel=1e-8
    )
    assert found.d_fg == max(found.d_svd_f, found.d_svd_g)
    assert (found.d_svd_f_raw, found.d_svd_g_raw) == pytest.approx((1 - pls_mean(f1, f2), 1 - pls_mean(g1, g2)))


def test_canonical_correlations_equal_the_iterative_ones():
    f1, g1, f2, g2 = models(3, dimension=3, labels=12)
    found = compare(f1, g1, f2, g2, n_input_sets=5)
    for value, x, y in ((found.m_cca_f, f1, f2), (found.m_cca_g, g1, g2)):
        scores = CCA(n_components=3, max_iter=5000, tol=1e-12).fit(x, y).transform(x, y)
        # the iteration stops at a relative change of 1e-12 of its weights
        assert value == pytest.approx(
            np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(scores[0].T, scores[1].T, strict=True)]), abs=1e-6
        )


def test_measures_of_two_spaces_are_those_of_the_comparison():
    f1, g1, f2, g2 = models(3)
    found = compare(f1, g1, f2, g2, n_input_sets=5)
    assert cg.identifiability.m_cca(f1, f2) == pytest.approx(found.m_cca_f, rel=1e-12)
    assert cg.identifiability.m_svd(torch.from_numpy(f1), f2) == pytest.approx(1 - found.d_svd_f_raw, rel=1e-12)
    assert cg.identifiability.d_svd(g1, g2) == pytest.approx(found.d_svd_g_raw, rel=1e-12)
    assert cg.identifiability.m_cca(f1, 3 * f1 @ [[1.0, 2.0], [0.0, 1.0]] + 5) == pytest.approx(1)


def test_distances_of_distributions_equal_scipy():
    f1, g1, f2, g2 = models(5)
    found = distributions(f1, g1, f2, g2)
    p, q = (np.exp(log_likelihoods(f, g)).T for f, g in ((f1, g1), (f2, g2)))
    assert found.kl == pytest.approx(scipy.special.rel_entr(p, q).sum(axis=1).mean())
    assert found.kl_reverse == pytest.approx(scipy.special.rel_entr(q, p).sum(axis=1).mean())
    assert found.kl_symmetric == pytest.approx((found.kl + found.kl_reverse) / 2)
    assert found.jsd == pytest.approx((scipy.spatial.distance.jensenshannon(p, q, axis=1) ** 2).mean())
    assert found.total_variation == pytest.approx(np.abs(p - q).sum(axis=1).mean() / 2)
    assert found.disagreement == np.mean(p.argmax(axis=1) != q.argmax(axis=1))
    apart = f1 @ (g1 - g1.mean(axis=0)).T - f2 @ (g2 - g2.mean(axis=0)).T
    assert found.d_logit == pytest.approx(math.sqrt((apart**2).sum(axis=1).mean()))


def test_distributions_of_models_of_different_dimension():
    rng = np.random.default_rng(2)
    f, g = rng.normal(size=(40, 2)), rng.normal(size=(5, 2))
    wide = np.hstack([f, rng.normal(size=(40, 3))]), np.hstack([g, np.zeros((5, 3))])
    found = distributions(f, g, *wide)
    assert (found.kl, found.d_logit, found.disagreement) == pytest.approx((0, 0, 0), abs=1e-14)


def test_identified_distance_equals_a_loop_over_all_sets():
    f1, g1, f2, g2 = models(7, labels=5)
    found = compare(f1, g1, f2, g2, n_input_sets=5)
    squares = []
    for pivot in range(5):
        for members in itertools.combinations([y for y in range(5) if y != pivot], 2):
            edges = [g[list(members)] - g[pivot] for g in (g1, g2)]
            apart = f1.T - np.linalg.inv(edges[0]) @ edges[1] @ f2.T
            squares.append((apart**2).sum(axis=0).mean())
    assert found.d_rep == pytest.approx(math.sqrt(np.mean(squares)), rel=1e-9)


def test_unexplained_logits_are_those_of_a_regression():
    """With one dimension the residual variance of the logits, regressed on the other embedding."""
    f1, g1, f2, g2 = models(9, dimension=1, labels=5)
    found = compare(f1, g1, f2, g2, n_input_sets=5)
    logits = f1 @ (g1 - g1.mean(axis=0)).T
    design = np.column_stack([np.ones(len(f2)), f2])
    residual = logits - design @ np.linalg.lstsq(design, logits, rcond=None)[0]
    assert found.unexplained == pytest.approx((residual**2).sum(axis=1).mean())


# ---- theory ----------------------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_other_coordinates_change_nothing(seed, dimension):
    f, g = models(seed, labels=8, dimension=dimension)[:2]
    found = compare(*constructions.reparametrised(f, g, seed=seed), n_input_sets=10)
    # rounding of the map, magnified by the worst set of the search
    noise = 1e-13 * max(*found.condition_l, *found.condition_n)
    assert max(found.d_llv, found.d_svd_f, found.d_svd_g, found.kl, found.total_variation) < noise + 1e-12
    assert 1 - found.m_cca_f < 1e-10
    assert found.d_rep < 1e-6 * np.abs(f).max() * found.condition_l[0]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3), st.sampled_from([1e-4, 0.03, 0.3, 3.0]))
def test_no_distance_lies_above_its_bound(seed, dimension, noise):
    found = compare(*models(seed, n=60, labels=7, dimension=dimension, noise=noise), n_input_sets=10)
    slack = 1 + 1e-9  # rounding of both sides
    assert found.d_fg <= found.bound * slack
    assert found.d_svd_f <= min(found.bound_f, 2 * dimension * found.t1) * slack + 1e-15
    assert found.d_svd_g <= found.bound_g * slack + 1e-15
    assert found.d_rep <= found.bound_rep * slack
    assert found.unexplained <= found.d_logit**2 * slack


def test_the_sharper_bound_is_of_the_right_order():
    """With M = 1 and little noise d_SVD and its bound both fall with the square of the noise, and stay within a factor."""
    shares = []
    for seed in range(20):
        f, g = models(seed, n=60, labels=3, dimension=1)[:2]
        moved = f + 1e-4 * np.random.default_rng(seed + 100).normal(size=f.shape)
        found = compare(f, g, moved, g, n_input_sets=5)
        shares.append(found.d_svd_f / found.bound_f)
    assert 0.1 < max(shares) <= 1


SETS = {"label_pivot": 1, "left_out_label": 4, "input_set": (3, 8, 20)}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.1, 1.0]))
def test_d_llv_is_a_distance_on_fixed_sets(seed, noise):
    rng = np.random.default_rng(seed)
    f, g = rng.normal(size=(40, 2)), rng.normal(size=(6, 2))
    three = [(f + noise * rng.normal(size=f.shape), g + noise * rng.normal(size=g.shape)) for _ in range(3)]
    a, b, c = (compare(*three[i], *three[j], **SETS).d_llv for i, j in ((0, 1), (1, 2), (0, 2)))
    assert c <= (a + b) * (1 + 1e-12)
    assert compare(*three[1], *three[0], **SETS).d_llv == pytest.approx(a, rel=1e-12)
    assert compare(*three[0], *three[0], **SETS).d_llv == 0
    assert min(a, b, c) > 0


def test_scales_alone_are_told_apart_only_by_the_last_terms():
    """p' proportional to a power of p differs in t3 and t4 only, up to the normalising sums of t1."""
    f, g = models(1, n=60)[:2]
    found = compare(f, g, f, 2 * g, lam=0.5, **SETS)
    assert found.t2 < 1e-12
    assert found.t4 > 0
    assert found.d_llv >= 0.5 * found.t3 > 0
    assert found.kl > 0


def test_permuted_clusters_have_a_vanishing_divergence_and_stay_apart():
    results = [compare(*constructions.permuted_clusters(rho, per_label=100)) for rho in (1, 5, 20)]
    assert results[2].kl < 1e-3 * results[0].kl
    for name in ("t2", "m_cca_f", "m_cca_g", "d_svd_f", "d_svd_g"):
        assert np.ptp([getattr(r, name) for r in results]) < 1e-10
    # t1 has the normalising sums in it, which are not proportional to rho
    assert np.ptp([r.d_llv for r in results]) < 1e-4
    assert all(r.d_llv > 1 and r.d_svd_f > 0.9 and r.m_cca_f < 0.1 for r in results)


@pytest.mark.parametrize("wanted", [1e-3, 0.1])
def test_perturbed_to_a_distance(wanted):
    pair = constructions.perturbed_to(wanted, 5, per_label=40, seed=3)
    assert compare(*pair, n_input_sets=66, seed=3).d_llv == pytest.approx(wanted, rel=1e-9)


def test_perturbed_embeddings_are_the_papers():
    f1, g1, f2, g2 = constructions.perturbed_embeddings(6, 0.1, per_label=50, seed=1)
    assert f1.shape == (300, 2)
    assert np.linalg.norm(g1, axis=1) == pytest.approx(20.0)
    assert (g1 == g2).all()
    assert 5 <= np.linalg.norm(f1, axis=1).min() < np.linalg.norm(f1, axis=1).max() < 5.1
    assert (f2 - f1).std() == pytest.approx(0.1, rel=0.1)
    assert (f1 @ g1.T).argmax(axis=1).tolist() == np.repeat(np.arange(6), 50).tolist()


def test_a_bias_changes_no_distance_of_representations():
    """A bias is a further dimension in which the embeddings are constant; it shifts Lᵀf and cancels in Nᵀg."""
    f1, g1, f2, g2 = models(4)
    found = compare(f1, g1, f2, g2, **SETS)
    bias = np.random.default_rng(0).normal(size=7)
    shifted = f1 @ (g1[[0, 2]] - g1[1]).T + (bias[[0, 2]] - bias[1])
    assert cg.identifiability.d_svd(shifted, f2 @ (g2[[0, 2]] - g2[1]).T) == pytest.approx(
        cg.identifiability.d_svd(f1 @ (g1[[0, 2]] - g1[1]).T, f2 @ (g2[[0, 2]] - g2[1]).T), abs=1e-14
    )
    assert found.d_svd_f > 0


# ---- choices ---------------------------------------------------------------------------------------------------------


def test_fixed_sets_are_used():
    found = compare(*models(), **SETS)
    assert (found.label_pivot, found.left_out_label, found.input_set) == (1, 4, (3, 8, 20))
    assert found.input_sets == found.pivots == 1
    nothing_out = compare(*models(), left_out_label=None, label_pivot=1)
    assert nothing_out.left_out_label is None
    assert nothing_out.label_sets == math.comb(6, 2)
    assert nothing_out.t1 >= compare(*models(), label_pivot=1).t1


def test_one_fixed_label_leaves_the_other_to_the_search():
    first, second = (log_likelihoods(f, g) for f, g in (models()[:2], models()[2:]))
    t1 = {
        (p, o): terms(first, second, [y for y in range(7) if y not in (p, o)], p)[0]
        for p, o in itertools.permutations(range(7), 2)
    }
    with_pivot = compare(*models(), label_pivot=2)
    assert with_pivot.t1 == pytest.approx(min(t for (p, _), t in t1.items() if p == 2))
    with_out = compare(*models(), left_out_label=5)
    assert with_out.t1 == pytest.approx(min(t for (_, o), t in t1.items() if o == 5))
    without = compare(*models(), left_out_label=None)
    assert without.t1 == pytest.approx(
        min(terms(first, second, [y for y in range(7) if y != p], p)[0] for p in range(7))
    )


def test_of_equal_choices_the_first_is_taken():
    """Distances of pairs of labels are the same both ways round, so the least t1 often comes twice."""
    for seed in range(8):
        pair = models(seed, labels=4, n=40)
        found = compare(*pair, n_input_sets=5)
        first, second = log_likelihoods(*pair[:2]), log_likelihoods(*pair[2:])
        assert (found.label_pivot, found.left_out_label) == brute_force_labels(first, second)


def test_the_seed_decides_on_the_input_sets():
    pair = models(n=200)
    chosen = [compare(*pair, n_input_sets=20, seed=seed).input_set for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]


def test_screening_by_covariances_chooses_as_the_exact_search(monkeypatch):
    pair = models(2, labels=12, dimension=3)
    exact = compare(*pair, n_input_sets=5)
    monkeypatch.setattr(_likelihood, "WHOLE", 0)
    screened = compare(*pair, n_input_sets=5)
    assert screened == exact


def test_blocks_change_nothing(monkeypatch):
    pair = models(6, labels=12, dimension=3)
    whole = compare(*pair, n_input_sets=20)
    for module in (_likelihood, _model, _spaces):
        monkeypatch.setattr(module, "BLOCK", 300)
    from congruence.identifiability import _distributions

    monkeypatch.setattr(_distributions, "BLOCK", 300)
    blocked = compare(*pair, n_input_sets=20)
    for name, value in whole.to_dict().items():
        if isinstance(value, float):
            assert blocked.to_dict()[name] == pytest.approx(value, rel=1e-9, abs=1e-14), name
    assert (blocked.label_pivot, blocked.input_set, blocked.label_set) == (
        whole.label_pivot,
        whole.input_set,
        whole.label_set,
    )


def test_sampled_searches_say_so_and_depend_on_the_seed(monkeypatch):
    pair = models(3, labels=30, n=120)
    full = compare(*pair, n_input_sets=5)
    monkeypatch.setattr(_likelihood, "ALL_PIVOTS", 10)
    monkeypatch.setattr(_likelihood, "PIVOTS", 4)
    monkeypatch.setattr(_spaces, "EXHAUSTIVE", 10)
    monkeypatch.setattr(_spaces, "MOST_SETS", 20)
    results = [compare(*pair, n_input_sets=5, seed=seed) for seed in (0, 0, 1)]
    assert results[0] == results[1]
    assert results[0].label_pivot != results[2].label_pivot or results[0].label_set != results[2].label_set
    assert {c.code for c in results[0].caveats} >= {"sampled_pivots", "sampled_label_sets"}
    assert not results[0].exhaustive
    assert full.exhaustive
    assert results[0].t1 >= full.t1
    assert (results[0].pivots, results[0].label_sets) == (4, 20)


def test_many_labels_are_sampled_without_a_table_of_keys(monkeypatch):
    monkeypatch.setattr(_spaces, "_FEW_LABELS", 5)
    sets = np.concatenate(list(_spaces._random_sets(np.random.default_rng(0), 40, 3, 50, 16)))
    assert sets.shape == (50, 3)
    assert (np.diff(sets, axis=1) > 0).all()
    assert sets.min() >= 0
    assert sets.max() < 40


# ---- inputs and outputs ----------------------------------------------------------------------------------------------


def test_torch_and_lower_precision_are_computed_in_float64():
    pair = [a.astype(np.float32) for a in models()]
    expected = compare(*(a.astype(np.float64) for a in pair), n_input_sets=5)
    assert compare(*(torch.from_numpy(a).requires_grad_() for a in pair), n_input_sets=5) == expected
    half = [torch.from_numpy(a).to(torch.bfloat16) for a in pair]
    assert compare(*half, n_input_sets=5) == compare(*(a.double() for a in half), n_input_sets=5)


def test_arrays_are_not_changed():
    pair = models()
    for array in pair:
        array.setflags(write=False)
    compare(*pair, n_input_sets=5)


def test_a_result_is_saved_without_loss(tmp_path):
    found = compare(*models(), n_input_sets=60)
    assert found.caveats
    path = found.save(tmp_path / "sub" / "result.json")
    assert cg.identifiability.load(path) == found
    content = json.loads(path.read_text())
    assert content["bound"] == found.bound
    assert content["d_fg"] == found.d_fg


def test_damaged_results_are_refused(tmp_path):
    path = compare(*models(), n_input_sets=5).save(tmp_path / "r.json")
    content = json.loads(path.read_text())
    for change, message in (
        ({"version": 99}, "format version 99"),
        ({"format": "other"}, "no saved result"),
        ({"kl": None, "t1": ...}, "it has no t1"),
    ):
        path.write_text(json.dumps({k: v for k, v in (content | change).items() if v is not ...}))
        with pytest.raises(cg.StoreError, match=message):
            cg.identifiability.load(path)
    for text in ("{", ""):
        path.write_text(text)
        with pytest.raises(cg.StoreError, match="cannot be read as a saved result"):
            cg.identifiability.load(path)
    with pytest.raises(cg.StoreError, match="cannot be read"):
        cg.identifiability.load(tmp_path / "missing.json")


def test_the_explanation_says_what_is_close_and_whether_the_bound_helps():
    near = compare(*constructions.perturbed_to(0.01, 5, per_label=40), n_input_sets=66)
    assert "nearly the same up to a linear change" in near.explain()
    assert "applies: d_fg could not be larger" in near.explain()
    far = compare(*constructions.permuted_clusters(20, per_label=60), n_input_sets=100)
    assert "a small KL divergence does not imply similar representations" in str(far)
    assert "is vacuous (d_fg is at most 1): d_LLV would have to be below 0.25" in str(far)
    assert "Read with care" in str(compare(*models(n=20), n_input_sets=60))
    different = compare(*models(noise=3.0), n_input_sets=20)
    assert "differ by more than a linear change" in str(different)
    partly = compare(*models(3, noise=0.4), n_input_sets=20)
    assert 0.05 < partly.d_fg < 0.3
    assert "partly alike" in str(partly)
    assert "no label left out" in str(compare(*models(), left_out_label=None))


def test_the_table_for_notebooks_is_escaped_html():
    found = compare(*models(), n_input_sets=5)
    page = found._repr_html_()
    assert f"{found.d_llv:.5g}" in page
    assert page.count("<tr>") == 13
    assert "d_fg &lt;= 2 M d_LLV" in page


# ---- warnings --------------------------------------------------------------------------------------------------------


def caught(*arguments, **options):
    with pytest.warns(CongruenceWarning) as seen:
        found = compare(*arguments, **options)
    assert {w.message.code for w in seen if isinstance(w.message, CongruenceWarning)} == {c.code for c in found.caveats}
    return {caveat.code: caveat for caveat in found.caveats}, found


def test_fewer_input_sets_than_asked_for():
    caveats, found = caught(*models(n=20), n_input_sets=100)
    assert found.input_sets == 6
    assert "20 inputs make 6 disjoint sets of M + 1 = 3, fewer than the 100 asked for" in caveats["few_input_sets"].text


def test_no_set_of_inputs_with_close_log_likelihoods():
    rng = np.random.default_rng(0)
    f1, g1, f2, g2 = (rng.normal(size=shape) for shape in ((20, 2), (12, 2), (20, 2), (12, 2)))
    caveats, found = caught(f1, g1, f2, g2, n_input_sets=1)
    assert found.t2 >= 1
    assert "no input set of 1 has t2 < 1" in caveats["no_close_input_set"].text


def test_canonical_correlations_that_any_data_would_give():
    rng = np.random.default_rng(0)
    f1, g1, f2, g2 = (rng.normal(size=shape) for shape in ((200, 3), (6, 3), (200, 3), (6, 3)))
    caveats, found = caught(f1, g1, f2, g2)
    assert caveats["cca_floor"].level == pytest.approx(1 / 3)
    assert "1 of its 3 canonical correlations are 1 for any data" in caveats["cca_floor"].text
    assert found.m_cca_g >= 1 / 3
    forced = _spaces.canonical_correlations(_model.joint_factor(g1, g2))
    assert forced[0] == pytest.approx(1)
    assert forced[1] < 1 - 1e-6


def test_label_sets_without_an_invertible_matrix_have_no_part():
    """Three labels and the pivot on a line: their set spans one dimension of two."""
    rng = np.random.default_rng(0)
    g = rng.normal(size=(7, 2))
    g[[1, 2, 3]] = g[0] + np.outer([1.0, 2.0, -1.0], [1.0, 1.0])
    f = rng.normal(size=(80, 2))
    caveats, found = caught(f, g, f + 0.1 * rng.normal(size=f.shape), g, label_pivot=0, left_out_label=6)
    assert "3 of 10 label sets have a singular L" in caveats["degenerate_label_sets"].text
    assert len(set(found.label_set) & {1, 2, 3}) < 2


def test_an_ill_conditioned_set_is_named():
    rng = np.random.default_rng(0)
    f, g = rng.normal(size=(60, 2)), rng.normal(size=(6, 2))
    f[7] = f[5] + 1e-10 * (f[6] - f[5]) + 1e-10 * np.array([0.3, -1.0])
    caveats, _ = caught(f, g, f, g + 0.1 * rng.normal(size=g.shape), input_set=(5, 6, 7))
    assert "L or N is ill-conditioned" in caveats["ill_conditioned"].text
