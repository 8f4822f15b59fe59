"""Our ranks beside the published ones of ReSi, among the measures that both have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import spearmanr

from congruence.benchmarks._leaderboard import EXPERIMENT
from congruence.benchmarks.printed import RESI_MEDIANS, resi_labels

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("measure", "resi", "ours", "published", "difference")


def beside_resi(ranks: pd.DataFrame, domain: str) -> pd.DataFrame:
    """Return the median ranks of a domain among the measures that ReSi ranks, ours and the published ones.

    Parameters
    ----------
    ranks : pandas.DataFrame
        As in `Leaderboard.ranks`. Measures may be named as ours are, or as the classes of ReSi.
    domain : str
        ``images``, ``text`` or ``graphs``.

    Returns
    -------
    pandas.DataFrame
        measure, resi (the name of the class), ours (median of the ranks among these measures alone), published,
        difference (ours - published), the best of ours first; empty for a domain that ReSi does not have.
    """
    import pandas as pd

    published = RESI_MEDIANS.get(domain, {})
    names = {label: name for name, label in resi_labels().items()} | {name: name for name in published}
    rows = ranks[(ranks["domain"] == domain) & ranks["measure"].isin(list(names))]
    if not published or rows.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    among = rows.groupby(list(EXPERIMENT))["rank"].rank(method="min")
    ours = among.groupby(rows["measure"]).median()
    resi = [names[label] for label in ours.index]
    values = np.array([published[name] for name in resi])
    found = pd.DataFrame({"measure": ours.index, "resi": resi, "ours": ours.to_numpy(), "published": values})
    found["difference"] = found["ours"] - found["published"]
    return found.sort_values(["ours", "published"], kind="stable")[list(COLUMNS)].reset_index(drop=True)


def agreement(beside: pd.DataFrame) -> float:
    """Return Spearman's rho of our medians and the published ones; NaN for fewer than three measures, or if one side ties."""
    if len(beside) < 3 or beside["ours"].nunique() < 2:
        return float("nan")
    return float(spearmanr(beside["ours"], beside["published"]).statistic)
