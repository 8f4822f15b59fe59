"""Cosine and Euclidean distance of the two states of a stimulus: for states in the same units, such as one layer's.

They are no measures for two networks, whose features have nothing to do with each other, and so are not in the registry.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from array_api_compat import array_namespace

from congruence import linalg
from congruence.errors import UnknownNameError
from congruence.measures import METRIC, REGISTRY, Measure, MeasureInfo, Needs, Reference, both, measure
from congruence.validate import Array, closest, require_same_n

MORCOS = Reference("Morcos, Raghu & Bengio 2018, Insights on representational similarity", "appendix A.3 and figure A3", "arXiv:1806.05759")  # fmt: skip


@dataclass(frozen=True)
class Paired(Measure[Array]):
    """Mean over stimuli of the cosine of, or the Euclidean distance between, the two states of a stimulus.

    cosine: (1/n) Σ_i ⟨x_i, y_i⟩ / (‖x_i‖ ‖y_i‖), in [-1, 1], 1 for equal directions. euclidean: (1/n) Σ_i ‖x_i - y_i‖, in
    [0, ∞), 0 for equal states. Both depend on which feature is which: a rotation of the states changes them.

    Parameters
    ----------
    form : {"cosine", "euclidean"}
        See above.
    """

    name: ClassVar[str] = "paired"
    form: Literal["cosine", "euclidean"] = "cosine"

    @property
    def info(self) -> MeasureInfo:
        """Claims of this form."""
        cosine = self.form == "cosine"
        return MeasureInfo(
            label=self.label,
            title=f"mean {'cosine' if cosine else 'Euclidean distance'} of the two states of a stimulus",
            definition="(1/n) sum_i cos(x_i, y_i)" if cosine else "(1/n) sum_i |x_i - y_i|",
            orientation="similarity" if cosine else "distance",
            range=(-1.0, 1.0) if cosine else (0.0, math.inf),
            identity=1.0 if cosine else 0.0,
            symmetric=True,
            axioms=frozenset() if cosine else METRIC,
            space="representations in the same features",
            conversions=frozenset({"one_minus"}) if cosine else frozenset(),
            needs=Needs(equal_p=True, nonzero_rows=cosine),
            meaning=("opposite directions (0: orthogonal)", "equal directions") if cosine else ("equal", "unbounded"),
            cost="prepare O(n p), compare O(n p)",
            references=(MORCOS,),
            **both(*(("isotropic_scaling",) if cosine else ())),
        )

    @property
    def label(self) -> str:
        """The form alone: there is nothing else that it could be."""
        return self.form

    def prepare(self, x: Array) -> Array:
        """Return the states, as directions for the cosine."""
        x = self.checked(x)
        if self.form == "euclidean":
            return x
        linalg.require_directions(x)
        xp = array_namespace(x)
        x = x / xp.max(xp.abs(x), axis=1)[:, None]  # no square overflows
        return x / xp.sqrt(linalg.row_squares(x))[:, None]

    def compare(self, a: Array, b: Array) -> float:
        """Return the mean over stimuli."""
        require_same_n(int(a.shape[0]), int(b.shape[0]))
        xp = array_namespace(a, b)
        if self.form == "cosine":
            # 1 - |a - b|^2 / 2 keeps the digits of cosines close to 1, where the states of neighbouring steps are
            return linalg.clip(
                1.0 - float(xp.sum(linalg.row_squares(a - b), dtype=xp.float64)) / (2 * a.shape[0]), -1, 1
            )
        return float(xp.sum(xp.sqrt(linalg.row_squares(a - b)), dtype=xp.float64)) / int(a.shape[0])


def state_measure(spec: str | Measure[Any]) -> Measure[Any]:
    """Return a measure by name; ``"cosine"`` and ``"euclidean"`` compare states in the same features."""
    if isinstance(spec, Measure):
        return spec
    if spec in {"cosine", "euclidean"}:
        return Paired(spec)  # type: ignore[arg-type]
    if spec.partition(":")[0] not in REGISTRY:
        message = f"There is no measure '{spec}'. {closest(spec, [*REGISTRY, 'cosine', 'euclidean'])}"
        raise UnknownNameError(message)
    return measure(spec)
