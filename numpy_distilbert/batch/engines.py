"""Where blocks are computed: threads, processes of this machine, or a Dask cluster.

An engine is a context manager that gives an Executor of concurrent.futures and the number of its workers. A block is
always computed by a single thread, so the answers do not depend on how many there are.
"""

import asyncio
import hashlib
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from ..checkpoint import CheckpointError, hub
from ..documents import Found, Ranking
from ..inputs import Pair
from ..qa import QuestionAnswerer
from ..runtime.blas import is_limited
from ..runtime.threads import n_cores, single_threaded
from ..spans import Answer
from .workers import start_worker

CLUSTER_SECONDS = 30
# An executor and its number of workers. Leaving the context early does not wait for blocks that have not begun.
Engine = AbstractContextManager[tuple[Executor, int]]


class ModelSource(NamedTuple):
    """Where every worker loads the model from, and the hash that its files must have there."""

    name: str | None
    sha256: str

    @classmethod
    def find(cls, name: str | None) -> "ModelSource":
        """name: a folder, a hub id, or None for the embedded one. Raises CheckpointError if it is not there."""
        folder = hub.find(name)
        return cls(str(folder.resolve()) if name is not None and Path(name).is_dir() else name, fingerprint(folder))


def fingerprint(folder: Path) -> str:
    """SHA-256 over all files that a checkpoint is read from."""
    files = sorted(path for path in folder.iterdir() if path.name in hub.FETCHED or path.suffix == ".safetensors")
    return hashlib.sha256("".join(path.name + hub.sha256(path) for path in files).encode()).hexdigest()


class Answering(NamedTuple):
    """How questions are answered: whether the empty answer competes; with read, by QuestionAnswerer.search()."""

    no_answer: bool = False
    read: int | None = None


BY_PIPELINE = Answering()
_loaded: dict[ModelSource, QuestionAnswerer] = {}  # in this process
_loading = threading.Lock()


def load(model: ModelSource) -> QuestionAnswerer:
    """Load the model, once per process. Raises CheckpointError if the files on this machine are different ones."""
    with _loading:
        if model in _loaded:
            return _loaded[model]
        folder = hub.find(model.name)
        if fingerprint(folder) != model.sha256:
            raise CheckpointError(f"{folder}: is not the model that the run began with. Install the same everywhere.")
        return _loaded.setdefault(model, QuestionAnswerer.from_pretrained(folder))


def answer_block(model: ModelSource, how: Answering, pairs: list[Pair]) -> list[dict[str, Any]]:
    """Answer questions from their contexts, on this thread alone."""
    qa = load(model)
    with single_threaded():
        if how.read is None:
            asked: Iterator[Any] = ({"question": q, "context": c} for q, c in pairs)
            return [dict(answer) for answer in qa(asked, handle_impossible_answer=how.no_answer)]
        settings = qa.settings({})
        rankings = (Ranking(q, qa.documents(c), settings, qa.calibration, 1, how.read) for q, c in pairs)
        results = qa.results((ranking, ranking.windows()) for ranking in rankings)
        return [dict(_answer(found, how.no_answer)) for found in results]


def _answer(found: Found, no_answer: bool) -> Answer:
    """The best answer; the empty one if there is none, or it wins and may."""
    best = found.best if no_answer or not found else found[0]
    return best or Answer(found.no_answer if no_answer else 0.0, 0, 0, "")


@contextmanager
def thread_pool(model: ModelSource) -> Iterator[tuple[Executor, int]]:
    """An engine: one thread of this process per core."""
    load(model)
    executor = ThreadPoolExecutor(n_threads := n_cores())
    try:
        yield executor, n_threads
    finally:  # after Ctrl-C or an error, nobody waits for what is being computed
        executor.shutdown(wait=False, cancel_futures=True)


@contextmanager
def process_pool(model: ModelSource, n_workers: int) -> Iterator[tuple[Executor, int]]:
    """An engine: single-threaded processes. They are forked and share the weights of this one, or, where that is not
    safe, load their own.
    """
    # Windows cannot fork. macOS can, but system libraries may crash or hang in the child; so may a BLAS with threads.
    forks = sys.platform not in ("win32", "darwin") and is_limited()
    load(model)
    context: Any = get_context("fork" if forks else "spawn")
    reader, writer = context.Pipe(duplex=False)
    pool: Any = ProcessPoolExecutor(n_workers, context, start_worker, (os.getpid(), reader))
    with reader, writer, pool:
        try:
            yield pool, n_workers
        except BaseException:  # Ctrl-C, a full disk: nobody waits for what is being computed
            # futures are not cancelled: before Python 3.12 the pool fails on those when its workers end
            writer.send_bytes(b"end")
            if sys.version_info < (3, 11, 5):  # else it waits for ever for a worker to read what it is being sent
                pool._call_queue._reader.close()
            raise


@contextmanager
def cluster(address: str) -> Iterator[tuple[Executor, int]]:
    """An engine: the workers of the Dask scheduler at this address. Raises ValueError if it has none."""
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
