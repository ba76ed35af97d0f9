"""Answer a file of questions, block by block, into a file of answers.

The input alone decides how its rows are cut into blocks. The answers of a block are stored as one file in OUT.parts,
written whole: either it exists, or the block is computed again. When all exist, the input is read once more and joined
with them, in its order, to OUT, which appears when it is complete.
"""

import hashlib
import json
import re
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent import futures
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from .. import __version__
from ..checkpoint import CheckpointError, hub
from ..files import read_json, replace, write_whole
from ..inputs import Pair
from .engines import BY_PIPELINE, Answering, Engine, ModelSource, answer_block
from .readers import ANSWER, JSON_LINES, PARQUET, Row, grouped, kind_of, read_rows
from .writers import parquet_schema, write_lines, write_parquet

BLOCK_ROWS = 64
BLOCK_CHARACTERS = 2**20
AHEAD = 2  # blocks in flight per worker
OURS = re.compile(r"\d{8}\.json|[0-9a-f]{16}\.part|output")
BEGUN, FINISHED = "begun.json", "finished.json"  # what a run was begun with, and that its output is in its place
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
    for number, group in enumerate(grouped(rows, BLOCK_ROWS, BLOCK_CHARACTERS, lambda row: row.fields)):
        pairs = [(row.fields["question"], row.fields["context"]) for row in group if row.error is None]
        yield Block(group, pairs, parts / f"{number:08}.json")


def answer_file(
    source: Path,
    output: Path,
    model: ModelSource,
    engine: Engine,
    resume: bool = False,
    strict: bool = False,
    how: Answering = BY_PIPELINE,
    progress: Progress = lambda *_: None,
) -> Summary:
    """Answer every question in the file source, in the file output.

    engine: thread_pool, process_pool or cluster; resume: keep the finished blocks in OUT.parts; strict: stop at a bad
    row, before anything is computed; how: see Answering; progress: called now and then, see Progress.
    Raises Stopped, ValueError for files that are not what they seem or parts of other work, OSError if writing fails.
    """
    output_kind = kind_of(output, JSON_LINES, PARQUET)
    if output.exists() and not output.is_file():
        raise ValueError(f"{output}: is not a regular file. Name another.")
    if source.exists() and not source.is_file():
        raise ValueError(f"{source}: is not a regular file, and the input is read more than once. Give a pipe as -.")
    if output.exists() and source.exists() and output.samefile(source):
        raise ValueError(f"{output}: is the input. Name another file.")
    total = errors = 0
    for row in _reported(read_rows(source), "reading", 0, progress):
        total += 1
        errors += row.error is not None
        if strict and row.error is not None:
            raise Stopped(row.error)
    schema = parquet_schema(source) if output_kind is PARQUET else None
    about = {"source": hub.sha256(source), "model": model.sha256, "version": __version__} | how._asdict()
    parts = output.with_name(f"{output.name}.parts")
    if _begin(parts, about, resume) and output.exists():  # a run before ended between its output and its clean-up
        _remove(parts)
        return Summary(total, total - errors, errors, total - errors)
    kept = _compute(source, parts, partial(answer_block, model, how), engine, total, progress)
    whole = parts / "output"
    joined = _reported(records(source, parts), "writing", total, progress)
    with write_whole(whole, binary=True) as file, closing(joined) as rows:
        if schema is None:
            write_lines(file, rows)
        else:
            write_parquet(file, rows, schema)
    if hub.sha256(source) != about["source"]:
        raise ValueError(f"{source}: has changed since the run began. Begin again.")
    replace(whole, output)
    _write(parts / FINISHED, about)
    _remove(parts)
    return Summary(total, total - errors, errors, kept)


def _reported(rows: Iterable[Item], what: str, total: int, progress: Progress) -> Generator[Item, None, None]:
    """The rows, with a report of progress after every STEP of them."""
    progress(what, 0, total, 0)
    for done, row in enumerate(rows, 1):
        yield row
        if done % STEP == 0:
            progress(what, done, total, 0)


def _begin(parts: Path, about: dict[str, Any], resume: bool) -> bool:
    """Make the folder, or resume the run in it. Returns whether that was finished. Raises ValueError if it cannot."""
    finished, begun = ((parts / name).exists() for name in (FINISHED, BEGUN))
    if begun and not finished and not resume:
        raise ValueError(f"{parts}: holds what a run before has finished. Continue with --resume, or delete it.")
    if begun and resume:
        if read_json(parts / BEGUN) == about:
            return finished
        if not finished:
            raise ValueError(
                f"{parts}: is of another input, model, version or options. Delete it, or choose another output."
            )
    if begun or finished:
        _remove(parts)
    elif parts.exists() and not (parts.is_dir() and all(OURS.fullmatch(path.name) for path in parts.iterdir())):
        raise ValueError(f"{parts}: is in the way, and not of a run before. Move it, or choose another output.")
    parts.mkdir(exist_ok=True)
    _write(parts / BEGUN, about)
    return False


def _remove(parts: Path) -> None:
    """Remove the folder, unless it holds something else; the mark that its run was finished, last."""
    for path in parts.iterdir():
        if OURS.fullmatch(path.name):
            path.unlink()
    for name in (BEGUN, FINISHED):
        (parts / name).unlink(missing_ok=True)
    with suppress(OSError):
        parts.rmdir()


def _write(path: Path, value: Any) -> None:
    with write_whole(path) as file:
        json.dump(value, file)


def _compute(source: Path, parts: Path, answer: Answerer, engine: Engine, total: int, progress: Progress) -> int:
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
        for block in blocks(read_rows(source), parts):
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


def records(source: Path, parts: Path) -> Iterator[dict[str, Any]]:
    """The rows of the output. Raises ValueError if the saved answers are not to the questions in source."""
    for block in blocks(read_rows(source), parts):
        if (found := block.load()) is None:
            raise ValueError(f"{source}: has changed since the run began. Begin again.")
        answers = iter(found)
        for row in block.rows:
            if row.error is None:
                answer = next(answers)
                yield row.fields | {name: answer[name] for name in ANSWER}
            else:
                yield row.fields | {"error": row.error, "line": row.line}
