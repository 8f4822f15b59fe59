"""What comparing two models batch by batch adds to their bare forward passes.

Two randomly initialised BERT encoders; all hidden states, averaged over tokens, of one with all of the other. Every batch
is run twice in turn, by bare copies of both models and by `compare_models`.
"""

from __future__ import annotations

import copy
import statistics
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

import congruence as cg
from benchmarks.measuring import Array, Check, Disagreement, Result, peak_memory, product_rate, result, seconds_of
from benchmarks.turns import InTurn
from congruence.engine.minibatch import MinibatchCKA

HIDDEN_STATES = ["embeddings", r"re:encoder\.layer\.\d+"]
LABEL = "cka:estimator=debiased"
SINGLE = 1e-5
"""How far values may be from those of states that were averaged over tokens elsewhere: states are float32."""


@dataclass(frozen=True)
class Size:
    """Layers, width, tokens and sentences of a batch, and how many batches are timed."""

    layers: int
    width: int
    tokens: int
    batch: int
    batches: int


FULL, TINY = Size(12, 384, 64, 64, 6), Size(2, 32, 8, 6, 2)


def measure(row: str, name: str, folder: Path, *, tiny: bool = False) -> Result:
    """Time both, and check the values against states taken by the models themselves."""
    del folder
    size = TINY if tiny else FULL
    models = _encoders(size)
    shape = (size.batch, size.tokens)
    torch.manual_seed(2)
    batches = [
        {"input_ids": torch.randint(1000, 30000, shape), "attention_mask": torch.ones(shape, dtype=torch.long)}
        for _ in range(size.batches + 1)
    ]
    rate = product_rate()
    turns = InTurn(copy.deepcopy(models), batches)
    whole, found = seconds_of(lambda: cg.compare_models(*models, turns, HIDDEN_STATES))
    peak = peak_memory()
    difference = float(np.abs(found.matrix(LABEL).values - _direct(models, batches)).max())
    if not difference <= SINGLE:
        message = f"Minibatch CKA differs by {difference:.1e} from that of the models' own hidden states."
        raise Disagreement(message)
    added = 100 * (turns.ratio - 1)
    columns = {
        "states": f"{len(found.a)} x {len(found.b)}",
        "batch": f"{size.batch} x {size.tokens} tokens, width {size.width}",
        "two forwards, s": statistics.median(turns.bare),
        "with the comparison, s": statistics.median(turns.worked),
        "added, %": added,
        "whole run added, %": 100 * ((whole - sum(turns.bare)) / sum(turns.bare) - 1),
        "largest difference": difference,
        "torch": metadata.version("torch"),
    }
    return result(row, name, columns, [Check("% added to two forward passes", added, 25, False)], rate, peak)


def _encoders(size: Size) -> list[torch.nn.Module]:
    """Return two encoders that differ in their weights."""
    found = []
    for seed in range(2):
        torch.manual_seed(seed)
        config = transformers.BertConfig(
            hidden_size=size.width,
            num_hidden_layers=size.layers,
            num_attention_heads=max(1, size.width // 32),
            intermediate_size=4 * size.width,
        )
        found.append(transformers.BertModel(config, add_pooling_layer=False).eval())
    return found


def _direct(models: list[torch.nn.Module], batches: list[Any]) -> Array:
    """Return the values from states that the models return when asked for them."""
    names = [f"state{i}" for i in range(models[0].config.num_hidden_layers + 1)]
    sums = MinibatchCKA(names, names)
    for batch in batches:
        with torch.inference_mode():
            states = [model(**batch, output_hidden_states=True).hidden_states for model in models]
        sums.update(*(dict(zip(names, (x.double().mean(dim=1).numpy() for x in side), strict=True)) for side in states))
    return sums.result().matrix(LABEL).values
