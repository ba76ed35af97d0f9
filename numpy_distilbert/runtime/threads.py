"""The threads that compute a call, and how they divide its work."""

import math
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise
from queue import SimpleQueue
from typing import Any, NamedTuple

import numpy as np

from .blas import one_thread

PACK_TOKENS = 2048  # more would only take memory
UNEVEN = 1.08  # how much longer than the average one thread may work before the other way to divide is faster
_single_threaded: ContextVar[bool] = ContextVar("single_threaded", default=False)  # whether a call uses its thread only


class Plan(NamedTuple):
    """How a batch is divided among threads.

    packs: the indices of the inputs in each. whole_packs: True if each thread takes whole packs, one after the other;
    False if there is one pack, and in every step of it each thread computes a slice of the rows.
    """

    packs: list[list[int]]
    whole_packs: bool


class Helpers:
    """The threads beside those that call. They are started when they are first needed, and never end."""

    def __init__(self) -> None:
        self._orders: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def help(self, work: Callable[[], None], n_threads: int) -> None:
        """Call work, which raises nothing, on so many of them, as soon as they are free."""
        while len(self._threads) < n_threads:
            thread = threading.Thread(target=self._serve, args=(self._orders,), daemon=True)
            thread.start()
            self._threads.append(thread)
        for _ in range(n_threads):
            self._orders.put(work)

    @staticmethod
    def _serve(orders: SimpleQueue[Callable[[], None]]) -> None:
        with np.errstate(over="ignore", invalid="ignore"):  # as those that call do, each for its own thread
            while True:
                orders.get()()


_helpers = Helpers()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.__init__)  # type: ignore[misc]  # a child has none of the threads


class Team:
    """The threads that compute one call: the one that calls, and others that help it."""

    def __init__(self, n_threads: int = 1) -> None:
        self.n_threads = n_threads

    def run(self, function: Callable[[Any], None], items: Sequence[Any]) -> None:
        """Call function(item) for every item, each thread taking the next when it is free; return when all are done.

        After an error the items that are not begun are left out. If an interrupt ends it elsewhere than in function,
        the others may still be at work: what they write to must not be used again.
        """
        waiting, finished, errors = deque(items), SimpleQueue[None](), list[BaseException]()

        def work() -> None:
            while True:
                try:
                    item = waiting.popleft()
                except IndexError:
                    return
                try:
                    if not errors:
                        function(item)
                except BaseException as error:
                    errors.append(error)
                finished.put(None)

        if len(items) > 1 and self.n_threads > 1:
            _helpers.help(work, min(self.n_threads, len(items)) - 1)
        try:
            work()
            for _ in items:
                finished.get()
            if errors:
                raise errors.pop(0)
        finally:
            errors.clear()  # each refers to this list, by its traceback

    def split(self, count: int, function: Callable[[slice], Any]) -> None:
        """Call function with equal slices of range(count), one for each thread; return when all are done."""
        bounds = [count * i // self.n_threads for i in range(self.n_threads + 1)]
        self.run(function, [slice(start, stop) for start, stop in pairwise(bounds) if start < stop])

    def plan(self, lengths: Sequence[int]) -> Plan:
        """How to divide inputs of these lengths: into packs of about equal size, one for each thread or a multiple.

        If the threads cannot be given even parts, into a single pack that they share.
        """
        n_packs = self.n_threads * math.ceil(sum(lengths) / (self.n_threads * PACK_TOKENS))
        packs = balance(lengths, n_packs)
        tokens = [sum(lengths[i] for i in pack) for pack in packs]
        if n_packs == self.n_threads and max(tokens) > sum(tokens) / n_packs * UNEVEN:
            return Plan([list(range(len(lengths)))], whole_packs=False)
        return Plan([pack for pack in packs if pack], whole_packs=True)


def balance(lengths: Sequence[int], count: int) -> list[list[int]]:
    """The indices of inputs of these lengths in count packs: the longest first, each to the pack with fewest tokens."""
    packs: list[list[int]] = [[] for _ in range(count)]
    tokens = [0] * count
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        lightest = tokens.index(min(tokens))
        packs[lightest].append(i)
        tokens[lightest] += lengths[i]
    return packs


@contextmanager
def threads() -> Iterator[Team]:
    """The threads for a call: as many as the host process gave to BLAS."""
    if _single_threaded.get():
        yield Team()
        return
    with one_thread() as n_threads:
        yield Team(n_threads)


@contextmanager
def single_threaded() -> Iterator[None]:
    """Calls inside compute in their own thread, BLAS included: their numbers are the same on any number of cores, and
    other threads can do the same beside them. A BLAS that cannot be limited keeps its threads.
    """
    before = _single_threaded.get()
    try:
        _single_threaded.set(True)
        with one_thread():
            yield
    finally:
        _single_threaded.set(before)


def n_cores() -> int:
    """How many threads can compute single-threaded calls at a time: as many as the host process gave to BLAS."""
    with one_thread() as n_threads:
        return n_threads
