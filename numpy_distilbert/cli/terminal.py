"""What all verbs share: reading the context, and printing progress, warnings and texts that may be hostile."""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO, TypeVar

PROGRAM = "numpy-distilbert"
MODEL_HELP = "folder or hub id of a checkpoint (default: the embedded one)"
BAR = 30  # characters
Item = TypeVar("Item")
Result = tuple[str, int]  # what a verb prints, and its exit status
Verbs = Any  # returned by argparse's add_subparsers()


def add_verb(verbs: Verbs, name: str, run: Callable[..., Result], summary: str) -> argparse.ArgumentParser:
    """Add a verb that is carried out by run, whose docstring describes it in its --help."""
    verb: argparse.ArgumentParser = verbs.add_parser(name, help=summary, description=run.__doc__)
    verb.set_defaults(run=run)
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
    joiners = "\u200c\u200d"
    return "".join(c if c.isprintable() or c in joiners else " " if c.isspace() else "\ufffd" for c in text)


def writable(text: str, stream: TextIO) -> str:
    """The text, with "?" for characters that the stream's encoding lacks."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, errors="replace").decode(encoding)


def add_question(verb: argparse.ArgumentParser) -> None:
    """Add the arguments of a verb that answers one question."""
    verb.add_argument("question")
    text = verb.add_mutually_exclusive_group()
    text.add_argument("--context", metavar="TEXT", help="the text itself")
    text.add_argument("--file", metavar="PATH", help="a UTF-8 file that holds the text (default: standard input)")
    verb.add_argument("--model", metavar="MODEL", help=MODEL_HELP)


def read_context(arguments: argparse.Namespace) -> str:
    """The text in the call, in its file or on standard input. Raises ValueError if it cannot be read."""
    return read_text(arguments.file) if arguments.context is None else str(arguments.context)


def read_text(path: str | None) -> str:
    """The text in a file, or with None on standard input. Raises ValueError if it cannot be read."""
    source = "standard input" if path is None else path
    if path is None and sys.stdin is None:
        raise ValueError("standard input is closed. Give the text with --context or --file.")
    if path is None and sys.stdin.isatty():
        end = "Ctrl-Z and Enter" if sys.platform == "win32" else "Ctrl-D"
        warn(f"type or paste the text, then end it with {end} on a line of its own.")
    try:
        data = sys.stdin.buffer.read() if path is None else Path(path).read_bytes()
        return data.decode("utf-8")  # not text mode, which would turn \r\n into \n and shift every offset
    except OSError as error:
        raise ValueError(f"{source}: cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{source}: not UTF-8 text (byte {error.start}). Convert it first.") from error


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
