"""Which layers to record: globs, regular expressions, exact names or a function."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from congruence import validate
from congruence.errors import ParameterError, UnknownNameError
from congruence.extraction.naming import NamedModule

Layers = str | Iterable[str] | Callable[[str, nn.Module], bool]

_SUFFIX = re.compile(r"(#\d+)?(\[[^\]]+\])*(\.[^.\[#]+)?(\[\d+\])*")  # of an output's name after that of its module


@dataclass(frozen=True)
class Selection:
    """The modules to record.

    Parameters
    ----------
    modules : tuple of NamedModule
        The modules, in definition order.
    exact : frozenset of str
        Names that were asked for literally: what cannot be recorded under them is an error and not a warning.
    only : dict of str to frozenset of str
        For a module of which single outputs were asked for (``lstm[1][0]``): the names to keep.
    excluded : tuple of str
        Patterns of outputs to leave out.
    """

    modules: tuple[NamedModule, ...]
    exact: frozenset[str]
    only: dict[str, frozenset[str]]
    excluded: tuple[str, ...] = ()

    def keeps(self, module: str, name: str) -> bool:
        """Return whether the output `name` of `module` was asked for."""
        wanted = module not in self.only or name in self.only[module]
        return wanted and not any(excludes(pattern, name) for pattern in self.excluded)


def select(modules: Sequence[NamedModule], layers: Layers) -> Selection:
    """Return the modules that `layers` describes.

    Parameters
    ----------
    modules : sequence of NamedModule
        What there is, the model itself last.
    layers : str, iterable of str, or callable
        A glob over the module path, in which ``*`` matches any characters, dots too; ``re:...``, a regular expression
        that must match the whole path; the exact name of a module or of one output; or a function of name and module.
        A glob selects submodules only; the model's own output is recorded under its exact name (``output``), by a
        regular expression or by a function, and by ``*`` if the model has no submodules. ``!`` before a name, glob or
        regular expression leaves out the outputs of that name, such as ``!*[1]``, the second one of every module.

    Raises
    ------
    UnknownNameError
        If a pattern, or the function, selects nothing.
    """
    if callable(layers):
        chosen = tuple(named for named in modules if layers(named.name, named.module))
        if not chosen:
            raise unknown(None, [named.name for named in modules])
        return Selection(chosen, frozenset(), {})
    patterns = [layers] if isinstance(layers, str) else list(layers)
    if not all(pattern.removeprefix("!") for pattern in patterns) or not patterns:
        message = f"layers must be a pattern, a list of patterns or a function of name and module; got {layers!r}."
        raise ParameterError(message)
    excluded = tuple(pattern[1:] for pattern in patterns if pattern.startswith("!"))
    return _by_patterns(modules, [p for p in patterns if not p.startswith("!")] or ["*"], excluded)


def _by_patterns(modules: Sequence[NamedModule], patterns: Sequence[str], excluded: tuple[str, ...]) -> Selection:
    """Return the union of what the patterns select, without what is excluded, in definition order."""
    whole: set[str] = set()
    single: dict[str, set[str]] = {}
    for pattern in patterns:
        names = {named.name for named in modules if _matches(pattern, named, modules)}
        owner, suffix = ("", "") if names else _owner(pattern, modules)
        if owner:
            single.setdefault(owner, set()).add(owner + suffix)
        elif not names:
            raise unknown(pattern, [named.name for named in modules])
        whole |= names
    left_out = {named.name for named in modules if any(excludes(pattern, named.name) for pattern in excluded)}
    wanted = (whole | set(single)) - {name for name in left_out if name not in single}
    chosen = tuple(named for named in modules if named.name in wanted)
    if not chosen:
        message = f"The layer patterns leave out all that they select: {', '.join([*patterns, *excluded])}."
        raise UnknownNameError(message)
    exact = {pattern for pattern in patterns if not _is_glob(pattern)} | set().union(*single.values())
    only = {module: frozenset(labels) for module, labels in single.items() if module not in whole}
    return Selection(chosen, frozenset(exact), only, excluded)


def excludes(pattern: str, name: str) -> bool:
    """Return whether a pattern after ``!`` leaves out an output; brackets stand for themselves, as in names."""
    if pattern.startswith("re:"):
        return _compiled(pattern).fullmatch(name) is not None
    return fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))


def _is_glob(pattern: str) -> bool:
    return pattern.startswith("re:") or any(character in pattern for character in "*?[")


def _matches(pattern: str, named: NamedModule, modules: Sequence[NamedModule]) -> bool:
    """Return whether a pattern selects a module, by its name or by an alias."""
    paths = (named.name, *named.aliases)
    if pattern.startswith("re:"):
        return any(_compiled(pattern).fullmatch(path) for path in paths)
    if pattern in paths:
        return True
    is_root = named is modules[-1]
    return (not is_root or len(modules) == 1) and any(fnmatch.fnmatchcase(path, pattern) for path in paths)


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern.removeprefix("re:"))
    except re.error as error:
        message = f"The layer pattern '{pattern}' is not a regular expression: {error}."
        raise ParameterError(message) from error


def _owner(pattern: str, modules: Sequence[NamedModule]) -> tuple[str, str]:
    """Split the name of a single output such as ``lstm[1][0]`` into its module, the longest that fits, and the rest."""
    paths = [(path, named.name) for named in modules for path in (named.name, *named.aliases)]
    starts = [(len(path), name) for path, name in paths if pattern.startswith(path)]
    fitting = [(length, name) for length, name in starts if _SUFFIX.fullmatch(pattern[length:])]
    length, name = max(fitting, default=(0, ""))
    return name, pattern[length:]


def unknown(pattern: str | None, known: Iterable[str]) -> UnknownNameError:
    """Return the error for a pattern (None: a function) that selects nothing, with the closest of what there is."""
    what = "The function given as layers" if pattern is None else f"The layer pattern '{pattern}'"
    hint = validate.closest(pattern or "", known)
    message = f"{what} matches no layer. {hint} List the layers with: congruence layers MODEL"
    return UnknownNameError(message)
