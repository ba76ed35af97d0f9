"""Where blocks are computed: threads, processes forked from this one, which share its weights, or a Dask cluster.

An engine is a context of an Executor, as the standard library has them, and how many blocks it computes at a time. A
block is computed by one thread, wherever that is, so its numbers do not depend on how many there are.
"""

import asyncio
import hashlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from ..checkpoint import CheckpointError, hub
from ..inputs import Pair
from ..qa import QuestionAnswerer
from ..runtime.blas import find_blas
from ..runtime.threads import n_cores, single_threaded

CLUSTER_SECONDS = 30
PARENT_SECONDS = 1
# Where blocks are computed, and how many at a time. Left in the middle, it waits for no block that has not begun.
Engine = AbstractContextManager[tuple[Executor, int]]


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
