"""width-closeness: wider networks are closer, as distributions and as representations (Figure 3, right, and F.7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from congruence import figures
from congruence.identifiability._model import Matrix
from congruence.identifiability.studies._pairs import column, difference_interval, pair_interval
from congruence.studies import Outcome, Row, Study, Tables, Tier, Verdict, register

LEAST_ACCURACY, LEAST_MODELS = 0.9, 5
MEASURED = ("d_llv", "d_fg")


@dataclass(frozen=True)
class Settings:
    """Numbers of classes, widths, networks of each, data, and training."""

    classes: tuple[int, ...] = (4, 6, 10, 18)
    widths: tuple[int, ...] = (16, 32, 64, 128, 256)
    seeds: int = 20
    train: int = 20_000
    test: int = 2_000
    steps: int = 15_000
    learning_rate: float = 1e-4
    input_sets: int = 100


@register
class WidthCloseness(Study):
    """Networks on radial data."""

    name: ClassVar[str] = "width-closeness"
    title: ClassVar[str] = "Wider networks are closer"
    claim: ClassVar[str] = "Mean d_LLV and mean d_fg between seeds fall as networks get wider."
    source: ClassVar[str] = "Nielsen et al. 2025, Figure 3 (right) and appendix F.7"
    tiers: ClassVar[Mapping[str, Tier]] = {
        "quick": Tier(Settings((4,), (16, 32), 6, 1000, 200, 300, 5e-3, 20), "some seconds"),
        "small": Tier(
            Settings(seeds=10, steps=3_000, learning_rate=1e-3),
            "about 20 minutes: 10 seeds, 3,000 steps at ten times the paper's learning rate",
        ),
        "paper": Tier(Settings(), "some two hours: 20 seeds, 15,000 steps; resumable after each width"),
    }

    def pieces(self, settings: Settings) -> Sequence[str]:
        """Return one piece for each number of classes and width."""
        return [f"classes-{k}-width-{width}" for k in settings.classes for width in settings.widths]

    def work(self, settings: Settings, piece: str) -> Tables:
        """Train the networks of one width together, and compare all pairs of those that are good enough."""
        from congruence.identifiability._training import Recipe
        from congruence.identifiability.studies._radial import Radial, model_rows, pair_rows, trained

        _, classes, _, width = piece.split("-")
        recipe = Recipe(2, int(width), settings.steps, learning_rate=settings.learning_rate)
        found = trained(Radial(int(classes), settings.train, settings.test, settings.seeds, recipe))
        label = {"classes": int(classes), "width": int(width)}
        good = [k for k, accuracy in enumerate(found.accuracy) if accuracy > LEAST_ACCURACY]
        pairs = pair_rows(found, good, settings.input_sets)
        return {"pairs": [{**label, **row} for row in pairs], "models": [{**label, **row} for row in model_rows(found)]}

    def summarise(self, settings: Settings, tables: Tables) -> list[Row]:
        """Return mean, standard deviation and interval over pairs for each number of classes and width."""
        found = []
        for classes in settings.classes:
            for width in settings.widths:
                models = _of(tables["models"], classes, width)
                rows = _of(tables["pairs"], classes, width)
                good = int((column(models, "accuracy") > LEAST_ACCURACY).sum())
                line: Row = {"classes": classes, "width": width, "models": len(models), "good": good}
                line["mean_accuracy"] = float(column(models, "accuracy").mean())
                for name in MEASURED:
                    line |= _mean(rows, name) if good >= LEAST_MODELS else {}
                found.append(line)
        return found

    def judge(self, settings: Settings, tables: Tables) -> Verdict:
        """Return whether both distances fall from the narrowest to the widest usable width, for every number of classes."""
        falls: list[bool] = []
        statistics: dict[str, float] = {}
        words = []
        for classes in settings.classes:
            usable = [
                line["width"]
                for line in self.summarise(settings, tables)
                if line["classes"] == classes and "d_llv" in line
            ]
            if len(usable) < 2:
                words.append(
                    f"{classes} classes: too few widths with {LEAST_MODELS} networks above {LEAST_ACCURACY} accuracy"
                )
                continue
            for name in MEASURED:
                narrow, wide = (_of(tables["pairs"], classes, width) for width in (usable[0], usable[-1]))
                change = float(column(wide, name).mean() - column(narrow, name).mean())
                low, high = difference_interval(
                    (column(wide, name), _ends(wide)), (column(narrow, name), _ends(narrow))
                )
                statistics |= {
                    f"{name}_{classes}": change,
                    f"{name}_{classes}_low": low,
                    f"{name}_{classes}_high": high,
                }
                falls.append(high < 0)
                words.append(
                    f"{classes} classes, {name} from width {usable[0]} to {usable[-1]}: {change:+.3f} ({low:+.3f} to {high:+.3f})"
                )
        outcome: Outcome = "reproduced" if falls and all(falls) else "differs" if any(falls) else "not reproduced"
        return Verdict(outcome, "; ".join(words) + ".", statistics)

    def draw(self, settings: Settings, tables: Tables, folder: Path) -> None:
        """Draw both distances over the width, with intervals."""
        lines = self.summarise(settings, tables)
        for name in MEASURED:
            series = []
            for classes in settings.classes:
                usable = [line for line in lines if line["classes"] == classes and name in line]
                ends = (column(usable, f"{name}_low"), column(usable, f"{name}_high"))
                series.append(
                    figures.Series(f"{classes} classes", column(usable, "width"), column(usable, name), *ends)
                )
            ax = figures.curves(series, xlabel="width", ylabel=f"mean {name}", title="Distance of two seeds", log="x")
            figures.save_figure(ax, folder / f"width-{name}.png")


def _of(rows: Sequence[Row], classes: int, width: int) -> list[Row]:
    return [row for row in rows if (row["classes"], row["width"]) == (classes, width)]


def _ends(rows: Sequence[Row]) -> list[tuple[int, int]]:
    return [(row["a"], row["b"]) for row in rows]


def _mean(rows: Sequence[Row], name: str) -> Row:
    values: Matrix = column(rows, name)
    low, high = pair_interval(values, _ends(rows))
    return {name: float(values.mean()), f"{name}_sd": float(values.std()), f"{name}_low": low, f"{name}_high": high}
