"""The verb ask."""

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from ..arguments import check_integer, check_not_blank
from ..qa import QuestionAnswerer
from ..spans import Answer
from .terminal import MODEL_HELP, Result, Verbs, add_verb, clear_bar, draw_bar, printable, read_text, warn, writable

STANDARD_INPUT = "standard input"
TEXT_SUFFIXES = ".md", ".txt"  # of the files that are read of a folder
LONG = 16  # passages, and more, are worth a progress bar
MOSTLY_UNKNOWN = 0.5  # share of tokens
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n\s*\n")
SENTENCE_CHARACTERS = 200  # printed on either side of the answer
HIGHLIGHT, BOLD, PLAIN = "\x1b[1;7m", "\x1b[1m", "\x1b[0m"


def add_verbs(verbs: Verbs) -> None:
    """Add the verb ask."""
    example = '"Who kept the log?" --file log.txt notes/'
    ask = add_verb(verbs, "ask", _ask, "answer a question from a text, or from files and folders", example)
    ask.add_argument("question", metavar="QUESTION", nargs="?", help="the question, in quotes")
    text = ask.add_mutually_exclusive_group()
    text.add_argument("--context", metavar="TEXT", help="the text itself")
    files = "UTF-8 files, folders of .md and .txt files, or - for standard input (default: -)"
    text.add_argument("--file", metavar="PATH", nargs="+", help=files)
    ask.add_argument("--model", metavar="MODEL", help=MODEL_HELP)
    ask.add_argument("-i", "--interactive", action="store_true", help="ask one question after another, until Ctrl-D")
    read = "how many passages the model reads: the N most promising, or all (default: 8)"
    ask.add_argument("--read", metavar="N|all", type=_number_or_all, default=8, help=read)
    ask.add_argument("--top-k", metavar="N", type=int, default=1, help="show the N best answers (default: 1)")
    pipeline = "give the answer and score that transformers' pipeline would give, from one text"
    ask.add_argument("--pipeline", action="store_true", help=pipeline)
    ask.add_argument("--json", action="store_true", help="print the answers as JSON")


def _number_or_all(value: str) -> int | None:
    if value != "all" and not value.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a number or all, got {value!r}")
    return None if value == "all" else int(value)


def _ask(arguments: argparse.Namespace) -> Result:
    """Answer a question from a text, or from files and folders, or say that the answer is probably not there."""
    if not arguments.interactive and arguments.question is None:
        raise ValueError("QUESTION is missing. Give it before --file, or ask with -i.")
    if arguments.interactive and arguments.question is not None:
        raise ValueError("-i reads the questions from standard input. Leave QUESTION out.")
    if arguments.interactive and arguments.context is None and (arguments.file is None or "-" in arguments.file):
        raise ValueError("-i reads the questions from standard input. Give the text with --file or --context.")
    for name in ("read", "top_k"):
        if getattr(arguments, name) is not None:
            check_integer(f"--{name.replace('_', '-')}", getattr(arguments, name), 1)
    texts = _texts(arguments)
    if arguments.pipeline and len(texts) > 1:
        raise ValueError(f"--pipeline answers from one text, got {len(texts)}. Leave it out, or name one file.")
    qa = QuestionAnswerer.from_pretrained(arguments.model)
    answer = _pipeline(qa, texts, arguments) if arguments.pipeline else _search(qa, texts, arguments)
    if not arguments.interactive:
        return answer(arguments.question), 0
    for question in _questions():
        print(writable(answer(question), sys.stdout), flush=True)
    return "", 0


def _search(qa: QuestionAnswerer, texts: Mapping[str, str], arguments: argparse.Namespace) -> Callable[[str], str]:
    """A function that searches all texts for the answer to a question, and formats what it finds."""
    documents = qa.documents(texts)
    if documents.unknown > MOSTLY_UNKNOWN:
        knows = " (English)" if arguments.model is None else ""
        warn(f"{100 * documents.unknown:.0f} % of this text is unknown to this checkpoint{knows}.")

    def answer(question: str) -> str:
        try:
            found = qa.search(question, documents, arguments.top_k, arguments.read, _draw_passages)
        finally:
            clear_bar()
        if arguments.json:
            return json.dumps({"answers": found, "no_answer": found.no_answer})
        shown = [_shown(nearest, _place(nearest) if arguments.file else "") for nearest in found]
        if found.best is None:
            shown.insert(0, "Probably not in this text. Nearest:" if found else "Probably not in this text.")
        return "\n".join(shown)

    return answer


def _pipeline(qa: QuestionAnswerer, texts: Mapping[str, str], arguments: argparse.Namespace) -> Callable[[str], str]:
    """A function that formats the pipeline's answers to a question from one text."""
    (context,) = texts.values()

    def answer(question: str) -> str:
        answers = qa(question, context, top_k=arguments.top_k)
        if arguments.json:
            return json.dumps(answers)
        return "\n".join(map(_shown, answers if isinstance(answers, list) else [answers]))

    return answer


def _texts(arguments: argparse.Namespace) -> dict[str, str]:
    """The texts to search, by name. Raises ValueError if one cannot be read or is blank, or if there are none."""
    if arguments.context is not None:
        check_not_blank("--context", arguments.context)
        return {"--context": arguments.context}
    paths = arguments.file or ["-"]
    files = [file for path in paths for file in (_files(path) if os.path.isdir(path) else [path])]
    once = {os.path.realpath(file): file for file in reversed(files)}  # a text there twice would compete with itself
    texts = {}
    for file in reversed(once.values()):
        try:
            texts[STANDARD_INPUT if file == "-" else file] = read_text(None if file == "-" else file)
        except ValueError as error:
            if file in paths:
                raise
            warn(f"{error} It is left out.")  # one bad file of a folder is no reason to read none
    if not texts:
        raise ValueError(f"{paths[-1]}: holds no text in a file that ends in {' or '.join(TEXT_SUFFIXES)}.")
    return texts


def _files(folder: str) -> list[str]:
    """All .md and .txt files below a folder, except hidden ones. Raises ValueError if there are none."""
    found = []
    for path, folders, names in os.walk(folder, onerror=lambda error: warn(f"{error.filename}: {error.strerror}.")):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files = [os.path.join(path, name) for name in sorted(names) if not name.startswith(".")]
        found += [file for file in files if file.lower().endswith(TEXT_SUFFIXES) and os.path.isfile(file)]
    if not found:
        raise ValueError(f"{folder}: holds no text in a file that ends in {' or '.join(TEXT_SUFFIXES)}.")
    return found


def _questions() -> Iterator[str]:
    """The non-blank lines of standard input, with a prompt on a terminal."""
    if sys.stdin is None:
        raise ValueError("standard input is closed. Give QUESTION instead of -i.")
    if sys.stdin.isatty() and sys.stdout.isatty():
        with suppress(ImportError):
            import readline  # noqa: F401  (gives input() its history)
        lines = iter(lambda: input("? "), None)
        with suppress(EOFError):
            yield from (line for line in lines if line.strip())
        print()
    else:
        lines = (line.decode("utf-8", errors="replace") for line in sys.stdin.buffer)
        yield from (line.strip() for line in lines if line.strip())


def _draw_passages(done: int, total: int) -> None:
    if total >= LONG:
        draw_bar(done, total, f"passage {done} of {total}")


def _place(answer: Answer) -> str:
    """File and line of an answer, as other programs understand them."""
    line = answer.context.count("\n", 0, answer.start) + 1
    return f"{answer.document}:{line}: "


def _shown(answer: Answer, place: str = "") -> str:
    """Two lines: the answer with its score, and its sentence, where it is highlighted on a terminal."""
    if not answer["answer"]:
        return f"(no answer)  ({answer['score']:.2f})"
    start, end, context = answer["start"], answer["end"], answer.context
    # of a long text only what is near, and one character more, which tells that there is more
    near = max(0, start - SENTENCE_CHARACTERS - 1)
    first = max([near, *(near + match.end() for match in SENTENCE_END.finditer(context[near:start]))])
    match = SENTENCE_END.search(context, end, end + SENTENCE_CHARACTERS + 2)
    last = match.start() if match else min(len(context), end + SENTENCE_CHARACTERS + 1)
    shown_from, shown_to = max(first, start - SENTENCE_CHARACTERS), min(last, end + SENTENCE_CHARACTERS)
    before = "…" * (shown_from > first) + printable(context[shown_from:start])
    after = printable(context[end:shown_to]) + "…" * (shown_to < last)
    highlight, bold, off = (HIGHLIGHT, BOLD, PLAIN) if _in_colour() else ("", "", "")
    text, place = printable(answer["answer"]), printable(place)
    sentence = f"{place}{before.lstrip()}{highlight}{text}{off}{after.rstrip()}"
    return f"{bold}{text}{off}  ({answer['score']:.2f})\n    {sentence}"


def _in_colour() -> bool:
    """Whether standard output shows colours, and the user wants them (https://no-color.org)."""
    # A Windows console takes escape sequences only from a program that has set it to: there the text stays plain.
    shows = sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and sys.platform != "win32"
    return shows and not os.environ.get("NO_COLOR")
