"""The BLAS library of NumPy: found on first use, and limited to one thread while our calls divide the work."""

import os
import sys
import threading
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


def find_blas() -> Blas | None:
    """The BLAS of this process; None without threadpoolctl (the extra "fast"), which leaves BLAS its own threads."""
    if sys.is_finalizing():  # the thread that keeps the setting is gone
        return None
    with _finding:  # two of them would undo each other's settings
        return _find()


@cache
def _find() -> Blas | None:
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    controller = ThreadpoolController().select(user_api="blas")
    return Blas(controller) if controller.lib_controllers else None


def _after_fork() -> None:
    global _finding
    _finding = threading.Lock()  # another thread may have held it
    if _find.cache_info().currsize and (blas := _find()) is not None:
        blas.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
