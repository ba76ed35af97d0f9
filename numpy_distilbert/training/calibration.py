"""Turn a model's scores into probabilities: fit the temperature and offset of its margins on held-out questions.

Source: Guo et al. 2017, section 4.2, for the temperature; Platt 1999 for an offset fitted with it.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..arguments import Array
from ..documents import UNCALIBRATED, Calibration, Documents, PassageSpans, Ranking
from ..qa import QuestionAnswerer
from ..squad import Question, exact
from ..tokenizer import Encoding
from .data import contexts_by_article

MOST = 200  # questions
READ = 8  # passages of a text
TEMPERATURES = np.geomspace(0.25, 8.0, 41)
OFFSETS = np.linspace(-30.0, 30.0, 241)


class Spans(NamedTuple):
    """The margins of all spans that were read for a question, and whether the best span is a right answer."""

    margins: Array
    right: bool


class Collecting(Ranking):
    """A ranking that keeps the margins of all spans."""

    def __init__(self, question: str, documents: Documents, answers: Sequence[str], qa: QuestionAnswerer) -> None:
        """The ranking for a question asked of these documents, where these answers are right."""
        super().__init__(question, documents, qa.settings({}), UNCALIBRATED, 1, READ)
        self._answers = answers
        self._margins: list[Array] = [np.empty(0)]  # of a text without tokens

    def take(self, passage: PassageSpans, repeated: int = 0) -> None:
        """See Ranking."""
        super().take(passage, repeated)
        self._margins.append(passage.margins[np.isfinite(passage.margins)])

    def result(self) -> Any:
        """The Spans of all passages."""
        right = any(exact(best.answer, answer) for best in super().result() for answer in self._answers)
        return Spans(np.concatenate(self._margins), right)


def calibrate(qa: QuestionAnswerer, questions: Sequence[Question], seed: int) -> Calibration:
    """The calibration whose scores best predict whether the best answer is right, in own and other texts.

    questions: held out from training, from at least two articles; at most MOST of them are used, drawn by seed.
    """
    random = np.random.default_rng(seed)
    paragraphs = contexts_by_article(questions)
    articles = {article: qa.documents("\n\n".join(texts)) for article, texts in paragraphs.items()}

    def rankings() -> Iterator[tuple[Collecting, Iterator[Encoding]]]:
        for i in random.permutation(len(questions))[:MOST].tolist():
            asked = questions[i]
            other = random.choice([article for article in articles if article != asked.article])
            paragraph = paragraphs[other][random.integers(len(paragraphs[other]))]
            own_texts, other_texts = (articles[asked.article], asked.context), (articles[other], paragraph)
            for texts, answers in ((own_texts, asked.answers), (other_texts, [])):
                for text in texts:
                    ranking = Collecting(asked.question, qa.documents(text), answers, qa)
                    yield ranking, ranking.windows()

    return fit(list(qa.results(rankings())))


def fit(texts: Sequence[Spans]) -> Calibration:
    """The temperature and offset with the least log loss of the best spans' scores as probabilities of being right."""
    right = np.array([spans.right for spans in texts])[:, None]
    ordered = [np.sort(spans.margins) for spans in texts]
    least, found = np.inf, UNCALIBRATED
    for temperature in TEMPERATURES.tolist():
        best, rest = (
            np.array([np.logaddexp.reduce(margins[part] / temperature) for margins in ordered])[:, None]
            - OFFSETS / temperature
            for part in (slice(-1, None), slice(-1))
        )  # (texts, offsets): logarithms of odds to "no answer"
        other = np.logaddexp(0, rest)
        losses = (np.logaddexp(best, other) - np.where(right, best, other)).sum(axis=0)
        if losses.min() < least:
            least, found = losses.min(), Calibration(temperature, float(OFFSETS[losses.argmin()]))
    return found
