"""Question answering: windows over the contexts, logits, the most probable spans, answers.

Source: transformers 5.2.0, pipeline("question-answering"), whose calls, options and answers these are;
docs/differences.md lists where they are not, on purpose.

Many questions are read ahead by a pool of windows. Those go through the model together, whatever questions they belong
to (schedule.py packs them by their lengths), and come back in their order: memory holds a pool and the tokens of one
context, however many questions there are.
"""

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from os.path import isdir
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import DTypeLike, NDArray

from .arguments import Array, check_bool, check_integer
from .checkpoint import Checkpoint, CheckpointError
from .inputs import Pair, read_inputs
from .kernels import softmax
from .model import DistilBertForQuestionAnswering, QuestionAnsweringOutput, pad
from .tokenizer import MIN_WINDOW, Encoding, Tokenizer

MAX_SEQ_LEN, DOC_STRIDE = 384, 128  # tokens; the defaults, where the model allows them
POOL_TOKENS = 2**14
TOKEN_CHARACTERS = 64  # of a context, to a token of the pool: some texts of a million characters have one token
PRECISIONS = {"auto": "float32", "float32": "float32", "float64": "float64"}
SHOWN = 300  # characters of the context to either side of an answer in a notebook

Ids = Sequence[int] | NDArray[np.integer]


class Answer(dict[str, Any]):
    """A span of a context: {"score": float, "start": int, "end": int, "answer": str}, answer == context[start:end].

    score is its probability within its window, or the sum of them where the same text was found several times.
    A notebook shows the answer marked in its context; to a program it is a dict.
    """

    __slots__ = ("context",)

    def __init__(self, score: float, start: int, end: int, context: str) -> None:
        super().__init__(score=score, start=start, end=end, answer=context[start:end])
        self.context = context

    def _repr_html_(self) -> str:
        start, end = self["start"], self["end"]
        before = "…" * (start > SHOWN) + self.context[max(0, start - SHOWN) : start]
        behind = self.context[end : end + SHOWN] + "…" * (len(self.context) - end > SHOWN)
        marked = f"<mark>{html.escape(self['answer'])}</mark>" if self["answer"] else "<em>(no answer)</em> "
        return (
            f'<div style="white-space: pre-wrap">{html.escape(before)}{marked}{html.escape(behind)}</div>'
            f"<div><small>score {self['score']:.4f}</small></div>"
        )


class Options(NamedTuple):
    """How a question is answered. Lengths are in tokens; names and defaults are those of transformers 5.2.0.

    top_k: how many answers. max_seq_len (None: 384, or what the model allows), doc_stride (None: 128, at most half of
    max_seq_len): a context that does not fit beside the question in max_seq_len is read in windows that overlap by
    doc_stride. max_answer_len, max_question_len: the longest answer; what is read of a question.
    handle_impossible_answer: the empty answer competes too. align_to_words: answers are widened to whole words.
    batch_size: the most windows that go through the model together (None: a pool of them).
    """

    top_k: int = 1
    doc_stride: int | None = None
    max_answer_len: int = 15
    max_seq_len: int | None = None
    max_question_len: int = 64
    handle_impossible_answer: bool = False
    align_to_words: bool = True
    batch_size: int | None = None


class QuestionAnswerer:
    """A model and its tokenizer: questions and contexts in, answers out. It may be shared by threads."""

    def __init__(self, model: DistilBertForQuestionAnswering, tokenizer: Tokenizer, **options: Any) -> None:
        """options: those of Options that calls have unless they give others.

        Raises CheckpointError if the vocabulary has ids that the model has no embedding for, TypeError if model or
        tokenizer are something else, TypeError or ValueError for an option as in a call.
        """
        for name, value, kind in (
            ("model", model, DistilBertForQuestionAnswering),
            ("tokenizer", tokenizer, Tokenizer),
        ):
            if not isinstance(value, kind):
                raise TypeError(f"{name} must be a {kind.__name__} of numpy_distilbert, got {type(value).__name__}.")
        highest = max((tokenizer.vocab | tokenizer.special_tokens).values())
        if highest >= model.config.vocab_size:
            raise CheckpointError(
                f"The vocabulary goes up to id {highest}, the model's vocab_size is {model.config.vocab_size}. "
                "The tokenizer and the weights are not of the same model."
            )
        self.model = model
        self.tokenizer = tokenizer
        self._defaults = Options()._replace(**given_options(options))
        self.options({})  # raises for a bad one now, not with the first question

    @classmethod
    def from_pretrained(
        cls,
        path: str | PathLike[str] | Checkpoint | None = None,
        revision: str | None = None,
        *,
        dtype: DTypeLike = "float32",
        split_special_tokens: bool | None = None,
    ) -> "QuestionAnswerer":
        """Load the checkpoint in a folder, or one that the hub has by that id, or with None the embedded one.

        path, revision: see Checkpoint; dtype: float32 or float64, to compute in.
        split_special_tokens: True for texts one does not trust, as for Tokenizer.
        Raises CheckpointError if it is missing, unreadable or not a DistilBERT for question answering.
        """
        checkpoint = Checkpoint(path, revision)
        return cls(
            DistilBertForQuestionAnswering.from_pretrained(checkpoint, dtype=dtype),
            Tokenizer.from_pretrained(checkpoint, split_special_tokens=split_special_tokens),
        )

    def __call__(self, *inputs: Any, question: Any = None, context: Any = None, **options: Any) -> Any:
        """Find the answers to questions in their contexts.

        question, context: a text each; lists of one length; or a list of questions about one context. Or, instead of
        both, a dict {"question": ..., "context": ...}, a list of such dicts, or an iterator of them. options: those of
        Options; None stands for the default.

        Returns for one question the best Answer, or with top_k above 1 the list of the top_k best, best first, shorter
        if there are fewer; for several the list of that; for an iterator an iterator, which reads some questions
        ahead. A list of one question counts as one question. A context in which nothing is left to point at (control
        characters only) has the empty answer, score 0.
        Raises TypeError or ValueError that names the argument and what it must be; of an iterator when it comes to
        the bad item, after the answers to all before. CheckpointError for weights that give no finite logits.
        """
        chosen = self.options(options)
        pairs = read_inputs(inputs, question, context)
        if not isinstance(pairs, list):
            return self._answers(pairs, chosen)
        answers = list(self._answers(iter(pairs), chosen))
        return answers[0] if len(answers) == 1 else answers

    def options(self, given: Mapping[str, Any]) -> Options:
        """The options of a call, checked, the defaults filled in. Raises TypeError or ValueError as the call."""
        options = self._defaults._replace(**given_options(given))
        check_bool("handle_impossible_answer", options.handle_impossible_answer)
        check_bool("align_to_words", options.align_to_words)
        positions = self.model.config.max_position_embeddings
        max_seq_len, doc_stride = options.max_seq_len, options.doc_stride
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
        return options._replace(
            top_k=check_integer("top_k", options.top_k, 1),
            doc_stride=doc_stride,
            max_answer_len=check_integer("max_answer_len", options.max_answer_len, 1),
            max_seq_len=max_seq_len,
            max_question_len=check_integer("max_question_len", options.max_question_len, 1),
            batch_size=None if options.batch_size is None else check_integer("batch_size", options.batch_size, 1),
        )

    def _answers(self, pairs: Iterator[Pair], options: Options) -> Iterator[Answer | list[Answer]]:
        """What each question's windows found, in the order asked. What goes wrong in pairs is raised after the last."""
        errors: list[Exception] = []

        def windows() -> Iterator[tuple[Search, Encoding]]:
            try:
                for question, context in pairs:
                    search = Search(context, options)
                    for window in self.windows(question, context, options):
                        yield search, window
            except Exception as error:
                errors.append(error)

        current = None
        for pool in pools(windows(), POOL_TOKENS):
            logits = self.logits([window.ids for _, window in pool], options.batch_size)
            for (search, window), (start_logits, end_logits) in zip(pool, logits, strict=True):
                if current is not None and search is not current:
                    yield current.result()
                current = search
                search.add(window, start_logits, end_logits)
        if current is not None:
            yield current.result()
        if errors:
            raise errors[0]

    def windows(self, question: str, context: str, options: Options) -> Iterator[Encoding]:
        """What the model reads for a question, one window at a time, at least one."""
        limits: Any = options.max_seq_len, options.doc_stride, options.max_question_len
        return self.tokenizer.iter_windows(question, context, *limits)

    def logits(self, windows: Sequence[Ids], batch_size: int | None = None) -> list[tuple[Array, Array]]:
        """Start and end logits of every window, each (tokens,). windows: their token ids; batch_size: as in Options."""
        logits: list[tuple[Array, Array]] = []
        size = batch_size or len(windows)
        for first in range(0, len(windows), size):
            batch = windows[first : first + size]
            output = self.model(*pad(batch))
            check_finite(output)
            for window, start_logits, end_logits in zip(batch, output.start_logits, output.end_logits, strict=True):
                logits.append((start_logits[: len(window)], end_logits[: len(window)]))
        return logits


def check_finite(output: QuestionAnsweringOutput) -> None:
    """Raise CheckpointError unless all logits are finite."""
    if not (np.isfinite(output.start_logits).all() and np.isfinite(output.end_logits).all()):
        raise CheckpointError("The model gives logits that are not finite. Its weights are broken.")


class Search:
    """One question under way: the answers that its windows have given so far."""

    def __init__(self, context: str, options: Options) -> None:
        self.context = context
        self._options = options
        self._answers: dict[str, Answer] = {}  # by text in lower case
        self._null_score = np.inf

    def add(self, window: Encoding, start_logits: Array, end_logits: Array) -> None:
        """Take in what the model says of the next window. start_logits, end_logits: (tokens,)."""
        options = self._options
        start, end = span_probabilities(start_logits, window), span_probabilities(end_logits, window)
        self._null_score = min(self._null_score, float(start[0] * end[0]))
        # spans that widen to the same words become one
        candidates = options.top_k * 2 + 10 if options.align_to_words else options.top_k
        span = word_span if options.align_to_words else token_span
        for score, first, last in best_spans(start, end, window, options.max_answer_len, candidates):
            low, high = span(window, first, last)
            text = self.context[low:high].lower()
            answer = self._answers.setdefault(text, Answer(0.0, low, high, self.context))
            answer["score"] += score

    def result(self) -> Answer | list[Answer]:
        """The best answer, or with top_k above 1 the list of the best."""
        options, answers = self._options, list(self._answers.values())
        if options.handle_impossible_answer:
            answers.append(Answer(self._null_score, 0, 0, self.context))
        elif not answers:
            answers.append(Answer(0.0, 0, 0, self.context))
        answers.sort(key=lambda answer: answer["score"], reverse=True)
        return answers[0] if options.top_k == 1 else answers[: options.top_k]


def given_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are not None. Raises TypeError if there is no such option."""
    for name in options:
        if name not in Options._fields:
            raise TypeError(f"{name} has no meaning here. Leave it out. The options are {', '.join(Options._fields)}.")
    return {name: value for name, value in options.items() if value is not None}


def pools(windows: Iterable[tuple["Search", Encoding]], tokens: int) -> Iterator[list[tuple["Search", Encoding]]]:
    """The windows in lists of about that many tokens, at least one a list. A long context counts too."""
    pool: list[tuple[Search, Encoding]] = []
    held = 0
    for search, window in windows:
        if not pool or pool[-1][0] is not search:
            held += len(search.context) // TOKEN_CHARACTERS
        pool.append((search, window))
        held += len(window)
        if held >= tokens:
            yield pool
            pool, held = [], 0
    if pool:
        yield pool


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


def pipeline(
    task: str = "question-answering",
    model: DistilBertForQuestionAnswering | str | PathLike[str] | Checkpoint | None = None,
    *,
    tokenizer: Tokenizer | str | PathLike[str] | Checkpoint | None = None,
    revision: str | None = None,
    device: Any = None,
    dtype: Any = None,
    torch_dtype: Any = None,
    split_special_tokens: bool | None = None,
    **options: Any,
) -> QuestionAnswerer:
    """The call of transformers 5.2.0 and before: a QuestionAnswerer with these options as its defaults.

    model: the folder or hub id of a checkpoint, a loaded model, or None for the embedded checkpoint; tokenizer:
    likewise, by default that of model. revision: of a checkpoint on the hub. device: the CPU. dtype or torch_dtype:
    float32, float64, or "auto" for float32. split_special_tokens: as for Tokenizer. options: those of Options.
    Raises TypeError or ValueError that says what has no meaning here, CheckpointError as from_pretrained.
    """
    if task != "question-answering":
        raise ValueError(f"task must be 'question-answering', got {task!r}.")
    if device is not None and str(device) not in ("cpu", "-1"):
        raise ValueError(f"device must be 'cpu', got {device!r}: NumPy computes on the CPU. Leave it out.")
    if dtype is not None and torch_dtype is not None:
        raise TypeError("dtype and torch_dtype are the same. Give one of them.")
    asked = torch_dtype if dtype is None else dtype
    precision = "float32" if asked is None else getattr(asked, "__name__", str(asked)).removeprefix("torch.")
    if precision not in PRECISIONS:
        raise ValueError(f"dtype must be 'float32', 'float64' or 'auto', got {asked!r}: the model computes in those.")
    if model is None or isinstance(model, (str, PathLike, Checkpoint)):
        checkpoint = Checkpoint(model, revision)
        if tokenizer is None or tokenizer == model:
            tokenizer = checkpoint
        model = DistilBertForQuestionAnswering.from_pretrained(checkpoint, dtype=PRECISIONS[precision])
    elif revision is not None:
        raise ValueError(f"revision must be None, got {revision!r}: the model is loaded already.")
    elif asked is not None and precision not in ("auto", getattr(model, "dtype", precision)):
        raise ValueError(f"dtype must be {model.dtype}, got {asked!r}: the model is loaded already.")
    if isinstance(tokenizer, (str, PathLike)):
        tokenizer = Checkpoint(tokenizer, None if isdir(tokenizer) else revision)
    if isinstance(tokenizer, Checkpoint):
        tokenizer = Tokenizer.from_pretrained(tokenizer, split_special_tokens=split_special_tokens)
    elif split_special_tokens is not None:
        raise TypeError("split_special_tokens is a setting of the tokenizer. Give it where that is loaded.")
    return QuestionAnswerer(model, cast(Tokenizer, tokenizer), **options)  # which refuses None
