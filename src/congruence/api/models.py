"""compare_models: two models, or one, in one pass and without a store; the run can be resumed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from congruence import steps as _steps
from congruence.api.request import description
from congruence.api.running import parse_mode, sweep, write_run
from congruence.engine import RESULT, Journal, Mode, OnError, Pairs, require_pairs, require_writable_run
from congruence.engine.journal import JOURNAL
from congruence.engine.kept import KeptSums
from congruence.engine.models import DEFAULT, OTHER_BATCHES, ModelPass
from congruence.errors import CongruenceError, ExtractionError, ParameterError, StoreError
from congruence.extraction.selection import Layers
from congruence.extraction.session import MasksSpec
from congruence.measures import Measure
from congruence.results import Comparison


def compare_models(
    model_a: Any,
    model_b: Any | None,
    batches: Any,
    layers_a: Layers = "*",
    layers_b: Layers | None = None,
    *,
    batches_b: Any | None = None,
    steps: _steps.StepSpec = None,
    measure: str | Measure[Any] = DEFAULT,
    pairs: Pairs = "all",
    device: Any | None = None,
    dtype: Any | None = None,
    masks: MasksSpec = "auto",
    batch_axis: Literal[0, 1] | None = None,
    out: str | Path | None = None,
    exists: Mode = "error",
    on_error: OnError = "record",
    progress: Callable[[int, int], None] | None = None,
    model_names: tuple[str, str] = ("model_a", "model_b"),
) -> Comparison:
    """Compare all layers of two models on the same stimuli, in one pass and without storing activations.

    Every batch gives an unbiased estimate of HSIC for every pair of layers; debiased CKA is the ratio of their
    averages, and comes with a standard error. Shuffle the stimuli: batches that hold one kind of stimulus each say
    little about all. Parts of the batches can be taken by several processes: see `ModelPass`.

    Parameters
    ----------
    model_a, model_b : torch.nn.Module
        The models; ``model_b=None`` compares the layers of the first with each other.
    batches : iterable
        What the models are called with, as in `extract`: 32 to 256 stimuli a batch.
    layers_a, layers_b : str, list of str, or callable
        Which layers, as in `extract`; `layers_b` is `layers_a` if None.
    batches_b : iterable, optional
        What the second model is called with, if it takes other inputs for the same stimuli (another tokeniser).
    steps : str, Step or list, optional
        How to make (n, p) matrices of what the layers put out; by default what their shape calls for, as in `compare`.
    measure : str or CKA
        A debiased CKA.
    pairs : {"all", "matched"} or list of (str, str)
        All pairs of layers; only those of equal names; or these. Others are NaN, ``"skipped"``.
    device : str or torch.device, optional
        Where to run; by default where each model is.
    dtype : str or torch.dtype, optional
        Type to which activations are rounded, as `extract` would store them; by default the model's own.
    masks, batch_axis
        As in `extract`.
    out : path, optional
        Folder of a run, as in `compare`. The sums are kept there now and then.
    exists : {"error", "resume", "overwrite"}
        What to do if `out` holds a run: refuse; finish it, with the same models and batches; or replace it.
    on_error : {"record", "raise"}
        Whether layers that do not vary become failed pairs, or an error.
    progress : callable, optional
        Called with the numbers of batches and stimuli done.
    model_names : tuple of str
        What messages and the provenance call the models.

    Returns
    -------
    Comparison
        Layers in the order in which they fired; the data set also has ``standard_error``.

    Raises
    ------
    UnknownNameError
        If a pattern matches no layer.
    ShapeError
        If the two models do not get the same number of batches and stimuli.
    InputError
        If there is no batch of four stimuli, or an activation is NaN or infinite (named with model, layer and batch).
    ExtractionError
        If a model fails.
    StoreError
        If `out` exists and `exists` does not say what to do, is being written, or was started with other models or
        batches.
    """
    work = ModelPass(
        model_a,
        model_b,
        batches,
        layers_a,
        layers_b,
        batches_b,
        steps,
        measure,
        device,
        dtype,
        masks,
        batch_axis,
        model_names,
    )
    return run_models(work, out, pairs=pairs, exists=exists, on_error=on_error, progress=progress)


def run_models(
    work: ModelPass,
    out: str | Path | None = None,
    *,
    pairs: Pairs = "all",
    exists: Mode = "error",
    on_error: OnError = "record",
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Do a pass over models and, with `out`, keep its sums and its result in a run folder; see `compare_models`."""
    require_pairs(pairs)
    if out is None:
        return _computed(work, None, pairs, on_error, progress)
    folder, mode = Path(out), parse_mode(exists)
    if mode == "update":
        message = f"{folder}: a comparison of models cannot be updated, since nothing of its activations is kept. Resume it, or replace it with exists='overwrite'."
        raise ParameterError(message)
    require_writable_run(folder, mode)
    key = {**work.key(), "pairs": pairs if isinstance(pairs, str) else [list(pair) for pair in pairs]}
    if mode == "resume" and (folder / RESULT).exists() and not (folder / JOURNAL).exists():
        return _finished(work, key, folder)
    fresh = not folder.exists()
    with Journal(folder, key, mode) as journal:
        sweep(folder)
        kept = KeptSums(folder)
        try:
            result = _computed(work, kept, pairs, on_error, progress, key)
        except CongruenceError as error:
            if fresh and not kept.exist:
                shutil.rmtree(folder)  # nothing was computed, so nothing is lost
            elif isinstance(error, ExtractionError):
                message = f"{error} The batches before are kept in {folder}; go on from there with exists='resume'."
                raise ExtractionError(message) from error
            raise
        write_run(result, folder)
        kept.remove()
        journal.finish()
    return result


def _computed(
    work: ModelPass,
    kept: KeptSums | None,
    pairs: Pairs,
    on_error: OnError,
    progress: Callable[[int, int], None] | None,
    key: dict[str, Any] | None = None,
) -> Comparison:
    began = time.perf_counter()
    sums = work.accumulate(kept=kept, progress=progress, pairs=pairs)
    about = {**description(), "measures": [work.cka.label], "on_error": on_error, **({"key": key} if key else {})}
    return sums.result(pairs=pairs, on_error=on_error, provenance=about, seconds=time.perf_counter() - began)


def _finished(work: ModelPass, key: dict[str, Any], folder: Path) -> Comparison:
    """Return the result of a finished run that is to be resumed, if it is one of these models and batches."""
    found = Comparison.load(folder)
    then = found.provenance.get("key")
    if then is None or dict(then) != key:
        differing = sorted(part for part in key if then is None or then.get(part) != key[part])
        message = f"{folder} holds a finished run with other inputs (what differs: {', '.join(differing)}). Replace it with exists='overwrite', or choose another output."
        raise StoreError(message)
    if found.provenance["batches_digest"] != work.digest():
        raise StoreError(OTHER_BATCHES)
    return found
