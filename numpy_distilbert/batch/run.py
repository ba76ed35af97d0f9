"""Answer a file of questions, block by block, into a file of answers.

The input alone decides how its rows are cut into blocks. The answers of a block are stored as one file in OUT.parts,
written whole: either it exists, or the block is computed again. When all exist, the input is read once more and joined
with them, in its order, to OUT, which appears when it is complete.
"""

import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent import futures
from contextlib import closing, contextmanager, suppress
from functools import partial
from multiprocessing.util import register_after_fork
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from .. import __version__
from ..checkpoint import CheckpointError, hub
from ..files import read_json, replace, write_whole
from ..inputs import Pair
from .engines import BY_PIPELINE, Answering, Engine, ModelSource, answer_block
from .readers import ANSWER, CSV, JSON_LINES, PARQUET, Row, grouped, kind_of, n_characters, read_rows
from .writers import Results, find_writer

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

BLOCK_ROWS = 64
BLOCK_CHARACTERS = 2**20
AHEAD = 2  # blocks in flight per worker
OURS = re.compile(r"\d{8}\.json|[0-9a-f]{16}\.part|output|lock")
BEGUN, OUTPUT, LOCK = "begun.json", "output", "lock"  # what a run was begun with; its output, until that is complete
Rows = Callable[[], Iterator[Row]]
Answerer = Callable[[list[Pair]], list[dict[str, Any]]]
Progress = Callable[[str, int, int, int], None]  # what is done; rows: done, all (0 if unknown), not computed
STEP = 1024  # rows read or written between two reports of progress
Item = TypeVar("Item")


class Stopped(Exception):
    """The run ended before its output was complete; finished blocks are kept."""


class Summary(NamedTuple):
    """Numbers of rows: all, with an answer, with an error, and with an answer kept from a run before."""

    rows: int
    answered: int
    errors: int
    kept: int


class Block(NamedTuple):
    """Rows that are computed together, the questions and contexts in them, and the file where their answers go."""

    rows: list[Row]
    pairs: list[Pair]
    path: Path

    def save(self, answers: list[dict[str, Any]]) -> None:
        """Write the answers, one to each pair."""
        _write(self.path, {"sha256": self._sha256(), "answers": answers})

    def load(self) -> list[dict[str, Any]] | None:
        """The answers, or None if they are not there or answer something else."""
        if not self.pairs:
            return []
        try:
            saved = read_json(self.path)
        except ValueError:  # it is not there, or the system went down before it was on the disk
            return None
        return saved["answers"] if saved["sha256"] == self._sha256() else None

    def _sha256(self) -> str:
        return hashlib.sha256(json.dumps(self.pairs).encode()).hexdigest()


def blocks(rows: Iterable[Row], parts: Path) -> Iterator[Block]:
    """Blocks of BLOCK_ROWS rows, or of fewer with BLOCK_CHARACTERS of text. parts: the folder of their answers."""
    sized = grouped(rows, BLOCK_ROWS, BLOCK_CHARACTERS, lambda row: n_characters(row.fields | row.asked))
    for number, group in enumerate(sized):
        pairs = [(row.asked["question"], row.asked["context"]) for row in group if row.error is None]
        yield Block(group, pairs, parts / f"{number:08}.json")


def answer_file(
    source: Path,
    output: Path,
    model: ModelSource,
    engine: Engine,
    resume: bool = False,
    force: bool = False,
    strict: bool = False,
    drop: Sequence[str] = (),
    how: Answering = BY_PIPELINE,
    progress: Progress = lambda *_: None,
) -> Summary:
    """Answer every question in the file source, in the file output.

    engine: thread_pool, process_pool or cluster; resume: keep the finished blocks in OUT.parts; force: replace an
    existing output; strict: stop at a bad row, before anything is computed; drop: names of fields that are not copied;
    how: see Answering; progress: called now and then, see Progress.
    Raises Stopped, ValueError for files that are not what they seem or parts of other work, OSError if writing fails.
    """
    output_kind = kind_of(output, JSON_LINES, CSV, PARQUET)
    if not output.parent.is_dir():
        raise ValueError(f"{output.parent}: no such folder. Create it, or choose another output.")
    if output.exists() and not output.is_file():
        raise ValueError(f"{output}: is not a regular file. Name another.")
    if source.exists() and not source.is_file():
        raise ValueError(f"{source}: is not a regular file, and the input is read more than once. Give a pipe as -.")
    if output.exists() and source.exists() and output.samefile(source):
        raise ValueError(f"{output}: is the input. Name another file.")
    parts, rows = output.with_name(f"{output.name}.parts"), partial(read_rows, source, drop)
    with _locked(parts):
        _check_free(output, force)
        total = errors = 0
        for row in _reported(rows(), "reading", 0, progress):
            total += 1
            errors += row.error is not None
            if strict and row.error is not None:
                raise Stopped(row.error)
        write = find_writer(source, output_kind, drop)
        about = {"source": hub.sha256(source), "model": model.sha256, "version": __version__, "drop": sorted(drop)}
        about |= how._asdict()
        _begin(parts, about, resume)
        kept = _compute(rows, parts, partial(answer_block, model, how), engine, total, progress)
        joined = _reported(results(rows, parts), "writing", total, progress)
        with write_whole(parts / OUTPUT, binary=True) as file, closing(joined):
            write(file, joined)
        if hub.sha256(source) != about["source"]:
            raise ValueError(f"{source}: has changed since the run began. Begin again.")
        _check_free(output, force)
        replace(parts / OUTPUT, output)
        _remove(parts)
    return Summary(total, total - errors, errors, kept)


def _check_free(output: Path, force: bool) -> None:
    """Raise ValueError if there is an output already."""
    if output.exists() and not force:
        raise ValueError(f"{output}: exists. Choose another output, or replace it with --force.")


def _reported(rows: Iterable[Item], what: str, total: int, progress: Progress) -> Generator[Item, None, None]:
    """The rows, with a report of progress after every STEP of them."""
    progress(what, 0, total, 0)
    for done, row in enumerate(rows, 1):
        yield row
        if done % STEP == 0:
            progress(what, done, total, 0)


@contextmanager
def _locked(parts: Path) -> Iterator[None]:
    """Make the folder, for this run alone until the block ends. Raises ValueError if it holds something else."""
    if parts.exists():
        names = os.listdir(parts) if parts.is_dir() else [""]
        if BEGUN not in names and not all(map(OURS.fullmatch, names)):
            raise ValueError(f"{parts}: is in the way, and not from an earlier run. Move it, or choose another output.")
    parts.mkdir(exist_ok=True)
    with open(parts / LOCK, "ab") as file:
        try:  # the system removes the lock of a process that is killed
            if sys.platform == "win32":
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            taken = not os.fstat(file.fileno()).st_nlink  # by a run that has ended since the file was opened
        except OSError as error:  # others: a network file system has no locks
            taken = isinstance(error, (BlockingIOError, PermissionError))
        if taken:
            raise ValueError(f"{parts}: another batch is writing this output. Wait, or choose another output.")
        register_after_fork(file, lambda file: file.close())  # or a worker that outlives this process keeps the lock
        try:
            yield
        finally:
            if sys.platform == "win32":
                file.close()  # Windows removes no open file
            with suppress(OSError):  # the folder, unless something is kept in it
                (parts / LOCK).unlink()
                parts.rmdir()


def _begin(parts: Path, about: dict[str, Any], resume: bool) -> None:
    """Begin a run in the folder, or resume the one in it. Raises ValueError if neither is possible."""
    if not (parts / BEGUN).exists():
        _remove(parts)  # what is left of a run that was killed when its output was complete
        _write(parts / BEGUN, about)
    elif not resume:
        raise ValueError(f"{parts}: holds the work of an interrupted run. Continue with --resume, or delete it.")
    elif read_json(parts / BEGUN) != about:
        other = "holds the work of a run with another input, model, version or options"
        raise ValueError(f"{parts}: {other}. Delete it, or choose another output.")


def _remove(parts: Path) -> None:
    """Remove what a run has made; first the mark that it is not finished."""
    (parts / BEGUN).unlink(missing_ok=True)
    for path in parts.iterdir():
        if OURS.fullmatch(path.name) and path.name != LOCK:
            path.unlink()


def _write(path: Path, value: Any) -> None:
    with write_whole(path) as file:
        json.dump(value, file)


def _compute(rows: Rows, parts: Path, answer: Answerer, engine: Engine, total: int, progress: Progress) -> int:
    """Compute the blocks that have no answers yet. Returns how many answers were there already."""
    computed = skipped = kept = 0
    in_flight: dict[futures.Future[list[dict[str, Any]]], Block] = {}

    def collect_finished() -> None:
        """Wait for a block, and save the answers of all that are computed."""
        nonlocal computed
        for future in futures.wait(in_flight, return_when=futures.FIRST_COMPLETED).done:
            block = in_flight.pop(future)
            with _errors_as_stopped():
                answers = future.result()
            block.save(answers)
            computed += len(block.rows)
        progress("answering", computed + skipped, total, skipped)

    with engine as (executor, n_workers):
        progress("answering", 0, total, 0)
        for block in blocks(rows(), parts):
            if block.load() is not None:
                kept += len(block.pairs)
                skipped += len(block.rows)
                progress("answering", computed + skipped, total, skipped)
                continue
            while len(in_flight) >= AHEAD * n_workers:
                collect_finished()
            with _errors_as_stopped():
                in_flight[executor.submit(answer, block.pairs)] = block
        while in_flight:
            collect_finished()
    return kept


@contextmanager
def _errors_as_stopped() -> Iterator[None]:
    """Raise what goes wrong in an engine as Stopped, except CheckpointError."""
    try:
        yield
    except CheckpointError:
        raise
    except futures.CancelledError as error:
        raise Stopped("the scheduler was lost. Continue with --resume.") from error
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
        raise Stopped(f"a block could not be computed ({cause}). Continue with --resume.") from error


def results(rows: Rows, parts: Path) -> Results:
    """The fields of each row, and its answer or error. Raises ValueError if the answers are not to these questions."""
    for block in blocks(rows(), parts):
        if (found := block.load()) is None:
            raise ValueError("the input has changed since the run began. Begin again.")
        answers = iter(found)
        for row in block.rows:
            if row.error is None:
                answer = next(answers)
                yield row.fields | {name: answer[name] for name in ANSWER}
            else:
                yield row.fields | {"error": row.error, "line": row.line}
