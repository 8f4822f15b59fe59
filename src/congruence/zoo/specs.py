"""Parameters that can be written as text: the common base of architectures, data sets, corruptions and training."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from typing import Any, ClassVar, Self, TypeVar

from congruence import validate
from congruence.errors import ParameterError, UnknownNameError

Kind = TypeVar("Kind", bound="Spec")


class Spec(ABC):
    """A frozen dataclass of typed parameters with a name; as text ``name:key=value,...`` with non-default values only."""

    name: ClassVar[str]

    def __post_init__(self) -> None:
        validate.check_parameters(self, self.name)

    def __str__(self) -> str:
        return validate.render_spec(self.name, validate.non_default(self))

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> Self:
        """Return an instance from names and values; an unknown name lists the closest."""
        built: Self = validate.build(cls, cls.name, parameters)
        return built


def parse(spec: str | Kind, known: Mapping[str, type[Kind]], what: str) -> Kind:
    """Return the instance that a text describes; an instance is returned as it is.

    Parameters
    ----------
    spec : str or Spec
        ``name`` or ``name:key=value,...``, or the object itself.
    known : mapping of str to type
        The classes by name; an instance must be of one of them.
    what : str
        What to call it in messages, such as ``"architecture"``.

    Raises
    ------
    UnknownNameError
        If there is nothing of that name; the message lists the closest.
    ParameterError
        If `spec` is neither text nor of the right kind, or a parameter breaks its rule.
    """
    if not isinstance(spec, str):
        if isinstance(spec, tuple(known.values())):
            return spec
        message = f"{what} must be text such as '{next(iter(known))}' or one of {', '.join(c.__name__ for c in known.values())}; got {type(spec).__name__}."
        raise ParameterError(message)
    name, parameters = validate.parse_spec(spec)
    if name not in known:
        message = f"There is no {what} '{name}'. {validate.closest(name, known)}"
        raise UnknownNameError(message)
    return known[name].from_parameters(parameters)
