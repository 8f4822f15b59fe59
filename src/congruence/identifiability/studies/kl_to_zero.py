"""kl-to-zero: a KL divergence as small as one likes, and representations that stay apart (Table 1 of the paper)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from congruence import figures
from congruence.identifiability.constructions import permuted_clusters
from congruence.identifiability.studies._pairs import as_row, column, compare_quietly
from congruence.studies import Row, Study, Tables, Tier, Verdict, register


@dataclass(frozen=True)
class Settings:
    """Norms of the unembeddings, number of draws, inputs of every label, input sets."""

    norms: tuple[int, ...] = tuple(range(1, 21))
    seeds: int = 5
    per_label: int = 500
    input_sets: int = 100


@register
class KLToZero(Study):
    """Clusters that change places."""

    name: ClassVar[str] = "kl-to-zero"
    title: ClassVar[str] = "KL divergence goes to zero while representations stay dissimilar"
    claim: ClassVar[str] = "KL falls exponentially with the norm of the unembeddings; d_LLV, m_CCA and d_SVD stay put."
    source: ClassVar[str] = "Nielsen et al. 2025, Theorem 3.1 and Table 1"
    tiers: ClassVar[Mapping[str, Tier]] = {
        "quick": Tier(Settings(norms=(1, 5, 20), seeds=2, per_label=50), "under a second"),
        "small": Tier(Settings(), "about 10 seconds: all norms, 5 seeds"),
        "paper": Tier(Settings(), "as small"),
    }

    def pieces(self, settings: Settings) -> Sequence[str]:
        """Return one piece a seed."""
        return [f"seed-{seed}" for seed in range(settings.seeds)]

    def work(self, settings: Settings, piece: str) -> Tables:
        """Compare the pair at every norm, with the same draws."""
        seed = int(piece.removeprefix("seed-"))
        rows: list[Row] = []
        for rho in settings.norms:
            models = permuted_clusters(rho, per_label=settings.per_label, seed=seed)
            found = compare_quietly(*models, n_input_sets=settings.input_sets, seed=seed)
            rows.append({"seed": seed, "rho": rho, **as_row(found)})
        return {"pairs": rows}

    def summarise(self, settings: Settings, tables: Tables) -> list[Row]:
        """Return mean and standard deviation over the seeds at every norm."""
        found = []
        for rho in settings.norms:
            rows = [row for row in tables["pairs"] if row["rho"] == rho]
            line: Row = {"rho": rho}
            for name in ("kl", "d_llv", "t1", "t2", "m_cca_f", "m_cca_g", "d_svd_f", "d_svd_g"):
                values = column(rows, name)
                line[name] = float(values.mean())
                line[f"{name}_sd"] = float(values.std(ddof=1)) if len(values) > 1 else None
            found.append(line)
        return found

    def judge(self, settings: Settings, tables: Tables) -> Verdict:
        """Return whether KL vanishes while nothing else moves."""
        rows = tables["pairs"]
        by_seed = [[row for row in rows if row["seed"] == seed] for seed in range(settings.seeds)]
        moves = {
            name: max(float(np.ptp(column(some, name))) for some in by_seed)
            for name in ("t1", "t2", "d_llv", "m_cca_f", "d_svd_f")
        }
        spread = max(
            float(np.ptp([column(some, name)[-1] for some in by_seed])) for name in ("d_llv", "m_cca_f", "d_svd_f")
        )
        share = max(float(column(some, "kl")[-1] / column(some, "kl").max()) for some in by_seed)
        still = max(moves["t2"], moves["m_cca_f"], moves["d_svd_f"]) < 1e-10 and moves["d_llv"] < 1e-3
        held = share < 1e-4 and still and spread < 0.02
        text = f"KL at the largest norm is {share:.1e} of its maximum. Over the norms m_CCA and d_SVD move by {max(moves['m_cca_f'], moves['d_svd_f']):.0e} and d_LLV by {moves['d_llv']:.0e} (the normalising sums in t1 are not proportional to the norm; t2 moves by {moves['t2']:.0e}); over the seeds they range by {spread:.4f}."
        statistics = {"kl_share": share, "spread_over_seeds": spread, **{f"move_{k}": v for k, v in moves.items()}}
        return Verdict("reproduced" if held else "not reproduced" if share > 0.1 else "differs", text, statistics)

    def draw(self, settings: Settings, tables: Tables, folder: Path) -> None:
        """Draw KL, d_LLV and d_SVD over the norm."""
        lines = self.summarise(settings, tables)
        norms = column(lines, "rho")
        series = [figures.Series(name, norms, column(lines, name)) for name in ("kl", "d_llv", "m_cca_f", "d_svd_f")]
        ax = figures.curves(series, xlabel="norm of the unembeddings", ylabel="", title=self.title, log="y")
        figures.save_figure(ax, folder / "kl-to-zero.png")
