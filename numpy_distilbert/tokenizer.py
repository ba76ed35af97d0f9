"""Text to token ids: BERT's WordPiece tokenizer, with the place of every piece in the text as given.

split → normalise → WordPiece → pairs and windows. The published tokenizers normalise first. Here the text is split
first, which comes to the same because no rule of BERT's normaliser looks across the end of a word, and which lets
each distinct word be analysed once and remembered.

Source: Devlin et al. 2018 and its tokenization.py; where that leaves room, the behaviour matched is that of the
Hugging Face tokenizers library (BertNormalizer, BertPreTokenizer, WordPiece), which transformers uses.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import regex

from . import checkpoint
from .arguments import check_integer, check_text
from .checkpoint import CheckpointError

MAX_WORD_LENGTH = 100  # characters; a longer word is one [UNK]
REMEMBERED_WORDS = 1 << 16
MIN_WINDOW = 4  # [CLS], two [SEP] and a token of the context

# Each is the inside of a regular expression's character class. Cc counts as whitespace only for \t \n \r.
WHITESPACE = r"\t\n\r\p{Zs}\p{Zl}\p{Zp}"
PUNCTUATION = r"!-/:-@\[-`{-~\p{P}"
CJK = (
    r"\u3400-\u4DBF\u4E00-\u9FFF\uF900-\uFAFF"
    r"\U00020000-\U0002A6DF\U0002A700-\U0002B81F\U0002B920-\U0002CEAF\U0002F800-\U0002FA1F"
)
# Punctuation once its accent is stripped (≠ becomes =), so it stands alone when accents are.
ACCENTED_PUNCTUATION = r"\u037E\u0387\u1FEF\u2260\u226E\u226F"
# Removed: control, format, private use, the replacement character, and lone surrogates, which count as one.
REMOVED = regex.compile(r"[[\p{Cc}\p{Cf}\p{Co}\p{Cs}\uFFFD]--[\t\n\r]]", regex.V1)


@dataclass(frozen=True)
class Encoding:
    """A text, or a pair of texts, as the model reads it: lists of one length, an item a token.

    ids: places in the vocabulary. offsets: (start, end) in characters of the text the token is from. word_ids: which
    word of that text, counted from 0. sequence_ids: 0 for the text, 1 for its pair. At the [CLS] and [SEP] that were
    added, offsets are (0, 0), word and sequence ids None. As the Encoding of the tokenizers library.
    """

    ids: list[int]
    offsets: list[tuple[int, int]]
    word_ids: list[int | None]
    sequence_ids: list[int | None]
    pieces: Mapping[int, str] = field(repr=False, compare=False)  # of the tokenizer, by id

    @property
    def tokens(self) -> list[str]:
        """The pieces behind the ids, continuations with their ##."""
        return [self.pieces[i] for i in self.ids]


class Word(NamedTuple):
    """The pieces of a word: their ids, and their (start, end) in characters from the beginning of the word."""

    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]


class Tokens(NamedTuple):
    """A text without [CLS] and [SEP]; the lists are those of Encoding."""

    ids: list[int]
    offsets: list[tuple[int, int]]
    word_ids: list[int]

    def cut(self, start: int, stop: int) -> "Tokens":
        return Tokens(self.ids[start:stop], self.offsets[start:stop], self.word_ids[start:stop])


class Tokenizer:
    """WordPiece with BERT's normalisation. It may be shared by threads."""

    def __init__(
        self,
        vocab: Mapping[str, int],
        lowercase: bool = True,
        strip_accents: bool | None = None,
        tokenize_chinese_chars: bool = True,
        model_max_length: int | None = None,
    ) -> None:
        """vocab: pieces to ids, [UNK], [CLS] and [SEP] among them; strip_accents: None means as lowercase.

        model_max_length: the longest input of the model in tokens, None if unknown; kept for callers, never enforced.
        Raises TypeError or ValueError if vocab is not a mapping of pieces to ids of their own, CheckpointError if one of
        the three special tokens is missing.
        """
        if not isinstance(vocab, Mapping):
            raise TypeError(f"vocab must be a mapping of pieces to ids, got {type(vocab).__name__}.")
        if len(set(vocab.values())) < len(vocab) or not all(type(i) is int and i >= 0 for i in vocab.values()):
            raise ValueError("vocab must give every piece an id of its own, an int from 0 up.")
        for token in ("[UNK]", "[CLS]", "[SEP]"):
            if token not in vocab:
                raise CheckpointError(f"no {token} among the pieces. This is not the vocabulary of a BERT tokenizer.")
        self.vocab = dict(vocab)
        self.lowercase = lowercase
        self.strip_accents = lowercase if strip_accents is None else strip_accents
        self.tokenize_chinese_chars = tokenize_chinese_chars
        self.model_max_length = model_max_length
        self._pieces = {i: piece for piece, i in self.vocab.items()}
        self._longest_piece = max(map(len, self.vocab))
        special = [token for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if token in vocab]
        alone = PUNCTUATION + CJK * tokenize_chinese_chars + ACCENTED_PUNCTUATION * self.strip_accents
        self._split = regex.compile(
            rf"{'|'.join(map(regex.escape, special))}|[{alone}]|[^{alone}{WHITESPACE}]+", regex.V0
        )
        self._special = {token: Word((self.vocab[token],), ((0, len(token)),)) for token in special}
        self._analyse = lru_cache(REMEMBERED_WORDS)(self._analyse_word)

    @classmethod
    def from_pretrained(cls, path: str | PathLike[str] | None = None) -> "Tokenizer":
        """Read vocab.txt and tokenizer_config.json of a folder, or with None of the embedded checkpoint.

        do_lower_case is true when absent, as in transformers' DistilBertTokenizer. Raises CheckpointError if a file
        cannot be read or is not what it should be.
        """
        folder = checkpoint.find(path)
        settings = _read_settings(folder / "tokenizer_config.json")
        vocab = checkpoint.read_vocabulary(folder / "vocab.txt")
        try:
            return cls(
                vocab,
                lowercase=settings["do_lower_case"],
                strip_accents=settings["strip_accents"],
                tokenize_chinese_chars=settings["tokenize_chinese_chars"],
                model_max_length=settings["model_max_length"],
            )
        except CheckpointError as error:
            raise CheckpointError(f"{folder / 'vocab.txt'}: {error}") from None

    def __call__(self, text: str, pair: str | None = None) -> Encoding:
        """[CLS] text [SEP], and with a pair [CLS] text [SEP] pair [SEP]. Never truncates.

        Raises TypeError if text or pair is not a str.
        """
        check_text("text", text)
        if pair is None:
            return self._encoding(self._tokens(text))
        check_text("pair", pair)
        return self._encoding(self._tokens(text), self._tokens(pair))

    def windows(
        self,
        question: str,
        context: str,
        max_length: int = 384,
        stride: int = 128,
        max_question_length: int | None = None,
    ) -> list[Encoding]:
        """Question and context as pairs of at most max_length tokens, each repeating stride tokens of the one before.

        The question keeps its first max_question_length tokens, and never so many that no token of the context fits
        beside it. stride is cut to what leaves each window a token of its own. At least one window, even for a context
        without tokens. Lengths count [CLS] and [SEP]. As truncation="only_second" with overflow in transformers.
        Raises TypeError or ValueError that names the argument.
        """
        check_text("question", question)
        check_text("context", context)
        max_length = check_integer("max_length", max_length, MIN_WINDOW)
        stride = check_integer("stride", stride, 0)
        if max_question_length is None:
            max_question_length = max_length
        max_question_length = check_integer("max_question_length", max_question_length, 1)
        room = max_length - 3
        asked = self._tokens(question).cut(0, min(max_question_length, room - 1))
        room -= len(asked.ids)
        step = max(1, room - stride)
        text = self._tokens(context)
        starts = range(0, max(1, len(text.ids) - room + step), step)
        return [self._encoding(asked, text.cut(start, start + room)) for start in starts]

    def _tokens(self, text: str) -> Tokens:
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        word_ids: list[int] = []
        words = 0
        for match in self._split.finditer(text):
            word, at = match.group(), match.start()
            analyse = self._analyse if len(word) <= MAX_WORD_LENGTH else self._analyse_word  # remembers no giants
            found = self._special.get(word) or analyse(word)
            if found.ids:
                ids += found.ids
                offsets += [(at + start, at + end) for start, end in found.spans]
                word_ids += [words] * len(found.ids)
                words += 1
        return Tokens(ids, offsets, word_ids)

    def _analyse_word(self, word: str) -> Word:
        """The longest piece first, greedily; no pieces if normalising leaves nothing of the word."""
        text, origins = self._normalise(word)
        if not text:
            return Word((), ())
        unknown = Word((self.vocab["[UNK]"],), ((origins[0], origins[-1] + 1),))
        if len(text) > MAX_WORD_LENGTH:
            return unknown
        ids, spans, start = [], [], 0
        while start < len(text):
            for end in range(min(len(text), start + self._longest_piece), start, -1):
                piece = self.vocab.get("##" * (start > 0) + text[start:end])
                if piece is not None:
                    break
            else:
                return unknown
            ids.append(piece)
            spans.append((origins[start], origins[end - 1] + 1))
            start = end
        return Word(tuple(ids), tuple(spans))

    def _normalise(self, word: str) -> tuple[str, list[int]]:
        """The word cleaned and, as set, without accents and in lower case; and the origin of each of its characters."""
        characters, origins = [], []
        for origin, character in enumerate(word):
            if REMOVED.match(character):
                continue
            for normalised in self._normalise_character(character):
                characters.append(normalised)
                origins.append(origin)
        return "".join(characters), origins

    def _normalise_character(self, character: str) -> str:
        if self.strip_accents:
            decomposed = unicodedata.normalize("NFD", character)
            character = "".join(c for c in decomposed if unicodedata.category(c) != "Mn")
        # One character at a time: str.lower of a whole word would give a final Greek sigma its own form.
        return "".join(map(str.lower, character)) if self.lowercase else character

    def _encoding(self, first: Tokens, second: Tokens | None = None) -> Encoding:
        cls, sep = self.vocab["[CLS]"], self.vocab["[SEP]"]
        ids = [cls, *first.ids, sep]
        offsets = [(0, 0), *first.offsets, (0, 0)]
        word_ids = [None, *first.word_ids, None]
        sequence_ids = [None, *[0] * len(first.ids), None]
        if second is not None:
            ids += [*second.ids, sep]
            offsets += [*second.offsets, (0, 0)]
            word_ids += [*second.word_ids, None]
            sequence_ids += [*[1] * len(second.ids), None]
        return Encoding(ids, offsets, word_ids, sequence_ids, self._pieces)


def _read_settings(path: Path) -> dict[str, Any]:
    """What tokenizer_config.json says of us, with the defaults for what is absent, be it the whole file."""
    settings = {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True, "model_max_length": None}
    given = checkpoint.read_json(path) if path.exists() else {}
    for name in settings.keys() & given.keys():
        value = settings[name] = given[name]
        if name == "model_max_length":
            # transformers writes "no limit" as an integer near 1e30
            if value is not None and (type(value) is not int or value < MIN_WINDOW):
                raise CheckpointError(f"{path}: {name} is {value!r}, needs an integer from {MIN_WINDOW} up.")
        elif type(value) is not bool and not (name == "strip_accents" and value is None):
            raise CheckpointError(f"{path}: {name} is {value!r}, needs true or false.")
    return settings
