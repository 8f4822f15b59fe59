"""Which populations the six tests compare, by domain and tier; what they have in common for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from congruence import zoo
from congruence.benchmarks._base import Stage, Tier
from congruence.benchmarks._populations import SMALL_CNN, SMALL_TEXT, SMALL_VIT, Networks, renamed
from congruence.errors import InputError
from congruence.representation import Representation, Source

Grouped = tuple[str, Mapping[str, Networks]]
"""A domain, and the networks of each group by its name."""

RANDOM_LABELS, SHORTCUT, AUGMENTATION = "label-randomisation", "shortcut-affinity", "augmentation"

Change = tuple[str, str]
"""What a group changes: parameters of the data, and parameters of the training."""

CHANGES: Mapping[tuple[str, str], Mapping[str, Change]] = {
    ("images", RANDOM_LABELS): {"0": ("", ""), "50": ("random_labels=0.5", ""), "100": ("random_labels=1", "")},
    ("images", SHORTCUT): {"0": ("shortcut=0", ""), "75": ("shortcut=0.75", ""), "100": ("shortcut=1", "")},
    ("images", AUGMENTATION): {
        "small": ("", "augment=noise,strength=0.3"),
        "medium": ("", "augment=noise,strength=0.6"),
        "large": ("", "augment=noise,strength=1.2"),
    },
    ("text", RANDOM_LABELS): {
        "0": ("", ""),
        "75": ("random_labels=0.75,new_labels=5", ""),
        "100": ("random_labels=1,new_labels=5", ""),
    },
    ("text", SHORTCUT): {"0": ("shortcut=0", ""), "75": ("shortcut=0.75", ""), "100": ("shortcut=1", "")},
    ("text", AUGMENTATION): {"0": ("", ""), "100": ("eda=1", "")},
    ("graphs", RANDOM_LABELS): {"0": ("", ""), "25": ("random_labels=0.25", ""), "100": ("random_labels=1", "")},
    ("graphs", SHORTCUT): {"0": ("shortcut=0", ""), "50": ("shortcut=0.5", ""), "100": ("shortcut=1", "")},
    ("graphs", AUGMENTATION): {
        "0": ("", ""),
        "25": ("", "augment=edge_drop,strength=0.2"),
        "100": ("", "augment=edge_drop,strength=0.8"),
    },
}
"""Domain and test -> name of the group -> what its networks are trained on; the levels are those of ReSi."""


@dataclass(frozen=True)
class Family:
    """Networks of one architecture on one data set, and what they are looked at with.

    Parameters
    ----------
    domain : str
        ``images``, ``text`` or ``graphs``.
    architecture, data, training : str
        As the zoo spells them.
    probe : zoo.Probe
        Stimuli.
    steps : str, optional
        Steps that make matrices of the last hidden layer.
    portion, brief : str, optional
        Data and training of the tests of groups, where they differ: less of both, since every group is a population.
    few, memorising : str, optional
        Data and training of the test of random labels, where they differ: few enough stimuli, and long enough, that
        wrong labels are learned by heart.
    deep : Networks, optional
        Networks of the test of layers; none where the architecture has too few.
    """

    domain: str
    architecture: str
    data: str
    training: str
    probe: zoo.Probe
    steps: str | None = None
    portion: str | None = None
    brief: str | None = None
    few: str | None = None
    memorising: str | None = None
    deep: Networks | None = None

    def networks(self, seeds: int, data: str | None = None, training: str | None = None) -> Networks:
        """Return networks of this family, or of one trained differently."""
        config = zoo.Config(self.architecture, data or self.data, training or self.training)
        return Networks(config, seeds, self.probe, self.steps)

    def groups(self, test: str, seeds: int) -> dict[str, Networks]:
        """Return the networks of each group of a test by its name."""
        data, training = self.portion or self.data, self.brief or self.training
        if test == RANDOM_LABELS:
            data, training = self.few or data, self.memorising or training
        return {
            name: self.networks(seeds, _with(data, in_data), _with(training, in_training))
            for name, (in_data, in_training) in CHANGES[self.domain, test].items()
        }


def _with(spec: str, parameters: str) -> str:
    """Return a specification with more parameters."""
    return f"{spec}{',' if ':' in spec else ':'}{parameters}" if parameters else spec


def case_name(domain: str, networks: Networks) -> str:
    """Return the name of a case, from which a leaderboard reads domain, architecture and data set."""
    return f"{domain}.{networks.config.network.name}.{networks.config.dataset.name}"


# ---- populations -----------------------------------------------------------------------------------------------------

_QUICK_DATA, _QUICK_TRAINING = "digits:size=12", "training:epochs=12,batch_size=64"
_QUICK_DEEP = Networks(zoo.Config("mlp:width=64,depth=6", _QUICK_DATA, _QUICK_TRAINING), 3, zoo.Probe(n=150))
_QUICK_GRAPH, _QUICK_EPOCHS = "sbm:nodes=300", "training:epochs=60"
_QUICK = (
    Family("images", "mlp:width=64", _QUICK_DATA, _QUICK_TRAINING, zoo.Probe(n=150), deep=_QUICK_DEEP),
    Family(
        "graphs", "gcn:width=32", _QUICK_GRAPH, _QUICK_EPOCHS, zoo.Probe(),
        deep=Networks(zoo.Config("gcn:width=32,depth=6", _QUICK_GRAPH, _QUICK_EPOCHS), 3, zoo.Probe()),
    ),
)  # fmt: skip

_THOUSAND, _NODES = zoo.Probe(n=1000), zoo.Probe()
_FEW, _LONG = "mnist_5k:train_size=1000", "training:epochs=40"


def _graphs(architecture: str, data: str) -> Family:
    deep = Networks(zoo.Config(f"{architecture}:depth=6", data), 5, _NODES)
    return Family("graphs", architecture, data, "training", _NODES, deep=deep)


_SMALL = (
    Family(
        "images", "tiny10", "mnist_5k", "training", _THOUSAND,
        few=_FEW, memorising=_LONG, deep=Networks(SMALL_CNN, 5, _THOUSAND, "spatial_mean"),
    ),
    Family(
        "images", "vit", "mnist_5k", "training", _THOUSAND, "cls_token", brief="training:epochs=10",
        few=_FEW, memorising=_LONG, deep=Networks(SMALL_VIT, 5, _THOUSAND, "cls_token"),
    ),
    Family(
        "text", "minilm", "entailment", "training", _THOUSAND, "token_mean", portion="entailment:train_size=6400",
        deep=Networks(SMALL_TEXT, 5, _THOUSAND, "token_mean", "norm"),
    ),
    *(_graphs(architecture, "sbm") for architecture in ("gcn", "sage", "gat")),
    _graphs("gcn", "digits_knn"),
)  # fmt: skip


def grouped(test: str, tier: Tier) -> list[Grouped]:
    """Return the groups that a test separates, by domain and architecture."""
    seeds, families = (4, _QUICK) if tier == "quick" else (5, _SMALL)
    return [(family.domain, family.groups(test, seeds)) for family in families]


def alike(tier: Tier) -> list[tuple[str, Networks]]:
    """Return networks that differ in their seeds only, by domain: of the tests of accuracy and of outputs."""
    if tier == "quick":
        # trained so briefly that networks differ in what they get wrong
        brief = zoo.Config("mlp:width=64", _QUICK_DATA, "training:epochs=3,batch_size=64")
        graphs = zoo.Config("gcn:width=32", _QUICK_GRAPH, "training:epochs=15")
        return [("images", Networks(brief, 6, zoo.Probe(n=300))), ("graphs", Networks(graphs, 6, zoo.Probe()))]
    return [(family.domain, family.networks(10)) for family in _SMALL]


def deep(tier: Tier) -> list[tuple[str, Networks]]:
    """Return networks whose layers are compared with each other, by domain."""
    families = _QUICK if tier == "quick" else _SMALL
    return [(family.domain, family.deep) for family in families if family.deep is not None]


# ---- representations -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Final:
    """Representations of the last hidden layer, one a network, and the group of each."""

    representations: Sequence[Source]
    groups: tuple[str, ...]
    key: Mapping[str, Any]


def final_layers(groups: Mapping[str, Networks], stage: Stage) -> Final:
    """Train what is not there yet, and return the last hidden layer of every network, called ``GROUP/seed-0``.

    Raises
    ------
    InputError
        If fewer than two networks of a group were trained to the end.
    """
    found: list[Representation] = []
    labels: list[str] = []
    for group, networks in groups.items():
        population = networks.train(stage)
        for one in last_hidden(networks, population, stage):
            model = f"{group}/{one.origin.model}"
            found.append(renamed(one, model, model, one.origin.layer or ""))
            labels.append(group)
    key = {group: networks.key() for group, networks in groups.items()}
    return Final(found, tuple(labels), {"groups": key, "networks": [one.name for one in found]})


def last_hidden(networks: Networks, population: zoo.Population, stage: Stage) -> list[Representation]:
    """Return the last hidden layer of every network of a population, called ``seed-0`` and so on."""
    layer, found = networks.config.network.layers(networks.tap)[-1], []
    for done, seed in enumerate(population.seeds):
        stage(f"recording {networks.config.label}", done, len(population.seeds))
        stores = population.activations(networks.probe, [layer], steps=networks.steps, seeds=[seed])
        found += [renamed(store[layer].matrix(), name, name, layer) for name, store in stores.items()]
    return found


def require_networks(count: int, least: int, networks: Networks) -> None:
    """Raise an InputError if fewer than `least` networks were trained to the end."""
    if count < least:
        message = f"{networks.config.label}: {count} networks were trained to the end; a rank correlation needs {least}. Lower the learning rate."
        raise InputError(message)


def ordered_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return both orders of every pair of different names."""
    return [(a, b) for a in names for b in names if a != b]
