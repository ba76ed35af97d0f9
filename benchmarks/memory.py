"""How much memory a question takes: peak resident sizes of new processes, above Python with NumPy imported.

    python benchmarks/memory.py [--model FOLDER] [--megabytes 5]

The first two rows are loading a float32 checkpoint of the published shape (or --model), with the time it takes once the
file is in the system's cache, and answering a question of 384 tokens. The others are a document of --megabytes, and one
a fifth that size, on a small random checkpoint, as the document's share does not depend on the model: tokenized,
answered, and searched, reading all passages; and 10,000 documents of 2 kB, searched. Runs on Linux.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from numpy_distilbert.lab.synthetic import SHAPES, random_weights, write_checkpoint

MEGABYTE = 10**6
WORDS = "the keeper of the old lamp wrote that a storm came in from the north and two boats were lost".split()


def peak() -> float:
    """Peak size of this process, in megabytes. (getrusage would count what its parent had.)"""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    return int(status["VmHWM"].split()[0]) * 1024 / MEGABYTE


def document(megabytes: float) -> str:
    random = np.random.RandomState(0)
    text = " ".join(np.array(WORDS)[random.randint(0, len(WORDS), int(megabytes * MEGABYTE / 4))])
    return text[: int(megabytes * MEGABYTE)]


def small_checkpoint(folder: Path) -> Path:
    """A model of one narrow layer that reads windows of 384 tokens, with the words of the document."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "what", "?", *sorted(set(WORDS))]
    config = SHAPES["one_head"] | {"vocab_size": len(pieces), "max_position_embeddings": 512}
    folder.mkdir()
    values = {"model_type": "distilbert", "activation": "gelu"} | config
    (folder / "config.json").write_text(json.dumps(values), encoding="utf-8")
    (folder / "vocab.txt").write_text("\n".join(pieces), encoding="utf-8")
    save_file(random_weights(config, seed=0), folder / "model.safetensors")
    return folder


def load(folder: Path, _: float) -> None:
    from numpy_distilbert import DistilBertForQuestionAnswering

    DistilBertForQuestionAnswering.from_pretrained(folder)


def forward(folder: Path, _: float) -> None:
    from numpy_distilbert import DistilBertForQuestionAnswering

    DistilBertForQuestionAnswering.from_pretrained(folder)(np.ones((1, 384), int))


def tokenize(folder: Path, megabytes: float) -> None:
    from numpy_distilbert import QuestionAnswerer

    QuestionAnswerer.from_pretrained(folder).tokenizer(document(megabytes))


def search(folder: Path, megabytes: float) -> None:
    from numpy_distilbert import QuestionAnswerer

    QuestionAnswerer.from_pretrained(folder).search("What was lost?", document(megabytes), read=None)


def search_many(folder: Path, megabytes: float) -> None:
    from numpy_distilbert import QuestionAnswerer

    texts = [document(0.002)] * int(megabytes / 0.002)
    QuestionAnswerer.from_pretrained(folder).search("What was lost?", texts)


def answer(folder: Path, megabytes: float) -> None:
    from numpy_distilbert import QuestionAnswerer

    QuestionAnswerer.from_pretrained(folder)(question="What was lost?", context=document(megabytes))


TASKS = {
    "load": load,
    "forward": forward,
    "tokenize": tokenize,
    "answer": answer,
    "search": search,
    "search_many": search_many,
}


def measured(task: str, folder: Path, megabytes: float = 0.0) -> float:
    """Megabytes."""
    return run(task, folder, megabytes)[0]


def run(task: str, folder: Path, megabytes: float = 0.0) -> list[float]:
    """Megabytes and seconds."""
    command = [sys.executable, __file__, "--task", task, "--model", str(folder), "--megabytes", str(megabytes)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, metavar="FOLDER")
    parser.add_argument("--megabytes", type=float, default=5.0)
    parser.add_argument("--task", choices=TASKS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.task:
        before, start = peak(), time.perf_counter()
        TASKS[arguments.task](arguments.model, arguments.megabytes)
        print([peak() - before, time.perf_counter() - start])
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.model or write_checkpoint(Path(temporary) / "published", "published")
        weights = (folder / "model.safetensors").stat().st_size / MEGABYTE
        print("megabytes, peak resident size above Python with NumPy")
        loads = [run("load", folder) for _ in range(5)]
        grown, seconds = loads[-1][0], min(seconds for _, seconds in loads)
        print(f"loading    {grown:8.0f}   {grown / weights:.2f} of the weights, limit 1.15; {seconds:.2f} s, limit 0.5")
        taken = measured("forward", folder)
        print(f"384 tokens {taken:8.0f}   weights {weights:.0f}, beyond them {taken - weights:.0f}   limit 120")
        small = small_checkpoint(Path(temporary) / "small")
        beyond = []
        for megabytes in (arguments.megabytes / 5, arguments.megabytes):
            tokenized, answered = measured("tokenize", small, megabytes), measured("answer", small, megabytes)
            beyond.append(answered - tokenized)
            print(f"{megabytes:.1f} MB document, tokenized {tokenized:6.0f}, answered {answered:6.0f}")
        print(f"searched, all passages: {measured('search', small, arguments.megabytes):.0f}")
        print(f"searched, 10,000 documents of 2 kB: {measured('search_many', small, 20.0):.0f}")
        print(f"answered beyond tokenized: {beyond[0]:.0f} and {beyond[1]:.0f}")


if __name__ == "__main__":
    main()
