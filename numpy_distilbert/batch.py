"""Files of questions answered: in blocks, on threads, processes or a cluster. Every interruption can be resumed.

The rows of a file are cut into blocks, by nothing but the file itself. A block is computed by one thread, wherever that
is, so its numbers do not depend on how many there are. Its answers become a file of their own in OUT.parts, written
whole: either it is there, or the block is computed again. When all are there, the input is read once more and put
together with them to OUT, in its order, which appears when it is complete.

Blocks go to an Executor, as the standard library has them: threads here, processes forked from this one, which share
its weights, or the workers of a Dask cluster, which load them once each.
"""

import asyncio
import hashlib
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent import futures
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from . import __version__
from .checkpoint import CheckpointError, hub
from .files import read_json, replace, write_whole
from .inputs import Pair
from .qa import QuestionAnswerer
from .rows import ANSWER, JSON_LINES, PARQUET, Row, cut, kind_of, parquet_schema, read_rows, write_lines, write_parquet
from .runtime.blas import find_blas
from .runtime.threads import n_cores, single_threaded

BLOCK_ROWS = 64
BLOCK_CHARACTERS = 2**20
AHEAD = 2  # blocks under way, for each that is computed
CLUSTER_SECONDS = 30
PARENT_SECONDS = 1
OURS = re.compile(r"\d{8}\.json|[0-9a-f]{16}\.part|output")
BEGUN, FINISHED = "begun.json", "finished.json"  # what a run was begun with, and that its output is in its place
# Where blocks are computed, and how many at a time. Left in the middle, it waits for no block that has not begun.
Engine = AbstractContextManager[tuple[Executor, int]]
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


class Model(NamedTuple):
    """A model by name, and what tells whether it is the same elsewhere."""

    name: str | None
    sha256: str

    @classmethod
    def find(cls, name: str | None) -> "Model":
        """name: a folder, a hub id, or None for the embedded one. Raises CheckpointError if it is not there."""
        folder = hub.find(name)
        return cls(str(folder.resolve()) if name is not None and Path(name).is_dir() else name, fingerprint(folder))


def fingerprint(folder: Path) -> str:
    """Of all files that a checkpoint is read from."""
    files = sorted(path for path in folder.iterdir() if path.name in hub.FETCHED or path.suffix == ".safetensors")
    return hashlib.sha256("".join(path.name + hub.sha256(path) for path in files).encode()).hexdigest()


_loaded: dict[Model, QuestionAnswerer] = {}  # of this process
_loading = threading.Lock()


def load(model: Model) -> QuestionAnswerer:
    """The model, loaded once in a process. Raises CheckpointError if here it is another."""
    with _loading:
        if model not in _loaded:
            folder = hub.find(model.name)
            if fingerprint(folder) != model.sha256:
                raise CheckpointError(
                    f"{folder}: is not the model that the run began with. Install the same everywhere."
                )
            _loaded[model] = QuestionAnswerer.from_pretrained(folder)
        return _loaded[model]


def answer_block(model: Model, pairs: list[Pair]) -> list[dict[str, Any]]:
    """The answers to questions in their contexts, computed by this thread alone."""
    qa = load(model)
    with single_threaded():
        return [dict(answer) for answer in qa({"question": q, "context": c} for q, c in pairs)]


@contextmanager
def threads(model: Model) -> Iterator[tuple[Executor, int]]:
    """An engine: the cores of this process."""
    load(model)
    n_threads = n_cores()
    executor = ThreadPoolExecutor(n_threads)
    try:
        yield executor, n_threads
    finally:
        executor.shutdown(cancel_futures=True)


@contextmanager
def processes(model: Model, number: int) -> Iterator[tuple[Executor, int]]:
    """An engine: so many processes, of one thread each, which share the weights of this one. Raises ValueError where
    processes cannot be forked safely, or BLAS cannot be held to one thread.
    """
    # Windows cannot fork. macOS can, but libraries of the system, a BLAS among them, may crash or hang in the child.
    if sys.platform == "win32" or sys.platform == "darwin":
        raise ValueError("this system cannot fork processes safely. Leave --workers out, or use --scheduler.")
    if find_blas() is None:
        raise ValueError(
            'workers need threadpoolctl, and a BLAS library that it knows. Run: pip install "numpy-distilbert[batch]"'
        )
    load(model)
    context = get_context("fork")
    reader, writer = context.Pipe(duplex=False)
    with (
        reader,
        writer,
        ProcessPoolExecutor(number, context, initializer=_start_worker, initargs=(os.getpid(), reader)) as executor,
    ):
        try:
            yield executor, number
        except BaseException:  # Ctrl-C, a full disk: nobody waits for what is being computed
            # futures are not cancelled: before Python 3.12 the pool fails on those when its workers end
            writer.send_bytes(b"end")
            if sys.version_info < (3, 11, 5):  # else it waits for ever for a worker to read what it is being sent
                pool: Any = executor
                pool._call_queue._reader.close()
            raise


def _start_worker(parent: int, reader: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    threading.Thread(target=_end_with, args=(parent, reader), daemon=True).start()


def _end_with(parent: int, reader: Connection) -> None:
    """End this process when it is told so, or its parent was killed: no call of the pool would ever come back."""
    while not reader.poll(PARENT_SECONDS) and os.getppid() == parent:
        pass
    os._exit(1)


@contextmanager
def cluster(address: str) -> Iterator[tuple[Executor, int]]:
    """An engine: the workers of the Dask scheduler at an address. Raises ValueError if there are none."""
    try:
        from distributed import Client
    except ImportError as error:
        raise ValueError('distributed is needed for clusters. Run: pip install "numpy-distilbert[batch]"') from error
    try:
        client = Client(address, timeout=CLUSTER_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{address}: no scheduler answers there ({error}).") from error
    with client:
        try:
            client.wait_for_workers(1, timeout=CLUSTER_SECONDS)
        except asyncio.TimeoutError as error:  # which is TimeoutError from Python 3.11 on
            raise ValueError(f"{address}: the scheduler has no worker. Start some: dask worker {address}") from error
        executor = client.get_executor()
        try:
            yield executor, sum(client.ncores().values())
        finally:
            executor.shutdown(wait=False)


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
