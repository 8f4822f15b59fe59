"""The public checks find every kind of wrong claim, and pass an honest measure that is not registered."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pytest

from congruence import compare, testing
from congruence.errors import AlignmentError, Caveat, MissingExtraError, ParameterError, ShapeError
from congruence.measures import METRIC, TRANSFORMATIONS, Finding, Findings, Measure, MeasureInfo, Needs, both, closure
from congruence.representation import Representation
from congruence.testing import check_measure, checks, parametrize


class Cosine(NamedTuple):
    """A centred Gram matrix of unit norm."""

    gram: np.ndarray


def normalised(x: np.ndarray) -> Cosine:
    """Return the centred Gram matrix of x with unit norm, safe at any scale."""
    x = x - x.mean(axis=0)
    x = x - x.mean(axis=0)
    x = x / abs(x).max()
    gram = x @ x.T
    return Cosine(gram / np.linalg.norm(gram))


@dataclass(frozen=True)
class Honest(Measure[Any]):
    """A measure as someone else would write it: linear CKA for NumPy."""

    name = "honest"

    @property
    def info(self) -> MeasureInfo:
        return MeasureInfo(
            label=self.label,
            title="honest",
            definition="cosine of centred Gram matrices",
            orientation="similarity",
            range=(0.0, 1.0),
            identity=1.0,
            symmetric=True,
            conversions=frozenset({"one_minus", "angular"}),
            metric_conversions=frozenset({"angular"}),
            **both("orthogonal", "isotropic_scaling", "translation"),
        )

    def prepare(self, x):
        return normalised(x)

    def compare(self, a, b) -> float:
        return min(1.0, max(0.0, float(np.sum(a.gram * b.gram))))


@parametrize([Honest()])
def test_third_party_measure(check):
    check()


def claiming(**claims: Any) -> type[Honest]:
    """Return an Honest measure whose info says something else."""

    class Claiming(Honest):
        @property
        def info(self) -> MeasureInfo:
            return replace(super().info, **claims)

    return Claiming


def distance_info(info: MeasureInfo, **claims: Any) -> MeasureInfo:
    """Return the info of a similarity rewritten for a metric distance."""
    plain = {"orientation": "distance", "identity": 0.0, "conversions": frozenset(), "metric_conversions": frozenset()}
    return replace(info, **{**plain, "range": (0.0, math.inf), "axioms": METRIC, **claims})


class Constant(Honest):
    def compare(self, a, b):
        return 1.0


class IgnoresSecond(Honest):
    def compare(self, a, b):
        return float(abs(a.gram[0, 1]))


class LeavesRange(Honest):
    def compare(self, a, b):
        return 1.01 * super().compare(a, b)


class ReturnsArray(Honest):
    def compare(self, a, b):
        return np.float64(super().compare(a, b))


class WrongWayRound(Honest):
    """A distance that says it is a similarity."""

    @property
    def info(self):
        return replace(super().info, identity=0.0)

    def compare(self, a, b):
        return 1.0 - super().compare(a, b)


class FalselySymmetric(Honest):
    def compare(self, a, b):
        return super().compare(a, b) * (
            1 - 0.1 * abs(float(a.gram[0, 0] - b.gram[0, 0])) * (a.gram[0, 0] > b.gram[0, 0])
        )


class Uncentred(Honest):
    """Says translation is ignored and does not centre."""

    def prepare(self, x):
        gram = (x / abs(x).max()) @ (x / abs(x).max()).T
        return Cosine(gram / np.linalg.norm(gram))


class FirstUncentred(Honest):
    """Ignores translation of the second argument only."""

    def prepare(self, x):
        return Uncentred().prepare(x), normalised(x)

    def compare(self, a, b):
        return super().compare(a[0], b[1])

    @property
    def info(self):
        return replace(super().info, symmetric=False, metric_conversions=frozenset(), identity=1.0)


class Mutating(Honest):
    def prepare(self, x):
        x -= x.mean(axis=0)
        return normalised(np.asarray(x))


class Hoarding(Honest):
    """Keeps what it saw last."""

    seen: list[Any] = []

    def prepare(self, x):
        self.seen.append(x)
        return Cosine(normalised(x).gram + 1e-6 * len(self.seen))


class Unpicklable(Honest):
    def prepare(self, x):
        gram = normalised(x).gram
        return lambda: gram

    def compare(self, a, b):
        return min(1.0, max(0.0, float(np.sum(a() * b()))))


class StateChanging(Honest):
    def compare(self, a, b):
        value = super().compare(a, b)
        a.gram[:] *= 0.999
        return value


class OtherBlock(Honest):
    def compare_block(self, first: Sequence[Any], second: Sequence[Any]):
        return super().compare_block(first, second) - 1e-6


class TransposedBlock(Honest):
    def compare_block(self, first: Sequence[Any], second: Sequence[Any]):
        return super().compare_block(first, second).T


class SilentBlock(Honest):
    """Has a caveat that its block kernel forgets."""

    def caveats(self, a, b):
        return (Caveat("note", "a remark"),)

    def examine_block(self, first, second):
        return Findings(self.compare_block(first, second), {})


class OtherExamine(Honest):
    def examine(self, a, b):
        return Finding(self.compare(a, b) / 2)


class WordlessCaveat(Honest):
    def caveats(self, a, b):
        return (Caveat("", ""),)


class OrderDependent(Honest):
    def prepare(self, x):
        return normalised(x[: len(x) // 2])


class OnlyDouble(Honest):
    def prepare(self, x):
        return normalised(np.round(x) if x.dtype == np.float32 else x)


class OnlyNumpy(Honest):
    def prepare(self, x):
        gram = normalised(np.asarray(x)).gram
        return Cosine(gram if isinstance(x, np.ndarray) else abs(gram))


class NeedsMorePoints(Honest):
    """Inverts a covariance."""

    def prepare(self, x):
        centred = x - x.mean(axis=0)
        return Cosine(normalised(x).gram + 0 * np.linalg.inv(centred.T @ centred)[0, 0])


class Overflowing(Honest):
    def prepare(self, x):
        centred = x - x.mean(axis=0)
        gram = centred @ centred.T
        return Cosine(gram / np.linalg.norm(gram))


class Cancelling(Honest):
    """Centres after squaring."""

    def prepare(self, x):
        gram = (x / abs(x).max()) @ (x / abs(x).max()).T
        gram = gram - gram.mean(axis=0) - gram.mean(axis=1)[:, None] + gram.mean()
        return Cosine(gram / np.linalg.norm(gram))


class Careless(Honest):
    """Takes whatever comes."""

    def admit(self, x, name="X", dtype=None):
        return np.nan_to_num(np.real(np.asarray(x, dtype=complex)).astype(float))

    def prepare(self, x):
        x = x.reshape(len(x), -1)
        return normalised(x + 1e-3 * np.arange(len(x))[:, None])


class Chord(Honest):
    """2 - 2 cos: a squared distance that claims to be a metric."""

    @property
    def info(self):
        return distance_info(super().info)

    def compare(self, a, b):
        return 2 - 2 * super().compare(a, b)


class Negative(Chord):
    def compare(self, a, b):
        return super().compare(a, b) - 0.01

    @property
    def info(self):
        return replace(super().info, range=(-math.inf, math.inf))


class UncentredChord(Chord):
    """Takes a translation for a difference."""

    def prepare(self, x):
        return Uncentred().prepare(x)


@dataclass(frozen=True)
class Seeded(Honest):
    """Weights features at random."""

    name = "seeded"
    seed: int = 0

    @property
    def info(self):
        return replace(super().info, needs=Needs(seed=True))

    def prepare(self, x):
        weights = np.random.default_rng(self.seed).uniform(0.9, 1.1, x.shape[1])
        return normalised(x * weights)


class SeedIgnored(Seeded):
    def prepare(self, x):
        return normalised(x)


class Nameless(Honest):
    """Does not say which side is wrong."""

    def admit(self, x, name="X", dtype=None):
        return super().admit(x, "the array", dtype)


class Blunt(Chord):
    """Cannot tell different data apart."""

    def compare(self, a, b):
        return max(0.0, super().compare(a, b) - 1.5)


class ForgetsRows(Honest):
    """Declares that stimuli without a direction are refused, and takes them."""

    @property
    def info(self):
        return replace(super().info, needs=Needs(nonzero_rows=True))


class MoreStimuliThanFeatures(Honest):
    """Needs more stimuli than features, as whatever inverts a covariance does."""

    @property
    def info(self):
        return replace(super().info, needs=Needs(n=6, n_above_p=True, ids=True))


@parametrize([MoreStimuliThanFeatures()])
def test_a_measure_that_needs_more_stimuli_than_features(check):
    check()


def test_what_a_measure_needs_is_checked_before_anything_is_computed():
    rng = np.random.default_rng(0)
    ids = [f"s{i}" for i in range(8)]
    good, wide = (Representation(rng.normal(size=(8, p)), f"p{p}", ids=ids) for p in (3, 8))
    chosen = MoreStimuliThanFeatures()
    assert compare([good], measures=chosen).matrix("honest").item() == pytest.approx(1.0)
    with pytest.raises(ShapeError, match="p8 has 8 stimuli and 8 features; honest needs more stimuli than features"):
        compare([good, wide], measures=chosen)
    with pytest.raises(AlignmentError, match="a has no stimulus ids; honest needs them. Give it ids."):
        compare({"a": good.values}, measures=chosen)
    with pytest.raises(ShapeError, match="X has 8 stimuli and 8 features; honest needs more"):
        chosen(wide.values, good.values)


class ForgetsFeatures(MoreStimuliThanFeatures):
    """Declares that n > p is needed, and takes anything."""

    def admit(self, x, name="X", dtype=None):
        return Honest().admit(x, name, dtype)


class ForgetsWidths(Honest):
    """Declares needs that its own entry point does not enforce."""

    @property
    def info(self):
        return replace(super().info, needs=Needs(p=2, equal_p=True))

    def __call__(self, x, y, *, dtype=None):
        return self.compare(self.prepare(x), self.prepare(y))


class Travelling(Honest):
    """Comes back from pickling as something else."""

    def __reduce__(self):
        return (Honest, ())


ALL_AFFINE = closure(("invertible_linear", "translation"))

WRONG = [
    (Constant, "orientation"),
    (Constant, "dependence"),
    (Constant, "sensitive_first[feature_scaling]"),
    (IgnoresSecond, "dependence"),
    (LeavesRange, "range"),
    (ReturnsArray, "range"),
    (claiming(range=(0.0, 0.1), identity=0.1), "range"),
    (claiming(identity=0.9), "identity"),
    (claiming(identity=0.9), "orientation"),
    (WrongWayRound, "orientation"),
    (FalselySymmetric, "symmetry"),
    (claiming(symmetric=False, metric_conversions=frozenset()), "asymmetry"),
    (Uncentred, "invariant_first[translation]"),
    (Uncentred, "invariant_second[translation]"),
    (FirstUncentred, "invariant_first[translation]"),
    (claiming(invariant_first=ALL_AFFINE, sensitive_first=frozenset()), "invariant_first[feature_scaling]"),
    (claiming(invariant_second=ALL_AFFINE, sensitive_second=frozenset()), "invariant_second[invertible_linear]"),
    (
        claiming(invariant_first=frozenset(), sensitive_first=frozenset({"permutation"})),
        "sensitive_first[permutation]",
    ),
    (
        claiming(invariant_second=frozenset(), sensitive_second=frozenset({"translation"})),
        "sensitive_second[translation]",
    ),
    (claiming(sensitive_first=frozenset({"rotation"})), "sensitive_first[rotation]"),
    (claiming(metric_conversions=frozenset({"one_minus"})), "as_distance[one_minus]"),
    (claiming(symmetric=False), "as_distance[angular]"),
    (claiming(range=(0.5, 1.0)), "as_distance[one_minus]"),
    (claiming(label="another"), "info"),
    (claiming(range=(1.0, 1.0)), "info"),
    (claiming(identity=2.0), "info"),
    (claiming(axioms=frozenset({"nonnegative"})), "info"),
    (claiming(title=""), "info"),
    (claiming(metric_conversions=frozenset({"squared"})), "info"),
    (Mutating, "input_unchanged"),
    (Hoarding, "prepare_pure"),
    (Hoarding, "repeatable"),
    (StateChanging, "prepare_pure"),
    (Unpicklable, "picklable"),
    (Travelling, "picklable"),
    (OtherBlock, "block"),
    (TransposedBlock, "block"),
    (SilentBlock, "block"),
    (OtherExamine, "states_agree"),
    (WordlessCaveat, "states_agree"),
    (OrderDependent, "stimulus_order"),
    (OnlyDouble, "float32"),
    (NeedsMorePoints, "hard[rank-deficient]"),
    (NeedsMorePoints, "hard[a constant column]"),
    (Overflowing, "scales"),
    (Cancelling, "offset"),
    (Careless, "refuses_nonfinite"),
    (Careless, "refuses_constant"),
    (Careless, "refuses_few"),
    (Careless, "refuses_shapes"),
    (Careless, "refuses_complex"),
    (Careless, "warns_integers"),
    (Chord, "axiom[triangle]"),
    (Negative, "axiom[nonnegative]"),
    (Blunt, "axiom[identity]"),
    (UncentredChord, "axiom[identity]"),
    (claiming(identity=0.9), "as_distance[one_minus]"),
    (Nameless, "refuses_nonfinite"),
    (claiming(needs=Needs(seed=True)), "seed"),
    (SeedIgnored, "seed"),
    (ForgetsRows, "rows"),
    (ForgetsFeatures, "widths"),
    (ForgetsFeatures, "refuses_few"),
    (ForgetsWidths, "widths"),
    (ForgetsWidths, "hard[one feature]"),
]


def ids(item: Any) -> str:
    return item.__name__ if isinstance(item, type) else item


@pytest.mark.parametrize(("wrong", "name"), WRONG, ids=ids)
def test_wrong_claim_is_found(wrong, name):
    instance = wrong()
    found = [check for check in checks(instance) if check.name == name]
    assert len(found) == 1
    with pytest.raises(AssertionError) as caught:
        found[0]()
    assert str(caught.value).startswith(f"{instance.label} on numpy: {name} is broken ({found[0].claim})")


def test_every_kind_of_check_has_been_seen_to_fail():
    kinds = {check.name.partition("[")[0] for check in checks(Honest())}
    kinds |= {check.name.partition("[")[0] for check in checks(Chord())} | {"asymmetry"}
    # with NumPy arrays, the check of the backend compares NumPy with itself; see the test below
    assert kinds - {name.partition("[")[0] for _, name in WRONG} == {"backend"}


def test_another_backend_must_agree():
    pytest.importorskip("torch", reason="the torch extra is not installed")
    (check,) = (check for check in checks(OnlyNumpy(), backend="torch") if check.name == "backend")
    with pytest.raises(AssertionError, match="on torch: backend is broken"):
        check()


def test_arrays_that_cannot_be_protected_are_compared_afterwards():
    pytest.importorskip("torch", reason="the torch extra is not installed")
    (check,) = (check for check in checks(Mutating(), backend="torch") if check.name == "input_unchanged")
    with pytest.raises(AssertionError, match="input_unchanged is broken .*: X was changed"):
        check()


def test_check_measure_names_all_broken_claims():
    check_measure(Honest())
    with pytest.raises(AssertionError) as caught:
        check_measure(Constant())
    for name in ("orientation", "dependence", "sensitive_first", "sensitive_second"):
        assert f"honest on numpy: {name}" in str(caught.value)


def test_a_measure_that_depends_on_a_seed():
    (check,) = (check for check in checks(Seeded()) if check.name == "seed")
    check()


def test_check_is_a_named_callable():
    found = checks(Honest())
    names = [check.name for check in found]
    assert len(set(names)) == len(names)
    assert all(callable(check) and check.claim for check in found)
    assert str(found[0]) == "honest on numpy: info"


def test_a_fault_inside_a_measure_becomes_a_failed_check():
    (check,) = (check for check in checks(NeedsMorePoints()) if check.name == "hard[rank-deficient]")
    with pytest.raises(AssertionError) as caught:
        check()
    assert caught.value.__cause__ is not None


def test_unknown_backend_is_refused():
    with pytest.raises(ParameterError, match=r"backend must be numpy\|torch\|jax; got 'cupy'"):
        checks(Honest(), backend="cupy")


def test_missing_backend_is_refused_or_skipped(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'congruence\[torch\]'"):
        checks(Honest(), backend="torch")
    mark = parametrize([Honest()], backends=("numpy", "torch"))
    skipped = [parameter for parameter in mark.args[1] if parameter.marks]
    assert len(skipped) == len(checks(Honest()))
    assert "congruence[torch]" in skipped[0].marks[0].kwargs["reason"]
    assert skipped[0].id == "honest-torch-info"


def test_importing_testing_does_not_import_pytest():
    code = "import sys, congruence.testing; print('pytest' in sys.modules, 'torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]


# ---- the data --------------------------------------------------------------------------------------------------------


def test_data_come_from_the_seed_alone():
    for make in (testing.gaussian, lambda n, p, seed: testing.related(n, p, p, seed=seed)[1]):
        assert np.array_equal(make(6, 3, seed=1), make(6, 3, seed=1))
        assert not np.array_equal(make(6, 3, seed=1), make(6, 3, seed=2))
    ours, again = testing.hard_cases(12), testing.hard_cases(12)
    assert all(np.array_equal(ours[case], again[case]) for case in ours)


def test_hard_cases_are_what_their_names_say():
    cases = testing.hard_cases(20)
    assert cases["n < p"].shape[1] > 20
    assert cases["n = p"].shape == (20, 20)
    assert np.linalg.matrix_rank(cases["rank-deficient"]) == 3
    assert (np.ptp(cases["a constant column"], axis=0) == 0).sum() == 1
    assert len(np.unique(cases["duplicate rows"], axis=0)) == 10
    assert cases["one feature"].shape == (20, 1)
    norms = np.linalg.norm(cases["columns of very different scale"], axis=0)
    assert norms.max() / norms.min() > 1e9


def test_decay_shrinks_the_principal_axes():
    singular = np.linalg.svd(testing.gaussian(500, 5, decay=0.1), compute_uv=False)
    # 500 samples: axes within about 10 % of their true size
    assert singular[:-1] / singular[1:] == pytest.approx([10.0] * 4, rel=0.3)


@pytest.mark.parametrize("kind", TRANSFORMATIONS)
def test_transformations_are_what_their_names_say(kind):
    x = testing.gaussian(9, 4)
    moved = testing.transform(kind, x, seed=3)
    assert not np.allclose(moved, x)
    if kind == "translation":
        assert np.allclose(moved - x, (moved - x)[0])
        return
    linear = np.linalg.lstsq(x, moved, rcond=None)[0]
    assert np.allclose(x @ linear, moved)
    square = linear.T @ linear
    diagonal = np.diag(np.diag(linear))
    held = {
        "permutation": np.allclose(np.sort(linear, axis=0)[:-1], 0) and np.allclose(linear.sum(axis=0), 1),
        "orthogonal": np.allclose(square, np.eye(4)),
        "isotropic_scaling": np.allclose(linear, linear[0, 0] * np.eye(4)) and linear[0, 0] > 0,
        "feature_scaling": np.allclose(linear, diagonal) and (np.diag(linear) > 0).all(),
        "invertible_linear": 1 < np.linalg.cond(linear) < 25,
    }
    assert held[kind]
    assert not held["isotropic_scaling"] or kind == "isotropic_scaling"


def test_unknown_transformation_is_refused():
    with pytest.raises(ParameterError, match="'rotation' is no transformation"):
        testing.transform("rotation", testing.gaussian(5, 2))


def test_triples_have_unequal_widths_unless_asked_otherwise():
    assert any(len({side.shape[1] for side in triple}) == 3 for triple in testing.triples(12, 4))
    for triple in testing.triples(12, 4, equal_p=True):
        assert {side.shape for side in triple} == {(12, 4)}
