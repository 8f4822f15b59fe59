"""Studies: a folder that is finished piece by piece, with tables, figures and a verdict; and the command that runs them."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import congruence as cg
from commands import congruence
from congruence import studies
from congruence.studies import Study, Tier, Verdict


@dataclass(frozen=True)
class Settings:
    numbers: tuple[int, ...] = (1, 2, 3)


class Squares(Study):
    """Counts its own work, and can be told to fail."""

    name = "squares"
    title = "Squares"
    claim = "Squares grow."
    source = "nobody"
    tiers = {"quick": Tier(Settings(), "no time"), "small": Tier(Settings((4,)), "no time")}

    def __init__(self, fails_at: str = "", figures: bool = True) -> None:
        self.fails_at, self.figures, self.worked = fails_at, figures, []

    def pieces(self, settings):
        return [f"number-{k}" for k in settings.numbers]

    def work(self, settings, piece):
        if piece == self.fails_at:
            raise KeyboardInterrupt
        self.worked.append(piece)
        k = int(piece.removeprefix("number-"))
        row: dict[str, Any] = {"k": np.int64(k), "square": np.float64(k) ** 2, "missing": float("nan")}
        return {"squares": [row], "odd": [{"k": k}] if k % 2 else []}

    def summarise(self, settings, tables):
        return [{"largest": max(row["square"] for row in tables["squares"]), "rows": len(tables["odd"])}]

    def judge(self, settings, tables):
        return Verdict("reproduced", "They grow.", {"largest": 9.0})

    def draw(self, settings, tables, folder):
        if not self.figures:
            raise cg.MissingExtraError("Plotting needs matplotlib")
        ax = cg.figures.curves([cg.figures.Series("", [1, 2], [1, 4])], xlabel="k", ylabel="square")
        cg.figures.save_figure(ax, folder / "squares.png")


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_study_writes_tables_figures_and_a_verdict(tmp_path):
    stages = []
    done = studies.run(Squares(), out=tmp_path / "run", stage=lambda *seen: stages.append(seen))
    assert done.summary == [{"largest": 9.0, "rows": 2}]
    assert done.verdict.outcome == "reproduced"
    assert stages == [("number-1", 0, 3), ("number-2", 1, 3), ("number-3", 2, 3)]
    assert [row["square"] for row in rows(done.folder / "squares.csv")] == ["1.0", "4.0", "9.0"]
    assert [row["missing"] for row in rows(done.folder / "squares.csv")] == [""] * 3
    assert [row["k"] for row in rows(done.folder / "odd.csv")] == ["1", "3"]
    assert rows(done.folder / "summary.csv") == [{"largest": "9.0", "rows": "2"}]
    assert (done.folder / "figures" / "squares.png").read_bytes().startswith(b"\x89PNG")
    again = studies.load(done.folder)
    assert again.to_dict() == done.to_dict()
    described = json.loads((done.folder / "study.json").read_text())
    assert described["settings"] == {"numbers": [1, 2, 3]}
    assert described["provenance"]["numpy"] == np.__version__


def test_an_interrupted_study_goes_on_where_it_stopped(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        studies.run(Squares(fails_at="number-3"), out=tmp_path / "run")
    assert not (tmp_path / "run" / "result.json").exists()
    finishing = Squares()
    done = studies.run(finishing, out=tmp_path / "run", exists="resume")
    assert finishing.worked == ["number-3"]
    assert done.summary == studies.run(Squares(), out=tmp_path / "other").summary


def test_a_folder_that_has_a_study_is_not_touched_without_a_word(tmp_path):
    studies.run(Squares(), out=tmp_path)
    with pytest.raises(cg.OutputExistsError, match="has a study. Finish it with exists='resume'"):
        studies.run(Squares(), out=tmp_path)
    with pytest.raises(cg.StoreError, match=r"a study with another tier \(quick, not small\)"):
        studies.run(Squares(), "small", out=tmp_path, exists="resume")
    done = studies.run(Squares(), "small", out=tmp_path, exists="overwrite")
    assert done.summary == [{"largest": 16.0, "rows": 0}]
    assert [path.name for path in (tmp_path / "pieces").iterdir()] == ["number-4.json"]


def test_other_settings_are_refused(tmp_path):
    studies.run(Squares(), out=tmp_path)
    path = tmp_path / "study.json"
    path.write_text(path.read_text().replace("3\n", "9\n", 1))
    with pytest.raises(cg.StoreError, match="a study with another settings"):
        studies.run(Squares(), out=tmp_path, exists="resume")


def test_pieces_of_another_revision_are_refused(tmp_path):
    studies.run(Squares(), out=tmp_path)
    path = tmp_path / "study.json"
    path.write_text(path.read_text().replace(' "revision": 1,\n', ""))  # as it was before there were revisions
    assert "revision" not in json.loads(path.read_text())
    assert studies.run(Squares(), out=tmp_path, exists="resume").verdict.outcome == "reproduced"
    changed = Squares()
    changed.revision = 2
    with pytest.raises(
        cg.StoreError,
        match=r"a study with another revision \(1, not 2\)\. Choose another folder, or replace it with exists='overwrite'",
    ):
        studies.run(changed, out=tmp_path, exists="resume")


def test_a_folder_with_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    for exists in ("error", "resume", "overwrite"):
        with pytest.raises(cg.OutputExistsError, match="is not empty and has no study"):
            studies.run(Squares(), out=tmp_path, exists=exists)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_damage_is_named(tmp_path):
    studies.run(Squares(), out=tmp_path)
    (tmp_path / "pieces" / "number-2.json").write_text("{")
    with pytest.raises(cg.StoreError, match=r"number-2.json cannot be read: .* Remove it and resume"):
        studies.run(Squares(), out=tmp_path, exists="resume")
    (tmp_path / "pieces" / "number-2.json").write_text("[]")
    with pytest.raises(cg.StoreError, match="number-2.json is damaged"):
        studies.run(Squares(), out=tmp_path, exists="resume")
    for name, again in (("pieces/number-2.json", lambda: studies.run(Squares(), out=tmp_path, exists="resume")), ("result.json", lambda: studies.load(tmp_path))):  # fmt: skip
        (tmp_path / name).write_text("{}")
        with pytest.raises(cg.StoreError, match=f"{name} is damaged. Remove it and resume"):
            again()
    with pytest.raises(cg.StoreError, match="cannot be read"):
        studies.load(tmp_path / "nowhere")


def test_without_matplotlib_the_numbers_are_kept(tmp_path):
    done = studies.run(Squares(figures=False), out=tmp_path)
    assert done.notes == ("No figures: Plotting needs matplotlib",)
    assert studies.load(tmp_path).notes == done.notes


def test_unknown_names():
    with pytest.raises(cg.UnknownNameError, match="There is no study 'kl-to-zer'"):
        studies.run("kl-to-zer", out="x")
    with pytest.raises(cg.UnknownNameError, match="squares has no tier 'paper'. Available: quick, small"):
        studies.run(Squares(), "paper", out="x")


# ---- the command -----------------------------------------------------------------------------------------------------


def test_the_list_has_every_study_with_its_tiers():
    outcome = congruence("study", "list")
    for study in studies.REGISTRY.values():
        assert study.name in outcome.out
        assert study.tiers["small"].takes in outcome.out
    listed = congruence("study", "list", "--json").json
    assert [one["name"] for one in listed] == list(studies.REGISTRY)
    assert set(listed[0]) == {"name", "title", "claim", "source", "tiers"}


def test_the_command_runs_resumes_and_replaces(tmp_path):
    outcome = congruence("study", "run", "kl-to-zero", "--out", tmp_path / "s")
    assert outcome.code == 0
    assert "REPRODUCED: KL at the largest norm" in outcome.out
    assert "seed-1 (2 of 2)" in outcome.err
    refused = congruence("study", "run", "kl-to-zero", "--out", tmp_path / "s")
    assert refused.code == 2
    assert "has a study. Finish it with --resume" in refused.error
    resumed = congruence("study", "run", "kl-to-zero", "--out", tmp_path / "s", "--resume", "--json")
    assert resumed.json["verdict"]["outcome"] == "reproduced"
    both = congruence("study", "run", "kl-to-zero", "--out", tmp_path / "s", "--resume", "--overwrite")
    assert both.code == 2
    assert "exclude each other" in both.error
    assert congruence("study", "run", "kl-to-zero", "--out", tmp_path / "s", "--overwrite").code == 0


def test_the_command_names_what_does_not_exist(tmp_path):
    outcome = congruence("study", "run", "kl-to-infinity", "--out", tmp_path / "s")
    assert outcome.code == 2
    assert "There is no study 'kl-to-infinity'. Closest: kl-to-zero" in outcome.error
    outcome = congruence("study", "run", "distillation", "--tier", "paper", "--out", tmp_path / "s")
    assert outcome.code == 2
    assert "distillation has no tier 'paper'" in outcome.error
