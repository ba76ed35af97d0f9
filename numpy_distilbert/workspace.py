"""Where a pack of inputs is computed, and what is kept of it for those who want to see inside.

How inputs become packs, and why they lie side by side, is told in schedule.py.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .parameters import Config
from .schedule import Array, Ids, Mask, Team

Tokens = tuple[Ids, Ids]  # where they lie in the batch: rows and positions


class Recording:
    """Tensors that a call computes on its way, each (batch, sequence, ...) and 0 at positions with mask 0.

    They have the names of the checkpoint's modules. NAME.input is what the module of that name is given.
    """

    def __init__(self, shape: tuple[int, int], wanted: Callable[[str], bool], tensors: dict[str, NDArray[Any]]) -> None:
        """shape: of the batch; wanted: says which are kept; tensors: where they are put, in the order they come."""
        self.shape = shape
        self.wanted = wanted
        self.tensors = tensors

    def add(self, name: str, tokens: Tokens, x: Array) -> None:
        """What was computed of these tokens. x: (..., tokens)."""
        if self.wanted(name):
            features = x.reshape(-1, x.shape[-1])
            self.tensors.setdefault(name, np.zeros((*self.shape, len(features)), x.dtype))[tokens] = features.T

    def add_pairs(self, name: str, row: int, positions: Ids, x: Array) -> None:
        """What was computed of each two tokens of one input. x: (n_heads, keys, queries) -> queries before keys."""
        b, s = self.shape
        whole = self.tensors.setdefault(name, np.zeros((b, len(x), s, s), x.dtype))
        whole[row][:, positions[:, None], positions] = x.swapaxes(1, 2)


class Workspace:
    """What a pack of inputs is computed in: where each lies, and arrays that every layer writes over.

    The inputs lie side by side, the tokens of all of them being the columns of one array.
    """

    def __init__(
        self, config: Config, rows: list[int], mask: Mask, team: Team, memory: Array, recording: Recording | None
    ) -> None:
        """rows: the inputs' in the batch; team: the threads that share the work on them; memory: to lie in."""
        self.rows = rows
        inputs, positions = np.nonzero(mask[rows])
        self.tokens: Tokens = np.array(rows)[inputs], positions  # where each column lies in the batch
        ends = np.cumsum(mask[rows].sum(axis=1)).tolist()
        self.inputs = [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
        self.team = team
        tokens, d = len(positions), config.dim // config.n_heads
        parts = np.cumsum([3 * config.dim, config.dim, config.hidden_dim])
        qkv, context, self.hidden, self.output = np.split(memory.reshape(-1, tokens), parts)
        self.qkv = qkv.reshape(config.n_heads, 3, d, tokens)
        self.context = context.reshape(config.n_heads, d, tokens)
        self.recording = recording
        self.module = "distilbert.embeddings"  # the name of what is computed now
        # of each input, (n_heads, keys, queries), only where they are wanted; and what the activation is computed of,
        # which it otherwise writes over
        self.scores: list[Array] = []
        self.probabilities: list[Array] = []
        self.before_activation = self.hidden

    def start_layer(self, module: str) -> None:
        """What is computed from now on belongs to the transformer block of that name."""
        self.module = module
        if self.recording is not None:
            lengths = [columns.stop - columns.start for columns in self.inputs]
            n_heads, dtype = len(self.qkv), self.qkv.dtype
            for name, of_inputs in (("scores", self.scores), ("probabilities", self.probabilities)):
                wanted = self.recording.wanted(f"{module}.attention.{name}")
                of_inputs[:] = [np.empty((n_heads, n, n), dtype) for n in lengths] if wanted else []
            if self.recording.wanted(f"{module}.ffn.lin1"):
                self.before_activation = np.empty_like(self.hidden)

    def record(self, name: str, x: Array) -> None:
        """Keep what was computed of the tokens, (..., tokens), if somebody wants to see it."""
        if self.recording is not None:
            self.recording.add(f"{self.module}.{name}", self.tokens, x)

    def record_pairs(self, name: str, of_inputs: list[Array]) -> None:
        """The same of what was computed of each two tokens of an input, (n_heads, keys, queries) for each input."""
        if self.recording is not None and of_inputs:
            for row, columns, x in zip(self.rows, self.inputs, of_inputs, strict=True):
                self.recording.add_pairs(f"{self.module}.{name}", row, self.tokens[1][columns], x)
