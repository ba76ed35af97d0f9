"""What the verbs share: text from the call, progress and warnings to standard error, nothing that steers a terminal."""

import argparse
import os
import shutil
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO, TypeVar

from .. import squad

PROGRAM = "numpy-distilbert"
MODEL_HELP = "folder or hub id of a checkpoint (default: the embedded one)"
BAR = 30  # characters
Item = TypeVar("Item")
Result = tuple[str, int]  # of every verb: what to print, and the exit status
Verbs = Any  # what argparse's add_subparsers gives


def fail(status: int, message: str) -> int:
    """Say what was wrong; gives the exit status back."""
    warn(message)
    return status


def warn(message: str) -> None:
    """One line on standard error."""
    if sys.stderr is not None:  # else print() would write to standard output
        print(f"{PROGRAM}: {printable(message)}", file=sys.stderr)


def printable(text: str) -> str:
    """On one line, and without what a hostile text could steer a terminal with."""
    joiners = "\u200c\u200d"
    return "".join(c if c.isprintable() or c in joiners else " " if c.isspace() else "\ufffd" for c in text)


def writable(text: str, stream: TextIO) -> str:
    """The text, with "?" for characters that the stream's encoding lacks."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, errors="replace").decode(encoding)


def in_colour() -> bool:
    """Whether standard output shows colours, and the user wants them (https://no-color.org)."""
    # A Windows console takes escape sequences only from a program that has set it to: there the text stays plain.
    shows = sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and sys.platform != "win32"
    return shows and not os.environ.get("NO_COLOR")


def add_question(verb: argparse.ArgumentParser) -> None:
    """The arguments of every verb that answers one question."""
    verb.add_argument("question")
    text = verb.add_mutually_exclusive_group()
    text.add_argument("--context", metavar="TEXT", help="the text itself")
    text.add_argument("--file", metavar="PATH", help="a UTF-8 file that holds the text (default: standard input)")
    verb.add_argument("--model", metavar="MODEL", help=MODEL_HELP)


def read_context(arguments: argparse.Namespace) -> str:
    """The text in the call, in its file or on standard input. Raises ValueError if it cannot be read."""
    context: str | None = arguments.context
    if context is not None:
        return context
    source = "standard input" if arguments.file is None else arguments.file
    if arguments.file is None and sys.stdin is None:
        raise ValueError("standard input is closed. Give the text with --context or --file.")
    if arguments.file is None and sys.stdin.isatty():
        end = "Ctrl-Z and Enter" if sys.platform == "win32" else "Ctrl-D"
        warn(f"type or paste the text, then end it with {end} on a line of its own.")
    try:
        data = sys.stdin.buffer.read() if arguments.file is None else Path(arguments.file).read_bytes()
        return data.decode("utf-8")  # not text mode, which would turn \r\n into \n and shift every offset
    except OSError as error:
        raise ValueError(f"{source}: cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{source}: not UTF-8 text (byte {error.start}). Convert it first.") from error


def read_squad(path: str, left_out: list[str] | None = None) -> list[squad.Question]:
    """As squad.read_questions, its warnings in the words of this program."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        questions = squad.read_questions(path, left_out)
    for warning in caught:
        warn(str(warning.message))
    return questions


def progress(items: Iterable[Item], total: int) -> Iterator[Item]:
    """The items, with a bar on standard error if that is a terminal."""
    start = time.monotonic()
    try:
        for done, item in enumerate(items, 1):
            yield item
            draw_bar(done, total, f"{done} of {total}, {pace(done, total - done, time.monotonic() - start)}")
    finally:
        clear_bar()


def pace(done: int, left: int, seconds: float) -> str:
    """How fast it goes, and how long yet."""
    if done <= 0:
        return "just begun"
    rate = done / max(seconds, 0.001)
    return f"{rate:.0f} a second, {clock(left / rate)} left"


def clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def on_terminal() -> bool:
    """Whether somebody sees a bar: standard error is a terminal, and one where the cursor can go back."""
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def draw_bar(done: int, total: int, text: str) -> None:
    """Draw it over the one before, if somebody sees it."""
    if on_terminal():
        full, empty = "█░" if writable("█░", sys.stderr) == "█░" else "#."
        _overwrite(f"{full * (BAR * done // total):{empty}<{BAR}} {text}")


def clear_bar() -> None:
    """Leave no bar behind."""
    if on_terminal():
        _overwrite("", end="\r")


def _overwrite(line: str, end: str = "") -> None:
    """Write a line in the place of the last, with spaces to its end: every console can do that without escapes."""
    room = shutil.get_terminal_size().columns - 1  # of a line that goes on in the next, only that would be overwritten
    print(f"\r{line[:room]:<{room}}", end=end, file=sys.stderr, flush=True)
