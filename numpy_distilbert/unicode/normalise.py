"""BERT's normalisation of a word: cleaned, without accents, in lower case, and where each character came from.

Source: BertNormalizer of the Hugging Face tokenizers library, whose tables are in tables.py.
"""

import unicodedata
from collections.abc import Iterable, Iterator
from itertools import groupby

import regex

from .tables import LOWER_LETTERS, NONSPACING, REMOVED, SETTLED, UPPER_LETTERS, WHITESPACE

is_dropped = regex.compile(f"[{REMOVED}{WHITESPACE}]").match
is_nonspacing = regex.compile(f"[{NONSPACING}]").match
is_settled = regex.compile(f"[{SETTLED}]").match
newer_lower_case = dict(zip(UPPER_LETTERS, LOWER_LETTERS, strict=True))


def normalise(text: str, strip_accents: bool, lowercase: bool) -> tuple[str, list[int]]:
    """A word without white space and control characters and, if so set, without accents and in lower case.

    Also returns where each of its characters was in text.
    """
    characters = [(c, origin) for origin, c in enumerate(text) if not is_dropped(c)]
    if strip_accents:
        characters = [(c, origin) for c, origin in decompose(characters) if not is_nonspacing(c)]
    if lowercase:
        characters = [(low, origin) for c, origin in characters for low in lower(c)]
    return "".join(c for c, _ in characters), [origin for _, origin in characters]


def decompose(characters: Iterable[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    """Canonical decomposition (Unicode's NFD) of characters with their origins.

    Where marks change places, the reference's rule applies: origins stay where they were, and a character added by a
    decomposition takes the origin of the one it follows.
    """
    pieces = []  # character, whether a decomposition has added it
    origins = []
    for character, origin in characters:
        origins.append(origin)
        decomposed = unicodedata.normalize("NFD", character) if is_settled(character) else character
        pieces += [(c, place > 0) for place, c in enumerate(decomposed)]
    unused = iter(origins)
    for is_mark, run in groupby(pieces, key=lambda piece: combining_class(piece[0]) > 0):
        for c, is_added in sorted(run, key=lambda piece: combining_class(piece[0])) if is_mark else run:
            if not is_added:
                origin = next(unused)
            yield c, origin


def combining_class(c: str) -> int:
    """What canonical decomposition sorts marks by; 0 for a character that stays where it is."""
    return unicodedata.combining(c) if is_settled(c) else 0


def lower(c: str) -> str:
    """A character in lower case. One at a time, as in a word str.lower gives a final Greek sigma its own form."""
    return newer_lower_case.get(c) or (c.lower() if is_settled(c) else c)
