"""Turn a model's scores into probabilities: fit the temperature and offset of its margins on held-out questions.

Source: Guo et al. 2017, section 4.2, for the temperature; the offset is the threshold for "no answer" of Devlin et al.
2018, section 4.3.
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
CANDIDATES = 20  # spans of a passage that are compared with the answers
TEMPERATURES = np.geomspace(0.25, 8.0, 41)
OFFSETS = np.linspace(-30.0, 30.0, 241)


class Spans(NamedTuple):
    """The margins of all spans that were read for a question, and of those that are right answers, if any."""

    every: Array
    right: Array


class Collecting(Ranking):
    """A ranking that keeps the margins of all spans."""

    def __init__(self, question: Question, documents: Documents, qa: QuestionAnswerer) -> None:
        """The ranking for a question asked of these documents."""
        super().__init__(question.question, documents, qa.settings({}), UNCALIBRATED, 1, READ)
        self._texts, self._answers = documents.texts, question.answers
        self._every: list[Array] = []
        self._right: list[float] = []

    def take(self, passage: PassageSpans, repeated: int = 0) -> None:
        """See Ranking."""
        super().take(passage, repeated)
        text, spans = self._texts[passage.document], passage.margins
        self._every.append(spans[np.isfinite(spans)])
        for place in np.argsort(-spans, axis=None)[:CANDIDATES].tolist():
            i, k = divmod(place, spans.shape[1])
            if spans[i, k] > -np.inf:
                found = text[passage.starts[i] : passage.ends[i + k]]
                if any(exact(found, answer) for answer in self._answers):
                    self._right.append(float(spans[i, k]))

    def result(self) -> Any:
        """The Spans of all passages."""
        super().result()
        return Spans(np.concatenate(self._every), np.array(self._right))


def calibrate(qa: QuestionAnswerer, questions: Sequence[Question], seed: int) -> Calibration:
    """The calibration that makes right results most likely, for questions asked of their own texts and of others.

    questions: held out from training, from at least two articles; at most MOST of them are used, drawn by seed.
    """
    random = np.random.default_rng(seed)
    questions = [question for question in questions if qa.documents(question.context).passages]  # some have no token
    paragraphs = contexts_by_article(questions)
    articles = {article: qa.documents("\n\n".join(texts)) for article, texts in paragraphs.items()}

    def rankings() -> Iterator[tuple[Collecting, Iterator[Encoding]]]:
        for i in random.permutation(len(questions))[:MOST].tolist():
            question = questions[i]
            other = random.choice([article for article in articles if article != question.article])
            paragraph = paragraphs[other][random.integers(len(paragraphs[other]))]
            own_paragraph, other_paragraph = map(qa.documents, (question.context, paragraph))
            for texts in (articles[question.article], own_paragraph, articles[other], other_paragraph):
                ranking = Collecting(question, texts, qa)
                yield ranking, ranking.windows()

    spans = list(qa.results(rankings()))
    own_articles, own_paragraphs, other_articles, other_paragraphs = (spans[i::4] for i in range(4))
    return fit(own_articles + own_paragraphs, other_articles + other_paragraphs)


def fit(own: Sequence[Spans], other: Sequence[Spans]) -> Calibration:
    """The temperature and offset with the highest likelihood: in other, of "no answer"; in own, of the right answers
    or, if none was found, of all spans together, as the text does hold an answer.
    """
    of_other, of_own = ([spans.every for spans in of] for of in (other, own))
    right = [spans.right if len(spans.right) else spans.every for spans in own]
    best, found = np.inf, UNCALIBRATED
    for temperature in TEMPERATURES.tolist():
        scaled = OFFSETS / temperature  # (offsets,)
        absent, present, correct = (
            np.array([np.logaddexp.reduce(margins / temperature) for margins in of])[:, None] - scaled
            for of in (of_other, of_own, right)
        )
        losses = np.logaddexp(0, absent).sum(axis=0) + (np.logaddexp(0, present) - correct).sum(axis=0)
        if losses.min() < best:
            best, found = losses.min(), Calibration(temperature, float(OFFSETS[losses.argmin()]))
    return found
