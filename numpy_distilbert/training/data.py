"""What a model is trained with: hyperparameters, windows with the tokens of their answers, logits of teachers."""

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arguments import Array, Ids, check_integer
from ..checkpoint.tensors import open_tensors, write_tensors
from ..documents import Documents
from ..files import write_whole
from ..qa import QuestionAnswerer
from ..squad import Question
from ..tokenizer import Encoding

MAX_EPOCHS = 1000  # their steps are planned before the first
NEGATIVES = 1  # the stream of random numbers they are drawn from, beside those of order and dropout
DRAWS = 20  # random passages to try before a question is given up


class Hyperparameters(NamedTuple):
    """The hyperparameters of distillation.

    epochs: passes over all windows; lr: the highest learning rate, after a linear warm-up and before a linear decay to
    0; batch_tokens: tokens in a step; alpha, temperature: see Loss; dropout: its rate; freeze_words: leave the word
    embeddings as they are; negatives: how many windows without the answer are added, as a share of the others.
    """

    epochs: int = 1
    lr: float = 5e-5
    batch_tokens: int = 4096
    seed: int = 0
    alpha: float = 0.5
    temperature: float = 2.0
    dropout: float = 0.1
    freeze_words: bool = False
    negatives: float = 0.0

    def check(self) -> None:
        """Raise ValueError or TypeError that names the value and what it must be."""
        for name, lowest in (("epochs", 1), ("batch_tokens", 1), ("seed", 0)):
            check_integer(name, getattr(self, name), lowest)
        for name, fits, needed in (
            ("epochs", self.epochs <= MAX_EPOCHS, f"at most {MAX_EPOCHS}"),
            ("lr", 0 < self.lr < math.inf, "more than 0"),
            ("alpha", 0 <= self.alpha <= 1, "from 0 to 1"),
            ("temperature", 0 < self.temperature < math.inf, "more than 0"),
            ("dropout", 0 <= self.dropout < 1, "from 0 to less than 1"),
            ("negatives", 0 <= self.negatives < math.inf, "at least 0"),
        ):
            if not fits:
                raise ValueError(f"{name} must be {needed}, got {getattr(self, name):g}.")


class Example(NamedTuple):
    """A window to train with: its tokens, the first and the last token of the answer, and the teacher's logits."""

    ids: Ids
    answer: tuple[int, int]  # (0, 0), [CLS], if it is not in this window
    teacher: Array | None = None  # (2, tokens)


def hold_out(questions: Sequence[Question], n_articles: int) -> tuple[list[Question], list[Question]]:
    """The questions to train with, and those of the last n_articles articles, but at most of a tenth of all; none if
    that is a single article, as calibration also asks each question of another one.
    """
    numbers = sorted({question.article for question in questions})
    n_held_out = min(n_articles, len(numbers) // 10)
    held_out = set(numbers[len(numbers) - n_held_out :]) if n_held_out > 1 else set()
    parts: tuple[list[Question], list[Question]] = [], []
    for question in questions:
        parts[question.article in held_out].append(question)
    return parts


def spread(questions: Sequence[Question], limit: int | None) -> list[Question]:
    """At most limit of the questions, evenly spaced, since the first ones would be from only a few articles."""
    total = len(questions)
    n = total if limit is None else min(limit, total)
    return [questions[i * total // n] for i in range(n)]


def contexts_by_article(questions: Sequence[Question]) -> dict[int, list[str]]:
    """The contexts of every article, each once, in order."""
    contexts: dict[int, dict[str, None]] = {}
    for question in questions:
        contexts.setdefault(question.article, {})[question.context] = None
    return {article: list(texts) for article, texts in contexts.items()}


def training_windows(
    questions: Sequence[Question], qa: QuestionAnswerer
) -> tuple[list[Ids], list[tuple[int, int]], list[str]]:
    """The token ids of every window, the first and last token of its answer, and the ids of questions left out.

    The answer is the first that people gave; a window that does not hold it has (0, 0), [CLS]. Questions are left out
    if their answer is not where the file says it starts, or is in none of the windows.
    """
    windows: list[Ids] = []
    answers: list[tuple[int, int]] = []
    bad: list[str] = []
    for question in questions:
        text, start = question.answers[0], question.starts[0]
        found: list[tuple[int, int] | None] = []
        if type(start) is int and start >= 0 and text.strip() and question.context.startswith(text, start):
            start, end = start + len(text) - len(text.lstrip()), start + len(text.rstrip())
            read = list(qa.windows(question.question, question.context, qa.settings({})))
            found = [_answer_tokens(window, start, end) for window in read]
        if any(found):
            windows += [np.array(window.ids, np.int32) for window in read]
            answers += [tokens or (0, 0) for tokens in found]
        else:
            bad.append(question.id)
    return windows, answers, bad


def negative_windows(questions: Sequence[Question], qa: QuestionAnswerer, count: int, seed: int) -> list[Ids]:
    """Token ids of count windows, each a question with another passage, which does not hold the answer's text.

    Half of the passages are those that BM25 ranks first in the question's own article, half are drawn at random from
    the whole file; from a passage that is longer than a window, one window is drawn. Questions are taken in a random
    order, again from the first after the last. Empty if there are no such passages.
    Sources: Devlin et al. 2018, section 4.3; Clark and Gardner 2018, section 3 (passages of the same document).
    """
    random = np.random.default_rng([seed, NEGATIVES])
    passages = contexts_by_article(questions)
    everything = [context for contexts in passages.values() for context in contexts]

    @cache
    def documents(article: int) -> Documents:
        return Documents(passages[article], qa.tokenizer, 2**31 - 1)  # each is one passage

    def candidates(question: Question, same_article: bool) -> Iterator[str]:
        if same_article:
            article = documents(question.article)
            for i in np.argsort(-article.fit(qa.tokenizer.pieces(question.question).ids), kind="stable").tolist():
                yield article.texts[article.passages[i].document]
        for i in random.integers(len(everything), size=DRAWS):
            yield everything[i]

    order = np.resize(random.permutation(len(questions)), count)
    hard = random.permutation(np.arange(count) % 2 == 0)
    windows: list[Ids] = []
    for i, same_article in zip(order.tolist(), hard.tolist(), strict=True):
        question, answer = questions[i], questions[i].answers[0].strip().lower()
        for passage in candidates(question, same_article):
            if passage != question.context and answer not in passage.lower():
                read = list(qa.windows(question.question, passage, qa.settings({})))
                windows.append(np.array(read[random.integers(len(read))].ids, np.int32))
                break
    return windows


def _answer_tokens(window: Encoding, start: int, end: int) -> tuple[int, int] | None:
    """The first and the last token of these characters, if both are in the window."""
    tokens = [(i, *window.offsets[i]) for i, sequence in enumerate(window.sequence_ids) if sequence == 1]
    first = [i for i, low, high in tokens if low <= start < high]
    last = [i for i, low, high in tokens if low < end <= high]
    return (first[-1], last[-1]) if first and last else None


def with_teachers(
    windows: Sequence[Ids], answers: Sequence[tuple[int, int]], teachers: Sequence[Sequence[Array]]
) -> list[Example]:
    """Examples with the mean logits of all teachers. teachers: for each of them, (2, tokens) for every window."""
    logits: list[Array | None] = [np.mean(of_window, axis=0) for of_window in zip(*teachers, strict=True)]
    return [Example(*parts) for parts in zip(windows, answers, logits or [None] * len(windows), strict=True)]


def batches(lengths: Sequence[int], hyperparameters: Hyperparameters) -> list[list[int]]:
    """The windows of every step: each epoch a random permutation, cut into batches of at most batch_tokens."""
    plan: list[list[int]] = []
    for epoch in range(hyperparameters.epochs):
        n_tokens = hyperparameters.batch_tokens + 1
        for i in np.random.default_rng([hyperparameters.seed, epoch]).permutation(len(lengths)).tolist():
            if n_tokens + lengths[i] > hyperparameters.batch_tokens:
                plan.append([])
                n_tokens = 0
            plan[-1].append(i)
            n_tokens += lengths[i]
    return plan


def write_logits(path: str | PathLike[str], windows: Sequence[Ids], logits: Iterable[tuple[Array, Array]]) -> None:
    """Write a teacher's logits as docs/teachers.md describes. logits: of each window, start and end, each (tokens,).

    Raises ValueError, before any logits are computed, if it cannot be created.
    """
    with write_whole(path, binary=True) as file:
        start, end = (np.concatenate(part).astype(np.float32) for part in zip(*logits, strict=True))
        lengths = np.array([len(window) for window in windows], np.int64)
        tensors: dict[str, NDArray[Any]] = {"start_logits": start, "end_logits": end, "lengths": lengths}
        write_tensors(file, tensors, {"tokens_sha256": integers_sha256(windows)})


def read_logits(path: str | PathLike[str], windows: Sequence[Ids]) -> list[Array]:
    """A teacher's logits for each window, (2, tokens) float32. Raises ValueError if they are of other windows."""
    counts, total = [len(window) for window in windows], sum(map(len, windows))
    try:
        with open_tensors(path) as file:
            lengths, start, end = (file.get_tensor(name) for name in ("lengths", "start_logits", "end_logits"))
            digest = (file.metadata() or {}).get("tokens_sha256")
    except (OSError, ValueError, TypeError, AttributeError) as error:  # the last two for dtypes unknown to NumPy
        raise ValueError(f"{path}: not a readable file of logits ({error}).") from error
    if lengths.tolist() != counts or digest not in (None, integers_sha256(windows)):
        problem = "not of these questions, or cut into tokens otherwise"
        raise ValueError(f"{path}: {problem}. Write it with the same file, --held-out, --limit and model.")
    fits = all(part.dtype.kind == "f" and part.shape == (total,) for part in (start, end))
    with np.errstate(over="ignore"):
        logits = np.array([start, end], np.float32) if fits else None
    if logits is None or not np.isfinite(logits).all():
        raise ValueError(f"{path}: start_logits and end_logits need a finite float32 for each of {total} tokens.")
    return np.split(logits, np.cumsum(counts)[:-1], axis=1)


def integers_sha256(rows: Sequence[Ids]) -> str:
    """The digest of the token ids of all windows, or of the positions of all answers, as int32."""
    return hashlib.sha256(np.concatenate(rows).astype("<i4").tobytes()).hexdigest()
