"""Batches: what a model is called with, how many stimuli they hold, and the digest that recognises them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from congruence.errors import CongruenceError, ExtractionError, InputError, ParameterError, ShapeError
from congruence.extraction.naming import flatten_output

Call = tuple[tuple[Any, ...], dict[str, Any]]


def iterate(batches: Any) -> Iterator[Any]:
    """Yield the batches; a single tensor, array, packed sequence or mapping counts as one batch.

    Raises
    ------
    ParameterError
        If `batches` is not something that batches can be read from.
    """
    if isinstance(batches, Tensor | np.ndarray | PackedSequence | Mapping):
        yield batches
    elif isinstance(batches, Iterable) and not isinstance(batches, str | bytes):
        yield from batches
    else:
        message = (
            "batches must be a list, a DataLoader or another iterable of what the model takes (tensors, tuples of "
            f"arguments, dicts of keywords), or one such batch; got {type(batches).__name__}."
        )
        raise ParameterError(message)


def moved(batch: Any, device: torch.device | None) -> Any:
    """Return a batch with all its tensors on `device` (where they are if None); arrays become tensors."""
    if isinstance(batch, np.ndarray):
        batch = torch.as_tensor(np.array(batch))  # a copy: torch warns about read-only memory
    if isinstance(batch, Tensor):
        return batch if device is None else batch.to(device)
    if isinstance(batch, PackedSequence):
        return batch if device is None else batch.to(device)  # type: ignore[arg-type]  # torch declares dtypes only
    if isinstance(batch, Mapping):
        return {key: moved(value, device) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        values = [moved(value, device) for value in batch]
        return type(batch)(*values) if isinstance(batch, tuple) and hasattr(batch, "_fields") else type(batch)(values)
    return batch


def as_call(batch: Any, index: int) -> Call:
    """Return the arguments and keywords that a batch stands for."""
    if isinstance(batch, Tensor | PackedSequence):
        return (batch,), {}
    if isinstance(batch, Mapping):
        return (), {str(key): value for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        return tuple(batch), {}
    message = (
        f"Batch {index} must be a tensor, a tuple of arguments or a dict of keywords of the model; got "
        f"{type(batch).__name__}."
    )
    raise InputError(message)


def call_model(model: nn.Module, batch: Any, index: int) -> None:
    """Run one forward without gradients; what goes wrong in the model becomes an ExtractionError that names the batch."""
    arguments, keywords = as_call(batch, index)
    try:
        with torch.inference_mode():
            model(*arguments, **keywords)
    except CongruenceError:
        raise
    except Exception as error:
        several = isinstance(error, TypeError) and isinstance(batch, tuple | list)
        hint = " A tuple or list is taken as several arguments." if several else ""
        message = f"The model failed on batch {index}: {describe(error)}{hint}"
        raise ExtractionError(message) from error


def describe(error: BaseException) -> str:
    """Return an exception as one sentence."""
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0].strip()}" if lines else type(error).__name__
    return text if text.endswith((".", "!", "?")) else f"{text}."


def first_tensor(batch: Any, index: int) -> Tensor | PackedSequence:
    """Return the tensor whose rows are counted: the first in a batch."""
    for _, tensor in flatten_output(batch):
        return tensor
    message = f"Batch {index} holds no tensor, so its stimuli cannot be counted."
    raise InputError(message)


def count(batch: Any, index: int, axis: int) -> int:
    """Return the number of stimuli of a batch: the size of its first tensor along `axis`."""
    tensor = first_tensor(batch, index)
    if isinstance(tensor, PackedSequence):
        return int(tensor.batch_sizes[0])
    if tensor.ndim <= axis:
        message = f"The first tensor of batch {index} must hold the stimuli on axis {axis}; its shape is {tuple(tensor.shape)}."
        raise ShapeError(message)
    if tensor.shape[axis] == 0:
        message = f"Batch {index} holds no stimulus: its first tensor has shape {tuple(tensor.shape)}."
        raise ShapeError(message)
    return int(tensor.shape[axis])


def digest(batch: Any) -> str:
    """Return the SHA-256 of a batch: its structure, and the type, shape and bytes of its tensors."""
    found = hashlib.sha256()
    _feed(found, batch)
    return found.hexdigest()


def _feed(found: Any, value: Any) -> None:
    """Add a value to a hash, with marks that keep different structures apart."""
    if isinstance(value, Tensor):
        found.update(f"tensor {value.dtype} {tuple(value.shape)};".encode())
        found.update(tensor_bytes(value))
    elif isinstance(value, np.ndarray):
        _feed(found, torch.as_tensor(np.array(value)))
    elif isinstance(value, Mapping):
        found.update(f"mapping {len(value)};".encode())
        for key, inside in value.items():
            found.update(f"key {key!s};".encode())
            _feed(found, inside)
    elif isinstance(value, list | tuple):
        found.update(f"sequence {len(value)};".encode())
        for inside in value:
            _feed(found, inside)
    else:
        plain = value if isinstance(value, str | int | float | bool | None) else type(value).__name__
        found.update(f"value {plain!r};".encode())


def tensor_bytes(tensor: Tensor) -> memoryview:
    """Return the bytes of a tensor in row-major order; bfloat16 and other types that NumPy lacks included."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data
