"""What comparing two models batch by batch adds to their bare forward passes.

    python benchmarks/minibatch.py [--batches 4] [--threads 2] [--layers 12] [--width 384] [--tokens 64] [--batch-size 64]

Two randomly initialised BERT encoders; all hidden states, averaged over tokens, of one with all of the other. Every
batch is run twice in turn, by bare copies of both models and by `compare_models`, so that what else the machine does
falls on both; the ratio is the median over batches, the first (which carries what is done once) left out.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers

from congruence.engine.models import compare_models

HIDDEN_STATES = ["embeddings", r"re:encoder\.layer\.\d+"]


@dataclass
class InTurn:
    """Batches that time bare forwards of each before they hand it on, and the consumer's work on it after."""

    models: list[torch.nn.Module]
    batches: list[Any]
    bare: list[float] = field(default_factory=list)
    compared: list[float] = field(default_factory=list)

    def __iter__(self) -> Iterator[Any]:
        for batch in self.batches:
            start = time.perf_counter()
            with torch.inference_mode():
                for model in self.models:
                    model(**batch)
            handed = time.perf_counter()
            self.bare.append(handed - start)
            yield batch
            self.compared.append(time.perf_counter() - handed)


def encoders(layers: int, width: int) -> list[torch.nn.Module]:
    """Return two encoders that differ in their weights."""
    found = []
    for seed in range(2):
        torch.manual_seed(seed)
        config = transformers.BertConfig(
            hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // 32, intermediate_size=4 * width
        )
        found.append(transformers.BertModel(config, add_pooling_layer=False).eval())
    return found


def main() -> None:
    """Print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    models = encoders(options.layers, options.width)
    shape = (options.batch_size, options.tokens)
    batches = [
        {"input_ids": torch.randint(1000, 30000, shape), "attention_mask": torch.ones(shape, dtype=torch.long)}
        for _ in range(options.batches + 1)
    ]
    turns = InTurn(copy.deepcopy(models), batches)
    start = time.perf_counter()
    result = compare_models(models[0], models[1], turns, HIDDEN_STATES)
    whole = time.perf_counter() - start - sum(turns.bare)
    ratios = [a / b for a, b in zip(turns.compared[1:], turns.bare[1:], strict=True)]
    print(
        f"{len(result.a)} x {len(result.b)} states, batch {shape}, {options.threads} threads, torch {torch.__version__}"
    )
    print(
        f"two bare forwards {statistics.median(turns.bare):.3f} s, with the comparison {statistics.median(turns.compared):.3f} s: "
        f"ratio {statistics.median(ratios):.3f} (whole run {whole / sum(turns.bare):.3f}, fingerprints of the weights included)"
    )


if __name__ == "__main__":
    main()
