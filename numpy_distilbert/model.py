"""DistilBERT: token ids in, hidden states and start/end logits out.

Source: Sanh et al. 2019, a BERT encoder (Devlin et al. 2018) of half the layers, without segment embeddings and
pooler. The reference behaviour is that of transformers' DistilBertForQuestionAnswering in evaluation mode.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import checkpoint
from .arguments import check_bool
from .checkpoint import CheckpointError
from .kernels import Array, attention, gelu, layer_norm, linear

Ids = NDArray[np.integer]
Mask = NDArray[np.bool_]
Model = TypeVar("Model", "DistilBertModel", "DistilBertForQuestionAnswering")


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
        values = checkpoint.read_json(path)
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


class Embeddings(NamedTuple):
    """The tables a token is looked up in, and the norm of their sum."""

    word_embeddings: Array  # (vocab_size, dim)
    position_embeddings: Array  # (max_position_embeddings, dim)
    LayerNorm: Affine


class Attention(NamedTuple):
    """The four projections of multi-head attention."""

    q_lin: Affine  # all four (dim, dim)
    k_lin: Affine
    v_lin: Affine
    out_lin: Affine


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


@dataclass(frozen=True)
class ModelOutput:
    """What DistilBertModel returns. b is the batch, s the sequence, h the heads.

    last_hidden_state: (b, s, dim); hidden_states: the embeddings and the output of every layer, each (b, s, dim);
    attentions: the probabilities of every layer, each (b, h, s, s). All float32; the tuples only when asked for.
    """

    last_hidden_state: Array
    hidden_states: tuple[Array, ...] | None = None
    attentions: tuple[Array, ...] | None = None


@dataclass(frozen=True)
class QuestionAnsweringOutput:
    """What DistilBertForQuestionAnswering returns.

    start_logits, end_logits: (batch, sequence), float32; hidden_states and attentions as in ModelOutput.
    """

    start_logits: Array
    end_logits: Array
    hidden_states: tuple[Array, ...] | None = None
    attentions: tuple[Array, ...] | None = None


def embed(ids: Ids, embeddings: Embeddings) -> Array:
    """Word plus position embedding, normalised. ids: (b, s) -> (b, s, dim)."""
    x = embeddings.word_embeddings[ids] + embeddings.position_embeddings[: ids.shape[1]]
    return layer_norm(x, *embeddings.LayerNorm)


def self_attention(x: Array, layer: Attention, mask: Mask, n_heads: int) -> tuple[Array, Array]:
    """Multi-head attention of x to itself (Vaswani et al. 2017, section 3.2.2).

    x: (b, s, dim), mask: (b, s) -> the output (b, s, dim) and the probabilities (b, n_heads, s, s).
    """
    batch, sequence, dim = x.shape

    def heads(projection: Affine) -> Array:
        return linear(x, *projection).reshape(batch, sequence, n_heads, -1).swapaxes(1, 2)  # (b, h, s, d)

    context, probabilities = attention(
        heads(layer.q_lin), heads(layer.k_lin), heads(layer.v_lin), mask[:, None, None, :]
    )
    context = context.swapaxes(1, 2).reshape(batch, sequence, dim)
    return linear(context, *layer.out_lin), probabilities


def feed_forward(x: Array, layer: FeedForward) -> Array:
    """Two linear maps with a GELU between. x: (b, s, dim) -> (b, s, dim)."""
    return linear(gelu(linear(x, *layer.lin1)), *layer.lin2)


def encoder_layer(x: Array, layer: Layer, mask: Mask, n_heads: int) -> tuple[Array, Array]:
    """One transformer block, post-norm as in BERT. x: (b, s, dim) -> (b, s, dim) and the attention probabilities."""
    attended, probabilities = self_attention(x, layer.attention, mask, n_heads)
    x = layer_norm(x + attended, *layer.sa_layer_norm)
    return layer_norm(x + feed_forward(x, layer.ffn), *layer.output_layer_norm), probabilities


class DistilBertModel:
    """The encoder alone: token ids to hidden states."""

    def __init__(self, config: Config, weights: Mapping[str, Array]) -> None:
        """weights: float32 arrays under their published names.

        Raises CheckpointError for a tensor that is missing or of another shape than config asks for.
        """
        self.config = config
        dim, hidden_dim = config.dim, config.hidden_dim

        def affine(name: str, *shape: int) -> Affine:
            return Affine(tensor(weights, f"{name}.weight", *shape), tensor(weights, f"{name}.bias", shape[0]))

        self.embeddings = Embeddings(
            tensor(weights, "distilbert.embeddings.word_embeddings.weight", config.vocab_size, dim),
            tensor(weights, "distilbert.embeddings.position_embeddings.weight", config.max_position_embeddings, dim),
            affine("distilbert.embeddings.LayerNorm", dim),
        )
        self.layers = tuple(
            Layer(
                Attention(*(affine(f"{name}.attention.{part}", dim, dim) for part in Attention._fields)),
                affine(f"{name}.sa_layer_norm", dim),
                FeedForward(affine(f"{name}.ffn.lin1", hidden_dim, dim), affine(f"{name}.ffn.lin2", dim, hidden_dim)),
                affine(f"{name}.output_layer_norm", dim),
            )
            for name in (f"distilbert.transformer.layer.{i}" for i in range(config.n_layers))
        )

    @classmethod
    def from_pretrained(cls, path: str | PathLike[str] | None = None) -> "DistilBertModel":
        """Load config.json and model.safetensors of a folder, or with None of the embedded checkpoint.

        Raises CheckpointError if they are missing, unreadable or not of one DistilBERT model.
        """
        return _load(cls, path)

    def __call__(
        self,
        input_ids: ArrayLike,
        attention_mask: ArrayLike | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> ModelOutput:
        """Encode a batch.

        input_ids: integers (b, s), each below vocab_size; attention_mask: (b, s) of 0 and 1, or None for all 1.
        A position with mask 0 is attended to by no other. What stands at such positions in the output has no meaning.
        Raises ValueError or TypeError that names the argument if it is anything else.
        """
        check_bool("output_hidden_states", output_hidden_states)
        check_bool("output_attentions", output_attentions)
        ids = _checked_ids(input_ids, self.config)
        mask = _checked_mask(attention_mask, ids)
        x = embed(ids, self.embeddings)
        hidden_states, attentions = [x], []
        for layer in self.layers:
            x, probabilities = encoder_layer(x, layer, mask, self.config.n_heads)
            if output_hidden_states:
                hidden_states.append(x)
            if output_attentions:
                attentions.append(probabilities)
        return ModelOutput(
            last_hidden_state=x,
            hidden_states=tuple(hidden_states) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
        )


class DistilBertForQuestionAnswering:
    """The encoder and a linear head that gives every token a start and an end logit."""

    def __init__(self, config: Config, weights: Mapping[str, Array]) -> None:
        """As DistilBertModel, and the tensors of qa_outputs."""
        self.config = config
        self.distilbert = DistilBertModel(config, weights)
        self.qa_outputs = Affine(
            tensor(weights, "qa_outputs.weight", 2, config.dim), tensor(weights, "qa_outputs.bias", 2)
        )

    @classmethod
    def from_pretrained(cls, path: str | PathLike[str] | None = None) -> "DistilBertForQuestionAnswering":
        """As DistilBertModel.from_pretrained."""
        return _load(cls, path)

    def __call__(
        self,
        input_ids: ArrayLike,
        attention_mask: ArrayLike | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> QuestionAnsweringOutput:
        """Start and end logits of a batch; arguments and errors as of DistilBertModel."""
        output = self.distilbert(input_ids, attention_mask, output_hidden_states, output_attentions)
        logits = linear(output.last_hidden_state, *self.qa_outputs)  # (b, s, 2)
        return QuestionAnsweringOutput(logits[..., 0], logits[..., 1], output.hidden_states, output.attentions)


def tensor(weights: Mapping[str, Array], name: str, *shape: int) -> Array:
    """weights[name], or CheckpointError if it is missing or not of that shape."""
    if name not in weights:
        raise CheckpointError(f"tensor {name} is missing. The weights and the configuration are not of the same model.")
    if weights[name].shape != shape:
        raise CheckpointError(
            f"tensor {name} has shape {weights[name].shape}, the configuration needs {shape}. "
            "The weights and the configuration are not of the same model."
        )
    return weights[name]


def _load(model: type[Model], path: str | PathLike[str] | None) -> Model:
    folder = checkpoint.find(path)
    config = Config.from_file(folder / "config.json")
    weights = checkpoint.read_weights(folder / "model.safetensors")
    try:
        return model(config, weights)
    except CheckpointError as error:
        raise CheckpointError(f"{folder / 'model.safetensors'}: {error}") from None


def _checked_ids(input_ids: ArrayLike, config: Config) -> Ids:
    ids = _rectangle("input_ids", input_ids)
    if ids.ndim != 2 or ids.size == 0:
        raise ValueError(f"input_ids must have shape (batch, sequence) with at least one token, got {ids.shape}.")
    if ids.dtype.kind not in "iu":
        raise TypeError(f"input_ids must be integers, got dtype {ids.dtype}.")
    if ids.shape[1] > config.max_position_embeddings:
        raise ValueError(
            f"input_ids has {ids.shape[1]} tokens a row, the model has {config.max_position_embeddings} positions."
        )
    if ids.min() < 0 or ids.max() >= config.vocab_size:
        raise ValueError(
            f"input_ids must lie from 0 to {config.vocab_size - 1}, got values from {ids.min()} to {ids.max()}."
        )
    return ids


def _checked_mask(attention_mask: ArrayLike | None, ids: Ids) -> Mask:
    if attention_mask is None:
        return np.ones(ids.shape, dtype=bool)
    mask = _rectangle("attention_mask", attention_mask)
    if mask.dtype.kind not in "biuf":
        raise TypeError(f"attention_mask must be numbers, got dtype {mask.dtype}.")
    if mask.shape != ids.shape:
        raise ValueError(f"attention_mask has shape {mask.shape}, input_ids {ids.shape}. They must be the same.")
    if not np.isin(mask, (0, 1)).all():
        raise ValueError("attention_mask must hold 0 and 1 only.")
    mask = mask.astype(bool)
    empty_rows = np.flatnonzero(~mask.any(axis=1))
    if empty_rows.size:
        raise ValueError(f"attention_mask row {empty_rows[0]} is all zeros. Each row needs a token to attend to.")
    return mask


def _rectangle(name: str, values: ArrayLike) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} has rows of different lengths. Pad them to one length.") from error
