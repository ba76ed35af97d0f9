"""The command line: one subcommand per verb.

Exit status 0 done; 1 the output could not be written; 2 the call or its files were wrong; then one line on standard
error says what and what to do. 130 stopped by Ctrl-C. Warnings and progress go to standard error too.
"""

import argparse
import json
import os
import re
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NoReturn, TypeVar

from . import __version__, hub, plot, squad
from .arguments import check_integer
from .files import read_json, write_whole
from .info import describe
from .qa import Answer, QuestionAnswerer
from .trace import ATOL, RTOL, Comparison, compare, read_recording, record, write_recording

PROGRAM = "numpy-distilbert"
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n\s*\n")
SHOWN = 200  # characters of the sentence to either side of the answer
NAMED = 10  # questions without a prediction; of more only their number
BAR = 30  # characters
MODEL_HELP = "folder or hub id of a checkpoint (default: the embedded one)"
HIGHLIGHT, BOLD, PLAIN, CLEAR_LINE = "\x1b[1;7m", "\x1b[1m", "\x1b[0m", "\r\x1b[K"
Item = TypeVar("Item")
Result = tuple[str, int]


class Parser(argparse.ArgumentParser):
    """Says what is wrong with the call in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(_fail(2, f"{message} (see {self.prog} --help)"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; None means the arguments of the process. Returns the exit status."""
    parsed = _parser().parse_args(arguments)
    if sys.stdout is None:
        return _fail(1, "the answer could not be written (standard output is closed).")
    try:
        output, status = parsed.run(parsed)
    except ValueError as error:  # CheckpointError is one
        return _fail(2, str(error))
    except OSError as error:
        return _fail(1, f"the output could not be written ({error.strerror}).")
    except KeyboardInterrupt:
        return 130
    try:
        encoding = sys.stdout.encoding or "utf-8"
        print(
            output.encode(encoding, errors="replace").decode(encoding), flush=True
        )  # what it cannot write becomes "?"
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter would try again as it ends
        return _fail(1, f"the answer could not be written ({error.strerror}).")
    return int(status)


def _fail(status: int, message: str) -> int:
    _warn(message)
    return status


def _warn(message: str) -> None:
    if sys.stderr is not None:  # else print() would write to standard output
        print(f"{PROGRAM}: {_printable(message)}", file=sys.stderr)


def _parser() -> Parser:
    parser = Parser(prog=PROGRAM, description="Extractive question answering with DistilBERT, in NumPy alone.")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    ask = verbs.add_parser("ask", help="answer a question from a text", description="Answer a question from a text.")
    _add_question(ask)
    ask.add_argument("--top-k", metavar="N", type=int, default=1, help="show the N best answers (default: 1)")
    ask.add_argument("--json", action="store_true", help="print the answer, or the list of the N best, as JSON")
    ask.set_defaults(run=_ask)
    download = verbs.add_parser(
        "download",
        help="fetch a checkpoint from the hub",
        description="Fetch a checkpoint from the hub into its cache, verify it, and print the folder it is in.",
    )
    download.add_argument(
        "id", metavar="ID", help="OWNER/NAME, such as distilbert/distilbert-base-cased-distilled-squad"
    )
    download.add_argument("--revision", metavar="R", help="a branch, tag or commit (default: the newest)")
    download.add_argument("--dir", metavar="DIR", help="also make a folder of it here, which --model takes off-line")
    download.set_defaults(run=_download)
    info = verbs.add_parser("info", help="what a checkpoint is", description="Say what a checkpoint is.")
    info.add_argument("--model", metavar="MODEL", help=MODEL_HELP)
    info.add_argument("--json", action="store_true", help="print it as JSON")
    info.set_defaults(run=_info)
    trace = verbs.add_parser(
        "trace",
        help="record every tensor on the way to an answer",
        description="Record every tensor on the way to an answer in a safetensors file.",
    )
    _add_question(trace)
    trace.add_argument("-o", "--output", metavar="OUT.safetensors", required=True, help="the file to write")
    trace.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="what to compute in")
    trace.set_defaults(run=_trace)
    compare = verbs.add_parser(
        "compare",
        help="find where two recordings part",
        description="Compare two recordings tensor by tensor. Exit status 0: same, 1: they differ, 2: trouble.",
    )
    compare.add_argument("ours", metavar="OURS.safetensors", help="a recording of `trace`")
    compare.add_argument("theirs", metavar="THEIRS", help="another, .safetensors or .npz")
    compare.add_argument("--map", metavar="NAMES.json", help="an object of their names by ours, where they differ")
    compare.add_argument(
        "--rtol", type=float, default=RTOL, help="tolerance as a share of their value (default: %(default)s)"
    )
    compare.add_argument("--atol", type=float, default=ATOL, help="tolerance beside that (default: %(default)s)")
    compare.add_argument("--json", action="store_true", help="print the comparison as JSON")
    compare.set_defaults(run=_compare)
    show = verbs.add_parser(
        "show",
        help="draw where the model sees the answer",
        description="Draw start and end probabilities along the text, and attention from the question to the text.",
    )
    _add_question(show)
    show.add_argument("-o", "--output", metavar="OUT.png", required=True, help="the picture to write, .png or .svg")
    show.add_argument("--layer", metavar="N", type=int, help="attention of this layer, from 0 (default: the last)")
    show.add_argument("--head", metavar="N", type=int, help="attention of this head, from 0 (default: the mean of all)")
    show.set_defaults(run=_show)
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
    return parser


def _add_question(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("question")
    text = verb.add_mutually_exclusive_group()
    text.add_argument("--context", metavar="TEXT", help="the text itself")
    text.add_argument("--file", metavar="PATH", help="a UTF-8 file that holds the text (default: standard input)")
    verb.add_argument("--model", metavar="MODEL", help=MODEL_HELP)


# Every verb returns what to print and the exit status.
def _ask(arguments: argparse.Namespace) -> Result:
    context = _context(arguments)
    answers = QuestionAnswerer.from_pretrained(arguments.model)(
        question=arguments.question, context=context, top_k=arguments.top_k
    )
    if arguments.json:
        return json.dumps(answers), 0
    shown = [_shown(answer, context) for answer in (answers if isinstance(answers, list) else [answers])]
    return "\n".join(shown), 0


def _context(arguments: argparse.Namespace) -> str:
    context: str | None = arguments.context
    if context is not None:
        return context
    source = "standard input" if arguments.file is None else arguments.file
    if arguments.file is None and sys.stdin is None:
        raise ValueError("standard input is closed. Give the text with --context or --file.")
    if arguments.file is None and sys.stdin.isatty():
        print("Type or paste the text, then end it with Ctrl-D on a line of its own.", file=sys.stderr)
    try:
        data = sys.stdin.buffer.read() if arguments.file is None else Path(arguments.file).read_bytes()
        return data.decode("utf-8")  # not text mode, which would turn \r\n into \n and shift every offset
    except OSError as error:
        raise ValueError(f"{source}: cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{source}: not UTF-8 text (byte {error.start}). Convert it first.") from error


def _download(arguments: argparse.Namespace) -> Result:
    folder = hub.find(arguments.id, arguments.revision)
    if folder == Path(arguments.id):
        raise ValueError(f"{arguments.id}: a folder here, so there is nothing to download.")
    QuestionAnswerer.from_pretrained(folder)  # or says why not
    return str(folder if arguments.dir is None else hub.copy(folder, Path(arguments.dir))), 0


def _info(arguments: argparse.Namespace) -> Result:
    known = describe(hub.find(arguments.model))
    if arguments.json:
        return json.dumps(known), 0
    tokenizer, size, bert = known["tokenizer"], known["bytes"], known["bert"]
    published = {True: ", as published", None: ""}
    rows = [
        ("path", known["path"]),
        ("provenance", known["provenance"] or "not known"),
        ("licence", known["licence"] or "not known"),
        *((file["file"], f"sha256 {file['sha256']}{published[file['published']]}") for file in known["weights"]),
        ("bytes", f"{size['disk']:,} on disk, {size['memory']:,} in memory"),
        *((name, f"{value:,}") for name, value in known["config"].items()),
        ("tokenizer", f"{tokenizer['pieces']:,} pieces, {'uncased' if tokenizer['lowercase'] else 'cased'}"),
        ("special tokens", ", ".join(f"{token} {i}" for token, i in tokenizer["special_tokens"].items())),
        *((f"parameters, {name}", f"{count:>12,}") for name, count in known["parameters"].items()),
        ("BERT-base", f"{bert['parameters']:>12,} of that width; {bert['saved']:.1%} saved"),
    ]
    return "\n".join(f"{name:<33}{_printable(value)}" for name, value in rows), 0


def _trace(arguments: argparse.Namespace) -> Result:
    context = _context(arguments)
    tensors, metadata = record(arguments.question, context, hub.find(arguments.model), arguments.dtype)
    write_recording(arguments.output, tensors, metadata)
    return f"{len(tensors)} tensors of {len(json.loads(metadata['tokens']))} tokens in {arguments.output}", 0


def _compare(arguments: argparse.Namespace) -> Result:
    for name, value in (("--rtol", arguments.rtol), ("--atol", arguments.atol)):
        if not value >= 0:
            raise ValueError(f"{name} must be a number from 0 up, got {value:g}.")
    ours, theirs = read_recording(arguments.ours), read_recording(arguments.theirs)
    names = {} if arguments.map is None else read_json(arguments.map)
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise ValueError(f"{arguments.map}: needs an object of their names by ours.")
    found = compare(ours, theirs, names, arguments.rtol, arguments.atol)
    if not found:
        raise ValueError(f"{arguments.theirs} has no tensor of {arguments.ours}. Give their names with --map.")
    first = next((one.name for one in found if not one.same), None)
    missing = [name for name in ours if names.get(name, name) not in theirs]
    if arguments.json:
        tensors = [one._asdict() for one in found]
        return json.dumps(
            {"same": first is None, "first_divergence": first, "tensors": tensors, "missing": missing}
        ), first is not None
    tolerance = f"within {arguments.atol:g} + {arguments.rtol:g} of their value"
    verdict = f"same: {len(found)} tensors {tolerance}"
    if first is not None:
        verdict = f"differ: {sum(not one.same for one in found)} of {len(found)} tensors, first {first}"
    if missing:
        verdict += f"; {len(missing)} missing"
    lines = [_printable(_row(one, first)) for one in found] + [_printable(f"{name}  missing") for name in missing]
    return "\n".join([_HEADING, *lines, verdict]), first is not None


_HEADING = f"{'tensor':<57}{'shape':<18}{'max abs':>9}{'max rel':>9}{'ulp':>9}{'cosine':>12}"


def _row(one: Comparison, first: str | None) -> str:
    figures = "".join(f"{'-' if x is None else f'{x:.1e}':>9}" for x in (one.max_abs, one.max_rel, one.ulp))
    cosine = "-" if one.cosine is None else f"{one.cosine:.8f}"
    mark = "  <- first that differs" if one.name == first else "" if one.same else "  differs"
    layout = f"  theirs {one.layout}" if one.layout else ""
    return f"{one.name:<57}{str(one.shape):<18}{figures}{cosine:>12}{mark}{layout}"


def _show(arguments: argparse.Namespace) -> Result:
    folder = hub.find(arguments.model)
    plot.show(
        arguments.question, _context(arguments), folder, arguments.output, layer=arguments.layer, head=arguments.head
    )
    return str(arguments.output), 0


def _evaluate(arguments: argparse.Namespace) -> Result:
    if arguments.limit is not None:
        check_integer("--limit", arguments.limit, 1)
    if arguments.score is not None and arguments.model is not None:
        raise ValueError("--score takes the answers from its file. Leave --model out.")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        questions = squad.read_questions(arguments.file)[: arguments.limit]
    for warning in caught:
        _warn(str(warning.message))
    predictions = (
        _predictions(questions, arguments) if arguments.score is None else squad.read_predictions(arguments.score)
    )
    scores = squad.score(questions, predictions)
    for name in scores.missing[:NAMED]:
        _warn(f"question {name} has no prediction and scores 0.")
    if len(scores.missing) > NAMED:
        _warn(f"so do {len(scores.missing) - NAMED} more.")
    if arguments.json:
        return json.dumps(scores._asdict() | {"missing": len(scores.missing)}), 0
    return f"exact match  {scores.exact_match:.2f}\nF1           {scores.f1:.2f}\nquestions    {scores.total}", 0


def _predictions(questions: Sequence[squad.Question], arguments: argparse.Namespace) -> dict[str, str]:
    qa = QuestionAnswerer.from_pretrained(arguments.model)
    with nullcontext() if arguments.predictions is None else write_whole(arguments.predictions) as file:
        answers = qa({"question": q.question, "context": q.context} for q in questions)
        predictions = {q.id: answer["answer"] for answer, q in zip(_progress(answers, len(questions)), questions)}
        if file is not None:
            json.dump(predictions, file)
    return predictions


def _progress(items: Iterable[Item], total: int) -> Iterator[Item]:
    """The items, with a bar on standard error if that is a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield from items
        return
    start = time.monotonic()
    try:
        for done, item in enumerate(items, 1):
            yield item
            taken = max(time.monotonic() - start, 0.001)
            left = int(taken / done * (total - done))
            bar = f"{'█' * (BAR * done // total):░<{BAR}}"
            speed = f"{done / taken:.0f} a second, {left // 60}:{left % 60:02} left"
            print(f"{CLEAR_LINE}{bar} {done} of {total}, {speed}", end="", file=sys.stderr, flush=True)
    finally:
        print(CLEAR_LINE, end="", file=sys.stderr, flush=True)


def _shown(answer: Answer, context: str) -> str:
    """Two lines: the answer with its score, and the sentence it stands in, highlighted if a terminal shows it."""
    if not answer["answer"]:
        return f"(no answer)  ({answer['score']:.2f})"
    low, high = answer["start"], answer["end"]
    begin = max([0, *(end.end() for end in SENTENCE_END.finditer(context[:low]))])
    after = SENTENCE_END.search(context, high)
    finish = after.start() if after else len(context)
    before = "…" * (low - begin > SHOWN) + _printable(context[max(begin, low - SHOWN) : low])
    behind = _printable(context[high : min(finish, high + SHOWN)]) + "…" * (finish - high > SHOWN)
    highlight, bold, plain = (HIGHLIGHT, BOLD, PLAIN) if sys.stdout.isatty() else ("", "", "")
    text = _printable(answer["answer"])
    heading = f"{bold}{text}{plain}  ({answer['score']:.2f})"
    return f"{heading}\n    {before.lstrip()}{highlight}{text}{plain}{behind.rstrip()}"


def _printable(text: str) -> str:
    """On one line, and without what a hostile text could steer a terminal with."""
    joiners = "\u200c\u200d"
    return "".join(c if c.isprintable() or c in joiners else " " if c.isspace() else "\ufffd" for c in text)
