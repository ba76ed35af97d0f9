"""What is trained with: windows with the tokens of their answers, and the logits of teachers."""

import hashlib
from collections.abc import Iterable, Sequence
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arguments import Array, Ids
from ..checkpoint.tensors import open_tensors, write_tensors
from ..files import write_whole
from ..qa import QuestionAnswerer
from ..squad import Question
from ..tokenizer import Encoding
from .hyperparameters import Hyperparameters


class Example(NamedTuple):
    """What the model is trained with: tokens, the first and the last of the answer, and the teacher's logits."""

    ids: Ids
    answer: tuple[int, int]  # (0, 0), [CLS], if it is not in this window
    teacher: Array | None = None  # (2, tokens)


def training_windows(
    questions: Sequence[Question], qa: QuestionAnswerer
) -> tuple[list[Ids], list[tuple[int, int]], list[str]]:
    """What is trained with: the token ids of every window, and the tokens its answer starts and ends with.

    The answer is the first that people gave; a window that does not hold it has (0, 0), [CLS]. Returns the ids of
    questions whose answer does not stand in the context where it should, or in none of the windows, too. Those are left
    out.
    """
    windows: list[Ids] = []
    answers: list[tuple[int, int]] = []
    bad: list[str] = []
    for question in questions:
        text, start = question.answers[0], question.starts[0]
        if type(start) is not int or start < 0 or not text.strip() or not question.context.startswith(text, start):
            bad.append(question.id)
            continue
        start += len(text) - len(text.lstrip())
        end = start + len(text.strip())
        read = list(qa.windows(question.question, question.context, qa.settings({})))
        found = [_answer_tokens(window, start, end) for window in read]
        if not any(found):
            bad.append(question.id)
            continue
        windows += [np.array(window.ids, np.int32) for window in read]
        answers += [tokens or (0, 0) for tokens in found]
    return windows, answers, bad


def _answer_tokens(window: Encoding, start: int, end: int) -> tuple[int, int] | None:
    """The first and the last token of these characters, if it holds both."""
    first = last = None
    for i, (sequence, (low, high)) in enumerate(zip(window.sequence_ids, window.offsets, strict=True)):
        if sequence != 1:
            continue
        if low <= start < high:
            first = i
        if low < end <= high:
            last = i
    return None if first is None or last is None else (first, last)


def with_teachers(
    windows: Sequence[Ids], answers: Sequence[tuple[int, int]], teachers: Sequence[Sequence[Array]]
) -> list[Example]:
    """What to train with; of several teachers the mean logits. teachers: of each, (2, tokens) for every window."""
    logits: list[Array | None] = [np.mean(of_window, axis=0) for of_window in zip(*teachers, strict=True)]
    return [Example(*one) for one in zip(windows, answers, logits or [None] * len(windows), strict=True)]


def batches(lengths: Sequence[int], settings: Hyperparameters) -> list[list[int]]:
    """The windows of every step, drawn without repetition in each epoch, as many as fit in batch_tokens."""
    plan: list[list[int]] = []
    for epoch in range(settings.epochs):
        held = settings.batch_tokens + 1
        for i in np.random.default_rng([settings.seed, epoch]).permutation(len(lengths)).tolist():
            if held + lengths[i] > settings.batch_tokens:
                plan.append([])
                held = 0
            plan[-1].append(i)
            held += lengths[i]
    return plan


def write_logits(path: str | PathLike[str], windows: Sequence[Ids], logits: Iterable[tuple[Array, Array]]) -> None:
    """Write a teacher's file, as docs/teachers.md describes it. logits: of each window, start and end, each (tokens,).

    Raises ValueError, before any logits are taken, if it cannot stand there.
    """
    with write_whole(path, binary=True) as file:
        start, end = (np.concatenate(part).astype(np.float32) for part in zip(*logits, strict=True))
        lengths = np.array([len(window) for window in windows], np.int64)
        tensors: dict[str, NDArray[Any]] = {"start_logits": start, "end_logits": end, "lengths": lengths}
        write_tensors(file, tensors, {"tokens_sha256": integers_sha256(windows)})


def read_logits(path: str | PathLike[str], windows: Sequence[Ids]) -> list[Array]:
    """A teacher's logits for each window, (2, tokens) float32. Raises ValueError if they are of other windows."""
    try:
        with open_tensors(path) as file:
            lengths, start, end = (file.get_tensor(name) for name in ("lengths", "start_logits", "end_logits"))
            digest = (file.metadata() or {}).get("tokens_sha256")
    # the last two for dtypes that NumPy does not have
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a readable file of logits ({error}).") from error
    if lengths.tolist() != [len(window) for window in windows] or digest not in (None, integers_sha256(windows)):
        raise ValueError(
            f"{path}: not of these questions, or cut into tokens otherwise. "
            "Write it with the same file, --limit and model."
        )
    total = sum(map(len, windows))
    with np.errstate(over="ignore"):
        both = [logits.astype(np.float32) for logits in (start, end)]
    for given, logits in zip((start, end), both, strict=True):
        if given.dtype.kind != "f" or given.shape != (total,) or not np.isfinite(logits).all():
            raise ValueError(f"{path}: start_logits and end_logits need a finite float32 for each of {total} tokens.")
    return np.split(np.stack(both), np.cumsum([len(window) for window in windows])[:-1], axis=1)


def integers_sha256(rows: Sequence[Ids]) -> str:
    """Of the token ids of all windows, or the places of all answers, as int32."""
    return hashlib.sha256(np.concatenate(rows).astype("<i4").tobytes()).hexdigest()
