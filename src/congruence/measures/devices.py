"""Accelerators: which one is meant and whether it is there, what fits on it, and full precision while we compute.

Nothing here imports PyTorch before somebody asks for a device; where it is not loaded no array can be its own.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
from array_api_compat import device as device_of
from array_api_compat import is_torch_array

from congruence import linalg
from congruence.errors import ParameterError
from congruence.validate import Array, on_cpu, require_extra

CPU = "cpu"
SHARE_OF_FREE = 0.8
"""How much of the free memory of a device we plan with: what the libraries on it take for themselves is not ours."""


def resolve(device: Any) -> str | None:
    """Return the name of a device that is there.

    Parameters
    ----------
    device : str or torch.device, optional
        ``"cuda"``, ``"cuda:1"``, ``"cpu"``, or None, which leaves every array where it is.

    Raises
    ------
    ParameterError
        If the name means nothing, or this machine has no such device; the message says what there is.
    MissingExtraError
        If the device needs PyTorch and it is not installed.
    """
    if device is None:
        return None
    name = str(device).strip().lower()
    if name.split(":")[0] == CPU and re.fullmatch(r"cpu(:0)?", name):
        return CPU
    if name == "mps" or name.startswith("mps:"):
        message = f"device='{name}' has no float64, in which sums are taken whatever the precision of the data; use device='cpu'."
        raise ParameterError(message)
    if not re.fullmatch(r"cuda(:\d+)?", name):
        message = f"device must be 'cpu', 'cuda' or 'cuda:N'; got {device!r}."
        raise ParameterError(message)
    return _cuda(name)


def _cuda(name: str) -> str:
    """Return the full name of a CUDA device, if it is there."""
    torch = require_extra("torch", "torch", f"device='{name}'")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        built = "" if torch.version.cuda or torch.version.hip else ", and this PyTorch was built for the CPU only"
        message = f"device='{name}' was asked for, but PyTorch {torch.__version__} finds no CUDA device here{built}; available: cpu."
        raise ParameterError(message)
    index = int(name.partition(":")[2] or torch.cuda.current_device())
    if index >= count:
        there = ", ".join(f"cuda:{i}" for i in range(count))
        message = f"device='{name}' was asked for; available: cpu, {there}."
        raise ParameterError(message)
    return f"cuda:{index}"


def is_accelerator(device: str | None) -> bool:
    """Return whether a resolved name is that of an accelerator."""
    return device not in {None, CPU}


def move(x: Array, device: str | None) -> Array:
    """Return `x` on a device: a tensor on an accelerator, NumPy's on the CPU, as it is for None. Precision stays."""
    if device is None:
        return x
    if device == CPU:
        return linalg.to_numpy(linalg.at_least_single(x) if is_torch_array(x) and x.dtype.itemsize == 2 else x)
    if is_torch_array(x):
        return x.to(device)
    torch = require_extra("torch", "torch", f"device='{device}'")
    return torch.tensor(np.asarray(x), device=device)


def free_memory(device: str) -> int | None:
    """Return how many bytes of an accelerator's memory we may plan with; None where PyTorch cannot tell."""
    torch = sys.modules.get("torch")
    if torch is None or not device.startswith("cuda") or not torch.cuda.is_available():
        return None
    free, _ = torch.cuda.mem_get_info(device)
    reusable = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # PyTorch keeps what it frees
    return int(SHARE_OF_FREE * (free + reusable))


def where(x: Array) -> str:
    """Return the name of the device of an array."""
    return CPU if on_cpu(x) else str(device_of(x))


# ---- precision -------------------------------------------------------------------------------------------------------

_lock = threading.Lock()
_inside = 0
_undo: list[Callable[[], None]] = []


@contextmanager
def full_precision() -> Iterator[None]:
    """Keep PyTorch's matrix products to the precision of their arguments while we compute.

    TF32 and its like keep three digits of a float32, and autocasting makes half precision of it. Both are settings of the
    process (autocasting: of the thread), so the first of several threads sets them and the last one restores them.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    with ExitStack() as stack:
        for kind in ("cpu", "cuda"):
            stack.enter_context(torch.autocast(kind, enabled=False))
        _enter(torch)
        stack.callback(_leave)
        yield


def _enter(torch: Any) -> None:
    global _inside  # noqa: PLW0603
    with _lock:
        if _inside == 0:
            _undo.extend(_highest_precision(torch))
        _inside += 1


def _leave() -> None:
    global _inside  # noqa: PLW0603
    with _lock:
        _inside -= 1
        while _inside == 0 and _undo:
            _undo.pop()()


def _highest_precision(torch: Any) -> Iterator[Callable[[], None]]:
    """Turn reduced precision off; yield what undoes it, to be called in reverse order.

    PyTorch has an old switch and, from 2.9 on, new ones by library, and refuses to read the old one where the two
    disagree. With the new ones out of the way first, it can be read and written.
    """
    parts: list[Any] = [torch.backends.cuda.matmul, getattr(torch.backends.mkldnn, "matmul", None)]
    for part in parts:
        before = getattr(part, "fp32_precision", None)
        if before is not None:
            part.fp32_precision = "ieee"
            yield partial(setattr, part, "fp32_precision", before)
    old = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield partial(torch.set_float32_matmul_precision, old)
