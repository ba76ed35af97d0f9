"""The command line: one subcommand per verb.

Exit status 0: done; 1: memory ran out, the output could not be written, `compare` found a difference, or `batch` has
rows with errors; 2: a wrong call or file; 130: stopped by Ctrl-C; 141: standard output was closed, as by `| head`;
143: stopped by SIGTERM, which ends `serve` with 0. Errors (one line, with what to do), warnings and progress go to
standard error.
"""

import os
import sys
from collections.abc import Sequence

from .. import __version__
from ..runtime.blas import claim_threads
from .terminal import PROGRAM, Parser, Verbs, fail, writable

TASKS = {
    "answer questions": ("ask", "batch", "serve"),
    "look inside the model": ("show", "trace", "compare"),
    "get, measure and train models": ("download", "info", "evaluate", "distill"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb, or print the help if there is none, and return the exit status. None means sys.argv[1:]."""
    claim_threads()
    from . import asking, batching, checkpoints, evaluating, lab, serving, training  # which import NumPy

    verbs: Verbs = {}
    for module in (asking, batching, serving, lab, checkpoints, evaluating, training):
        module.add_verbs(verbs)
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if sys.stdout is None:
        return fail(1, "the output could not be written (standard output is closed).")
    verb = verbs.get(words[0]) or _program(verbs)
    failed = verb.get_default("failed") or 1
    try:
        try:
            verb.check("verb", words[0], [*verbs, "-h", "--help", "--version"])
            parsed = verb.read(words[1:] if words[0] in verbs else words)
        finally:
            sys.stdout.flush()  # of a help or the version, after which argparse raises SystemExit
        output, status = parsed.run(parsed)
        print(writable(output, sys.stdout), end="\n" if output else "", flush=True)
        return int(status)
    except ValueError as error:  # CheckpointError is one
        return fail(2, str(error))
    except MemoryError:
        return fail(failed, "there was not enough memory. Use a smaller input, or free some memory.")
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if sys.stdout is sys.__stdout__:  # what is left in it would be written, and reported, at the end once more
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if isinstance(error, BrokenPipeError):
            return 141  # as a shell reports a program that SIGPIPE ended
        return fail(failed, f"the output could not be written ({error.strerror}).")


def _program(verbs: Verbs) -> Parser:
    """The parser of the program's own options, whose help lists the verbs by task."""
    about = "Extractive question answering with DistilBERT, in NumPy alone."
    for task, names in TASKS.items():
        about += f"\n\n{task}:" + "".join(f"\n  {name:<10}{verbs[name].get_default('summary')}" for name in names)
    program = Parser(PROGRAM, about, 'ask "Who kept the log?" --context "Maren Holt kept its log."')
    program.usage = f"{PROGRAM} VERB ...\n       {PROGRAM} VERB --help"
    program.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    return program
