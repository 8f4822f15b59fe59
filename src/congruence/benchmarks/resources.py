"""The published embeddings, distances and scores of Ding et al. 2021: the folder `sim_metric_resources` (Zenodo 5117844).

    embeddings/DATASET/ARCHITECTURE/SEED/STEP/LAYER/rep.npy    (features, stimuli)
    dists/EXPERIMENT/dists.csv                                 seed1, step1, layer1, seed2, step2, layer2, distances
    scores/EXPERIMENT/scores.pkl or scores.csv

Nothing is downloaded. Where the authors wrote pickles, only plain containers and NumPy arrays are read from them.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from congruence.benchmarks._ranks import rank_score
from congruence.benchmarks._tables import Floats, Table, read_table
from congruence.errors import InputError, StoreError, UnknownNameError
from congruence.representation import Origin, Representation
from congruence.validate import closest
from congruence.zoo.cache import DATA_VARIABLE, data_folder

FOLDER = "sim_metric_resources"
DATASET = "mnli_matched_100"
TASKS = ("QNLI", "SST-2")
Experiment = Literal["layer_exp", "feather", "pretrain_finetune"]
_HANS = {
    "MNLI dev acc.": "mnli_dev_acc",
    "Lexical (entailed)": "lex_ent",
    "Subseq (entailed)": "sub_ent",
    "Constituent (entailed)": "const_ent",
    "Lexical (nonent)": "lex_nonent",
    "Subseq (nonent)": "sub_nonent",
    "Constituent (nonent)": "const_nonent",
    "Overall accuracy": "overall_accuracy",
}
_NOT_DISTANCES = {
    "", "dataset1", "architecture1", "seed1", "step1", "layer1", "dataset2", "architecture2", "seed2", "step2", "layer2",
    "dims_deleted", "dims_kept",
}  # fmt: skip
_SAFE = {
    ("numpy", "ndarray"), ("numpy", "dtype"), ("collections", "OrderedDict"), ("collections", "defaultdict"),
    ("builtins", "dict"), ("builtins", "list"), ("builtins", "set"), ("_codecs", "encode"),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
}  # fmt: skip


def published_folder(name: str, what: str) -> Path:
    """Return a folder of published data that the paper tier reads.

    Raises
    ------
    StoreError
        If it is not there; the message says what it is and where it is expected.
    """
    folder = data_folder() / name
    if not folder.is_dir():
        message = f"The paper tier needs {what}, expected at {folder}. Put it there, or set {DATA_VARIABLE} to the folder that holds {name}."
        raise StoreError(message)
    return folder


def resources_folder() -> Path:
    """Return the folder of the published resources of Ding et al. 2021."""
    return published_folder(FOLDER, f"{FOLDER} (Zenodo record 5117844)")


@dataclass(frozen=True)
class Embedding:
    """One representation of the resources: the folders below its data set."""

    architecture: str
    seed: int
    step: int
    layer: int

    @property
    def name(self) -> str:
        """What the representation is called, such as ``base-1-2000000/11``."""
        return f"{self.model}/{self.layer}"

    @property
    def model(self) -> str:
        """What its model is called."""
        return f"{self.architecture}-{self.seed}-{self.step}"

    def path(self, root: Path, dataset: str = DATASET) -> Path:
        """Return the file that holds it."""
        home = root / "embeddings" / dataset / self.architecture
        return home / str(self.seed) / str(self.step) / str(self.layer) / "rep.npy"

    def load(self, root: Path, dataset: str = DATASET) -> Representation:
        """Return the representation as (stimuli, features): the files hold the transpose.

        Raises
        ------
        StoreError
            If the file is not there.
        InputError
            If it is no matrix.
        """
        path = self.path(root, dataset)
        if not path.is_file():
            message = f"There is no {path}; expected a matrix of shape (features, stimuli)."
            raise StoreError(message)
        values = np.load(path, allow_pickle=False)
        if values.ndim != 2:
            message = f"{path} must hold a matrix of shape (features, stimuli); got shape {values.shape}."
            raise InputError(message)
        origin = Origin(self.model, str(self.layer), str(self.step), str(self.seed))
        return Representation(np.ascontiguousarray(values.T), self.name, origin=origin)


def embeddings(root: Path, architecture: str, dataset: str = DATASET) -> list[Embedding]:
    """Return what there is of one architecture, by seed, step and layer."""
    home = root / "embeddings" / dataset / architecture
    found = [tuple(int(part) for part in path.parent.relative_to(home).parts) for path in home.glob("*/*/*/rep.npy")]
    if not found:
        message = f"There are no embeddings in {home}; expected SEED/STEP/LAYER/rep.npy."
        raise StoreError(message)
    return [Embedding(architecture, seed, step, layer) for seed, step, layer in sorted(found)]


# ---- scores ----------------------------------------------------------------------------------------------------------


class _Unpickler(pickle.Unpickler):
    """Reads plain containers and NumPy arrays; anything else in the file is refused before it runs."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _SAFE:
            message = f"holds {module}.{name}, which is neither a plain container nor a NumPy array"
            raise pickle.UnpicklingError(message)
        return super().find_class(module, name)


def read_pickle(path: Path) -> Any:
    """Return the plain data and arrays of a pickle.

    Raises
    ------
    StoreError
        If the file does not exist, is damaged, or holds anything else.
    """
    try:
        with path.open("rb") as file:
            return _Unpickler(file).load()
    except FileNotFoundError:
        message = f"There is no {path}."
        raise StoreError(message) from None
    except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError) as error:
        message = f"{path} cannot be read: {error}."
        raise StoreError(message) from error


def probe_accuracies(root: Path, experiment: str, task: str) -> dict[tuple[int, int, int], float]:
    """Return the mean accuracy of the probes of a task, by seed, layer (from 0) and number of deleted components."""
    stored = read_pickle(root / "scores" / experiment / "scores.pkl")
    if task not in stored:
        message = f"scores/{experiment}/scores.pkl has no task '{task}'. {closest(task, stored)}"
        raise UnknownNameError(message)
    found = {}
    for seed, layers in stored[task].items():
        for number, by_deleted in layers.items():
            for deleted, runs in by_deleted.items():
                # in layer_exp a further level, the seed of the deletion, holds the runs
                accuracies = runs[0] if isinstance(runs, Mapping) else runs
                found[int(seed), int(number) - 1, int(deleted)] = float(np.mean(accuracies))
    return found


def hans_accuracies(root: Path) -> dict[str, dict[int, float]]:
    """Return the accuracies of the fine-tuned models by task and seed (the number of the row)."""
    table = read_table(root / "scores" / "feather" / "scores.csv", "scores.csv")
    return {
        name: dict(enumerate(table.numbers(column).tolist()))
        for column, name in _HANS.items()
        if column in table.columns
    }


def stress_accuracies(root: Path) -> dict[str, dict[tuple[int, int], float]]:
    """Return the accuracies of the models of 10 x 10 seeds by stress test and (pretraining, fine-tuning) seed, from 1."""
    correct, items = read_pickle(root / "scores" / "pretrain_finetune" / "scores.pkl")
    kinds = np.array([str(item["guid"]).split("-")[0] for item in items])
    overlap = [
        kind == "HANS" and item["heuristic"] == "lexical_overlap" and item["label"] == "non-entailment"
        for kind, item in zip(kinds, items, strict=True)
    ]
    chosen = {kind: kinds == kind for kind in dict.fromkeys(kinds.tolist())} | {"lex_nonent": np.array(overlap)}
    return {
        name: {
            (int(pretrained), int(tuned)): float(np.mean(np.asarray(answers)[rows]))
            for pretrained, by_seed in _numbered(correct)
            for tuned, answers in _numbered(by_seed)
        }
        for name, rows in chosen.items()
        if rows.any()
    }


def _numbered(stored: Any) -> list[tuple[int, Any]]:
    """Return the items of a mapping, or of an array whose row 0 is not used (seeds begin with 1)."""
    return list(stored.items()) if isinstance(stored, Mapping) else [(i, stored[i]) for i in range(1, len(stored))]


# ---- published distances ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PublishedTables:
    """Published distances and scores in the form that `congruence.benchmarks.score` takes.

    Attributes
    ----------
    distances, scores : mapping of str to list
        Columns.
    arguments : mapping
        Further arguments of `score`.
    """

    distances: Mapping[str, list[Any]]
    scores: Mapping[str, list[Any]]
    arguments: Mapping[str, Any]


def published(root: Path, experiment: Experiment) -> PublishedTables:
    """Return the published distances and functionality of an experiment.

    Parameters
    ----------
    root : Path
        The folder `sim_metric_resources`.
    experiment : {"layer_exp", "feather", "pretrain_finetune"}
        Seeds and depth; fine-tuning seeds; pretraining and fine-tuning seeds. (For deleted components, whose rows are
        not pairs of ids, see `published_deletion`.)
    """
    table = read_table(root / "dists" / experiment / "dists.csv", "dists.csv")
    models = {side: _models(table, side, experiment) for side in ("1", "2")}
    layers = {side: table.numbers(f"layer{side}").astype(int).tolist() for side in ("1", "2")}
    ids = {side: [f"{m}/{k}" for m, k in zip(models[side], layers[side], strict=True)] for side in ("1", "2")}
    known = dict(
        zip(
            [*ids["1"], *ids["2"]],
            zip([*models["1"], *models["2"]], [*layers["1"], *layers["2"]], strict=True),
            strict=True,
        )
    )
    functionality = _functionality(root, experiment)
    scores: dict[str, list[Any]] = {
        "id": list(known),
        "model": [model for model, _ in known.values()],
        "layer": [layer for _, layer in known.values()],
    }
    for task, by_id in functionality.items():
        scores[task] = [
            by_id[model if experiment != "layer_exp" else f"{model}/{layer}"] for model, layer in known.values()
        ]
    distances = {"a": ids["1"], "b": ids["2"], **{name: _distance(table, name).tolist() for name in _names(table)}}
    arguments = {
        "reference_by": "layer",
        "pairs": "all" if experiment == "layer_exp" else "within",
        "functionality": list(functionality),
        "model": "model",
    }
    return PublishedTables(distances, scores, arguments)


def _models(table: Table, side: str, experiment: Experiment) -> list[str]:
    seeds = table.numbers(f"seed{side}").astype(int).tolist()
    if experiment != "pretrain_finetune":
        return [str(seed) for seed in seeds]
    steps = table.numbers(f"step{side}").astype(int).tolist()  # where the seed of the fine-tuning stands
    return [f"{seed}-{step}" for seed, step in zip(seeds, steps, strict=True)]


def _functionality(root: Path, experiment: Experiment) -> dict[str, dict[str, float]]:
    """Return the functionality by task and by model, or by model and layer."""
    if experiment == "layer_exp":
        return {
            task: {f"{seed}/{layer}": x for (seed, layer, gone), x in probe_accuracies(root, experiment, task).items() if gone == 0}
            for task in TASKS
        }  # fmt: skip
    if experiment == "feather":
        return {task: {str(seed): x for seed, x in found.items()} for task, found in hans_accuracies(root).items()}
    stress = stress_accuracies(root)
    return {task: {f"{pre}-{fine}": x for (pre, fine), x in found.items()} for task, found in stress.items()}


def _names(table: Table) -> list[str]:
    return [name for name in table.columns if name not in _NOT_DISTANCES and not name.startswith("Unnamed:")]


def _distance(table: Table, name: str) -> Floats:
    """Return a column of distances; mean canonical correlations were written as similarities."""
    values = table.numbers(name)
    return 1 - values if name.endswith("_cca_corr") else values


def published_deletion(
    root: Path, task: str = "SST-2", seeds: range = range(1, 8), layers: range = range(7, 12)
) -> dict[str, dict[str, float]]:
    """Return the averages over layers of the subtask with deleted components, by distance and statistic.

    The rows of a layer are those where the best whole network is on either side; components are deleted from the second.
    """
    table = read_table(root / "dists" / "pca_deletion" / "dists.csv", "dists.csv")
    accuracy = probe_accuracies(root, "pca_deletion", task)
    one, two, layer, gone = (table.numbers(c).astype(int) for c in ("seed1", "seed2", "layer1", "dims_deleted"))
    found: dict[str, list[dict[str, float]]] = {name: [] for name in _names(table)}
    for depth in layers:
        best = max(seeds, key=lambda seed: accuracy[seed, depth, 0])
        rows = np.flatnonzero(
            (layer == depth) & np.isin(one, seeds) & np.isin(two, seeds) & ((one == best) | (two == best))
        )
        apart = np.array([abs(accuracy[one[r], depth, 0] - accuracy[two[r], depth, gone[r]]) for r in rows])
        for name, scored in found.items():
            scored.append(vars(rank_score(_distance(table, name)[rows], apart)))
    return {
        name: {statistic: float(np.mean([s[statistic] for s in scored])) for statistic in scored[0]}
        for name, scored in found.items()
    }
