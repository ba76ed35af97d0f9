"""How the inputs of a pack are laid out, and the memory that it is computed in."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..arguments import Array, Ids, Mask

KEPT_MEMORY = 2**24  # elements per pack


class Pack(NamedTuple):
    """Inputs of a batch side by side without their padding, so that every token is a column.

    tokens: the row and the position in the batch of each column; inputs: the columns of each input.
    """

    tokens: tuple[Ids, Ids]
    inputs: list[slice]

    @classmethod
    def of(cls, rows: Sequence[int], mask: Mask) -> "Pack":
        """The inputs in these rows of a batch; mask: (batch, sequence)."""
        inputs, positions = np.nonzero(mask[rows])
        ends = np.cumsum(mask[rows].sum(axis=1)).tolist()
        columns = [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
        return cls((np.array(rows)[inputs], positions), columns)

    @property
    def n_tokens(self) -> int:
        """How many columns there are."""
        return len(self.tokens[0])

    def zeros(self, x: Array | list[Array], shape: tuple[int, int]) -> Array:
        """An array for scatter(). shape: (batch, sequence)."""
        if isinstance(x, list):
            return np.zeros((shape[0], len(x[0]), shape[1], shape[1]), x[0].dtype)
        return np.zeros((*shape, x.size // self.n_tokens), x.dtype)

    def scatter(self, x: Array | list[Array], batch: Array) -> None:
        """Write what was computed to where its tokens are in the batch. x: (..., tokens) -> (batch, sequence, ...); or,
        for pairs of tokens, (heads, keys, queries) of each input -> (batch, heads, queries, keys).
        """
        if not isinstance(x, list):
            batch[self.tokens] = x.reshape(-1, self.n_tokens).T
            return
        for columns, pairs in zip(self.inputs, x, strict=True):
            rows, positions = (places[columns] for places in self.tokens)
            batch[rows[0]][:, positions[:, None], positions] = pairs.swapaxes(1, 2)


class Arena:
    """Memory that is divided into named arrays, for the activations that need not outlive a layer."""

    def __init__(self, dtype: np.dtype[np.floating]) -> None:
        self.dtype, self._memory = dtype, np.empty(0, dtype)

    def divide(self, shapes: Mapping[str, tuple[int, int]]) -> dict[str, Array]:
        """Uninitialised arrays of these shapes: the same for the same shapes."""
        ends = np.cumsum([rows * columns for rows, columns in shapes.values()], dtype=int).tolist()
        if ends and self._memory.size < ends[-1]:
            self._memory = np.empty(ends[-1], self.dtype)
        parts = np.split(self._memory, ends)  # the last is the rest
        return {name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), parts, strict=False)}

    @property
    def size(self) -> int:
        """How many elements it has, in use or not."""
        return self._memory.size


class Memory:
    """Arenas that are reused from call to call; a pack has its own while it is computed."""

    def __init__(self, dtype: np.dtype[np.floating]) -> None:
        self._dtype = dtype
        self._kept: list[Arena] = []

    def take(self) -> Arena:
        """An arena that nothing else is using."""
        try:
            return self._kept.pop()
        except IndexError:  # the first call, or more calls at once than ever before
            return Arena(self._dtype)

    def give_back(self, arena: Arena) -> None:
        """Keep an arena for later calls, unless it is too large to hold on to."""
        if arena.size <= KEPT_MEMORY:
            self._kept.append(arena)
