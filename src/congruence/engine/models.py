"""Compare two models without a store: one pass over both, all pairs of their layers by minibatch CKA."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from typing import Any, Literal

from congruence import __version__
from congruence import steps as _steps
from congruence.engine.job import Pairs, wanted_pairs
from congruence.engine.kept import KeptSums
from congruence.engine.minibatch import MinibatchCKA
from congruence.errors import CongruenceError, InputError, ParameterError, ShapeError, StoreError
from congruence.extraction import inputs as _inputs
from congruence.extraction import model_fingerprint
from congruence.extraction.layout import Sequence
from congruence.extraction.recording import Kept, Treatment, parse_dtype
from congruence.extraction.run import check_arguments, numbered, usable_device
from congruence.extraction.selection import Layers
from congruence.extraction.session import Batch, MasksSpec, Session
from congruence.extraction.stimuli import StimulusIds
from congruence.measures import CKA, Measure
from congruence.measures import measure as parse_measure
from congruence.representation import Ids

DEFAULT = "cka:estimator=debiased"

OTHER_BATCHES = "The batches are not those that were summed before: other data, another batch size or tokeniser. Give the same ones, or replace the run with exists='overwrite'."


@dataclass(frozen=True, eq=False)
class ModelPass:
    """One pass over one or two models: the sums that debiased CKA of all pairs of their layers follows from.

    The sums of several passes may be merged: every process, or every rank of a distributed run, takes a part of the
    batches, and the sums are added (see `MinibatchCKA.merge`).

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
    device : str or torch.device, optional
        Where to run; by default where each model is.
    dtype : str or torch.dtype, optional
        Type to which activations are rounded, as `extract` would store them; by default the model's own.
    masks, batch_axis
        As in `extract`.
    model_names : tuple of str
        What messages and the provenance call the models.

    Raises
    ------
    ParameterError
        If an argument breaks its rule.

    Examples
    --------
    The ranks of a distributed run, each with its part of the batches, add their sums:

    >>> def compare_ranks(model_a, model_b, own_batches):
    ...     sums = ModelPass(model_a, model_b, own_batches).accumulate()
    ...     state = {name: torch.as_tensor(value) for name, value in sums.state_dict().items()}
    ...     for value in state.values():
    ...         torch.distributed.all_reduce(value)
    ...     return sums.with_state(state).result()
    """

    model_a: Any
    model_b: Any | None
    batches: Any
    layers_a: Layers = "*"
    layers_b: Layers | None = None
    batches_b: Any | None = None
    steps: _steps.StepSpec = None
    measure: str | Measure[Any] = DEFAULT
    device: Any | None = None
    dtype: Any | None = None
    masks: MasksSpec = "auto"
    batch_axis: Literal[0, 1] | None = None
    model_names: tuple[str, str] = ("model_a", "model_b")

    def __post_init__(self) -> None:
        if self.model_b is None and self.layers_b is not None:
            message = "layers_b needs a second model; within one model all of layers_a are compared with each other."
            raise ParameterError(message)
        if self.model_b is None and self.batches_b is not None:
            message = "batches_b needs a second model."
            raise ParameterError(message)
        for _, model, _ in self._models:
            check_arguments(model, self.masks, self.batch_axis)
        usable_device(self.device)
        self.cka, self._treatment  # noqa: B018  # both raise for what cannot be

    @cached_property
    def cka(self) -> CKA:
        """The measure, which is one that can be averaged over batches."""
        found = parse_measure(self.measure)
        if not isinstance(found, CKA) or found.estimator != "debiased":
            message = f"Models are compared batch by batch with debiased cka only; got {found.label}. Take cka:estimator=debiased, or extract the activations to compare them by another."
            raise ParameterError(message)
        return found

    @cached_property
    def _treatment(self) -> Treatment:
        chosen = _steps.parse_steps(self.steps)
        _steps.require_rowwise(chosen or (), "while a model is recorded")
        dtype = parse_dtype(self.dtype)
        return _Matrices(dtype=dtype) if chosen is None else Treatment(chosen, dtype)

    @property
    def _models(self) -> list[tuple[str, Any, Layers]]:
        """Name, model and layers of every side."""
        found = [(self.model_names[0], self.model_a, self.layers_a)]
        if self.model_b is not None:
            layers = self.layers_a if self.layers_b is None else self.layers_b
            found.append((self.model_names[1], self.model_b, layers))
        return found

    def _sides(self) -> list[_Side]:
        """Return the models ready to be recorded, once: a session counts its stimuli."""
        device = usable_device(self.device)
        return [
            _Side(name, Session(model, layers, self._treatment, StimulusIds(None), self.masks, self.batch_axis, device))
            for name, model, layers in self._models
        ]

    # ---- what it is --------------------------------------------------------------------------------------------------

    @cached_property
    def _described(self) -> list[dict[str, Any]]:
        return [
            {"name": name, "type": type(model).__name__, "fingerprint": model_fingerprint(model)}
            for name, model, _ in self._models
        ]

    def key(self) -> dict[str, Any]:
        """Return what makes a pass the same pass, its batches excepted: plain data."""
        recorded = [
            {
                "layers": [named.name for named in side.session.selection.modules],
                "outputs": sorted(set().union(*side.session.selection.only.values())),
                "excluded": list(side.session.selection.excluded),
            }
            for side in self._sides()
        ]
        return {
            "congruence": __version__,
            "measures": [self.cka.label],
            "models": [model["fingerprint"] for model in self._described],
            "layers": recorded,
            **self._about(),
        }

    def _about(self) -> dict[str, Any]:
        """Return what is done to the activations."""
        chosen = _steps.parse_steps(self.steps)
        return {
            "steps": None if chosen is None else [str(step) for step in chosen],
            "dtype": None if self.dtype is None else str(self.dtype).removeprefix("torch."),
        }

    def digest(self) -> str:
        """Return the hash of all batches, without running a model."""
        found = ""
        for _, given in self._paired():
            found = _chained(found, [_inputs.digest(batch) for batch in given])
        return found

    # ---- the pass ----------------------------------------------------------------------------------------------------

    def accumulate(
        self,
        *,
        kept: KeptSums | None = None,
        progress: Callable[[int, int], None] | None = None,
        pairs: Pairs = "all",
    ) -> MinibatchCKA:
        """Run all batches through the models, which are left as they were found; return the sums.

        Parameters
        ----------
        kept : KeptSums, optional
            Where the sums are kept now and then; batches that are in them already are read and not run.
        progress : callable, optional
            Called with the numbers of batches and stimuli done.
        pairs : {"all", "matched"} or list of (str, str)
            Of which pairs the result is to be; checked as soon as the names are known, after the first batch.

        Raises
        ------
        UnknownNameError
            If a pattern or a pair matches no layer.
        ShapeError
            If the two models do not get the same number of batches and stimuli.
        InputError
            If there is no batch, or an activation is NaN or infinite (named with model, layer and batch).
        StoreError
            If the batches in `kept` are others.
        ExtractionError
            If a model fails.
        """
        sides = self._sides()
        with ExitStack() as stack:
            for side in sides:
                stack.enter_context(side.session.open())
            run = _Run(self, sides, kept, pairs)
            try:
                for index, given in self._paired():
                    run.take(index, given)
                    if progress is not None:
                        progress(index + 1, sides[0].session.stimuli.handed_out)
            finally:
                run.keep()
        return run.finished()

    def _paired(self) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Yield the number of every batch with what each model is called with."""
        if self.batches_b is None:
            count = len(self._models)
            for index, batch in numbered(self.batches):
                yield index, (batch,) * count
            return
        for first, second in zip_longest(numbered(self.batches), numbered(self.batches_b)):
            if first is None or second is None:
                index, short, long = (*second[:1], 0, 1) if first is None else (*first[:1], 1, 0)
                names = self.model_names
                message = f"{names[long]} has more batches than {names[short]}, which has {index}. Both must get the same stimuli."
                raise ShapeError(message)
            yield first[0], (first[1], second[1])


class _Run:
    """The sums of a pass that is under way, and how far it has come."""

    def __init__(self, work: ModelPass, sides: list[_Side], kept: KeptSums | None, pairs: Pairs) -> None:
        self._work, self._sides, self._kept, self._pairs = work, sides, kept, pairs
        self._saved = None if kept is None else kept.read()
        self._sums: MinibatchCKA | None = None
        self._taken, self._digest, self._whole = 0, "", False

    def take(self, index: int, given: tuple[Any, ...]) -> None:
        """Run one batch and add it, unless it is in the saved sums; the first one runs always, for the names."""
        admitted = [side.admit(index, batch) for side, batch in zip(self._sides, given, strict=True)]
        digest = _chained(self._digest, [batch.digest for batch in admitted])
        done = 0 if self._saved is None else self._saved.batches
        if index + 1 == done and self._saved is not None and digest != self._saved.digest:
            raise StoreError(OTHER_BATCHES)
        if index == 0 or index >= done:
            found = [side.run(batch) for side, batch in zip(self._sides, admitted, strict=True)]
            if self._sums is None:
                self._sums = self._begun()
            if index >= done:
                self._whole = False
                self._sums.update(*found)
        self._taken, self._digest, self._whole = index + 1, digest, True
        if self._kept is not None and index >= done and self._kept.is_due():
            self.keep()

    def _begun(self) -> MinibatchCKA:
        """Return the saved sums, or new ones."""
        for side in self._sides:
            side.session.warn()
        names = [side.session.names for side in self._sides]
        wanted_pairs(list(names[0]), list(names[-1]), self._pairs)  # refuses those that do not exist
        models = (self._sides[0].name, self._sides[-1].name)
        sums = MinibatchCKA(*names, measure=self._work.cka, models=models)
        sums.about.update(models=self._work._described, **self._work._about())
        return sums if self._saved is None else sums.with_state(self._saved.state)

    def keep(self) -> None:
        """Save the sums, if they hold whole batches and more of them than before."""
        done = 0 if self._saved is None else self._saved.batches
        if self._kept is not None and self._sums is not None and self._whole and self._taken > done:
            self._kept.save(self._sums.state_dict(), self._taken, self._digest)

    def finished(self) -> MinibatchCKA:
        """Return the sums of all batches."""
        if self._sums is None:
            message = "batches is empty. A generator can be read only once: give a list or a DataLoader instead."
            raise InputError(message)
        if self._saved is not None and self._taken < self._saved.batches:
            raise StoreError(OTHER_BATCHES)
        self._sums.about["batches_digest"] = self._digest
        return self._sums


@dataclass(frozen=True, eq=False)
class _Side:
    """A model that is being recorded, and what messages call it."""

    name: str
    session: Session

    def admit(self, index: int, batch: Any) -> Batch:
        """Return one batch, ready to run."""
        try:
            return self.session.admit(index, batch)
        except CongruenceError as error:
            raise error.about(self.name) from error

    def run(self, batch: Batch) -> dict[str, Any]:
        """Return what the layers put out for a batch as (n, p) arrays by name."""
        try:
            recorded = self.session.run(batch)
        except CongruenceError as error:
            raise error.about(self.name) from error
        return {name: found.values for name, found in recorded.arrays.items()}


class _Matrices(Treatment):
    """Makes an (n, p) matrix of every tensor, by the steps that its shape calls for."""

    def __call__(self, sequence: Sequence, ids: Ids) -> Kept:
        """Return a copy that no later operation of the model can change."""
        if sequence.values.ndim == 1:
            return Treatment(dtype=self.dtype)(Sequence(sequence.values[:, None]), ids)
        steps = _steps.default_steps(sequence.values.ndim, recurrent=sequence.recurrent)
        return Treatment(steps, self.dtype)(sequence, ids)


def _chained(before: str, digests: list[str]) -> str:
    """Return the hash of all batches up to one, from that of those before it."""
    return hashlib.sha256(" ".join([before, *digests]).encode()).hexdigest()
