"""The BLAS library of NumPy, kept to one thread while our calls divide the work: by threadpoolctl or, in a process of
our own such as the command line, by environment variables that BLAS reads when NumPy is imported.
"""

import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from queue import SimpleQueue
from typing import Any
from weakref import ref

Answer = SimpleQueue[int]


class Call:
    """A call under way: as long as it lives."""


class Blas:
    """The threads of BLAS, a setting of the whole process: one while any call computes, then what they were.

    A thread that never ends counts the calls and makes the setting, as a thread that calls may be interrupted anywhere.
    A call lasts as long as its Call lives: however an interrupt ends it, the last reference goes, and C code gives the
    order that ends the call. An exception that is kept may keep it, until it is dropped.

    threadpoolctl (3.8) lets no other thread change OpenBLAS between limit.__enter__() and __exit__(), or while a thread
    of the host process lives that did so first: then its setting is respected. One that the host makes during our
    calls is ignored, and what it restores afterwards is what it found: one thread.
    """

    def __init__(self, controller: Any) -> None:
        """controller: a ThreadpoolController of BLAS alone."""
        self._controller = controller
        self._limit: Any = None  # as threadpoolctl made it, while any call computes
        self._start()

    def _start(self) -> None:
        self._orders: SimpleQueue[Any] = SimpleQueue()
        threading.Thread(target=self._keep, args=(self._orders,), daemon=True).start()

    @contextmanager
    def one_thread(self) -> Iterator[int]:
        """Yields how many threads the host process had given to BLAS, or 1 if BLAS has to keep them."""
        call, answer = Call(), Answer()
        try:
            self._orders.put((ref(call, self._orders.put), answer))
            n_threads = answer.get()
            # another thread's setting does not count for OpenMP, which has one for each
            yield 1 if self._threads() > 1 else n_threads
        finally:
            del call
            if not sys.is_finalizing():  # else no other thread runs any more
                done: Answer = SimpleQueue()
                self._orders.put(done)
                done.get()

    def _keep(self, orders: SimpleQueue[Any]) -> None:
        """Carry out orders: (ref to a Call, answer) begins a call, that ref alone ends it, and a queue is told when all
        orders before it are done.
        """
        refs: dict[int, ref[Call]] = {}
        n_threads = 0
        while True:
            order = orders.get()
            if isinstance(order, SimpleQueue):
                order.put(n_threads)
            elif isinstance(order, tuple):
                call, answer = order
                if not refs:
                    n_threads = 1  # if it fails
                    with suppress(Exception):  # or all calls would wait for ever
                        n_threads = self._limit_to_one()
                refs[id(call)] = call
                answer.put(n_threads)
            else:
                del refs[id(order)]
                if not refs:
                    with suppress(Exception):
                        self._restore()

    def _limit_to_one(self) -> int:
        n_threads = self._threads()
        if n_threads > 1:
            self._limit = self._controller.limit(limits=None).__enter__()  # notes what a forked child restores
            for library in self._controller.lib_controllers:
                library.set_num_threads(1)
            if self._threads() > 1:  # another thread's setting, which is not ours to restore either
                self._restore()
                return 1
        return n_threads

    def _restore(self) -> None:
        if self._limit is not None:
            self._limit.__exit__(None, None, None)
            self._limit = None

    def _threads(self) -> int:
        return int(max(library.num_threads for library in self._controller.lib_controllers))

    def after_fork(self) -> None:
        """Begin again in a child process, which has none of the parent's threads."""
        if self._limit is not None:
            thread = threading.Thread(target=self._limit.restore_original_limits)  # ends, so that others may limit
            thread.start()
            thread.join()
            self._limit = None
        self._start()


_finding = threading.Lock()
# each tells one of the libraries that NumPy may be built with how many threads to use
_VARIABLES = [f"{name}_NUM_THREADS" for name in ("OPENBLAS", "MKL", "BLIS", "OMP")] + ["VECLIB_MAXIMUM_THREADS"]
_claimed = 0


def claim_threads() -> None:
    """Give BLAS one thread for good, in this process and its children, and our calls as many as it would have had. For
    a process of our own, before NumPy is imported; afterwards it does nothing.
    """
    global _claimed
    if "numpy" not in sys.modules:
        _claimed = _asked_threads()
        os.environ.update(dict.fromkeys(_VARIABLES, "1"))


def _asked_threads() -> int:
    """How many threads BLAS would have: one per core, or the fewest that any of its variables asks for."""
    n_cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    asked = [int(value) for value in map(os.environ.get, _VARIABLES) if value and value.isdecimal()]
    return min([n_cores, *filter(None, asked)])


def is_limited() -> bool:
    """Whether one_thread() can limit BLAS to one thread."""
    return _claimed > 0 or _find_blas() is not None


@contextmanager
def one_thread() -> Iterator[int]:
    """Limit BLAS to one thread, if possible. Yields how many a call may have instead: as many as the host process
    had given to BLAS, or 1 if BLAS keeps them.
    """
    blas = None if _claimed else _find_blas()
    if blas is None:
        yield _claimed or 1
    else:
        with blas.one_thread() as n_threads:
            yield n_threads


def _find_blas() -> Blas | None:
    """The BLAS of this process; None without threadpoolctl (the extra "fast"), or if that does not support it."""
    if sys.is_finalizing():  # the thread that keeps the setting is gone
        return None
    with _finding:  # two of them would undo each other's settings
        return _find()


@cache
def _find() -> Blas | None:
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        if _asked_threads() > 1 and _is_openblas():
            message = "OpenBLAS's threads spin while they wait, which is slow on a machine with other work. "
            message += "Install threadpoolctl, or set OPENBLAS_NUM_THREADS=1 before NumPy is imported."
            warnings.warn(message, stacklevel=2)
        return None
    controller = ThreadpoolController().select(user_api="blas")
    return Blas(controller) if controller.lib_controllers else None


def _is_openblas() -> bool:
    import numpy as np

    built_with = getattr(np.__config__, "CONFIG", {}).get("Build Dependencies", {})  # NumPy 1.25 does not say
    return "openblas" in built_with.get("blas", {}).get("name", "")


def _after_fork() -> None:
    global _finding
    _finding = threading.Lock()  # another thread may have held it
    if _find.cache_info().currsize and (blas := _find()) is not None:
        blas.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
