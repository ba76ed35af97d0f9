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
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..arguments import check_integer
from ..batch.engines import Answering, ModelSource, cluster, process_pool, thread_pool
from ..batch.run import Progress, Stopped, answer_file
from .terminal import MODEL_HELP, Result, Verbs, add_verb, clear_bar, draw_bar, fail, pace


def add_verbs(verbs: Verbs) -> None:
    """Add the verb batch."""
    example, statuses = "questions.jsonl -o answers.jsonl", {1: "rows have errors, or the run could not be finished"}
    verb = add_verb(verbs, "batch", _batch, "answer every question in a file", example, statuses)
    formats = ".jsonl or SQuAD .json, both also in gzip, or .parquet; - for JSON lines on standard input. "
    fields = "Each row has a question and a context; any other fields are copied to the output"
    verb.add_argument("source", metavar="IN", help=formats + fields)
    verb.add_argument("-o", dest="output", metavar="OUT", required=True, help=".jsonl or .parquet")
    verb.add_argument("--model", metavar="MODEL", help=MODEL_HELP)
    where = verb.add_mutually_exclusive_group()
    where.add_argument("--workers", metavar="N", type=int, help="processes, on Linux (default: a thread for each core)")
    where.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster, as tcp://host:8786")
    verb.add_argument("--resume", action="store_true", help="continue a run that was interrupted")
    verb.add_argument("--no-answer", action="store_true", help="the empty answer competes too")
    read = "search each context, reading its N most promising passages, instead of calling the pipeline"
    verb.add_argument("--read", metavar="N", type=int, help=read)
    verb.add_argument("--strict", action="store_true", help="stop at the first row that cannot be answered")
    verb.add_argument("--json", action="store_true", help="print the summary as JSON")


def _batch(arguments: argparse.Namespace) -> Result:
    """Answer every question in a file. Rows that cannot be answered get an error instead, and the exit status is 1.
    You can kill it at any time. Run the same command with --resume to continue; the output is identical.
    """
    output = Path(arguments.output).resolve()
    if arguments.read is not None:
        check_integer("--read", arguments.read, 1)
    how = Answering(arguments.no_answer, arguments.read)
    model = ModelSource.find(arguments.model)
    if arguments.workers is not None:
        engine = process_pool(model, check_integer("--workers", arguments.workers, 1))
    elif arguments.scheduler is not None:
        engine = cluster(arguments.scheduler)
    else:
        engine = thread_pool(model)
    try:
        with ExitStack() as cleanup:
            cleanup.callback(clear_bar)
            cleanup.callback(logging.disable, logging.root.manager.disable)
            logging.disable(logging.CRITICAL)  # Dask's log would cross the bar; errors are reported once, after it
            source = cleanup.enter_context(_as_file(arguments.source, output))
            summary = answer_file(source, output, model, engine, arguments.resume, arguments.strict, how, _progress())
    except Stopped as error:
        raise SystemExit(fail(1, str(error))) from error
    sentence = "{} rows, {} answered, {} errors, {} kept".format(*summary)
    return json.dumps(summary._asdict()) if arguments.json else sentence, int(summary.errors > 0)


def _progress() -> Progress:
    """A progress bar for each stage of a run. Rows that were finished before do not count for its pace."""
    began: dict[str, float] = {}

    def draw(stage: str, done: int, total: int, skipped: int) -> None:
        now = time.monotonic()
        if done == skipped or stage not in began:
            began[stage] = now
        text = f"{stage}, {done}"
        if total:
            text += f" of {total}, {pace(done - skipped, total - done, now - began[stage])}"
        draw_bar(done if total else 0, total or 1, text)

    return draw


@contextmanager
def _as_file(source: str, output: Path) -> Iterator[Path]:
    """The input as a file, since it is read more than once: standard input is copied beside the output meanwhile."""
    if source != "-":
        yield Path(source)
        return
    if sys.stdin is None:
        raise ValueError("standard input is closed. Name a file.")
    try:
        descriptor, copied = tempfile.mkstemp(".jsonl", f"{output.name}.input.", output.parent)
    except OSError as error:
        raise ValueError(f"{output}: cannot be written ({error.strerror}).") from error
    try:
        with open(descriptor, "wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield Path(copied)
    finally:
        os.unlink(copied)
