"""Representations: ids, alignment, and what steps leave in the provenance."""

from __future__ import annotations

import numpy as np
import pytest

from congruence.errors import AlignmentError, ShapeError
from congruence.representation import Representation, align, require_aligned
from congruence.steps import LastStep, TokenMean

X = np.arange(12.0).reshape(4, 3)


def rep(name: str, ids: list[str] | None, values: np.ndarray = X) -> Representation:
    return Representation(values, name=name, ids=ids)


def test_ids_are_matched_never_positions() -> None:
    require_aligned(rep("a", list("pqrs")), rep("b", list("pqrs")))
    require_aligned(rep("a", None), rep("b", None))
    with pytest.raises(
        AlignmentError,
        match=r"a and b hold the same stimuli in another order \(2 of 4 positions differ; position 1: 'q' and 'r'; position 2: 'r' and 'q'\)",
    ):
        require_aligned(rep("a", list("pqrs")), rep("b", list("prqs")))
    with pytest.raises(AlignmentError, match=r"1 only in a \(first: 's'\), 1 only in b \(first: 't'\)"):
        require_aligned(rep("a", list("pqrs")), rep("b", list("pqrt")))
    with pytest.raises(AlignmentError, match=r"b has no ids, so its stimuli count as 0..3"):
        require_aligned(rep("a", list("pqrs")), rep("b", None))
    with pytest.raises(ShapeError, match="a has 4 stimuli and b has 2"):
        require_aligned(rep("a", None), rep("b", None, X[:2]))


def test_arrays_without_ids_count_as_0_to_n_minus_1() -> None:
    require_aligned(rep("a", None), Representation(X, "b", ids=range(4)))


def test_repeated_or_missing_ids_are_refused() -> None:
    with pytest.raises(AlignmentError, match=r"a has 1 repeated stimulus ids \(first: 'q'\)"):
        rep("a", list("pqqs"))
    with pytest.raises(AlignmentError, match="a has 4 stimuli but 3 ids"):
        rep("a", list("pqr"))


def test_align_reorders_and_intersects() -> None:
    a, b = rep("a", list("pqrs")), rep("b", list("srqp"), X[::-1])
    first, second = align(a, b, "reorder")
    np.testing.assert_array_equal(first.values, second.values)
    first, second = align(a, rep("b", list("xsrp"), X))
    assert first.stimulus_ids.tolist() == second.stimulus_ids.tolist() == ["p", "r", "s"]
    np.testing.assert_array_equal(second.values, X[[3, 2, 1]])
    with pytest.raises(AlignmentError, match="only in a"):
        align(a, rep("b", list("xsrp")), "reorder")
    with pytest.raises(AlignmentError, match="have no stimulus in common"):
        align(a, rep("b", list("uvwx")))


def test_matrix_applies_steps_and_remembers_them() -> None:
    values, mask = np.random.default_rng(0).normal(size=(4, 5, 3)), np.ones((4, 5), dtype=bool)
    mask[:, 3:] = False
    averaged = Representation(values, "r", mask=mask).matrix()
    assert averaged.steps == (TokenMean(),)
    np.testing.assert_allclose(averaged.values, values[:, :3].mean(axis=1))
    last = Representation(values, "r", mask=mask, recurrent=True).matrix()
    assert last.steps == (LastStep(),)
    np.testing.assert_array_equal(last.values, values[:, 2])
    assert rep("a", None).matrix().steps == ()
    assert "steps=token_mean" in repr(averaged)


def test_a_number_is_no_representation() -> None:
    with pytest.raises(ShapeError, match="one row per stimulus"):
        Representation(np.float64(3.0), "r")
