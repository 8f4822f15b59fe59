"""Collect the checks of a measure, run them, or hand them to pytest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any

from congruence import validate
from congruence.errors import MissingExtraError
from congruence.measures import Measure
from congruence.testing._claims import claims
from congruence.testing._inputs import inputs
from congruence.testing._laws import laws
from congruence.testing._subject import Subject, double_precision, why_missing


@dataclass(frozen=True)
class Check:
    """One claim about one measure, as a test: call it, and it passes or raises an AssertionError.

    Parameters
    ----------
    name : str
        Identifier, such as ``"invariant_first[orthogonal]"``.
    claim : str
        What must hold, in words.
    subject : Subject
        Measure and backend.
    test : callable
        What is run.
    """

    name: str
    claim: str
    subject: Subject
    test: Callable[[Subject], None]

    def __call__(self) -> None:
        """Run the check.

        Raises
        ------
        AssertionError
            If the claim does not hold, or the measure fails on data that it must digest.
        """
        try:
            with double_precision(self.subject.backend):
                self.test(self.subject)
        except Exception as error:
            raised = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
            message = f"{self} is broken ({self.claim}): {raised}{error}"
            raise AssertionError(message) from error

    def __str__(self) -> str:
        return f"{self.subject.measure.label} on {self.subject.backend}: {self.name}"


def checks(measure: Measure[Any], /, *, backend: str = "numpy") -> list[Check]:
    """Return the checks that follow from what a measure claims.

    Parameters
    ----------
    measure : Measure
        Any measure, registered or not.
    backend : {"numpy", "torch", "jax"}
        Library of the arrays.

    Returns
    -------
    list of Check
        Callables with a name and a claim.
    """
    subject = Subject(measure, backend)
    missing = why_missing(backend)
    if missing:
        raise MissingExtraError(missing)
    return _collect(subject)


def _collect(subject: Subject) -> list[Check]:
    info = subject.info
    found = chain(claims(info), laws(info), inputs(info))
    return [Check(name, claim, subject, test) for name, claim, test in found]


def check_measure(measure: Measure[Any], /, *, backend: str = "numpy") -> None:
    """Run all checks of a measure.

    Parameters
    ----------
    measure : Measure
        Any measure, registered or not.
    backend : {"numpy", "torch", "jax"}
        Library of the arrays.

    Raises
    ------
    AssertionError
        If a claim is broken; the message names all that are.
    """
    broken = []
    for check in checks(measure, backend=backend):
        try:
            check()
        except AssertionError as error:
            broken.append(str(error))
    if broken:
        raise AssertionError("\n".join(broken))


def parametrize(measures: Iterable[Measure[Any]], /, *, backends: Iterable[str] = ("numpy",)) -> Any:
    """Return a pytest mark that runs a test once for every check of every measure.

    Parameters
    ----------
    measures : iterable of Measure
        What to test.
    backends : iterable of str
        Libraries of the arrays; one that is not installed is skipped, with the reason.

    Returns
    -------
    pytest.MarkDecorator
        For a function with the argument ``check``.

    Examples
    --------
    >>> from congruence.measures import CKA
    >>> @parametrize([CKA()])
    ... def test_cka(check):
    ...     check()
    """
    pytest = validate.require_extra("pytest", "dev", "congruence.testing.parametrize")
    measures = list(measures)
    parameters = []
    for backend in backends:
        missing = why_missing(backend)
        marks = [pytest.mark.skip(reason=missing)] if missing else []
        for check in chain.from_iterable(_collect(Subject(measure, backend)) for measure in measures):
            parameters.append(
                pytest.param(check, id=f"{check.subject.measure.label}-{backend}-{check.name}", marks=marks)
            )
    return pytest.mark.parametrize("check", parameters)
