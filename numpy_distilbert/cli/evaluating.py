"""The verb evaluate."""

import argparse
import json
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from .. import squad
from ..arguments import check_integer
from ..files import write_whole
from ..qa import QuestionAnswerer
from .terminal import MODEL_HELP, Result, Verbs, add_verb, progress, warn

MAX_NAMED = 10  # questions without a prediction; the others are only counted


def add_verbs(verbs: Verbs) -> None:
    """Add the verb evaluate."""
    evaluate = add_verb(verbs, "evaluate", _evaluate, "measure exact match and F1 on SQuAD v1.1", "dev-v1.1.json.gz")
    evaluate.add_argument("file", metavar="FILE", help="a SQuAD v1.1 file, JSON or gzipped JSON")
    evaluate.add_argument("--model", metavar="MODEL", help=MODEL_HELP)
    evaluate.add_argument("--limit", metavar="N", type=int, help="use only the first N questions")
    predictions = evaluate.add_mutually_exclusive_group()
    written = "also write the answers, as a JSON object keyed by question id"
    predictions.add_argument("--predictions", metavar="OUT.json", help=written)
    predictions.add_argument("--score", metavar="PREDICTIONS.json", help="score these answers, without a model")
    evaluate.add_argument("--json", action="store_true", help="print the scores as JSON")


def _evaluate(arguments: argparse.Namespace) -> Result:
    """Answer the questions in a SQuAD v1.1 file, and score the answers: exact match and F1, as SQuAD defines them."""
    if arguments.limit is not None:
        check_integer("--limit", arguments.limit, 1)
    if arguments.score is not None and arguments.model is not None:
        raise ValueError("--score takes the answers from its file. Leave --model out.")
    questions = read_squad(arguments.file)[: arguments.limit]
    if arguments.score is None:
        predictions = predict(questions, arguments.model, arguments.predictions)
    else:
        predictions = squad.read_predictions(arguments.score)
    scores = squad.score(questions, predictions)
    for name in scores.missing[:MAX_NAMED]:
        warn(f"question {name} has no prediction and scores 0.")
    if len(scores.missing) > MAX_NAMED:
        warn(f"so do {len(scores.missing) - MAX_NAMED} more.")
    if arguments.json:
        return json.dumps(scores._asdict() | {"missing": len(scores.missing)}), 0
    return f"exact match  {scores.exact_match:.2f}\nF1           {scores.f1:.2f}\nquestions    {scores.total}", 0


def read_squad(path: str, left_out: list[str] | None = None) -> list[squad.Question]:
    """See squad.read_questions(); its warnings become lines on standard error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        questions = squad.read_questions(path, left_out)
    for warning in caught:
        warn(str(warning.message))
    return questions


def predict(questions: Sequence[squad.Question], model: str | Path | None, path: str | None = None) -> dict[str, str]:
    """The model's answers by question id; also written to path, if one is given."""
    qa = QuestionAnswerer.from_pretrained(model)
    with nullcontext() if path is None else write_whole(path) as file:
        answers = progress(qa({"question": q.question, "context": q.context} for q in questions), len(questions))
        predictions = {q.id: answer["answer"] for answer, q in zip(answers, questions, strict=True)}
        if file is not None:
            json.dump(predictions, file)
    return predictions
