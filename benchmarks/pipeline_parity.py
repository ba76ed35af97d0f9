"""Whether answers are the same as those of transformers 5.2.0's pipeline, on SQuAD dev.

    pip install "numpy-distilbert[fast]" torch==2.13.0 transformers==5.2.0
    python benchmarks/pipeline_parity.py --squad dev-v1.1.json.gz [--reference PYTHON] [--model FOLDER] [--limit N]

Both compute in float32. A row is a setting: how many questions, for how many of them all answers are the same (text,
start and end, in the same order), and the largest difference of a score. What differs is listed below. The
comparison leaves out only the empty answers that 5.2.0 adds when top_k asks for more than there are.
--reference names the Python that has transformers, if it is not this one.
"""

import argparse
import sys
from itertools import groupby
from pathlib import Path

import numpy as np
from reference_pipeline import Reference

from numpy_distilbert import pipeline
from numpy_distilbert.checkpoint import hub
from numpy_distilbert.squad import Question, read_questions

PHANTOM = {"score": 0.0, "start": 0, "end": 0, "answer": ""}
SMALL = {"max_seq_len": 64, "doc_stride": 16}
SETTINGS = {  # name: options, every how many questions one is taken, long contexts
    "default": ({}, 1, False),
    "top_k": ({"top_k": 5}, 10, False),
    "impossible": ({"handle_impossible_answer": True}, 10, False),
    "no word alignment": ({"align_to_words": False, "top_k": 3}, 10, False),
    "small windows": (SMALL, 10, False),
    "small, all options": (
        SMALL | {"top_k": 4, "handle_impossible_answer": True, "align_to_words": False, "max_answer_len": 30},
        10,
        False,
    ),
    "long contexts": ({}, 100, True),
    "long, top_k": ({"top_k": 5, "handle_impossible_answer": True}, 100, True),
}
LIMIT = 1e-4


def pairs_of(questions: list[Question], every: int, long: bool) -> list[tuple[str, str]]:
    """One of every so many questions, with its context; long: with all the contexts of ten paragraphs around it."""
    if not long:
        return [(q.question, q.context) for q in questions[::every]]
    contexts = [context for context, _ in groupby(q.context for q in questions)]
    places = {context: i for i, context in enumerate(contexts)}
    return [
        (q.question, "\n".join(contexts[max(0, places[q.context] - 5) : places[q.context] + 5]))
        for q in questions[::every]
    ]


def as_list(answers) -> list[dict]:
    return answers if isinstance(answers, list) else [answers]


def compare(pairs: list[tuple[str, str]], ours: list, theirs: list, impossible: bool) -> tuple[int, float, list[str]]:
    same, worst, different = 0, 0.0, []
    for (question, _), mine, reference in zip(pairs, map(as_list, ours), map(as_list, theirs), strict=True):
        reference = [answer for answer in reference if impossible or answer != PHANTOM]
        pairs_of_answers = zip(mine, reference, strict=False)  # a difference in number shows below
        worst = np.max([worst, *(abs(a["score"] - b["score"]) for a, b in pairs_of_answers)])  # nan stays nan
        if [place(answer) for answer in mine] == [place(answer) for answer in reference]:
            same += 1
        else:
            different.append(f"  {question!r}\n    ours   {mine}\n    theirs {reference}")
    return same, worst, different


def place(answer: dict) -> tuple[str, int, int]:
    return answer["answer"], answer["start"], answer["end"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--squad", required=True, metavar="FILE")
    parser.add_argument("--reference", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="default: the embedded checkpoint")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N questions")
    arguments = parser.parse_args()
    folder = hub.find(arguments.model)
    questions = read_questions(arguments.squad)[: arguments.limit]
    reference, qa = Reference(arguments.reference, folder), pipeline("question-answering", folder)
    print(f"{folder.name}, float32, against {reference.versions}\n")
    print(f"{'setting':<20} {'questions':>9} {'the same':>9} {'scores within':>14}")
    failed = False
    for name, (options, every, long) in SETTINGS.items():
        pairs = pairs_of(questions, every, long)
        theirs, _ = reference.answer(pairs, **options)
        ours = list(qa(({"question": q, "context": c} for q, c in pairs), **options))
        same, worst, different = compare(pairs, ours, theirs, "handle_impossible_answer" in options)
        print(f"{name:<20} {len(pairs):>9} {same:>9} {worst:>14.1e}", flush=True)
        print("\n".join(different), end="\n" * bool(different))
        failed |= not worst <= LIMIT or bool(different)
    if failed:
        raise SystemExit(
            f"Answers differ, or scores by more than {LIMIT:.0e}. Where two scores are near-ties, so is the order."
        )


if __name__ == "__main__":
    main()
