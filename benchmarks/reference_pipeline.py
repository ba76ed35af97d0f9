"""transformers' question-answering pipeline in its own process, in any environment that has transformers 5.2.0.

python benchmarks/reference_pipeline.py FOLDER     reads one job per line, writes its answers and seconds
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

NEEDED = "5.2.0"


class Reference:
    """The pipeline on one checkpoint, float32, on the CPU."""

    def __init__(self, python: str, folder: Path) -> None:
        self.process = subprocess.Popen(
            [python, __file__, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
        )
        self.versions = self.process.stdout.readline().strip()
        if not self.versions:
            raise SystemExit(f"{python} has no transformers {NEEDED} with PyTorch. Name one that has with --reference.")

    def answer(self, pairs: list[tuple[str, str]], **options) -> tuple[list, float]:
        """The pipeline's answer to every pair, and how many seconds it took."""
        self.process.stdin.write(json.dumps({"pairs": pairs, "options": options}) + "\n")
        self.process.stdin.flush()
        result = json.loads(self.process.stdout.readline())
        return result["answers"], result["seconds"]


def main() -> None:
    import torch
    import transformers

    if transformers.__version__ != NEEDED:
        raise SystemExit(f"transformers is {transformers.__version__}, needs {NEEDED}.")
    qa = transformers.pipeline(
        "question-answering", sys.argv[1], tokenizer=sys.argv[1], dtype=torch.float32, device="cpu"
    )
    print(f"transformers {transformers.__version__}, torch {torch.__version__}", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        questions, contexts = (list(texts) for texts in zip(*job["pairs"], strict=True))
        start = time.perf_counter()
        answers = qa(question=questions, context=contexts, **job["options"])
        seconds = time.perf_counter() - start
        print(json.dumps({"answers": answers if len(questions) > 1 else [answers], "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
