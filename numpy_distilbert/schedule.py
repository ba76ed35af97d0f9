"""How the work is laid over memory and threads: why the forward pass is fast. What is computed: kernels.py.

Nearly all arithmetic is matrix products, and NumPy's BLAS does those as fast as anyone. What is left to do is to feed
it well and to keep everything else short:

* Features are rows, tokens are columns. A weight is used as it lies in the file, (out, in), and any share of its rows
  gives a contiguous piece of the result.
* Inputs stand side by side as columns, each with the tokens it has: no padding is computed.
* Inputs are divided into packs, and a thread takes one pack after another through all layers with a BLAS of one
  thread. Where they cannot be divided evenly, as a single one cannot, the heads and the hidden units are: each thread
  takes its share through product, bias and activation. With BLAS's own threads, all that lies between the products
  would be left to one core.
* A kernel of many passes takes them over one block after another, each small enough to stay in the core's own cache.
* Memory that a call has written to is kept for the next: fresh pages would have to be fetched from the system first.
* A long sum made of short ones rounds less but takes more passes. It is done where it counts, shortest where what
  rounds goes straight into the hidden states or the logits: errors stay as small as those of PyTorch.
* BLAS copies both operands into an order of its own before it multiplies. For a short input most of the time goes into
  copying weights. OpenBLAS leaves that out for products of up to 10^6 multiplications, so weights are cut to that size.

benchmarks/forward.py measures the whole.
"""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    from threadpoolctl import ThreadpoolController
except ImportError:  # not installed with the extra "fast": BLAS runs on its own threads
    ThreadpoolController = None

Array = NDArray[np.floating]
Ids = NDArray[np.integer]
Mask = NDArray[np.bool_]

CACHE_BLOCK = 2**16  # elements: three such arrays of float32 fit the second-level cache of a core
SCORES_BLOCK = 2**18  # the same for the attention scores of several heads: there, smaller blocks cost more in calls
UNCOPIED_PRODUCT = 10**6  # multiplications, OpenBLAS's limit
UNCOPIED_ROWS = 16  # of a weight to a product; with fewer, a BLAS that copies after all would lose too much
UNCOPIED_TOKENS = 80  # with more, copying the weights is repaid
UNCOPIED_DEPTH = 192  # the deepest sum of such a product
SUM_LENGTH = 512  # products added up before their sum is rounded into the next; of 512 OpenBLAS makes two sums of 256
SHORT_SUM_LENGTH = 96  # the same where errors count most
PACK_TOKENS = 2048  # more would only take memory
KEPT_MEMORY = 2**24  # elements a pack
UNEVEN = 1.08  # how much longer than the average one thread may work before the other way to divide is faster
THREADED_FROM = 8192  # elements of the hidden states; for less, waking threads costs more than it brings


def matmul(weight: Array, x: Array, out: Array, sum_length: int | None = None) -> Array:
    """weight @ x, as a sum of products of depth sum_length if that is given.

    weight: (rows, depth) and out: (rows, tokens), contiguous; x: (depth, tokens).
    """
    (rows, depth), tokens = weight.shape, x.shape[1]
    pieces = 1 if depth % UNCOPIED_DEPTH else depth // UNCOPIED_DEPTH
    uncopied_rows = math.gcd(rows, 2 ** int(math.log2(max(1, UNCOPIED_PRODUCT * pieces // (depth * tokens)))))
    if tokens > UNCOPIED_TOKENS or uncopied_rows < UNCOPIED_ROWS:
        return summed_product(weight, x, sum_length or depth, out)
    blocks = weight.reshape(-1, uncopied_rows, pieces, depth // pieces).transpose(2, 0, 1, 3)
    partial = blocks @ x.reshape(pieces, 1, depth // pieces, tokens)
    return np.add.reduce(partial.reshape(pieces, rows, tokens), axis=0, out=out)


def summed_product(a: Array, b: Array, sum_length: int, out: Array | None = None) -> Array:
    """a @ b as a sum of products of that depth. a: (..., rows, depth), b: (..., depth, columns)."""
    out = np.matmul(a[..., :sum_length], b[..., :sum_length, :], out=out)
    for start in range(sum_length, a.shape[-1], sum_length):
        out += a[..., start : start + sum_length] @ b[..., start : start + sum_length, :]
    return out


def cache_blocks(x: Array) -> Iterator[slice]:
    """Slices of the first axis of x, each of about CACHE_BLOCK elements."""
    step = max(1, CACHE_BLOCK * len(x) // x.size)
    for start in range(0, len(x), step):
        yield slice(start, start + step)


class Memory:
    """Arrays that calls compute in, handed on from one to the next; a pack has its own as long as it is computed."""

    def __init__(self, dtype: np.dtype[np.floating]) -> None:
        self._dtype = dtype
        self._kept: list[Array] = []

    def take(self, size: int) -> Array:
        """An array (size,) with anything in it."""
        try:
            array = self._kept.pop()
        except IndexError:  # the first call, or as many at once as never before
            array = np.empty(size, self._dtype)
        return array[:size] if array.size >= size else np.empty(size, self._dtype)

    def give_back(self, array: Array) -> None:
        """Keep what take() gave, unless it is too large to sit on."""
        whole = array if array.base is None else array.base
        if whole.size <= KEPT_MEMORY:
            self._kept.append(whole)


class Team:
    """The threads that compute one call."""

    def __init__(self, n_threads: int = 1, pool: ThreadPoolExecutor | None = None) -> None:
        """pool: for all threads but the one that calls."""
        self.n_threads = n_threads
        self._pool = pool

    def run(self, function: Callable[[Any], None], items: Sequence[Any]) -> None:
        """function(item) for every item, each thread taking the next when it is free; returns when all are done."""
        queue = iter(items)

        def work() -> None:
            try:
                for item in queue:
                    function(item)
            except BaseException:
                for _ in queue:  # the other threads need not do the rest
                    pass
                raise

        n_others = min(self.n_threads, len(items)) - 1
        others = [] if self._pool is None else [self._pool.submit(work) for _ in range(n_others)]
        work()
        for other in others:
            other.result()

    def shares(self, count: int) -> list[slice]:
        """range(count) cut into equal slices, one for each thread."""
        bounds = [count * i // self.n_threads for i in range(self.n_threads + 1)]
        return [slice(start, stop) for start, stop in pairwise(bounds) if start < stop]

    def packs(self, lengths: Sequence[int]) -> list[list[int]]:
        """The indices of inputs of these lengths, in packs of about equal size: one for each thread, or a multiple.

        One pack if no thread can be given an even share.
        """
        n_packs = self.n_threads * math.ceil(sum(lengths) / (self.n_threads * PACK_TOKENS))
        packs = deal(lengths, n_packs)
        tokens = [sum(lengths[i] for i in pack) for pack in packs]
        if n_packs == self.n_threads and max(tokens) > sum(tokens) / n_packs * UNEVEN:
            return [list(range(len(lengths)))]
        return [pack for pack in packs if pack]


def deal(lengths: Sequence[int], count: int) -> list[list[int]]:
    """The indices of inputs of these lengths in count packs: the longest first, each to the pack with fewest tokens."""
    packs: list[list[int]] = [[] for _ in range(count)]
    tokens = [0] * count
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        lightest = tokens.index(min(tokens))
        packs[lightest].append(i)
        tokens[lightest] += lengths[i]
    return packs


@contextmanager
def threads(size: int) -> Iterator[Team]:
    """The threads for a call whose hidden states have that many elements: as many as the host process gave to BLAS."""
    if BLAS is None or size < THREADED_FROM or ALONE.get():
        yield Team()
        return
    with BLAS.one_thread() as n_threads, ThreadPoolExecutor(n_threads) as pool:
        yield Team(n_threads, pool)


# Whether what is called in this context computes in its own thread only.
ALONE: ContextVar[bool] = ContextVar("ALONE", default=False)


@contextmanager
def alone() -> Iterator[None]:
    """Calls inside compute in their own thread, BLAS included: their numbers are the same on any number of cores, and
    other threads can do the same beside them. Without threadpoolctl BLAS keeps its threads.
    """
    token = ALONE.set(True)
    try:
        with nullcontext() if BLAS is None else BLAS.one_thread():
            yield
    finally:
        ALONE.reset(token)


def n_cores() -> int:
    """How many threads can compute alone beside each other: as many as the host process gave to BLAS."""
    if BLAS is None:
        return 1
    with BLAS.one_thread() as n_threads:
        return n_threads


class _Blas:
    """The threads of BLAS, a setting of the whole process: one while any call computes, then what they were.

    The setting is made by threads that end at once, because threadpoolctl (3.8) lets no other thread change OpenBLAS
    as long as the one lives that did so first. Where that is a thread of the host process, its word stands.
    """

    def __init__(self, controller: Any) -> None:
        """controller: a ThreadpoolController of BLAS alone."""
        self._controller = controller
        self._lock = threading.Lock()
        self._calls = 0

    @contextmanager
    def one_thread(self) -> Iterator[int]:
        """Yields how many threads the host process had given to BLAS, or 1 if BLAS has to keep them."""
        with self._lock:
            if not self._calls:
                self._n_threads = self._threads()
                _in_a_thread_of_its_own(self._hold)
                if self._threads() > 1:
                    self._n_threads = 1
            self._calls += 1
        try:
            yield self._n_threads
        finally:
            with self._lock:
                self._calls -= 1
                if not self._calls:
                    _in_a_thread_of_its_own(self._limit.restore_original_limits)

    def _threads(self) -> int:
        counts: list[int] = [library.num_threads for library in self._controller.lib_controllers]
        return max(counts)

    def _hold(self) -> None:
        self._limit = self._controller.limit(limits=1)


def _in_a_thread_of_its_own(function: Callable[[], None]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def _find_blas() -> _Blas | None:
    if ThreadpoolController is None:
        return None
    controller = ThreadpoolController().select(user_api="blas")
    return _Blas(controller) if controller.lib_controllers else None


BLAS = _find_blas()
