"""What all verbs share: reading the context, and printing progress, warnings and texts that may be hostile."""

import argparse
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path
from typing import NoReturn, TextIO, TypeVar

PROGRAM = "numpy-distilbert"
MODEL_HELP = "folder of a checkpoint, or its id on the Hugging Face hub (default: the embedded checkpoint)"
STATUSES = {
    0: "done",
    1: "memory ran out, or the output could not be written",
    2: "a wrong call or file: one line says what to do",
}
STATUSES |= {130: "stopped by Ctrl-C", 141: "standard output was closed early, as by `| head`"}
BAR = 30  # characters
Item = TypeVar("Item")
Result = tuple[str, int]  # what a verb prints, and its exit status
Verbs = dict[str, "Parser"]


class Parser(argparse.ArgumentParser):
    """The arguments and the help of a verb, or of the program. A wrong call is a ValueError, without the usage."""

    def __init__(self, name: str, about: str, example: str, statuses: dict[int, str] = STATUSES) -> None:
        rows = "".join(f"\n  {status:<5}{meaning}" for status, meaning in sorted(statuses.items()))
        end = f"example:\n  {PROGRAM} {example}\n\nexit status:{rows}"
        # without abbreviations, which each new option could make ambiguous
        super().__init__(name, None, about, end, [], argparse.RawDescriptionHelpFormatter, allow_abbrev=False)

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse the arguments. An unknown option is reported first: it may be a required one, misspelt."""
        for word in takewhile("--".__ne__, words):
            if word.startswith("--") and " " not in word:  # argparse too takes one with a space for a value
                self.check("option", word.split("=")[0], self._option_string_actions)
        parsed, extra = self.parse_known_args(words)
        if extra:
            self.error(f'unexpected argument "{extra[0]}"' + "; are quotes or --file missing?" * ("question" in parsed))
        return parsed

    def check(self, kind: str, name: str, known: Collection[str]) -> None:
        """Raise ValueError for an unknown name, suggesting the known one that was probably meant."""
        if name not in known:
            close = "".join(f'. Did you mean "{other}"?' for other in get_close_matches(name, known, 1))
            self.error(f'no {kind} "{name}"{close}')

    def error(self, message: str) -> NoReturn:
        """See argparse.ArgumentParser.error()."""
        raise ValueError(f"{message} (see {self.prog} --help)")


def add_verb(
    verbs: Verbs, name: str, run: Callable[..., Result], summary: str, example: str, statuses: dict[int, str] = STATUSES
) -> Parser:
    """Add a verb that is carried out by run, whose docstring begins its help. statuses: those of its own."""
    about = textwrap.fill(" ".join((run.__doc__ or "").split()), 78)
    verb = verbs[name] = Parser(f"{PROGRAM} {name}", about, f"{name} {example}", STATUSES | statuses)
    verb.set_defaults(run=run, summary=summary)
    return verb


def fail(status: int, message: str) -> int:
    """Print an error on standard error. Returns the exit status."""
    warn(message)
    return status


def warn(message: str) -> None:
    """Print one line on standard error."""
    if sys.stderr is not None:  # else print() would write to standard output
        print(f"{PROGRAM}: {printable(message)}", file=sys.stderr)


def printable(text: str) -> str:
    """The text on one line, without the control characters that a hostile text could steer a terminal with."""
    controls = {c for c in set(text) - {"\u200c", "\u200d"} if not c.isprintable()}  # the two join letters
    return text.translate({ord(c): " " if c.isspace() else "\ufffd" for c in controls})


def writable(text: str, stream: TextIO) -> str:
    """The text, with "?" for characters that the stream's encoding lacks."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, errors="replace").decode(encoding)


def add_question(verb: argparse.ArgumentParser) -> None:
    """Add the arguments of a verb that answers one question."""
    verb.add_argument("question", metavar="QUESTION", help="the question, in quotes")
    text = verb.add_mutually_exclusive_group()
    text.add_argument("--context", metavar="TEXT", help="the text, which must fit in one input of the model")
    text.add_argument("--file", metavar="PATH", help="a UTF-8 file that holds the text (default: standard input)")
    verb.add_argument("--model", metavar="MODEL", help=MODEL_HELP)


def read_context(arguments: argparse.Namespace) -> str:
    """The text from --context, --file or standard input. Raises ValueError if it cannot be read."""
    return read_text(arguments.file) if arguments.context is None else str(arguments.context)


def read_text(path: str | None) -> str:
    """The text in a file, or on standard input if path is None. Raises ValueError if it cannot be read."""
    source = "standard input" if path is None else path
    if path is None and sys.stdin is None:
        raise ValueError("standard input is closed. Give the text with --context or --file.")
    if path is None and sys.stdin.isatty():
        end = "Ctrl-Z and Enter" if sys.platform == "win32" else "Ctrl-D"
        warn(f"type or paste the text, then end it with {end} on a line of its own.")
    try:
        data = sys.stdin.buffer.read() if path is None else Path(path).read_bytes()
        text = data.decode("utf-8")  # not text mode, which would turn \r\n into \n and shift every offset
    except OSError as error:
        raise ValueError(f"{source}: cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{source}: not UTF-8 text (byte {error.start}). Convert it first.") from error
    if not text.strip():
        problem = f"{source} {'holds only white space' if text else 'is empty'}."
        raise ValueError(problem + " Give the text with --file or --context." * (path is None))
    return text


def progress(items: Iterable[Item], total: int) -> Iterator[Item]:
    """Pass the items on, with a progress bar on standard error if that is a terminal."""
    start = time.monotonic()
    try:
        for done, item in enumerate(items, 1):
            yield item
            draw_bar(done, total, f"{done} of {total}, {pace(done, total - done, time.monotonic() - start)}")
    finally:
        clear_bar()


def pace(done: int, left: int, seconds: float) -> str:
    """Items per second, and the time left."""
    if done <= 0:
        return "just begun"
    rate = done / max(seconds, 0.001)
    return f"{rate:.0f} a second, {clock(left / rate)} left"


def clock(seconds: float) -> str:
    """Hours, minutes and seconds, as in 1:02:03."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def on_terminal() -> bool:
    """Whether standard error is a terminal that can overwrite a line."""
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def draw_bar(done: int, total: int, text: str) -> None:
    """Draw a progress bar over the one before, on a terminal."""
    if on_terminal():
        full, empty = "█░" if writable("█░", sys.stderr) == "█░" else "#."
        _overwrite(f"{full * (BAR * done // total):{empty}<{BAR}} {text}")


def clear_bar() -> None:
    """Remove the progress bar from a terminal."""
    if on_terminal():
        _overwrite("", end="\r")


def _overwrite(line: str, end: str = "") -> None:
    """Write a line over the last, with spaces to its end, which works on every console without escape sequences."""
    width = shutil.get_terminal_size().columns - 1  # of a line that wraps, only the end would be overwritten
    print(f"\r{line[:width]:<{width}}", end=end, file=sys.stderr, flush=True)
