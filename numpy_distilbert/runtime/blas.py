"""The BLAS library of NumPy: found on first use, and limited to one thread while our calls divide the work."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from queue import SimpleQueue
from typing import Any
from weakref import ref

Answer = SimpleQueue[int]


class Blas:
    """The threads of BLAS, a setting of the whole process: one while any call computes, then what they were.

    A thread that never ends counts the calls and makes the setting, as a thread that calls may be interrupted anywhere.
    A call lasts as long as the queue that it gets its answer from: when an interrupt has ended it, the last reference
    to the queue goes, and C code gives the order that ends the call.

    threadpoolctl (3.8) lets no other thread change OpenBLAS between limit.__enter__() and __exit__(), or while a thread
    of the host process lives that did so first: then its setting is respected.
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
        answer: Answer = SimpleQueue()
        try:
            self._orders.put((ref(answer, self._orders.put),))
            yield answer.get()
        finally:
            del answer
            done: Answer = SimpleQueue()
            self._orders.put(done)
            done.get()

    def _keep(self, orders: SimpleQueue[Any]) -> None:
        """Carry out orders: (ref to an answer,) begins a call, that ref alone ends it, a queue is told when both is
        done.
        """
        calls: dict[int, ref[Answer]] = {}  # by identity, as what they refer to may be gone
        n_threads = 0
        while True:
            order = orders.get()
            if isinstance(order, SimpleQueue):
                order.put(n_threads)
            elif isinstance(order, tuple):
                (call,) = order
                answer = call()
                if answer is not None:  # else the call is interrupted already
                    if not calls:
                        n_threads = self._limit_to_one()
                    calls[id(call)] = call
                    answer.put(n_threads)
                del answer
            elif calls.pop(id(order), None) is not None and not calls:
                self._restore()

    def _limit_to_one(self) -> int:
        n_threads = self._threads()
        self._limit = self._controller.limit(limits=1).__enter__()
        return 1 if self._threads() > 1 else n_threads

    def _restore(self) -> None:
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
