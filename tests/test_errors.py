"""Errors and warnings: which builtin they also are, and how a representation gets its name in front."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

from congruence import errors
from congruence.errors import Caveat, CongruenceError, CongruenceWarning, InputError, UnknownNameError

BUILTINS = {
    "InputError": ValueError, "ShapeError": ValueError, "AlignmentError": ValueError, "DegenerateError": ValueError,
    "ParameterError": ValueError, "UnknownNameError": LookupError, "ExtractionError": RuntimeError,
    "StoreError": OSError, "CorruptStoreError": OSError, "LockedStoreError": OSError,
    "OutputExistsError": FileExistsError, "GateError": RuntimeError, "WorkerError": RuntimeError, "MissingExtraError": ImportError,
}  # fmt: skip

CLASSES = [
    cls
    for _, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, CongruenceError) and cls is not CongruenceError
]


def test_every_error_has_a_builtin():
    assert {cls.__name__ for cls in CLASSES} == set(BUILTINS)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_errors_are_one_sentence_and_their_builtin(cls):
    error = cls("layer3 is broken.")
    assert str(error) == "layer3 is broken."
    with pytest.raises(BUILTINS[cls.__name__], match=r"^layer3 is broken\.$"):
        raise error
    with pytest.raises(CongruenceError):
        raise error
    assert str(pickle.loads(pickle.dumps(error))) == str(copy.copy(error)) == str(error)
    assert str(cls()) == ""


def test_every_error_is_drawn_in_the_module():
    for cls in CLASSES:
        assert cls.__name__ in errors.__doc__


@pytest.mark.parametrize(
    ("message", "name", "named"),
    [
        ("2 values are NaN.", "layer3", "layer3: 2 values are NaN."),
        ("layer3 has 2 NaN values.", "layer3", "layer3 has 2 NaN values."),
        ("layer3: 2 NaN values.", "layer3", "layer3: 2 NaN values."),
        # a name that happens to be part of a word or of the text is no name yet
        ("a stimulus has no direction.", "a", "a stimulus has no direction."),
        ("one stimulus has no direction.", "o", "o: one stimulus has no direction."),
        ("2 stimuli have no direction.", "stim", "stim: 2 stimuli have no direction."),
        ("layer30 is broken.", "layer3", "layer3: layer30 is broken."),
    ],
)
def test_about_puts_the_name_in_front_once(message, name, named):
    error = InputError(message)
    found = error.about(name)
    assert str(found) == named
    assert type(found) is InputError
    assert str(error) == message
    assert str(found.about(name)) == named


def test_about_keeps_the_class():
    assert type(UnknownNameError("no such layer").about("resnet")) is UnknownNameError


def test_a_caveat_reads_as_code_and_text():
    caveat = Caveat("cca_floor", "ranks exceed n - 1", 0.25)
    assert str(caveat) == "cca_floor: ranks exceed n - 1"
    warning = CongruenceWarning(caveat)
    assert (str(warning), warning.code, warning.caveat.level) == (str(caveat), "cca_floor", 0.25)
    assert isinstance(warning, UserWarning)
    assert CongruenceWarning("plain words").code == "note"
