"""What the comparison of two models by their distributions and representations found."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from congruence.errors import Caveat, StoreError
from congruence.identifiability._explain import explain, render_html
from congruence.results.storage import write_atomically

FORMAT = "congruence identifiability"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Identifiability:
    """How close two models are as distributions and as representations, and what one says about the other.

    Made by `congruence.identifiability.compare`; p and p' are the distributions of the models.

    Attributes
    ----------
    kl, kl_reverse, jsd, total_variation, disagreement, d_logit : float
        See `Distributions`.
    d_llv : float
        The largest of t1, t2, lam t3 and lam t4.
    t1, t2 : float
        Largest standard deviations of differences of scaled log-likelihoods, over the inputs for the labels of the set
        (t1) and over the labels for the inputs of the set (t2).
    t3, t4 : float
        Largest differences of the scales themselves.
    m_cca_f, m_cca_g : float
        Mean canonical correlations of f over the inputs and of g over the labels; the same for Lᵀf and Nᵀg.
    d_svd_f : float
        d_SVD(Lᵀf, L'ᵀf') over the inputs, the largest over sets of M allowed labels.
    d_svd_g : float
        d_SVD(Nᵀg, N'ᵀg') over the labels, at the input set.
    d_svd_f_raw, d_svd_g_raw : float
        d_SVD of f and of g as they are, which depends on the choice of coordinates.
    d_fg : float
        The larger of `d_svd_f` and `d_svd_g`.
    bound : float
        2 M d_llv: no d_fg lies above it.
    bound_f, bound_g : float
        2 t1² and 2 t2²: no d_svd_f and no d_svd_g lies above it.
    d_rep, bound_rep : float
        Distance of f from what the identifiability class of the other model offers, and what d_logit allows for it.
    unexplained : float
        What of the variance of the first model's logits the other embeddings cannot explain linearly; at most d_logit².
    label_pivot, left_out_label : int
        The labels y0 and the one without a part in L and t1 (None: none).
    label_set : tuple of int
        The M labels on which d_svd_f is reached.
    input_set : tuple of int
        Pivot and M further inputs.
    condition_l, condition_n : (float, float)
        Condition numbers of L at `label_set` and of N at `input_set` in both models.
    n, labels, dimension : int
        Inputs, labels (K) and M.
    lam, seed : float, int
        As given.
    input_sets, label_sets, pivots : int
        How many were tried.
    exhaustive : bool
        Whether all pivots and all label sets were tried.
    caveats : tuple of Caveat
        Reasons to read a number with care.
    """

    kl: float
    kl_reverse: float
    jsd: float
    total_variation: float
    disagreement: float
    d_logit: float
    d_llv: float
    t1: float
    t2: float
    t3: float
    t4: float
    m_cca_f: float
    m_cca_g: float
    d_svd_f: float
    d_svd_g: float
    d_svd_f_raw: float
    d_svd_g_raw: float
    d_rep: float
    bound_rep: float
    unexplained: float
    label_pivot: int
    left_out_label: int | None
    label_set: tuple[int, ...]
    input_set: tuple[int, ...]
    condition_l: tuple[float, float]
    condition_n: tuple[float, float]
    n: int
    labels: int
    dimension: int
    lam: float
    seed: int
    input_sets: int
    label_sets: int
    pivots: int
    exhaustive: bool
    caveats: tuple[Caveat, ...] = ()

    @property
    def kl_symmetric(self) -> float:
        """The mean of both divergences."""
        return (self.kl + self.kl_reverse) / 2

    @property
    def d_llv_sum(self) -> float:
        """The other form of d_LLV: t1 + t2 + lam (t3 + t4)."""
        return self.t1 + self.t2 + self.lam * (self.t3 + self.t4)

    @property
    def d_fg(self) -> float:
        """The larger of `d_svd_f` and `d_svd_g`."""
        return max(self.d_svd_f, self.d_svd_g)

    @property
    def bound(self) -> float:
        """2 M d_llv, which d_fg does not exceed."""
        return 2 * self.dimension * self.d_llv

    @property
    def bound_f(self) -> float:
        """2 t1², which d_svd_f does not exceed."""
        return 2 * self.t1**2

    @property
    def bound_g(self) -> float:
        """2 t2², which d_svd_g does not exceed."""
        return 2 * self.t2**2

    # ---- out ---------------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data, derived numbers included."""
        found = dataclasses.asdict(self)
        found |= {name: getattr(self, name) for name in DERIVED}
        found["caveats"] = [dataclasses.asdict(caveat) for caveat in self.caveats]
        return found

    def explain(self) -> str:
        """Return in words what is close, what is not, which bound applies and whether it says anything."""
        return explain(self)

    def save(self, path: str | Path) -> Path:
        """Write everything as JSON, all at once; `load` reads it back. Returns the path."""
        content = {"format": FORMAT, "version": FORMAT_VERSION, **self.to_dict()}
        text = json.dumps(content, indent=2, allow_nan=False)
        return write_atomically(Path(path), lambda file: file.write(text + "\n"))

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Return the result that `to_dict` described."""
        fields = {field.name: content[field.name] for field in dataclasses.fields(cls)}
        for name in ("label_set", "input_set", "condition_l", "condition_n"):
            fields[name] = tuple(fields[name])
        fields["caveats"] = tuple(Caveat(**caveat) for caveat in fields["caveats"])
        return cls(**fields)

    def __str__(self) -> str:
        return self.explain()

    def _repr_html_(self) -> str:
        return render_html(self)


DERIVED = ("kl_symmetric", "d_llv_sum", "d_fg", "bound", "bound_f", "bound_g")


def load(path: str | Path) -> Identifiability:
    """Return a result that was saved.

    Raises
    ------
    StoreError
        If the file is missing, no result, or of a newer version of congruence.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        message = f"{path} cannot be read as a saved result: {error}. Write it with Identifiability.save."
        raise StoreError(message) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        message = (
            f"{path} is no saved result of congruence.identifiability.compare. Write it with Identifiability.save."
        )
        raise StoreError(message)
    if content.get("version") != FORMAT_VERSION:
        message = f"{path} has format version {content.get('version')}; this version of congruence reads {FORMAT_VERSION}. Update congruence."
        raise StoreError(message)
    missing = sorted({field.name for field in dataclasses.fields(Identifiability)} - set(content))
    if missing:
        message = f"{path} is damaged: it has no {missing[0]}. Write it again."
        raise StoreError(message)
    return Identifiability.from_dict(content)
