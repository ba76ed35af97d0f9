"""BERT's normalisation of a word: cleaned, without accents, in lower case, and where each character came from.

Source: BertNormalizer of the Hugging Face tokenizers library, whose tables are in tables.py.
"""

import unicodedata
from collections import deque
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import groupby, islice
from typing import NamedTuple

import regex

from .tables import LOWER_LETTERS, NONSPACING, REMOVED, SETTLED, UPPER_LETTERS, WHITESPACE

is_dropped = regex.compile(f"[{REMOVED}{WHITESPACE}]").match
is_nonspacing = regex.compile(f"[{NONSPACING}]").match
is_settled = regex.compile(f"[{SETTLED}]").match
newer_lower_case = dict(zip(UPPER_LETTERS, LOWER_LETTERS, strict=True))
Origins = Iterable[tuple[str, int]]  # characters with where each was in the text


class Piece(NamedTuple):
    """A character of a decomposition, whether it is not the first of it, and the class that marks are sorted by."""

    character: str
    is_added: bool
    combining_class: int


def normalise(text: str, strip_accents: bool, lowercase: bool, most: int) -> tuple[str, list[int]]:
    """A word without white space and control characters and, if so set, without accents and in lower case.

    Also returns where each of its characters was in text. If there are more than most, only the first most and
    the last are returned: a few megabytes of memory, however long the word is.
    """
    kept = list(islice(_characters(text, 0, strip_accents, lowercase), most + 1))
    if len(kept) > most:
        kept[most] = _last(text, strip_accents, lowercase)
    return "".join(c for c, _ in kept), [origin for _, origin in kept]


def _characters(text: str, first: int, strip_accents: bool, lowercase: bool) -> Iterator[tuple[str, int]]:
    """The normalised characters of a part of a word, which begins at first, with their origins in the word."""
    characters: Origins = ((c, origin) for origin, c in enumerate(text, first) if not is_dropped(c))
    if strip_accents:
        characters = ((c, origin) for c, origin in decompose(characters) if not is_nonspacing(c))
    if lowercase:
        characters = ((low, origin) for c, origin in characters for low in lower(c))
    return iter(characters)


def _last(text: str, strip_accents: bool, lowercase: bool) -> tuple[str, int]:
    """The last character of a normalised word. Nothing moves across a character that stays where it is."""
    start, found = len(text), deque[tuple[str, int]]()
    while not found:
        end, start = start, start - 1
        while start > 0 and (is_dropped(text[start]) or pieces(text[start])[0].combining_class > 0):
            start -= 1
        found = deque(_characters(text[start:end], start, strip_accents, lowercase), 1)
    return found[0]


def decompose(characters: Origins) -> Iterator[tuple[str, int]]:
    """Canonical decomposition (Unicode's NFD) of characters with their origins.

    Where marks change places, the reference's rule applies: origins stay where they were, and a character added by a
    decomposition takes the origin of the one it follows.
    """
    origins: deque[int] = deque()  # of characters that have been read but not yet given

    def read() -> Iterator[Piece]:
        for character, origin in characters:
            origins.append(origin)
            yield from pieces(character)

    for is_mark, run in groupby(read(), key=lambda piece: piece.combining_class > 0):
        for c, is_added, _ in sorted(run, key=lambda piece: piece.combining_class) if is_mark else run:
            if not is_added:
                origin = origins.popleft()
            yield c, origin


@lru_cache(2**14)  # all Hangul; and so that a long run of marks is a list of a few objects
def pieces(character: str) -> tuple[Piece, ...]:
    """What a character decomposes to."""
    decomposed = unicodedata.normalize("NFD", character) if is_settled(character) else character
    return tuple(Piece(c, place > 0, combining_class(c)) for place, c in enumerate(decomposed))


def combining_class(c: str) -> int:
    """What canonical decomposition sorts marks by; 0 for a character that stays where it is."""
    return unicodedata.combining(c) if is_settled(c) else 0


def lower(c: str) -> str:
    """A character in lower case. One at a time, as in a word str.lower gives a final Greek sigma its own form."""
    return newer_lower_case.get(c) or (c.lower() if is_settled(c) else c)
