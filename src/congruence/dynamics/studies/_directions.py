"""What the studies of stable and unstable directions share (Morcos et al. 2018, Figure 1): curves, verdict, pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from congruence import figures
from congruence.dynamics._relabelling import Floats
from congruence.dynamics.directions import canonical_directions, stable_directions, subspace_distance
from congruence.dynamics.studies._shared import CORRELATIONS, SHARES, column, in_words, mean_interval, with_ends
from congruence.studies import Outcome, Row, Study, Tables, Verdict

if TYPE_CHECKING:
    from torch import Tensor, nn

    from congruence.dynamics.series import CheckpointSeries
    from congruence.dynamics.studies._loops import Before

SHARE = 5
"""A fifth of the directions counts as the leading ones, and as the last ones: about the 100 of 512 of the paper."""
SIGNAL, NOISE = 0.9, 0.5
"""Correlations above the first have converged; directions below the second have not."""
PARTS = ("stable", "unstable")


class Times:
    """The times of a training that its settings lead to, each at a record.

    The correlations are taken at tenths, quarters and halves of the training; directions are followed at every record.
    """

    updates: int
    every: int

    @property
    def early(self) -> int:
        """The time that directions are called stable or unstable from: a tenth of the training, as it was recorded."""
        return self._recorded(0.1)

    @property
    def half(self) -> int:
        """The middle of the training."""
        return self._recorded(0.5)

    @property
    def shown(self) -> tuple[int, ...]:
        """The times whose sorted correlations are kept."""
        return tuple(dict.fromkeys(self._recorded(share) for share in (0.0, 0.1, 0.25, 0.5, 0.75)))

    def _recorded(self, share: float) -> int:
        return self.every * round(share * self.updates / self.every)


class DirectionsStudy(Study):
    """What the studies of stable and unstable directions do with their recorded trainings, one piece a seed.

    `learnt` says how well a network does, and names the columns of that half way and at the end.
    """

    learnt: ClassVar[tuple[str, str, str]]

    def pieces(self, settings: Any) -> Sequence[str]:
        """Return one piece for each seed."""
        return [f"seed-{seed}" for seed in range(settings.seeds)]

    def recorded(
        self, settings: Any, seed: int, model: nn.Module, training: Callable[[Before], None], probe: list[Tensor], score: Callable[[], float], *, leave_out: str | None = None, **about: Any
    ) -> Tables:  # fmt: skip
        """Record the training of one network, and follow the directions of its layers."""
        from congruence.dynamics.studies._loops import recorded

        reached = dict[int, float]()

        def watched(before: Before) -> None:
            def at(step: int) -> None:
                before(step)
                if step == settings.half:
                    reached[step] = score()

            training(at)

        layers = [*settings.layers, *([] if leave_out is None else [leave_out])]
        tables = Tables(correlations=[], distances=[])
        with recorded(model, watched, probe, layers, every=settings.every, steps=settings.steps) as series:
            for layer in settings.layers:
                for name, rows in followed(settings, series, layer).items():
                    tables[name] += [{"seed": seed, "layer": layer, **row} for row in rows]
        _, half, end = self.learnt
        return {**tables, "networks": [{"seed": seed, **about, half: reached[settings.half], end: score()}]}

    def summarise(self, settings: Any, tables: Tables) -> list[Row]:
        """Return, for each layer, leading and last correlations at half time and the distances at the end."""
        return [_line(settings, tables, layer) for layer in settings.layers]

    def judge(self, settings: Any, tables: Tables) -> Verdict:
        """Return whether every layer has both kinds of directions, and the stable ones stay closer."""
        lines = self.summarise(settings, tables)
        both = [line["leading_low"] > SIGNAL and line["last_high"] < NOISE for line in lines]
        apart = [line["gap_low"] > 0 for line in lines]
        some = any(both) or any(apart)
        outcome: Outcome = "reproduced" if all(both) and all(apart) else "differs" if some else "not reproduced"
        words = [
            f"{line['layer']}: correlation with the end of the leading fifth of directions {in_words(line, 'leading')}, "
            f"of the last fifth {in_words(line, 'last')}; distance to the layer at the end of stable directions "
            f"{in_words(line, 'stable')}, of unstable ones {in_words(line, 'unstable')}, gap {in_words(line, 'gap')}"
            for line in lines
        ]
        what, *columns = self.learnt
        half, end = (column(tables["networks"], name).mean() for name in columns)
        text = f"Half way ({what} {half:.3f}, at the end {end:.3f}), over {settings.seeds} seeds. {'. '.join(words)}."
        names = [f"{name}{end}" for name in QUANTITIES for end in ("", "_low", "_high")]
        return Verdict(
            outcome, text, {f"{line['layer']} {name}": float(line[name]) for line in lines for name in names}
        )

    def draw(self, settings: Any, tables: Tables, folder: Path) -> None:
        """Draw the sorted correlations at some times, and the distances over the training."""
        for layer in settings.layers:
            rows = [row for row in tables["correlations"] if row["layer"] == layer]
            series = [_over_seeds(rows, "direction", "correlation", f"update {t}", step=t) for t in settings.shown]
            ax = figures.curves(
                series, xlabel="direction, the most alike first", ylabel="correlation with the end", title=f"Layer {layer}"
            )  # fmt: skip
            ax.locator_params(axis="x", integer=True)
            figures.save_figure(ax, folder / f"correlations-{layer}.png")
            rows = [row for row in tables["distances"] if row["layer"] == layer]
            series = [_over_seeds(rows, "step", part, f"{part} directions") for part in PARTS]
            ax = figures.curves(series, xlabel="update", ylabel="CCA distance to the layer", title=f"Layer {layer}")
            for step, words in ((settings.early, "early"), (settings.half, "middle")):
                ax.axvline(step, color="black", linewidth=0.8, linestyle="--")
                ax.annotate(words, (step, 1.0), (3, -8), xycoords=("data", "axes fraction"), textcoords="offset points", fontsize=8)  # fmt: skip
            figures.save_figure(ax, folder / f"distances-{layer}.png")


QUANTITIES = ("leading", "last", "stable", "unstable", "gap")


def followed(settings: Any, series: CheckpointSeries, layer: str) -> Tables:
    """Return the sorted correlations of a layer with its end, and how far stable and unstable directions are from it."""
    states = {step: np.asarray(series[step][layer].matrix().values, dtype=np.float64) for step in series.steps}
    end = states[max(states)]
    correlations = [
        {"step": step, "direction": k + 1, "correlation": float(rho)}
        for step in settings.shown
        for k, rho in enumerate(canonical_directions(states[step], end).correlations)
    ]
    early, middle = states[settings.early], states[settings.half]
    found = stable_directions(early, middle, _fifth(len(canonical_directions(middle, early).correlations)))
    distances = [
        {"step": step, **{part: subspace_distance(getattr(found, part), state) for part in PARTS}}
        for step, state in states.items()
    ]
    return {"correlations": correlations, "distances": distances}


def _fifth(count: int) -> int:
    return max(1, count // SHARE)


def _line(settings: Any, tables: Tables, layer: str) -> Row:
    """Return the quantities of one layer with their intervals over seeds."""
    values: dict[str, list[float]] = {name: [] for name in QUANTITIES}
    for seed in range(settings.seeds):
        rho = column(_of(tables["correlations"], layer, seed, settings.half), "correlation")
        end = max((row for row in _of(tables["distances"], layer, seed)), key=lambda row: int(row["step"]))
        k = _fifth(len(rho))
        found = (rho[:k].mean(), rho[-k:].mean(), end["stable"], end["unstable"], end["unstable"] - end["stable"])
        for name, value in zip(QUANTITIES, found, strict=True):
            values[name].append(float(value))
    line: Row = {"layer": layer, "seeds": settings.seeds}
    for name, some in values.items():
        within = CORRELATIONS if name == "gap" else SHARES  # correlations, distances and a difference of them
        line |= with_ends(name, mean_interval(np.array(some), within))
    return line


def _of(rows: Sequence[Row], layer: str, seed: int, step: int | None = None) -> list[Row]:
    return [r for r in rows if (r["layer"], r["seed"]) == (layer, seed) and (step is None or r["step"] == step)]


def _over_seeds(rows: Sequence[Row], x: str, y: str, label: str, step: int | None = None) -> figures.Series:
    """Return the mean of a curve over seeds, with their range, as far as all seeds have it."""
    chosen = [row for row in rows if step is None or row["step"] == step]
    seeds = len({row["seed"] for row in chosen})
    found = {
        place: column([row for row in chosen if row[x] == place], y) for place in sorted({row[x] for row in chosen})
    }
    places = [place for place, values in found.items() if len(values) == seeds]
    values: list[Floats] = [found[place] for place in places]
    low, high = [v.min() for v in values], [v.max() for v in values]
    return figures.Series(label, places, [v.mean() for v in values], low, high)
