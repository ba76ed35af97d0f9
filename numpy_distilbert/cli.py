"""The command line: one subcommand per verb.

Exit status 0 done; 2 the call or its files were wrong, then one line on standard error says what and what to do; 130
stopped by Ctrl-C.
"""

import argparse
import json
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
        self.exit(2, f"{PROGRAM}: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; None means the arguments of the process. Returns the exit status."""
    parsed = _parser().parse_args(arguments)
    sys.stdout.reconfigure(errors="replace")  # a terminal that cannot show a character shows a question mark
    try:
        parsed.run(parsed)
    except (OSError, ValueError, TypeError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


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


def _ask(arguments: argparse.Namespace) -> None:
    context = _context(arguments)
    answers = QuestionAnswerer.from_pretrained(arguments.model)(
        question=arguments.question, context=context, top_k=arguments.top_k
    )
    if arguments.json:
        print(json.dumps(answers))
    else:
        for answer in answers if isinstance(answers, list) else [answers]:
            print(_shown(answer, context, colour=sys.stdout.isatty()))


def _context(arguments: argparse.Namespace) -> str:
    if arguments.context is not None:
        return arguments.context
    if arguments.file is None and sys.stdin.isatty():
        print("Type or paste the text, then end it with Ctrl-D on a line of its own.", file=sys.stderr)
    source = "standard input" if arguments.file is None else arguments.file
    try:
        data = sys.stdin.buffer.read() if arguments.file is None else Path(arguments.file).read_bytes()
        return data.decode("utf-8")  # not text mode, which would turn \r\n into \n and shift every offset
    except OSError as error:
        raise OSError(f"{source}: cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{source}: not UTF-8 text (byte {error.start}). Convert it first.") from error


def _shown(answer: Answer, context: str, colour: bool) -> str:
    """Two lines: the answer with its score, and the sentence it stands in."""
    low, high = answer["start"], answer["end"]
    begin = max([0, *(end.end() for end in SENTENCE_END.finditer(context[:low]))])
    after = SENTENCE_END.search(context, high)
    finish = after.start() if after else len(context)
    before = "…" * (low - begin > SHOWN) + _printable(context[max(begin, low - SHOWN) : low])
    behind = _printable(context[high : min(finish, high + SHOWN)]) + "…" * (finish - high > SHOWN)
    highlight, bold, plain = (HIGHLIGHT, BOLD, PLAIN) if colour else ("", "", "")
    text = _printable(answer["answer"])
    return (
        f"{bold}{text}{plain}  ({answer['score']:.2f})\n    {before.lstrip()}{highlight}{text}{plain}{behind.rstrip()}"
    )


def _printable(text: str) -> str:
    """On one line, and without what a hostile text could steer a terminal with."""
    joiners = "\u200c\u200d"
    return "".join(c if c.isprintable() or c in joiners else " " if c.isspace() else "\ufffd" for c in text)
