"""Question answering: windows over the context, logits, the most probable spans, answers.

Source: transformers 5.2.0, QuestionAnsweringPipeline, whose arguments, defaults and answers these are. On purpose
unlike it: max_question_len is honoured, a long question never leaves the windows without room, no answer is made
up where top_k asks for more than there are, and with top_k above 1 the result is always a list.
"""

from collections.abc import Iterator
from os import PathLike
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from . import checkpoint
from .arguments import check_bool, check_integer, check_text
from .checkpoint import CheckpointError
from .kernels import softmax
from .model import DistilBertForQuestionAnswering
from .schedule import Array
from .tokenizer import MIN_WINDOW, Encoding, Tokenizer

MAX_SEQ_LEN, DOC_STRIDE = 384, 128  # tokens; the defaults, where the model allows them


class Answer(TypedDict):
    """A span of the context: answer == context[start:end].

    score is its probability within its window, or the sum of them where the same text was found several times.
    """

    score: float
    start: int
    end: int
    answer: str


class QuestionAnswerer:
    """A model and its tokenizer: question and context in, answer out."""

    def __init__(self, model: DistilBertForQuestionAnswering, tokenizer: Tokenizer) -> None:
        """Raises CheckpointError if the vocabulary has ids that the model has no embedding for."""
        highest = max((tokenizer.vocab | tokenizer.special_tokens).values())
        if highest >= model.config.vocab_size:
            raise CheckpointError(
                f"The vocabulary goes up to id {highest}, the model's vocab_size is {model.config.vocab_size}. "
                "The tokenizer and the weights are not of the same model."
            )
        self.model = model
        self.tokenizer = tokenizer

    @classmethod
    def from_pretrained(cls, path: str | PathLike[str] | None = None) -> "QuestionAnswerer":
        """Load the checkpoint in a folder, or with None the embedded one.

        Raises CheckpointError if it is missing, unreadable or not a DistilBERT for question answering.
        """
        folder = checkpoint.find(path)
        return cls(DistilBertForQuestionAnswering.from_pretrained(folder), Tokenizer.from_pretrained(folder))

    def __call__(
        self,
        question: str,
        context: str,
        *,
        top_k: int = 1,
        doc_stride: int | None = None,
        max_answer_len: int = 15,
        max_seq_len: int | None = None,
        max_question_len: int = 64,
        handle_impossible_answer: bool = False,
        align_to_words: bool = True,
    ) -> Answer | list[Answer]:
        """Find the answer to question in context.

        top_k: how many answers. doc_stride, max_answer_len, max_seq_len, max_question_len: in tokens; a context that
        does not fit beside the question in max_seq_len (None: 384, or what the model allows) is read in windows that
        overlap by doc_stride (None: 128, at most half of max_seq_len). handle_impossible_answer: the empty answer
        competes too. align_to_words: answers are widened to whole words.

        Returns the best Answer, or with top_k above 1 the list of the top_k best, best first, shorter if there are
        fewer. A context in which nothing is left to point at (control characters only) has the empty answer, score 0.
        Raises TypeError or ValueError that names the argument and what it must be.
        """
        for name, text in (("question", question), ("context", context)):
            check_text(name, text)
            if not text.strip():
                raise ValueError(f"{name} must not be blank, got {text[:20]!r}.")
        top_k = check_integer("top_k", top_k, 1)
        max_answer_len = check_integer("max_answer_len", max_answer_len, 1)
        max_question_len = check_integer("max_question_len", max_question_len, 1)
        check_bool("handle_impossible_answer", handle_impossible_answer)
        check_bool("align_to_words", align_to_words)
        max_seq_len, doc_stride = self._window_size(max_seq_len, doc_stride)
        answers: dict[str, Answer] = {}  # by text in lower case
        null_score = np.inf
        candidates = top_k * 2 + 10 if align_to_words else top_k  # spans that widen to the same words become one
        for window in self.tokenizer.iter_windows(question, context, max_seq_len, doc_stride, max_question_len):
            output = self.model([window.ids])
            start, end = (span_probabilities(x[0], window) for x in (output.start_logits, output.end_logits))
            null_score = min(null_score, float(start[0] * end[0]))
            for score, first, last in best_spans(start, end, window, max_answer_len, candidates):
                low, high = word_span(window, first, last) if align_to_words else token_span(window, first, last)
                text = context[low:high]
                answer = answers.setdefault(text.lower(), Answer(score=0.0, start=low, end=high, answer=text))
                answer["score"] += score
        if handle_impossible_answer or not answers:
            answers[""] = Answer(score=null_score if handle_impossible_answer else 0.0, start=0, end=0, answer="")
        ranked = sorted(answers.values(), key=lambda answer: answer["score"], reverse=True)
        return ranked[0] if top_k == 1 else ranked[:top_k]

    def _window_size(self, max_seq_len: int | None, doc_stride: int | None) -> tuple[int, int]:
        """Length and overlap of the windows in tokens, the defaults filled in."""
        positions = self.model.config.max_position_embeddings
        if max_seq_len is None:
            max_seq_len = min(MAX_SEQ_LEN, positions, self.tokenizer.model_max_length or MAX_SEQ_LEN)
        max_seq_len = check_integer("max_seq_len", max_seq_len, MIN_WINDOW)
        if max_seq_len > positions:
            raise ValueError(f"max_seq_len must be at most {positions}, the positions of the model, got {max_seq_len}.")
        if doc_stride is None:
            doc_stride = min(DOC_STRIDE, max_seq_len // 2)
        doc_stride = check_integer("doc_stride", doc_stride, 0)
        if doc_stride >= max_seq_len:
            raise ValueError(f"doc_stride must be less than max_seq_len ({max_seq_len}), got {doc_stride}.")
        return max_seq_len, doc_stride


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
    length = np.arange(len(context)) - np.arange(len(context))[:, None] + 1  # (first, last)
    first, last = np.nonzero((length >= 1) & (length <= max_answer_len))
    first, last = context[first], context[last]
    scores = start[first] * end[last]
    for best in np.argsort(-scores, kind="stable")[:count]:
        yield float(scores[best]), int(first[best]), int(last[best])


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
