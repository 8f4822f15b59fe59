"""The leaderboard as a page in Markdown, beside the ranks that are published."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from congruence.benchmarks._beside_resi import agreement, beside_resi
from congruence.benchmarks._leaderboard import Leaderboard
from congruence.benchmarks.printed import RESI, RESI_REMARKS, resi_medians
from congruence.errors import StoreError
from congruence.store import write_bytes

if TYPE_CHECKING:
    import pandas as pd


def write_leaderboard(board: Leaderboard, out: str | Path) -> Path:
    """Write a leaderboard as a page, and its two tables beside it.

    Parameters
    ----------
    board : Leaderboard
        What to write.
    out : path
        Such as ``leaderboard.md``; ``leaderboard.csv`` and ``leaderboard-ranks.csv`` are written beside it. All are
        replaced.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    StoreError
        If the page cannot be written; no table is then.
    """
    page = page_file(out)
    lines = "\n".join(leaderboard_lines(board, "# Leaderboard"))
    write_bytes(page, lines.encode())
    for name, frame in ((f"{page.stem}.csv", board.table), (f"{page.stem}-ranks.csv", board.ranks)):
        write_bytes(page.with_name(name), frame.to_csv(index=False, na_rep="nan").encode())
    return page


def page_file(out: str | Path) -> Path:
    """Return where a page goes, its folder made.

    Raises
    ------
    StoreError
        If it is a folder, or has the name of the table beside it.
    """
    page = Path(out)
    if page.is_dir() or page.suffix == ".csv":
        found = "a folder" if page.is_dir() else "the name of the table beside the page"
        message = f"{page} is {found}. Give the page as a file: --out {page.with_suffix('.md')}"
        raise StoreError(message)
    page.parent.mkdir(parents=True, exist_ok=True)
    return page


def leaderboard_lines(board: Leaderboard, title: str = "## Leaderboard") -> Iterator[str]:
    """Yield the lines of the page: overall, by domain, by test, and every experiment."""
    count = len(board.ranks.drop_duplicates(["domain", "test", "dataset", "architecture"]))
    yield from (title, "")
    yield (
        f"Measures by the median, then the mean of their ranks in {count} experiments (a domain, test, data set and "
        f"architecture). Intervals of the median: 95 %, {board.unit} drawn with replacement, which makes good ranks worse, so "
        "that a good median may lie below its interval. Measures with one number in "
        "the column *group* cannot be told apart from the first of them. A failed comparison is a wrong answer; an "
        "undefined score ranks last."
    )
    if board.left_out:
        yield from ("", f"Left out: {'; '.join(board.left_out)}.")
    level = "#" * (len(title) - len(title.lstrip("#")) + 1)
    yield from _section(board, f"{level} All experiments", "overall", "")
    for scope in ("domain", "test"):
        names = board.table[board.table["scope"] == scope]["name"].unique()
        if len(names) > 1 or scope == "domain":
            for name in names:
                yield from _section(board, f"{level} {name[:1].upper()}{name[1:]}", scope, name)
                yield from _resi_lines(board, name)
    yield from _experiments(board.ranks, level)
    yield ""


def _section(board: Leaderboard, title: str, scope: str, name: str) -> Iterator[str]:
    published = resi_medians(name) if scope == "domain" else {}
    rows = board.rows(scope, name)
    heads = ["place", "measure", "median rank", "95 %", "mean rank", "group", "undefined", "failed", "ms a comparison"]
    heads += ["published median"] if published else []
    yield from ("", title, "", f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}")
    for row in rows.itertuples():
        cells = [str(row.place), f"`{row.measure}`", f"{row.median_rank:.1f}", _ends(row), f"{row.mean_rank:.1f}"]
        cells += [str(row.group or ""), str(row.undefined), f"{row.failed} of {row.n}", _number(1e3 * row.seconds)]
        cells += [_number(published.get(row.measure, float("nan")))] if published else []
        yield f"| {' | '.join(cells)} |"
    if published:
        yield from ("", f"Published: {RESI}. Ranks there are among other measures and other networks.")


_APART = 5
"""Median ranks that differ by more than this, of 24, are named."""


def _resi_lines(board: Leaderboard, domain: str) -> Iterator[str]:
    """Yield how our ranks of a domain stand to the published ones; nothing for what is no domain of ReSi."""
    beside = beside_resi(board.ranks, domain)
    if beside.empty:
        return
    rho = agreement(beside)
    words = f"Among the {len(beside)} measures here that ReSi ranks, ranked among themselves, Spearman's rho of our medians and the published ones is {rho:+.2f}."
    apart = beside[beside["difference"].abs() > _APART]
    for how, rows in (("better here", apart[apart["difference"] < 0]), ("worse here", apart[apart["difference"] > 0])):
        if len(rows):
            listed = ", ".join(f"`{row.measure}` ({row.ours:.1f}; published {row.published:.1f})" for row in rows.itertuples())  # fmt: skip
            words += f" More than {_APART} places {how}: {listed}."
    yield from ("", f"{words} {RESI_REMARKS.get(domain, '')}".rstrip())


def _experiments(ranks: pd.DataFrame, level: str) -> Iterator[str]:
    """Yield the value of every measure in every experiment."""
    titles = ranks["domain"] + ", " + ranks["architecture"] + " on " + ranks["dataset"] + ": " + ranks["test"]
    table = ranks.assign(title=titles).pivot(index="title", columns="measure", values="value")
    table = table.loc[titles.unique(), ranks["measure"].unique()].T
    yield from ("", f"{level} Every experiment", "")
    yield f"| measure | {' | '.join(table.columns)} |"
    yield f"|{'---|' * (1 + len(table.columns))}"
    for label, row in zip(table.index, table.to_numpy(), strict=True):
        yield f"| `{label}` | {' | '.join(_number(value) for value in row)} |"


def _ends(row: Any) -> str:
    return "" if row.low != row.low else f"{row.low:.1f} to {row.high:.1f}"


def _number(value: float) -> str:
    return "" if value != value else f"{value:.3g}"
