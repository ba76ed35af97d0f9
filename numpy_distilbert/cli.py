"""The command line: one subcommand per verb.

Exit status 0 done; 1 the output could not be written; 2 the call or its files were wrong; then one line on standard
error says what and what to do. 130 stopped by Ctrl-C.
"""

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from . import __version__
from .qa import Answer, QuestionAnswerer

PROGRAM = "numpy-distilbert"
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n\s*\n")
SHOWN = 200  # characters of the sentence to either side of the answer
HIGHLIGHT, BOLD, PLAIN = "\x1b[1;7m", "\x1b[1m", "\x1b[0m"


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
        output = parsed.run(parsed)
    except ValueError as error:  # CheckpointError is one
        return _fail(2, str(error))
    except KeyboardInterrupt:
        return 130
    try:
        print(output, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter would try again as it ends
        return _fail(1, f"the answer could not be written ({error.strerror}).")
    return 0


def _fail(status: int, message: str) -> int:
    print(f"{PROGRAM}: {_printable(message)}", file=sys.stderr)
    return status


def _parser() -> Parser:
    parser = Parser(prog=PROGRAM, description="Extractive question answering with DistilBERT, in NumPy alone.")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    ask = verbs.add_parser("ask", help="answer a question from a text", description="Answer a question from a text.")
    ask.add_argument("question")
    text = ask.add_mutually_exclusive_group()
    text.add_argument("--context", metavar="TEXT", help="the text itself")
    text.add_argument("--file", metavar="PATH", help="a UTF-8 file that holds the text (default: standard input)")
    ask.add_argument("--top-k", metavar="N", type=int, default=1, help="show the N best answers (default: 1)")
    ask.add_argument("--model", metavar="PATH", help="folder of a checkpoint (default: the embedded one)")
    ask.add_argument("--json", action="store_true", help="print the answer, or the list of the N best, as JSON")
    ask.set_defaults(run=_ask)
    return parser


def _ask(arguments: argparse.Namespace) -> str:
    context = _context(arguments)
    answers = QuestionAnswerer.from_pretrained(arguments.model)(
        question=arguments.question, context=context, top_k=arguments.top_k
    )
    if arguments.json:
        return json.dumps(answers)
    shown = [_shown(answer, context) for answer in (answers if isinstance(answers, list) else [answers])]
    encoding = sys.stdout.encoding or "utf-8"
    return "\n".join(shown).encode(encoding, errors="replace").decode(encoding)  # what it cannot write becomes "?"


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
