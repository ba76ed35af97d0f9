"""The runtime changes when and where things are computed, not what; and it leaves the host process as it was."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from weakref import ref

import numpy as np
import pytest
from conftest import blas_threads, posix
from properties import example, given, st

from numpy_distilbert.runtime import blas, products, workspace
from numpy_distilbert.runtime.products import cache_blocks, product, weight_product
from numpy_distilbert.runtime.threads import (
    PACK_TOKENS,
    UNEVEN,
    Plan,
    Team,
    n_cores,
    single_threaded,
    threads,
)
from numpy_distilbert.runtime.workspace import Arena, Memory

threadpoolctl = pytest.importorskip("threadpoolctl", reason="needs the extra 'fast'")


def random(*shape, seed=0):
    return np.random.RandomState(seed).standard_normal(shape).astype(np.float32)


@given(st.integers(1, 130), st.integers(1, 400), st.integers(1, 100))
@example(64, 384, 16)  # many small products, in pieces
@example(2, 3072, 16)
@example(48, 1600, 100)  # one product after the other
@example(256, 768, 81)
def test_a_weight_product_is_the_product(rows, depth, tokens):
    weight, x, out = random(rows, depth), random(depth, tokens, seed=1), np.empty((rows, tokens), np.float32)
    assert weight_product(weight, x, out=out) is out
    np.testing.assert_allclose(out, weight.astype(np.float64) @ x, atol=1e-6 * depth)


@pytest.mark.parametrize("length", [1, 3, 7, 8, 100])
def test_a_product_of_short_sums_is_the_product(length):
    a, b = random(2, 5, 7), random(2, 7, 3, seed=1)
    np.testing.assert_allclose(product(a, b, length), a.astype(np.float64) @ b, atol=1e-5)


def test_long_sums_round_less_than_one_sum_does():
    weight, x = random(64, 3072), random(3072, 16, seed=1)
    exact = weight.astype(np.float64) @ x
    ours = np.abs(weight_product(weight, x) - exact)
    one_sum = np.zeros((64, 16), np.float32)
    for k in range(3072):
        one_sum += weight[:, k : k + 1] * x[k]
    assert np.sqrt(np.mean(ours**2)) < 0.5 * np.sqrt(np.mean((one_sum - exact) ** 2))


@given(st.integers(1, 300), st.integers(1, 2000))
def test_cache_blocks_cover_every_row_once(rows, columns):
    x = np.zeros((rows, columns))
    for block in cache_blocks(x):
        assert x[block].size <= max(products.CACHE_BLOCK, columns)
        x[block] += 1
    assert (x == 1).all()


@given(st.integers(0, 50), st.integers(1, 9))
def test_slices_of_a_split_cover_every_item_once(count, n_threads):
    slices = []
    Team(n_threads).split(count, slices.append)
    assert [i for rows in slices for i in range(count)[rows]] == list(range(count))
    assert len(slices) == min(count, n_threads)


@given(st.lists(st.integers(1, 512), min_size=1, max_size=40), st.integers(1, 9))
def test_packs_hold_every_input_once_and_are_even(lengths, n_threads):
    packs, whole_packs = Team(n_threads).plan(lengths)
    assert whole_packs or packs == [list(range(len(lengths)))]
    assert sorted(i for pack in packs for i in pack) == list(range(len(lengths)))
    tokens = [sum(lengths[i] for i in pack) for pack in packs]
    assert all(packs)
    assert max(tokens) - min(tokens) <= max(lengths)
    if sum(lengths) <= n_threads * PACK_TOKENS:
        assert max(tokens) * len(packs) <= sum(lengths) * UNEVEN
    else:
        assert max(tokens) <= PACK_TOKENS + max(lengths)


def test_few_long_inputs_leave_no_pack_empty():
    assert Team(8).plan([1500] * 11) == Plan([[i] for i in range(11)], whole_packs=True)
    assert Team(2).plan([4200]) == Plan([[0]], whole_packs=True)


def test_packs_of_many_tokens_stay_small():
    packs = Team(2).plan([384] * 100).packs
    assert len(packs) == 20 and {len(pack) for pack in packs} == {5}
    assert [len(pack) for pack in Team(1).plan([512] * 5).packs] == [3, 2]


def test_equal_inputs_are_divided_and_a_single_one_is_not():
    assert [len(pack) for pack in Team(2).plan([7] * 8).packs] == [4, 4]
    assert Team(2).plan([384]) == Plan([[0]], whole_packs=False)
    assert Team(2).plan([384, 100]) == Plan([[0, 1]], whole_packs=False)
    assert Team(1).plan([384]) == Plan([[0]], whole_packs=True)
    assert sorted(Team(2).plan([10, 10, 20]).packs) == [[0, 1], [2]]


def test_an_arena_is_divided_into_arrays_that_share_nothing_and_keeps_its_memory():
    arena = Arena(np.dtype(np.float32))
    first = arena.divide({"a": (2, 5), "b": (3, 4)})
    assert [x.shape for x in first.values()] == [(2, 5), (3, 4)] and not np.shares_memory(*first.values())
    again = arena.divide({"c": (3, 3)})["c"]
    assert (
        again.shape == (3, 3) and np.shares_memory(first["a"], again) and arena.size == 22
    )  # all of it is still there
    assert not np.shares_memory(again, arena.divide({"c": (1, 23)})["c"]) and arena.size == 23
    assert arena.divide({}) == {}


def test_memory_is_handed_on_when_it_is_given_back(monkeypatch):
    memory = Memory(np.dtype(np.float32))
    first, second = memory.take(), memory.take()
    assert first is not second
    memory.give_back(first)
    assert memory.take() is first
    monkeypatch.setattr(workspace, "KEPT_MEMORY", 9)
    first.divide({"a": (2, 5)})
    memory.give_back(first)
    assert memory.take() is not first  # it is too large to be kept


def test_a_team_works_on_all_threads_at_once(two_blas_threads):
    both_are_there = threading.Barrier(2, timeout=60)
    with threads() as team:
        assert team.n_threads == 2
        team.split(2, lambda rows: both_are_there.wait())


def test_a_thread_takes_the_next_item_when_it_is_free(two_blas_threads):
    rest_is_done, done = threading.Event(), []

    def work(item):
        if item == 0:
            assert rest_is_done.wait(60)
        done.append(item)
        if len(done) == 9:
            rest_is_done.set()

    with threads() as team:
        team.run(work, range(10))
    assert done == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]


def test_after_an_error_the_rest_is_not_computed(two_blas_threads):
    failed, done = threading.Event(), []

    def work(item):
        if item == 0:
            failed.set()
            raise KeyError(item)
        failed.wait(60)
        time.sleep(0.05)
        done.append(item)

    with pytest.raises(KeyError), threads() as team:
        team.run(work, range(100))
    assert len(done) < 50


def test_blas_has_one_thread_while_computing_and_then_what_it_had(two_blas_threads):
    with threads():
        assert blas_threads() == [1]
        with threads() as inner:  # as another thread that calls the model meanwhile
            assert inner.n_threads == 2
        assert blas_threads() == [1]
    assert blas_threads() == [2]


def test_a_call_ends_when_blas_has_what_it_had_however_long_that_takes(two_blas_threads, monkeypatch):
    found = blas._find_blas()
    restore = found._restore
    monkeypatch.setattr(found, "_restore", lambda: (time.sleep(0.1), restore()))
    with threads():
        pass
    assert blas_threads() == [2]


def test_blas_has_its_threads_again_after_an_error(two_blas_threads):
    def fail(rows, failing):
        if rows == failing:
            raise KeyError(rows.start)

    for failing in (slice(0, 1), slice(1, 2)):
        with pytest.raises(KeyError), threads() as team:
            team.split(2, partial(fail, failing=failing))
        assert blas_threads() == [2]


def test_calls_that_overlap_leave_blas_as_it_was(two_blas_threads):
    entered, left = threading.Barrier(4, timeout=60), threading.Barrier(4, timeout=60)

    def call(number):
        with threads() as team:
            entered.wait()
            assert blas_threads() == [1] and team.n_threads == 2
            if number:
                left.wait()
        if not number:  # the first to come is the first to go
            assert blas_threads() == [1]
            left.wait()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(call, range(4)))
    assert blas_threads() == [2]


def test_the_last_call_to_end_restores_blas_though_the_thread_of_the_first_lives_on(two_blas_threads):
    entered, first_is_gone = threading.Event(), threading.Event()

    def later_call():
        with threads():
            entered.set()
            first_is_gone.wait(60)

    with ThreadPoolExecutor(1) as pool:
        with threads():
            last = pool.submit(later_call)
            assert entered.wait(60)
        first_is_gone.set()
        last.result()
    assert blas_threads() == [2]


def test_a_host_with_one_blas_thread_has_a_team_of_one(two_blas_threads):
    with threadpoolctl.threadpool_limits(1, user_api="blas"), threads() as team:
        assert team.n_threads == 1 and blas_threads() == [1]
    assert blas_threads() == [2]


def test_a_host_that_holds_blas_itself_keeps_it(two_blas_threads):
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        for _ in range(2):
            with threads() as team:  # either BLAS or the team has two threads, never both
                assert [team.n_threads, *blas_threads()] in ([1, 2], [2, 1])
            assert blas_threads() == [2]


@pytest.mark.parametrize("limited", [1, 3])
def test_a_limit_of_the_host_that_ends_meanwhile_stays_ended(two_blas_threads, limited):
    with ThreadPoolExecutor(1) as host:
        limit = host.submit(lambda: threadpoolctl.threadpool_limits(limited, user_api="blas").__enter__()).result()
        with threads() as team:
            assert team.n_threads == 1
            host.submit(limit.__exit__, None, None, None).result()
        assert blas_threads() == [2]
    with threads() as team:
        assert team.n_threads == 2


def test_what_a_failed_call_held_is_freed_at_once(two_blas_threads):
    class Held:
        pass

    def fail(item):
        held = Held()
        alive.append(ref(held))
        both_are_there.wait()
        raise KeyError(item)

    alive, both_are_there = [], threading.Barrier(2, timeout=60)
    gc.disable()
    try:
        with suppress(KeyError), threads() as team:
            team.run(fail, range(2))
        assert [one() for one in alive] == [None, None]
    finally:
        gc.enable()


def test_a_call_while_the_interpreter_ends_does_not_hang():
    program = """
from numpy_distilbert.runtime.threads import single_threaded, threads

def suspended():
    with single_threaded():
        yield

class Last:
    def __del__(self):
        with threads():
            print("called")

kept, last = suspended(), Last()
next(kept)
last.itself = last  # so that it is collected at the very end
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, encoding="utf-8")
    assert (done.returncode, done.stdout, done.stderr) == (0, "called\n", "")


def test_without_threadpoolctl_blas_keeps_its_own_threads(two_blas_threads, monkeypatch, embedded):
    expected = embedded.model([[101, 2040, 102] * 40])
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "threadpoolctl", None)
        without.setattr(blas, "_asked_threads", lambda: 1)  # no warning
        found = blas._find.__wrapped__()
    monkeypatch.setattr(blas, "_find", lambda: found)
    with threads() as team:
        assert team.n_threads == 1 and blas_threads() == [2]
    output = embedded.model([[101, 2040, 102] * 40])
    np.testing.assert_allclose(output.start_logits, expected.start_logits, atol=2e-5)


def test_a_blas_that_threadpoolctl_does_not_know_keeps_its_own_threads(two_blas_threads, monkeypatch, recwarn):
    with monkeypatch.context() as unknown:
        unknown.setattr(threadpoolctl.ThreadpoolController, "_load_libraries", lambda _: None)
        found = blas._find.__wrapped__()
    monkeypatch.setattr(blas, "_find", lambda: found)
    with threads() as team:
        assert team.n_threads == 1 and blas_threads() == [2] and not blas.is_limited() and not recwarn


CORES = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
WITHOUT_THREADPOOLCTL = """
import sys
sys.modules["threadpoolctl"] = None
{}
with threads() as team:
    n_threads = team.n_threads
with threads() as team:
    del sys.modules["threadpoolctl"]
    from threadpoolctl import threadpool_info
    print(n_threads, *[library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"])
"""
LIBRARY = "from numpy_distilbert.runtime.threads import threads"
COMMAND_LINE = f"from numpy_distilbert.cli import main; main(['info']); {LIBRARY}"


def without_threadpoolctl(program, environment):
    """The last line that it prints, its threads and BLAS's, and what it prints as errors."""
    inherited = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    call = [sys.executable, "-c", WITHOUT_THREADPOOLCTL.format(program)]
    done = subprocess.run(call, env=inherited | environment, capture_output=True, check=True, encoding="utf-8")
    return done.stdout.splitlines()[-1], done.stderr


@pytest.mark.parametrize(
    "environment, threads",
    [
        ({}, CORES),
        ({"OPENBLAS_NUM_THREADS": "1"}, 1),
        ({"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": ""}, min(2, CORES)),
        ({"OMP_NUM_THREADS": "0", "OPENBLAS_NUM_THREADS": "1000"}, CORES),
    ],
)
def test_the_command_line_computes_in_its_own_threads_with_one_of_blas(two_blas_threads, environment, threads):
    assert without_threadpoolctl(COMMAND_LINE, environment) == (f"{threads} 1", "")


@pytest.mark.parametrize("variable", [None, "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"])
def test_the_library_warns_once_of_threads_that_it_cannot_limit(two_blas_threads, variable):
    if not any(library["internal_api"] == "openblas" for library in threadpoolctl.threadpool_info()):
        pytest.skip("is about OpenBLAS")
    n_threads, errors = without_threadpoolctl(LIBRARY, {variable: "1"} if variable else {})
    assert n_threads == f"1 {1 if variable else CORES}"
    assert errors.count("UserWarning: OpenBLAS's threads spin") == (CORES > 1 and variable is None)
    assert "Install threadpoolctl, or set OPENBLAS_NUM_THREADS=1" in errors or not errors


@pytest.fixture(scope="module")
def batch():
    """Nine inputs of 5 to 77 tokens: ids and mask."""
    lengths = np.array([77, 5, 40, 40, 64, 12, 70, 33, 9])
    mask = (np.arange(77) < lengths[:, None]).astype(int)
    return np.random.RandomState(0).randint(1000, 20000, mask.shape), mask


def test_eight_threads_sharing_a_model_compute_what_one_does(two_blas_threads, batch, embedded):
    ids, mask = batch
    calls = [(ids[i : i + n], mask[i : i + n]) for n in (1, 2, 9) for i in range(0, 9, n)]
    alone = [embedded.model(*call).start_logits for call in calls]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda call: embedded.model(*call).start_logits, calls))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)
    assert blas_threads() == [2]


def test_what_an_input_shares_its_batch_with_hardly_matters(two_blas_threads, batch, embedded):
    ids, mask = batch
    for rows in ([0, 1], [3, 2, 1], range(9), range(8, -1, -1)):
        rows = list(rows)
        together = embedded.model(ids[rows], mask[rows])
        for row, start, end in zip(rows, together.start_logits, together.end_logits, strict=True):
            length = mask[row].sum()
            alone = embedded.model(ids[row : row + 1, :length])
            for logits, expected in ((start[:length], alone.start_logits[0]), (end[:length], alone.end_logits[0])):
                assert np.abs(logits - expected).max() < 2e-5 * max(1, np.abs(expected).max())


def n_threads():
    with threads() as team:
        return team.n_threads


def test_a_single_threaded_call_has_one_thread_and_others_have_all(two_blas_threads):
    assert n_cores() == 2
    with single_threaded():
        assert blas_threads() == [1]
        assert n_threads() == 1
        with ThreadPoolExecutor(1) as pool:  # another thread, which is not single-threaded
            assert pool.submit(n_threads).result() == 2
    assert blas_threads() == [2]
    assert n_threads() == 2


def test_a_block_has_the_same_numbers_on_any_number_of_cores(two_blas_threads, embedded):
    contexts = [f"Maren Holt kept log {i}. " * i for i in range(1, 5)]

    def scores():
        with single_threaded():
            return [answer["score"] for answer in embedded(question=["Who?"] * 4, context=contexts)]

    before = scores()
    controller = threadpoolctl.ThreadpoolController().select(user_api="blas")
    with ThreadPoolExecutor(1) as pool:
        limit = pool.submit(controller.limit, limits=1).result()
        after = scores()
        pool.submit(limit.restore_original_limits).result()
    assert before == after


@posix
@pytest.mark.parametrize("count", [150, pytest.param(2000, marks=pytest.mark.slow)])
def test_interrupts_at_any_moment_leave_everything_as_it_was(count, two_blas_threads, shallow):
    batches = [[101] * 90], [[101, 1040, 102] * 20] * 3  # one that all threads share, and one of several packs
    expected = [shallow.model(batch).start_logits for batch in batches]
    seconds, moments, interrupted = np.inf, np.random.RandomState(0), 0
    for _ in range(10):
        start = time.perf_counter()
        shallow.model(batches[0])
        seconds = min(seconds, time.perf_counter() - start)

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for number in range(count):
            try:
                signal.setitimer(signal.ITIMER_REAL, moments.uniform(1e-6, seconds))
                shallow.model(batches[number % 2])
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted > count / 10
    for batch, logits in zip(batches, expected, strict=True):
        np.testing.assert_array_equal(shallow.model(batch).start_logits, logits)
    assert blas_threads() == [2]


@posix
def test_a_child_that_is_forked_meanwhile_has_all_threads_and_the_same_numbers(two_blas_threads, shallow):
    batch, stop = [[101, 1040, 102] * 20] * 3, threading.Event()
    expected = shallow.model(batch).start_logits

    def compute():
        while not stop.is_set():
            shallow.model(batch)

    busy = threading.Thread(target=compute)
    busy.start()
    statuses = []
    for _ in range(20):
        child = os.fork()
        if not child:
            signal.alarm(30)  # kills one that hangs
            same = blas_threads() == [2] and (shallow.model(batch).start_logits == expected).all()
            os._exit(not (same and blas_threads() == [2]))
        statuses.append(os.waitpid(child, 0)[1])
    stop.set()
    busy.join()
    assert statuses == [0] * 20
