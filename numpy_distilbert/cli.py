"""The command line: one subcommand per verb.

Exit status 0 done; 1 the output could not be written, or what `compare` compares differs; 2 the call or its files were wrong; then one line on standard
error says what and what to do. 130 stopped by Ctrl-C. Warnings and progress go to standard error too.
"""

import argparse
import json
import os
import re
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NoReturn, TypeVar

from . import __version__, hub, plot, squad, train
from .arguments import check_integer
from .files import read_json, write_whole
from .gradients import Window
from .info import describe
from .qa import Answer, QuestionAnswerer
from .tensors import Weights
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
        return _fail(parsed.unwritten, f"the answer could not be written ({error.strerror}).")
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
    parser.set_defaults(unwritten=1)
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
    compare.set_defaults(run=_compare, unwritten=2)  # as 1 says that they differ
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
    distill = verbs.add_parser(
        "distill",
        help="train a model on SQuAD, with a teacher",
        description="Train a model on SQuAD v1.1, with the logits of a teacher if there are some. Stopped (Ctrl-C, SIGTERM, "
        "or a crash), the same call goes on where it was. With --write-logits, write the logits of a teacher instead.",
    )
    settings = train.Settings()
    distill.add_argument("file", metavar="TRAIN.json", help="SQuAD v1.1, JSON or JSON in gzip")
    distill.add_argument(
        "--init", metavar="MODEL", help="where to begin; with --write-logits the teacher: " + MODEL_HELP
    )
    output = distill.add_mutually_exclusive_group(required=True)
    output.add_argument("--out", metavar="DIR", help="the folder for the new checkpoint")
    output.add_argument(
        "--write-logits", metavar="OUT.safetensors", help="write the logits of --init, and do not train"
    )
    distill.add_argument(
        "--teacher",
        metavar="LOGITS",
        nargs="+",
        default=[],
        help="files of --write-logits, or of another framework; their mean is the teacher",
    )
    distill.add_argument("--limit", metavar="N", type=int, help="only the first N questions")
    distill.add_argument("--eval", metavar="DEV.json", help="evaluate on this file at the end")
    distill.add_argument("--save-every", metavar="N", type=int, default=100, help="steps (default: %(default)s)")
    distill.add_argument("--freeze-words", action="store_true", help="leave the word embeddings as they are")
    for name, kind, help in (
        ("alpha", float, "share of the teacher in the loss, 0 to 1"),
        ("temperature", float, "what logits are divided by for the teacher's part"),
        ("epochs", int, "how often every window is seen"),
        ("lr", float, "the highest learning rate"),
        ("batch-tokens", int, "tokens to a step"),
        ("dropout", float, "rate of dropout, from 0 to less than 1"),
        ("seed", int, "for order and dropout"),
    ):
        default = getattr(settings, name.replace("-", "_"))
        distill.add_argument(f"--{name}", type=kind, default=default, help=f"{help} (default: %(default)s)")
    distill.set_defaults(run=_distill)
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
    published = {True: ", as published", False: ""}
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
    unknown = next((name for name in names if name not in ours), None)
    if unknown is not None:
        raise ValueError(f"{arguments.map}: {arguments.ours} has no {unknown}.")
    found = compare(ours, theirs, names, arguments.rtol, arguments.atol)
    if not found:
        raise ValueError(f"{arguments.theirs} has no tensor of {arguments.ours}. Give their names with --map.")
    first = next((one.name for one in found if not one.same), None)
    missing = [name for name in ours if names.get(name, name) not in theirs]
    extra = [name for name in theirs if name not in {names.get(name, name) for name in ours}]
    same = first is None and not missing
    if arguments.json:
        tensors = [one._asdict() for one in found]
        known = {"same": same, "first_divergence": first, "tensors": tensors, "missing": missing, "extra": extra}
        return json.dumps(known), not same
    verdict = f"{'same' if same else 'differ'}: {sum(not one.same for one in found)} of {len(found)} tensors differ"
    verdict += f" by more than {arguments.atol:g} + {arguments.rtol:g} of their value"
    verdict += f", first {first}" if first else ""
    verdict += f"; theirs has not {len(missing)}" if missing else ""
    rows = [_row(one, first) for one in found]
    rows += [f"{name}  missing" for name in missing] + [f"{name}  theirs alone" for name in extra]
    return "\n".join(map(_printable, [_HEADING, *rows, verdict])), not same


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


def _distill(arguments: argparse.Namespace) -> Result:
    settings = train.Settings(*(getattr(arguments, name) for name in train.Settings._fields))
    settings.check()
    check_integer("--save-every", arguments.save_every, 1)
    if arguments.limit is not None:
        check_integer("--limit", arguments.limit, 1)
    held_out = [] if arguments.eval is None else squad.read_questions(arguments.eval)
    source = hub.find(arguments.init)
    qa = QuestionAnswerer.from_pretrained(source)
    left_out: list[str] = []
    questions = squad.read_questions(arguments.file, left_out)[: arguments.limit]
    ids, answers, misplaced = train.training_windows(questions, qa)
    if left_out or misplaced:
        _warn(
            f"{len(left_out)} questions are blank or have no answer, {len(misplaced)} answers are not in their context."
        )
    if not ids:
        raise ValueError(f"{arguments.file}: holds no question to train with.")
    if arguments.write_logits is not None:
        logits = (pair for first in range(0, len(ids), 64) for pair in qa.logits(ids[first : first + 64]))
        train.write_logits(arguments.write_logits, ids, _progress(logits, len(ids)))
        return f"logits of {len(ids)} windows in {arguments.write_logits}", 0
    folder = Path(arguments.out)
    if (folder / "model.safetensors").exists():
        raise ValueError(f"{folder}: holds a model already. Choose another folder with --out.")
    windows = train.with_teachers(ids, answers, [train.read_logits(path, ids) for path in arguments.teacher])
    about = settings._asdict() | {
        "questions": len(questions) - len(misplaced),
        "tokens_sha256": train.tokens_sha256(ids),
        "init_sha256": [hub.sha256(path) for path in Weights(source).files],
        "teacher_sha256": [hub.sha256(Path(path)) for path in arguments.teacher],
    }
    state = train.State(train.trainable(qa.model, settings.freeze_words))
    path = folder / "state.safetensors"
    if path.exists():
        state.load(path, about)
    folder.mkdir(parents=True, exist_ok=True)
    stopped = _train(qa, windows, settings, state, lambda: state.save(path, about), arguments.save_every)
    if stopped:
        return f"stopped after step {len(state.losses)}, saved in {path}. The same call goes on.", 128 + stopped
    about["loss_of_100_steps"] = state.curve()
    train.write_checkpoint(folder, qa.model, source, about)
    path.unlink(missing_ok=True)
    if not held_out:
        return str(folder), 0
    scores = squad.score(held_out, _predictions(held_out, folder))
    return f"{folder}: exact match {scores.exact_match:.2f}, F1 {scores.f1:.2f} of {scores.total} questions", 0


def _train(
    qa: QuestionAnswerer,
    windows: list[Window],
    settings: train.Settings,
    state: train.State,
    save: Callable[[], None],
    save_every: int,
) -> int:
    """Train to the end, 0, or until a signal comes, its number; saved then, and after every so many steps."""
    caught: list[int] = []
    before = {
        number: signal.signal(number, lambda n, _: caught.append(n)) for number in (signal.SIGTERM, signal.SIGINT)
    }
    shown = sys.stderr is not None and sys.stderr.isatty()
    start, tokens, first = time.monotonic(), 0, len(state.losses)
    try:
        for done, steps, taken in train.train(qa.model, windows, settings, state):
            tokens += taken
            seconds = time.monotonic() - start
            left = int(seconds / (done - first) * (steps - done))
            line = (
                f"{done} of {steps} steps, loss {state.recent_loss():.3f}, {tokens / seconds:.0f} tokens a second, "
                f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02} left"
            )
            if shown:
                bar = f"{'█' * (BAR * done // steps):░<{BAR}}"
                print(f"{CLEAR_LINE}{bar} {line}", end="", file=sys.stderr, flush=True)
            elif done % train.CURVE == 0:
                _warn(line)
            if caught or done % save_every == 0:
                save()
            if caught:
                return caught[0]
    finally:
        if shown:
            print(CLEAR_LINE, end="", file=sys.stderr, flush=True)
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


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
        _predictions(questions, arguments.model, arguments.predictions)
        if arguments.score is None
        else squad.read_predictions(arguments.score)
    )
    scores = squad.score(questions, predictions)
    for name in scores.missing[:NAMED]:
        _warn(f"question {name} has no prediction and scores 0.")
    if len(scores.missing) > NAMED:
        _warn(f"so do {len(scores.missing) - NAMED} more.")
    if arguments.json:
        return json.dumps(scores._asdict() | {"missing": len(scores.missing)}), 0
    return f"exact match  {scores.exact_match:.2f}\nF1           {scores.f1:.2f}\nquestions    {scores.total}", 0


def _predictions(
    questions: Sequence[squad.Question], model: str | Path | None, path: str | None = None
) -> dict[str, str]:
    """The model's answers by question id, kept at path if there is one."""
    qa = QuestionAnswerer.from_pretrained(model)
    with nullcontext() if path is None else write_whole(path) as file:
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
