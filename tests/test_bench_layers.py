"""Layer identification: its scoring on comparisons whose answer is known, and the quick tier on real networks."""

from __future__ import annotations

import dataclasses
import itertools
import json
import types

import numpy as np
import pytest

import congruence as cg
from congruence import benchmarks, zoo
from congruence.benchmarks import (
    Case,
    LayerIdentification,
    _jackknife,
    _populations,
    functional,
    intuitive,
    layer_identification,
)
from congruence.benchmarks.layer_identification import Depths
from congruence.measures import Measure, measure

NETWORKS, LAYERS = ("a", "b", "c"), ("l0", "l1", "l2", "l3")
NAMES = [f"{net}/{layer}" for net in NETWORKS for layer in LAYERS]
PAIRS = [(x, y) for x, y in itertools.product(NAMES, NAMES) if x[0] != y[0]]
CASE = Case("toy", (), Depths(NETWORKS, LAYERS), "accuracy", {}, PAIRS)
SELF = np.kron(np.eye(len(NETWORKS)), np.ones((len(LAYERS), len(LAYERS)))).astype(bool)


def compared(values, label: str | Measure = "cka") -> cg.Comparison:
    """Return a comparison with these values between different networks; NaN there is a failure."""
    status = np.where(SELF, "skipped", np.where(np.isnan(values), "failed", "ok"))
    value = np.where(SELF, np.nan, values)[None]
    return cg.Comparison.build([measure(label)], NAMES, NAMES, value=value, status=status[None])


def perfect() -> np.ndarray:
    depth = np.tile(np.arange(len(LAYERS)), len(NETWORKS))
    return np.exp(-np.abs(depth[:, None] - depth[None, :]).astype(float))


def headline(result, case=CASE):
    return [s for s in LayerIdentification().score(case, result) if s.quantity == "accuracy"]


def test_the_right_layer_is_the_most_similar_or_the_least_distant():
    assert headline(compared(perfect()))[0].value == 1.0
    assert headline(compared(1 - perfect(), "procrustes"))[0].value == 1.0
    assert headline(compared(perfect(), "procrustes"))[0].value == 0.0
    assert headline(compared(perfect()))[0].n == 3 * 2 * 4


def test_a_constant_measure_is_at_chance():
    assert headline(compared(np.ones((12, 12))))[0].value == pytest.approx(1 / 4)
    almost = 1 - 1e-14 * np.random.default_rng(0).random((12, 12))  # equal up to rounding
    assert headline(compared(almost))[0].value == pytest.approx(1 / 4)


def test_random_numbers_are_near_chance():
    rng = np.random.default_rng(0)
    values = [headline(compared(rng.random((12, 12))))[0].value for _ in range(60)]
    # 60 means of 24 draws with p = 1/4: standard error 0.011; five of them
    assert np.mean(values) == pytest.approx(0.25, abs=0.06)


def test_accuracy_is_the_mean_over_ordered_pairs_and_layers():
    values = np.random.default_rng(1).random((12, 12))
    hits = []
    for x, y in itertools.permutations(range(3), 2):
        block = values[4 * x : 4 * x + 4, 4 * y : 4 * y + 4]
        hits.append(block.argmax(axis=1) == np.arange(4))
    found = LayerIdentification().score(CASE, compared(values))
    assert found[0].value == pytest.approx(np.mean(hits))
    by_layer = {s.quantity: s.value for s in found if ":" in s.quantity}
    assert by_layer == pytest.approx({f"accuracy:l{k}": np.mean(hits, axis=0)[k] for k in range(4)})


def test_asymmetric_measures_are_symmetrised():
    values = np.random.default_rng(2).random((12, 12))
    one_way = headline(compared(values, "linear_regression"))[0].value
    symmetric = headline(compared(values + values.T))[0].value
    assert one_way == symmetric


def test_a_failed_comparison_makes_its_layer_wrong_and_is_counted():
    values = perfect()
    values[0, 7] = np.nan  # a/l0 with b/l3, which is not the answer: without it the layer would still be found
    found = headline(compared(values))[0]
    assert found.value == pytest.approx(1 - 1 / 24)
    assert found.failed == 1


def test_jackknife_errors_equal_those_written_out():
    values = np.random.default_rng(3).random((5, 5))

    def mean(kept):
        return np.mean([values[i, j] for i, j in itertools.permutations(kept, 2)])

    left = [mean([i for i in range(5) if i != out]) for out in range(5)]
    error = np.sqrt(4 / 5 * sum((x - np.mean(left)) ** 2 for x in left))
    assert _jackknife.standard_error(values) == pytest.approx(error)
    other = np.random.default_rng(4).random((5, 5))
    z = (_jackknife.pair_mean(values) - _jackknife.pair_mean(other)) / _jackknife.standard_error(values - other)
    from scipy.stats import norm

    assert _jackknife.z_test(values, other) == pytest.approx(2 * norm.sf(abs(z)))
    assert _jackknife.z_test(values, values) == 1.0
    assert _jackknife.z_test(values + 1, values) == 0.0
    assert np.isnan(_jackknife.standard_error(values[:2, :2]))
    assert np.isnan(_jackknife.z_test(values[:2, :2], other[:2, :2]))


def test_the_best_measure_is_named_and_the_others_compared_with_it():
    rng = np.random.default_rng(5)
    good, bad = (np.where(SELF, np.nan, values) for values in (perfect(), rng.random((12, 12))))
    status = np.where(SELF, "skipped", "ok")
    result = cg.Comparison.build(
        [measure("rsa"), measure("cka")], NAMES, NAMES, value=np.stack([bad, good]), status=np.stack([status, status])
    )
    rsa, cka = headline(result)
    assert cka.note.startswith("best")
    assert cka.p == 1.0
    assert rsa.p < 0.05 < 1.0


# ---------------------------------------------------------------------------------------- what the tiers are
@pytest.mark.parametrize("tier", ["quick", "small"])
def test_the_tiers_name_networks_and_layers_that_exist(tier):
    layers = [(name, networks) for name, networks, _ in layer_identification._plan(tier)]
    seeds = [(name, networks) for name, networks, _ in functional._plan(tier)]
    for plan, least in ((layers, 3), (intuitive._plan(tier), 3), (seeds, 5)):
        assert len({name for name, _ in plan}) == len(plan)
        for name, networks in plan:
            assert len(networks.layers) >= 3, name
            assert networks.seeds >= (least if tier == "quick" else 10), name
            assert json.loads(json.dumps(networks.key()))["config"] == networks.config.document()
    names = {name for name, _ in layers}
    assert {"quick": 1, "small": 4}[tier] == sum(name.startswith("transformer-") for name in names)
    assert "cnn-pooled" in names
    assert "cnn-flattened" in names


def test_diverged_networks_are_an_error(monkeypatch):
    networks = _populations.Networks(_populations.QUICK_MLP, 3, zoo.Probe(n=20))
    lost = types.SimpleNamespace(seeds=(0,), diverged=(1, 2))
    monkeypatch.setattr(zoo, "train", lambda *_, **__: lost)
    with pytest.raises(cg.InputError, match="2 of 3 networks diverged. Lower the learning rate"):
        networks.train(lambda *_: None)


# ---------------------------------------------------------------------------------------- real networks
def _briefly(name, networks, sizes):
    """Train convolutional networks and transformers for an epoch: what is asserted of them does not depend on it."""
    if name == "mlp":
        return name, networks, sizes
    training = dataclasses.replace(networks.config.recipe, epochs=1)
    return name, dataclasses.replace(networks, config=dataclasses.replace(networks.config, training=training)), sizes


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    plan = layer_identification._plan
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONGRUENCE_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(layer_identification, "_plan", lambda tier: [_briefly(*case) for case in plan(tier)])
        yield benchmarks.run(
            "layer-identification", ["cka", "cca", "procrustes"], out=tmp_path_factory.mktemp("run") / "run"
        )


def test_the_quick_tier_finds_layers_of_real_networks(quick):
    heads = quick.table[quick.table["quantity"] == "accuracy"].set_index(["case", "measure"])["value"]
    assert set(quick.table["case"]) == {
        "cnn-flattened", "cnn-pooled-n12", "cnn-pooled-n150", "mlp", "transformer-residual",
    }  # fmt: skip
    assert quick.failed == 0
    assert heads["mlp", "cka"] > 0.4  # chance is 0.25
    assert heads["mlp", "cka"] >= heads["mlp", "cca"]


def test_with_fewer_stimuli_than_features_cca_is_blind(quick):
    # flattened: 150 stimuli, the first layers have 1,024 features; all canonical correlations are 1
    heads = quick.table.set_index(["case", "measure", "quantity"])["value"]
    assert heads["cnn-flattened", "cca", "accuracy:conv1"] < 0.4  # four layers or more tie
    caveats = cg.load(quick.folder / "layer-identification" / "cnn-flattened").caveats(
        "cca", "seed-0/conv1", "seed-1/conv1"
    )
    assert any(caveat.code == "cca_floor" for caveat in caveats)


def test_cases_hold_named_layers_in_order_of_depth(quick):
    result = cg.load(quick.folder / "layer-identification" / "mlp")
    assert result.a[:5] == ("seed-0/hidden1", "seed-0/hidden2", "seed-0/hidden3", "seed-0/hidden4", "seed-1/hidden1")
    matrix = result.matrix("cka")
    assert np.isnan(matrix.sel(a="seed-0/hidden1", b="seed-0/hidden2"))  # pairs within a network are not asked for
    assert matrix.sel(a="seed-0/hidden1", b="seed-1/hidden1") > 0.5
