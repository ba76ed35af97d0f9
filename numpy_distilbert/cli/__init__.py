"""The command line: one subcommand per verb.

Exit status 0: done; 1: the output could not be written, `compare` found a difference, or rows of `batch` have errors;
2: the call or its files were wrong, and one line on standard error says what and what to do; 130: stopped by Ctrl-C;
143: stopped by SIGTERM, which `serve` ends with 0. Warnings and progress go to standard error too.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from .. import __version__
from . import asking, batching, checkpoints, evaluating, lab, serving, training
from .terminal import PROGRAM, fail, writable


class Parser(argparse.ArgumentParser):
    """A parser that reports a wrong call in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """See argparse.ArgumentParser.error()."""
        self.exit(fail(2, f"{message} (see {self.prog} --help)"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; None means the arguments of the process. Returns the exit status."""
    parser = Parser(prog=PROGRAM, description="Extractive question answering with DistilBERT, in NumPy alone.")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    parser.set_defaults(unwritten=1)
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for module in (asking, evaluating, batching, checkpoints, lab, training, serving):
        module.add_verbs(verbs)
    parsed = parser.parse_args(arguments)
    if sys.stdout is None:
        return fail(1, "the answer could not be written (standard output is closed).")
    try:
        output, status = parsed.run(parsed)
    except ValueError as error:  # CheckpointError is one
        return fail(2, str(error))
    except OSError as error:
        return fail(1, f"the output could not be written ({error.strerror}).")
    except KeyboardInterrupt:
        return 130
    try:
        print(writable(output, sys.stdout), end="\n" if output else "", flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter would try again as it ends
        return fail(parsed.unwritten, f"the answer could not be written ({error.strerror}).")
    return int(status)
