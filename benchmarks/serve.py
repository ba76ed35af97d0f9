"""Requests per second and response times of the service, against a plain one around transformers 5.2.0's pipeline.

    pip install "numpy-distilbert[fast,serve]"
    pip install torch==2.13.0 transformers==5.2.0 starlette uvicorn   (here, or where --reference says)
    python benchmarks/serve.py --squad dev-v1.1.json.gz [--reference PYTHON] [--seconds 20] [--rounds 3]
    python benchmarks/serve.py --fair [--seconds 20]

Both answer the first questions of SQuAD dev with the embedded checkpoint, in float32, each in its own process on all
cores, which the clients share with them. Each client keeps a connection and sends its next question when it has the
answer to the last. The services take turns; the reference uses 1 or 4 threads at a time, whichever serves 16 clients
faster. For each number of clients: medians of the rounds, and the median ratio of requests per second.
--fair: response times of ours to a short question, alone and beside a client that sends contexts of 500,000
characters, one after another.
"""

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from numpy_distilbert.checkpoint import hub
from numpy_distilbert.squad import read_questions

CLIENTS = 1, 4, 16, 64
QUESTIONS = 500
THREADS = 1, 4
SHORT = {"question": "Who kept the log?", "context": "The tower is old. Maren Holt kept its log."}
LONG = SHORT | {"context": (SHORT["context"] + " ") * (500_000 // (len(SHORT["context"]) + 1))}


class Service:
    """A service in its own process, and how to put load on it."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
        )
        for line in self.process.stdout:
            if "http://" in line:
                self.address = line[line.index("http://") :].split()[0].removeprefix("http://")
                break
        else:
            raise SystemExit(f"{' '.join(command)}: does not serve ({line.strip()}). Name another with --reference.")
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def load(self, clients: int, bodies: list[bytes], seconds: float) -> list[float]:
        """Requests per second, and the median and 99th percentile of their seconds."""
        taken: list[float] = []
        statuses: set[int] = set()
        start = time.perf_counter()

        def ask(number: int) -> None:
            connection = http.client.HTTPConnection(self.address)
            for i in range(number, 10**9, clients):
                begun = time.perf_counter()
                if begun > start + seconds:
                    return connection.close()
                connection.request("POST", "/", bodies[i % len(bodies)])
                response = connection.getresponse()
                response.read()
                statuses.add(response.status)
                taken.append(time.perf_counter() - begun)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if statuses != {200}:
            raise SystemExit(f"{self.address} answered {statuses}")
        return [len(taken) / (time.perf_counter() - start), *np.quantile(taken, [0.5, 0.99])]


def fairness(seconds: float) -> None:
    """Print the response times of a short question, alone and beside long ones."""
    ours = Service([sys.executable, "-m", "numpy_distilbert", "serve", "--port", "0"])
    short, long = ([json.dumps({"inputs": inputs}).encode()] for inputs in (SHORT, LONG))
    ours.load(1, short, 1)
    beside = threading.Thread(target=ours.load, args=(1, long, seconds))
    for name in ("alone", "beside a long one"):
        if name != "alone":
            beside.start()
        _, half, most = ours.load(1, short, seconds)
        print(f"a short question {name:<18} p50 {1000 * half:6.0f} ms, p99 {1000 * most:6.0f} ms", flush=True)
    beside.join()
    ours.process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--squad", metavar="DEV.json", help="SQuAD v1.1 dev")
    what.add_argument("--fair", action="store_true")
    parser.add_argument("--reference", metavar="PYTHON", default=sys.executable, help="one that has transformers 5.2.0")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.fair:
        return fairness(arguments.seconds)
    questions = read_questions(arguments.squad)[:QUESTIONS]
    bodies = [json.dumps({"inputs": {"question": q.question, "context": q.context}}).encode() for q in questions]
    plain = str(Path(__file__).with_name("reference_service.py"))
    ours = Service([sys.executable, "-m", "numpy_distilbert", "serve", "--port", "0"])
    tried = {}
    for threads in THREADS:
        service = Service([arguments.reference, plain, str(hub.find()), str(threads)])
        service.load(16, bodies, 3)
        tried[service.load(16, bodies, arguments.seconds / 2)[0]] = threads, service
    best, theirs = tried[max(tried)]
    for _, service in tried.values():
        if service is not theirs:
            service.process.kill()
    print(
        f"embedded checkpoint, {os.cpu_count()} cores, {len(bodies)} questions, "
        f"{arguments.rounds} rounds of {arguments.seconds:.0f} s"
    )
    print(f"transformers computes in {best} threads at a time")
    print(f"{'':10}{'requests a second':>24}{'p50, ms':>18}{'p99, ms':>18}")
    print(f"{'clients':<10}{'ours':>8}{'theirs':>8}{'ratio':>8}{'ours':>10}{'theirs':>8}{'ours':>10}{'theirs':>8}")
    ours.load(16, bodies, 3)
    for clients in CLIENTS:
        runs = [
            [service.load(clients, bodies, arguments.seconds) for service in (ours, theirs)]
            for _ in range(arguments.rounds)
        ]
        ratio = statistics.median(a[0] / b[0] for a, b in runs)
        (rate, half, most), (their_rate, their_half, their_most) = np.median(runs, axis=0)
        print(
            f"{clients:<10}{rate:>8.1f}{their_rate:>8.1f}{ratio:>8.2f}{1000 * half:>10.1f}{1000 * their_half:>8.1f}"
            f"{1000 * most:>10.1f}{1000 * their_most:>8.1f}",
            flush=True,
        )
    for service in (ours, theirs):
        service.process.kill()


if __name__ == "__main__":
    main()
