"""SQuAD v1.1: its files, and exact match and F1 as its official script defines them.

Source: Rajpurkar et al. 2016, section 6.1, and evaluate-v1.1.py, which gives the same figures.
"""

import re
import string
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import NamedTuple

from .files import read_json

ARTICLES = re.compile(r"\b(a|an|the)\b")
WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


class Question(NamedTuple):
    """A question of a SQuAD file with the answers that people gave."""

    id: str
    question: str
    context: str
    answers: list[str]
    starts: list[int | None]  # where each begins in the context, if the file says so
    article: int = 0  # number of the article that the context is from


class Scores(NamedTuple):
    """exact_match and f1: means over all questions, in per cent. missing: ids of questions without a prediction."""

    exact_match: float
    f1: float
    total: int
    missing: list[str]


def read_questions(path: str | PathLike[str], left_out: list[str] | None = None) -> list[Question]:
    """The questions of a SQuAD v1.1 file, plain or gzip, in its order.

    left_out: collects the ids of questions that are blank, have a blank context or no answer, else these are an error.
    Raises ValueError if it cannot be read or is something else; warns of another version, as the official script does.
    """
    file = read_json(path)
    if not isinstance(file, dict) or "data" not in file:
        raise ValueError(f"{path}: not a SQuAD file, which is a JSON object with 'data'.")
    if file.get("version") != "1.1":
        warnings.warn(f"{path}: version is {file.get('version')!r}, needs '1.1'.", stacklevel=2)
    questions = []
    try:
        for number, article in enumerate(file["data"]):
            for paragraph in article["paragraphs"]:
                for entry in paragraph["qas"]:
                    answers = [answer["text"] for answer in entry["answers"]]
                    starts = [answer.get("answer_start") for answer in entry["answers"]]
                    questions.append(
                        Question(entry["id"], entry["question"], paragraph["context"], answers, starts, number)
                    )
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not as SQuAD v1.1 has it after {len(questions)} questions ({error!r}).") from error
    kept = []
    for number, question in enumerate(questions):
        texts = (question.id, question.question, question.context, *question.answers)
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(f"{path}: question {number} has something other than texts where SQuAD v1.1 has texts.")
        blank = not question.question.strip() or not question.context.strip()
        if not blank and question.answers:
            kept.append(question)
        elif left_out is not None:
            left_out.append(question.id)
        else:
            no_answers = "has no answers. This is SQuAD v2.0 or a test file, needs v1.1."
            raise ValueError(f"{path}: question {question.id} {'or its context is blank.' if blank else no_answers}")
    if not questions:
        raise ValueError(f"{path}: holds no questions.")
    return kept


def read_predictions(path: str | PathLike[str]) -> dict[str, str]:
    """The answers in a predictions file by question id. Raises ValueError if it cannot be read or is something else."""
    predictions = read_json(path)
    if not isinstance(predictions, dict) or not all(isinstance(text, str) for text in predictions.values()):
        raise ValueError(f"{path}: not a predictions file, which is a JSON object of answers by question id.")
    return predictions


def score(questions: Sequence[Question], predictions: Mapping[str, str]) -> Scores:
    """Score every prediction against the best of its question's answers; a question without one scores 0.

    Raises ValueError if there are no questions.
    """
    if not questions:
        raise ValueError("questions must not be empty.")
    given = [(predictions[q.id], q.answers) for q in questions if q.id in predictions]
    metrics = exact, token_f1
    sums = (sum(max(metric(text, answer) for answer in answers) for text, answers in given) for metric in metrics)
    exact_match, f1 = (100.0 * total / len(questions) for total in sums)
    return Scores(exact_match, f1, len(questions), [q.id for q in questions if q.id not in predictions])


def exact(prediction: str, answer: str) -> float:
    """1 if they are the same once normalised, else 0."""
    return float(normalize(prediction) == normalize(answer))


def token_f1(prediction: str, answer: str) -> float:
    """Harmonic mean of precision and recall of the words of the normalised prediction, repeated words counted."""
    predicted, given = normalize(prediction).split(), normalize(answer).split()
    common = (Counter(predicted) & Counter(given)).total()
    return 2 * common / (len(predicted) + len(given)) if common else 0.0


def normalize(text: str) -> str:
    """The text in lower case, without ASCII punctuation, then without articles, with one space between words."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(WITHOUT_PUNCTUATION)).split())
