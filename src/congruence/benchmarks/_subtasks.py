"""The four subtasks of Ding et al. 2021 as cases: representations, their functionality, and what is compared with what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from congruence.benchmarks._base import Case, Floats
from congruence.benchmarks._inference import Group, Models
from congruence.benchmarks._linear import kept_components, principal_scores, probe_accuracy
from congruence.benchmarks._populations import matrix
from congruence.representation import Representation, Source

DELETED = (0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.85, 0.9, 0.95, 0.98)
"""Shares of the components that are deleted; the whole representation comes first."""


@dataclass(frozen=True, eq=False)
class Function:
    """Functionality of every representation, where references are chosen, and which model each belongs to.

    Parameters
    ----------
    what : str
        The functionality, in words.
    values : ndarray, shape (representations,)
        Higher is better.
    groups : sequence of Group
        One a layer.
    models : Models
        The unit of uncertainty.
    """

    what: str
    values: Floats
    groups: Sequence[Group]
    models: Models


def probe_case(name: str, found: Sequence[Representation], labels: Any, key: Mapping[str, Any]) -> Case[Function]:
    """Return subtask (a): all layers of all networks; the reference of a layer is compared with everything."""
    values = np.array([probe_accuracy(r.values, labels) for r in found])
    return subtask_case(name, found, "accuracy of a linear probe", values, key)


def deletion_case(name: str, found: Sequence[Representation], labels: Any, key: Mapping[str, Any]) -> Case[Function]:
    """Return subtask (b): layers in the last third of depth, with components of low variance deleted.

    The reference is the best whole representation of a layer; it is compared with every representation of the layer,
    whole or not. (The authors also count what is left of the reference's network against the others, which makes 182
    pairs of 98.)
    """
    depth = len({layer_of(r) for r in found})
    last = [r for place, r in enumerate(found) if place % depth >= depth - max(1, depth // 3)]
    left, values, shares = [], [], []
    for whole in last:
        scores = principal_scores(whole.values)
        for share in DELETED:
            rest = scores[:, : kept_components(scores.shape[1], share)]
            model, layer = model_of(whole), layer_of(whole)
            left.append(matrix(rest, f"{whole.name}/deleted-{share:.2f}", model, layer, whole.ids))
            values.append(probe_accuracy(rest, labels))
            shares.append(share)
    what = "accuracy of a linear probe"
    return subtask_case(name, left, what, np.array(values), {**key, "deleted": list(DELETED)}, shares=shares)


def shift_case(
    name: str, found: Sequence[Source], accuracies: Mapping[str, float], what: str, key: Mapping[str, Any]
) -> Case[Function]:
    """Return subtasks (c) and (d): the same layer of networks that differ in a seed; functionality is one number a network."""
    values = np.array([accuracies[model_of(r)] for r in found])
    return subtask_case(name, found, f"accuracy on {what}", values, key, within=True)


def subtask_case(
    name: str,
    found: Sequence[Source],
    what: str,
    values: Floats,
    key: Mapping[str, Any],
    *,
    within: bool = False,
    shares: Sequence[float] | None = None,
) -> Case[Function]:
    """Return a subtask: where references are chosen, and which model each representation belongs to.

    Parameters
    ----------
    name : str
        Of the case.
    found : sequence of Representation or Deferred
        With model and layer as their origin.
    what : str
        The functionality, in words.
    values : ndarray, shape (representations,)
        The functionality; higher is better.
    key : mapping
        What the representations are; see `Case`.
    within : bool
        Compare a reference inside its layer only.
    shares : sequence of float, optional
        How much was deleted from each; references are whole, and compared inside their layer.
    """
    layers = np.array([layer_of(r) for r in found])
    whole = np.ones(len(found), dtype=bool) if shares is None else np.array(shares) == 0
    inside = within or shares is not None
    groups = [
        Group(layer, np.flatnonzero((layers == layer) & whole), np.flatnonzero(layers == layer) if inside else np.arange(len(found)))
        for layer in dict.fromkeys(layers.tolist())
    ]  # fmt: skip
    slots = (
        layers.tolist() if shares is None else [f"{layer} {share}" for layer, share in zip(layers, shares, strict=True)]
    )
    models = Models.of([model_of(r) for r in found], slots)
    pairs: Any = "all"
    if inside:
        pairs = [(found[i].name, found[j].name) for g in groups for i in g.members for j in g.scope]
    return Case(name, found, Function(what, values, groups, models), "spearman", key, pairs)


def model_of(representation: Source) -> str:
    """Return the name of the model of a representation."""
    return representation.origin.model or ""


def layer_of(representation: Source) -> str:
    """Return the name of the layer of a representation."""
    return representation.origin.layer or ""
