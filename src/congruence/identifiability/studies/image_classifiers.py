"""image-classifiers-2d: good classifiers of images whose representations are permuted (Figure 3, left; F.4 and F.5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from scipy.stats import spearmanr

from congruence import figures
from congruence.identifiability._model import Matrix
from congruence.identifiability.studies._pairs import column, over_the_line
from congruence.studies import Row, Study, Tables, Tier, Verdict, register

SHOWN = 300
"""Test images whose embeddings are kept for the pictures, from all over the set: it may be sorted by class."""


@dataclass(frozen=True)
class Settings:
    """Data set of the zoo, dimensions of the representations, networks of each, and training."""

    data: str = "mnist_5k"
    dimensions: tuple[int, ...] = (2, 3, 5)
    seeds: int = 10
    width: int = 128
    steps: int = 2_000
    learning_rate: float = 1e-3
    input_sets: int = 100


@register
class ImageClassifiers(Study):
    """Seeds of one classifier with representations of few dimensions."""

    name: ClassVar[str] = "image-classifiers-2d"
    title: ClassVar[str] = "Equally good classifiers with different representations"
    claim: ClassVar[str] = "Seeds with nearly the same loss have representations that are no linear map of each other."
    source: ClassVar[str] = "Nielsen et al. 2025, Figure 3 (left), appendices F.4 and F.5; there ResNet-18 on CIFAR-10"
    tiers: ClassVar[Mapping[str, Tier]] = {
        "quick": Tier(Settings("digits", (2,), 4, 32, 150, 5e-3, 20), "some seconds"),
        "small": Tier(
            Settings(), "about 4 minutes: perceptrons on 5,000 handwritten digits instead of the paper's networks"
        ),
    }

    def pieces(self, settings: Settings) -> Sequence[str]:
        """Return one piece for each dimension."""
        return [f"dimension-{m}" for m in settings.dimensions]

    def work(self, settings: Settings, piece: str) -> Tables:
        """Train the networks of one dimension together, and compare all pairs."""
        from congruence.identifiability._training import Recipe, evaluate_stack, image_data, train_stack
        from congruence.identifiability.studies._radial import model_rows, pair_rows

        m = int(piece.removeprefix("dimension-"))
        data = image_data(settings.data)
        recipe = Recipe(m, settings.width, settings.steps, learning_rate=settings.learning_rate)
        found = evaluate_stack(train_stack(recipe, data, range(settings.seeds)), data)
        pairs = pair_rows(found, range(settings.seeds), settings.input_sets)
        for row in pairs:
            row["loss_difference"] = float(abs(found.loss[row["a"]] - found.loss[row["b"]]))
        tables = {"pairs": pairs, "models": model_rows(found)}
        if m == 2:
            tables["points"] = _points(found.f, found.g, data.test_labels.numpy())
        return {table: [{"dimension": m, **row} for row in rows] for table, rows in tables.items()}

    def summarise(self, settings: Settings, tables: Tables) -> list[Row]:
        """Return quality and closeness for each dimension, and what rank-correlates with d_fg."""
        found: list[Row] = []
        for m in settings.dimensions:
            rows = [row for row in tables["pairs"] if row["dimension"] == m]
            models = [row for row in tables["models"] if row["dimension"] == m]
            line: Row = {"dimension": m, "models": len(models), "pairs": len(rows), "above": over_the_line(rows)}
            line |= {f"mean_{name}": float(column(models, name).mean()) for name in ("accuracy", "loss")}
            line |= {
                f"mean_{name}": float(column(rows, name).mean())
                for name in ("loss_difference", "kl", "d_llv", "m_cca_f", "d_fg")
            }
            line["least_m_cca_f"] = float(column(rows, "m_cca_f").min())
            line |= {f"spearman_{name}_d_fg": _spearman(rows, name) for name in ("d_llv", "kl", "d_logit")}
            line["spearman_loss_difference_m_cca_f"] = _spearman(rows, "loss_difference", "m_cca_f")
            found.append(line)
        return found

    def judge(self, settings: Settings, tables: Tables) -> Verdict:
        """Return whether pairs with close losses have dissimilar embeddings."""
        del settings
        close = [row for row in tables["pairs"] if row["loss_difference"] < 0.1]
        if not close:
            return Verdict(
                "not reproduced", "No two networks have losses within 0.1 of each other.", {"close_pairs": 0}
            )
        cca = column(close, "m_cca_f")
        least = float(cca.min())
        statistics = {"close_pairs": len(close), "least_m_cca_f": least, "median_m_cca_f": float(np.median(cca))}
        text = f"Of {len(close)} pairs whose losses differ by less than 0.1 the mean canonical correlation is {statistics['median_m_cca_f']:.2f} in the median and down to {least:.2f}."
        return Verdict("reproduced" if least < 0.8 else "not reproduced", text, statistics)

    def draw(self, settings: Settings, tables: Tables, folder: Path) -> None:
        """Draw embeddings and unembeddings of every seed in two dimensions, and m_CCA over the difference of losses."""
        for seed in dict.fromkeys(row["model"] for row in tables.get("points", [])):
            for side in ("embedding", "unembedding"):
                rows = [row for row in tables["points"] if (row["model"], row["side"]) == (seed, side)]
                series = []
                for label in sorted({row["label"] for row in rows}):
                    of_label = [row for row in rows if row["label"] == label]
                    series.append(figures.Series(str(label), column(of_label, "x"), column(of_label, "y")))
                ax = figures.points(series, xlabel="", ylabel="", title=f"{side}s, seed {seed}")
                figures.save_figure(ax, folder / f"{side}s-seed-{seed}.png")
        series = []
        for m in settings.dimensions:
            rows = [row for row in tables["pairs"] if row["dimension"] == m]
            series.append(figures.Series(f"M = {m}", column(rows, "loss_difference"), column(rows, "m_cca_f")))
        ax = figures.points(series, xlabel="difference of test losses", ylabel="m_CCA of f", title=self.title)
        figures.save_figure(ax, folder / "loss-and-cca.png")


def _spearman(rows: Sequence[Row], name: str, other: str = "d_fg") -> float | None:
    first, second = column(rows, name), column(rows, other)
    if len(rows) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(spearmanr(first, second).statistic)


def _points(f: Matrix, g: Matrix, labels: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> list[Row]:
    """Return some embeddings and all unembeddings of two-dimensional networks, labelled by the true label."""
    rows: list[Row] = []
    shown = np.linspace(0, len(labels) - 1, min(SHOWN, len(labels))).astype(int)
    for model in range(len(f)):
        for side, values, names in (
            ("embedding", f[model][shown], labels[shown]),
            ("unembedding", g[model], range(g.shape[1])),
        ):
            for (x, y), label in zip(values.tolist(), names, strict=True):
                rows.append({"model": model, "side": side, "label": int(label), "x": x, "y": y})
    return rows
