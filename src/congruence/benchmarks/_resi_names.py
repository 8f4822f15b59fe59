"""Names in ReSi's files: what `repsim` calls networks, layers, outputs and groups (github.com/mklabunde/resi).

IDENTIFIER__ARCHITECTURE__TRAINED-ON__SEED__DATASET__LAYER      a representation
DOMAIN_ARCHITECTURE_TRAINED-ON_IDENTIFIER_SEED__DATASET__output  outputs (or ``accuracy``); language adds ``_None``
FIRST___SECOND___MEASURE                                        a comparison, as in ``results.parquet``
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from congruence.benchmarks._settings import AUGMENTATION, RANDOM_LABELS, SHORTCUT

DOMAINS = {
    "images": ("VISION", ("VGG", "ResNet", "ViT")),
    "text": ("NLP", ("BERT", "albert", "smollm")),
    "graphs": ("GRAPHS", ("GCN", "GAT", "GraphSAGE", "PGNN")),
}
"""Domain -> ReSi's word for it, and how its architectures begin."""

_KINDS = {
    RANDOM_LABELS: ("RandomLabel", "Randomlabel", "_mem_rate"),
    SHORTCUT: ("Shortcut", "ColorDot", "_sc_rate"),
    AUGMENTATION: ("Augmentation", "Gauss", "_aug_rate"),
}


@dataclass(frozen=True, order=True)
class Network:
    """One trained network."""

    architecture: str
    identifier: str
    trained_on: str
    seed: str

    @property
    def name(self) -> str:
        """What it is called in results."""
        return f"{self.group}/{self.seed}"

    @property
    def group(self) -> str:
        """What networks of one group have in common."""
        return f"{self.identifier}.{self.trained_on}"

    @property
    def domain(self) -> str:
        """``images``, ``text``, ``graphs``, or ``other``."""
        return next((name for name, (_, starts) in DOMAINS.items() if self.architecture.startswith(starts)), "other")

    @property
    def test(self) -> str:
        """The test of groups that the network was trained for; empty for those trained as usual."""
        words = f"{self.identifier} {self.trained_on}"
        return next((test for test, parts in _KINDS.items() if any(part in words for part in parts)), "")

    @property
    def model_id(self) -> str:
        """How names of its outputs begin."""
        word = DOMAINS.get(self.domain, (self.domain, ()))[0]
        return f"{word}_{self.architecture}_{self.trained_on}_{self.identifier}_{self.seed}"


@dataclass(frozen=True, order=True)
class Layer:
    """A layer of a network on a data set."""

    network: Network
    dataset: str
    number: int


def parse_layer(name: str) -> Layer | None:
    """Return the layer that a name means; None for anything else."""
    parts = name.split("__")
    if len(parts) != 6 or not parts[5].isdecimal():
        return None
    identifier, architecture, trained_on, seed, dataset, number = parts
    return Layer(Network(architecture, identifier, trained_on, seed), dataset, int(number))


def parse_output(name: str, networks: Iterable[Network]) -> tuple[Network, str, str] | None:
    """Return network, data set and kind (``output`` or ``accuracy``) that a name means; None for anything else.

    Names of outputs join their parts with single underscores, which the parts contain too; they are resolved against
    the networks whose representations are known.
    """
    parts = name.split("__")
    if len(parts) != 3 or parts[2] not in {"output", "accuracy"}:
        return None
    fits = [one for one in networks if parts[0] == one.model_id or parts[0].startswith(f"{one.model_id}_")]
    return (max(fits, key=lambda one: len(one.model_id)), parts[1], parts[2]) if fits else None


def case_name(network: Network, dataset: str) -> str:
    """Return the name of a case: domain, architecture and data set, joined by dots."""
    return ".".join([network.domain, network.architecture.replace(".", "-"), dataset.replace(".", "-")])
