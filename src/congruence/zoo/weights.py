"""Weights and the state of a training on disk: safetensors, whole or absent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from congruence.errors import CorruptStoreError, InputError
from congruence.store import write_bytes
from congruence.validate import require_extra

if TYPE_CHECKING:
    from torch import Tensor, nn


def save(path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, str] | None = None) -> None:
    """Write tensors, with notes in the header."""
    safetensors = require_extra("safetensors.torch", "hf", "Saving networks")
    plain = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
    write_bytes(path, safetensors.save(plain, dict(notes or {})))


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and notes of a file.

    Raises
    ------
    CorruptStoreError
        If it is missing or damaged.
    """
    library = require_extra("safetensors", "hf", "Loading networks")
    try:
        with library.safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (OSError, library.SafetensorError) as error:
        message = f"{path} cannot be read: {error}. Remove its folder and train again."
        raise CorruptStoreError(message) from error


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """Return what training changes: all parameters and buffers but frozen parameters."""
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    return {name: tensor for name, tensor in model.state_dict().items() if name not in frozen}


def restore(model: nn.Module, tensors: Mapping[str, Tensor], source: Path | str, *, fresh: str | None = None) -> None:
    """Put saved tensors into a network; everything that training changes must be there.

    Parameters
    ----------
    model : torch.nn.Module
        Network to change.
    tensors : mapping of str to tensor
        As `trained_state` gave them.
    source : path or str
        Where they come from, for messages.
    fresh : str, optional
        A submodule that keeps the values it has.

    Raises
    ------
    InputError
        If names or shapes differ; the message has them.
    """
    prefix = f"{fresh}." if fresh else None
    expected = {name: t for name, t in trained_state(model).items() if not (prefix and name.startswith(prefix))}
    used = {name: tensor for name, tensor in tensors.items() if not (prefix and name.startswith(prefix))}
    shapes = [
        f"{name} is {tuple(used[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in expected
        if name in used and used[name].shape != expected[name].shape
    ]
    missing, unknown = sorted(set(expected) - set(used)), sorted(set(used) - set(expected))
    parts = [f"it lacks {', '.join(missing)}"] * bool(missing)
    parts += [f"the network has no {', '.join(unknown)}"] * bool(unknown) + shapes
    if parts:
        message = f"{source} does not hold the weights of this {type(model).__name__}: {'; '.join(parts)}."
        raise InputError(message)
    model.load_state_dict(used, strict=False)
