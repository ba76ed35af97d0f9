"""How much faster six layers are than twelve: the paper's claim, on this machine and through the same kernels.

    python benchmarks/distillation.py [--rounds 9]

Both models have random weights and BERT-base's width, heads, hidden layers and cased vocabulary; they differ only in
the number of layers. Same inputs, in turn; the ratio is the median over the rounds of the time of twelve layers
divided by that of six. Sanh et al. 2019 (table 3) report 668 s for BERT-base and 410 s for DistilBERT, a ratio of 1.63,
at batch size 1 on a CPU; embeddings and head, which both have, keep it under 2.
"""

import argparse
import statistics
import time

import numpy as np

from numpy_distilbert import DistilBertForQuestionAnswering
from numpy_distilbert.lab.synthetic import SHAPES, random_weights
from numpy_distilbert.parameters import Config

LAYERS = 12, 6
CASES = (1, 32), (1, 128), (1, 384), (8, 128)


def model(n_layers: int) -> DistilBertForQuestionAnswering:
    shape = SHAPES["published"] | {"n_layers": n_layers}
    return DistilBertForQuestionAnswering(Config(**shape), random_weights(shape, seed=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    models = [model(n_layers) for n_layers in LAYERS]
    print(f"{'case':<10}" + "".join(f"{f'{n} layers':>12}" for n in LAYERS) + f"{'ratio':>8}   (paper: 1.63)")
    for batch, length in CASES:
        ids = np.random.RandomState(0).randint(0, SHAPES["published"]["vocab_size"], (batch, length))
        rounds = []
        for _ in range(arguments.rounds + 1):  # the first is a warm-up
            seconds = []
            for one in models:
                start = time.perf_counter()
                one(ids)
                seconds.append(time.perf_counter() - start)
            rounds.append(seconds)
        rounds = rounds[1:]
        ratio = statistics.median(twelve / six for twelve, six in rounds)
        times = "".join(f"{statistics.median(column) * 1000:>9.1f} ms" for column in zip(*rounds, strict=True))
        print(f"{f'{batch} x {length}':<10}{times}{ratio:>8.2f}", flush=True)


if __name__ == "__main__":
    main()
