"""The verb batch."""

import argparse
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ..arguments import check_integer
from ..batch.engines import Answering, Engine, ModelSource, cluster, process_pool, thread_pool
from ..batch.run import Progress, Stopped, answer_file
from .terminal import MODEL_HELP, PROGRAM, Result, Verbs, add_verb, clear_bar, draw_bar, fail, pace, warn


def add_verbs(verbs: Verbs) -> None:
    """Add the verb batch."""
    example = "questions.csv -o answers.csv --drop context"
    statuses = {1: "rows have errors, or the run could not be finished", 143: "stopped by SIGTERM"}
    verb = add_verb(verbs, "batch", _batch, "answer every question in a file", example, statuses)
    formats = ".jsonl, .csv or SQuAD .json, also gzipped, or .parquet; - for JSON lines on standard input. "
    fields = "Each row has a question and a context; any other fields are copied to the output"
    verb.add_argument("source", metavar="IN", help=formats + fields)
    out = ".jsonl, .csv (with the delimiter of IN) or .parquet; - for JSON lines on standard output, at the end"
    verb.add_argument("-o", "--output", metavar="OUT", required=True, help=out)
    verb.add_argument("--drop", metavar="FIELD", nargs="+", default=[], help="fields not to copy, such as context")
    verb.add_argument("--model", metavar="MODEL", help=MODEL_HELP)
    where = verb.add_mutually_exclusive_group()
    where.add_argument("--workers", metavar="N", type=int, help="N processes, on Linux (default: one thread per core)")
    where.add_argument("--scheduler", metavar="ADDRESS", help="use a Dask cluster, such as tcp://host:8786")
    verb.add_argument("--resume", action="store_true", help="continue a run that was interrupted")
    verb.add_argument("--force", action="store_true", help="replace OUT if it exists")
    verb.add_argument("--no-answer", action="store_true", help="let the empty answer compete with the others")
    read = "search each context, reading its N most promising passages, instead of calling the pipeline"
    verb.add_argument("--read", metavar="N", type=int, help=read)
    verb.add_argument("--strict", action="store_true", help="stop at the first row that cannot be answered")
    verb.add_argument("--json", action="store_true", help="print the summary as JSON")


def _batch(arguments: argparse.Namespace) -> Result:
    """Answer every question in a file. Each row of the output has answer, score, start and end; a row that cannot be
    answered has error and line instead, and the exit status is then 1. You can stop a run with Ctrl-C or kill it at any
    time. Run the same command with --resume to continue; the output is identical.
    """
    if arguments.read is not None:
        check_integer("--read", arguments.read, 1)
    to_stdout = arguments.output == "-"
    if to_stdout and arguments.resume:
        raise ValueError("nothing is kept of a run with -o -. Name a file, or leave --resume out.")
    how = Answering(arguments.no_answer, arguments.read)
    model = ModelSource.find(arguments.model)
    engine = _engine(arguments, model)
    try:
        with ExitStack() as cleanup:
            kept = f"{'at least ' * arguments.resume}{{}} of {{}} rows are kept"
            kept += ". Run the same command with --resume to continue."
            progress = cleanup.enter_context(_stopping("nothing is kept with -o -." if to_stdout else kept))
            cleanup.callback(clear_bar)
            cleanup.callback(logging.disable, logging.root.manager.disable)
            logging.disable(logging.CRITICAL)  # Dask's log would cross the bar; errors are reported once, after it
            source, output = Path(arguments.source), Path(arguments.output).resolve()
            if "-" in (arguments.source, arguments.output):
                beside = None if to_stdout else output.parent  # which may have more room
                folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix=f"{PROGRAM}-", dir=beside)))
            if arguments.source == "-":  # the input is read more than once
                source = _copy_input(folder / "in.jsonl")
            if to_stdout:
                output = folder / "out.jsonl"
            switches = arguments.resume, arguments.force, arguments.strict, arguments.drop
            summary = answer_file(source, output, model, engine, *switches, how, progress)
            if to_stdout:
                with open(output, "rb") as file:
                    shutil.copyfileobj(file, sys.stdout.buffer)
                sys.stdout.flush()
    except Stopped as error:
        raise SystemExit(fail(1, str(error))) from error
    except MemoryError as error:
        raise SystemExit(fail(1, "not enough memory for the rows read at a time. Split the longest.")) from error
    sentence = f"{summary.answered} of {summary.rows} rows answered, {summary.errors} failed"
    sentence += f", {summary.kept} kept from before" * bool(summary.kept)
    text = json.dumps(summary._asdict()) if arguments.json else sentence
    if not summary.rows:
        warn(f"{arguments.source}: has no rows.")
    if to_stdout and sys.stderr is not None:
        print(text, file=sys.stderr)
    return "" if to_stdout else text, int(summary.errors > 0)


def _engine(arguments: argparse.Namespace, model: ModelSource) -> Engine:
    """The engine that --workers or --scheduler selects; threads by default."""
    if arguments.workers is not None:
        return process_pool(model, check_integer("--workers", arguments.workers, 1))
    return thread_pool(model) if arguments.scheduler is None else cluster(arguments.scheduler)


@contextmanager
def _stopping(kept: str) -> Iterator[Progress]:
    """End this process at Ctrl-C or SIGTERM, after cleaning up. Yields the function to report progress to.
    kept: what to say of the rows that are saved.
    """
    saved, draw = [0, 0], _progress()

    def report(stage: str, done: int, total: int, skipped: int) -> None:
        saved[:] = total if stage == "writing" else done, total
        draw(stage, done, total, skipped)

    def stop(number: int, _: Any) -> None:
        raise KeyboardInterrupt(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield report
    except KeyboardInterrupt as stopped:
        warn(f"stopped; {kept.format(*saved) if saved[1] else 'this run has computed nothing yet.'}")
        os._exit(128 + stopped.args[0])  # Python would wait for threads that are computing
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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


def _copy_input(path: Path) -> Path:
    """Copy standard input to a file."""
    if sys.stdin is None:
        raise ValueError("standard input is closed. Name a file.")
    with open(path, "wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    return path
