"""A file of questions to a file of answers.

The rows are cut into blocks, by nothing but the file itself. The answers of a block become a file of their own in
OUT.parts, written whole: either it is there, or the block is computed again. When all are there, the input is read once
more and joined with them to OUT, in its order, which appears when it is complete.
"""

import hashlib
import json
import re
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent import futures
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from .. import __version__
from ..checkpoint import CheckpointError, hub
from ..files import read_json, replace, write_whole
from ..inputs import Pair
from .engines import Engine, Model, answer_block
from .readers import ANSWER, JSON_LINES, PARQUET, Row, cut, kind_of, read_rows
from .writers import parquet_schema, write_lines, write_parquet

BLOCK_ROWS = 64
BLOCK_CHARACTERS = 2**20
AHEAD = 2  # blocks under way, for each that is computed
OURS = re.compile(r"\d{8}\.json|[0-9a-f]{16}\.part|output")
BEGUN, FINISHED = "begun.json", "finished.json"  # what a run was begun with, and that its output is in its place
Progress = Callable[[str, int, int, int], None]  # what is done; rows: done, all (0 if unknown), not computed
STEP = 1024  # rows read or written from one report of progress to the next
Item = TypeVar("Item")


class Stopped(Exception):
    """The run ended before its output was complete; finished blocks are kept."""


class Summary(NamedTuple):
    """Of rows: all, those with an answer, those with an error, and those whose answer was there from a run before."""

    rows: int
    answered: int
    errors: int
    kept: int


def blocks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """The rows in lists of BLOCK_ROWS, or of fewer with BLOCK_CHARACTERS of text."""
    return cut(rows, BLOCK_ROWS, BLOCK_CHARACTERS, lambda row: row.fields)


def pairs_of(block: list[Row]) -> list[Pair]:
    """What is asked in a block."""
    return [(row.fields["question"], row.fields["context"]) for row in block if row.error is None]


def answer_file(
    source: Path,
    output: Path,
    model: Model,
    engine: Engine,
    resume: bool = False,
    strict: bool = False,
    progress: Progress = lambda *_: None,
) -> Summary:
    """Answer every row of source in output.

    engine: threads, processes or cluster; resume: from what is in OUT.parts; strict: a bad row is the end, before
    anything is computed; progress: is told now and then, as Progress says.
    Raises Stopped; ValueError for files that are not what their names say, or parts of other work; OSError if writing
    fails.
    """
    as_parquet = kind_of(output, (JSON_LINES, PARQUET)) is PARQUET
    if output.exists() and not output.is_file():
        raise ValueError(f"{output}: is not a regular file. Name another.")
    if source.exists() and not source.is_file():
        raise ValueError(f"{source}: is not a regular file, and the input is read more than once. Give a pipe as -.")
    if output.exists() and source.exists() and output.samefile(source):
        raise ValueError(f"{output}: is the input. Name another file.")
    total = errors = 0
    for row in _watched(read_rows(source), "reading", 0, progress):
        total += 1
        errors += row.error is not None
        if strict and row.error is not None:
            raise Stopped(row.error)
    schema = parquet_schema(source) if as_parquet else None
    about = {"source": hub.sha256(source), "model": model.sha256, "version": __version__}
    parts = output.with_name(f"{output.name}.parts")
    if _begin(parts, about, resume) and output.exists():  # a run before came to its end, but not to that of clearing up
        _remove(parts)
        return Summary(total, total - errors, errors, total - errors)
    kept = _compute(source, parts, model, engine, total, progress)
    whole = parts / "output"
    written = _watched(records(source, parts), "writing", total, progress)
    with write_whole(whole, binary=True) as file, closing(written) as rows:
        if as_parquet:
            write_parquet(file, rows, schema)
        else:
            write_lines(file, rows)
    if hub.sha256(source) != about["source"]:
        raise ValueError(f"{source}: has changed since the run began. Begin again.")
    replace(whole, output)
    _write(parts / FINISHED, about)
    _remove(parts)
    return Summary(total, total - errors, errors, kept)


def _watched(rows: Iterable[Item], what: str, total: int, progress: Progress) -> Generator[Item, None, None]:
    progress(what, 0, total, 0)
    for done, row in enumerate(rows, 1):
        yield row
        if done % STEP == 0:
            progress(what, done, total, 0)


def _begin(parts: Path, about: dict[str, str], resume: bool) -> bool:
    """Make the folder, or go on with it; whether its run was finished. Raises ValueError if that is not to be."""
    finished, begun = ((parts / name).exists() for name in (FINISHED, BEGUN))
    if begun and not finished and not resume:
        raise ValueError(f"{parts}: holds what a run before has finished. Go on with --resume, or delete it.")
    if begun and resume:
        if read_json(parts / BEGUN) == about:
            return finished
        if not finished:
            raise ValueError(f"{parts}: is of another input, model or version. Delete it, or choose another output.")
    if begun or finished:
        _remove(parts)
    elif parts.exists() and not (parts.is_dir() and all(OURS.fullmatch(path.name) for path in parts.iterdir())):
        raise ValueError(f"{parts}: is in the way, and not of a run before. Move it, or choose another output.")
    parts.mkdir(exist_ok=True)
    _write(parts / BEGUN, about)
    return False


def _remove(parts: Path) -> None:
    """Remove the folder, unless it holds something else; what says that it was finished, last."""
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


def _compute(source: Path, parts: Path, model: Model, engine: Engine, total: int, progress: Progress) -> int:
    """Compute the blocks that are not there. Returns how many answers were."""
    done = skipped = kept = 0
    under_way: dict[Future[list[dict[str, Any]]], tuple[Path, list[Pair], int]] = {}

    def settle() -> None:
        """Write what has come."""
        nonlocal done
        for future in futures.wait(under_way, return_when=futures.FIRST_COMPLETED).done:
            path, pairs, length = under_way.pop(future)
            with _as_stopped():
                answers = future.result()
            _write(path, {"sha256": _sha256(pairs), "answers": answers})
            done += length
        progress("answering", done, total, skipped)

    with engine as (executor, at_a_time):
        progress("answering", 0, total, 0)
        for number, block in enumerate(blocks(read_rows(source))):
            path, pairs = _part(parts, number), pairs_of(block)
            if not pairs or _answers(path, pairs) is not None:
                kept += len(pairs)
                done += len(block)
                skipped += len(block)
                progress("answering", done, total, skipped)
                continue
            while len(under_way) >= AHEAD * at_a_time:
                settle()
            with _as_stopped():
                future = executor.submit(answer_block, model, pairs)
            under_way[future] = path, pairs, len(block)
        while under_way:
            settle()
    return kept


@contextmanager
def _as_stopped() -> Iterator[None]:
    """What goes wrong where blocks are computed, as Stopped."""
    try:
        yield
    except CheckpointError:
        raise
    except futures.CancelledError as error:
        raise Stopped("the scheduler was lost. Go on with --resume.") from error
    except Exception as error:
        raise Stopped(
            f"a block could not be computed ({type(error).__name__}: {error}). Go on with --resume."
        ) from error


def _part(parts: Path, number: int) -> Path:
    """The file of a block's answers."""
    return parts / f"{number:08}.json"


def _sha256(pairs: list[Pair]) -> str:
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()


def _answers(path: Path, pairs: list[Pair]) -> list[dict[str, Any]] | None:
    """Those to the questions of a block, if they are there."""
    try:
        part = read_json(path)
    except ValueError:  # it is not there, or the system went down before it was on the disk
        return None
    return part["answers"] if part["sha256"] == _sha256(pairs) else None


def records(source: Path, parts: Path) -> Iterator[dict[str, Any]]:
    """The rows of the output. Raises ValueError if the answers are not to these."""
    for number, block in enumerate(blocks(read_rows(source))):
        pairs = pairs_of(block)
        found = _answers(_part(parts, number), pairs) if pairs else []
        if found is None:
            raise ValueError(f"{source}: has changed since the run began. Begin again.")
        answers = iter(found)
        for row in block:
            if row.error is not None:
                yield row.fields | {"error": row.error, "line": row.line}
            else:
                answer = next(answers)
                yield row.fields | {name: answer[name] for name in ANSWER}
