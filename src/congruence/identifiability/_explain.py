"""The comparison of two models in words, and as a small table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from congruence.results.markup import escape

if TYPE_CHECKING:
    from congruence.identifiability._result import Identifiability

CLOSE, FAR = 0.05, 0.3
"""Where d_SVD, d_LLV and 1 - m_CCA are called close and far."""
LIKELY_SAME = 1e-3
"""Below this KL divergence, in nats an input, the distributions are called nearly equal."""


def explain(found: Identifiability) -> str:
    """Return what is close, what is not, which bound applies and whether it is vacuous."""
    parts = [
        _head(found),
        _distributions(found),
        _representations(found),
        _conclusion(found),
        _bounds(found),
        _sets(found),
    ]
    parts += [f"Read with care: {caveat.text}" for caveat in found.caveats]
    return "\n".join(parts)


def _head(found: Identifiability) -> str:
    return f"Two models, {found.n:,} inputs, {found.labels:,} labels, representations of dimension {found.dimension}."


def _distributions(found: Identifiability) -> str:
    how = "nearly equal" if found.kl_symmetric < LIKELY_SAME else "different"
    return f"Distributions: {how} in the mean (KL {found.kl:.3g} and {found.kl_reverse:.3g} nats, total variation {found.total_variation:.3g}, {found.disagreement:.1%} of the inputs with another most likely label). Log-likelihoods: {_word(found.d_llv)} (d_LLV {found.d_llv:.4g}: t1 {found.t1:.4g}, t2 {found.t2:.4g}; logit distance {found.d_logit:.4g})."


def _representations(found: Identifiability) -> str:
    return f"Representations: embeddings {_word(found.d_svd_f)} (d_SVD of Lᵀf {found.d_svd_f:.4g}, mean canonical correlation {found.m_cca_f:.4f}), unembeddings {_word(found.d_svd_g)} (d_SVD of Nᵀg {found.d_svd_g:.4g}, mean canonical correlation {found.m_cca_g:.4f}). d_fg {found.d_fg:.4g}."


def _conclusion(found: Identifiability) -> str:
    equal = found.kl_symmetric < LIKELY_SAME
    if found.d_fg < CLOSE:
        beside = "" if found.d_llv < CLOSE else ", though their log-likelihoods are not as close"
        return f"The representations are nearly the same up to a linear change of coordinates{beside}."
    if found.d_fg <= FAR:
        return "The representations are partly alike up to a linear change of coordinates."
    if equal:
        return "Nearly the same probabilities, and representations that no linear map turns into each other: a small KL divergence does not imply similar representations."
    return "The representations differ by more than a linear change of coordinates."


def _bounds(found: Identifiability) -> str:
    if found.bound < 1:
        first = f"The bound d_fg <= 2 M d_LLV = {found.bound:.4g} applies: d_fg could not be larger."
    else:
        first = f"The bound d_fg <= 2 M d_LLV = {found.bound:.4g} is vacuous (d_fg is at most 1): d_LLV would have to be below {1 / (2 * found.dimension):.4g}."
    sharper = (
        f"{side} <= 2 {term}² = {bound:.4g}{' (vacuous)' if bound >= 1 else ''}"
        for side, term, bound in (("embeddings", "t1", found.bound_f), ("unembeddings", "t2", found.bound_g))
    )
    return f"{first} On the same sets more sharply: {', '.join(sharper)}."


def _sets(found: Identifiability) -> str:
    left_out = "no label left out" if found.left_out_label is None else f"label {found.left_out_label} left out"
    inputs = f"input {found.input_set[0]} as pivot and {_few(found.input_set[1:])}"
    return f"Sets: label {found.label_pivot} as pivot, {left_out}; {inputs}. Condition numbers of L {found.condition_l[0]:.3g} and {found.condition_l[1]:.3g}, of N {found.condition_n[0]:.3g} and {found.condition_n[1]:.3g}."


def _few(members: tuple[int, ...], most: int = 6) -> str:
    shown = ", ".join(map(str, members[:most]))
    return shown if len(members) <= most else f"{shown}, ... ({len(members)})"


def _word(distance: float) -> str:
    return "close" if distance < CLOSE else "far apart" if distance > FAR else "some way apart"


def render_html(found: Identifiability) -> str:
    """Return a table of the numbers with the explanation below."""
    rows = (
        ("distributions", "KL", found.kl),
        ("", "KL, reversed", found.kl_reverse),
        ("", "Jensen-Shannon", found.jsd),
        ("", "total variation", found.total_variation),
        ("", "disagreement", found.disagreement),
        ("log-likelihoods", "d_LLV", found.d_llv),
        ("", "logit distance", found.d_logit),
        ("representations", "m_CCA of f", found.m_cca_f),
        ("", "m_CCA of g", found.m_cca_g),
        ("", "d_SVD of Lᵀf", found.d_svd_f),
        ("", "d_SVD of Nᵀg", found.d_svd_g),
        ("", "d_fg", found.d_fg),
        ("", "bound 2 M d_LLV", found.bound),
    )
    cells = "".join(
        f"<tr><td>{escape(group)}</td><td>{escape(name)}</td><td style='text-align:right'>{value:.5g}</td></tr>"
        for group, name, value in rows
    )
    words = "".join(f"<p>{escape(line)}</p>" for line in explain(found).splitlines())
    return f"<div style='font-variant-numeric:tabular-nums'><table><tbody>{cells}</tbody></table>{words}</div>"
