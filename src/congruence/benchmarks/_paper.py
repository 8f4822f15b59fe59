"""The published setting of Ding et al. 2021: BERT models, their representations and what they do, from the resources."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from congruence.benchmarks._base import Case, Stage
from congruence.benchmarks._linear import principal_scores
from congruence.benchmarks._populations import matrix
from congruence.benchmarks._subtasks import Function, layer_of, model_of, shift_case, subtask_case
from congruence.benchmarks.resources import (
    TASKS,
    Embedding,
    embeddings,
    hans_accuracies,
    probe_accuracies,
    resources_folder,
    stress_accuracies,
)
from congruence.representation import Deferred, Origin

DELETED = (0, 100, 200, 300, 400, 500, 600, 650, 700, 725, 750, 758, 763, 767)
DELETION_TASK, DELETION_SEEDS, DELETION_LAYERS = "SST-2", range(1, 8), range(7, 12)
STRESS = ("STRESS_ANTONYMY", "STRESS_NUMERICAL")


def paper_cases(stage: Stage) -> Iterator[Case[Function]]:
    """Yield the six subtasks of the paper's Table 1.

    Raises
    ------
    StoreError
        If the resources are not there; the message says where they are expected.
    """
    root = resources_folder()
    base = embeddings(root, "base")
    for task in TASKS:
        stage(f"reading {task}", 0, 1)
        accuracy = probe_accuracies(root, "layer_exp", task)
        values = np.array([accuracy[e.seed, e.layer, 0] for e in base])
        key = {"resources": "layer_exp", "task": task}
        yield subtask_case(
            f"depth-bert-{task}", [_deferred(e, root) for e in base], f"probe accuracy on {task}", values, key
        )
    yield _deletion(root, base, stage)
    tuned = embeddings(root, "feather")
    by_seed = hans_accuracies(root)["lex_nonent"]
    accuracies = {e.model: by_seed[e.seed] for e in tuned}
    found = [_deferred(e, root) for e in tuned]
    yield shift_case(
        "seeds-bert-hans", found, accuracies, "HANS, lexical overlap without entailment", {"resources": "feather"}
    )
    twice = embeddings(root, "medium_finetuned")
    stress = stress_accuracies(root)
    for test in STRESS:
        accuracies = {e.model: stress[test][e.seed, e.step] for e in twice}
        key = {"resources": "pretrain_finetune", "task": test}
        yield shift_case(f"two-stages-bert-{test}", [_deferred(e, root) for e in twice], accuracies, test, key)


def _deferred(embedding: Embedding, root: Path) -> Deferred:
    """Return a representation that is read when its turn comes: a hundred models do not fit into memory."""
    header: Any = np.load(embedding.path(root), mmap_mode="r", allow_pickle=False)
    features, stimuli = header.shape
    origin = Origin(embedding.model, str(embedding.layer), str(embedding.step), str(embedding.seed))
    opener = partial(embedding.load, root)
    return Deferred(embedding.name, (stimuli, features), str(header.dtype), opener, origin=origin)


def _deletion(root: Path, base: list[Embedding], stage: Stage) -> Case[Function]:
    """Return the subtask with deleted components: the leading ones of each representation are kept."""
    accuracy = probe_accuracies(root, "pca_deletion", DELETION_TASK)
    wanted = [e for e in base if e.seed in DELETION_SEEDS and e.layer in DELETION_LAYERS]
    left, values, counts = [], [], []
    for done, embedding in enumerate(wanted):
        stage("deleting components", done, len(wanted))
        whole = embedding.load(root)
        scores = principal_scores(whole.values)
        for count in (c for c in DELETED if (embedding.seed, embedding.layer, c) in accuracy):
            kept = scores[:, : max(1, whole.p - count)]
            left.append(matrix(kept, f"{whole.name}/deleted-{count}", model_of(whole), layer_of(whole)))
            values.append(accuracy[embedding.seed, embedding.layer, count])
            counts.append(count)
    what, key = f"probe accuracy on {DELETION_TASK}", {"resources": "pca_deletion", "deleted": list(DELETED)}
    return subtask_case("components-bert", left, what, np.array(values), key, shares=counts)
