"""sequence-time-packages: the states of recurrent networks that somebody else trained, over a sequence.

Source: Morcos et al. 2018, appendix A.3, Figures A3 and A4. The networks are those of the packages textgenrnn and g2p-en.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from congruence import figures
from congruence.dynamics._relabelling import Floats
from congruence.dynamics.sequences import repeat_input
from congruence.dynamics.studies._shared import OF_STATES, column, mean_interval, quiet_value, with_ends
from congruence.dynamics.studies.sequence_time import MEASURES, last_column
from congruence.errors import StoreError
from congruence.studies import Outcome, Row, Study, Tables, Tier, Verdict, register

NETWORKS = ("textgenrnn", "g2p reading", "g2p writing")
WINDOW = 40
"""Characters that textgenrnn sees."""
LETTERS, PHONEMES = 10, 7
"""Letters and phonemes of the words that g2p-en is run on."""
TREND, FAR = 0.5, 0.9
"""The least rank correlation with time that counts as rising, and the CCA below which a state is no linear map of another."""
TEXT = "as it is"
CHECKED = ("similarity", "S IH2 M AH0 L EH1 R AH0 T IY0")
"""A word and what g2p-en makes of it."""


@dataclass(frozen=True)
class Settings:
    """Networks, disjoint sets of sequences, the most in a set, which steps, and from which share of them on input is repeated."""

    networks: tuple[str, ...] = NETWORKS
    sets: int = 3
    sequences: int = 2000
    every: int = 4
    repeated_from: tuple[float, ...] = (0.1, 0.4)


class Sequences(NamedTuple):
    """A recurrent module, the vectors of its tokens, tokens of shape (n, time), the first compared step, and the first state.

    From a state that is the same for all sequences, the first steps reach few states, which any later one can be linear
    in: as many as there are letters after one. Steps are compared from where on there are thousands.
    """

    module: Any
    vectors: Any
    tokens: Any
    first: int = 0
    initial: Any = None


@register
class SequenceTimePackages(Study):
    """One network a package: intervals are over sets of sequences, and say nothing of other networks."""

    name: ClassVar[str] = "sequence-time-packages"
    title: ClassVar[str] = "States over a sequence, in published networks"
    claim: ClassVar[str] = (
        "States at different steps are no linear maps of each other: the CCA similarity to the last step falls with the "
        "distance in time, and where the input is repeated the states settle."
    )
    source: ClassVar[str] = (
        "Morcos et al. 2018, appendix A.3, Figures A3 and A4; here textgenrnn 2.0.0 (characters) and g2p-en 2.1.0 (letters to phonemes)"
    )
    tiers: ClassVar[Mapping[str, Tier]] = {
        "quick": Tier(Settings(("g2p reading",), 2, 600, 7, (0.4,)), "some seconds: one network, a few words"),
        "small": Tier(Settings(), "about 3 minutes of computing"),
    }

    def pieces(self, settings: Settings) -> Sequence[str]:
        """Return one piece for each network and set of sequences."""
        return [f"{name.replace(' ', '-')}-{k}" for name in settings.networks for k in range(settings.sets)]

    def work(self, settings: Settings, piece: str) -> Tables:
        """Run one network over one set of sequences, and compare its states with those at the last step."""
        name, _, number = piece.rpartition("-")
        name = name.replace("-", " ", 1) if name.startswith("g2p") else name
        whole, checks = _SEQUENCES[name]()
        chosen = np.array_split(np.random.default_rng(0).permutation(len(whole.tokens)), settings.sets)[int(number)]
        own = _rows(whole, chosen[: settings.sequences])
        about: Row = {"network": name, "set": int(number), "sequences": len(own.tokens)}
        steps = compared_steps(own.first, own.tokens.shape[1], settings.every)
        rows: list[Row] = []
        for start in (None, *starts(own.first, own.tokens.shape[1], settings.repeated_from)):
            states = unrolled(own, start)
            said: Row = {**about, "input": TEXT if start is None else f"repeated from step {start}"}
            rows += [{**said, **row} for state, values in states.items() for row in last_column(state, values, steps)]
            if start is None:
                chance = [
                    {**about, "state": state, "cca": _chance(values.values[:, steps[0]], values.values[:, -1])}
                    for state, values in states.items()
                ]
        found: Tables = {"similarity": rows, "chance": chance}
        return found if int(number) else {**found, "checks": [{"network": name, **check} for check in checks]}

    def summarise(self, settings: Settings, tables: Tables) -> list[Row]:
        """Return for every state, input and measure the values at the first step and before the last, and their trend."""
        del settings
        kinds = dict.fromkeys((r["network"], r["state"], r["input"], r["measure"]) for r in tables["similarity"])
        return [_line(tables, *kind) for kind in kinds]

    def judge(self, settings: Settings, tables: Tables) -> Verdict:
        """Return whether CCA rises towards the last step and is far from 1 at first, and repeated input makes states settle."""
        lines = [line for line in self.summarise(settings, tables) if line["measure"] == "cca"]
        free = [line for line in lines if line["input"] == TEXT]
        fixed = [line for line in lines if line["input"] != TEXT]
        rises = [line["least_trend"] > TREND and line["first_high"] < FAR for line in free]
        settles = [line["settles_low"] > 0 for line in fixed]
        whole = all(rises) and all(settles)
        outcome: Outcome = "reproduced" if whole else "differs" if any(rises) else "not reproduced"
        statistics: dict[str, float] = {"states": len(free), "rising": sum(rises), "repeated": len(fixed), "settling": sum(settles)}  # fmt: skip
        words = []
        for line in free:
            where = f"{line['network']} {line['state']}"
            statistics |= {f"{where} {key}": float(line[key]) for key in ("first", "first_low", "first_high", "before_last", "least_trend", "chance")}  # fmt: skip
            words.append(f"{where} {line['first']:.2f} ({line['first_low']:.2f} to {line['first_high']:.2f}; unrelated sequences {line['chance']:.2f}) at first, {line['before_last']:.2f} before the last")  # fmt: skip
        text = (
            f"CCA similarity to the last step: {'; '.join(words)}. It rises with time from below {FAR} in {sum(rises)} of {len(free)} "
            f"states; repeated input brings the step before the last nearer in {sum(settles)} of {len(fixed)} cases. Intervals over {settings.sets} sets of sequences."
        )
        return Verdict(outcome, text, statistics)

    def draw(self, settings: Settings, tables: Tables, folder: Path) -> None:
        """Draw the similarity to the last step over time, a picture a network, for its top hidden state."""
        for name in settings.networks:
            rows = [r for r in tables["similarity"] if r["network"] == name]
            top = max(row["state"] for row in rows if row["state"].startswith("hidden"))
            axes = figures.axes_in_a_row(len(MEASURES))
            for ax, label in zip(axes, MEASURES, strict=True):
                own = [r for r in rows if (r["state"], r["measure"]) == (top, label) and r["similarity"] is not None]
                series = [_series(kind, label, [r for r in own if r["input"] == kind]) for kind in dict.fromkeys(r["input"] for r in own)]  # fmt: skip
                figures.curves(
                    series, xlabel="step", ylabel=f"{label} with the last step", title=f"{name}, {top}", ax=ax
                )
            figures.save_figure(axes[0], folder / f"{name.replace(' ', '-')}.png")


# ---- sequences -------------------------------------------------------------------------------------------------------


def _characters() -> tuple[Sequences, list[Row]]:
    """Return windows of Python's documentation for textgenrnn, and how well it predicts that text."""
    import torch

    from congruence.dynamics.studies._shipped import textgenrnn
    from congruence.extraction.sentences import python_sentences

    network = textgenrnn()
    codes = network.codes(" ".join(python_sentences()))
    plain, shuffled = (
        network.loss(text, WINDOW, 1000) for text in (codes, np.random.default_rng(0).permutation(codes))
    )
    if not plain < shuffled / 2:
        message = f"textgenrnn predicts English no better than shuffled text: {plain:.2f} and {shuffled:.2f} nats per character, so that its weights were not read as they are meant. Install it again: pip install --no-deps 'textgenrnn==2.0.0'"
        raise StoreError(message)
    windows = codes[: len(codes) // WINDOW * WINDOW].reshape(-1, WINDOW)
    checks: list[Row] = [{"check": "nats per character", "found": plain, "shuffled text": shuffled}]
    return Sequences(network.lstm, network.embedding.weight, torch.from_numpy(windows), 8), checks


def _reading() -> tuple[Sequences, list[Row]]:
    """Return the first letters of words for the part of g2p-en that reads."""
    import torch

    from congruence.dynamics.studies import _shipped

    network, checks = _pronouncer()
    words = dict.fromkeys(word[:LETTERS] for word in _shipped.english_words(LETTERS))
    tokens = torch.tensor([[_shipped.LETTERS[letter] for letter in word] for word in words])
    return Sequences(network.enc, network.enc_embedding.weight, tokens, 3), checks


def _writing() -> tuple[Sequences, list[Row]]:
    """Return the first phonemes of words for the part of g2p-en that writes, which starts from the state after reading."""
    import torch

    from congruence.dynamics.studies import _shipped

    network, checks = _pronouncer()
    state = network.read(_shipped.english_words(PHONEMES))
    said = network.write(state, PHONEMES - 1)
    long = (said != _shipped.END).all(dim=1)
    start = torch.full((int(long.sum()), 1), _shipped.START)
    tokens = torch.cat([start, said[long]], dim=1)
    return Sequences(network.dec, network.dec_embedding.weight, tokens, 0, state[:, long]), checks


def _pronouncer() -> tuple[Any, list[Row]]:
    """Return the network of g2p-en, if it pronounces a word as it should."""
    from congruence.dynamics.studies import _shipped

    network, (word, expected) = _shipped.g2p(), CHECKED
    found = " ".join(network.pronounce(word))
    if found != expected:
        message = f"g2p-en pronounces '{word}' {found} instead of {expected}, so that its weights were not read as they are meant. Install it again: pip install 'g2p-en==2.1.0'"
        raise StoreError(message)
    return network, [{"check": word, "found": found}]


_SEQUENCES = {"textgenrnn": _characters, "g2p reading": _reading, "g2p writing": _writing}


def _rows(whole: Sequences, rows: Any) -> Sequences:
    """Return some of the sequences."""
    initial = None if whole.initial is None else whole.initial[:, rows]
    return whole._replace(tokens=whole.tokens[rows], initial=initial)


def unrolled(own: Sequences, start: int | None) -> Mapping[str, Any]:
    """Return the states at every step, with the token at `start` repeated to the end if that is a step."""
    from congruence.dynamics.recurrent import unroll

    tokens = own.tokens if start is None else repeat_input(own.tokens, start)
    return unroll(own.module, own.vectors.detach()[tokens], own.initial)


def compared_steps(first: int, length: int, every: int) -> list[int]:
    """Return every so many steps of long sequences and all of short ones, with the one before the last and the last."""
    return sorted({*range(first, length - 1, every if length > 2 * LETTERS else 1), length - 2, length - 1})


def starts(first: int, length: int, shares: Sequence[float]) -> list[int]:
    """Return the steps at these shares of the compared part of a sequence."""
    return list(dict.fromkeys(first + int(share * (length - first)) for share in shares))


def _chance(first: Any, last: Any) -> float:
    """Return the CCA of a step with a later one of other sequences: what unrelated states of this width give."""
    return quiet_value("cca", first, last[np.random.default_rng(0).permutation(len(last))])


# ---- tables ----------------------------------------------------------------------------------------------------------


def _line(tables: Tables, network: str, state: str, given: str, label: str) -> Row:
    """Return one line of the summary."""
    curves = _curves(tables, network, state, given, label)
    first, before = curves[:, 0], curves[:, -2]
    free = _curves(tables, network, state, TEXT, label)[:, -2]
    line: Row = {"network": network, "state": state, "input": given, "measure": label, "sets": len(curves)}
    least, most = OF_STATES[label]
    for name, values in (("first", first), ("before_last", before)):
        line |= with_ends(name, mean_interval(values, (least, most)))
    line |= with_ends("settles", mean_interval(before - free, (least - most, most - least)))
    chance = [row for row in tables["chance"] if (row["network"], row["state"]) == (network, state)]
    return {**line, "least_trend": min(map(_trend, curves)), "chance": float(column(chance, "cca").mean()) if label == "cca" else None}  # fmt: skip


def _curves(tables: Tables, network: str, state: str, given: str, label: str) -> Floats:
    """Return the similarity to the last step, shape (sets, steps)."""
    wanted = (network, state, given, label)
    rows = [r for r in tables["similarity"] if (r["network"], r["state"], r["input"], r["measure"]) == wanted]
    sets = dict.fromkeys(row["set"] for row in rows)
    return np.array([column([row for row in rows if row["set"] == k], "similarity") for k in sets])


def _trend(curve: Floats) -> float:
    """Return the rank correlation of a curve with time, without the last step; 0 if it is constant."""
    from scipy.stats import spearmanr

    values = curve[:-1]
    return 0.0 if len(set(values.tolist())) < 2 else float(spearmanr(np.arange(len(values)), values).statistic)


def _series(name: str, label: str, rows: Sequence[Row]) -> figures.Series:
    """Return the similarity to the last step over time, with its interval over sets."""
    steps = sorted({row["step"] for row in rows})
    values = [column([row for row in rows if row["step"] == step], "similarity") for step in steps]
    ends = [mean_interval(some, OF_STATES[label]) for some in values]
    mean, low, high = zip(*ends, strict=True)
    return figures.Series(name, steps, mean, low, high)
