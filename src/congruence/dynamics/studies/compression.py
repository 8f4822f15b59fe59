"""compression: layers made smaller by SVCCA directions (Raghu et al. 2017, section 4.4)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from congruence import figures, zoo
from congruence.dynamics._relabelling import Floats
from congruence.dynamics.directions import Projection, canonical_directions, pca_projection, svcca_projection
from congruence.dynamics.studies._shared import CORRELATIONS, column, curve, mean_interval, states
from congruence.studies import Outcome, Row, Study, Tables, Tier, Verdict, register

if TYPE_CHECKING:
    from torch import nn

KINDS = ("SVCCA", "PCA", "SVCCA with logits")
"""Directions shared with another network, as many principal components, and directions shared with the network's own logits."""
VARIANCE = 0.99
"""Share of the variance of either layer that is kept before CCA."""
LOST = 0.01
"""Accuracy that may be lost and still counts as kept."""


@dataclass(frozen=True)
class Settings:
    """A perceptron and data of the zoo, networks, the layers made smaller, their sizes to try, the size of the claim, training."""

    architecture: str = "mlp:width=256,depth=5"
    data: str = "mnist_5k"
    networks: int = 8
    layers: tuple[str, ...] = ("hidden2", "hidden3", "hidden4", "hidden5")
    sizes: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5)
    claimed: float = 0.35
    training: str = "training:epochs=10"


@register
class Compression(Study):
    """Linear layers that see their input through few directions, all of them at once, without training again."""

    name: ClassVar[str] = "compression"
    title: ClassVar[str] = "Layers made smaller by SVCCA directions"
    claim: ClassVar[str] = "The top layers at 0.35 of their size keep the accuracy on the test set."
    revision: ClassVar[int] = 2  # with logits
    source: ClassVar[str] = "Raghu et al. 2017, section 4.4: five top layers of a convolutional network on CIFAR-10"
    tiers: ClassVar[Mapping[str, Tier]] = {
        "quick": Tier(Settings("mlp:width=32,depth=3", "digits", 3, ("hidden2", "hidden3"), (0.1, 0.35), 0.35, "training:epochs=5"), "some seconds"),
        "small": Tier(Settings(), "about a minute of computing: perceptrons on 5,000 handwritten digits"),
    }  # fmt: skip

    def pieces(self, settings: Settings) -> Sequence[str]:
        """Return one piece for each network."""
        return [f"network-{seed}" for seed in range(settings.networks)]

    def work(self, settings: Settings, piece: str) -> Tables:
        """Make the layers of one network smaller, by directions shared with the next one or its logits, and by components."""
        from congruence.dynamics.projecting import accuracy

        population = zoo.train(zoo.Config(settings.architecture, settings.data, settings.training), settings.networks)
        seed = int(piece.removeprefix("network-"))
        pair = (seed, (seed + 1) % settings.networks)
        model = population.model(seed)
        inputs = {layer: _before(model, layer) for layer in settings.layers}
        found = states(population, zoo.Probe(split="train"), [*inputs.values(), "logits"], seeds=pair)
        own, other = (found[f"seed-{number}"] for number in pair)
        data = population.data(zoo.Probe(split="test"))
        full = accuracy(model, data.batches(), data.labels)
        whole = {layer: projections(own[before], other[before], own["logits"]) for layer, before in inputs.items()}
        there = sum(_numbers(_linear(model, layer)) for layer in settings.layers)
        rows: list[Row] = []
        for kind in KINDS:
            for size in settings.sizes:
                smaller, kept, ranks = copy.deepcopy(model), 0, []
                for layer in settings.layers:
                    seen = leading(whole[layer][kind], rank_for(size, *_linear(model, layer).weight.shape[::-1]))
                    kept += _make_smaller(smaller, layer, seen)
                    ranks.append(seen.rank)
                score = accuracy(smaller, data.batches(), data.labels)
                rows.append({"seed": seed, "kind": kind, "size": size, "fewest_directions": min(ranks), "most_directions": max(ranks), "true_size": kept / there, "accuracy": score, "full": full})  # fmt: skip
        return {"accuracy": rows}

    def summarise(self, settings: Settings, tables: Tables) -> list[Row]:
        """Return the mean accuracy for each kind and size, and what is lost."""
        found: list[Row] = []
        for kind in KINDS:
            for size in settings.sizes:
                rows = _of(tables, kind, size)
                mean, low, high = mean_interval(_change(rows), CORRELATIONS)
                line: Row = {"kind": kind, "size": size, "true_size": float(column(rows, "true_size").mean()), "networks": len(rows)}  # fmt: skip
                line |= {"fewest_directions": min(row["fewest_directions"] for row in rows), "most_directions": max(row["most_directions"] for row in rows)}  # fmt: skip
                line |= {"accuracy": float(column(rows, "accuracy").mean()), "full": float(column(rows, "full").mean())}
                found.append({**line, "change": mean, "change_low": low, "change_high": high})
        return found

    def judge(self, settings: Settings, tables: Tables) -> Verdict:
        """Return whether less than a hundredth is lost at the size of the claim, by an interval over networks.

        The directions are those shared with another network: logits have too few to fill that size.
        """
        lines = self.summarise(settings, tables)
        at = {kind: next(x for x in lines if (x["kind"], x["size"]) == (kind, settings.claimed)) for kind in KINDS}
        low, high = (float(at["SVCCA"][end]) for end in ("change_low", "change_high"))
        outcome: Outcome = "reproduced" if low > -LOST else "not reproduced" if high < -LOST else "differs"
        statistics: dict[str, float] = {"size": float(at["SVCCA"]["true_size"]), "full": float(at["SVCCA"]["full"])}
        words = []
        for kind, line in at.items():
            statistics |= {f"{kind} change": line["change"], f"{kind} low": line["change_low"], f"{kind} high": line["change_high"]}  # fmt: skip
            words.append(f"{kind} {line['change']:+.4f} ({line['change_low']:+.4f} to {line['change_high']:+.4f})")
        gaps = {kind: _over_components(settings, tables, kind) for kind in KINDS if kind != "PCA"}
        for kind, by_size in gaps.items():
            for size, values in by_size.items():
                names = (f"{kind} over PCA at {size:g}{end}" for end in ("", " low", " high"))
                statistics |= dict(zip(names, values, strict=True))
        few = at["SVCCA with logits"]
        statistics["size with logits"] = float(few["true_size"])
        text = (
            f"Change of the test accuracy ({statistics['full']:.3f}) of {settings.networks} networks with {len(settings.layers)} layers at "
            f"no more than {settings.claimed:g} of their size (truly {statistics['size']:.2f}, as SVCCA finds no more directions; with logits {few['true_size']:.2f}, "
            f"{few['fewest_directions']} to {few['most_directions']} directions, as there are no more than classes): {', '.join(words)}. "
            + " ".join(
                f"{kind} less PCA by size, where both have as many directions: {_in_words(by_size)}."
                for kind, by_size in gaps.items()
            )
        )
        return Verdict(outcome, text, statistics)

    def draw(self, settings: Settings, tables: Tables, folder: Path) -> None:
        """Draw the change of the accuracy over the size."""
        lines = self.summarise(settings, tables)
        series = []
        for kind in KINDS:
            rows = [line for line in lines if line["kind"] == kind]
            series.append(curve(kind, rows, "true_size", "change"))
        ax = figures.curves(
            series, xlabel="share of the numbers that is left", ylabel="change of the test accuracy", title=self.title
        )
        figures.save_figure(ax, folder / "accuracy.png")


def rank_for(size: float, inputs: int, outputs: int) -> int:
    """Return the most directions k, at least 1, of which two thin layers have at most this share of a layer's numbers.

    k (p + q) + k + q numbers with both biases, instead of p q + q.
    """
    return max(1, int((size * (inputs * outputs + outputs) - outputs) / (inputs + outputs + 1)))


def projections(own: Floats, other: Floats, logits: Floats) -> dict[str, Projection]:
    """Return the projections of a layer to all directions that SVCCA finds, and to principal components.

    With another layer, and as many components; and with logits, which has no more directions than there are classes.
    """
    k, few = (len(canonical_directions(own, y, variance=VARIANCE).correlations) for y in (other, logits))
    return {
        "SVCCA": svcca_projection(own, other, k, variance=VARIANCE),
        "PCA": pca_projection(own, k),
        "SVCCA with logits": svcca_projection(own, logits, few, variance=VARIANCE),
    }


def leading(whole: Projection, k: int) -> Projection:
    """Return the projection to the k leading directions of one to more, or all where it has fewer."""
    return Projection(whole.mean, whole.encode[:, :k], whole.decode[:k])


def _linear(model: nn.Module, layer: str) -> Any:
    """Return the linear map of a layer."""
    from torch import nn

    return next(module for module in model.get_submodule(layer).modules() if isinstance(module, nn.Linear))


def _before(model: nn.Module, layer: str) -> str:
    """Return the layer that another one takes its input from, in a network that is a chain."""
    names = [name for name, _ in model.named_children()]
    return names[names.index(layer) - 1]


def _make_smaller(model: nn.Module, layer: str, seen: Projection) -> int:
    """Replace the linear map of a layer by two thin ones, and return how many numbers they have."""
    from congruence.dynamics.projecting import compressed

    linear = _linear(model, layer)
    path = next(name for name, module in model.named_modules() if module is linear)
    smaller = compressed(linear, seen)
    model.set_submodule(path, smaller)
    return _numbers(smaller)


def _numbers(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _of(tables: Tables, kind: str, size: float) -> list[Row]:
    return [row for row in tables["accuracy"] if (row["kind"], row["size"]) == (kind, size)]


def _over_components(settings: Settings, tables: Tables, kind: str) -> dict[float, tuple[float, float, float]]:
    """Return by how much a kind of directions does better than as many principal components, where it has as many, by size."""
    found = {}
    for size in settings.sizes:
        own, components = _of(tables, kind, size), _of(tables, "PCA", size)
        if [row["true_size"] for row in own] == [row["true_size"] for row in components]:
            found[size] = mean_interval(_change(own) - _change(components), CORRELATIONS)
    return found


def _in_words(by_size: Mapping[float, tuple[float, float, float]]) -> str:
    return ", ".join(f"{size:g}: {ahead:+.3f} ({low:+.3f} to {high:+.3f})" for size, (ahead, low, high) in by_size.items())  # fmt: skip


def _change(rows: Sequence[Row]) -> Floats:
    return column(rows, "accuracy") - column(rows, "full")
