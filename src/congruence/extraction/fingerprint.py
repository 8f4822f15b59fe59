"""One hash for the weights of a model, so that a resumed run and a reader know which model it was."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

from torch import Tensor, nn

from congruence.errors import ExtractionError
from congruence.extraction.inputs import tensor_bytes
from congruence.extraction.naming import core

_PIECE = 4 * 2**20  # bytes hashed by one thread
_WINDOW = 64  # pieces in memory


def model_fingerprint(model: nn.Module) -> str:
    """Return a hash of the names, shapes, types and bytes of all parameters and persistent buffers.

    The same weights give the same hash inside and outside of a wrapper such as DataParallel. It is the BLAKE2b hash of
    the BLAKE2b hashes of pieces, which are computed in parallel. (Where the processor has no instructions for SHA,
    SHA-256 takes more than twice as long.)

    Raises
    ------
    ExtractionError
        If a lazy module has not been initialised yet.
    """
    require_initialised(model)
    found = hashlib.blake2b(digest_size=32)
    pieces = _pieces(core(model))
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as threads:
        while window := list(islice(pieces, _WINDOW)):  # not all at once: those of a GPU are copies
            for digest in threads.map(_digest, window):
                found.update(digest)
    return found.hexdigest()


def _pieces(model: nn.Module) -> Iterator[Any]:
    """Yield the description of every tensor, then its bytes piece by piece."""
    for name, tensor in model.state_dict().items():
        if isinstance(tensor, Tensor):
            yield f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode()
            content = tensor_bytes(tensor)
            yield from (content[start : start + _PIECE] for start in range(0, len(content), _PIECE))


def _digest(piece: Any) -> bytes:
    return hashlib.blake2b(piece, digest_size=32).digest()


def require_initialised(model: nn.Module) -> None:
    """Raise an ExtractionError if a lazy module has no weights yet: recording it would initialise them."""
    for name, parameter in core(model).named_parameters():
        if isinstance(parameter, nn.UninitializedParameter):
            message = f"Parameter {name} is not initialised yet. Call the model once on a batch, then extract."
            raise ExtractionError(message)
