"""Embeddings and unembeddings of real models: the input of the last linear layer, and its rows.

Importing this needs PyTorch; `congruence.identifiability` hands the names on without importing it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from congruence.errors import Caveat, CongruenceWarning, ExtractionError, InputError, ParameterError, ShapeError
from congruence.extraction import LoadedModel, load_data, load_model
from congruence.extraction.inputs import as_call, call_model, iterate, moved
from congruence.extraction.naming import flatten_output
from congruence.identifiability._pair import compare
from congruence.identifiability._result import Identifiability
from congruence.validate import closest

MOST_INPUTS = 10_000


@dataclass(frozen=True, eq=False)
class Outputs:
    """What a model offers to `compare`.

    Attributes
    ----------
    f : array, shape (n, M)
        Embeddings, one row a stimulus, or a token that is not padding.
    g : array, shape (K, M)
        Unembeddings.
    bias : array, shape (K,), or None
        Of the last layer. It has no part in the comparison.
    head : str
        Name of the last linear layer.
    """

    f: np.ndarray[Any, Any]
    g: np.ndarray[Any, Any]
    bias: np.ndarray[Any, Any] | None
    head: str


def outputs(model: nn.Module, batches: Any, *, head: str | None = None, max_inputs: int = MOST_INPUTS) -> Outputs:
    """Return the embeddings and unembeddings of a model.

    Parameters
    ----------
    model : torch.nn.Module
        Its logits are a linear function of an embedding. It runs in eval mode and is left as it was.
    batches : iterable
        What the model takes (tensors, tuples of arguments, dicts of keywords). Of sequences every position is an input;
        those that ``attention_mask`` masks are left out.
    head : str, optional
        Name of the last linear layer; by default the output embeddings of a transformers model, else the linear layer
        that is called last.
    max_inputs : int
        Stop after so many inputs.

    Returns
    -------
    Outputs

    Raises
    ------
    ExtractionError
        If there is no such layer, or it is not called.
    ParameterError
        If a parameter is out of its range.

    Warns
    -----
    CongruenceWarning
        If the model's logits are not those of the layer (softcaps, temperatures): the distributions that are compared
        are then not the model's.
    """
    if max_inputs < 1:
        message = f"max_inputs must be an integer >= 1; got {max_inputs!r}."
        raise ParameterError(message)
    if isinstance(batches, Iterator):
        message = "batches must be something that can be read again (a list, a DataLoader), not an iterator: both models, and the search for the last layer, start at its beginning."
        raise ParameterError(message)
    device = next((parameter.device for parameter in model.parameters()), None)
    with _in_eval_mode(model):
        name, layer = _head(model, batches, head, device)
        rows: list[Tensor] = []
        taken = 0
        for index, batch in enumerate(iterate(batches)):
            batch = moved(batch, device)
            embedded = _embed(model, layer, name, batch, index)
            if not index:
                _warn_of_other_logits(model, layer, name, batch)
            rows.append(_unmasked(embedded, batch)[: max_inputs - taken].float().cpu())
            taken += len(rows[-1])
            if taken >= max_inputs:
                break
    if not rows:
        message = "batches must hold at least one batch; there is none."
        raise InputError(message)
    weight, bias = _parameters(layer, name)
    return Outputs(torch.cat(rows).numpy(), weight, bias, name)


def compare_heads(
    a: str | nn.Module | LoadedModel,
    b: str | nn.Module | LoadedModel,
    data: Any,
    *,
    head: str | None = None,
    max_inputs: int = MOST_INPUTS,
    batch_size: int = 32,
    max_length: int | None = None,
    **options: Any,
) -> Identifiability:
    """Return how close two models are, from their last hidden states and unembeddings on the same data.

    Two checkpoints, two seeds, teacher and student, original and quantised: whatever has the same labels.

    Parameters
    ----------
    a, b : str, torch.nn.Module or LoadedModel
        ``hf:FOLDER``, ``hf:NAME`` or ``py:MODULE:FUNCTION`` (loaded with their heads), or models.
    data : str or iterable
        Batches, or what `congruence.extraction.load_data` opens: a file of texts, a folder of images.
    head : str, optional
        Name of the last linear layer, see `outputs`.
    max_inputs : int
        Stop after so many inputs (tokens of sequences).
    batch_size, max_length : int
        Of texts.
    **options
        Passed on to `compare`.

    Returns
    -------
    Identifiability

    Raises
    ------
    InputError
        If the tokenisers differ: the models then have different inputs and, for language models, different labels.
    ShapeError
        If the models have different numbers of labels, or dimensions.
    """
    loaded = [_loaded(model) for model in (a, b)]
    _require_one_tokeniser(*loaded)
    batches = load_data(data, loaded[0], batch_size, max_length).batches if isinstance(data, str) else data
    found = [outputs(one.model, batches, head=head, max_inputs=max_inputs) for one in loaded]
    if len(found[0].g) != len(found[1].g):
        message = f"{loaded[0].name} has {len(found[0].g)} labels and {loaded[1].name} {len(found[1].g)}; models over different labels have no distributions to compare."
        raise ShapeError(message)
    return compare(found[0].f, found[0].g, found[1].f, found[1].g, **options)


def _loaded(model: str | nn.Module | LoadedModel) -> LoadedModel:
    if isinstance(model, str):
        return load_model(model, head=True)
    return model if isinstance(model, LoadedModel) else LoadedModel(model, type(model).__name__)


def _require_one_tokeniser(a: LoadedModel, b: LoadedModel) -> None:
    """Raise an InputError if both models have tokenisers and these differ in what their tokens are."""
    if a.tokenizer is None or b.tokenizer is None:
        return
    first, second = a.tokenizer.get_vocab(), b.tokenizer.get_vocab()
    if first == second:
        return
    only = set(first.items()) ^ set(second.items())
    token = min(str(token) for token, _ in only)
    message = f"The tokenisers of {a.name} ({len(first)} tokens) and {b.name} ({len(second)}) differ, as in {token!r}: the models see other inputs and predict other labels. Compare models that share a tokeniser."
    raise InputError(message)


# ---- the last layer --------------------------------------------------------------------------------------------------


@contextmanager
def _in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Switch off dropout and the like, and restore every module's mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _head(model: nn.Module, batches: Any, name: str | None, device: torch.device | None) -> tuple[str, nn.Module]:
    """Return the last linear layer with its name."""
    modules = dict(model.named_modules())
    if name is not None:
        if name not in modules:
            message = f"{type(model).__name__} has no module '{name}'. {closest(name, modules)}"
            raise ExtractionError(message)
        return name, modules[name]
    declared = _declared_head(model)
    found = declared if declared is not None else _last_linear(model, batches, device)
    return next(key for key, module in modules.items() if module is found), found


def _declared_head(model: nn.Module) -> nn.Module | None:
    """Return what a model of transformers calls its output embeddings, if it has any."""
    getter = getattr(model, "get_output_embeddings", None)
    found = getter() if callable(getter) else None
    return found if isinstance(found, nn.Module) else None


def _last_linear(model: nn.Module, batches: Any, device: torch.device | None) -> nn.Module:
    """Return the linear layer that is called last on the first batch."""
    called: list[nn.Module] = []
    with ExitStack() as hooks:
        for module in model.modules():
            if isinstance(module, nn.Linear):
                hook = module.register_forward_hook(lambda module, *_: called.append(module))
                hooks.callback(hook.remove)
        for batch in iterate(batches):
            call_model(model, moved(batch, device), 0)
            break
    if not called:
        message = (
            f"{type(model).__name__} calls no linear layer, so it has no unembeddings. Name its last layer with head."
        )
        raise ExtractionError(message)
    return called[-1]


def _embed(model: nn.Module, layer: nn.Module, name: str, batch: Any, index: int) -> Tensor:
    """Return what the last layer is given."""
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    try:
        call_model(model, batch, index)
    finally:
        hook.remove()
    if not seen:
        message = f"'{name}' is not called on batch {index}, so it has no embeddings. Name another layer with head."
        raise ExtractionError(message)
    return seen[-1]


def _unmasked(embedded: Tensor, batch: Any) -> Tensor:
    """Return one row for each stimulus, or for each token that is not padding."""
    mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    if isinstance(mask, Tensor) and embedded.ndim == 3 and mask.shape == embedded.shape[:2]:
        return embedded[mask.bool()]
    return embedded.reshape(-1, embedded.shape[-1])


def _parameters(layer: nn.Module, name: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
    """Return weight and bias of a linear layer, also where they are quantised and behind a method."""
    found = []
    for part in ("weight", "bias"):
        value = getattr(layer, part, None)
        value = value() if callable(value) and not isinstance(value, Tensor) else value
        if isinstance(value, Tensor):
            value = (value.dequantize() if value.is_quantized else value).detach().float().cpu().numpy()
        found.append(value)
    if found[0] is None or found[0].ndim != 2:
        message = f"'{name}' ({type(layer).__name__}) has no weight matrix, so it has no unembeddings. Name the last linear layer with head."
        raise ExtractionError(message)
    return found[0], found[1]


def _warn_of_other_logits(model: nn.Module, layer: nn.Module, name: str, batch: Any) -> None:
    """Warn if the model puts out something of the shape of the layer's output that differs from it."""
    seen: list[Tensor] = []
    hook = layer.register_forward_hook(lambda _, __, out: seen.append(out))
    arguments, keywords = as_call(batch, 0)
    try:
        with torch.inference_mode():
            result = model(*arguments, **keywords)
    finally:
        hook.remove()
    tensors = [out for _, out in flatten_output(result) if isinstance(out, Tensor)]
    alike = [out for out in tensors if out.shape == seen[-1].shape]
    if alike and not any(torch.allclose(out.float(), seen[-1].float(), rtol=1e-4, atol=1e-5) for out in alike):
        text = f"the logits of {type(model).__name__} are not the output of '{name}' (a softcap, a temperature, a softmax?); the distributions that are compared are those of '{name}'."
        warnings.warn(CongruenceWarning(Caveat("other_logits", text)), stacklevel=4)
