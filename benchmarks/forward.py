"""The forward pass against PyTorch and ONNX Runtime, and its rounding errors against PyTorch's.

    pip install "numpy-distilbert[fast]" torch==2.13.0 transformers==5.2.0 onnx onnxruntime
    python benchmarks/forward.py [--model FOLDER] [--rounds 9] [--cases "1 x 384" ...]

Without --model a random checkpoint of the published shape is made. PyTorch runs transformers' model with scaled dot
product attention, ONNX Runtime the same model exported. Each contender has its own process; all are loaded at once and
take turns in random order; between turns all wait until the threads of the last are asleep. The ratios are medians over
the rounds of our time divided by theirs in the same round. The sgemm peak is that of NumPy's BLAS on squares of 2048.
"Ragged" is 32 inputs as long as the questions with contexts in SQuAD dev (its quantiles, in cased pieces, windows of
384); the peers get them padded. What is not installed is named and left out.
"""

import argparse
import importlib.util
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

from numpy_distilbert import Checkpoint, DistilBertForQuestionAnswering
from numpy_distilbert.lab.synthetic import SHAPES, random_weights, write_checkpoint
from numpy_distilbert.parameters import Config

# fmt: skip, as the formatter would give each number a line
RAGGED = [
    61, 89, 106, 115, 121, 126, 130, 134, 138, 141, 145, 149, 152, 156, 160, 165,
    169, 174, 179, 184, 189, 195, 201, 207, 214, 223, 234, 247, 263, 283, 313, 384,
]  # fmt: skip
CASES = {
    "1 x 384": [384],
    "8 x 128": [128] * 8,
    "1 x 128": [128],
    "1 x 64": [64],
    "1 x 16": [16],
    "ragged 32": RAGGED,
}
NEEDS = {"torch": ("torch", "transformers"), "onnxruntime": ("onnxruntime", "onnx", "torch", "transformers")}
TURN, REST = 0.3, 0.25  # seconds: of runs in a turn, at least one; between turns
PEAK_SIZE = 2048
BLAS_THREADS = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"
CHECKPOINTS = 20
ERROR_LENGTHS = 128, 384


def ours(folder: Path, _: int) -> Callable:
    return DistilBertForQuestionAnswering.from_pretrained(folder)


def pytorch_model(folder: Path, attention: str):
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers.DistilBertForQuestionAnswering.from_pretrained(folder, attn_implementation=attention).eval()


def pytorch(folder: Path, cores: int) -> Callable:
    import torch

    torch.set_num_threads(cores)
    model = pytorch_model(folder, "sdpa")

    def run(ids: np.ndarray, mask: np.ndarray):
        with torch.inference_mode():
            attention_mask = None if mask.all() else torch.from_numpy(mask)
            return model(input_ids=torch.from_numpy(ids), attention_mask=attention_mask)

    return run


def onnxruntime(folder: Path, cores: int) -> Callable:
    import onnxruntime
    import torch

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = pytorch_model(folder, "eager")

        def forward(self, input_ids, attention_mask):
            output = self.model(input_ids=input_ids, attention_mask=attention_mask)
            return output.start_logits, output.end_logits

    inputs, example = ["input_ids", "attention_mask"], torch.ones(2, 8, dtype=torch.long)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores
    with tempfile.TemporaryDirectory() as temporary:
        path = f"{temporary}/model.onnx"
        torch.onnx.export(
            Logits(),
            (example, example),
            path,
            input_names=inputs,
            output_names=["start_logits", "end_logits"],
            dynamic_axes={name: {0: "batch", 1: "sequence"} for name in inputs},
            opset_version=17,
            dynamo=False,
        )
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda ids, mask: session.run(None, {"input_ids": ids, "attention_mask": mask})


def sgemm(_: Path, __: int) -> Callable:
    a, b = np.random.default_rng(0).standard_normal((2, PEAK_SIZE, PEAK_SIZE), dtype=np.float32)
    out = np.empty_like(a)
    return lambda ids, mask: np.matmul(a, b, out=out)


CONTENDERS = {"ours": ours, "torch": pytorch, "onnxruntime": onnxruntime, "sgemm": sgemm}


def random_batch(lengths: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Token ids of inputs of these lengths, and their mask, each (inputs, the longest)."""
    mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)
    return np.random.RandomState(0).randint(1, 1000, mask.shape).astype(np.int64) * mask, mask


def serve(name: str, folder: Path, cores: int) -> None:
    """A contender: reads the lengths of one batch per line, writes the median seconds of a turn."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    run = CONTENDERS[name](folder, cores)
    print("ready", flush=True)
    for line in sys.stdin:
        ids, mask = random_batch(json.loads(line))
        seconds: list[float] = []
        while not seconds or sum(seconds) < TURN:
            start = time.perf_counter()
            run(ids, mask)
            seconds.append(time.perf_counter() - start)
        print(statistics.median(seconds), flush=True)


class Contender:
    """The process of a contender."""

    def __init__(self, name: str, folder: Path, cores: int, script: str = __file__) -> None:
        environment = os.environ | {"HF_HUB_OFFLINE": "1"}
        if cores == 1:
            environment |= dict.fromkeys(BLAS_THREADS, "1")
        command = [sys.executable, script, "--contender", name, "--cores", str(cores), "--model", str(folder)]
        with tempfile.TemporaryFile("w+") as errors:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
            )
            if self.process.stdout.readline() != "ready\n":
                errors.seek(0)
                raise SystemExit(f"{name} does not start:\n{errors.read()}")

    def turn(self, lengths: list[int]) -> float:
        self.process.stdin.write(json.dumps(lengths) + "\n")
        self.process.stdin.flush()
        seconds = float(self.process.stdout.readline())
        time.sleep(REST)
        return seconds

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def take_turns(contenders: dict[str, Contender], lengths: list[int], rounds: int) -> list[dict[str, float]]:
    """The seconds of each contender in each round, after a turn to warm up. Each round has an order of its own."""
    for contender in contenders.values():
        contender.turn(lengths)
    orders = [random.sample(list(contenders), len(contenders)) for _ in range(rounds)]
    return [{name: contenders[name].turn(lengths) for name in order} for order in orders]


def cores_of_this_process() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def operations(config: Config, lengths: list[int]) -> int:
    """Floating-point operations in the matrix products of the layers, for the tokens there are."""
    weights = 4 * config.dim**2 + 2 * config.dim * config.hidden_dim
    return 2 * config.n_layers * sum(n * weights + 2 * n * n * config.dim for n in lengths)


def race(folder: Path, names: list[str], cores: int, cases: list[str], rounds: int) -> None:
    config = Config.from_checkpoint(Checkpoint(folder))
    contenders = {name: Contender(name, folder, cores) for name in names}
    peers = [name for name in names if name in NEEDS]
    title = [f"{name} {version(name).split('+')[0]}" for name in peers]
    print(f"{cores} core{'s' * (cores > 1)}, medians of {rounds}; our time divided by theirs")
    print(f"{'case':<10} {'ours':>10} " + " ".join(f"{text:>20}" for text in title) + f" {'of sgemm peak':>15}")
    for case in cases:
        lengths = CASES[case]
        seconds = take_turns(contenders, lengths, rounds)
        ratios = [f"{statistics.median(s['ours'] / s[name] for s in seconds):>20.2f}" for name in peers]
        work = operations(config, lengths) / (2 * PEAK_SIZE**3)
        share = statistics.median(work * s["sgemm"] / s["ours"] for s in seconds)
        our_median = statistics.median(s["ours"] for s in seconds)
        print(f"{case:<10} {our_median * 1e3:>7.1f} ms " + " ".join(ratios) + f" {share:>13.0%}", flush=True)
    for contender in contenders.values():
        contender.close()
    print()


def rounding_errors() -> None:
    """Errors of float32 logits against PyTorch's float64: root mean square over random checkpoints, published shape."""
    import torch
    from transformers import DistilBertConfig
    from transformers import DistilBertForQuestionAnswering as Reference

    config = SHAPES["published"]
    squares: dict[tuple[str, int], list[float]] = {(name, n): [] for name in ("ours", "PyTorch") for n in ERROR_LENGTHS}
    for seed in range(CHECKPOINTS):
        weights = random_weights(config, seed)
        model = DistilBertForQuestionAnswering(Config(**config), weights)
        reference = Reference(DistilBertConfig(**config)).eval()
        reference.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in weights.items()})
        batches = {n: np.random.RandomState(0).randint(1, 1000, (2, n)) for n in ERROR_LENGTHS}
        with torch.inference_mode():
            single = {n: reference(torch.from_numpy(ids)) for n, ids in batches.items()}
            reference.double()
            exact = {n: reference(torch.from_numpy(ids)) for n, ids in batches.items()}
        for n, ids in batches.items():
            output = model(ids)
            for name in ("start_logits", "end_logits"):
                true = getattr(exact[n], name).numpy()
                squares["ours", n].append(np.mean((getattr(output, name) - true) ** 2))
                squares["PyTorch", n].append(np.mean((getattr(single[n], name).numpy() - true) ** 2))
    print(f"root-mean-square error of float32 logits, {CHECKPOINTS} random checkpoints of the published shape")
    for n in ERROR_LENGTHS:
        ours, theirs = (np.sqrt(np.mean(squares[name, n])) for name in ("ours", "PyTorch"))
        print(f"2 x {n:<3}  ours {ours:.2e}, PyTorch {theirs:.2e}, ratio {ours / theirs:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="time this checkpoint")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--cores", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        return serve(arguments.contender, arguments.model, arguments.cores)
    missing = {name: [m for m in NEEDS[name] if importlib.util.find_spec(m) is None] for name in NEEDS}
    names = [name for name in CONTENDERS if not missing.get(name)]
    for name in set(CONTENDERS) - set(names):
        print(f"left out: {name}, not installed: {', '.join(missing[name])}")
    fast = version("threadpoolctl") if importlib.util.find_spec("threadpoolctl") else "not installed"
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    print(f"{arguments.model or 'published shape, random weights'}, float32, {platform.machine()}")
    print(f"numpy {np.__version__} ({blas['name']} {blas['version']}), threadpoolctl {fast}\n")
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.model or write_checkpoint(Path(temporary), "published")
        for cores in sorted({cores_of_this_process(), 1}, reverse=True):
            race(folder, names, cores, arguments.cases, arguments.rounds)
    if "torch" in names and not arguments.model:
        rounding_errors()


if __name__ == "__main__":
    main()
