"""How the inputs of a pack are laid out, and the memory that it is computed in."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..arguments import Array, Ids, Mask

KEPT_MEMORY = 2**24  # elements a pack


class Pack(NamedTuple):
    """Inputs of a batch side by side without their padding, so that every token is a column.

    tokens: of each column, row and position in the batch; inputs: the columns of each input.
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
        """Write what was computed to where its tokens are in the batch. x: (..., tokens) -> (batch, sequence, ...); or
        of each two tokens of an input, (heads, keys, queries) for each input -> (batch, heads, queries, keys).
        """
        if not isinstance(x, list):
            batch[self.tokens] = x.reshape(-1, self.n_tokens).T
            return
        for columns, pairs in zip(self.inputs, x, strict=True):
            rows, positions = (places[columns] for places in self.tokens)
            batch[rows[0]][:, positions[:, None], positions] = pairs.swapaxes(1, 2)


class Arena:
    """Arrays by name, for the activations that need not outlive a layer."""

    def __init__(self, dtype: np.dtype[np.floating]) -> None:
        self.dtype = dtype
        self._arrays: dict[str, Array] = {}

    def array(self, name: str, shape: tuple[int, ...]) -> Array:
        """The array of that name in that shape, with anything in it: in the memory it had before, if that is enough."""
        size = math.prod(shape)
        if name not in self._arrays or self._arrays[name].size < size:
            self._arrays[name] = np.empty(size, self.dtype)
        return self._arrays[name][:size].reshape(shape)

    @property
    def size(self) -> int:
        """The elements of all its arrays."""
        return sum(array.size for array in self._arrays.values())


class Memory:
    """Arenas that are handed on from one call to the next; a pack has its own as long as it is computed."""

    def __init__(self, dtype: np.dtype[np.floating]) -> None:
        self._dtype = dtype
        self._kept: list[Arena] = []

    def take(self) -> Arena:
        """One that nobody else has."""
        try:
            return self._kept.pop()
        except IndexError:  # the first call, or as many at once as never before
            return Arena(self._dtype)

    def give_back(self, arena: Arena) -> None:
        """Keep it, unless it is too large to sit on."""
        if arena.size <= KEPT_MEMORY:
            self._kept.append(arena)
