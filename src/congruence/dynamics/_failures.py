"""What is said of states that could not be compared, first of all of a run that diverged: when, and what there still is."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from congruence.errors import Caveat, CongruenceWarning, DegenerateError
from congruence.results import Comparison
from congruence.results.summary import warn_of

if TYPE_CHECKING:
    from congruence.dynamics.series import CheckpointSeries


def state_name(step: int, layer: str) -> str:
    """Return what a layer at a step is called in comparisons and messages."""
    return f"{step}/{layer}"


def report(
    series: CheckpointSeries, results: Sequence[Comparison], names: Sequence[str], times: Iterable[int], final: int | None = None
) -> dict[str, Any]:  # fmt: skip
    """Warn of caveats and of pairs that failed; if all did, raise.

    Parameters
    ----------
    series, results : CheckpointSeries, sequence of Comparison
        The run and what was compared.
    names, times, final : sequence of str, iterable of int, int
        Layers and steps that were asked for, and the step that the others are compared with, if there is one.

    Returns
    -------
    dict
        What the labelled result keeps of it: the step at which the run diverged, where that is why pairs failed.
    """
    failures = [row for result in results for row in result.failures().itertuples()]
    total = sum(int((result.dataset["status"] != "skipped").sum()) for result in results)
    caveats = _caveats(series, failures, total, names, sorted({*times, *([] if final is None else [final])}), final)
    if failures and len(failures) == total:
        message = f"Nothing can be compared: {' '.join(caveat.text for caveat in caveats)}"
        raise DegenerateError(message)
    for caveat in caveats:
        warnings.warn(CongruenceWarning(caveat), stacklevel=3)
    warn_of([], *results, stacklevel=4)
    told = any(caveat.code == "diverged" for caveat in caveats)
    return {"diverged": series.diverged} if told and series.diverged is not None else {}


def _caveats(
    series: CheckpointSeries, failures: Sequence[Any], total: int, names: Sequence[str], steps: Sequence[int], final: int | None
) -> list[Caveat]:  # fmt: skip
    """Return what is to be said: that the run diverged, and what failed for another reason."""
    asked = [(step, name) for step in steps for name in names]
    lost = [(step, name) for step, name in asked if failures and name in _nonfinite(series, step)]
    known = {state_name(*state) for state in lost}
    blamed = [row for row in failures if known & {row.a, row.b}]
    other = [row for row in failures if not known & {row.a, row.b}]
    found = []
    if blamed:
        states, pairs = f"{len(lost)} of {len(asked)}", f"{blamed[0].measure} failed for {len(blamed)} of {total}"
        found.append(_diverged(series, lost, states, pairs, final))
    elif final is not None and _nonfinite(series, final):
        found.append(_elsewhere(series, final))
    return [*found, *([_other(other, total)] if other else [])]


def _nonfinite(series: CheckpointSeries, step: int) -> dict[str, Any]:
    """Return the layers that put out values that are not finite at one step."""
    return dict(series[step].provenance.get("nonfinite", {}))


def _diverged(
    series: CheckpointSeries, lost: Sequence[tuple[int, str]], states: str, pairs: str, final: int | None
) -> Caveat:
    """Return that states are not finite, in words: which, what failed by them, and what can be compared."""
    without = [name for step, name in lost if step == final]
    end = f" {len(without)} of the layers have no state at step {final}, with which the others are compared (first: {without[0]})." if without else ""  # fmt: skip
    text = f"{series.path} diverged at step {series.diverged}. {states} states hold values that are not finite (first: {state_name(*lost[0])}), so that {pairs} pairs.{end}"
    return Caveat("diverged", f"{text} {_instead(series, final)}")


def _elsewhere(series: CheckpointSeries, final: int) -> Caveat:
    """Return that the final step is that of a run that diverged, in layers that were not asked for."""
    first = next(iter(_nonfinite(series, final)))
    text = f"{series.path} diverged at step {series.diverged}. At step {final}, with which the others are compared, layer {first} holds values that are not finite."
    return Caveat("diverged", f"{text} {_instead(series, final)}")


def _other(failures: Sequence[Any], total: int) -> Caveat:
    """Return what failed for another reason."""
    first = failures[0]
    text = f"{first.measure}, {len(failures)} of {total} pairs failed, first {first.a} and {first.b}: {first.reason}"
    return Caveat("failed_pairs", text)


def _instead(series: CheckpointSeries, final: int | None) -> str:
    """Return what can be compared."""
    if not series.finite:
        return "No recorded step is finite: record again, from step 0 or with a lower learning rate."
    against = "" if final is None else f", against={series.finite[-1]}"
    return f"Compare up to the last step before that with at=run.finite{against}."
