"""Answers in whole documents: how passages and weights were chosen, and what they reach.

    python benchmarks/documents.py --tune train-v1.1.json.gz [--questions 240] [--lengths 384 256 192 128]
    python benchmarks/documents.py --squad dev-v1.1.json.gz [--questions 480] [--pipeline] [--model FOLDER]

A document is an article: its paragraphs, with a blank line between two. Questions are drawn at random (--seed).
--tune prints exact match and F1 for every length of a passage and every PRIOR, on articles of the training file.
--squad prints, for documents.py as it is: exact match and F1 of the best answer in the question's own article, with all
and with 8 passages read; in its own paragraph, beside a call of the pipeline; with all articles as documents, 16 passages
read; and of two questions, one put to its own article and one to another, how often no_answer tells which (ROC AUC).
Then, of the best answers with a score above some value, the share that are right (exact match), and how often an
own article, another article, an own paragraph and another paragraph is said not to hold the answer.
--pipeline: also a call of the pipeline on the whole article, which takes long.
"""

import sys
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from numpy_distilbert import Answer, Documents, QuestionAnswerer, documents
from numpy_distilbert.documents import Found, Passage, Ranking
from numpy_distilbert.files import read_json
from numpy_distilbert.squad import exact, token_f1

PRIORS = 0.0, 4.0, 8.0, 12.0, 16.0, 24.0
SCORES = 0.5, 0.7, 0.9
Logits = dict[Passage, tuple[np.ndarray, np.ndarray]]


class Asked(NamedTuple):
    """A question of a SQuAD file: its article, its paragraph and its answers."""

    question: str
    article: int
    paragraph: str
    answers: list[str]


def read_articles(path: str) -> tuple[list[list[str]], list[Asked]]:
    """The paragraphs of every article, and all questions."""
    articles, asked = [], []
    for number, article in enumerate(read_json(path)["data"]):
        articles.append([paragraph["context"] for paragraph in article["paragraphs"]])
        for paragraph in article["paragraphs"]:
            for entry in paragraph["qas"]:
                answers = [answer["text"] for answer in entry["answers"]]
                asked.append(Asked(entry["question"], number, paragraph["context"], answers))
    return articles, asked


def logits_of(qa: QuestionAnswerer, ranking: Ranking) -> Logits:
    """The logits of every passage that a ranking reads."""
    windows = list(ranking.windows())
    return dict(zip(ranking.passages, logits_in_batches(qa, windows), strict=True))


def logits_in_batches(qa: QuestionAnswerer, windows: list[Any], size: int = 32) -> Iterator[Any]:
    for first in range(0, len(windows), size):
        yield from qa.logits([window.ids for window in windows[first : first + size]])


def ranked(ranking: Ranking, logits: Logits) -> Found:
    """What a ranking finds with these logits."""
    for passage, window in zip(ranking.passages, ranking.windows(), strict=True):
        ranking.add(window, *logits[passage])
    return ranking.result()


class Tally:
    """Exact match, F1 and the share of answers from the right paragraph, over some questions."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, float, float]] = []

    def add(self, asked: Asked, answer: Answer | None, right: bool) -> float:
        """Take in an answer, None being the empty one. Returns whether it matches exactly."""
        text = answer.answer if answer is not None else ""
        scores = [max(metric(text, given) for given in asked.answers) for metric in (exact, token_f1)]
        self.rows.append((*scores, float(right)))
        return scores[0]

    def __str__(self) -> str:
        exact_match, f1, right = 100 * np.mean(self.rows, axis=0)
        return f"{exact_match:11.1f} {f1:6.1f} {right:15.0f}"


def in_paragraph(asked: Asked, answer: Answer | None) -> bool:
    if answer is None:
        return False
    start = answer.context.find(asked.paragraph)
    return start <= answer.start and answer.end <= start + len(asked.paragraph)


def area(higher: Iterable[float], lower: Iterable[float]) -> float:
    """The probability that one of higher is above one of lower, equal ones counted half (ROC AUC)."""
    first, second = np.array(list(higher))[:, None], np.array(list(lower))
    return float(np.mean((first > second) + 0.5 * (first == second)))


def bar(done: int, total: int) -> None:
    print(f"\r{done} of {total}", end="" if done < total else "\n", file=sys.stderr, flush=True)


HEADING = "exact match     F1 right paragraph"


def tune(qa: QuestionAnswerer, articles: list[list[str]], sample: list[Asked], lengths: list[int]) -> None:
    """Print a row for every length of a passage and every PRIOR."""
    settings = qa.settings({})
    print(f"{len(sample)} questions, each put to its article")
    print(f"window  PRIOR   all: {HEADING}   8 passages: {HEADING}")
    for length in lengths:
        tallies = {(prior, read): Tally() for prior in PRIORS for read in (None, 8)}
        for done, asked in enumerate(sample, 1):
            texts = Documents("\n\n".join(articles[asked.article]), qa.tokenizer, length)
            logits = logits_of(qa, Ranking(asked.question, texts, settings, 1, None))
            for (prior, read), tally in tallies.items():
                documents.PRIOR = prior
                (answer,) = ranked(Ranking(asked.question, texts, settings, 1, read), logits)
                tally.add(asked, answer, in_paragraph(asked, answer))
            bar(done, len(sample))
        for prior in PRIORS:
            print(f"{length:6} {prior:6.1f}  {tallies[prior, None]}  {tallies[prior, 8]}", flush=True)
