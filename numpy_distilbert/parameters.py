"""What a model is made of: its configuration, and its weights as the parts that the forward pass takes them in."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .checkpoint import CheckpointError, read_json
from .schedule import Array


@dataclass(frozen=True)
class Config:
    """The shape of a model, under the names that config.json has for it."""

    vocab_size: int
    dim: int
    n_layers: int
    n_heads: int
    hidden_dim: int
    max_position_embeddings: int

    @classmethod
    def from_file(cls, path: Path) -> "Config":
        """Read config.json.

        Raises CheckpointError for another model type or activation, a count that is not a positive integer, or
        heads that do not divide the width.
        """
        values = read_json(path)
        for name, needed in (("model_type", "distilbert"), ("activation", "gelu")):
            if values.get(name) != needed:
                raise CheckpointError(f"{path}: {name} is {values.get(name)!r}, needs {needed!r}.")
        for name in cls.__dataclass_fields__:
            if type(values.get(name)) is not int or values[name] < 1:
                raise CheckpointError(f"{path}: {name} is {values.get(name)!r}, needs a positive integer.")
        if values["dim"] % values["n_heads"]:
            raise CheckpointError(f"{path}: {values['n_heads']} n_heads do not divide dim {values['dim']}.")
        return cls(**{name: values[name] for name in cls.__dataclass_fields__})


class Affine(NamedTuple):
    """Weight and bias of a linear layer, (out, in) and (out,), or of a layer norm, (dim,) and (dim,)."""

    weight: Array
    bias: Array

    def rows(self, share: slice) -> "Affine":
        """What gives these rows of the layer's output."""
        return Affine(self.weight[share], self.bias[share])


class Embeddings(NamedTuple):
    """The tables a token is looked up in, and the norm of their sum."""

    word_embeddings: Array  # (vocab_size, dim), float16 where the file is: few of its rows are ever used
    position_embeddings: Array  # (max_position_embeddings, dim)
    LayerNorm: Affine


class Attention(NamedTuple):
    """The projections of multi-head attention, those of query, key and value in one."""

    qkv: Affine  # (n_heads * 3 * d, dim): query, key and value of the first head, then those of the second
    out_lin: Affine  # (dim, dim)


class FeedForward(NamedTuple):
    """The two linear layers of a block."""

    lin1: Affine  # (hidden_dim, dim)
    lin2: Affine  # (dim, hidden_dim)


class Layer(NamedTuple):
    """One transformer block, its parts in the order they are computed."""

    attention: Attention
    sa_layer_norm: Affine
    ffn: FeedForward
    output_layer_norm: Affine


class Parameters(NamedTuple):
    """All parameters of a model for question answering, or a gradient in their shapes."""

    embeddings: Embeddings
    layers: tuple[Layer, ...]
    qa_outputs: Affine


class Reader:
    """Takes the parts of a model out of its weights."""

    def __init__(self, weights: Mapping[str, Array], config: Config, dtype: np.dtype) -> None:
        """weights: arrays under their published names; dtype: what the model computes in."""
        self._weights = weights
        self._config = config
        self._dtype = dtype

    def embeddings(self) -> Embeddings:
        """Raises CheckpointError, as all do, if a tensor is missing or not of the shape the configuration needs."""
        config, name = self._config, "distilbert.embeddings"
        return Embeddings(
            self._tensor(f"{name}.word_embeddings.weight", config.vocab_size, config.dim),
            self._tensor(f"{name}.position_embeddings.weight", config.max_position_embeddings, config.dim).astype(
                self._dtype, copy=False
            ),
            self.affine(f"{name}.LayerNorm", config.dim),
        )

    def layer(self, name: str) -> Layer:
        """The transformer block of that name."""
        dim, hidden_dim = self._config.dim, self._config.hidden_dim
        return Layer(
            Attention(self._qkv(f"{name}.attention"), self.affine(f"{name}.attention.out_lin", dim, dim)),
            self.affine(f"{name}.sa_layer_norm", dim),
            FeedForward(
                self.affine(f"{name}.ffn.lin1", hidden_dim, dim), self.affine(f"{name}.ffn.lin2", dim, hidden_dim)
            ),
            self.affine(f"{name}.output_layer_norm", dim),
        )

    def affine(self, name: str, *shape: int) -> Affine:
        """A weight of that shape, and its bias."""
        weight, bias = self._tensor(f"{name}.weight", *shape), self._tensor(f"{name}.bias", shape[0])
        return Affine(weight.astype(self._dtype, copy=False), bias.astype(self._dtype, copy=False))

    def _qkv(self, name: str) -> Affine:
        """The projections to query, key and value as one, in the order that Attention says."""
        dim, n_heads = self._config.dim, self._config.n_heads
        projections = [self.affine(f"{name}.{part}_lin", dim, dim) for part in "qkv"]
        by_head = n_heads, dim // n_heads, -1
        weight = np.stack([projection.weight.reshape(by_head) for projection in projections], axis=1)
        bias = np.stack([projection.bias.reshape(by_head) for projection in projections], axis=1)
        return Affine(weight.reshape(3 * dim, dim), bias.reshape(3 * dim))

    def _tensor(self, name: str, *shape: int) -> Array:
        try:
            found = self._weights[name]
        except KeyError:
            raise CheckpointError(
                f"tensor {name} is missing. The weights and the configuration are not of the same model."
            ) from None
        if found.shape != shape:
            raise CheckpointError(
                f"tensor {name} has shape {found.shape}, the configuration needs {shape}. "
                "The weights and the configuration are not of the same model."
            )
        return found


def arrays(part: Any) -> Iterator[Array]:
    """Every array of a part, or of parts in one another, in their order."""
    if isinstance(part, np.ndarray):
        yield part
    else:
        for smaller in part:
            yield from arrays(smaller)


def each(function: Callable[[Array], Array], part: Any) -> Any:
    """The same structure with function of every array."""
    if isinstance(part, np.ndarray):
        return function(part)
    items = [each(function, item) for item in part]
    return type(part)(*items) if hasattr(part, "_fields") else tuple(items)
