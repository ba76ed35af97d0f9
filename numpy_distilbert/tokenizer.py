"""Text to token ids and back: BERT's WordPiece tokenizer, with the place of every piece in the original text.

split → normalise → WordPiece → pairs and windows. The published tokenizers normalise first. Here the text is split
first. The result is the same, because no rule of BERT's normaliser looks past the end of a word, and each distinct
word can be analysed once and remembered: that, and splitting with one regular expression, is what makes it fast.

Source: Devlin et al. 2018 and its tokenization.py; what that leaves open is decided as in the Hugging Face tokenizers
library (BertNormalizer, BertPreTokenizer, WordPiece), which transformers uses.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import NamedTuple

import regex

from .arguments import check_bool, check_integer, check_text
from .checkpoint import Checkpoint, CheckpointError
from .unicode.normalise import normalise
from .unicode.tables import ACCENTED_PUNCTUATION, CJK, PUNCTUATION, WHITESPACE

MAX_WORD_LENGTH = 100  # characters; a longer word is one [UNK]
REMEMBERED_PIECES = 1 << 17  # in all words together, which bounds the memory they take
MAX_SPECIAL_TOKENS = 1000  # each of at most MAX_WORD_LENGTH characters, as every text is searched for them
MIN_WINDOW = 4  # [CLS], two [SEP] and a token of the context
# What decode() replaces in each piece with the space before it: the reference's pairs, in its order.
TIDIED = (
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"),
    (" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
)  # fmt: skip
Span = tuple[int, int]  # start and end in characters
Word = tuple[tuple[int, ...], tuple[Span, ...]]  # ids of its pieces, and their spans from the beginning of the part


@dataclass(frozen=True)
class Encoding:
    """A text, or a pair of texts, as the model reads it: lists with one item per token.

    ids: places in the vocabulary. offsets: (start, end) in characters of the text the token is from. word_ids: which
    word of that text, counted from 0. sequence_ids: 0 for the text, 1 for its pair. At the [CLS] and [SEP] that were
    added, offsets are (0, 0), word and sequence ids None. The same as Encoding in the tokenizers library.
    """

    ids: list[int]
    offsets: list[Span]
    word_ids: list[int | None]
    sequence_ids: list[int | None]
    pieces: Mapping[int, str] = field(repr=False, compare=False)  # of the tokenizer, by id

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def tokens(self) -> list[str]:
        """The piece of every id; one that continues a word begins with ##."""
        return [self.pieces[i] for i in self.ids]

    def char_to_token(self, position: int, sequence: int = 0) -> int | None:
        """Index of the token with a character of the text (sequence 0) or its pair (1); None between tokens."""
        tokens = enumerate(zip(self.offsets, self.sequence_ids, strict=True))
        return next((i for i, ((start, end), of) in tokens if start <= position < end and of == sequence), None)


class Pieces(NamedTuple):
    """A text without [CLS] and [SEP]; the lists are those of Encoding."""

    ids: list[int]
    offsets: list[Span]
    word_ids: list[int]

    def slice(self, start: int, stop: int) -> "Pieces":
        """The pieces from start up to stop."""
        return Pieces(self.ids[start:stop], self.offsets[start:stop], self.word_ids[start:stop])


class Tokenizer:
    """WordPiece with BERT's normalisation. Threads may share it."""

    def __init__(
        self,
        vocab: Mapping[str, int],
        lowercase: bool = True,
        strip_accents: bool | None = None,
        tokenize_chinese_chars: bool = True,
        model_max_length: int | None = None,
        unk_token: str = "[UNK]",
        cls_token: str = "[CLS]",
        sep_token: str = "[SEP]",
        pad_token: str = "[PAD]",
        mask_token: str = "[MASK]",
        added_tokens: Mapping[str, int] | None = None,
        split_special_tokens: bool = False,
    ) -> None:
        """vocab: pieces to ids, with unk_token, cls_token and sep_token; strip_accents: None means only if lowercase.

        model_max_length: the longest input of the model in tokens, None if unknown; kept for callers, never enforced.
        added_tokens: further special tokens with their ids. split_special_tokens: treat special tokens in a text as
        plain text, so that a hostile document cannot forge a separator.
        Raises TypeError for an argument of the wrong type, ValueError if two pieces have one id or a piece has two,
        CheckpointError if one of the first three special tokens is missing.
        """
        if not isinstance(vocab, Mapping):
            raise TypeError(f"vocab must be a mapping of pieces to ids, got {type(vocab).__name__}.")
        self.lowercase, self.tokenize_chinese_chars = lowercase, tokenize_chinese_chars
        self.strip_accents = lowercase if strip_accents is None else strip_accents
        self.split_special_tokens, self.model_max_length = split_special_tokens, model_max_length
        for name in ("lowercase", "strip_accents", "tokenize_chinese_chars", "split_special_tokens"):
            check_bool(name, getattr(self, name))
        self.vocab = dict(vocab)
        self.special_tokens = dict(added_tokens or {})
        for token in (unk_token, cls_token, sep_token, pad_token, mask_token):
            if token in vocab:
                self.special_tokens.setdefault(token, vocab[token])
            elif token not in self.special_tokens and token in (unk_token, cls_token, sep_token):
                raise CheckpointError(f"no {token} among the pieces. This is not the vocabulary of a BERT tokenizer.")
        self._pieces: dict[int, str] = {}  # by id
        for piece, i in (*self.vocab.items(), *self.special_tokens.items()):
            if type(piece) is not str or type(i) is not int:
                raise TypeError(f"vocab must map str to int, got {piece!r:.40}: {i!r:.40}.")
            if i < 0 or self._pieces.setdefault(i, piece) != piece or self.vocab.get(piece, i) != i:
                raise ValueError(f"vocab must give every piece an id of its own from 0 up, {piece!r:.40} has {i}.")
        if len(self.special_tokens) > MAX_SPECIAL_TOKENS:
            raise ValueError(f"at most {MAX_SPECIAL_TOKENS} added_tokens are allowed, got {len(self.special_tokens)}.")
        if not all(0 < len(token) <= MAX_WORD_LENGTH for token in self.special_tokens):
            raise ValueError(f"added_tokens must each have from 1 to {MAX_WORD_LENGTH} characters.")
        self.unk_id, self._cls, self._sep = (self.special_tokens[token] for token in (unk_token, cls_token, sep_token))
        self._continuations = {piece[2:]: i for piece, i in self.vocab.items() if piece.startswith("##")}
        self._longest_piece = max(map(len, self.vocab), default=0)
        self._split_special = None if split_special_tokens else special_pattern(self.special_tokens)
        self._split_words = word_pattern(tokenize_chinese_chars, self.strip_accents)
        self._words: dict[str, Word] = {}
        self._remembered = 0

    def __repr__(self) -> str:
        return f"Tokenizer({len(self._pieces)} pieces, {'uncased' if self.lowercase else 'cased'})"

    @classmethod
    def from_pretrained(
        cls,
        path: str | PathLike[str] | Checkpoint | None = None,
        revision: str | None = None,
        *,
        split_special_tokens: bool | None = None,
    ) -> "Tokenizer":
        """Load the tokenizer of a checkpoint: a folder, a hub id, or None for the embedded one.

        The pieces are those in tokenizer.json if present, else in vocab.txt. Settings are those in
        tokenizer_config.json, else in tokenizer.json, else the defaults, among them do_lower_case true as in
        transformers' DistilBertTokenizer; split_special_tokens, if given, overrides them. path, revision: see
        Checkpoint. Raises CheckpointError if a file cannot be read or is not what it should be.
        """
        file, settings = Checkpoint(path, revision).tokenizer
        if split_special_tokens is not None:
            settings["split_special_tokens"] = split_special_tokens
        try:
            return cls(**settings)
        except (TypeError, ValueError) as error:  # CheckpointError is one
            raise CheckpointError(f"{file}: {error}") from None

    def __call__(self, text: str, pair: str | None = None) -> Encoding:
        """[CLS] text [SEP], and with a pair [CLS] text [SEP] pair [SEP]. Never truncates.

        Raises TypeError if text or pair is not a str.
        """
        sequences = {"text": text} if pair is None else {"text": text, "pair": pair}
        for name, sequence in sequences.items():
            check_text(name, sequence)
        return self.join(*map(self.pieces, sequences.values()))

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
        beside it. stride is reduced until each window adds a token to the one before. At least one window, even for a
        context without tokens. Lengths count [CLS] and [SEP]. Like truncation="only_second" with overflow in
        transformers. Raises TypeError or ValueError that names the argument.
        """
        return list(self.iter_windows(question, context, max_length, stride, max_question_length))

    def iter_windows(
        self, question: str, context: str, max_length: int, stride: int, max_question_length: int | None
    ) -> Iterator[Encoding]:
        """The same windows one at a time, as all those of a long text take much memory. The call raises the errors."""
        check_text("question", question)
        check_text("context", context)
        max_length = check_integer("max_length", max_length, MIN_WINDOW)
        stride = check_integer("stride", stride, 0)
        asked_length = max_length if max_question_length is None else max_question_length
        asked_length = check_integer("max_question_length", asked_length, 1)
        room = max_length - 3
        asked = self.pieces(question).slice(0, min(asked_length, room - 1))
        room -= len(asked.ids)
        step = max(1, room - stride)
        text = self.pieces(context)
        starts = range(0, max(1, len(text.ids) - room + step), step)
        return (self.join(asked, text.slice(start, start + room)) for start in starts)

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = True) -> str:
        """The text of ids, as far as pieces can tell: a space between words, none before full stops and the like.

        Special tokens are left out or kept. The same as Tokenizer.decode in the tokenizers library, except that an id
        outside the vocabulary raises ValueError.
        """
        text: list[str] = []
        for i in ids:
            if i not in self._pieces:
                raise ValueError(f"ids must be ids of the vocabulary, got {i!r}.")
            piece = self._pieces[i]
            if skip_special_tokens and piece in self.special_tokens:
                continue
            if text:
                piece = piece[2:] if piece.startswith("##") else f" {piece}"
            for untidy, tidy in TIDIED:
                piece = piece.replace(untidy, tidy)
            text.append(piece)
        return "".join(text)

    def pieces(self, text: str) -> Pieces:
        """The pieces of a text, without [CLS] and [SEP]."""
        ids, offsets, word_ids = Pieces([], [], [])
        n_words, position, remembered = 0, 0, self._words
        for part in self._parts(text):
            pieces, spans = remembered.get(part) or self._analyse(part)
            if pieces:
                ids += pieces
                for start, end in spans:
                    offsets.append((position + start, position + end))
                    word_ids.append(n_words)
                n_words += 1
            position += len(part)
        return Pieces(ids, offsets, word_ids)

    def join(self, *sequences: Pieces) -> Encoding:
        """One or two texts as the model reads them: [CLS] first, and [SEP] after each."""
        encoding = Encoding([self._cls], [(0, 0)], [None], [None], self._pieces)
        for i, pieces in enumerate(sequences):
            encoding.ids.extend((*pieces.ids, self._sep))
            encoding.offsets.extend((*pieces.offsets, (0, 0)))
            encoding.word_ids.extend((*pieces.word_ids, None))
            encoding.sequence_ids.extend((*[i] * len(pieces.ids), None))
        return encoding

    def _parts(self, text: str) -> list[str]:
        """The text cut into words (each with the space before it), other white space and special tokens."""
        if self._split_special is None:
            return self._split_words.findall(text)
        segments = enumerate(self._split_special.split(text))
        return [part for i, text in segments for part in ([text] if i % 2 else self._split_words.findall(text))]

    def _analyse(self, part: str) -> Word:
        """The pieces of a part, remembered unless it is very long; none for white space."""
        if self._split_special is not None and part in self.special_tokens:
            word: Word = (self.special_tokens[part],), ((0, len(part)),)
        else:
            word = self._word_pieces(*self._normalise(part))
        if len(part) <= MAX_WORD_LENGTH:
            self._remembered += 1 + len(word[0])
            if self._remembered > REMEMBERED_PIECES:
                self._words.clear()
                self._remembered = 0
            self._words[part] = word
        return word

    def _word_pieces(self, text: str, origins: Sequence[int]) -> Word:
        """Cut a word into pieces, greedily the longest first. origins: where each character of text was in the part."""
        if not text:
            return (), ()
        unknown = (self.unk_id,), ((origins[0], origins[-1] + 1),)
        if len(text) > MAX_WORD_LENGTH:
            return unknown
        ids, spans, start, pieces = [], [], 0, self.vocab
        while start < len(text):
            for end in range(min(len(text), start + self._longest_piece), start, -1):
                piece = pieces.get(text[start:end])
                if piece is not None:
                    break
            else:
                return unknown
            ids.append(piece)
            spans.append((origins[start], origins[end - 1] + 1))
            start, pieces = end, self._continuations
        return tuple(ids), tuple(spans)

    def _normalise(self, part: str) -> tuple[str, Sequence[int]]:
        """The word in a part, cleaned and, if so set, without accents and lower-cased; and where each character was."""
        word = part[1:] if part[0] == " " else part
        if word.isascii() and word.isalnum():
            return word.lower() if self.lowercase else word, range(len(part) - len(word), len(part))
        return normalise(part, self.strip_accents, self.lowercase, MAX_WORD_LENGTH)


def special_pattern(special_tokens: Iterable[str]) -> regex.Pattern[str] | None:
    """The pattern that finds special tokens in a text, the longest first; None if there are none to find."""
    longest_first = sorted(special_tokens, key=len, reverse=True)
    return regex.compile(f"({'|'.join(map(regex.escape, longest_first))})") if longest_first else None


def word_pattern(tokenize_chinese_chars: bool, strip_accents: bool) -> re.Pattern[str]:
    """The pattern that cuts a text into parts: a word with the space before it, if any, or white space.

    This is the tokenizer's hot loop, hence the standard library's engine, which is faster at short matches.
    """
    alone = PUNCTUATION + CJK * tokenize_chinese_chars + ACCENTED_PUNCTUATION * strip_accents
    # The most frequent comes first, because the classes are long: plain letters, and the space that ends most words.
    other = f"[^ {WHITESPACE}{alone}]"
    return re.compile(rf" ?(?:[0-9A-Za-z]+{other}*|[{alone}]|{other}+)|[{WHITESPACE}]+")
