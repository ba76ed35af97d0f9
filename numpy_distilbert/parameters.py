"""What a model is made of: its configuration, its parameters, and the names they are published under."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np

from .arguments import Array
from .checkpoint import Checkpoint, CheckpointError

EMBEDDINGS, LAYER = "distilbert.embeddings", "distilbert.transformer.layer.{}"
WORDS = f"{EMBEDDINGS}.word_embeddings.weight"
ANOTHER_MODEL = "The weights and the configuration are not of the same model."


@dataclass(frozen=True)
class Config:
    """The shape of a model, with the names that config.json uses."""

    vocab_size: int
    dim: int
    n_layers: int
    n_heads: int
    hidden_dim: int
    max_position_embeddings: int

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> "Config":
        """Read config.json. Raises CheckpointError for another model type or activation, a count that is not a positive
        integer, or heads that do not divide the width.
        """
        path, values = checkpoint.folder / "config.json", checkpoint.config
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
        """The part of the layer that computes these rows of its output."""
        return Affine(self.weight[share], self.bias[share])


class Embeddings(NamedTuple):
    """The embedding tables, and the layer norm of their sum."""

    word_embeddings: Array  # (vocab_size, dim), float16 if the file is: few of its rows are ever used
    position_embeddings: Array  # (max_position_embeddings, dim)
    LayerNorm: Affine


class Attention(NamedTuple):
    """The projections of multi-head attention, with query, key and value as one."""

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
    """All parameters of a model, or a gradient in their shapes; those of the head by their published names."""

    embeddings: Embeddings
    layers: tuple[Layer, ...]
    head: dict[str, Affine]


@dataclass(frozen=True)
class Published:
    """How an array is published: as one tensor, or as those of query, key and value, each of that shape."""

    names: tuple[str, ...]
    shape: tuple[int, ...]


def published(config: Config, head: Mapping[str, int]) -> Parameters:
    """The names of a model's tensors, in the structure of its parameters.

    head: published name and number of outputs of the linear map on the encoder's output; empty if there is none.
    """

    def tensor(shape: tuple[int, ...], *names: str) -> Any:
        return Published(names, shape)

    def affine(shape: tuple[int, ...], *modules: str) -> Affine:
        weights, biases = ([f"{module}.{part}" for module in modules] for part in ("weight", "bias"))
        return Affine(tensor(shape, *weights), tensor(shape[:1], *biases))

    def layer(name: str) -> Layer:
        qkv = affine((dim, dim), *(f"{name}.attention.{part}_lin" for part in "qkv"))
        attention = Attention(qkv, affine((dim, dim), f"{name}.attention.out_lin"))
        lin1, lin2 = affine((hidden_dim, dim), f"{name}.ffn.lin1"), affine((dim, hidden_dim), f"{name}.ffn.lin2")
        attended, output = affine((dim,), f"{name}.sa_layer_norm"), affine((dim,), f"{name}.output_layer_norm")
        return Layer(attention, attended, FeedForward(lin1, lin2), output)

    dim, hidden_dim = config.dim, config.hidden_dim
    words, norm = tensor((config.vocab_size, dim), WORDS), affine((dim,), f"{EMBEDDINGS}.LayerNorm")
    positions = tensor((config.max_position_embeddings, dim), f"{EMBEDDINGS}.position_embeddings.weight")
    embeddings = Embeddings(words, positions, norm)
    layers = tuple(layer(LAYER.format(i)) for i in range(config.n_layers))
    return Parameters(embeddings, layers, {name: affine((k, dim), name) for name, k in head.items()})


def from_state_dict(
    weights: Mapping[str, Array], config: Config, head: Mapping[str, int], dtype: np.dtype[np.floating]
) -> Parameters:
    """Parameters from arrays under their published names; config, head: see published().

    All get that dtype except the word embeddings, which stay as they are: few of their rows are ever used.
    Raises CheckpointError if a tensor is missing or not of the shape that the configuration needs.
    """

    def read(place: Published) -> Array:
        tensors = [_tensor(weights, name, place.shape) for name in place.names]
        if place.names[0] != WORDS:
            tensors = [tensor.astype(dtype, copy=False) for tensor in tensors]
        if len(tensors) == 1:
            return tensors[0]
        by_head = [tensor.reshape(config.n_heads, -1, *tensor.shape[1:]) for tensor in tensors]
        return np.stack(by_head, axis=1).reshape(-1, *place.shape[1:])

    if config.n_layers > len(weights):  # a list of them could take all memory
        _tensor(weights, f"{LAYER.format(config.n_layers - 1)}.attention.q_lin.weight", (config.dim, config.dim))
    return cast(Parameters, tree_map(read, published(config, head)))


def state_dict(parameters: Parameters, config: Config) -> dict[str, Array]:
    """Parameters, or a gradient, under their published names: what from_state_dict() reads."""
    head = {name: len(layer.bias) for name, layer in parameters.head.items()}
    tensors: dict[str, Array] = {}
    for place, array in zip(tree_leaves(published(config, head)), tree_leaves(parameters), strict=True):
        if len(place.names) == 1:
            tensors[place.names[0]] = array
            continue
        by_head = array.reshape(config.n_heads, len(place.names), -1, *array.shape[1:])
        tensors |= {name: by_head[:, i].reshape(place.shape) for i, name in enumerate(place.names)}
    return tensors


def _tensor(weights: Mapping[str, Array], name: str, shape: tuple[int, ...]) -> Array:
    found = weights.get(name)
    if found is not None and found.shape == shape:
        return found
    problem = "is missing" if found is None else f"has shape {found.shape}, the configuration needs {shape}"
    raise CheckpointError(f"tensor {name} {problem}. {ANOTHER_MODEL}")


def tree_leaves(tree: Any) -> list[Any]:
    """The leaves of nested tuples and dicts, in order."""
    if isinstance(tree, dict):
        tree = tuple(tree.values())
    return [leaf for branch in tree for leaf in tree_leaves(branch)] if isinstance(tree, tuple) else [tree]


def tree_map(function: Callable[[Any], Any], tree: Any) -> Any:
    """The same structure, with function applied to every leaf."""
    if isinstance(tree, dict):
        return {key: tree_map(function, branch) for key, branch in tree.items()}
    if not isinstance(tree, tuple):
        return function(tree)
    branches = [tree_map(function, branch) for branch in tree]
    return type(tree)(*branches) if hasattr(tree, "_fields") else tuple(branches)
