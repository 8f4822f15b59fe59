"""Run benchmarks: train or load what they need, compare, score, and keep everything in a folder that can be resumed."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

import congruence
from congruence.benchmarks._base import Benchmark, Case, Draws, Score, Stage, Tier, benchmark
from congruence.benchmarks._effort import given_up
from congruence.benchmarks._tables import read_scores
from congruence.benchmarks._user import UserMeasure, user_measure
from congruence.benchmarks.printed import resi_labels
from congruence.engine import RESULT, Cell, Journal, Progress, Row, run_comparison
from congruence.errors import CongruenceError, InputError, OutputExistsError, ParameterError, StoreError
from congruence.measures import REGISTRY, Measure, measure
from congruence.results import Comparison
from congruence.store import exclusive_lock, write_bytes

if TYPE_CHECKING:
    import pandas as pd

RUN, SCORES, RANKING, DRAWS = "bench.json", "scores.csv", "ranking.csv", "draws"
DIGITS = 10
"""Scores that agree to so many decimals have the same rank: sums are rounded in one order or another."""
Exists = Literal["error", "resume", "overwrite"]
_PACKAGES = ("numpy", "scipy", "torch", "transformers", "scikit-learn")

VARIANTS = (
    "cka:estimator=debiased", "cka:kernel=rbf,bandwidth=0.2", "cka:kernel=rbf,bandwidth=0.4", "cka:kernel=rbf,bandwidth=0.8",
    "cca:statistic=mean_squared", "svcca:statistic=mean_squared",
)  # fmt: skip
"""Measures of the papers beside the defaults."""

SMALLER = {"rtd": "rtd:trials=2,batch=100"}
"""What stands for a measure whose defaults take minutes a pair: less of the data, as the label says."""


@dataclass(frozen=True, eq=False)
class BenchmarkRun:
    """What `run` returns.

    Attributes
    ----------
    folder : Path
        Where everything is.
    table : pandas.DataFrame
        One row for each score: columns benchmark, tier, case, measure, rank (within the case, by its headline
        quantity), quantity, value, low, high, standard_error, p, n, failed, note.
    ranking : pandas.DataFrame
        One row for each measure, best first: columns measure, mean_rank, median_rank, cases, undefined, failed.
    """

    folder: Path
    table: pd.DataFrame
    ranking: pd.DataFrame

    @property
    def failed(self) -> int:
        """How many comparisons failed, over all cases."""
        return int(self.ranking["failed"].sum())


def all_measures() -> tuple[Measure[Any], ...]:
    """Return every measure of representations with its defaults, and the variants that the papers report.

    RTD is taken with 2 batches of 100 stimuli: its default, 10 of 500, takes about half a minute a pair.
    """
    defaults = [measure(SMALLER.get(name, name)) for name in REGISTRY]
    return tuple({m.label: m for m in (*defaults, *map(measure, VARIANTS))}.values())


def resi_measures() -> tuple[Measure[Any], ...]:
    """Return the 24 measures that ReSi ranks, by its definitions but for two (see `printed.RESI_STAND_INS`)."""
    return tuple(map(measure, resi_labels().values()))


def run(
    names: str | Sequence[str],
    measures: str | Measure[Any] | Sequence[str | Measure[Any]] = "all",
    *,
    tier: str = "quick",
    out: str | Path,
    also: Sequence[str | Measure[Any]] = (),
    exists: Exists = "error",
    stage: Stage | None = None,
) -> BenchmarkRun:
    """Run benchmarks and keep the comparisons, the scores and a ranking in a folder.

    Parameters
    ----------
    names : str or sequence of str
        Benchmarks, such as ``"layer-identification"``; ``"all"`` for every one that offers the tier.
    measures : str, Measure or sequence of them
        What to test; ``"all"`` for `all_measures`, ``"resi"`` for `resi_measures`.
    tier : {"quick", "small", "paper"}
        How much: seconds; real data in minutes; the published setting.
    out : path
        Folder of the run.
    also : sequence of str or Measure
        Measures of yours beside them; ``"my_module:my_measure"`` for a plain function of two arrays, see `user_measure`.
    exists : {"error", "resume", "overwrite"}
        What to do if `out` holds a run: refuse; finish it, keeping what is there of the same cases and measures; or
        replace it.
    stage : callable, optional
        Called with (what, done, total).

    Returns
    -------
    BenchmarkRun
        The tables, which are in the folder as ``scores.csv`` and ``ranking.csv``, beside ``bench.json`` and one folder
        with a comparison for each case.

    Raises
    ------
    UnknownNameError, ParameterError
        If a benchmark, measure or tier does not exist.
    MissingExtraError
        If the data of the tier is not installed; the message names the package.
    InputError
        If the data of the tier are there, but too few for a benchmark.
    OutputExistsError
        If `out` holds a run and `exists` does not say what to do.
    """
    listed = _benchmarks(names, tier)
    chosen = _measures(measures, also)
    wanted = [(test, test.require_tier(tier)) for test in listed]
    folder, report = Path(out), stage or _unheard
    _require_writable(folder, exists)
    if exists == "overwrite" and folder.exists():
        shutil.rmtree(folder)
    fresh = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(folder):
        _claim(folder, wanted, chosen)
        try:
            rows = [row for test, level in wanted for row in _run_one(test, level, chosen, folder, report)]
        except CongruenceError:
            if fresh and not any(path.is_dir() for path in folder.iterdir()):
                shutil.rmtree(folder)  # nothing was computed, so nothing is lost
            raise
        table, ranking = _tables(rows)
        for name, frame in ((SCORES, table), (RANKING, ranking)):
            write_bytes(folder / name, frame.to_csv(index=False, na_rep="nan").encode())
    return BenchmarkRun(folder, table, ranking)


def _unheard(what: str, done: int, total: int) -> None:
    """Take what is being done, where nobody looks."""
    del what, done, total


def load_run(folder: str | Path) -> BenchmarkRun:
    """Return a finished run from its folder.

    Raises
    ------
    StoreError
        If there is none, or it was not finished.
    """
    import pandas as pd

    folder = Path(folder)
    if not folder.is_dir():
        message = f"There is no folder {folder}. Give the folder of a run (the --out of: congruence bench run)."
        raise StoreError(message)
    if not (folder / RANKING).exists():
        message = f"{folder} holds no finished benchmark. Finish it with: congruence bench run ... --resume"
        raise StoreError(message)
    ranking = pd.read_csv(folder / RANKING, keep_default_na=False, na_values=["nan"])
    return BenchmarkRun(folder, read_scores(folder / SCORES), ranking)


# ---- what to run -----------------------------------------------------------------------------------------------------


def _benchmarks(names: str | Sequence[str], tier: str) -> list[Benchmark[Any]]:
    """Return benchmarks by name; all of them are those that offer the tier."""
    from congruence.benchmarks._base import REGISTRY as TESTS

    listed = [names] if isinstance(names, str) else list(names)
    if not listed:
        message = f"Name at least one benchmark: {', '.join(TESTS)}, or all."
        raise ParameterError(message)
    if listed == ["all"]:  # no benchmark offers a tier that does not exist: any of them says so
        return [benchmark(name) for name, cls in TESTS.items() if tier in cls.tiers] or [benchmark(min(TESTS))]
    return [benchmark(name) for name in dict.fromkeys(listed)]


_SETS: Mapping[str, Callable[[], tuple[Measure[Any], ...]]] = {"all": all_measures, "resi": resi_measures}
"""Names that stand for several measures."""


def _measures(
    measures: str | Measure[Any] | Sequence[str | Measure[Any]], also: Sequence[str | Measure[Any]]
) -> list[Measure[Any]]:
    listed = [measures] if isinstance(measures, str | Measure) else list(measures)
    found: list[Measure[Any]] = []
    for item in listed:
        found += _SETS[item]() if isinstance(item, str) and item in _SETS else [measure(item)]
    found += [item if isinstance(item, Measure) else user_measure(item) for item in also]
    if not found:
        message = "Give at least one measure, or all."
        raise ParameterError(message)
    return list({m.label: m for m in found}.values())


# ---- the folder of a run ---------------------------------------------------------------------------------------------


def _require_writable(folder: Path, exists: str) -> None:
    if exists not in {"error", "resume", "overwrite"}:
        message = f"exists must be error, resume or overwrite; got {exists!r}."
        raise ParameterError(message)
    if not folder.exists():
        return
    inside = [path.name for path in folder.iterdir() if path.name != ".lock"] if folder.is_dir() else [folder.name]
    if inside and not (folder / RUN).exists():
        message = f"{folder} exists and holds no benchmark; it is left alone. Choose another output."
        raise OutputExistsError(message)
    if inside and exists == "error":
        message = f"{folder} exists. Finish it with --resume (exists='resume'), replace it with --overwrite (exists='overwrite'), or choose another folder."
        raise OutputExistsError(message)


def _claim(folder: Path, wanted: Sequence[tuple[Benchmark[Any], Tier]], measures: Sequence[Measure[Any]]) -> None:
    """Write what the run is; a run to resume must be of the same tier."""
    tiers = {level for _, level in wanted}
    path = folder / RUN
    if path.exists():
        before = json.loads(path.read_bytes())["tier"]
        if {before} != tiers:
            message = f"{folder} holds the tier '{before}'; choose another output for '{tiers.pop()}'."
            raise StoreError(message)
    about = {
        "congruence": congruence.__version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "tier": next(iter(tiers)),
        "benchmarks": [test.name for test, _ in wanted],
        "measures": [m.label for m in measures],
        "user_code": _user_code(measures),
        "versions": {"python": platform.python_version(), **_versions()},
        "platform": platform.platform(),
    }
    write_bytes(path, json.dumps(about, indent=2).encode())


def _user_code(measures: Sequence[Measure[Any]]) -> dict[str, str]:
    return {m.label: m.code for m in measures if isinstance(m, UserMeasure)}


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in _PACKAGES if _installed(name)}


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


# ---- one benchmark ---------------------------------------------------------------------------------------------------


def _run_one(
    test: Benchmark[Any], tier: Tier, measures: Sequence[Measure[Any]], folder: Path, stage: Stage
) -> list[dict[str, Any]]:
    rows = []
    for case in test.cases(tier, stage):
        place = folder / test.name / case.name
        result = _compared(case, measures, place, lambda p, case=case: stage(f"{test.name}, {case.name}: comparing", p.done, p.total))  # type: ignore[misc]  # fmt: skip
        scores = test.score(case, result)
        _keep_draws(test.draws(case, result), place / DRAWS)
        ranks = _ranks(scores, case.headline)
        about = {"benchmark": test.name, "tier": tier, "case": case.name}
        rows += [{**about, "headline": case.headline, "rank": ranks[s.measure], **asdict(s)} for s in scores]
    if not rows:
        message = (
            f"{test.name} has nothing to compare at tier {tier}: too little of its data is there. {test.tiers[tier]}."
        )
        raise InputError(message)
    return rows


def _keep_draws(draws: Draws, folder: Path) -> None:
    """Write the draws of models: a table for each quantity, a column for each measure."""
    import pandas as pd

    for quantity, found in draws.items():
        folder.mkdir(exist_ok=True)
        table = pd.DataFrame(dict(found)).to_csv(index=False, na_rep="nan")
        write_bytes(folder / f"{quantity}.csv", table.encode())


def _compared(
    case: Case[Any], measures: Sequence[Measure[Any]], place: Path, progress: Callable[[Progress], None]
) -> Comparison:
    """Return the comparison of a case; what the run holds of the same representations is not computed again."""
    identity = {"congruence": congruence.__version__, "case": dict(case.key), "pairs": case.pairs if isinstance(case.pairs, str) else len(case.pairs)}  # fmt: skip
    key = json.loads(
        json.dumps({**identity, "measures": [m.label for m in measures], "user_code": _user_code(measures)})
    )
    before = _before(place, {part: key[part] for part in identity}, [one.name for one in case.representations])
    if before is not None and before[0] == place and before[1].provenance["key"] == key:
        return before[1]
    known = [*(_known(before[1], measures) if before is not None else []), *given_up(case, measures)]
    with ExitStack() as stack:
        place.parent.mkdir(parents=True, exist_ok=True)
        journal = stack.enter_context(Journal(place, key, "update"))
        result = run_comparison(
            list(case.representations), None, measures, pairs=case.pairs, on_error="record", journal=journal, known=known,
            progress=progress, provenance={"key": key},
        )  # fmt: skip
        result.save(place / RESULT, overwrite=True)
        result.to_csv(place / "comparison.csv")
        journal.finish()
    return result


def _before(place: Path, identity: Mapping[str, Any], names: Sequence[str]) -> tuple[Path, Comparison] | None:
    """Return a comparison of the same representations and its folder: the case's, or its namesake's in another benchmark."""
    others = sorted(folder / place.name for folder in place.parent.parent.iterdir() if folder.is_dir())
    for folder in (place, *others):
        if (folder / RESULT).exists():
            found = Comparison.load(folder)
            key = found.provenance["key"]
            if list(found.a) == list(names) and all(key.get(part) == value for part, value in identity.items()):
                return folder, found
    return None


def _known(before: Comparison, measures: Sequence[Measure[Any]]) -> list[Row]:
    """Return the finished cells of the measures that are still the same."""
    code, now = before.provenance["key"]["user_code"], _user_code(measures)
    kept = [m.label for m in measures if m.label in before.infos and (m.label not in now or code.get(m.label) == now[m.label] != "")]  # fmt: skip
    table = before.to_dataframe()
    table = table[(table["status"] == "ok") & table["measure"].isin(kept)]
    rows: dict[tuple[str, str], dict[str, Cell]] = {}
    for label, a, b, value, seconds in table[["measure", "a", "b", "value", "seconds"]].itertuples(index=False):
        cell = Cell(float(value), "ok", "", before.caveats(label, a, b), float(seconds))
        rows.setdefault((label, a), {})[b] = cell
    return [Row(label, a, cells) for (label, a), cells in rows.items()]


# ---- tables ----------------------------------------------------------------------------------------------------------


def _ranks(scores: Sequence[Score], headline: str) -> dict[str, int]:
    """Return the rank of every measure; the best is 1, equals share the best rank, undefined scores are last."""
    heads = [s for s in scores if s.quantity == headline]
    values = {s.measure: -np.inf if np.isnan(s.value) else round(s.value, DIGITS) for s in heads}
    return {label: 1 + sum(other > value for other in values.values()) for label, value in values.items()}


def _tables(rows: Sequence[Mapping[str, Any]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    import pandas as pd

    about = ("benchmark", "tier", "case", "measure", "rank")
    columns = [*about, *(f.name for f in fields(Score) if f.name != "measure")]
    table = pd.DataFrame(rows, columns=[*columns, "headline"])
    heads = table[table["quantity"] == table["headline"]]
    ranking = heads.groupby("measure", sort=False).agg(
        mean_rank=("rank", "mean"),
        median_rank=("rank", "median"),
        cases=("rank", "size"),
        undefined=("value", lambda values: int(values.isna().sum())),
        failed=("failed", "sum"),
    )
    ranking = ranking.reset_index().sort_values("mean_rank", kind="stable", ignore_index=True)
    return table[columns], ranking
