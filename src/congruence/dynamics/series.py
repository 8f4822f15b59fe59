"""A series of checkpoints: what the layers of one model put out for the same stimuli, step by step of its training."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from congruence import steps as _steps
from congruence.dynamics._failures import report, state_name
from congruence.engine import run_comparison
from congruence.engine.job import is_large
from congruence.errors import ParameterError, StoreError, UnknownNameError
from congruence.measures import Measure, measure
from congruence.representation import Ids, Source
from congruence.results import Comparison
from congruence.store import Activations, defer_layer, runs
from congruence.validate import closest

if TYPE_CHECKING:
    import xarray as xr

MeasureSpec = str | Measure[Any]
ROUNDING = 1e-7
"""Of the greatest distance there is: what equal states, whose angle is the arc cosine of a number near 1, can be apart."""


class CheckpointSeries(Mapping[int, Activations]):
    """The recorded steps of a training run, each a store of activations.

    Parameters
    ----------
    path : path
        Folder of the run, as `Recorder` writes it.

    Raises
    ------
    StoreError
        If there is no run, or none of its steps is complete.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self._about = runs.read_run(path)
        self.steps: tuple[int, ...] = runs.recorded_steps(path)
        if not self.steps:
            message = f"{path} has no complete step yet. Record one, or go on with the run with resume=True."
            raise StoreError(message)
        self._opened: dict[int, Activations] = {}

    # ---- what is there -----------------------------------------------------------------------------------------------

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers in execution order."""
        return self[self.steps[-1]].names

    @property
    def definition_order(self) -> tuple[str, ...]:
        """Names of the layers in the order in which the model defines them."""
        return self[self.steps[-1]].definition_order

    @property
    def finished(self) -> bool:
        """Whether the recorder said that the training was over; otherwise the last step need not be its end."""
        return bool(self._about["finished"])

    @property
    def schedule(self) -> str:
        """When the run was recorded, in words."""
        return str(self._about["contract"]["schedule"])

    @property
    def ids(self) -> Ids | None:
        """Stimulus ids as text; None where the stimuli count as 0..n-1."""
        return self[self.steps[-1]].ids

    @cached_property
    def nonfinite(self) -> dict[int, dict[str, int]]:
        """The steps at which layers put out values that are not finite: for how many stimuli, by layer."""
        found = {step: dict(self[step].provenance.get("nonfinite", {})) for step in self.steps}
        return {step: layers for step, layers in found.items() if layers}

    @property
    def diverged(self) -> int | None:
        """The first step with values that are not finite; None if there is none."""
        return min(self.nonfinite, default=None)

    @property
    def finite(self) -> tuple[int, ...]:
        """The recorded steps before the run diverged: all, if it did not."""
        return self.steps if self.diverged is None else tuple(step for step in self.steps if step < self.diverged)

    def __getitem__(self, step: int) -> Activations:
        if step not in self.steps:
            message = f"{self.path} has no step {step}. {closest(str(step), map(str, self.steps))}"
            raise UnknownNameError(message)
        if step not in self._opened:
            self._opened[step] = Activations(runs.step_folder(self.path, step))
        return self._opened[step]

    def __contains__(self, step: object) -> bool:
        return step in self.steps

    def __iter__(self) -> Iterator[int]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    def __repr__(self) -> str:
        state = "" if self.finished else ", unfinished"
        lost = "" if self.diverged is None else f", not finite from step {self.diverged} on"
        return f"CheckpointSeries({self.path!r}: {len(self)} steps from {self.steps[0]} to {self.steps[-1]}, {len(self.layers)} layers{state}{lost})"

    # ---- over training -----------------------------------------------------------------------------------------------

    def convergence(
        self,
        measure: MeasureSpec = "svcca",
        *,
        against: int | None = None,
        layers: Sequence[str] | None = None,
        at: Sequence[int] | None = None,
        steps: _steps.StepSpec = None,
        memory: str | float | None = None,
        executor: Any = None,
    ) -> xr.DataArray:
        """Compare every layer at every step with itself at the end.

        Parameters
        ----------
        measure : str or Measure
            See `congruence.list_measures`; sides are (earlier, final).
        against : int, optional
            The final state; by default the last recorded step, which is the end only of a run that is `finished`.
        layers : sequence of str, optional
            Which layers, by default all, in execution order.
        at : sequence of int, optional
            Which recorded steps, by default all.
        steps : str, Step or list, optional
            How to make (n, p) matrices; see `congruence.compare`.
        memory, executor
            See `congruence.compare`.

        Returns
        -------
        xarray.DataArray, shape (layer, step)
            NaN where a value is undefined, such as for a layer that is constant.

        Raises
        ------
        DegenerateError
            If nothing can be compared, as in a run that diverged and so has no final state: up to the last finite step
            there is one, ``at=run.finite, against=run.finite[-1]``.

        Warns
        -----
        CongruenceWarning
            For every reason to read the values with care, for states that are not finite (``diverged``, with the step;
            it is kept in ``attrs``, too), and for other pairs that failed (``failed_pairs``).

        References
        ----------
        Raghu et al. 2017, section 4.1 and figure 4 (the diagonals).
        """
        chosen, names, times, final = self._asked(measure, layers, at, against)
        results = [
            self._compared([(t, layer) for t in times], [(final, layer)], chosen, steps, memory, executor)
            for layer in names
        ]
        known = report(self, results, names, times, final)
        values = np.stack([result.matrix(chosen).values[:, 0] for result in results])
        return _labelled(values, {"layer": list(names), "step": list(times)}, chosen, against=final, **known)

    def against_final(
        self,
        measure: MeasureSpec = "svcca",
        *,
        against: int | None = None,
        layers: Sequence[str] | None = None,
        at: Sequence[int] | None = None,
        steps: _steps.StepSpec = None,
        memory: str | float | None = None,
        executor: Any = None,
    ) -> xr.DataArray:
        """Compare every layer at every step with every layer at the end: the panes of SVCCA.

        Parameters
        ----------
        measure, against, layers, at, steps, memory, executor
            See `convergence`.

        Returns
        -------
        xarray.DataArray, shape (step, layer, final_layer)
            Its diagonals are `convergence`.

        Raises
        ------
        DegenerateError
            If nothing can be compared, as in a run that diverged and so has no final state: up to the last finite step
            there is one, ``at=run.finite, against=run.finite[-1]``.

        References
        ----------
        Raghu et al. 2017, section 4.1 and figure 4.
        """
        chosen, names, times, final = self._asked(measure, layers, at, against)
        states = [(t, layer) for t in times for layer in names]
        result = self._compared(states, [(final, layer) for layer in names], chosen, steps, memory, executor)
        known = report(self, [result], names, times, final)
        values = result.matrix(chosen).values.reshape(len(times), len(names), len(names))
        coordinates = {"step": list(times), "layer": list(names), "final_layer": list(names)}
        return _labelled(values, coordinates, chosen, against=final, **known)

    def velocity(
        self,
        measure: MeasureSpec = "shape",
        *,
        layers: Sequence[str] | None = None,
        at: Sequence[int] | None = None,
        steps: _steps.StepSpec = None,
        memory: str | float | None = None,
        executor: Any = None,
    ) -> xr.DataArray:
        """Return how far every layer moves from one recorded step to the next, per update.

        Parameters
        ----------
        measure : str or Measure
            A distance, or a similarity s that is taken as 1 - s (see `Comparison.as_distance`).
        layers, at, steps, memory, executor
            See `convergence`.

        Returns
        -------
        xarray.DataArray, shape (layer, step)
            The distance between the states at `since` and at `step`, divided by the updates between them; `since` is a
            coordinate along `step`.

        Raises
        ------
        ParameterError
            If the measure is a similarity without such a conversion, or fewer than two steps are asked for.
        """
        chosen, names, times, _ = self._asked(measure, layers, at, None)
        if len(times) < 2:
            message = f"A velocity needs two recorded steps or more; got {list(times)}."
            raise ParameterError(message)
        results = []
        for layer in names:
            states = [(t, layer) for t in times]
            pairs = [
                (state_name(*first), state_name(*second)) for first, second in zip(states, states[1:], strict=False)
            ]
            results.append(self._compared(states, None, chosen, steps, memory, executor, pairs=pairs))
        known = report(self, results, names, times)
        if chosen.info.orientation == "similarity":
            results = [result.as_distance("one_minus") for result in results]
        spans = np.diff(np.asarray(times, dtype=float))
        values = np.stack([np.diagonal(result.matrix(chosen).values, offset=1) / spans for result in results])
        label = next(iter(results[0].infos))
        coordinates = {"layer": list(names), "step": list(times[1:]), "since": ("step", list(times[:-1]))}
        found = _labelled(values, coordinates, chosen, per="update", orientation="distance", measure=label, **known)
        return found.rename(label)

    def distances(
        self,
        measure: MeasureSpec = "shape",
        *,
        layers: Sequence[str] | None = None,
        at: Sequence[int] | None = None,
        steps: _steps.StepSpec = None,
        memory: str | float | None = None,
        executor: Any = None,
    ) -> xr.DataArray:
        """Return the distances between all states: every layer at every step with every other.

        Parameters
        ----------
        measure : str or Measure
            A distance.
        layers, at, steps, memory, executor
            See `convergence`.

        Returns
        -------
        xarray.DataArray, shape (state, other)
            States are named ``"step/layer"``; `layer` and `step` are coordinates along `state`. ``attrs["rounding"]`` is what
            equal states can be apart.

        Raises
        ------
        ParameterError
            If the measure is a similarity.
        """
        chosen, names, times, _ = self._asked(measure, layers, at, None)
        if chosen.info.orientation != "distance":
            message = f"{chosen.label} is a similarity; distances need a distance, such as 'shape' or 'procrustes'."
            raise ParameterError(message)
        states = [(t, layer) for layer in names for t in times]
        result = self._compared(states, None, chosen, steps, memory, executor)
        known = report(self, [result], names, times)
        labels = [state_name(*state) for state in states]
        coordinates = {
            "state": labels,
            "other": labels,
            "step": ("state", [t for t, _ in states]),
            "layer": ("state", [layer for _, layer in states]),
        }
        most = chosen.info.range[1]
        known |= {"is_metric": chosen.info.is_metric, "rounding": ROUNDING * most if math.isfinite(most) else 0.0}
        return _labelled(result.matrix(chosen).values, coordinates, chosen, **known)

    # ---- how ---------------------------------------------------------------------------------------------------------

    def _asked(
        self, spec: MeasureSpec, layers: Sequence[str] | None, at: Sequence[int] | None, against: int | None
    ) -> tuple[Measure[Any], tuple[str, ...], tuple[int, ...], int]:
        """Return the measure, the layers, the steps and the final step, checked."""
        names = self.layers if layers is None else tuple([layers] if isinstance(layers, str) else layers)
        for name in names:
            if name not in self.layers:
                message = f"{self.path} has no layer '{name}'. {closest(name, self.layers)}"
                raise UnknownNameError(message)
        times = self.steps if at is None else tuple(sorted(set(at)))
        final = self.steps[-1] if against is None else against
        for step in (*times, final):
            self[step]  # an unknown step is refused before anything is computed
        if not names or not times:
            message = "Give at least one layer and one step."
            raise ParameterError(message)
        return measure(spec) if isinstance(spec, str) else spec, names, times, final

    def _compared(
        self,
        a: Sequence[tuple[int, str]],
        b: Sequence[tuple[int, str]] | None,
        chosen: Measure[Any],
        steps: _steps.StepSpec,
        memory: str | float | None,
        executor: Any,
        pairs: Any = "all",
    ) -> Comparison:
        """Compare states with the engine: each is prepared once, and one that fails is NaN with its reason."""
        first, second = self._sources(a, steps), None if b is None else self._sources(b, steps)
        return run_comparison(first, second, [chosen], pairs=pairs, on_error="record", memory=memory, executor=executor)

    def _sources(self, states: Sequence[tuple[int, str]], steps: _steps.StepSpec) -> list[Source]:
        """Return states as matrices, which stay on disk if together they are large."""
        size = sum(int(np.prod(self[t].shape(layer))) * self[t].dtype(layer).itemsize for t, layer in states)
        return [self._source(t, layer, steps, on_disk=is_large(size)) for t, layer in states]

    def _source(self, step: int, layer: str, steps: _steps.StepSpec, *, on_disk: bool) -> Source:
        store = self[step]
        if on_disk and _reads_in_parts(store, layer, steps):
            return dataclasses.replace(defer_layer(store, layer, steps), name=state_name(step, layer))
        return dataclasses.replace(store[layer].matrix(steps), name=state_name(step, layer))


def _reads_in_parts(store: Activations, layer: str, steps: _steps.StepSpec) -> bool:
    """Return whether a layer can be read a few stimuli at a time: no step needs all of them, or makes several of one."""
    if len(store.shape(layer)) < 2:
        return False
    try:
        defer_layer(store, layer, steps)
    except ParameterError:
        return False
    return True


def _labelled(values: Any, coordinates: dict[str, Any], chosen: Measure[Any], **attributes: Any) -> xr.DataArray:
    """Return labelled values that say by which measure."""
    import xarray as xr

    info = chosen.info
    about = {"measure": info.label, "long_name": info.title, "orientation": info.orientation, **attributes}
    dims = [name for name, where in coordinates.items() if not isinstance(where, tuple)]
    return xr.DataArray(values, coordinates, dims, name=info.label, attrs=about)
