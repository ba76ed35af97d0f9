"""Answers from whole documents: how good they are, and how the constants of documents.py were chosen.

    python benchmarks/documents.py --squad dev-v1.1.json.gz [--questions 480] [--model FOLDER] [--pipeline]
    python benchmarks/documents.py --time dev-v1.1.json.gz [--model FOLDER]
    python benchmarks/documents.py --tune train-v1.1.json.gz [--questions 240] [--lengths 288 192]

A document is an article of the file: its paragraphs, separated by blank lines. Questions are drawn at random
(--seed). "right paragraph" is the share of answers found in the paragraph that the question was written for.
--squad: with documents.py as it is, a row each for the question's own article, reading all and 8 passages; its own
paragraph, beside a call of the pipeline (with --pipeline for the article too, which takes long); and all articles as
documents, reading 16 passages; how often "no answer" wins, which it should in another article and another
paragraph; the ROC AUC of 1 - no_answer for own and other; how many of the best answers above a score are right; and
the same by tenths of the score, with the expected calibration error (Guo et al. 2017, section 2).
--time: what a text of 300 kB takes: making Documents of it compared with tokenizing it, and a question that reads 8
passages compared with one that reads all, and with the pipeline (median of 3 rounds, in turn).
--tune: the same scores for several values of passage length, PRIOR and NEUTRAL.
"""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from numpy_distilbert import Documents, QuestionAnswerer, documents
from numpy_distilbert.documents import Found, Ranking
from numpy_distilbert.files import read_json
from numpy_distilbert.squad import exact, token_f1

CONSTANTS = documents.PRIOR, documents.NEUTRAL
PRIORS = 0.0, 10.0, 20.0, 30.0, 40.0
NEUTRALS = 0.4, 0.45, 0.5
SCORES = 0.5, 0.7, 0.9
TENTHS = np.linspace(0.0, 1.0, 11)
HEADING = "exact match     F1 right paragraph"
Logits = dict[tuple[int, ...], np.ndarray]  # of a window, by its token ids


class Asked(NamedTuple):
    """A question: its article, its paragraph and its answers; and another article, and a paragraph of that."""

    question: str
    article: int
    paragraph: str
    answers: list[str]
    other: int
    other_paragraph: str


def read_articles(path: str, chance: random.Random) -> tuple[list[str], list[Asked]]:
    """The text of every article of a SQuAD file, and all questions."""
    data = read_json(path)["data"]
    articles = [[paragraph["context"] for paragraph in article["paragraphs"]] for article in data]
    asked = []
    for number, article in enumerate(data):
        others = [i for i in range(len(articles)) if i != number]
        for paragraph in article["paragraphs"]:
            for entry in paragraph["qas"]:
                answers = [answer["text"] for answer in entry["answers"]]
                other = chance.choice(others)
                elsewhere = other, chance.choice(articles[other])
                asked.append(Asked(entry["question"], number, paragraph["context"], answers, *elsewhere))
    return ["\n\n".join(paragraphs) for paragraphs in articles], asked


class Tally:
    """Results for some questions: exact match, F1, whether in the right paragraph, score, no_answer."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, ...]] = []

    def add(self, asked: Asked, found: Found) -> None:
        """Take in what was found for a question."""
        answer = found[0]
        exact_match, f1 = (max(metric(answer.answer, given) for given in asked.answers) for metric in (exact, token_f1))
        start = answer.context.find(asked.paragraph)
        right = 0 <= start <= answer.start and answer.end <= start + len(asked.paragraph)
        self.rows.append((exact_match, f1, right, answer.score, found.no_answer))

    @property
    def columns(self) -> np.ndarray:
        """Each of the results for all questions, (5, questions)."""
        return np.array(self.rows, float).T

    @property
    def unanswered(self) -> float:
        """The share of questions for which "no answer" wins, in per cent."""
        *_, scores, no_answer = self.columns
        return float(100 * np.mean(no_answer >= scores))

    def __str__(self) -> str:
        exact_match, f1, right = 100 * self.columns[:3].mean(axis=1)
        return f"{exact_match:11.1f} {f1:6.1f} {right:15.0f}"


def area(own: Tally, other: Tally) -> float:
    """The probability that no_answer is lower for one of own than for one of other, equal ones counted half."""
    first, second = own.columns[4], other.columns[4][:, None]
    return float(np.mean((first < second) + 0.5 * (first == second)))


def reliability(tally: Tally) -> Iterator[str]:
    """For each tenth of the range of scores: how many best answers have one, their mean score, how many match exactly;
    and the expected calibration error: by how much the last two differ, averaged over all questions.
    """
    exact_match, _, _, scores, _ = tally.columns
    error = 0.0
    for least, most in pairwise(TENTHS):
        inside = (scores > least) & (scores <= most)
        if n := inside.sum():
            mean, right = scores[inside].mean(), exact_match[inside].mean()
            error += n / len(scores) * abs(mean - right)
            yield f"score {least:.1f} to {most:.1f}: {n:4} answers, mean {mean:.2f}, {100 * right:3.0f} % match exactly"
    yield f"expected calibration error {error:.3f}"


def counted(items: list[Asked]) -> Iterator[Asked]:
    for done, item in enumerate(items, 1):
        yield item
        print(f"\r{done} of {len(items)}", end="\n" * (done == len(items)), file=sys.stderr, flush=True)


def found(qa: QuestionAnswerer, ranking: Ranking, known: Logits) -> Found:
    """What a ranking finds. known: logits of windows, to which those of its other windows are added."""
    windows = list(ranking.windows())
    unknown = [ids for ids in dict.fromkeys(tuple(window.ids) for window in windows) if ids not in known]
    known.update(zip(unknown, qa.logits([list(ids) for ids in unknown], batch_size=32), strict=True))
    for window in windows:
        ranking.add(window, *known[tuple(window.ids)])
    return ranking.result()


def tune(qa: QuestionAnswerer, articles: list[str], sample: list[Asked], lengths: list[int]) -> None:
    """Print a row for every passage length and PRIOR, and how often "no answer" wins for every NEUTRAL."""
    settings = qa.settings({})
    print(f"{len(sample)} questions\npassage  PRIOR    all: {HEADING}   8: {HEADING}    AUC")
    weights = [(prior, CONSTANTS[1]) for prior in PRIORS] + [(CONSTANTS[0], neutral) for neutral in NEUTRALS]
    for length in lengths:
        tallies = {(*weight, kind): Tally() for weight in weights for kind in ("all", "8", "other")}
        for asked in counted(sample):
            for kinds, text in ((("all", "8"), articles[asked.article]), (("other",), articles[asked.other])):
                texts, known = Documents(text, qa.tokenizer, length), Logits()
                found(qa, Ranking(asked.question, texts, settings, qa.calibration, 1, None), known)
                for (prior, neutral, kind), tally in tallies.items():
                    if kind in kinds:
                        documents.PRIOR, documents.NEUTRAL = prior, neutral
                        ranking = Ranking(
                            asked.question, texts, settings, qa.calibration, 1, None if kind == "all" else 8
                        )
                        tally.add(asked, found(qa, ranking, known))
        for prior in PRIORS:
            whole, few, other = (tallies[prior, CONSTANTS[1], kind] for kind in ("all", "8", "other"))
            print(f"{length:7} {prior:6.0f}         {whole}      {few}  {area(few, other):.3f}", flush=True)
        for neutral in NEUTRALS:
            own, other = (tallies[CONSTANTS[0], neutral, kind].unanswered for kind in ("8", "other"))
            print(f"{length:7} {CONSTANTS[0]:6.0f}, NEUTRAL {neutral}: no answer in the own article {own:.1f} %, "
                  f"in another {other:.1f} %", flush=True)  # fmt: skip


def report(qa: QuestionAnswerer, articles: list[str], sample: list[Asked], with_pipeline: bool) -> None:
    """Print how good documents.py is as it stands."""
    every, settings = qa.documents(articles), qa.settings({})
    print(f"{len(sample)} questions, {len(articles)} articles, {len(every.passages)} passages")
    tallies: dict[str, Tally] = {}
    for asked in counted(sample):
        own, known = articles[asked.article], Logits()
        for name, text, read in (
            ("own article, all", own, None),
            ("own article, 8", own, 8),
            ("another article, 8", articles[asked.other], 8),
            ("all articles, 16", every, 16),
            ("own paragraph", asked.paragraph, 8),
            ("another paragraph", asked.other_paragraph, 8),
        ):
            texts = text if isinstance(text, Documents) else qa.documents(text)
            ranking = Ranking(asked.question, texts, settings, qa.calibration, 1, read)
            tallies.setdefault(name, Tally()).add(asked, found(qa, ranking, known))
        contexts = {"own paragraph, pipeline": asked.paragraph, "own article, pipeline": own}
        for name, context in list(contexts.items())[: 1 + with_pipeline]:
            tallies.setdefault(name, Tally()).add(asked, Found([qa(asked.question, context)], 0.0))
    print(f"{'':24} {HEADING}   no answer wins")
    for name, tally in tallies.items():
        print(f"{name:24} {tally} {tally.unanswered:14.1f} %")
    for text in ("article, 8", "paragraph"):
        auc = area(tallies[f"own {text}"], tallies[f"another {text}"])
        print(f"ROC AUC of 1 - no_answer, own {text} against another: {auc:.3f}")
        exact_match, _, _, scores, _ = tallies[f"own {text}"].columns
        for least in SCORES:
            above = scores > least
            share, right = 100 * above.mean(), 100 * exact_match[above].mean()
            print(f"own {text}: {share:.0f} % have a score above {least}, {right:.0f} % of them match exactly")
        for line in reliability(tallies[f"own {text}"]):
            print(f"own {text}: {line}")


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def times(qa: QuestionAnswerer, articles: list[str], question: str) -> None:
    """Print what a long text takes."""
    text = "\n\n".join(articles)[:300_000]
    calls = {
        "tokenized": lambda: qa.tokenizer(text),
        "Documents": lambda: qa.documents(text),
        "8 passages": lambda: qa.search(question, text, read=8),
        "all passages": lambda: qa.search(question, text, read=None),
        "pipeline": lambda: qa(question, text),
    }
    taken = {name: statistics.median(rounds) for name, rounds in zip(
        calls, zip(*[[seconds(call) for call in calls.values()] for _ in range(3)], strict=True), strict=True
    )}  # fmt: skip
    print(f"{len(text)} characters, {len(qa.documents(text).passages)} passages")
    for name, median in taken.items():
        print(f"{name:12} {median:7.2f} s, of all passages {median / taken['all passages']:.3f}")
    print(f"Documents, of tokenizing {taken['Documents'] / taken['tokenized']:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    file = parser.add_mutually_exclusive_group(required=True)
    file.add_argument("--squad", metavar="FILE")
    file.add_argument("--time", metavar="FILE")
    file.add_argument("--tune", metavar="FILE")
    parser.add_argument("--questions", type=int, metavar="N")
    parser.add_argument("--lengths", type=int, nargs="+", default=[288, 192], metavar="TOKENS")
    parser.add_argument("--model", metavar="FOLDER", help="default: the embedded checkpoint")
    parser.add_argument("--pipeline", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    qa = QuestionAnswerer.from_pretrained(arguments.model)
    chance = random.Random(arguments.seed)
    articles, asked = read_articles(arguments.squad or arguments.time or arguments.tune, chance)
    sample = chance.sample(asked, arguments.questions or (240 if arguments.tune else 480))
    if arguments.time:
        times(qa, articles, sample[0].question)
    elif arguments.tune:
        tune(qa, articles, sample, arguments.lengths)
    else:
        report(qa, articles, sample, arguments.pipeline)


if __name__ == "__main__":
    main()
