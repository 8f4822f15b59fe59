"""Every claim of every variant of every measure, on every backend."""

from __future__ import annotations

import numpy as np
import pytest

from congruence.errors import InputError
from congruence.measures import REGISTRY, measure
from congruence.testing import Subject, check_measure, checks, parametrize, related

VARIANTS = [variant for cls in REGISTRY.values() for variant in cls.variants()]

# JAX compiles every operation for every shape, so that a full contract takes minutes: one variant of most code paths
# runs on one shape here, and the full contract of four with the slow tests.
ON_JAX = ["cka", "cka:kernel=rbf", "cca", "pwcca:weights=mean", "procrustes", "linear_regression", "mutual_knn:k=3"]


@parametrize(VARIANTS)
def test_numpy(check):
    check()


# Each measure with its defaults, the other variants with the slow tests. That every variant gives on tensors what it
# gives on NumPy arrays is in test_engine_devices.py.
ON_TORCH = [
    pytest.param(
        variant, id=str(variant), marks=[] if variant.label == measure(variant.name).label else pytest.mark.slow
    )
    for variant in VARIANTS
]


@pytest.mark.parametrize("variant", ON_TORCH)
def test_torch(variant):
    pytest.importorskip("torch", reason="the torch extra is not installed")
    check_measure(variant, backend="torch")


@pytest.fixture
def jax():
    jax = pytest.importorskip("jax", reason="the jax extra is not installed")
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield jax
    jax.config.update("jax_enable_x64", before)


@pytest.mark.parametrize("spec", ON_JAX)
def test_jax(jax, spec):
    instance = measure(spec)
    plain, on_jax = Subject(instance), Subject(instance, "jax")
    x, y = related(12, 6, 6)
    # the same operations on another library: eps x condition (< 1e4), with room
    assert on_jax.value(x, y) == pytest.approx(plain.value(x, y), abs=1e-9)
    x[3, 1] = np.nan
    with pytest.raises(InputError, match=r"X has 1 NaN value; the first is at position \(3, 1\)"):
        on_jax.value(x, y)


def test_jax_without_64_bits_is_refused():
    jax = pytest.importorskip("jax", reason="the jax extra is not installed")
    assert not jax.config.jax_enable_x64
    x, y = (jax.numpy.asarray(side) for side in related(24, 6, 6))
    with pytest.raises(InputError, match="jax_enable_x64"):
        measure("cka")(x, y)


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["cka", "rsa", "mutual_knn", "pwcca", "shape:alpha=0.5", "svcca:components=3"])
def test_full_contract_on_jax(spec):
    pytest.importorskip("jax", reason="the jax extra is not installed")
    check_measure(measure(spec), backend="jax")


def test_variants_cover_every_enumerated_value():
    assert len(VARIANTS) == len({variant.label for variant in VARIANTS})
    assert {variant.name for variant in VARIANTS} == set(REGISTRY)
    assert {variant.kernel for variant in VARIANTS if variant.name == "cka"} == {
        "linear", "rbf", "laplace", "cosine", "polynomial"
    }  # fmt: skip
    # 5 kernels x 3 estimators; 2 statistics; 2 x 2 thresholds and 2 statistics of components=3; 3 weights; 4 forms;
    # 3 alphas x 2 forms; regression; 4 x 4; 2 k x 2 metrics
    first = 15 + 2 + 6 + 3 + 4 + 6 + 1 + 16 + 4
    # 2 metrics each; 2 kinds of entries
    neighbours = 2 + 2 + 2
    # magnitude, concentricity, 2 kinds of pairs
    scalars = 1 + 1 + 2
    # hard, semi, soft; 2 forms, centred or not; centred or not
    features = 1 + 1 + 3 + 4 + 2
    # 2 forms and an estimate of the intrinsic distance, one size of a batch
    topology = 2 + 1 + 1
    # 2 estimators; 2 norms x 3 matrices
    distances = 2 + 6
    # GULP: 2 penalties x 2 forms; 2 dimensions
    subspaces = 4 + 2
    assert len(VARIANTS) == first + neighbours + scalars + features + topology + distances + subspaces


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_every_claim_of_the_info_is_checked(variant):
    names = {check.name for check in checks(variant)}
    info = variant.info
    assert {f"axiom[{axiom}]" for axiom in info.axioms - {"symmetry"}} <= names
    assert {f"as_distance[{how}]" for how in info.conversions} <= names
    for side in ("first", "second"):
        for claim in ("invariant", "sensitive"):
            assert {f"{claim}_{side}[{kind}]" for kind in getattr(info, f"{claim}_{side}")} <= names
    assert ("symmetry" if info.symmetric else "asymmetry") in names
