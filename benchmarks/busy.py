"""Time to answer a question on a machine that has other work, with threadpoolctl and without it.

    pip install ".[fast]"
    python benchmarks/busy.py [--rounds 5]

A process answers a question about some 330 tokens of text 9 times with the embedded checkpoint, alone and beside one
busy loop per core, in turn; printed is its median time in milliseconds in each round. Without threadpoolctl OpenBLAS
keeps its own threads, which wait for each other in a busy loop.
"""

import argparse
import os
import statistics
import subprocess
import sys

ANSWERS = """
import statistics, sys, time
if sys.argv[1] == "without":
    sys.modules["threadpoolctl"] = None
from numpy_distilbert import QuestionAnswerer
qa = QuestionAnswerer.from_pretrained()
context = "The tower is old. Maren Holt kept its log. " * 26
times = []
for _ in range(10):
    start = time.perf_counter()
    qa("Who kept the log?", context)
    times.append(time.perf_counter() - start)
print(statistics.median(times[1:]) * 1000)
"""


def milliseconds(which: str, busy: int) -> float:
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    try:
        done = subprocess.run([sys.executable, "-c", ANSWERS, which], check=True, capture_output=True, text=True)
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds, n_cores = parser.parse_args().rounds, os.cpu_count() or 1
    cases = [(which, busy) for busy in (0, n_cores) for which in ("with", "without")]
    runs = [[milliseconds(*case) for case in cases] for _ in range(rounds)]
    print(f"{n_cores} cores, milliseconds of a question in each of {rounds} rounds")
    for (which, busy), times in zip(cases, zip(*runs, strict=True), strict=True):
        shown = " ".join(f"{time:6.0f}" for time in times)
        print(f"{which:>8} threadpoolctl, beside {busy} busy loops: {shown}   median {statistics.median(times):.0f}")


if __name__ == "__main__":
    main()
