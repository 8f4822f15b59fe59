"""What the studies share: columns of tables, intervals, quiet comparisons, and layers of populations."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from congruence import figures, zoo
from congruence.dynamics._relabelling import Contrast, Floats, interval, p_value, relabellings
from congruence.dynamics.groups import PERMUTATIONS, GroupComparison, group_comparison
from congruence.engine import run_comparison
from congruence.errors import CongruenceWarning
from congruence.measures import measure
from congruence.representation import Representation
from congruence.studies import Row


def column(rows: Sequence[Row], name: str) -> Floats:
    """Return a column of a table as numbers; what could not be computed is NaN."""
    return np.array([np.nan if row[name] is None else row[name] for row in rows], dtype=np.float64)


SHARES = (0.0, 1.0)
"""What shares, accuracies, canonical correlations and distances made of them lie in."""
CORRELATIONS = (-1.0, 1.0)
"""What correlations, cosines, and differences of shares lie in."""
LENGTHS = (0.0, math.inf)
"""What distances without a greatest one, and ratios, lie in."""
OF_STATES = {"cca": SHARES, "svcca": SHARES, "cosine": CORRELATIONS, "euclidean": LENGTHS}
"""What the measures of states over a sequence lie in."""


def mean_interval(values: Floats, within: tuple[float, float] = (-math.inf, math.inf)) -> tuple[float, float, float]:
    """Return the mean of independent numbers and the ends of its 95 % interval by the t distribution.

    `within` is the range of the numbers, and so of their mean: the interval is cut to it, which leaves nothing out that
    could be the mean.
    """
    from scipy.stats import t

    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return mean, math.nan, math.nan
    reach = float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n))
    return mean, max(mean - reach, within[0]), min(mean + reach, within[1])


def with_ends(name: str, interval: tuple[float, float, float]) -> Row:
    """Return a value and the ends of its interval as columns: `name`, ``name_low`` and ``name_high``."""
    return dict(zip((name, f"{name}_low", f"{name}_high"), interval, strict=True))


def in_words(line: Row, name: str) -> str:
    """Return a value and its interval as words."""
    return f"{line[name]:.2f} ({line[f'{name}_low']:.2f} to {line[f'{name}_high']:.2f})"


def curve(label: str, lines: Sequence[Row], x: str, y: str) -> figures.Series:
    """Return column `y` over column `x`, with its interval, to be drawn."""
    return figures.Series(label, column(lines, x), *(column(lines, f"{y}{end}") for end in ("", "_low", "_high")))


def quiet_value(label: str, x: Any, y: Any) -> float:
    """Return a measure of two arrays; what it warns of is known to the study."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CongruenceWarning)
        return float(measure(label)(x, y))


def layer_groups(
    networks: Mapping[str, Mapping[str, Mapping[str, Any]]],
    measures: Sequence[str],
    layers: Sequence[str],
    **options: Any,
) -> GroupComparison:
    """Return groups of networks compared, given group -> name of the network -> layer -> array or Representation."""
    chosen = [measure(label) for label in measures]
    comparisons = {}
    for layer in layers:
        side = [
            Representation(_values(network[layer]), f"{group}/{name}")
            for group, members in networks.items()
            for name, network in members.items()
        ]
        comparisons[layer] = run_comparison(side, None, chosen)
    names = {group: [f"{group}/{name}" for name in members] for group, members in networks.items()}
    return group_comparison(comparisons, names, **options)


def _values(found: Any) -> Any:
    """Return the (n, p) values of a layer."""
    return found.matrix().values if isinstance(found, Representation) else found


def states(
    population: zoo.Population,
    probe: zoo.Probe,
    layers: Sequence[str],
    *,
    steps: str | None = None,
    step: int | None = None,
    seeds: Sequence[int] | None = None,
) -> dict[str, dict[str, Any]]:
    """Return what layers put out as (n, p) arrays: name of the network -> layer -> values."""
    stores = population.activations(probe, layers, steps=steps, step=step, seeds=seeds)
    return {name: {layer: store[layer].matrix().values for layer in layers} for name, store in stores.items()}


def passing(
    population: zoo.Population, batches: Sequence[Any], layers: Sequence[str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the seed of every network and what its layers put out, layer -> (n, p), without keeping it on disk."""
    from congruence.extraction import extract

    for seed in population.seeds:
        store = extract(population.model(seed), list(batches), list(layers))
        yield seed, {layer: store[layer].matrix().values for layer in layers}


def over_pairs(values: Floats, within: tuple[float, float] = (-math.inf, math.inf)) -> tuple[float, float, float]:
    """Return the mean over pairs of networks, shape (networks, networks), both orders, and its 95 % interval over networks.

    `within` is the range of the numbers; see `mean_interval`.
    """
    both = (values + values.T) / 2
    inside = np.where(np.eye(len(both), dtype=bool), 0.0, both)
    mean = float(inside.sum() / (len(both) * (len(both) - 1)))
    low, high = interval((0, 0), inside, [len(both)])
    return mean, max(low, within[0]), min(high, within[1])


def table_rows(found: GroupComparison, **about: Any) -> dict[str, list[Row]]:
    """Return the tables of a comparison of groups as rows of a study."""
    tables = {"distances": found.distances(), "tests": found.to_dataframe()}
    return {name: [{**about, **row} for row in _plain(table)] for name, table in tables.items()}


def _plain(table: Any) -> list[Row]:
    records: list[Row] = [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]
    return records


def pair_rows(found: GroupComparison, **about: Any) -> list[Row]:
    """Return the distance of every pair of networks once: measure, layer, network, network_b and value.

    Networks are named ``group/name``, so that any statistic of the comparison can be computed again from these rows.
    """
    names = found.dataset["network"].values.tolist()
    once = list(zip(*(ends.tolist() for ends in np.triu_indices(len(names), 1)), strict=True))
    rows: list[Row] = []
    for measured in found.measures:
        for layer in found.layers:
            apart = found.dataset["apart"].sel(measure=measured, layer=layer).values
            place = {**about, "measure": measured, "layer": layer}
            rows += [
                {**place, "network": names[i], "network_b": names[j], "value": float(apart[i, j])} for i, j in once
            ]
    return rows


def apart_of(rows: Sequence[Row], groups: Sequence[str]) -> tuple[Floats, list[int]]:
    """Return the distances in rows of pairs between the networks of some groups, and how many networks each group has.

    Parameters
    ----------
    rows : sequence of dict
        Of one measure and layer, as `pair_rows` makes them.
    groups : sequence of str
        Labels; the networks are returned in their order.
    """
    known = dict.fromkeys(name for row in rows for name in (row["network"], row["network_b"]))
    members = [[name for name in known if name.rpartition("/")[0] == group] for group in groups]
    place = {name: k for k, name in enumerate(name for names in members for name in names)}
    apart = np.zeros((len(place), len(place)))
    for row in rows:
        if row["network"] in place and row["network_b"] in place:
            i, j = place[row["network"]], place[row["network_b"]]
            apart[i, j] = apart[j, i] = np.nan if row["value"] is None else row["value"]
    return apart, [len(names) for names in members]


def between_less_within(apart: Floats, sizes: Sequence[int]) -> tuple[float, float, float]:
    """Return the mean distance between two groups less that within the second, and its 95 % interval.

    Given distances of the networks of both, shape (networks, networks), each group in the order of its seeds. Pairs of one
    seed, which start from the same weights, are left out. The interval leaves out one network at a time.
    """
    from scipy.stats import t

    of_second = np.arange(len(apart)) >= sizes[0]
    seed = np.arange(len(apart)) - sizes[0] * of_second

    def value(out: int | None = None) -> float:
        a, b = (
            np.setdiff1d(np.flatnonzero(of_second == group), [-1 if out is None else out]) for group in (False, True)
        )
        between = apart[np.ix_(a, b)][seed[a][:, None] != seed[b]]
        return float(between.mean() - apart[np.ix_(b, b)][np.triu_indices(len(b), 1)].mean())

    parts = [np.array([value(int(k)) for k in np.flatnonzero(of_second == group)]) for group in (False, True)]
    variance = sum((len(left) - 1) / len(left) * float(((left - left.mean()) ** 2).sum()) for left in parts)
    reach = float(t.ppf(0.975, min(sizes) - 1)) * math.sqrt(variance)
    return value(), value() - reach, value() + reach


def change_of_spread(before: Floats, after: Floats, sizes: Sequence[int]) -> Row:
    """Return how much more the second group is spread out than the first after something than before it.

    The contrast ``spread`` of ``after - before``, which are distances of the same networks, shape (networks, networks):
    difference, its 95 % interval by leaving out one network at a time, and p over relabellings of the networks.
    """
    contrast, change = Contrast("spread", (0, 1)), np.asarray(after - before)
    if np.isnan(change).any():
        return dict.fromkeys(("difference", "low", "high", "p"), math.nan)
    labels, exact = relabellings(sizes, PERMUTATIONS, 0)
    first, second = (
        block[np.triu_indices(len(block), 1)].mean()
        for block in (change[: sizes[0], : sizes[0]], change[sizes[0] :, sizes[0] :])
    )
    low, high = interval(contrast, change, sizes)
    p = p_value(contrast, change, sizes, labels, exact=exact)
    return {"difference": float(second - first), "low": low, "high": high, "p": p}
