"""Models as text: ``hf:PATH_OR_NAME`` and ``py:module:function``."""

from __future__ import annotations

import contextlib
import importlib
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from congruence import validate
from congruence.errors import (
    Caveat,
    CongruenceError,
    CongruenceWarning,
    ExtractionError,
    InputError,
    ParameterError,
    UnknownNameError,
)
from congruence.extraction.images import IMAGE_SIZE, plain_transform
from congruence.extraction.inputs import describe

FORMS = (
    "Write hf:FOLDER or hf:NAME for a Hugging Face model, or py:MODULE:FUNCTION for a function that returns a "
    "torch.nn.Module."
)
_PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "tokenizer.model",
)


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model and what came with it.

    Parameters
    ----------
    model : torch.nn.Module
        The model.
    name : str
        What to call it: the folder or hub name, or ``module:function``.
    batches : object, optional
        Batches that the function of a ``py:`` model returned with it.
    transform : callable, optional
        Makes the model's input: a list of texts to a batch, or one image (PIL) to a tensor.
    tokenizer : object, optional
        The Hugging Face tokenizer.
    """

    model: nn.Module
    name: str
    batches: Any = None
    transform: Callable[[Any], Any] | None = None
    tokenizer: Any = None


def load_model(
    spec: str, weights: str | Path | None = None, device: str | torch.device | None = None, *, head: bool = False
) -> LoadedModel:
    """Load the model that `spec` describes.

    Parameters
    ----------
    spec : str
        ``hf:FOLDER`` or ``hf:NAME``: a model of Hugging Face transformers, with its tokenizer or image processor if it
        has one. ``py:MODULE:FUNCTION``: a function, importable from the working directory, that is called without
        arguments and returns a model, or a model and its batches, or a model and a transform (a tokenizer, or a
        function from a list of texts to a batch or from one image to a tensor).
    weights : path, optional
        A ``.safetensors`` file with all weights of a ``py:`` model.
    device : str or torch.device, optional
        Where to put the model.
    head : bool
        Load an ``hf:`` model with what it was trained with on top (a language model's or a classifier's last layer).

    Returns
    -------
    LoadedModel
        The model with its name, and its batches, transform and tokenizer if it has them.

    Raises
    ------
    ParameterError
        If `spec` is of neither form, or `weights` is given for an ``hf:`` model.
    InputError
        If the model, or the weights, cannot be loaded.
    """
    kind, _, rest = spec.partition(":")
    if kind not in {"hf", "py"} or not rest:
        message = f"'{spec}' is no model. {FORMS}"
        raise ParameterError(message)
    if kind == "hf" and weights is not None:
        message = f"'{spec}' brings its own weights; a file of weights goes with a py: model only."
        raise ParameterError(message)
    loaded = _from_transformers(rest, head=head) if kind == "hf" else _from_python(spec)
    if weights is not None:
        load_weights(loaded.model, weights)
    if device is not None:
        loaded.model.to(device)
    return loaded


# ---- hf: -------------------------------------------------------------------------------------------------------------


def _from_transformers(source: str, *, head: bool) -> LoadedModel:
    """Load a model of transformers from a folder or from the hub."""
    transformers = validate.require_extra("transformers", "hf", f"hf:{source}")
    folder = Path(source).expanduser()
    local = folder.exists() or source.startswith((".", "/", "~"))
    if local and not (folder / "config.json").is_file():
        found = "it has no config.json" if folder.is_dir() else "there is no such folder"
        message = f"hf:{source} cannot be loaded: {found}. Expected a folder with config.json and model.safetensors."
        raise InputError(message)
    where = str(folder) if local else source
    try:
        # weights that the checkpoint lacks are drawn at random: the same ones every time, and said so below
        with torch.random.fork_rng(), _quiet(transformers):
            torch.manual_seed(0)
            chosen = _class_with_head(transformers, where) if head else transformers.AutoModel
            model, info = chosen.from_pretrained(where, output_loading_info=True)
        images = model.main_input_name == "pixel_values"
        transform = _image_transform(transformers, where, model.config, local=local) if images else None
    except Exception as error:
        expected = "" if local else " There is no such local folder either."
        message = f"hf:{source} cannot be loaded: {describe(error)}{expected}"
        raise InputError(message) from error
    _warn_of_random_weights(source, sorted(info["missing_keys"]))
    tokenizer = None if images else _tokenizer(transformers, where, local=local)
    return LoadedModel(model, folder.resolve().name if local else source, None, transform, tokenizer)


def _class_with_head(transformers: Any, where: str) -> Any:
    """Return the class that the configuration names, or that of a causal language model if it names none."""
    named = transformers.AutoConfig.from_pretrained(where).architectures or ["AutoModelForCausalLM"]
    return getattr(transformers, named[0], transformers.AutoModelForCausalLM)


@contextlib.contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Silence the progress bars and the report of transformers; what matters in them becomes our warning."""
    logging = transformers.utils.logging
    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _warn_of_random_weights(source: str, missing: list[str]) -> None:
    if missing:
        text = (
            f"hf:{source} lacks {len(missing)} weights, which are random (first: {missing[0]}). Leave out their layers."
        )
        warnings.warn(CongruenceWarning(Caveat("random_weights", text)), stacklevel=4)


def _tokenizer(transformers: Any, where: str, *, local: bool) -> Any:
    """Return the tokenizer of a model with a padding token, or None if it has none."""
    if local and not any((Path(where) / name).is_file() for name in _TOKENIZER_FILES):
        return None
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(where)
    except Exception as error:
        if not local and isinstance(error, OSError | ValueError):
            return None  # the hub has none for this model
        message = f"The tokenizer in {where} cannot be loaded: {describe(error)}"
        raise InputError(message) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # masked wherever it pads
    return tokenizer


def _image_transform(transformers: Any, where: str, config: Any, *, local: bool) -> Callable[[Any], Any]:
    """Return a function from one image to the model's input: as the model says, else scaled to its size."""
    if not local or any((Path(where) / name).is_file() for name in _PROCESSOR_FILES):
        processor = transformers.AutoImageProcessor.from_pretrained(where)
        return lambda image: processor(images=image.convert("RGB"), return_tensors="pt")["pixel_values"][0]
    size = getattr(config, "image_size", IMAGE_SIZE)
    return plain_transform(size if isinstance(size, int) else tuple(size))


# ---- py: -------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _importable_cwd() -> Iterator[None]:
    """Let modules of the working directory be imported."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def find_object(spec: str) -> Any:
    """Return what ``py:module:name`` names.

    Raises
    ------
    ParameterError
        If `spec` is not of that form.
    InputError
        If the module cannot be imported.
    UnknownNameError
        If the module has nothing of that name.
    """
    parts = spec.split(":")
    if len(parts) != 3 or parts[0] != "py" or not all(parts):
        message = f"'{spec}' is not of the form py:MODULE:FUNCTION."
        raise ParameterError(message)
    return import_object(parts[1], parts[2], spec)


def import_object(module: str, name: str, spec: str) -> Any:
    """Return what a module, importable from the working directory, calls `name`; errors quote `spec`.

    Raises
    ------
    InputError
        If the module cannot be imported.
    UnknownNameError
        If the module has nothing of that name.
    """
    with _importable_cwd():
        importlib.invalidate_caches()
        try:
            found = importlib.import_module(module)
        except Exception as error:
            message = f"'{spec}': the module {module} cannot be imported: {describe(error)}"
            raise InputError(message) from error
    if not hasattr(found, name):
        public = [public for public in vars(found) if not public.startswith("_")]
        message = f"'{spec}': {module} has no {name}. {validate.closest(name, public)}"
        raise UnknownNameError(message)
    return getattr(found, name)


def call(spec: str, function: Any) -> Any:
    """Call what ``py:module:function`` names; what goes wrong in it names the spec."""
    if not callable(function):
        message = f"'{spec}' is no function; got {type(function).__name__}."
        raise ParameterError(message)
    try:
        with _importable_cwd():
            return function()
    except CongruenceError:
        raise
    except Exception as error:
        message = f"'{spec}' failed: {describe(error)}"
        raise ExtractionError(message) from error


def _from_python(spec: str) -> LoadedModel:
    """Load a model from a function of the user's."""
    target = find_object(spec)
    returned = target if isinstance(target, nn.Module) else call(spec, target)
    model, *rest = returned if isinstance(returned, tuple) else (returned,)
    if not isinstance(model, nn.Module) or len(rest) > 1:
        found = ", ".join(type(item).__name__ for item in (model, *rest))
        message = f"'{spec}' must return a torch.nn.Module, alone or with its batches or a transform; got {found}."
        raise ParameterError(message)
    extra = rest[0] if rest else None
    name = spec.removeprefix("py:")
    if _is_tokenizer(extra):
        return LoadedModel(model, name, tokenizer=extra)
    if callable(extra):
        return LoadedModel(model, name, transform=extra)
    return LoadedModel(model, name, batches=extra)


def _is_tokenizer(item: Any) -> bool:
    """Return whether an object is a tokenizer of transformers, without importing that for objects of other kinds."""
    transformers = sys.modules.get("transformers")
    return transformers is not None and isinstance(item, transformers.PreTrainedTokenizerBase)


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load all weights of a model from a ``.safetensors`` file.

    Raises
    ------
    InputError
        If the file is missing or damaged, or its names or shapes are not those of the model.
    """
    safetensors = validate.require_extra("safetensors.torch", "hf", f"Loading {path}")
    if not Path(path).is_file():
        message = f"{path}: there is no such file of weights."
        raise InputError(message)
    try:
        missing, unexpected = safetensors.load_model(model, path, strict=False)
    except Exception as error:
        lines = " ".join(str(error).split())
        message = f"{path} does not hold the weights of {type(model).__name__}: {lines}"
        raise InputError(message) from error
    parts = [f"it lacks {', '.join(sorted(missing))}"] * bool(missing)
    parts += [f"the model has no {', '.join(sorted(unexpected))}"] * bool(unexpected)
    if parts:
        message = f"{path} does not hold the weights of {type(model).__name__}: {'; '.join(parts)}."
        raise InputError(message)
