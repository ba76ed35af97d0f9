"""Question answering: windows over the contexts, logits, the most probable spans, answers.

Source: transformers 5.2.0, pipeline("question-answering"), whose calls, options and answers these are;
docs/differences.md lists where they are not, on purpose.

Many questions are read ahead by a batch of windows. Those go through the model together, whatever questions they belong
to, packed by their lengths, and come back in their order: memory holds a batch and the tokens of one context, however
many questions there are.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from os import PathLike
from os.path import isdir
from typing import TYPE_CHECKING, Any, cast, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .arguments import Array, check_type
from .checkpoint import Checkpoint, CheckpointError
from .documents import PASSAGE_TOKENS, UNCALIBRATED, Calibration, Documents, Found, Ranking
from .inputs import Options, OtherOptions, Pair, Settings, read_inputs, read_options
from .model import DistilBertForQuestionAnswering, QuestionAnsweringOutput, pad
from .spans import Answer, Answers, best_spans, span_probabilities, token_span, word_span
from .tokenizer import MIN_WINDOW, Encoding, Tokenizer

if TYPE_CHECKING:
    from typing_extensions import Unpack

BATCH_TOKENS = 2**14
TOKEN_CHARACTERS = 64  # of a context, to a token of the batch: some texts of a million characters have one token
KEY_CHARACTERS = 1000  # of a longer text only the digest is kept
PRECISIONS = {"auto": "float32", "float32": "float32", "float64": "float64"}
TokenIds = Sequence[int] | NDArray[np.integer]


class QuestionAnswerer:
    """A model and its tokenizer: questions and contexts in, answers out. It may be shared by threads."""

    def __init__(
        self,
        model: DistilBertForQuestionAnswering,
        tokenizer: Tokenizer,
        calibration: Calibration = UNCALIBRATED,
        **options: "Unpack[Options]",
    ) -> None:
        """calibration: of the scores of search(); options: the defaults of calls, see inputs.Options.

        Raises CheckpointError if the vocabulary has ids that the model has no embedding for, TypeError if model or
        tokenizer are something else, TypeError or ValueError for an option as in a call.
        """
        check_type("model", model, DistilBertForQuestionAnswering)
        check_type("tokenizer", tokenizer, Tokenizer)
        highest = max((tokenizer.vocab | tokenizer.special_tokens).values())
        if highest >= model.config.vocab_size:
            raise CheckpointError(
                f"The vocabulary goes up to id {highest}, the model's vocab_size is {model.config.vocab_size}. "
                "The tokenizer and the weights are not of the same model."
            )
        self.model, self.tokenizer, self.calibration = model, tokenizer, calibration
        self._defaults: dict[str, Any] = dict(options)
        self.settings({})  # raises for a bad one now, not with the first question

    def __repr__(self) -> str:
        return f"QuestionAnswerer({self.model!r}, {self.tokenizer!r})"

    @classmethod
    def from_pretrained(
        cls,
        path: str | PathLike[str] | Checkpoint | None = None,
        revision: str | None = None,
        *,
        dtype: DTypeLike = "float32",
        split_special_tokens: bool | None = None,
    ) -> "QuestionAnswerer":
        """Load a checkpoint: a folder, a hub id, or None for the embedded one.

        path, revision: see Checkpoint; dtype: float32 or float64, to compute in.
        split_special_tokens: True for texts one does not trust, see Tokenizer.
        Raises CheckpointError if it is missing, unreadable or not a DistilBERT for question answering.
        """
        checkpoint = Checkpoint(path, revision)
        model = DistilBertForQuestionAnswering.from_pretrained(checkpoint, dtype=dtype)
        tokenizer = Tokenizer.from_pretrained(checkpoint, split_special_tokens=split_special_tokens)
        return cls(model, tokenizer, Calibration(**checkpoint.calibration))

    @overload
    def __call__(self, question: str, context: str, **options: "Unpack[OtherOptions]") -> Answer: ...
    @overload
    def __call__(
        self, question: str, context: str, *, top_k: int, **options: "Unpack[OtherOptions]"
    ) -> Answer | list[Answer]: ...
    @overload
    def __call__(self, inputs: Mapping[str, str], /, **options: "Unpack[OtherOptions]") -> Answer: ...
    @overload
    def __call__(
        self, inputs: Iterator[Mapping[str, str]], /, **options: "Unpack[OtherOptions]"
    ) -> Iterator[Answer]: ...
    @overload
    def __call__(
        self, *inputs: Any, question: Any = None, context: Any = None, **options: "Unpack[Options]"
    ) -> Any: ...
    def __call__(self, *inputs: Any, question: Any = None, context: Any = None, **options: Any) -> Any:
        """Find the answers to questions in their contexts.

        question, context: a text each; lists of one length; or a list of questions about one context. Or, instead of
        both, a dict {"question": ..., "context": ...}, a list of such dicts, or an iterator of them. options: those of
        Options; None stands for the default.
        Returns for one question the best Answer, or with top_k above 1 the list of the top_k best, best first, shorter
        if there are fewer; for several the list of that; for an iterator an iterator, which reads some questions
        ahead. A list of one question counts as one question. A context in which nothing is left to point at (control
        characters only) has the empty answer, score 0. Raises TypeError or ValueError that names the argument and what
        it must be; of an iterator when it comes to the bad item, after the answers to all before. CheckpointError for
        weights that give no finite logits.
        """
        settings = self.settings(options)
        pairs = read_inputs(inputs, question, context)
        if not isinstance(pairs, list):
            return self._answers(pairs, settings)
        answers = list(self._answers(iter(pairs), settings))
        return answers[0] if len(answers) == 1 else Answers(answers)

    def search(
        self,
        question: str,
        documents: str | Sequence[str] | Mapping[str, str] | Documents,
        top_k: int = 3,
        read: int | None = 8,
        progress: Callable[[int, int], object] = lambda *_: None,
    ) -> Found:
        """Find the answers to a question in whole documents, or that they probably hold none.

        documents: a text, texts, texts by name, or Documents, which are not tokenized again each time. top_k: the
        maximum number of answers; their texts differ, and they do not overlap. read: how many passages the model reads,
        the most promising ones; None for all. progress: called with the numbers of passages read and to be read.
        Returns the answers, best first, each with its "document" (index or name), in which start and end are character
        offsets; .no_answer is the score of "no answer", .best the first answer, or None if that score is higher. The
        maximum lengths of questions and answers are those set for this QuestionAnswerer, see Options.
        Raises TypeError or ValueError that names the argument and what it must be; CheckpointError as a call.
        """
        settings = self.settings({})
        ranking = Ranking(question, self.documents(documents), settings, self.calibration, top_k, read, progress)
        found: Found = next(self.results(iter([(ranking, ranking.windows())]), settings.batch_size))
        return found

    def documents(self, documents: str | Sequence[str] | Mapping[str, str] | Documents) -> Documents:
        """Documents for asking this model many questions, see search(). Raises TypeError or ValueError as it does."""
        longest = self.settings({}).max_seq_len
        if not isinstance(documents, Documents):
            with_question = min(3 * longest // 4, longest - MIN_WINDOW)
            return Documents(documents, self.tokenizer, max(1, min(PASSAGE_TOKENS, with_question)))
        if documents.tokenizer is not self.tokenizer and documents.tokenizer.vocab != self.tokenizer.vocab:
            raise ValueError("documents were tokenized for a model with another vocabulary. Make them with this one's.")
        if documents.passage_tokens > longest - MIN_WINDOW:
            needed = f"passages of at most {longest - MIN_WINDOW} tokens, so that a question fits into max_seq_len"
            raise ValueError(f"documents must have {needed}, got {documents.passage_tokens}.")
        return documents

    def settings(self, options: Mapping[str, Any]) -> Settings:
        """The settings that a call with these options uses. Raises TypeError or ValueError as the call does."""
        asked = {**options, **{name: value for name, value in self._defaults.items() if options.get(name) is None}}
        return read_options(asked, self.model.config.max_position_embeddings, self.tokenizer.model_max_length)

    def _answers(self, pairs: Iterator[Pair], settings: Settings) -> Iterator[Answer | Answers[Answer]]:
        """What each question's windows found, in the order asked. What goes wrong in pairs is raised after the last."""
        searches = ((Search(c, settings), self.windows(q, c, settings)) for q, c in pairs)
        return self.results(searches, settings.batch_size)

    def results(
        self, searches: Iterator[tuple[Any, Iterator[Encoding]]], batch_size: int | None = None
    ) -> Iterator[Any]:
        """The result of each Search or Ranking, in their order, after the model has read its windows.

        What goes wrong in searches is raised after the results of all before. batch_size: as in Options.
        """
        errors: list[Exception] = []

        def windows() -> Iterator[tuple[Any, Encoding | None]]:
            try:
                for search, its_windows in searches:
                    for window in its_windows:
                        yield search, window
                    yield search, None  # which has been read to its end
            except Exception as error:
                errors.append(error)

        for batch in batches(windows(), BATCH_TOKENS):
            logits = iter(self.logits([window.ids for _, window in batch if window is not None], batch_size))
            for search, window in batch:
                if window is None:
                    yield search.result()
                else:
                    search.add(window, *next(logits))
        if errors:
            raise errors[0]

    def windows(self, question: str, context: str, settings: Settings) -> Iterator[Encoding]:
        """The windows that the model reads for a question, one at a time, at least one."""
        limits = settings.max_seq_len, settings.doc_stride, settings.max_question_len
        return self.tokenizer.iter_windows(question, context, *limits)

    def logits(self, windows: Sequence[TokenIds], batch_size: int | None = None) -> list[tuple[Array, Array]]:
        """Start and end logits of every window, each (tokens,). windows: their token ids; batch_size: as in Options."""
        logits: list[tuple[Array, Array]] = []
        size = batch_size or len(windows) or 1
        for first in range(0, len(windows), size):
            batch = windows[first : first + size]
            output = self.model(*pad(batch))
            check_finite(output)
            rows = zip(batch, output.start_logits, output.end_logits, strict=True)
            logits += [(start[: len(window)], end[: len(window)]) for window, start, end in rows]
        return logits


def check_finite(output: QuestionAnsweringOutput) -> None:
    """Raise CheckpointError unless all logits are finite."""
    if not (np.isfinite(output.start_logits).all() and np.isfinite(output.end_logits).all()):
        raise CheckpointError("The model gives logits that are not finite. Its weights are broken.")


class Search:
    """The state of one question: the answers found in the windows read so far."""

    def __init__(self, context: str, settings: Settings) -> None:
        self.context, self.n_characters, self._settings = context, len(context), settings
        self._spans: dict[str | bytes, list[Any]] = {}  # score, start and end, by text in lower case or its digest
        self._null_score = np.inf

    def add(self, window: Encoding, start_logits: Array, end_logits: Array) -> None:
        """Process the logits of the next window. start_logits, end_logits: (tokens,)."""
        settings = self._settings
        start, end = span_probabilities(start_logits, window), span_probabilities(end_logits, window)
        self._null_score = min(self._null_score, float(start[0] * end[0]))
        # spans that widen to the same words become one
        candidates = settings.top_k * 2 + 10 if settings.align_to_words else settings.top_k
        span = word_span if settings.align_to_words else token_span
        for score, first, last in best_spans(start, end, window, settings.max_answer_len, candidates):
            low, high = span(window, first, last)
            text = self.context[low:high].lower()
            key = text if len(text) <= KEY_CHARACTERS else sha256(text.encode("utf-8", "surrogatepass")).digest()
            self._spans.setdefault(key, [0.0, low, high])[0] += score

    def best(self) -> list[tuple[float, int, int]]:
        """Score, start and end of the top_k answers, best first."""
        settings, spans = self._settings, [tuple(span) for span in self._spans.values()]
        if settings.handle_impossible_answer or not spans:
            spans.append((self._null_score if settings.handle_impossible_answer else 0.0, 0, 0))
        return sorted(spans, key=lambda span: -span[0])[: settings.top_k]

    def result(self) -> Answer | Answers[Answer]:
        """The best answer, or with top_k above 1 the list of the best."""
        answers = [Answer(*span, self.context) for span in self.best()]
        return answers[0] if self._settings.top_k == 1 else Answers(answers)


def batches(windows: Iterable[tuple[Any, Encoding | None]], tokens: int) -> Iterator[list[tuple[Any, Encoding | None]]]:
    """The windows in lists of about that many tokens, at least one a list. A long context counts too."""
    batch: list[tuple[Any, Encoding | None]] = []
    n_tokens = 0
    for search, window in windows:
        if window is not None:
            n_tokens += len(window)
            if not batch or batch[-1][0] is not search:
                n_tokens += search.n_characters // TOKEN_CHARACTERS
        batch.append((search, window))
        if n_tokens >= tokens:
            yield batch
            batch, n_tokens = [], 0
    if batch:
        yield batch


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
    **options: "Unpack[Options]",
) -> QuestionAnswerer:
    """The call of transformers up to 5.2.0: makes a QuestionAnswerer with these options as its defaults.

    model: the folder or hub id of a checkpoint, a loaded model, or None for the embedded checkpoint; tokenizer:
    likewise, by default that of model. revision: of a checkpoint on the hub. device: the CPU. dtype or torch_dtype:
    float32, float64, or "auto" for float32. split_special_tokens: see Tokenizer. options: see Options.
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
    calibration = UNCALIBRATED
    if model is None or isinstance(model, (str, PathLike, Checkpoint)):
        checkpoint = Checkpoint(model, revision)
        calibration = Calibration(**checkpoint.calibration)
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
    return QuestionAnswerer(model, cast(Tokenizer, tokenizer), calibration, **options)  # which refuses None
