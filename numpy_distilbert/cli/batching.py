"""The verb batch."""

import argparse
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..arguments import check_integer
from ..batch.engines import Model, cluster, processes, threads
from ..batch.run import Progress, Stopped, answer_file
from .terminal import MODEL_HELP, Result, Verbs, clear_bar, draw_bar, fail, pace


def add_verbs(verbs: Verbs) -> None:
    """Describe their calls."""
    verb = verbs.add_parser(
        "batch",
        help="answer every question in a file",
        description="Answer every question in a file. Rows that cannot be answered have an error instead; exit status "
        "1 then. Ended at any moment, the same call with --resume goes on.",
    )
    verb.add_argument(
        "source",
        metavar="IN",
        help=".jsonl (question, context, whatever else), SQuAD .json, both also in gzip, or .parquet; - for JSON lines "
        "on standard input",
    )
    verb.add_argument("-o", dest="output", metavar="OUT", required=True, help=".jsonl or .parquet")
    verb.add_argument("--model", metavar="MODEL", help=MODEL_HELP)
    where = verb.add_mutually_exclusive_group()
    where.add_argument("--workers", metavar="N", type=int, help="processes, on Linux (default: the cores of this one)")
    where.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster, as tcp://host:8786")
    verb.add_argument("--resume", action="store_true", help="go on with what a run before has finished")
    verb.add_argument("--strict", action="store_true", help="stop at the first row that cannot be answered")
    verb.add_argument("--json", action="store_true", help="print the summary as JSON")
    verb.set_defaults(run=_batch)


def _batch(arguments: argparse.Namespace) -> Result:
    output = Path(arguments.output).resolve()
    model = Model.find(arguments.model)
    if arguments.workers is not None:
        engine = processes(model, check_integer("--workers", arguments.workers, 1))
    elif arguments.scheduler is not None:
        engine = cluster(arguments.scheduler)
    else:
        engine = threads(model)
    try:
        with _screen(), _file(arguments.source, output) as source:
            summary = answer_file(source, output, model, engine, arguments.resume, arguments.strict, _progress())
    except Stopped as error:
        raise SystemExit(fail(1, str(error))) from error
    if arguments.json:
        return json.dumps(summary._asdict()), int(summary.errors > 0)
    return "{} rows, {} answered, {} errors, {} kept".format(*summary), int(summary.errors > 0)


@contextmanager
def _screen() -> Iterator[None]:
    """For the bar alone: what goes wrong is said once, by us and behind it, not in lines of Dask's log."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
        clear_bar()


def _progress() -> Progress:
    """A bar for each thing that is done, its pace from where something had to be computed."""
    began: dict[str, float] = {}

    def draw(what: str, done: int, total: int, skipped: int) -> None:
        now = time.monotonic()
        if done == skipped or what not in began:
            began[what] = now
        if total:
            draw_bar(done, total, f"{what}, {done} of {total}, {pace(done - skipped, total - done, now - began[what])}")
        else:
            draw_bar(0, 1, f"{what}, {done}")

    return draw


@contextmanager
def _file(source: str, output: Path) -> Iterator[Path]:
    """The input as a file, as it is read more than once: standard input goes beside the output until the end."""
    if source != "-":
        yield Path(source)
        return
    if sys.stdin is None:
        raise ValueError("standard input is closed. Name a file.")
    try:
        number, kept = tempfile.mkstemp(".jsonl", f"{output.name}.input.", output.parent)
    except OSError as error:
        raise ValueError(f"{output}: cannot be written ({error.strerror}).") from error
    try:
        with open(number, "wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield Path(kept)
    finally:
        os.unlink(kept)
