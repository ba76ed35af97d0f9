"""Logits to probabilities, spans, and the answer that is the text of one.

Source: Chen et al. 2017, section 3.2; ties and widths as in the question-answering pipeline of transformers 5.2.0.
"""

import html
from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from .arguments import Array, Ids
from .kernels import softmax
from .tokenizer import Encoding

NOTEBOOK_CHARACTERS = 150  # characters of the context to either side of an answer in a notebook
Shown = TypeVar("Shown", bound="Answer | Answers[Any]")


def _value(key: str) -> Any:
    return property(lambda answer: answer[key])


class Answer(dict[str, Any]):
    """A span of a context: {"score": float, "start": int, "end": int, "answer": str}, answer == context[start:end].

    score is its probability within its window, or the sum of them where the same text was found several times; that
    of an answer from QuestionAnswerer.search(), which has "document" too, compares it with all others.
    The values are attributes too. A notebook shows the answer marked in its context; to a program it is a dict.
    """

    __slots__ = ("context",)

    def __init__(self, score: float, start: int, end: int, context: str, **others: Any) -> None:
        super().__init__(score=score, start=start, end=end, answer=context[start:end], **others)
        self.context = context

    answer: str = _value("answer")
    score: float = _value("score")
    start: int = _value("start")
    end: int = _value("end")

    @property
    def document(self) -> int | str | None:
        """The document that it is in, by name or index, if it is from a search."""
        return self.get("document")

    def _repr_html_(self) -> str:
        start, end = self["start"], self["end"]
        before = "…" * (start > NOTEBOOK_CHARACTERS) + self.context[max(0, start - NOTEBOOK_CHARACTERS) : start]
        behind = self.context[end : end + NOTEBOOK_CHARACTERS] + "…" * (len(self.context) - end > NOTEBOOK_CHARACTERS)
        place = "" if self.document is None else f"document {self.document}, "
        marked = f"<mark>{html.escape(self['answer'])}</mark>" if self["answer"] else "<em>(no answer)</em> "
        return (
            f'<div style="white-space: pre-wrap">{html.escape(before)}{marked}{html.escape(behind)}</div>'
            f"<div><small>{html.escape(place)}score {self['score']:.4f}</small></div>"
        )


class Answers(list[Shown]):
    """A list of answers, or of such lists. A notebook shows each marked in its context; to a program it is a list."""

    def _repr_html_(self) -> str:
        return '<hr style="margin: 0.5em 0">'.join(item._repr_html_() for item in self) or "[]"


def in_context(window: Encoding) -> NDArray[np.bool_]:
    """Which tokens are of the context, (sequence,)."""
    return np.array([sequence == 1 for sequence in window.sequence_ids])


def span_probabilities(logits: Array, window: Encoding) -> Array:
    """Softmax over the context and [CLS], which stands for "no answer"; every other token gets 0.

    logits: (sequence,) -> (sequence,).
    """
    answerable = in_context(window)
    answerable[0] = True
    return softmax(np.where(answerable, logits, -np.inf))


def best_spans(
    start: Array, end: Array, window: Encoding, max_answer_len: int, count: int
) -> Iterator[tuple[float, int, int]]:
    """The count most probable spans of the context, best first: (probability, first token, last token).

    start, end: (sequence,) probabilities. A span's is start[first] * end[last], for first <= last and at most
    max_answer_len tokens. Source: Chen et al. 2017, section 3.2.
    """
    context = np.flatnonzero(in_context(window))
    length = min(max_answer_len, len(context))
    if not length:
        return
    ends = np.pad(end[context], (0, length - 1), constant_values=-1.0)  # -1: beyond the context
    ends = sliding_window_view(ends, length)  # (first token, further tokens)
    scores = np.where(ends < 0, -1.0, start[context, None] * ends).ravel()
    count = min(count, int(np.count_nonzero(scores >= 0)))
    threshold = np.partition(scores, -count)[-count]
    best = np.flatnonzero(scores >= threshold)
    for span in best[np.argsort(-scores[best], kind="stable")][:count]:
        first, further = divmod(int(span), length)
        yield float(scores[span]), int(context[first]), int(context[first + further])


def token_span(window: Encoding, first: int, last: int) -> tuple[int, int]:
    """The characters from the first to the last token."""
    return window.offsets[first][0], window.offsets[last][1]


def word_span(window: Encoding, first: int, last: int) -> tuple[int, int]:
    """The characters of all words from the first to the last token, as far as the window holds them."""
    words = window.word_ids
    while words[first - 1] == words[first]:
        first -= 1
    while words[last + 1] == words[last]:
        last += 1
    return token_span(window, first, last)


def word_span_logits(start: Array, end: Array, first: Ids, last: Ids, max_answer_len: int) -> Array:
    """Start logit plus end logit of every span of whole words: (words, max_answer_len) float64.

    start, end: (tokens,) logits; first, last: (words,) the tokens each word begins and ends with. Place (i, k) is the
    span of word i and the k words behind it; -inf if there is none, or it has more than max_answer_len tokens and more
    than one word. A word has the highest logits of its pieces.
    """
    behind = (0, max_answer_len - 1)
    starts, ends = (np.maximum.reduceat(logits.astype(np.float64), first) for logits in (start, end))
    ends = sliding_window_view(np.pad(ends, behind, constant_values=-np.inf), max_answer_len)
    lengths = sliding_window_view(np.pad(last, behind), max_answer_len) - first[:, None] + 1
    allowed = (lengths <= max_answer_len) | (np.arange(max_answer_len) == 0)
    return np.where(allowed, starts[:, None] + ends, -np.inf)


def disjoint_spans(margins: Array) -> Iterator[tuple[float, int, int]]:
    """The best span, the best that does not overlap it, and so on: (margin, first word, last word).

    margins: laid out as by word_span_logits().
    """
    margins = margins.copy()
    words, further = np.indices(margins.shape)
    while (best := margins.max()) > -np.inf:
        first, k = divmod(int(margins.argmax()), margins.shape[1])
        yield float(best), first, first + k
        margins[(words <= first + k) & (words + further >= first)] = -np.inf
