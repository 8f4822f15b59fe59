"""bound-trained: pairs of trained networks and the line that no distance of representations crosses (Figure 16)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from congruence import figures
from congruence.identifiability.studies._pairs import column, over_the_line
from congruence.studies import Row, Study, Tables, Tier, Verdict, register


@dataclass(frozen=True)
class Settings:
    """Numbers of classes, widths, networks of each, data, training, and the norms that f and g are fixed to (0: free)."""

    classes: tuple[int, ...] = (4, 6, 10, 18)
    widths: tuple[int, ...] = (16, 32, 64, 128, 256)
    norms: tuple[float, ...] = (0.0, 20.0)
    seeds: int = 20
    train: int = 20_000
    test: int = 2_000
    steps: int = 15_000
    learning_rate: float = 1e-4
    input_sets: int = 100


@register
class BoundTrained(Study):
    """Networks on radial data, free and with fixed norms."""

    name: ClassVar[str] = "bound-trained"
    title: ClassVar[str] = "Trained networks stay under the bound"
    claim: ClassVar[str] = "d_fg <= 2 M d_LLV for every pair of trained networks."
    source: ClassVar[str] = "Nielsen et al. 2025, Theorem 4.7 and Figure 16"
    tiers: ClassVar[Mapping[str, Tier]] = {
        "quick": Tier(Settings((4,), (16, 32), (0.0, 20.0), 6, 1000, 200, 300, 5e-3, 20), "some seconds"),
        "small": Tier(
            Settings((4, 6), (64, 256), seeds=10, steps=3_000, learning_rate=1e-3),
            "about 10 minutes; the free networks are those of width-closeness",
        ),
        "paper": Tier(Settings(), "some four hours, half of them shared with width-closeness"),
    }

    def pieces(self, settings: Settings) -> Sequence[str]:
        """Return one piece for each number of classes, width and norm."""
        return [
            f"classes-{k}-width-{width}-norm-{norm:g}"
            for k in settings.classes
            for width in settings.widths
            for norm in settings.norms
        ]

    def work(self, settings: Settings, piece: str) -> Tables:
        """Train the networks of one kind together, and compare all pairs."""
        from congruence.identifiability._training import Recipe
        from congruence.identifiability.studies._radial import Radial, model_rows, pair_rows, trained

        _, classes, _, width, _, norm = piece.split("-")
        recipe = Recipe(2, int(width), settings.steps, learning_rate=settings.learning_rate, norm=float(norm))
        found = trained(Radial(int(classes), settings.train, settings.test, settings.seeds, recipe))
        label = {"classes": int(classes), "width": int(width), "norm": float(norm)}
        pairs = pair_rows(found, range(settings.seeds), settings.input_sets)
        return {"pairs": [{**label, **row} for row in pairs], "models": [{**label, **row} for row in model_rows(found)]}

    def summarise(self, settings: Settings, tables: Tables) -> list[Row]:
        """Return for each kind of network how close the points come to the line."""
        del settings
        found: list[Row] = []
        kinds = dict.fromkeys((row["classes"], row["width"], row["norm"]) for row in tables["pairs"])
        for kind in kinds:
            rows = [row for row in tables["pairs"] if (row["classes"], row["width"], row["norm"]) == kind]
            line: Row = {
                "classes": kind[0],
                "width": kind[1],
                "norm": kind[2],
                "pairs": len(rows),
                "above": over_the_line(rows),
            }
            line["bound_below_1"] = int((column(rows, "bound") < 1).sum())
            line["mean_d_llv"], line["mean_d_fg"] = (float(column(rows, name).mean()) for name in ("d_llv", "d_fg"))
            line["largest_share_of_bound"] = float((column(rows, "d_fg") / column(rows, "bound")).max())
            found.append(line)
        return found

    def judge(self, settings: Settings, tables: Tables) -> Verdict:
        """Return whether any point lies above the line."""
        del settings
        rows = tables["pairs"]
        above, useful = over_the_line(rows), int((column(rows, "bound") < 1).sum())
        text = f"{above} of {len(rows)} pairs of trained networks lie above the bound; it says something (is below 1) for {useful}."
        return Verdict(
            "reproduced" if above == 0 else "not reproduced",
            text,
            {"above": above, "pairs": len(rows), "useful": useful},
        )

    def draw(self, settings: Settings, tables: Tables, folder: Path) -> None:
        """Draw d_fg over d_LLV with the line."""
        series = []
        for norm in settings.norms:
            rows = [row for row in tables["pairs"] if row["norm"] == norm]
            label = f"norms {norm:g}" if norm else "free norms"
            series.append(figures.Series(label, column(rows, "d_llv"), column(rows, "d_fg")))
        ax = figures.points(series, xlabel="d_LLV", ylabel="d_fg", title=self.title, slope=4, log="x")
        ax.set_ylim(-0.02, 1.05)
        figures.save_figure(ax, folder / "bound-trained.png")
