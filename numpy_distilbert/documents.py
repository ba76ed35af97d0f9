"""One question, many documents: which passages to read, and whose answer wins.

Documents are cut into passages. BM25 ranks them by the word pieces they share with the question, and the model reads
the most promising. There, each span of whole words has a margin over "no answer", for which [CLS] stands:

    m = start logit + end logit - both logits of [CLS] + PRIOR * (fit - NEUTRAL)

where fit, from 0 to 1, is what BM25 says of the passage. Over the spans of all passages that were read,

    score = exp(m) / (1 + sum of exp(m))

in which the 1 is "no answer". So the spans of different passages can be compared, as the pipeline's probabilities
within a window cannot, and a text does not win because it is frequent. A checkpoint may have a calibration, which
shifts and scales m. docs/documents.md says what that reaches.

Sources: Devlin et al. 2018, section 4.3 (the margin); Clark and Gardner 2018 (one softmax over all passages); Robertson
and Zaragoza 2009 (BM25).
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from .arguments import Array, Ids, check_integer, check_not_blank, check_text, check_type
from .inputs import Settings
from .spans import Answer, Answers, disjoint_spans, word_span_logits
from .tokenizer import Encoding, Pieces, Tokenizer

# Chosen on articles of SQuAD's training file by benchmarks/documents.py
PASSAGE_TOKENS = 288
PRIOR, NEUTRAL = 30.0, 0.45  # how much the fit of a passage counts, and the one that speaks neither for nor against it
K1, B = 1.2, 0.75  # of BM25, as is usual
WITHIN_A_WORD, BETWEEN_WORDS, SENTENCE, PARAGRAPH = range(4)  # places to cut, the best last
SENTENCE_OR_LINE_END = re.compile(r"[.!?][\"'”’)\]]*\s+|\n")
BLANK_LINE = re.compile(r"\n[^\S\n]*\n\s*")
Name = int | str


class Passage(NamedTuple):
    """A part of a document that the model reads at once, as a range among the tokens of all documents."""

    document: Name
    start: int
    stop: int


class Documents:
    """Texts tokenized once and cut into passages, for any number of questions. Threads may share them."""

    def __init__(
        self,
        documents: str | Sequence[str] | Mapping[str, str],
        tokenizer: Tokenizer,
        passage_tokens: int = PASSAGE_TOKENS,
    ) -> None:
        """documents: a text, texts, or texts by name; tokenizer: that of the QuestionAnswerer that is to be asked.

        passage_tokens: the most that a passage has, see cut().
        Raises TypeError or ValueError if there are none, or if one, which it names, is blank or not a text.
        """
        check_type("tokenizer", tokenizer, Tokenizer)
        self.tokenizer, self.passage_tokens = tokenizer, check_integer("passage_tokens", passage_tokens, 1)
        self.texts = read_documents(documents)
        self.passages: list[Passage] = []
        arrays = []
        n_tokens = 0
        for name, text in self.texts.items():
            pieces = tokenizer.pieces(text)
            spans = np.fromiter(chain.from_iterable(pieces.offsets), np.int32).reshape(-1, 2)
            arrays.append((np.array(pieces.ids, np.int32), spans, np.array(pieces.word_ids, np.int32)))
            passages = cut(text, *arrays[-1][1:], self.passage_tokens)
            self.passages += (Passage(name, n_tokens + start, n_tokens + stop) for start, stop in passages)
            n_tokens += len(pieces.ids)
        self.ids, self.offsets, self.words = map(np.concatenate, zip(*arrays, strict=True))

    def __repr__(self) -> str:
        return f"Documents({len(self.texts)} texts, {len(self.passages)} passages, {len(self.ids)} tokens)"

    def fit(self, terms: Iterable[int]) -> Array:
        """How well each passage fits a question, from 0 to 1, (passages,): see bm25(). terms: its token ids."""
        places = np.array([passage[1:] for passage in self.passages], int).reshape(-1, 2)
        scores, bound = bm25(terms, self.ids, *places.T)
        return scores / (bound or 1.0)  # 0 for a question without tokens

    @property
    def unknown(self) -> float:
        """The share of their tokens that are [UNK]."""
        return float(np.mean(self.ids == self.tokenizer.unk_id)) if len(self.ids) else 0.0


class Found(Answers[Answer]):
    """The answers to a question, best first. no_answer: the score of "no answer", from 0 to 1."""

    def __init__(self, answers: Iterable[Answer], no_answer: float) -> None:
        super().__init__(answers)
        self.no_answer = no_answer

    @property
    def best(self) -> Answer | None:
        """The first answer, or None if "no answer" is more probable."""
        return self[0] if self and self[0].score > self.no_answer else None

    def _repr_html_(self) -> str:
        unlikely = f"<div><em>Probably not in this text.{' Nearest:' * bool(self)}</em></div>"
        return unlikely * (self.best is None) + super()._repr_html_() * bool(self)


def read_documents(documents: object) -> dict[Name, str]:
    """The texts by name or index, checked. Raises as Documents."""
    if isinstance(documents, str):
        documents = [documents]
    if not isinstance(documents, Mapping | Sequence) or isinstance(documents, bytes):
        raise TypeError(f"documents must be a str, or a sequence or mapping of str, got {type(documents).__name__}.")
    named = dict(documents if isinstance(documents, Mapping) else enumerate(documents))
    if not named:
        raise ValueError("documents must hold at least one text.")
    for name, text in named.items():
        if isinstance(documents, Mapping):
            check_text(f"the name {name!r:.40} of a document", name)
        check_not_blank(f"document {name!r:.40}", text)
    return named


def cut(text: str, offsets: Ids, words: Ids, length: int) -> Iterator[tuple[int, int]]:
    """The passages of a text, of at most length tokens each: from which token to which.

    offsets: (tokens, 2), the characters of each token; words: (tokens,), which word it is of. A text that is not
    longer is one passage. Else each has at most three quarters of length, as shorter ones are easier to tell apart, and
    ends at the last blank line in its second half, or else at the last end of a sentence or line there, or else between
    two words, or else, in a very long word, anywhere. If that is inside a paragraph, the next passage repeats at most a
    quarter of those three quarters.
    """
    if len(words) > length:
        length = max(1, 3 * length // 4)
    quality = np.full(len(words) + 1, BETWEEN_WORDS)  # of a cut before each token, and behind the last
    quality[1:-1][words[1:] == words[:-1]] = WITHIN_A_WORD
    for kind, pattern in ((SENTENCE, SENTENCE_OR_LINE_END), (PARAGRAPH, BLANK_LINE)):
        ends = [match.end() for match in pattern.finditer(text)]
        quality[np.searchsorted(offsets[:, 0], ends)] = kind
    start = 0
    while len(words) - start > length:
        middle = start + length // 2 + 1
        places = quality[middle : start + length + 1]
        best = places.max()
        stop = middle + int(np.flatnonzero(places == best)[-1])
        yield start, stop
        start = stop
        if best < PARAGRAPH:
            repeated = stop - length // 4
            start = repeated + int(np.argmax(quality[repeated : stop + 1] >= best))
    if start < len(words):
        yield start, len(words)


def bm25(terms: Iterable[int], ids: Ids, starts: Ids, stops: Ids) -> tuple[Array, float]:
    """How well passages fit a question, (passages,) float64: more, the more of its terms they share and the rarer those
    are; and a bound that no passage reaches.

    terms: of the question; ids: (tokens,); starts, stops: (passages,), where each passage begins and ends in ids.
    The sum over the terms of ln(1 + (N - n + 0.5) / (n + 0.5)) * f * (K1 + 1) / (f + K1 * (1 - B + B * length / mean))
    if n of N passages have the term, this one f times. The bound is its limit as every f grows; there, a term
    that no passage has counts as if one passage had it.
    Source: Robertson and Zaragoza 2009; the 1 in the logarithm, as in Lucene, keeps it positive.
    """
    lengths = stops - starts
    mean = lengths.sum() / max(1, len(lengths))
    damping = K1 * (1 - B + B * lengths / mean)
    scores, bound = np.zeros(len(starts)), 0.0
    for term in dict.fromkeys(terms):
        places = np.flatnonzero(ids == term)
        frequency = np.searchsorted(places, stops) - np.searchsorted(places, starts)
        n = np.count_nonzero(frequency) or 1
        rarity = np.log1p((len(starts) - n + 0.5) / (n + 0.5))
        scores += rarity * frequency * (K1 + 1) / (frequency + damping)
        bound += rarity * (K1 + 1)
    return scores, bound


class Calibration(NamedTuple):
    """Calibration of a checkpoint's scores: the margin m becomes (m - offset) / temperature.

    Fitted by training.calibration, stored in its calibration.json. Source: Guo et al. 2017, section 4.2 (temperature).
    """

    temperature: float = 1.0
    offset: float = 0.0


UNCALIBRATED = Calibration()


class PassageSpans(NamedTuple):
    """The spans of whole words of a passage."""

    document: Name
    first_word: int  # its number in the document
    margins: Array  # laid out as by word_span_logits()
    starts: Ids  # (words,), the characters each word begins and ends at
    ends: Ids


class Candidate(NamedTuple):
    """An answer with its margin: the characters from start to end of a document."""

    margin: float
    document: Name
    start: int
    end: int


class Ranking:
    """The search for one question in documents: which passages to read, and the best answers so far."""

    n_characters = 0  # of texts that it alone holds: its documents are the caller's

    def __init__(
        self,
        question: str,
        documents: Documents,
        settings: Settings,
        calibration: Calibration,
        top_k: int,
        read: int | None,
        progress: Callable[[int, int], object] = lambda *_: None,
    ) -> None:
        """settings, calibration: of the QuestionAnswerer; the others, and what is raised: see its search()."""
        check_not_blank("question", question)
        if read is not None:
            check_integer("read", read, 1)
        self._documents, self._longest = documents, min(settings.max_answer_len, documents.passage_tokens)
        self._top_k, self._progress = check_integer("top_k", top_k, 1), progress
        self._calibration = calibration
        room = max(0, settings.max_seq_len - 3 - documents.passage_tokens)
        self._question = documents.tokenizer.pieces(question).slice(0, min(settings.max_question_len, room))
        fit = documents.fit(self._question.ids)
        chosen = np.sort(np.argsort(-fit, kind="stable")[:read])
        self.passages = [documents.passages[i] for i in chosen]
        self._priors = PRIOR * (fit[chosen] - NEUTRAL)
        self._n_read = 0
        self._last: PassageSpans | None = None  # of the last passage, whose end the next one may repeat
        self._candidates: list[Candidate] = []
        self.log_sum = 0.0  # of 1 and exp(m) of every span

    def windows(self) -> Iterator[Encoding]:
        """The question with each passage to read, in the order of the texts."""
        documents = self._documents
        for _, start, stop in self.passages:
            offsets = list(map(tuple, documents.offsets[start:stop].tolist()))
            passage = Pieces(documents.ids[start:stop].tolist(), offsets, documents.words[start:stop].tolist())
            yield documents.tokenizer.join(self._question, passage)

    def add(self, window: Encoding, start_logits: Array, end_logits: Array) -> None:
        """Process the logits of the next window. start_logits, end_logits: (tokens,)."""
        document, start, stop = self.passages[self._n_read]
        words, offsets = self._documents.words[start:stop], self._documents.offsets[start:stop]
        first = np.flatnonzero(np.diff(words, prepend=-1))
        last = np.append(first[1:], len(words)) - 1
        context = slice(len(window) - 1 - len(words), -1)
        margins = word_span_logits(start_logits[context], end_logits[context], first, last, self._longest)
        margins += self._priors[self._n_read] - float(start_logits[0]) - float(end_logits[0])
        margins -= self._calibration.offset
        margins /= self._calibration.temperature
        passage = PassageSpans(document, int(words[0]), margins, offsets[first, 0], offsets[last, 1])
        before, self._last = self._last, passage
        if before is not None:
            repeated = before.first_word + len(before.margins) - passage.first_word
            if before.document != document or repeated <= 0:
                self.take(before)
            else:  # words in both: of each span the higher margin counts, and of a word that was cut the whole of it
                np.maximum(margins[:repeated], before.margins[-repeated:], out=margins[:repeated])
                before.margins[-repeated:] = -np.inf
                passage.starts[0] = before.starts[-repeated]
                self.take(before, repeated)
        self._n_read += 1
        self._progress(self._n_read, len(self.passages))

    def take(self, passage: PassageSpans, repeated: int = 0) -> None:
        """Add the spans of a passage, except those among its last words that the next one repeats."""
        document, _, margins, starts, ends = passage
        self.log_sum = float(np.logaddexp(self.log_sum, np.logaddexp.reduce(margins, axis=None)))
        choices = [margins]
        if repeated:
            # a span that reaches into the next passage may lose to one there: then what it overlaps here counts again
            words, further = np.indices(margins.shape)
            choices.append(np.where(words + further < len(margins) - repeated, margins, -np.inf))
        for choice in choices:
            spans = (Candidate(m, document, int(starts[i]), int(ends[j])) for m, i, j in disjoint_spans(choice))
            self._candidates += self._distinct(spans)

    def result(self) -> Found:
        """The answers, best first."""
        if self._last is not None:
            self.take(self._last)
            self._last = None
        best = self._distinct(sorted(self._candidates, key=lambda candidate: -candidate.margin))
        texts, total = self._documents.texts, self.log_sum
        answers = (Answer(math.exp(m - total), start, end, texts[of], document=of) for m, of, start, end in best)
        return Found(answers, math.exp(-total))

    def _distinct(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        """Of candidates, best first, the first top_k with another text than those before, at another place."""
        kept: dict[str, Candidate] = {}  # by text in lower case
        for candidate in candidates:
            _, document, start, end = candidate
            text = self._documents.texts[document][start:end].lower()
            if text not in kept and not any(document == of and start < b and a < end for _, of, a, b in kept.values()):
                kept[text] = candidate
            if len(kept) == self._top_k:
                break
        return list(kept.values())
