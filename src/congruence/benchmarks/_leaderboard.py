"""Leaderboard: measures ranked by the six tests, with intervals, and groups of measures that cannot be told apart.

Ranks are those of ReSi (Klabunde et al. 2025, arXiv 2408.00531): measures are ranked in every experiment (a domain, a test
with its functional difference, a data set, an architecture), and the ranks are summed up by their median and mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from congruence.benchmarks._base import Floats
from congruence.benchmarks._separation import interval
from congruence.benchmarks._tables import read_scores
from congruence.benchmarks.resi import resi_scores
from congruence.benchmarks.running import DIGITS, DRAWS, load_run
from congruence.errors import InputError, ParameterError

if TYPE_CHECKING:
    import pandas as pd

HEADLINES: Mapping[str, tuple[str, ...]] = {
    "accuracy-correlation": ("accuracy",),
    "output-correlation": ("jsd", "disagreement"),
    "label-randomisation": ("auprc",),
    "shortcut-affinity": ("auprc",),
    "augmentation": ("auprc",),
    "layer-monotonicity": ("spearman",),
}
"""Benchmark -> the quantities that measures are ranked by; each is an experiment of its own, as in ReSi."""

EXPERIMENT = ("domain", "test", "dataset", "architecture")
RANKS = (*EXPERIMENT, "measure", "value", "rank", "n", "failed", "seconds")
TABLE = (
    "scope", "name", "place", "measure", "median_rank", "mean_rank", "low", "high", "group", "experiments", "undefined",
    "failed", "n", "seconds",
)  # fmt: skip
BOOTSTRAPS = 1_000
Undefined = Literal["last", "left_out"]
Statistic = Literal["ours", "released"]
Experiment = tuple[str, str, str, str]


@dataclass(frozen=True, eq=False)
class Leaderboard:
    """What `leaderboard` returns.

    Attributes
    ----------
    table : pandas.DataFrame
        One row for each scope (``overall``, ``domain``, ``test``), name in it, and measure, best first: place, median and
        mean of the ranks, ends of the 95 % interval of the median, group (measures of one group cannot be told apart
        from its first), numbers of experiments, of undefined scores, of failed comparisons and of all comparisons, and
        the median time of a comparison in seconds.
    ranks : pandas.DataFrame
        One row for each experiment and measure: domain, test, dataset, architecture, measure, value, rank, n, failed,
        seconds.
    unit : {"networks", "experiments"}
        What the intervals draw: networks where all runs kept their draws, otherwise experiments.
    left_out : tuple of str
        Cases that belong to none of the six tests, or whose name has no domain, and experiments where every score is
        undefined.
    """

    table: pd.DataFrame
    ranks: pd.DataFrame
    unit: Literal["networks", "experiments"]
    left_out: tuple[str, ...]

    def rows(self, scope: str, name: str = "") -> pd.DataFrame:
        """Return the rows of a scope, such as ``rows("domain", "images")``, best first."""
        return self.table[(self.table["scope"] == scope) & (self.table["name"] == name)]


def leaderboard(
    runs: Sequence[str | Path | pd.DataFrame], *, undefined: Undefined = "last", statistic: Statistic = "ours"
) -> Leaderboard:
    """Rank measures over the experiments of one or more runs.

    Parameters
    ----------
    runs : sequence of path or pandas.DataFrame
        Folders of finished runs, or tables of their scores (``scores.csv``), or of ReSi's (``results.parquet``, see
        `resi_scores`).
    undefined : {"last", "left_out"}
        Where a score that is undefined ranks: behind all others, or nowhere, as in ReSi.
    statistic : {"ours", "released"}
        Rank by our scores, or by those that the released code of ReSi would give (``auprc:paper`` and so on).

    Returns
    -------
    Leaderboard

    Raises
    ------
    StoreError
        If a folder holds no finished run.
    InputError
        If no run has a score of the six tests, or one measure stands twice in an experiment.

    Notes
    -----
    Intervals draw networks with replacement inside every experiment where the runs kept draws. Where only tables are
    given, experiments are drawn instead, which says how far the ranks depend on the choice of experiments; for a single
    experiment there is no interval then. A new group begins at the first measure whose mean rank, minus that of the first
    of the group above, has a 95 % interval above 0; intervals are not corrected for the number of measures.
    """
    if undefined not in {"last", "left_out"}:
        message = f"undefined must be last or left_out; got {undefined!r}."
        raise ParameterError(message)
    if statistic not in {"ours", "released"}:
        message = f"statistic must be ours or released; got {statistic!r}."
        raise ParameterError(message)
    sources = [_read(run) for run in runs]
    suffix = "" if statistic == "ours" else ":paper"
    ranks, left_out = _ranks([table for table, _ in sources], undefined, suffix)
    draws = _draws(sources, ranks) if statistic == "ours" else None
    scopes = [_summary(scope, name, rows, draws) for scope, name, rows in _scopes(ranks)]
    import pandas as pd

    table = pd.concat(scopes, ignore_index=True)[list(TABLE)]
    return Leaderboard(table, ranks, "experiments" if draws is None else "networks", left_out)


# ---- reading ---------------------------------------------------------------------------------------------------------


def _read(run: str | Path | pd.DataFrame) -> tuple[pd.DataFrame, Path | None]:
    """Return a table of scores, and the folder of the run where there is one."""
    import pandas as pd

    if isinstance(run, pd.DataFrame):
        return run, None
    path = Path(run)
    if path.suffix == ".parquet":
        return resi_scores(path), None
    if path.is_file():
        return read_scores(path), None
    return load_run(path).table, path


def _ranks(tables: Sequence[pd.DataFrame], undefined: Undefined, suffix: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    import pandas as pd

    every = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["benchmark", "case"])
    known = every["benchmark"].isin(list(HEADLINES)) & (every["case"].str.count(r"\.") == 2)
    left_out = (every[~known]["benchmark"] + ", " + every[~known]["case"]).unique().tolist()
    rows = [
        row for _, case in every[known].groupby(["benchmark", "case"], sort=False) for row in _case_rows(case, suffix)
    ]
    if not any(np.isfinite(row[5]) for row in rows):
        message = (
            "None of the runs has a score of the six tests. Run some: congruence bench run label-randomisation ..."
        )
        raise InputError(message)
    ranks = pd.DataFrame(rows, columns=[name for name in RANKS if name != "rank"])
    twice = ranks[ranks.duplicated([*EXPERIMENT, "measure"])]
    if len(twice):
        first = twice.iloc[0]
        message = f"{first['measure']} stands twice in {first['test']}, {first['domain']}.{first['architecture']}.{first['dataset']}. Give each run once."
        raise InputError(message)
    defined = ranks["value"].notna().groupby([ranks[name] for name in EXPERIMENT]).transform("any")
    empty = ranks[~defined]
    left_out += (empty["test"] + ", " + empty["domain"] + "." + empty["architecture"] + "." + empty["dataset"] + ": every score is undefined").unique().tolist()  # fmt: skip
    ranks = ranks[defined].reset_index(drop=True)
    values = ranks["value"].round(DIGITS)
    values = values.fillna(-np.inf) if undefined == "last" else values
    ranks["rank"] = values.groupby([ranks[name] for name in EXPERIMENT]).rank(method="min", ascending=False)
    return ranks[list(RANKS)], tuple(left_out)


def _case_rows(case: pd.DataFrame, suffix: str) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of one case: for each quantity and measure its place and value."""
    test, (domain, architecture, dataset) = case["benchmark"].iloc[0], case["case"].iloc[0].split(".")
    seconds = case[case["quantity"] == "seconds"].set_index("measure")["value"].to_dict()
    for quantity in HEADLINES[test]:
        title = test if len(HEADLINES[test]) == 1 else f"{test} ({quantity})"
        counts = {row.measure: (row.n, row.failed) for row in case[case["quantity"] == quantity].itertuples()}
        for row in case[case["quantity"] == f"{quantity}{suffix}"].itertuples():
            place = (domain, title, dataset, architecture, row.measure)
            yield (*place, row.value, *counts[row.measure], seconds.get(row.measure, np.nan))


def _draws(sources: Sequence[tuple[Any, Path | None]], ranks: pd.DataFrame) -> dict[Experiment, pd.DataFrame] | None:
    """Return the draws of every experiment, a column a measure; None if any is missing."""
    import pandas as pd

    found: dict[Experiment, pd.DataFrame] = {}
    for experiment, rows in ranks.groupby(list(EXPERIMENT), sort=False):
        domain, test, dataset, architecture = experiment
        name, _, quantity = test.removesuffix(")").partition(" (")
        inside = Path(name) / f"{domain}.{architecture}.{dataset}" / DRAWS / f"{quantity or HEADLINES[name][0]}.csv"
        files = [folder / inside for _, folder in sources if folder is not None and (folder / inside).is_file()]
        tables = [pd.read_csv(file, na_values=["nan"]) for file in files]
        joined = pd.concat(tables, axis=1) if tables else pd.DataFrame()
        if set(rows["measure"]) - set(joined.columns):
            return None
        found[experiment] = joined[rows["measure"].tolist()]
    return found


# ---- summing up ------------------------------------------------------------------------------------------------------


def _scopes(ranks: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    yield "overall", "", ranks
    for scope in ("domain", "test"):
        for name, rows in ranks.groupby(scope, sort=False):
            yield scope, str(name), rows
    for (domain, test), rows in ranks.groupby(["domain", "test"], sort=False):
        yield "domain and test", f"{domain}, {test}", rows


def _summary(
    scope: str, name: str, rows: pd.DataFrame, draws: Mapping[Experiment, pd.DataFrame] | None
) -> pd.DataFrame:
    """Return the table of one scope, best first."""
    found = rows.groupby("measure", sort=False).agg(
        median_rank=("rank", "median"),
        mean_rank=("rank", "mean"),
        experiments=("rank", "count"),
        undefined=("value", lambda values: int(values.isna().sum())),
        failed=("failed", "sum"),
        n=("n", "sum"),
        seconds=("seconds", "median"),
    )
    found = found.sort_values(["median_rank", "mean_rank"], kind="stable").reset_index()
    drawn = _drawn_ranks(rows, found["measure"].tolist(), draws)
    with np.errstate(all="ignore"):
        ends = [interval(_nan_median(values)) for values in drawn]
    found["low"], found["high"] = [low for low, _ in ends], [high for _, high in ends]
    found["group"] = _groups(drawn)
    found["place"] = _places(found)
    found["scope"], found["name"] = scope, name
    return found


def _places(found: pd.DataFrame) -> list[int]:
    """Return places by median and mean rank; equals share the better one."""
    keys = list(zip(found["median_rank"], found["mean_rank"], strict=True))
    return [1 + keys.index(key) for key in keys]


def _drawn_ranks(
    rows: pd.DataFrame, measures: Sequence[str], draws: Mapping[Experiment, pd.DataFrame] | None
) -> Floats:
    """Return ranks under draws, shape (measures, draws, experiments); NaN where a measure or a draw has none."""
    table = rows.pivot(index="measure", columns=list(EXPERIMENT), values="rank").reindex(list(measures))
    if draws is None:
        count = table.shape[1]
        if count < 2:
            return np.full((len(measures), 1, count), np.nan)
        chosen = np.random.default_rng(0).integers(0, count, size=(BOOTSTRAPS, count))
        return np.asarray(table.to_numpy()[:, chosen])
    stacked = [
        _ranked(draws[experiment].reindex(columns=list(measures)), table[experiment]) for experiment in table.columns
    ]
    least = min(len(one) for one in stacked)  # tiers keep the same number of draws; runs of other versions may not
    return np.stack([one[:least].T for one in stacked], axis=2)


def _ranked(values: pd.DataFrame, ranks: pd.Series) -> Floats:
    """Return the ranks of every draw, shape (draws, measures); undefined scores rank last, and a lost draw has none."""
    absent, lost = ranks.isna().to_numpy(), values.isna().all(axis=1).to_numpy()
    found = values.round(DIGITS).fillna(-np.inf).loc[:, ~absent].rank(axis=1, method="min", ascending=False)
    out = np.full(values.shape, np.nan)
    out[:, ~absent] = found.to_numpy()
    out[lost] = np.nan
    return out


def _nan_median(values: Floats) -> Floats:
    """Return the median over experiments, shape (draws,), without those that have no rank."""
    some = ~np.isnan(values).all(axis=1)
    found = np.full(len(values), np.nan)
    found[some] = np.nanmedian(values[some], axis=1)
    return found


def _groups(drawn: Floats) -> list[int]:
    """Return the group of every measure, best first; 0 where nothing is known of the uncertainty."""
    if np.isnan(drawn).all():
        return [0] * len(drawn)
    leader, group, found = drawn[0], 1, []
    for values in drawn:
        shared = ~(np.isnan(values) | np.isnan(leader))
        counts = shared.sum(axis=1)
        sums = np.where(shared, values - leader, 0.0).sum(axis=1)
        behind = np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)
        low, _ = interval(behind)
        if low > 0:
            leader, group = values, group + 1
        found.append(group)
    return found
