"""compare_groups: networks of labelled groups, compared layer by layer and tested with the network as the unit."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from congruence.api.request import DEFAULT_MEASURES, Measures, Request, prepare
from congruence.api.running import run
from congruence.dynamics.groups import PERMUTATIONS, GroupComparison, group_comparison
from congruence.engine import OnError
from congruence.errors import Caveat, CongruenceWarning, InputError, ParameterError, UnknownNameError
from congruence.representation import Representation
from congruence.results import Comparison
from congruence.results.summary import summarise
from congruence.steps import StepSpec
from congruence.store import open_source
from congruence.validate import closest

Network = Any
"""A store, a path to one, a dict layer -> array or Representation, or a list of Representations."""
Networks = Mapping[str, "Mapping[str, Network] | Sequence[Network]"]


def compare_groups(
    groups: Networks,
    measures: Measures = DEFAULT_MEASURES,
    layers: Sequence[str] | None = None,
    steps: StepSpec = None,
    *,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    on_error: OnError = "raise",
    align: bool = False,
    memory: str | float | None = None,
    executor: Any = None,
    device: Any = None,
    dtype: Literal["float32", "float64"] | None = None,
) -> GroupComparison:
    """Compare networks within and between labelled groups, layer by layer.

    Whether networks that learnt random labels are farther apart than others, whether wide networks are closer than narrow
    ones, whether those of one learning rate resemble each other: whatever the labels say. Every two networks are
    compared once in every layer; p-values come from dealing the networks to the groups anew, so that the unit is the
    network.

    Parameters
    ----------
    groups : mapping of str to networks
        Label -> list of networks, or dict of them by name (such as ``population.activations(...)`` of the zoo). A network
        is a store, a path to one, a dict layer -> array, or a list of Representations named after their layers.
    measures : str, Measure or list of them
        As in `compare`; similarities that have the distance 1 - s are turned into it, others are refused.
    layers : sequence of str, optional
        Which layers; by default all, and then all networks must have the same.
    steps, align, memory, executor, device, dtype
        As in `compare`.
    permutations : int
        How many relabellings of the networks at most. Where there are no more they are all taken, and p is exact;
        otherwise so many are drawn, and the true labels counted as one more. p is never 0.
    seed : int
        Of the draw.
    on_error : {"raise", "record"}
        Whether a pair that fails ends the comparison, or makes NaN of all that depends on it.

    Returns
    -------
    GroupComparison
        ``.to_dataframe()`` has the tests, ``.distances()`` the means, ``.plot()`` the picture, ``.clusters(layer)`` what
        the distances group together.

    Raises
    ------
    ParameterError
        If there are fewer than two groups, all have a single network, or a similarity has no distance 1 - s.
    UnknownNameError
        If a network lacks a layer.
    InputError
        If the groups are no mapping, a network is none, networks have different layers, or a layer cannot be compared.

    Warns
    -----
    CongruenceWarning
        Once for every measure and reason to read its numbers with care, for groups with a single network, and for
        pairs that failed.

    Notes
    -----
    Of N networks, N (N - 1) / 2 pairs a layer. With 5 + 5 networks p is at least 2 / 252, with 4 + 4 at least 2 / 70:
    fewer cannot be significant at 0.01. p is for each layer by itself.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> base = rng.normal(size=(60, 5))
    >>> def network(noise):
    ...     return {"layer": base + noise * rng.normal(size=(60, 5))}
    >>> found = compare_groups({"close": [network(0.1) for _ in range(5)], "far": [network(1.0) for _ in range(5)]}, "cka")
    >>> row = found.to_dataframe().set_index("contrast").loc["spread: far - close"]
    >>> bool(row["difference"] > 0.1), int(row["relabellings"]), bool(row["exact"])
    (True, 252, True)
    """
    given: Any = groups
    if not isinstance(given, Mapping):
        message = f"groups must be a dict from label to networks; got {type(given).__name__}."
        raise InputError(message)
    found = {label: _networks(label, members) for label, members in groups.items()}
    named = {name: network for members in found.values() for name, network in members.items()}
    chosen = _layers(named, layers)
    handled: dict[str, Any] = dict(align=align, on_error=on_error, dtype=dtype, memory=memory, executor=executor, device=device)  # fmt: skip
    notes, comparisons = list[Caveat](), dict[str, Comparison]()
    for layer in chosen:
        side = [_representation(network, layer, name) for name, network in named.items()]
        request = prepare(side, None, measures, steps=steps, **handled)
        _require_distances(request)
        comparisons[layer] = run(request)
        notes += request.notes
    members = {label: list(networks) for label, networks in found.items()}
    result = group_comparison(comparisons, members, permutations=permutations, seed=seed)
    _warn(notes, result)
    return result


def _networks(label: str, members: Mapping[str, Network] | Sequence[Network]) -> dict[str, Mapping[str, Any]]:
    """Return the networks of a group by name, ``label/name`` or ``label/number``, each a mapping of layers."""
    given: Any = members
    networks = (Mapping, str, Path, list, tuple)  # what a network is; the values of one are arrays
    if isinstance(given, Mapping) and all(isinstance(value, networks) for value in given.values()):
        named = {f"{label}/{name}": network for name, network in given.items()}
    elif isinstance(given, list | tuple) and not any(isinstance(entry, Representation) for entry in given):
        named = {f"{label}/{k}": network for k, network in enumerate(given)}
    else:
        message = f"Group '{label}' must be a list of networks, or a dict of them by name; got a single {type(given).__name__}. Write [network] for a group of one."
        raise InputError(message)
    return {name: _network(name, network) for name, network in named.items()}


def _network(name: str, network: Network) -> Mapping[str, Any]:
    """Return the layers of a network by name."""
    if isinstance(network, str | Path):
        network = open_source(network)
    if isinstance(network, list | tuple) and all(isinstance(entry, Representation) for entry in network):
        repeated = [layer for layer, count in Counter(r.name for r in network).items() if count > 1]
        if repeated:
            message = f"Network {name} has '{repeated[0]}' more than once; name each layer."
            raise ParameterError(message)
        network = {r.name: r for r in network}
    if not isinstance(network, Mapping):
        message = f"Network {name} must be a store, a path, a dict from layer to array, or a list of Representations; got {type(network).__name__}."
        raise InputError(message)
    if not len(network):
        message = f"Network {name} has no layers."
        raise InputError(message)
    return network


def _layers(named: Mapping[str, Mapping[str, Any]], wanted: Sequence[str] | None) -> list[str]:
    """Return the layers to compare, in the order of the first network."""
    if not named:
        return []
    first, layers = next(iter(named.items()))
    chosen = list(layers) if wanted is None else [wanted] if isinstance(wanted, str) else list(wanted)
    for name, network in named.items():
        missing = [layer for layer in chosen if layer not in network]
        if missing and wanted is not None:
            message = f"Network {name} has no layer '{missing[0]}'. {closest(missing[0], list(network))}"
            raise UnknownNameError(message)
        if missing or (wanted is None and len(network) != len(chosen)):
            other = missing[0] if missing else next(layer for layer in network if layer not in layers)
            message = f"Networks {first} and {name} do not have the same layers ('{other}' is in one only). Choose common ones: layers=[...]."
            raise InputError(message)
    if not chosen:
        message = "Give at least one layer."
        raise ParameterError(message)
    return chosen


def _representation(network: Mapping[str, Any], layer: str, name: str) -> Representation:
    """Return one layer of a network under the name of the network."""
    value = network[layer]
    return replace(value, name=name) if isinstance(value, Representation) else Representation(value, name)


def _require_distances(request: Request) -> None:
    """Raise a ParameterError for a similarity that has no distance, before anything is computed."""
    for measure in request.measures:
        if measure.info.orientation == "similarity":
            measure.info.as_distance("one_minus")


def _warn(notes: Sequence[Caveat], result: GroupComparison) -> None:
    """Warn once for every measure and code over all layers, and of groups with a single network."""
    for code, text in {note.code: note.text for note in reversed(notes)}.items():
        warnings.warn(CongruenceWarning(Caveat(code, text)), stacklevel=3)
    for text in result.notes:
        warnings.warn(CongruenceWarning(Caveat("single_network", text)), stacklevel=3)
    failures = [(layer, row) for layer, one in result.comparisons.items() for row in one.failures().itertuples()]
    if failures:
        layer, row = failures[0]
        pairs = {(found, failed.measure, *sorted((failed.a, failed.b))) for found, failed in failures}
        text = f"{len(pairs)} of the pairs of networks failed, and what depends on them is NaN; first {row.a} and {row.b} in {layer}: {row.reason}"
        warnings.warn(CongruenceWarning(Caveat("failed_pairs", text)), stacklevel=3)
    tallies: dict[tuple[str, str], list[Any]] = {}
    for layer, comparison in result.comparisons.items():
        for found in summarise(comparison):
            tallies.setdefault((found.measure, found.code), []).append((layer, found))
    for (measure, code), all_found in tallies.items():
        layer, first = all_found[0]
        text = f"{measure}, {len(all_found)} of {len(result.comparisons)} layers, first {layer} ({first.pair[0]} and {first.pair[1]}): {first.text}"
        warnings.warn(CongruenceWarning(Caveat(code, text)), stacklevel=3)
