"""Training tokens per second against PyTorch eager, float32, on the embedded checkpoint, all cores.

    pip install "numpy-distilbert[fast]" torch==2.13.0 transformers==5.2.0
    python benchmarks/train.py --squad dev-v1.1.json.gz [--rounds 3] [--dropout 0.1]

Both take the same steps, forward, backward and AdamW, word embeddings frozen: once on windows drawn at random, which
PyTorch has to pad, and once on windows of about one length. Every turn has its own process; the ratio is the median
over the rounds of our tokens per second divided by theirs. Peak resident sizes are those of the last turn. Runs on
Linux.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

from numpy_distilbert import QuestionAnswerer
from numpy_distilbert.checkpoint import hub
from numpy_distilbert.runtime.threads import n_cores
from numpy_distilbert.squad import read_questions
from numpy_distilbert.training.data import Example, Hyperparameters, batches, training_windows
from numpy_distilbert.training.loop import train, trainable
from numpy_distilbert.training.optimiser import State

QUESTIONS, WARM, STEPS, BATCH_TOKENS = 4000, 2, 8, 4096


def peak() -> float:
    """Peak size of this process, in megabytes."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    return int(status["VmHWM"].split()[0]) * 1024 / 10**6


def chosen(windows: list[Example], like: bool) -> list[Example]:
    """Windows for all steps, from which both sides draw the same batches."""
    windows = sorted(windows, key=lambda window: len(window.ids))
    middle = [window for window in windows if 150 <= len(window.ids) <= 160] if like else windows
    picked = np.random.RandomState(0).permutation(len(middle))
    count = (WARM + STEPS) * BATCH_TOKENS // int(np.mean([len(window.ids) for window in middle]))
    return [middle[i] for i in picked[:count]]


def ours(qa: QuestionAnswerer, windows: list[Example], settings: Hyperparameters) -> Callable[[], int]:
    going = train(qa.model, windows, settings, State(trainable(qa.model, settings.freeze_words)))
    return lambda: next(going)[2]


def pytorch(qa: QuestionAnswerer, windows: list[Example], settings: Hyperparameters) -> Callable[[], int]:
    import torch
    from transformers import DistilBertForQuestionAnswering

    options = dict.fromkeys(("dropout", "attention_dropout", "qa_dropout"), settings.dropout)
    model = DistilBertForQuestionAnswering.from_pretrained(
        hub.find(), dtype=torch.float32, attn_implementation="sdpa", **options
    ).train()
    model.distilbert.embeddings.word_embeddings.weight.requires_grad_(False)
    free = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(free, lr=settings.lr, weight_decay=0.01)
    plan = iter(batches([len(window.ids) for window in windows], settings))

    def step() -> int:
        batch = [windows[i] for i in next(plan)]
        ids = torch.zeros(len(batch), max(len(window.ids) for window in batch), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for i, window in enumerate(batch):
            ids[i, : len(window.ids)] = torch.from_numpy(window.ids)
            mask[i, : len(window.ids)] = 1
        starts, ends = torch.tensor([window.answer for window in batch]).T
        model(input_ids=ids, attention_mask=mask, start_positions=starts, end_positions=ends).loss.backward()
        torch.nn.utils.clip_grad_norm_(free, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return int(mask.sum())

    return step


def turn(arguments: argparse.Namespace) -> None:
    qa = QuestionAnswerer.from_pretrained()
    ids, answers, _ = training_windows(read_questions(arguments.squad, [])[:QUESTIONS], qa)
    windows = chosen([Example(*window) for window in zip(ids, answers, strict=True)], arguments.like)
    settings = Hyperparameters(batch_tokens=BATCH_TOKENS, dropout=arguments.dropout, freeze_words=True, epochs=2)
    step = {"ours": ours, "pytorch": pytorch}[arguments.turn](qa, windows, settings)
    for _ in range(WARM):
        step()
    start = time.perf_counter()
    tokens = sum(step() for _ in range(STEPS))
    print(json.dumps([tokens / (time.perf_counter() - start), peak()]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--squad", required=True, metavar="FILE")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--turn", choices=("ours", "pytorch"), help=argparse.SUPPRESS)
    parser.add_argument("--like", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.turn:
        return turn(arguments)
    print(
        f"{platform.machine()}, {n_cores()} cores, {arguments.rounds} rounds of {STEPS} steps of {BATCH_TOKENS} "
        f"tokens, dropout {arguments.dropout:g}; numpy {np.__version__}, torch {version('torch')}, "
        f"transformers {version('transformers')}"
    )
    print(f"{'windows':<16}{'ours':>10}{'PyTorch':>10}{'ratio':>8}   tokens a second; peak MB")
    for name, like in (("as drawn", []), ("of one length", ["--like"])):
        rounds = []
        for _ in range(arguments.rounds):
            common = [sys.executable, __file__, "--squad", arguments.squad, "--dropout", str(arguments.dropout), *like]
            done = [
                subprocess.run([*common, "--turn", who], check=True, capture_output=True, text=True).stdout
                for who in ("ours", "pytorch")
            ]
            rounds.append([json.loads(line) for line in done])
        ratio = statistics.median(a[0] / b[0] for a, b in rounds)
        a, b = (statistics.median(one[i][0] for one in rounds) for i in range(2))
        print(
            f"{name:<16}{a:>10.0f}{b:>10.0f}{ratio:>8.2f}   {rounds[-1][0][1]:.0f}, {rounds[-1][1][1]:.0f}", flush=True
        )


if __name__ == "__main__":
    main()
