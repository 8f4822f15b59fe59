"""The page of results: every measure on every case, with uncertainty, beside what the papers print, in Markdown."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from congruence.benchmarks._base import REGISTRY
from congruence.benchmarks._leaderboard import HEADLINES, leaderboard
from congruence.benchmarks.leaderboard_page import leaderboard_lines, page_file
from congruence.benchmarks.printed import Published, published_for
from congruence.benchmarks.running import RUN, BenchmarkRun, load_run
from congruence.results import Comparison
from congruence.store import write_bytes

if TYPE_CHECKING:
    import pandas as pd

_WORDS = {
    "layer-identification": "Accuracy of finding the same layer in a network of another seed; chance is one over the "
    "number of layers. ± is the jackknife standard error over networks, p the jackknife z-test against the best measure.",
    "intuitive": "Specificity: how often another layer of the network is farther than the same layer of another seed "
    "(chance 0.5). Sensitivity: 1 minus the share of principal components whose deletion, in the features as they are, goes "
    "unnoticed: it does until the whole layer is as far as that of another seed (the threshold); probe_lost is "
    "the accuracy of a linear probe that is lost by then. ± is the jackknife standard error over networks.",
    **dict.fromkeys(
        ("label-randomisation", "shortcut-affinity", "augmentation"),
        "AUPRC averaged over groups; chance is the share of pairs inside groups, and auprc_corrected is 0 there and 1 at "
        "best. Intervals: 95 %, networks drawn with replacement inside their groups; a network is not compared with its own "
        "copy, so that draws have fewer pairs inside groups and an area near chance lies above its interval. p: networks "
        "relabelled between groups.",
    ),
    **dict.fromkeys(
        ("accuracy-correlation", "output-correlation"),
        "Spearman's rho of distance and functional difference over pairs of networks (chance 0). Intervals: 95 %, networks "
        "drawn with replacement. p: networks relabelled.",
    ),
    "layer-monotonicity": "Mean Spearman's rho of unlikeness and distance in depth over layers and both directions (chance "
    "0); conformity: triples of layers in order, ties half (chance 0.5). Intervals: 95 %, networks drawn with replacement. "
    "p: the layers of every network put into random orders.",
    "functional": "Spearman's rho of distance and functional difference from the best model, averaged over layers "
    "(chance 0). Components are deleted in the basis of principal axes, as in the paper: measures that depend on axes or means "
    "compare that basis. Intervals: 95 %, models drawn with replacement. p: whole models relabelled; where components are "
    "deleted, relabelling leaves the effect of the deletion in place, so p speaks of differences between models only. "
    "spearman_p and kendall_p are those of the paper: averages over layers, pairs taken as independent.",
}


def write_page(folders: Sequence[str | Path], out: str | Path) -> Path:
    """Write the results of finished runs as a page, and their scores as a table of the same name beside it.

    Parameters
    ----------
    folders : sequence of path
        Folders of finished runs.
    out : path
        Such as ``benchmark-results.md``; ``benchmark-results.csv`` is written beside it, with every quantity of the
        page. Both are replaced.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    StoreError
        If a folder holds no finished run, or the page cannot be written.
    """
    import pandas as pd

    runs = [load_run(folder) for folder in folders]
    page, lines = page_file(out), "\n".join(page_lines(runs))
    table = _kept(pd.concat([run.table for run in runs], ignore_index=True))
    write_bytes(page, lines.encode())
    write_bytes(page.with_suffix(".csv"), table.to_csv(index=False, na_rep="nan", float_format="%.7g").encode())
    return page


def _kept(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that a page or a leaderboard shows; other details stay in the ``scores.csv`` of the runs."""
    released = {f"{quantity}:paper" for quantities in HEADLINES.values() for quantity in quantities}
    return table[~table["quantity"].str.contains(":") | table["quantity"].isin(list(released))]


def page_lines(runs: Sequence[BenchmarkRun]) -> Iterator[str]:
    """Yield the lines of the page."""
    yield "# Results of the benchmarks"
    yield ""
    yield "Made by `congruence bench page`; the numbers are in the table of the same name beside this page, and more of them in the `scores.csv` of a run."
    for words, names in _made_with(runs).items():
        yield from ("", f"{words[0]}: {', '.join(names)}; {words[1]}.")
    if any(run.table["benchmark"].isin(list(HEADLINES)).any() for run in runs):
        yield ""
        yield from leaderboard_lines(leaderboard([run.folder for run in runs]))
    for run in runs:
        for name, rows in run.table.groupby("benchmark", sort=False):
            yield from _benchmark_lines(run, str(name), rows)
    yield ""


def _made_with(runs: Sequence[BenchmarkRun]) -> dict[tuple[str, str], list[str]]:
    """Return (tier, date and versions) in words -> the benchmarks that were run so."""
    found: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        about = json.loads((run.folder / RUN).read_bytes())
        versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
        words = (f"Tier `{about['tier']}`", f"{about['created'][:10]}, congruence {about['congruence']}, {versions}")
        found.setdefault(words, []).extend(about["benchmarks"])
    return found


def _benchmark_lines(run: BenchmarkRun, name: str, rows: pd.DataFrame) -> Iterator[str]:
    title = REGISTRY[name].title if name in REGISTRY else name
    yield from ("", f"## {title}", "")
    if name in REGISTRY:
        yield f"{REGISTRY[name].source}. {_WORDS.get(name, '')}"
    for case, found in rows.groupby("case", sort=False):
        tables = published_for(name, str(case))
        comparison = Comparison.load(run.folder / name / str(case))
        yield from ("", f"### {case}", "", _case_words(comparison), "")
        yield from _table_lines(found, tables)
        for table in tables:
            yield from ("", f"{_agreement(_heads(found), table)} {table.remark}".rstrip())


def _case_words(comparison: Comparison) -> str:
    data = comparison.dataset
    asked = data["status"].values != "skipped"
    n = int(data["n"].values[asked].max())
    seconds = float(data["seconds"].values.sum())
    return f"{len(comparison.a)} representations of {n:,} stimuli, {int(asked[0].sum()):,} pairs a measure; comparing took {seconds:,.0f} s in all."


# ---- tables ----------------------------------------------------------------------------------------------------------


def _heads(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the headline quantity, best first; it is the first of every measure."""
    return rows[rows["quantity"] == rows["quantity"].iloc[0]].sort_values("rank", kind="stable")


def _table_lines(rows: pd.DataFrame, tables: Sequence[Published]) -> Iterator[str]:
    heads = _heads(rows)
    more = [q for q in rows["quantity"].unique() if ":" not in q and q != heads["quantity"].iloc[0]]
    values = rows[rows["quantity"].isin(more)].set_index(["measure", "quantity"])["value"]
    columns = ["rank", "measure", str(heads["quantity"].iloc[0]), "uncertainty", "p", *more, "failed"]
    columns += [f"published ({number})" for number in range(1, len(tables) + 1)]
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for row in heads.itertuples():
        cells = [str(row.rank), f"`{row.measure}`", _number(row.value), _uncertainty(row), _p(row.p)]
        cells += [_number(values.get((row.measure, quantity), np.nan)) for quantity in more]
        cells += [str(row.failed), *(_number(table.values.get(row.measure, np.nan)) for table in tables)]
        yield f"| {' | '.join(cells)} |"
    if tables:
        yield ""
        yield "Published: " + "; ".join(f"({i}) {t.where}: {t.setting}" for i, t in enumerate(tables, 1)) + "."


def _number(value: Any) -> str:
    return "" if np.isnan(value) else f"{value:.3f}"


def _p(value: Any) -> str:
    return "< 0.001" if value < 0.0005 else _number(value)


def _uncertainty(row: Any) -> str:
    if not np.isnan(row.low):
        return f"{row.low:.3f} to {row.high:.3f}"
    return "" if np.isnan(row.standard_error) else f"± {row.standard_error:.3f}"


# ---- words -----------------------------------------------------------------------------------------------------------


def _agreement(heads: pd.DataFrame, table: Published) -> str:
    """Return in words where the order of the measures is that of the paper, and where it is not."""
    ours = {row.measure: row.value for row in heads.itertuples() if not np.isnan(row.value)}
    common = [label for label in table.values if label in ours]
    if len(common) < 2:
        return f"Against {table.where}: fewer than two measures in common."
    against, same, tied = [], 0, 0
    for first, second in itertools.combinations(common, 2):
        here, there = ours[first] - ours[second], table.values[first] - table.values[second]
        if here == 0 or there == 0:
            tied += 1
        elif here * there > 0:
            same += 1
        else:
            high, low = (first, second) if here > 0 else (second, first)
            against.append((abs(there), f"`{high}` above `{low}` ({ours[high]:.3f} and {ours[low]:.3f}; published {table.values[high]:.3f} and {table.values[low]:.3f})"))  # fmt: skip
    total = same + len(against) + tied
    words = f"Against {table.where} ({table.setting}): {same} of {total} pairs of measures stand in the published order"
    words += f", {tied} tie" if tied else ""
    if not against:
        return f"{words}; none stands against it."
    against.sort(reverse=True)
    rest = f"; and {len(against) - 5} more" if len(against) > 5 else ""
    return f"{words}, {len(against)} against it: {'; '.join(text for _, text in against[:5])}{rest}."
