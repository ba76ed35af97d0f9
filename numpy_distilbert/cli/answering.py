"""ask and evaluate."""

import argparse
import json
import re
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from .. import squad
from ..arguments import check_integer
from ..files import write_whole
from ..qa import QuestionAnswerer
from ..spans import Answer
from .terminal import (
    MODEL_HELP,
    Result,
    Verbs,
    add_question,
    in_colour,
    printable,
    progress,
    read_context,
    read_squad,
    warn,
)

SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n\s*\n")
SHOWN = 200  # characters of the sentence to either side of the answer
NAMED = 10  # questions without a prediction; of more only their number
HIGHLIGHT, BOLD, PLAIN = "\x1b[1;7m", "\x1b[1m", "\x1b[0m"


def add_verbs(verbs: Verbs) -> None:
    """Describe their calls."""
    ask = verbs.add_parser("ask", help="answer a question from a text", description="Answer a question from a text.")
    add_question(ask)
    ask.add_argument("--top-k", metavar="N", type=int, default=1, help="show the N best answers (default: 1)")
    ask.add_argument("--json", action="store_true", help="print the answer, or the list of the N best, as JSON")
    ask.set_defaults(run=_ask)
    evaluate = verbs.add_parser(
        "evaluate",
        help="exact match and F1 on SQuAD v1.1",
        description="Answer the questions of a SQuAD v1.1 file and compare with its answers, or score predictions.",
    )
    evaluate.add_argument("file", metavar="FILE", help="SQuAD v1.1, JSON or JSON in gzip")
    evaluate.add_argument("--model", metavar="MODEL", help=MODEL_HELP)
    evaluate.add_argument("--limit", metavar="N", type=int, help="only the first N questions")
    predictions = evaluate.add_mutually_exclusive_group()
    predictions.add_argument("--predictions", metavar="OUT.json", help="keep the answers, an object by question id")
    predictions.add_argument("--score", metavar="PREDICTIONS.json", help="score this file of answers, without a model")
    evaluate.add_argument("--json", action="store_true", help="print the scores as JSON")
    evaluate.set_defaults(run=_evaluate)


def _ask(arguments: argparse.Namespace) -> Result:
    context = read_context(arguments)
    answers = QuestionAnswerer.from_pretrained(arguments.model)(
        question=arguments.question, context=context, top_k=arguments.top_k
    )
    if arguments.json:
        return json.dumps(answers), 0
    shown = [_shown(answer, context) for answer in (answers if isinstance(answers, list) else [answers])]
    return "\n".join(shown), 0


def _shown(answer: Answer, context: str) -> str:
    """Two lines: the answer with its score, and the sentence it stands in, where it is highlighted on a terminal."""
    if not answer["answer"]:
        return f"(no answer)  ({answer['score']:.2f})"
    low, high = answer["start"], answer["end"]
    begin = max([0, *(end.end() for end in SENTENCE_END.finditer(context[:low]))])
    after = SENTENCE_END.search(context, high)
    finish = after.start() if after else len(context)
    before = "…" * (low - begin > SHOWN) + printable(context[max(begin, low - SHOWN) : low])
    behind = printable(context[high : min(finish, high + SHOWN)]) + "…" * (finish - high > SHOWN)
    highlight, bold, plain = (HIGHLIGHT, BOLD, PLAIN) if in_colour() else ("", "", "")
    text = printable(answer["answer"])
    heading = f"{bold}{text}{plain}  ({answer['score']:.2f})"
    return f"{heading}\n    {before.lstrip()}{highlight}{text}{plain}{behind.rstrip()}"


def _evaluate(arguments: argparse.Namespace) -> Result:
    if arguments.limit is not None:
        check_integer("--limit", arguments.limit, 1)
    if arguments.score is not None and arguments.model is not None:
        raise ValueError("--score takes the answers from its file. Leave --model out.")
    questions = read_squad(arguments.file)[: arguments.limit]
    predictions = (
        predict(questions, arguments.model, arguments.predictions)
        if arguments.score is None
        else squad.read_predictions(arguments.score)
    )
    scores = squad.score(questions, predictions)
    for name in scores.missing[:NAMED]:
        warn(f"question {name} has no prediction and scores 0.")
    if len(scores.missing) > NAMED:
        warn(f"so do {len(scores.missing) - NAMED} more.")
    if arguments.json:
        return json.dumps(scores._asdict() | {"missing": len(scores.missing)}), 0
    return f"exact match  {scores.exact_match:.2f}\nF1           {scores.f1:.2f}\nquestions    {scores.total}", 0


def predict(questions: Sequence[squad.Question], model: str | Path | None, path: str | None = None) -> dict[str, str]:
    """The model's answers by question id, kept at path if there is one."""
    qa = QuestionAnswerer.from_pretrained(model)
    with nullcontext() if path is None else write_whole(path) as file:
        answers = progress(qa({"question": q.question, "context": q.context} for q in questions), len(questions))
        predictions = {q.id: answer["answer"] for answer, q in zip(answers, questions, strict=True)}
        if file is not None:
            json.dump(predictions, file)
    return predictions
