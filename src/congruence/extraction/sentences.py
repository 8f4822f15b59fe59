"""English sentences that every Python installation carries: the prose of `pydoc_data.topics`."""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Iterator, Sequence
from pydoc_data.topics import topics

RECORDED = {
    "3.11.2": "5f2b3f7d74aa8751d1f689d3133df01304de78abbb61cd7e6297aff3705cccb3",
    "3.11.7": "4a8c67f78e0205ad443102a771294d647d353cedbc77f0bd9f491cdc4d74fb2e",
    "3.12.1": "7fdab0c944520dab8598f60a147a3df6d96e1aef5d43f11faacad1e05d85c715",
    "3.13.0": "1b367b51dacb303d702d5938c4bf5df5cf73ef1423a31aef2de17beb9e7e0776",
}
"""Hash of the list under the Python releases it was checked with; the text changes a little with every release."""

_BULLET = re.compile(r"\A(?:\*|-|\d+\.|\[\d+\])\s+")
# Grammar, interpreter sessions, tables, underlined headings and commented code.
_NOT_PROSE = re.compile(r">>>|::=|^\s*[|+*=~-]{2,}|^\s*\||  # |^\s*\.\.\.\s", re.MULTILINE)
_BOUNDARY = re.compile(
    r"(?<=[.!?])(?<!\be\.g\.)(?<!\bi\.e\.)(?<!\betc\.)(?<!\bvs\.)(?<!\bcf\.)"  # a stop, not of an abbreviation
    r"""(?:[)"”’*]*\s+(?=[(“‘*]*[A-Z]|["“]\S)|\s{2,})"""  # then a new sentence, or the two spaces some authors type
    r"|(?<=[a-z]\.)(?=[A-Z][a-z]+ )"  # notes in the documentation lose the space between two paragraphs
)
_WORD = re.compile(r"[A-Za-z]+(?:['’-][A-Za-z]+)*")
_MARKS = "\"'“”‘’()*,;:."


def python_sentences() -> list[str]:
    """Return the distinct English sentences of 5 to 100 words in `pydoc_data.topics`, in reading order by topic.

    Returns
    -------
    list of str
        About 2,100 sentences under Python 3.11; `digest` tells whether two lists are the same.
    """
    found: dict[str, None] = {}
    for _, text in sorted(topics.items()):
        for lines in _blocks(text):
            for part in _BOUNDARY.split(_joined(lines)):
                sentence = " ".join(part.split()).lstrip("(")
                if _is_sentence(sentence):
                    found.setdefault(sentence)
    return list(found)


def digest(sentences: Sequence[str]) -> str:
    """Return the SHA-256 of a list of sentences."""
    return hashlib.sha256("\n".join(sentences).encode()).hexdigest()


def notice(sentences: Sequence[str]) -> str | None:
    """Return a sentence to show if this Python's list is not the one recorded for its release, else None."""
    release, found = platform.python_version(), digest(sentences)
    recorded = RECORDED.get(release)
    if recorded == found:
        return None
    what = "no list of sentences is recorded" if recorded is None else f"the recorded list has hash {recorded[:16]}"
    return (
        f"For Python {release} {what}; this one has {len(sentences):,} sentences and hash {found[:16]}. "
        "The figures can differ a little from those in the documentation."
    )


def _blocks(text: str) -> Iterator[list[str]]:
    """Yield the paragraphs and list items of a topic that are prose."""
    lines: list[str] = []
    for line in [*text.splitlines(), ""]:
        stripped = line.strip()
        if lines and (not stripped or _BULLET.match(stripped)):
            if not _NOT_PROSE.search("\n".join(lines)):
                yield lines
            lines = []
        if stripped:
            lines.append(line)


def _joined(lines: Sequence[str]) -> str:
    """Return the lines as one text, words that were broken at a hyphen joined again."""
    text = ""
    for line in map(str.strip, lines):
        text += line if re.search(r"\w-$", text) else f" {line}"
    return _BULLET.sub("", text.strip())


def _is_sentence(text: str) -> bool:
    """Whether `text` begins and ends like a sentence, with five words that are letters only and a hundred at most."""
    if not text.endswith(".") or not (text[0].isupper() or text[0] in '"“'):
        return False
    words = text.split()  # the longest, lists in disguise, would be cut off by the encoders
    return len(words) <= 100 and sum(_WORD.fullmatch(word.strip(_MARKS)) is not None for word in words) >= 5
