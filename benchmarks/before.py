"""This version against an earlier one: forward pass, start, throughput, training, and whether the answers are the same.

    git clone . BEFORE && git -C BEFORE checkout COMMIT
    python benchmarks/before.py BEFORE [--model FOLDER] [--squad dev-v1.1.json.gz] [--rounds 9] [--only forward ...]

Each version runs in its own process; both are loaded at once and take turns. The ratios are medians over the rounds of
this version's time divided by the earlier one's in the same round. --model is for the forward pass alone; the default,
and the model for everything else, is the embedded checkpoint. Sizes are peak resident sizes. Runs on Linux.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parents[1]
QUESTIONS, WINDOWS = 150, 400
TURN, REST = 0.3, 0.1  # seconds: of forward passes in a turn, at least one; between turns
ASK = ["-m", "numpy_distilbert", "ask", "Who kept the log?", "--context", "The tower is old. Maren Holt kept its log."]


def forward(model: str | None, _: str | None) -> Callable[[Any], tuple[float, str]]:
    from numpy_distilbert import DistilBertForQuestionAnswering

    loaded = DistilBertForQuestionAnswering.from_pretrained(model)

    def turn(lengths: list[int]) -> tuple[float, str]:
        mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)
        ids, seconds = np.random.RandomState(0).randint(1, 1000, mask.shape) * mask, []
        while not seconds or sum(seconds) < TURN:
            start = time.perf_counter()
            output = loaded(ids, mask)
            seconds.append(time.perf_counter() - start)
        return statistics.median(seconds), hashlib.sha256(output.start_logits.tobytes()).hexdigest()

    return turn


def throughput(_: str | None, squad: str | None) -> Callable[[Any], tuple[float, str]]:
    from numpy_distilbert import QuestionAnswerer
    from numpy_distilbert.squad import read_questions

    qa, questions = QuestionAnswerer.from_pretrained(), read_questions(squad)[:QUESTIONS]

    def turn(_: Any) -> tuple[float, str]:
        start = time.perf_counter()
        answers = list(qa({"question": q.question, "context": q.context} for q in questions))
        return time.perf_counter() - start, hashlib.sha256(repr(answers).encode()).hexdigest()

    return turn


def training(_: str | None, __: str | None) -> Callable[[Any], tuple[float, str]]:
    from numpy_distilbert import QuestionAnswerer

    try:
        from numpy_distilbert.training.data import Example, Hyperparameters
        from numpy_distilbert.training.loop import train, trainable
        from numpy_distilbert.training.optimiser import State
    except ImportError:  # 0.1.0
        from numpy_distilbert.gradients import Window as Example
        from numpy_distilbert.train import Settings as Hyperparameters
        from numpy_distilbert.train import State, train, trainable
    model, random, steps = QuestionAnswerer.from_pretrained().model, np.random.RandomState(0), {}
    windows = [Example(random.randint(1000, 20000, n), (3, 5)) for n in random.randint(90, 250, WINDOWS)]

    def turn(rate: float) -> tuple[float, str]:
        if rate not in steps:
            hyperparameters = Hyperparameters(freeze_words=True, dropout=rate)
            steps[rate] = train(model, windows, hyperparameters, State(trainable(model, True)))
        start = time.perf_counter()
        n_tokens = next(steps[rate])[2]
        return (time.perf_counter() - start) / n_tokens, ""

    return turn


RAGGED = list(range(61, 384, 10))
MEASURED: dict[str, tuple[Callable, dict[str, Any]]] = {
    "forward": (forward, {"1 x 384": [384], "8 x 128": [128] * 8, "1 x 128": [128], "1 x 64": [64], "1 x 16": [16],
                          "ragged 33": RAGGED}),
    "throughput": (throughput, {f"{QUESTIONS} questions": None}),
    "training": (training, {"without dropout": 0.0, "dropout 0.1": 0.1}),
}  # fmt: skip


def serve(name: str, model: str | None, squad: str | None) -> None:
    """One version: reads a case per line, writes seconds, a digest of what it computed, and its peak size in MB."""
    import resource

    turn = MEASURED[name][0](model, squad)
    print("ready", flush=True)
    for line in sys.stdin:
        seconds, digest = turn(json.loads(line))
        size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
        print(json.dumps([seconds, digest, size]), flush=True)


def race(name: str, paths: dict[str, Path], arguments: argparse.Namespace) -> None:
    command = [sys.executable, __file__, ".", "--serve", name]
    for option in ("model", "squad"):
        command += [f"--{option}", getattr(arguments, option)] if getattr(arguments, option) else []
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    versions = {
        version: subprocess.Popen(command, **pipes, env=os.environ | {"PYTHONPATH": str(path)})
        for version, path in paths.items()
    }
    for process in versions.values():
        if process.stdout.readline() != "ready\n":
            raise SystemExit(f"{name}: a version does not start")

    def turn(version: str, case: Any) -> list[Any]:
        versions[version].stdin.write(json.dumps(case) + "\n")
        versions[version].stdin.flush()
        answer = json.loads(versions[version].stdout.readline())
        time.sleep(REST)
        return answer

    for label, case in MEASURED[name][1].items():
        rounds = [{version: turn(version, case) for version in order(i, versions)} for i in range(arguments.rounds + 1)]
        report(f"{name}, {label}", rounds[1:])
    for process in versions.values():
        process.communicate()


def start(paths: dict[str, Path], rounds: int) -> None:
    def seconds(path: Path) -> list[Any]:
        begin = time.perf_counter()
        environment = os.environ | {"PYTHONPATH": str(path)}
        done = subprocess.run([sys.executable, *ASK], check=True, capture_output=True, cwd="/", env=environment)
        return [time.perf_counter() - begin, done.stdout.decode(), None]

    results = [{version: seconds(paths[version]) for version in order(i, paths)} for i in range(rounds + 1)]
    report("start to first answer", results[1:])


def order(number: int, versions: dict[str, Any]) -> list[str]:
    return list(versions)[:: 1 if number % 2 else -1]


def report(label: str, rounds: list[dict[str, list[Any]]]) -> None:
    ratio = statistics.median(r["this"][0] / r["before"][0] for r in rounds)
    same = "the same" if all(r["this"][1] == r["before"][1] for r in rounds) else "NOT the same"
    sizes = "/".join("-" if rounds[-1][v][2] is None else f"{rounds[-1][v][2]:.0f} MB" for v in ("this", "before"))
    print(f"{label:<32} {ratio:>7.3f}  {same if rounds[0]['this'][1] else '':<13} {sizes}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, metavar="BEFORE", help="a clone of the earlier version")
    parser.add_argument("--model", metavar="FOLDER")
    parser.add_argument("--squad", metavar="FILE", help="SQuAD v1.1; without it no throughput is measured")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", nargs="+", default=[*MEASURED, "start"], choices=[*MEASURED, "start"])
    parser.add_argument("--serve", choices=list(MEASURED), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        return serve(arguments.serve, arguments.model, arguments.squad)
    paths = {"before": arguments.before.resolve(), "this": HERE}
    print(f"{'':<32} {'ratio':>7}  {'results':<13} peak size of this / before; {arguments.rounds} rounds")
    for name in MEASURED:
        if name in arguments.only and (name != "throughput" or arguments.squad):
            race(name, paths, arguments)
    if "start" in arguments.only:
        start(paths, arguments.rounds)


if __name__ == "__main__":
    main()
