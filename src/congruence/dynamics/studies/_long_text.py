"""States that are carried over a long text, in which from some place on one character is fed again and again.

Morcos et al. 2018 compare O_j, the states at the tokens j, j + 20, j + 40 ... of a text, with O_19; in Figure A4 the input
repeats after 1, 8, 24, 48 and 81 % of the tokens. What repeats, and whether the rows before count, is not known to us: here
it is the one character at that place, and all rows count. The rows from there on become constant as the states settle, and
the rows before are text, so that similarity depends on how many rows are text whether or not states settle less. So there is
beside it what *unrelated* text gives: the rows before the place are shuffled at the last step only.

Two representations of rank p that differ in N rows only (the others are alike) have p canonical correlations that are all
below 1 only if N >= 2 p: with fewer, some are 1 for any data. CCA is undefined here then, and where states do not vary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from congruence.dynamics._relabelling import Floats
from congruence.dynamics.studies._loops import LENGTH, Characters, Text
from congruence.dynamics.studies._shared import CORRELATIONS, OF_STATES, column, mean_interval, with_ends
from congruence.errors import ParameterError
from congruence.representation import Representation
from congruence.studies import Outcome, Row, Tables, Verdict

COMPARED = (0, 3, 6, 9, 12, 15, 17, 18, 19)
"""The steps of a sequence that are compared with the last."""
FILLED = 100 * LENGTH
"""Characters after which it is looked at whether states still move."""
STILL = 1e-6
"""The most that a settled state moves: hidden states are within [-1, 1], and in single precision."""
LINEAR = ("cca", "svcca")
TREND = "trend over shares"
DIFFERENCES = {name: (low - high, high - low) for name, (low, high) in OF_STATES.items()}
"""What differences of the measures lie in."""
States = list[tuple[Tensor, Tensor]]
Hidden = list[np.ndarray[Any, np.dtype[np.float32]]]


def long_text(text: Text, sequences: int) -> Tensor:
    """Return the end of the text, shape (m,), in sequences of 20, as many as asked for or as there are."""
    whole = np.concatenate((text.known, text.unseen))
    count = min(sequences, len(whole) // LENGTH)
    return torch.from_numpy(whole[len(whole) - count * LENGTH :])


def carried(model: Characters, tokens: Tensor, start: States | None) -> tuple[Hidden, States]:
    """Return the hidden states of every layer at every token, shape (m, p), and the states after the last token."""
    hidden: Hidden = []
    after: States = []
    with torch.no_grad():
        x = model.embedding(tokens[None])
        for layer in range(model.depth):
            x, state = model.get_submodule(f"lstm{layer + 1}")(x, None if start is None else start[layer])
            hidden.append(x[0].numpy())
            after.append(state)
    return hidden, after


def repeated(model: Characters, token: Tensor, count: int, start: States | None) -> Hidden:
    """Return the hidden states while one token is fed `count` times.

    States that are exactly those of a sequence before stay so, and are not computed any further.
    """
    parts: list[Hidden] = []
    left, state = count, start
    while left:
        hidden, state = carried(model, token.repeat(min(left, FILLED)), state)
        parts.append(hidden)
        left -= len(hidden[0])
        if left and _same(model, token, state):
            parts += [[one[-LENGTH:] for one in hidden]] * (left // LENGTH)
            break
    return [np.concatenate([part[layer] for part in parts]) for layer in range(model.depth)]


def _same(model: Characters, token: Tensor, state: States) -> bool:
    """Return whether hidden and cell states of all layers are exactly the same one sequence later."""
    _, later = carried(model, token.repeat(LENGTH), state)
    return all(
        torch.equal(a, b) for one, other in zip(state, later, strict=True) for a, b in zip(one, other, strict=True)
    )


@dataclass(frozen=True, eq=False)
class Shown:
    """Hidden states of one layer over the long text, shape (sequences, 20, p), of which the first `text` are text."""

    share: float | None
    layer: int
    text: int
    values: np.ndarray[Any, np.dtype[np.float32]]

    @property
    def state(self) -> str:
        """What it is called."""
        return f"hidden[{self.layer}]"

    @property
    def moving(self) -> int:
        """Sequences in which a state differs from that of the last sequence at the same step; all of them in text."""
        if self.share is None:
            return len(self.values)
        return int((np.abs(self.values - self.values[-1]).max(axis=(1, 2)) > STILL).sum())

    @property
    def settled_after(self) -> int | None:
        """How many times the token is fed until states stay what they are; None if not before the last sequence, or never fed."""
        if self.share is None:
            return None
        fed = self.values[self.text :].reshape(-1, self.values.shape[2])
        moves = np.flatnonzero(np.abs(fed - fed[-1]).max(axis=1) > STILL)
        after = int(moves[-1]) + 1 if moves.size else 0
        return after if after < len(fed) - LENGTH else None


def shown(model: Characters, tokens: Tensor, shares: Sequence[float]) -> Iterator[Shown]:
    """Yield the states over the text, and over its beginnings by `shares` with one token repeated after them.

    Raises
    ------
    ParameterError
        If the shares do not rise, or leave no text before them or nothing after them.
    """
    rows = len(tokens) // LENGTH
    places = [round(share * rows) for share in shares]
    if sorted(set(places)) != places or not places or places[0] < 1 or places[-1] >= rows:
        message = f"repeated_share must rise, and lie after the first and before the last of {rows} sequences; got {tuple(shares)}."
        raise ParameterError(message)
    parts: list[Hidden] = []
    states: list[States | None] = [None]
    for begin, end in zip([0, *places], [*places, rows], strict=True):
        hidden, state = carried(model, tokens[begin * LENGTH : end * LENGTH], states[-1])
        parts.append(hidden)
        states.append(state)
    whole = [np.concatenate([part[layer] for part in parts]) for layer in range(model.depth)]
    for layer, one in enumerate(whole):
        yield Shown(None, layer, rows, _sequences(one))
    for share, place, start in zip(shares, places, states[1:-1], strict=True):
        at = place * LENGTH
        fed = repeated(model, tokens[at : at + 1], len(tokens) - at, start)
        for layer, one in enumerate(whole):
            yield Shown(share, layer, place, _sequences(np.concatenate((one[:at], fed[layer]))))


def _sequences(hidden: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    return hidden.reshape(-1, LENGTH, hidden.shape[1])


def compared(one: Shown, last_column: Any) -> list[Row]:
    """Return the compared steps against the last: rows of share, state, measure, step, value, and of unrelated text.

    `value` is None for CCA and SVCCA where too few sequences move (see above), `unrelated` for the other measures, too.
    """
    about = {"share": one.share, "state": one.state}
    defined = one.moving >= 2 * one.values.shape[2]
    values = last_column(one.state, Representation(one.values, one.state), COMPARED)
    mixed = one.values.copy()
    order = np.random.default_rng(0).permutation(one.text)
    mixed[: one.text, -1] = one.values[order, -1]
    chance = {row["step"]: row["similarity"] for row in last_column(one.state, Representation(mixed, one.state), COMPARED, LINEAR[:1])}  # fmt: skip
    return [
        {
            **about, "measure": row["measure"], "step": row["step"],
            "value": row["similarity"] if defined or row["measure"] not in LINEAR else None,
            "unrelated": chance[row["step"]] if defined and row["measure"] == LINEAR[0] else None,
        }
        for row in values
    ]  # fmt: skip


def settling(one: Shown) -> Row:
    """Return how soon states settle: a row of share, state, sequences and how many of them move, and of the time."""
    about = {"share": one.share, "state": one.state, "sequences": len(one.values)}
    return {**about, "moving": one.moving, "settled_after": one.settled_after}


# ---- what it comes to ------------------------------------------------------------------------------------------------


def summary(tables: Tables, shares: Sequence[float]) -> list[Row]:
    """Return for every input, state and measure the mean over the compared steps before the last, and the trend over shares.

    For CCA also beyond unrelated text, (value - unrelated) / (1 - unrelated).
    """
    found: list[Row] = []
    rows = [row for row in tables["long_text"] if row["step"] != COMPARED[-1]]
    for state in dict.fromkeys(row["state"] for row in rows):
        for label in dict.fromkeys(row["measure"] for row in rows):
            own = [row for row in rows if (row["state"], row["measure"]) == (state, label)]
            for kind in ("value", "beyond unrelated") if label == LINEAR[0] else ("value",):
                table = np.array([[_mean(own, seed, share, kind) for share in (None, *shares)] for seed in _seeds(own)])
                found += _lines(table, shares, {"measure": label, "state": state, "kind": kind})
    return found


def judged(tables: Tables, shares: Sequence[float]) -> Verdict:
    """Return whether states settle less the later the input begins to repeat, by CCA.

    It is reproduced if for every state the value at the latest share is below that at the earliest one (interval over seeds),
    and still is beyond what unrelated text gives; it differs if only the values fall, or only in some states.
    """
    lines = [line for line in summary(tables, shares) if line["input"] == TREND]
    own = [line for line in lines if line["measure"] == LINEAR[0]]
    holds = [line["latest_less_earliest_high"] < 0 for line in own]
    outcome: Outcome = "reproduced" if holds and all(holds) else "differs" if any(holds) else "not reproduced"
    names = [f"{line['state']} {line['kind']}" for line in own]
    words = "; ".join(f"{name} {_words(line)}" for name, line in zip(names, own, strict=True))
    after = [row["settled_after"] for row in tables["settling"] if row["share"] is not None]
    times = [time for time in after if time is not None]
    still = f"{len(times)} of {len(after)} states stand still in the end"
    still += f", after {min(times)} to {max(times)} characters" if times else ""
    statistics = {
        f"long text {name} latest less earliest{end.replace('_', ' ')}": float(line[f"latest_less_earliest{end}"])
        for name, line in zip(names, own, strict=True)
        for end in ("", "_low", "_high")
    }
    text = f"That they settle less the later in a text the input begins to repeat: {outcome}; CCA at the latest place less that at the earliest, {words}; {still}."
    return Verdict(outcome, text, statistics)


def _words(line: Row) -> str:
    if "earliest" not in line:
        return "undefined at all places but one, or at all"
    interval = tuple(line[f"latest_less_earliest{end}"] for end in ("", "_low", "_high"))
    return "{:+.3f} ({:+.3f} to {:+.3f}".format(*interval) + f"; {line['latest']:.0%} and {line['earliest']:.0%})"


def _seeds(rows: Sequence[Row]) -> list[int]:
    return list(dict.fromkeys(row["seed"] for row in rows))


def _mean(rows: Sequence[Row], seed: int, share: float | None, kind: str) -> float:
    """Return the mean over steps; NaN if one is undefined."""
    own = [row for row in rows if (row["seed"], row["share"]) == (seed, share)]
    values = column(own, "value")
    if kind == "value":
        return float(values.mean())
    unrelated = column(own, "unrelated")
    return float(((values - unrelated) / (1 - unrelated)).mean())


def _lines(table: Floats, shares: Sequence[float], about: Row) -> list[Row]:
    """Return a line for every input and one for the trend, from numbers of shape (seeds, 1 + shares), text first."""
    inputs = ["long text", *(f"long text, repeated from {share:.0%}" for share in shares)]
    within = OF_STATES[about["measure"]] if about["kind"] == "value" else (-math.inf, 1.0)
    lines = [
        {"input": name, **about, **with_ends("mean", mean_interval(table[:, k], within))}
        for k, name in enumerate(inputs)
    ]
    known = np.flatnonzero(np.isfinite(table[:, 1:]).all(axis=0))
    trend: Row = {"input": TREND, **about, "shares": len(known)}
    if len(known) < 2:
        return [*lines, {**trend, **with_ends("latest_less_earliest", (math.nan,) * 3)}]
    latest, earliest = table[:, 1 + known[-1]], table[:, 1 + known[0]]
    trend |= {"earliest": shares[known[0]], "latest": shares[known[-1]]}
    correlations = _correlations(table[:, 1 + known], known)
    apart = DIFFERENCES[about["measure"]] if about["kind"] == "value" else (-math.inf, math.inf)
    trend |= with_ends("rank_correlation_with_share", mean_interval(correlations, CORRELATIONS))
    return [*lines, {**trend, **with_ends("latest_less_earliest", mean_interval(latest - earliest, apart))}]


def _correlations(table: Floats, order: Any) -> Floats:
    """Return the rank correlation of share and value of every seed; NaN where values do not vary."""
    from scipy.stats import spearmanr

    return np.array([spearmanr(order, row).statistic if np.ptp(row) > 0 else np.nan for row in table])
