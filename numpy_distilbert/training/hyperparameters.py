"""How to train."""

import math
from typing import NamedTuple

from ..arguments import check_integer


class Hyperparameters(NamedTuple):
    """How to train.

    epochs: how often every window is seen; lr: the highest learning rate, reached after a warm-up and followed by a
    linear decay to 0; batch_tokens: of a step; dropout: its rate; freeze_words: leave the word embeddings as they are.
    """

    epochs: int = 1
    lr: float = 5e-5
    batch_tokens: int = 4096
    seed: int = 0
    alpha: float = 0.5
    temperature: float = 2.0
    dropout: float = 0.1
    freeze_words: bool = False

    def check(self) -> None:
        """Raises ValueError or TypeError that names the value and what it must be."""
        for name in ("epochs", "batch_tokens"):
            check_integer(name, getattr(self, name), 1)
        check_integer("seed", self.seed, 0)
        for name, fits, needed in (
            ("lr", 0 < self.lr < math.inf, "more than 0"),
            ("alpha", 0 <= self.alpha <= 1, "from 0 to 1"),
            ("temperature", 0 < self.temperature < math.inf, "more than 0"),
            ("dropout", 0 <= self.dropout < 1, "from 0 to less than 1"),
        ):
            if not fits:
                raise ValueError(f"{name} must be {needed}, got {getattr(self, name):g}.")
