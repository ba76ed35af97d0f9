"""The BLAS library of NumPy: found on first use, and limited to one thread while our calls divide the work."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_finding = threading.Lock()


class Blas:
    """The threads of BLAS, a setting of the whole process: one while any call computes, then what they were.

    It is set from threads that end at once, because threadpoolctl (3.8) lets no other thread change OpenBLAS as long
    as the first thread that did so is alive. If that is a thread of the host process, its setting is respected.
    """

    def __init__(self, controller: Any) -> None:
        """controller: a ThreadpoolController for BLAS alone."""
        self._controller, self._lock, self._calls = controller, threading.Lock(), 0

    @contextmanager
    def one_thread(self) -> Iterator[int]:
        """Yields how many threads the host process had given to BLAS, or 1 if BLAS has to keep them."""
        with self._lock:
            if not self._calls:
                self._n_threads = self._threads()
                _in_a_new_thread(self._limit_to_one)
                if self._threads() > 1:
                    self._n_threads = 1
            self._calls += 1
        try:
            yield self._n_threads
        finally:
            with self._lock:
                self._calls -= 1
                if not self._calls:
                    _in_a_new_thread(self._limit.restore_original_limits)

    def _threads(self) -> int:
        return int(max(library.num_threads for library in self._controller.lib_controllers))

    def _limit_to_one(self) -> None:
        self._limit = self._controller.limit(limits=1)


def _in_a_new_thread(function: Callable[[], None]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


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
