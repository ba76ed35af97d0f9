"""Questions per second of `numpy-distilbert batch`: one process, two workers and a local Dask cluster of two.

    pip install "numpy-distilbert[batch]"
    python benchmarks/batch.py --squad dev-v1.1.json.gz [--limit 1000] [--rounds 3]

All of them answer the same first questions of SQuAD dev, with the embedded checkpoint, in turn, timed from the start of
the process to the complete output; medians. Beside them the same questions through QuestionAnswerer in this process,
already loaded, on all cores: the difference is the overhead of files, blocks and engines. Start: the same call on a
file of one question, the part that does not grow with the rows. Files and blocks: the rows twenty times over through
everything but the model, which is what one reader can feed. Memory: the highest seen in a worker (or in the process, if
there are no workers) while it computes; resident is all its pages, own those that it does not share. Runs on Linux.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Executor, Future
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np

from numpy_distilbert import QuestionAnswerer
from numpy_distilbert.batch.engines import ModelSource
from numpy_distilbert.batch.run import answer_file
from numpy_distilbert.squad import read_questions

WORKERS = 2
SAMPLE_SECONDS = 0.2


@contextmanager
def cluster(folder: Path):
    """The address of a scheduler and its workers' processes."""
    file = folder / "scheduler.json"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--no-dashboard", "--host", "127.0.0.1"]
    started = [subprocess.Popen([*command, "--port", "0", "--scheduler-file", str(file)], **quiet)]
    while not file.exists() or not file.read_text(encoding="utf-8"):
        time.sleep(0.1)
    address = json.loads(file.read_text(encoding="utf-8"))["address"]
    command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--no-nanny", "--nthreads", "1"]
    command += ["--no-dashboard", "--local-directory", str(folder)]
    started += [subprocess.Popen(command, **quiet) for _ in range(WORKERS)]
    try:
        yield address, [process.pid for process in started[1:]]
    finally:
        for process in started:
            process.kill()
            process.wait()


def children(parent: int) -> list[int]:
    """The processes that a process has started."""
    try:
        text = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="utf-8")
    except OSError:
        return []
    return [int(number) for number in text.split()]


def memory(process: int) -> tuple[float, float]:
    """Resident and own memory, in MB."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="utf-8").splitlines()[1:]
    except OSError:
        return 0.0, 0.0
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return kilobytes["Rss"] / 1000, (kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]) / 1000


def run(source: Path, options: list[str], workers: list[int]) -> tuple[float, tuple[float, float]]:
    """Seconds, and the memory of the largest worker."""
    output = source.with_name("out.jsonl")
    command = [sys.executable, "-m", "numpy_distilbert", "batch", str(source), "-o", str(output), *options]
    most = (0.0, 0.0)
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        for number in workers or children(process.pid) or [process.pid]:
            most = max(most, memory(number))
        time.sleep(SAMPLE_SECONDS)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}")
    return time.perf_counter() - start, most


class Nothing(Executor):
    """Gives an answer to everything without computing."""

    def submit(self, _, pairs):
        future = Future()
        future.set_result([{"answer": "", "score": 0.0, "start": 0, "end": 0}] * len(pairs))
        return future


def fed(source: Path) -> float:
    """Seconds of a run in which nothing is computed."""
    start = time.perf_counter()
    answer_file(source, source.with_name("out.jsonl"), ModelSource.find(None), nullcontext((Nothing(), WORKERS)))
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--squad", required=True, metavar="DEV.json", help="SQuAD v1.1 dev")
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rows = [{"question": q.question, "context": q.context} for q in read_questions(arguments.squad)[: arguments.limit]]
    qa = QuestionAnswerer.from_pretrained()
    with tempfile.TemporaryDirectory() as name, cluster(Path(name)) as (address, workers):
        source, one = Path(name) / "in.jsonl", Path(name) / "one.jsonl"
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        source.write_text(lines, encoding="utf-8")
        one.write_text(json.dumps(rows[0]) + "\n", encoding="utf-8")
        engines = {
            "one process": ([], []),
            f"{WORKERS} workers": (["--workers", str(WORKERS)], []),
            f"Dask, {WORKERS} workers": (["--scheduler", address], workers),
        }
        for options, processes in engines.values():
            run(one, options, processes)  # not counted: it fills the system's file cache, and workers load the model
        many = Path(name) / "many.jsonl"
        many.write_text(lines * 20, encoding="utf-8")
        feeding = statistics.median(20 * len(rows) / fed(many) for _ in range(arguments.rounds))
        bare, runs = [], {engine: [] for engine in engines}
        for _ in range(arguments.rounds):
            start = time.perf_counter()
            for _ in qa(iter(rows)):
                pass
            bare.append(time.perf_counter() - start)
            for engine, (options, processes) in engines.items():
                runs[engine].append((run(source, options, processes), run(one, options, processes)[0]))
    count, rate = len(rows), len(rows) / statistics.median(bare)
    print(
        f"embedded checkpoint, {count} questions, {os.cpu_count()} cores, numpy {np.__version__}, "
        f"medians of {arguments.rounds}"
    )
    print(f"{'':22}{'a second':>9}{'of bare':>9}{'start, s':>10}{'resident, MB':>14}{'own, MB':>9}")
    print(f"{'QuestionAnswerer, bare':22}{rate:>9.1f}")
    print(f"{'files and blocks alone':22}{feeding:>9.0f}")
    for engine, measured in runs.items():
        speed = statistics.median(count / whole for (whole, _), _ in measured)
        share = statistics.median(taken / whole for taken, ((whole, _), _) in zip(bare, measured, strict=True))
        start = statistics.median(start for _, start in measured)
        resident, own = (max(one[1][i] for one, _ in measured) for i in range(2))
        print(f"{engine:22}{speed:>9.1f}{share:>9.2f}{start:>10.2f}{resident:>14.0f}{own:>9.0f}")


if __name__ == "__main__":
    main()
