"""Time to answer a question on a machine that has other work: the library and the command line, with threadpoolctl and
without it.

    pip install ".[fast]"
    python benchmarks/busy.py [--rounds 5]

A process answers a question about some 330 tokens of text 9 times with the embedded checkpoint (fewer if that takes
10 s), alone and beside one busy loop per core, in turn; printed is its median time in milliseconds in each round, and
the ratio of all rounds' median to the first case's. threadpoolctl is hidden from the processes without it. There
OpenBLAS keeps its own threads, which wait for each other in a busy loop, unless a variable says otherwise. The command
line sets OPENBLAS_NUM_THREADS=1 and computes in threads of its own.
"""

import argparse
import os
import statistics
import subprocess
import sys

ANSWERS = """
import statistics, sys, time
where, threadpoolctl = sys.argv[1:]
if threadpoolctl == "without":
    sys.modules["threadpoolctl"] = None
if where == "command":
    from numpy_distilbert.cli import main
    main(["info"])
from numpy_distilbert import QuestionAnswerer
qa = QuestionAnswerer.from_pretrained()
context = "The tower is old. Maren Holt kept its log. " * 26
times = []
while len(times) < 2 or (len(times) < 10 and sum(times) < 10):
    start = time.perf_counter()
    qa("Who kept the log?", context)
    times.append(time.perf_counter() - start)
print(statistics.median(times[1:]) * 1000)
"""
CASES = {  # where, whether with threadpoolctl, environment
    "library, with threadpoolctl": ("library", "with", {}),
    "library, without it": ("library", "without", {}),
    "the same, OPENBLAS_THREAD_TIMEOUT=4": ("library", "without", {"OPENBLAS_THREAD_TIMEOUT": "4"}),
    "the same, OPENBLAS_NUM_THREADS=1": ("library", "without", {"OPENBLAS_NUM_THREADS": "1"}),
    "command line, with threadpoolctl": ("command", "with", {}),
    "command line, without it": ("command", "without", {}),
}


def milliseconds(where: str, threadpoolctl: str, environment: dict[str, str], busy: int) -> float:
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    call = [sys.executable, "-W", "ignore", "-c", ANSWERS, where, threadpoolctl]
    try:
        done = subprocess.run(call, env=os.environ | environment, check=True, capture_output=True, text=True)
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds, n_cores = parser.parse_args().rounds, os.cpu_count() or 1
    cases = [(name, busy) for busy in (0, n_cores) for name in CASES]
    runs = [[milliseconds(*CASES[name], busy) for name, busy in cases] for _ in range(rounds)]
    medians: dict[int, float] = {}  # of the first case, which the others are compared with
    for (name, busy), times in zip(cases, zip(*runs, strict=True), strict=True):
        if busy not in medians:
            print(f"\nmilliseconds of a question in each of {rounds} rounds, {n_cores} cores, beside {busy} busy loops")
        median = statistics.median(times)
        ratio = median / medians.setdefault(busy, median)
        print(f"{name:<36}{' '.join(f'{time:6.0f}' for time in times)}   median {median:5.0f}{ratio:6.2f} x")


if __name__ == "__main__":
    main()
