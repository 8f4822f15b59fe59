"""distillation: which loss makes a student keep its teacher's representation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from congruence import figures
from congruence.identifiability._model import Matrix
from congruence.identifiability.studies._pairs import as_row, column, compare_quietly, mean_interval
from congruence.studies import Outcome, Row, Study, Tables, Tier, Verdict, register

LOSSES = ("kl", "l1", "l2")
MEASURED = ("kl_divergence", "d_logit", "d_llv", "d_rep", "m_cca_f", "m_cca_g", "d_fg")


@dataclass(frozen=True)
class Settings:
    """Data (radial-K or a data set of the zoo), teachers, students of each loss, dimension, and training."""

    data: tuple[str, ...] = ("radial-7", "mnist_5k")
    teachers: int = 2
    students: int = 5
    dimension: int = 3
    width: int = 128
    steps: int = 3_000
    learning_rate: float = 1e-3
    input_sets: int = 100


@register
class Distillation(Study):
    """Students by KL divergence, by L1 and by L2 on logits."""

    name: ClassVar[str] = "distillation"
    title: ClassVar[str] = "Students that keep the teacher's representation"
    claim: ClassVar[str] = "Students by logit distance keep more of the teacher's representation than students by KL."
    source: ClassVar[str] = "Nielsen et al. 2026, arXiv 2602.15438"
    tiers: ClassVar[Mapping[str, Tier]] = {
        "quick": Tier(Settings(("radial-5",), 1, 3, 2, 32, 300, 5e-3, 20), "some seconds"),
        "small": Tier(Settings(), "about 8 minutes: perceptrons; 2 teachers, 5 students of each loss"),
    }

    def pieces(self, settings: Settings) -> Sequence[str]:
        """Return one piece for each data set and teacher."""
        return [f"{data}-teacher-{k}" for data in settings.data for k in range(settings.teachers)]

    def work(self, settings: Settings, piece: str) -> Tables:
        """Train a teacher and its students, and compare each student with it."""
        from congruence.identifiability import _training

        data_name, number = piece.rsplit("-teacher-", 1)
        radial = data_name.startswith("radial-")
        data = (
            _training.radial_data(int(data_name.removeprefix("radial-")), 10_000, 1_000)
            if radial
            else _training.image_data(data_name)
        )
        recipe = _training.Recipe(
            settings.dimension, settings.width, settings.steps, learning_rate=settings.learning_rate
        )
        teacher = _training.train_stack(recipe, data, [1000 + int(number)])
        of_teacher = _training.evaluate_stack(teacher, data)
        rows: list[Row] = []
        losses: tuple[_training.Loss, ...] = ("kl", "l1", "l2")
        for loss in losses:
            students = _training.train_stack(recipe, data, range(settings.students), loss=loss, teacher=teacher)
            found = _training.evaluate_stack(students, data)
            for k in range(settings.students):
                result = compare_quietly(
                    *(of_teacher.f[0], of_teacher.g[0], found.f[k], found.g[k]), n_input_sets=settings.input_sets
                )
                row: Row = {"data": data_name, "teacher": int(number), "loss": loss, "student": k, **as_row(result)}
                row["kl_divergence"] = row.pop("kl")
                row |= {"accuracy": float(found.accuracy[k]), "teacher_accuracy": float(of_teacher.accuracy[0])}
                rows.append(row)
        return {"students": rows}

    def summarise(self, settings: Settings, tables: Tables) -> list[Row]:
        """Return means with intervals over the students for each data set and loss."""
        found: list[Row] = []
        for data in settings.data:
            for loss in LOSSES:
                rows = [row for row in tables["students"] if (row["data"], row["loss"]) == (data, loss)]
                line: Row = {"data": data, "loss": loss, "students": len(rows)}
                line |= {name: float(column(rows, name).mean()) for name in ("accuracy", "teacher_accuracy", *MEASURED)}
                line["m_cca_f_low"], line["m_cca_f_high"] = mean_interval(column(rows, "m_cca_f"))
                found.append(line)
        return found

    def judge(self, settings: Settings, tables: Tables) -> Verdict:
        """Return whether the embeddings of students by L1 and L2 correlate better with the teacher's, on all data."""
        better: list[bool] = []
        words: list[str] = []
        statistics: dict[str, float] = {}
        for data in settings.data:
            for loss in ("l1", "l2"):
                gain = _gain(tables["students"], data, loss)
                low, high = mean_interval(gain)
                mean = float(gain.mean())
                better.append(low > 0)
                statistics |= {f"{data}_{loss}": mean, f"{data}_{loss}_low": low, f"{data}_{loss}_high": high}
                words.append(f"{data}, {loss}: m_CCA higher by {mean:+.3f} ({low:+.3f} to {high:+.3f}) than by KL")
        outcome: Outcome = "reproduced" if all(better) else "differs" if any(better) else "not reproduced"
        return Verdict(outcome, "; ".join(words) + ".", statistics)

    def draw(self, settings: Settings, tables: Tables, folder: Path) -> None:
        """Draw m_CCA over the KL divergence of every student."""
        for data in settings.data:
            series = []
            for loss in LOSSES:
                rows = [row for row in tables["students"] if (row["data"], row["loss"]) == (data, loss)]
                series.append(figures.Series(loss, column(rows, "kl_divergence"), column(rows, "m_cca_f")))
            ax = figures.points(
                series, xlabel="KL divergence from the teacher", ylabel="m_CCA of f", title=data, log="x"
            )
            figures.save_figure(ax, folder / f"students-{data}.png")


def _gain(rows: Sequence[Row], data: str, loss: str) -> Matrix:
    """Return m_CCA of a loss minus that of KL for students with the same teacher and the same initial weights."""

    def values(of: str) -> dict[tuple[int, int], float]:
        return {
            (row["teacher"], row["student"]): row["m_cca_f"] for row in rows if (row["data"], row["loss"]) == (data, of)
        }

    base, other = values("kl"), values(loss)
    return np.array([other[key] - base[key] for key in base])
