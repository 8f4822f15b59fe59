"""Names of modules and of the tensors they put out.

A tensor is named after the module that fired:

- ``conv1`` for the module path ``conv1``; ``conv1#2`` for the second call of that module in one forward;
- element 0 of a tuple keeps the bare name, the others are ``lstm[1]``, ``lstm[1][0]``;
- entries of a dict, a dataclass or a Hugging Face ModelOutput are ``encoder.last_hidden_state``;
- the model's own output is ``output``.

Wrappers (DataParallel, torch.compile) leave no trace in a name. A module that is registered under two paths is named
after the first in definition order; both paths select it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.rnn import PackedSequence

ROOT = "output"
"""Name of what the model itself puts out."""

_WRAPPED = ("module", "_fsdp_wrapped_module")  # the one child of DataParallel, of what copies it, and of FSDP
_COMPILED = "_orig_mod"

Path = tuple[int | str, ...]


@dataclass(frozen=True)
class NamedModule:
    """A module of a model, under the name that its outputs get.

    Parameters
    ----------
    name : str
        First path in definition order, without wrappers; ``"output"`` for the model itself.
    module : torch.nn.Module
        The module.
    aliases : tuple of str
        Further paths of the same module.
    """

    name: str
    module: nn.Module
    aliases: tuple[str, ...] = ()


def runnable(model: nn.Module) -> nn.Module:
    """Return the module to call: what DataParallel replicates or torch.compile compiled, since hooks need the original."""
    children = dict(model.named_children())
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return runnable(children["module"])
    return runnable(children[_COMPILED]) if _COMPILED in children else model


def core(model: nn.Module) -> nn.Module:
    """Return the module whose children carry the names: what is inside a wrapper of any class."""
    model = runnable(model)
    children = dict(model.named_children())
    if len(children) == 1 and not list(model.parameters(recurse=False)):
        key, child = next(iter(children.items()))
        if key in _WRAPPED and list(child.children()):
            return core(child)
    return model


def root_name(model: nn.Module) -> str:
    """Return the name of the model's own output; its class where a submodule is already called ``output``."""
    return type(model).__name__ if ROOT in dict(model.named_children()) else ROOT


def named_modules(model: nn.Module) -> list[NamedModule]:
    """Return every module that can fire, in definition order; the model itself comes last.

    Containers without a forward (ModuleList), modules whose parent only reads their weights (the projection inside
    nn.MultiheadAttention) and parametrisations of weights are left out: none of them puts out an activation.
    """
    inner = core(model)
    silent = {id(m) for m in _silent(inner)}
    paths: dict[int, list[str]] = {}
    modules: dict[int, nn.Module] = {}
    for path, module in inner.named_modules(remove_duplicate=False):
        if path and id(module) not in silent and module is not inner:
            paths.setdefault(id(module), []).append(_clean(path))
            modules[id(module)] = module
    found = [NamedModule(names[0], modules[key], tuple(names[1:])) for key, names in paths.items()]
    return [*_innermost(found), NamedModule(root_name(inner), inner)]


def _clean(path: str) -> str:
    """Return a path without the parts that torch.compile puts in."""
    return ".".join(part for part in path.split(".") if part != _COMPILED)


def _innermost(found: list[NamedModule]) -> list[NamedModule]:
    """Keep one module a name: of a compiled submodule and its original, which clean to one path, the original."""
    return list({named.name: named for named in found}.values())


def _silent(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules that never put out an activation."""
    for module in model.modules():
        if type(module).forward is nn.Module.forward:
            yield module
        if isinstance(module, nn.MultiheadAttention):
            yield module.out_proj
        if isinstance(module, ParametrizationList):
            yield from module.modules()


def flatten_output(output: Any, path: Path = ()) -> Iterator[tuple[Path, Tensor | PackedSequence]]:
    """Yield every tensor of an output with its path of indices and keys.

    None, caches and everything else that is neither a tensor nor a container of tensors is left out.
    """
    if isinstance(output, Tensor | PackedSequence):
        yield path, output
    elif isinstance(output, Mapping):
        for key, value in output.items():
            yield from flatten_output(value, (*path, str(key)))
    elif isinstance(output, list | tuple):
        for index, value in enumerate(output):
            yield from flatten_output(value, (*path, index))
    elif dataclasses.is_dataclass(output) and not isinstance(output, type):
        for field in dataclasses.fields(output):
            yield from flatten_output(getattr(output, field.name), (*path, field.name))


def label(name: str, call: int, path: Path, taken: Container[str] = ()) -> str:
    """Return the name of one tensor of the `call`-th call (from 1) of the module `name`.

    A key that would give the name of another module (`taken`) is written ``name[key]``.
    """
    called = f"{name}#{call}" if call > 1 else name
    parts = () if path == (0,) else path
    inside = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    if inside and f"{called}{inside}" in taken:
        inside = "".join(f"[{part}]" for part in parts)
    return f"{called}{inside}"
