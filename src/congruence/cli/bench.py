"""congruence bench: benchmarks that test the measures, and scores of distances that someone already has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from congruence.cli._terminal import console, note, plural, print_json, print_table, progress, resumable
from congruence.errors import OutputExistsError

if TYPE_CHECKING:
    import pandas as pd

    from congruence.benchmarks import BenchmarkRun

NAME = "bench"
app = typer.Typer(
    help="Test the measures themselves: does a measure notice what changes function, and ignore what does not?",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

SCORE_EXAMPLES = """[bold]Examples[/bold]

Distances between all layers of ten networks, scored by a probe's accuracy; the reference is the best of each layer:
  congruence bench score --distances dists.csv --scores scores.csv --reference-by layer --pairs all --functionality qnli --model seed -o scored

dists.csv: a,b,procrustes,cka (either order of a pair)   scores.csv: id,seed,layer,qnli"""


class PairChoice(StrEnum):
    """What a reference is compared with."""

    all = "all"
    within = "within"


class ManyValues(TyperCommand):
    """A command without arguments whose lists may be written ``--distance A B`` as well as ``--distance A --distance B``."""

    lists = ("--distance", "--functionality")

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the name of a list before each of its further values."""
        spread: list[str] = []
        current, values = "", 0
        for word in args:
            if word.startswith("-"):
                current, values = (word if word in self.lists else ""), 0
            elif current:
                values += 1
                spread += [current] if values > 1 else []
            spread.append(word)
        return super().parse_args(ctx, spread)


@app.command("score", cls=ManyValues, epilog=SCORE_EXAMPLES)
def score(
    *,
    distances: Annotated[Path, typer.Option(metavar="FILE", help="CSV: a, b, and one column for each distance.")],
    scores: Annotated[Path, typer.Option(metavar="FILE", help="CSV: id, grouping columns, functionality.")],
    reference_by: Annotated[
        str, typer.Option(metavar="COLUMN", help="For each value of it the reference is the best id there.")
    ],
    pairs: Annotated[
        PairChoice, typer.Option(help="Compare the reference with everything, or inside its group.")
    ] = PairChoice.all,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="Folder for scores.csv.")],
    distance: Annotated[
        list[str] | None, typer.Option(metavar="COL ...", help="Distances to score. \\[default: all]")
    ] = None,
    functionality: Annotated[
        list[str] | None,
        typer.Option(metavar="COL ...", help="Functionality; needed where other numeric columns exist."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="The unit of p-values and intervals: ids with one value share a model."),
    ] = None,
    lower_is_better: Annotated[
        bool, typer.Option("--lower-is-better", help="The best functionality is the lowest.")
    ] = False,
    permutations: Annotated[int, typer.Option(min=0, help="Relabellings of whole models.")] = 10_000,
    bootstraps: Annotated[int, typer.Option(min=0, help="Draws of models with replacement.")] = 1_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of relabellings and draws.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace scores that are there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> int:
    """Score distances that you already have by how well they order representations by function.

    Exit code 3 if comparisons in the table had failed (empty cells): each counts as the worst answer.
    """
    from congruence import benchmarks

    if out.exists() and not out.is_dir():
        message = f"{out} is a file; --out is a folder. Choose another."
        raise OutputExistsError(message)
    if (out / benchmarks.SCORES).exists() and not overwrite:
        message = f"{out / benchmarks.SCORES} exists. Replace it with --overwrite, or choose another --out."
        raise OutputExistsError(message)
    arguments: dict[str, Any] = {
        "reference_by": reference_by,
        "pairs": pairs.value,
        "distance": distance,
        "functionality": functionality,
        "model": model,
        "lower_is_better": lower_is_better,
        "permutations": permutations,
        "bootstraps": bootstraps,
        "seed": seed,
    }
    with progress("Relabelling", "relabellings") as update:
        report = None if update is None else (lambda done, total: update(done, total))
        table = benchmarks.score(distances, scores, progress=report, **arguments)
    benchmarks.write_scores(table, out, {"distances": distances, "scores": scores}, arguments)
    if as_json:
        print_json({"out": str(out), "rows": table.to_dict(orient="records")})
    else:
        _show_scores(table, out / benchmarks.SCORES)
    return 3 if int(table["failed"].sum()) else 0


def _show_scores(table: pd.DataFrame, path: Path) -> None:
    shown = console()
    means = table[table["group"] == "mean"]
    columns = ["", "distance", "functionality", "n", "spearman", "95 %", "p (models)", "kendall", "bad"]
    rows = [
        (
            str(row.rank), row.distance, row.functionality, str(row.n), f"{row.spearman:.3f}", _spread(row),
            _known(row.permutation_p, ".2g"), f"{row.kendall:.3f}", f"{row.bad_frac:.3f}",
        )
        for row in means.itertuples()
    ]  # fmt: skip
    print_table(shown, columns, rows, "tnnrrrrrr")
    groups = plural(int(table["group"].nunique()) - 1, "group")
    shown.print(f"\nMeans over {groups}; every group: {path}", soft_wrap=True)


# ---- benchmarks ------------------------------------------------------------------------------------------------------

RUN_EXAMPLES = """[bold]Examples[/bold]

Every measure, in minutes:
  congruence bench run layer-identification -m all --tier quick --out run

Your own function f(X, Y) beside all others (my_module.py is in this folder):
  congruence bench run all -m all --also my_module:my_measure --tier quick --out run

Real networks and data; go on after an interruption:
  congruence bench run layer-identification -m all --tier small --out run --resume"""


class TierChoice(StrEnum):
    """How much."""

    quick = "quick"
    small = "small"
    paper = "paper"


@app.command("list")
def list_benchmarks(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """List the benchmarks and what their tiers do."""
    from congruence import benchmarks

    found: list[dict[str, Any]] = [
        {"name": test.name, "title": test.title, "source": test.source, "tiers": dict(test.tiers.items())}
        for test in benchmarks.REGISTRY.values()
    ]
    if as_json:
        print_json(found)
        return
    shown = console()
    for test in found:
        shown.print(test["name"], style="bold")
        shown.print(f"  {test['title']} ({test['source']})", soft_wrap=True)
        for tier, words in test["tiers"].items():
            shown.print(f"    {tier:<6} {words}", soft_wrap=True)
    shown.print("\nRun one: congruence bench run NAME -m all --tier quick --out RUN")


@app.command("run", epilog=RUN_EXAMPLES)
def run(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="Benchmarks, or all. See: congruence bench list")
    ],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="RUN", help="Folder for comparisons, scores, ranking.")],
    measures: Annotated[
        list[str] | None,
        typer.Option(
            "--measure",
            "-m",
            metavar="MEASURE",
            help="A measure, all, or resi (the 24 of ReSi); repeatable. \\[default: all]",
        ),
    ] = None,
    tier: Annotated[TierChoice, typer.Option(help="Seconds, minutes, or the published setting.")] = TierChoice.quick,
    also: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODULE:NAME",
            help="A function f(X, Y) of yours, ranked beside the rest; repeatable. Add :similarity or :distance to say "
            "what more means.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Finish an interrupted run, or add measures to it.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> int:
    """Test measures on benchmarks and rank them. Exit code 3 if comparisons failed: they count as wrong."""
    from congruence import benchmarks

    if resume and overwrite:
        message = "--resume and --overwrite exclude each other; give one of them."
        raise typer.BadParameter(message)
    with resumable(out), _stages() as stage:
        done = benchmarks.run(
            names,
            measures or "all",
            tier=tier.value,
            out=out,
            also=also or (),
            exists="resume" if resume else "overwrite" if overwrite else "error",
            stage=stage,
        )
    if as_json:
        rows = {"ranking": done.ranking, "scores": done.table}
        print_json({"run": str(out), **{name: frame.to_dict(orient="records") for name, frame in rows.items()}})
    else:
        _show_run(done)
    return 3 if done.failed else 0


@contextmanager
def _stages() -> Iterator[Any]:
    """Show what is being done: a bar on a terminal, one line for each new thing in a log."""
    with progress("Running", "steps") as update:
        last = ""

        def stage(what: str, done: int, total: int) -> None:
            nonlocal last
            if what != last:
                note(what)
                last = what
            if update is not None:
                update(done, total)

        yield stage


@app.command("page")
def page(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of finished runs.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE.md", help="The page; a table of that name goes beside it.")
    ] = Path("benchmark-results.md"),
) -> None:
    """Write the results of runs as a page, beside what the papers print."""
    from congruence import benchmarks

    print(benchmarks.write_page(runs, out))


LEADERBOARD_EXAMPLES = """[bold]Examples[/bold]

Ranks over the tests, domains and architectures of two runs, on the terminal and as a page:
  congruence bench leaderboard images graphs --out leaderboard.md

From a table of scores alone:
  congruence bench leaderboard scores.csv --json

From ReSi's own results, as its code would score them (needs pyarrow, which the extra hub brings):
  congruence bench leaderboard results.parquet --statistic released"""


class StatisticChoice(StrEnum):
    """Whose scores."""

    ours = "ours"
    released = "released"


@app.command("leaderboard", epilog=LEADERBOARD_EXAMPLES)
def leaderboard(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Folders of finished runs, their scores.csv, or ReSi's results.parquet."),
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE.md", help="Write a page; two tables of that name go beside it."),
    ] = None,
    statistic: Annotated[
        StatisticChoice, typer.Option(help="Rank by our scores, or by those of ReSi's released code.")
    ] = StatisticChoice.ours,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Rank measures over the six tests of ReSi, with intervals, and say which cannot be told apart."""
    from congruence import benchmarks

    board = benchmarks.leaderboard(runs, statistic=statistic.value)
    if out is not None:
        benchmarks.write_leaderboard(board, out)
    if as_json:
        tables = {"table": board.table, "ranks": board.ranks}
        print_json(
            {"intervals": board.unit, "left_out": list(board.left_out)}
            | {name: frame.to_dict(orient="records") for name, frame in tables.items()}
        )
        return
    shown = console()
    heads = ["", "measure", "median rank", "95 %", "mean", "group", "experiments", "failed"]
    rows = [
        (
            str(r.place), r.measure, f"{r.median_rank:.1f}", "" if r.low != r.low else f"{r.low:.1f} to {r.high:.1f}",
            f"{r.mean_rank:.1f}", str(r.group or ""), str(r.experiments), str(r.failed),
        )
        for r in board.rows("overall").itertuples()
    ]  # fmt: skip
    print_table(shown, heads, rows, "rnrrrrrr")
    shown.print(f"\nIntervals draw {board.unit}. Measures of one group cannot be told apart from its first.")
    for words in board.left_out:
        note(f"Left out: {words}")
    if out is not None:
        shown.print(f"Page: {out}", soft_wrap=True)


def _show_run(done: BenchmarkRun) -> None:
    shown = console()
    for (test, case), rows in done.table.groupby(["benchmark", "case"], sort=False):
        shown.print(f"{test}, {case}", style="bold")
        heads = rows[~rows["quantity"].str.contains(":")]
        names = heads["quantity"].unique()  # the headline is first
        first = heads[heads["quantity"] == names[0]].set_index("measure").sort_values("rank", kind="stable")
        values = heads.pivot(index="measure", columns="quantity", values="value")
        cells = [
            (str(r.rank), label, f"{r.value:.3f}", _spread(r), _known(r.p, ".2g"), *(f"{values[q][label]:.3f}" for q in names[1:]), str(r.failed))
            for label, r in zip(first.index, first.itertuples(), strict=True)
        ]  # fmt: skip
        columns = ["", "measure", names[0], "", "p", *names[1:], "failed"]
        print_table(shown, columns, cells, f"rnrrr{'r' * (len(names) - 1)}r")
        shown.print()
    shown.print("Mean rank over all cases", style="bold")
    rows = [(f"{r.mean_rank:.1f}", r.measure, str(r.undefined), str(r.failed)) for r in done.ranking.itertuples()]
    print_table(shown, ["rank", "measure", "undefined", "failed"], rows, "rnrr")
    shown.print(f"\nScores: {done.folder / 'scores.csv'}", soft_wrap=True)
    if done.failed:
        where = done.folder / "BENCHMARK" / "CASE" / "comparison.csv"
        note(f"{plural(done.failed, 'comparison')} failed and count as wrong; the reasons are in {where}")


def _spread(row: Any) -> str:
    """Return the 95 % interval of a score, or its standard error, where there is one."""
    if row.low == row.low:
        return f"{row.low:.3f} to {row.high:.3f}"
    error = getattr(row, "standard_error", float("nan"))
    return f"± {error:.3f}" if error == error else ""


def _known(value: float, form: str) -> str:
    """Return a number as text, and nothing where there is none."""
    return format(value, form) if value == value else ""
