"""bound-constructed: perturbed models and the line that no distance of representations crosses (Figure 16)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from congruence import figures
from congruence.identifiability.constructions import STEPS, perturbed_embeddings
from congruence.identifiability.studies._pairs import as_row, column, compare_quietly, over_the_line
from congruence.studies import Outcome, Row, Study, Tables, Tier, Verdict, register


@dataclass(frozen=True)
class Settings:
    """Numbers of labels, how many amounts of noise, inputs of every label, input sets."""

    labels: tuple[int, ...] = (4, 5, 6, 10, 18)
    amounts: int = 250
    per_label: int = 500
    input_sets: int = 300


@register
class BoundConstructed(Study):
    """Noise on the embeddings."""

    name: ClassVar[str] = "bound-constructed"
    title: ClassVar[str] = "Perturbed models stay under the bound"
    claim: ClassVar[str] = "d_fg <= 2 M d_LLV for every pair."
    source: ClassVar[str] = "Nielsen et al. 2025, Theorem 4.7 and Figure 16"
    tiers: ClassVar[Mapping[str, Tier]] = {
        "quick": Tier(Settings((4, 6), 8, 30, 20), "under a second"),
        "small": Tier(
            Settings(amounts=50, per_label=100, input_sets=100), "about 10 seconds: 50 of the 250 amounts of noise"
        ),
        "paper": Tier(Settings(), "some minutes"),
    }

    def pieces(self, settings: Settings) -> Sequence[str]:
        """Return one piece for each number of labels."""
        return [f"labels-{labels}" for labels in settings.labels]

    def work(self, settings: Settings, piece: str) -> Tables:
        """Compare the model with its perturbations; as in the original the first one's input set serves them all."""
        labels = int(piece.removeprefix("labels-"))
        top = 250 * STEPS[labels]
        rows: list[Row] = []
        chosen: tuple[int, ...] | None = None
        for number, noise in enumerate(np.linspace(top / settings.amounts, top, settings.amounts).tolist()):
            models = perturbed_embeddings(labels, noise, per_label=settings.per_label, noise_seed=number)
            found = compare_quietly(*models, n_input_sets=settings.input_sets, seed=0, input_set=chosen)
            chosen = found.input_set
            rows.append({"labels": labels, "noise": noise, **as_row(found)})
        return {"pairs": rows}

    def summarise(self, settings: Settings, tables: Tables) -> list[Row]:
        """Return for each number of labels how close the points come to the line."""
        found: list[Row] = []
        for labels in settings.labels:
            rows = [row for row in tables["pairs"] if row["labels"] == labels]
            useful = [row for row in rows if row["bound"] < 1]
            share = column(rows, "d_fg") / column(rows, "bound")
            line: Row = {
                "labels": labels,
                "pairs": len(rows),
                "above": over_the_line(rows),
                "bound_below_1": len(useful),
            }
            line |= {"d_llv_largest": float(column(rows, "d_llv").max()), "largest_share_of_bound": float(share.max())}
            line["largest_share_of_sharper_bound"] = float((column(rows, "d_svd_f") / column(rows, "bound_f")).max())
            found.append(line)
        return found

    def judge(self, settings: Settings, tables: Tables) -> Verdict:
        """Return whether any point lies above the line."""
        del settings
        rows = tables["pairs"]
        above = over_the_line(rows)
        share = float((column(rows, "d_fg") / column(rows, "bound")).max())
        useful = int((column(rows, "bound") < 1).sum())
        text = f"{above} of {len(rows)} pairs lie above the bound; it says something (is below 1) for {useful}. The largest d_fg is {share:.2f} of its bound."
        outcome: Outcome = "reproduced" if above == 0 else "not reproduced"
        return Verdict(outcome, text, {"above": above, "pairs": len(rows), "useful": useful, "largest_share": share})

    def draw(self, settings: Settings, tables: Tables, folder: Path) -> None:
        """Draw d_fg over d_LLV where the bound says something, with the line."""
        series = []
        for labels in settings.labels:
            rows = [row for row in tables["pairs"] if row["labels"] == labels and row["bound"] < 1]
            series.append(figures.Series(f"{labels} labels", column(rows, "d_llv"), column(rows, "d_fg")))
        ax = figures.points(series, xlabel="d_LLV", ylabel="d_fg", title=self.title, slope=4)
        figures.save_figure(ax, folder / "bound-constructed.png")
