"""Questions per second against transformers 5.2.0's pipeline, on the first questions of SQuAD dev.

    pip install "numpy-distilbert[fast]" torch==2.13.0 transformers==5.2.0
    python benchmarks/throughput.py --squad dev-v1.1.json.gz [--reference PYTHON] [--limit 1000] [--rounds 3]

Both compute in float32 on all cores, on the embedded checkpoint and on a random one of the published shape with the
embedded vocabulary, cut to its size. The reference pipeline gets the batch size at which it is fastest on the first
hundred questions.
They take turns; the ratio is the median over the rounds of their time divided by ours. The bound is what NumPy's BLAS
would reach in this run if there were only the matrix products, all at the speed of squares of 2048 (forward.py).
"""

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from forward import PEAK_SIZE, operations, sgemm
from reference_pipeline import Reference

from numpy_distilbert import QuestionAnswerer
from numpy_distilbert.checkpoint import hub
from numpy_distilbert.lab.synthetic import SHAPES, write_checkpoint
from numpy_distilbert.squad import read_questions

BATCH_SIZES = 1, 2, 4, 8, 16, 32
SQUARES = 20
TRIED = 100  # questions, for the batch size
REST = 0.5  # seconds between turns, until the threads of the last are asleep


def race(name: str, folder: Path, pairs: list[tuple[str, str]], arguments: argparse.Namespace) -> None:
    reference, qa = Reference(arguments.reference, folder), QuestionAnswerer.from_pretrained(folder)
    reference.answer(pairs[:10])
    tried = {size: reference.answer(pairs[:TRIED], batch_size=size)[1] for size in BATCH_SIZES}
    best = min(tried, key=tried.get)
    list(qa({"question": q, "context": c} for q, c in pairs[:10]))
    lengths = [len(window) for pair in pairs for window in qa.tokenizer.windows(*pair)]
    work, square = operations(qa.model.config, lengths) / (2 * PEAK_SIZE**3), sgemm(folder, 0)
    ours, theirs, bound = [], [], []
    for _ in range(arguments.rounds):
        time.sleep(REST)
        start = time.perf_counter()
        qa(question=[q for q, _ in pairs], context=[c for _, c in pairs])
        ours.append(time.perf_counter() - start)
        time.sleep(REST)
        start = time.perf_counter()
        for _ in range(SQUARES):
            square(None, None)
        bound.append((time.perf_counter() - start) / SQUARES * work)
        time.sleep(REST)
        theirs.append(reference.answer(pairs, batch_size=best)[1])
    ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
    rates = [len(pairs) / statistics.median(seconds) for seconds in (ours, theirs, bound)]
    print(f"{name:<16} {rates[0]:>9.1f} {rates[1]:>9.1f} {best:>11} {ratio:>7.2f} {rates[2]:>9.1f}", flush=True)
    reference.process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--squad", required=True, metavar="FILE")
    parser.add_argument("--reference", default=sys.executable, metavar="PYTHON", help="the one that has transformers")
    parser.add_argument("--limit", type=int, default=1000, metavar="N", help="questions")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    pairs = [(q.question, q.context) for q in read_questions(arguments.squad)[: arguments.limit]]
    embedded = hub.find()
    print(f"{len(pairs)} questions, float32, questions per second")
    print(f"{'checkpoint':<16} {'ours':>9} {'theirs':>9} {'batch size':>11} {'ratio':>7} {'bound':>9}")
    race("embedded", embedded, pairs, arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = write_checkpoint(Path(temporary), "published")
        shutil.copy(embedded / "tokenizer_config.json", folder)
        pieces = (embedded / "vocab.txt").read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / "vocab.txt").write_text("".join(pieces[: SHAPES["published"]["vocab_size"]]), encoding="utf-8")
        race("published shape", folder, pairs, arguments)


if __name__ == "__main__":
    main()
