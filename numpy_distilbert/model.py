"""DistilBERT: token ids in, hidden states and start/end logits out.

Source: Sanh et al. 2019, a BERT encoder (Devlin et al. 2018) of half the layers, without segment embeddings and
pooler. The reference behaviour is that of transformers' DistilBertForQuestionAnswering in evaluation mode.

What callers see is (batch, sequence, dim). Inside, features are rows and tokens are columns, those of several inputs
side by side without their padding, and x is (dim, tokens): why, and what threads do, is told in schedule.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arguments import check_bool
from .checkpoint import CheckpointError, read_json
from .hub import find
from .kernels import attention, gelu, layer_norm, linear
from .schedule import SCORES_BLOCK, SHORT_SUM_LENGTH, SUM_LENGTH, Array, Memory, Team, threads
from .tensors import Weights

Ids = NDArray[np.integer]
Mask = NDArray[np.bool_]
Tokens = tuple[NDArray[np.integer], NDArray[np.integer]]  # where they lie in the batch: rows and positions
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


@dataclass(frozen=True)
class ModelOutput:
    """What DistilBertModel returns. b is the batch, s the sequence, h the heads.

    last_hidden_state: (b, s, dim); hidden_states: the embeddings and the output of every layer, each (b, s, dim);
    attentions: the probabilities of every layer, each (b, h, s, s), queries before keys. All float32, 0 at positions
    with mask 0; the tuples only when asked for.
    """

    last_hidden_state: Array
    hidden_states: tuple[Array, ...] | None = None
    attentions: tuple[Array, ...] | None = None


@dataclass(frozen=True)
class QuestionAnsweringOutput:
    """What DistilBertForQuestionAnswering returns.

    start_logits, end_logits: (batch, sequence), float32, 0 at positions with mask 0; hidden_states and attentions as in
    ModelOutput.
    """

    start_logits: Array
    end_logits: Array
    hidden_states: tuple[Array, ...] | None = None
    attentions: tuple[Array, ...] | None = None


class Workspace:
    """What a pack of inputs is computed in: where each lies, and arrays that every layer writes over.

    The inputs lie side by side, the tokens of all of them being the columns of one array.
    """

    def __init__(self, config: Config, lengths: list[int], team: Team, memory: Array) -> None:
        """lengths: of the inputs, in tokens; team: the threads that share the work on them; memory: to lie in."""
        ends = list(accumulate(lengths))
        tokens, d = ends[-1], config.dim // config.n_heads
        self.inputs = [slice(end - length, end) for end, length in zip(ends, lengths)]
        self.team = team
        rows = np.cumsum([3 * config.dim, config.dim, config.hidden_dim])
        qkv, context, self.hidden, self.output = np.split(memory.reshape(-1, tokens), rows)
        self.qkv = qkv.reshape(config.n_heads, 3, d, tokens)
        self.context = context.reshape(config.n_heads, d, tokens)
        # of each input, (n_heads, keys, queries); only where someone wants to see them
        self.probabilities: list[Array] = []


def embed(ids: Ids, positions: Ids, embeddings: Embeddings) -> Array:
    """Word plus position embedding, normalised. ids, positions: (tokens,) -> (dim, tokens)."""
    x = embeddings.word_embeddings[ids] + embeddings.position_embeddings[positions]
    return layer_norm(np.ascontiguousarray(x.T), *embeddings.LayerNorm)


def self_attention(x: Array, layer: Attention, work: Workspace) -> Array:
    """Multi-head attention of each input to itself (Vaswani et al. 2017, section 3.2.2).

    x: (dim, tokens) -> (dim, tokens), in work.output.
    """
    n_heads, _, d, tokens = work.qkv.shape

    def attend(heads: slice) -> None:
        rows = slice(heads.start * 3 * d, heads.stop * 3 * d)
        linear(x, *layer.qkv.rows(rows), out=work.qkv[heads].reshape(-1, tokens))
        for i, columns in enumerate(work.inputs):
            length = columns.stop - columns.start
            at_once = max(1, SCORES_BLOCK // length**2)
            for first in range(heads.start, heads.stop, at_once):
                some = slice(first, min(first + at_once, heads.stop))
                query, key, value = work.qkv[some, :, :, columns].swapaxes(0, 1)  # each (some heads, d, length)
                attention(
                    query, key, value,
                    out=work.context[some, :, columns],
                    probabilities=work.probabilities[i][some] if work.probabilities else None,
                )  # fmt: skip

    work.team.run(attend, work.team.shares(n_heads))
    return _linear(work.context.reshape(-1, tokens), layer.out_lin, work, SHORT_SUM_LENGTH)


def feed_forward(x: Array, layer: FeedForward, work: Workspace) -> Array:
    """Two linear maps with a GELU between. x: (dim, tokens) -> (dim, tokens), in work.output."""

    def activate(units: slice) -> None:
        hidden = linear(x, *layer.lin1.rows(units), out=work.hidden[units], sum_length=SUM_LENGTH)
        gelu(hidden, out=hidden)

    work.team.run(activate, work.team.shares(len(work.hidden)))
    return _linear(work.hidden, layer.lin2, work, SUM_LENGTH)


def _linear(x: Array, layer: Affine, work: Workspace, sum_length: int) -> Array:
    def project(rows: slice) -> None:
        linear(x, *layer.rows(rows), out=work.output[rows], sum_length=sum_length)

    work.team.run(project, work.team.shares(len(work.output)))
    return work.output


def encoder_layer(x: Array, layer: Layer, work: Workspace) -> Array:
    """One transformer block, post-norm as in BERT. x: (dim, tokens) -> (dim, tokens), written over x."""
    x += self_attention(x, layer.attention, work)
    layer_norm(x, *layer.sa_layer_norm, out=x)
    x += feed_forward(x, layer.ffn, work)
    return layer_norm(x, *layer.output_layer_norm, out=x)


class DistilBertModel:
    """The encoder alone: token ids to hidden states."""

    def __init__(self, config: Config, weights: Mapping[str, Array]) -> None:
        """weights: float32 or float16 arrays under their published names.

        Raises CheckpointError for a tensor that is missing or of another shape than config asks for.
        """
        self.config = config
        self._memory = Memory()
        dim, hidden_dim = config.dim, config.hidden_dim

        self.embeddings = Embeddings(
            tensor(weights, "distilbert.embeddings.word_embeddings.weight", config.vocab_size, dim),
            tensor(
                weights, "distilbert.embeddings.position_embeddings.weight", config.max_position_embeddings, dim
            ).astype(np.float32, copy=False),
            affine(weights, "distilbert.embeddings.LayerNorm", dim),
        )

        def layer(name: str) -> Layer:
            return Layer(
                Attention(
                    fused_qkv(weights, f"{name}.attention", config),
                    affine(weights, f"{name}.attention.out_lin", dim, dim),
                ),
                affine(weights, f"{name}.sa_layer_norm", dim),
                FeedForward(
                    affine(weights, f"{name}.ffn.lin1", hidden_dim, dim),
                    affine(weights, f"{name}.ffn.lin2", dim, hidden_dim),
                ),
                affine(weights, f"{name}.output_layer_norm", dim),
            )

        self.layers = tuple(layer(f"distilbert.transformer.layer.{i}") for i in range(config.n_layers))

    @classmethod
    def from_pretrained(cls, path: str | PathLike[str] | None = None, revision: str | None = None) -> "DistilBertModel":
        """Load config.json and model.safetensors of a folder or a hub id, or with None of the embedded checkpoint.

        path, revision: as for hub.find. Weights of a head are left where they are.
        Raises CheckpointError if they are missing, unreadable or not of one DistilBERT model.
        """
        return _load(cls, find(path, revision), "distilbert.")

    def __call__(
        self,
        input_ids: ArrayLike,
        attention_mask: ArrayLike | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> ModelOutput:
        """Encode a batch.

        input_ids: integers (b, s), each below vocab_size; attention_mask: (b, s) of 0 and 1, or None for all 1.
        A position with mask 0 is not computed: no other attends to it, and in the output it is 0.
        Raises ValueError or TypeError that names the argument if it is anything else.
        """
        ids, mask = _checked(input_ids, attention_mask, self.config)
        last_hidden_state = np.zeros((*ids.shape, self.config.dim), np.float32)

        def keep(tokens: Tokens, x: Array) -> None:
            last_hidden_state[tokens] = x.T

        return ModelOutput(last_hidden_state, *self.encode(ids, mask, keep, output_hidden_states, output_attentions))

    def encode(
        self,
        ids: Ids,
        mask: Mask,
        keep: Callable[[Tokens, Array], None],
        output_hidden_states: bool,
        output_attentions: bool,
    ) -> tuple[tuple[Array, ...] | None, tuple[Array, ...] | None]:
        """Compute pack after pack of a checked batch, giving hidden states and attentions as in ModelOutput.

        keep(tokens, x) is called for every pack, by the thread that computed it: x, (dim, tokens), is the output of the
        last layer, and lies in memory that is used again.
        """
        check_bool("output_hidden_states", output_hidden_states)
        check_bool("output_attentions", output_attentions)
        (b, s), config = ids.shape, self.config
        lengths = mask.sum(axis=1)
        hidden_states = [
            np.zeros((b, s, config.dim), np.float32) for _ in range(config.n_layers + 1) if output_hidden_states
        ]
        attentions = [
            np.zeros((b, config.n_heads, s, s), np.float32) for _ in range(config.n_layers) if output_attentions
        ]

        def compute(pack: list[int], team: Team) -> None:
            """The inputs in these rows of the batch."""
            i, positions = np.nonzero(mask[pack])
            tokens = np.array(pack)[i], positions
            memory = self._memory.take((5 * config.dim + config.hidden_dim) * len(positions))
            work = Workspace(config, lengths[pack].tolist(), team, memory)
            if output_attentions:
                work.probabilities = [np.empty((config.n_heads, n, n), np.float32) for n in lengths[pack]]
            with np.errstate(
                over="ignore", invalid="ignore"
            ):  # what weights too large for float32 do shows in the output
                x = embed(ids[tokens], positions, self.embeddings)
                if output_hidden_states:
                    hidden_states[0][tokens] = x.T
                for number, layer in enumerate(self.layers):
                    x = encoder_layer(x, layer, work)
                    if output_hidden_states:
                        hidden_states[number + 1][tokens] = x.T
                    for row, probabilities in zip(pack, work.probabilities):
                        real = np.flatnonzero(mask[row])
                        attentions[number][row][:, real[:, None], real] = probabilities.swapaxes(1, 2)
                keep(tokens, x)
            self._memory.give_back(memory)

        with threads(config.dim * int(lengths.sum())) as team:
            packs = team.packs(lengths.tolist())
            if len(packs) == 1:
                compute(packs[0], team)
            else:
                team.run(lambda pack: compute(pack, Team()), packs)
        return tuple(hidden_states) or None, tuple(attentions) or None


class DistilBertForQuestionAnswering:
    """The encoder and a linear head that gives every token a start and an end logit."""

    def __init__(self, config: Config, weights: Mapping[str, Array]) -> None:
        """As DistilBertModel, and the tensors of qa_outputs."""
        self.config = config
        self.distilbert = DistilBertModel(config, weights)
        self.qa_outputs = affine(weights, "qa_outputs", 2, config.dim)

    @classmethod
    def from_pretrained(
        cls, path: str | PathLike[str] | None = None, revision: str | None = None
    ) -> "DistilBertForQuestionAnswering":
        """As DistilBertModel.from_pretrained, but of a model for question answering and nothing else."""
        return _load(cls, find(path, revision), "")

    def __call__(
        self,
        input_ids: ArrayLike,
        attention_mask: ArrayLike | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> QuestionAnsweringOutput:
        """Start and end logits of a batch; arguments and errors as of DistilBertModel."""
        ids, mask = _checked(input_ids, attention_mask, self.config)
        start_logits, end_logits = np.zeros((2, *ids.shape), np.float32)

        def keep(tokens: Tokens, x: Array) -> None:
            start_logits[tokens], end_logits[tokens] = linear(x, *self.qa_outputs, sum_length=SHORT_SUM_LENGTH)

        return QuestionAnsweringOutput(
            start_logits,
            end_logits,
            *self.distilbert.encode(ids, mask, keep, output_hidden_states, output_attentions),
        )


def tensor(weights: Mapping[str, Array], name: str, *shape: int) -> Array:
    """weights[name], or CheckpointError if it is missing or not of that shape."""
    try:
        found = weights[name]
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


def affine(weights: Mapping[str, Array], name: str, *shape: int) -> Affine:
    """The float32 weight of that shape and its bias. Raises as tensor does."""
    weight, bias = tensor(weights, f"{name}.weight", *shape), tensor(weights, f"{name}.bias", shape[0])
    return Affine(weight.astype(np.float32, copy=False), bias.astype(np.float32, copy=False))


def fused_qkv(weights: Mapping[str, Array], name: str, config: Config) -> Affine:
    """The projections to query, key and value as one, in the order that Attention says. Raises as tensor does."""
    dim, by_head = config.dim, (config.n_heads, config.dim // config.n_heads, -1)
    projections = [affine(weights, f"{name}.{part}_lin", dim, dim) for part in "qkv"]
    weight = np.stack([projection.weight.reshape(by_head) for projection in projections], axis=1)
    bias = np.stack([projection.bias.reshape(by_head) for projection in projections], axis=1)
    return Affine(weight.reshape(3 * dim, dim), bias.reshape(3 * dim))


def _load(model: type[Model], folder: Path, prefix: str) -> Model:
    """The model in a folder, all of whose tensors of that prefix must be the model's."""
    config, weights = Config.from_file(folder / "config.json"), Weights(folder)
    try:
        loaded = model(config, weights)
        for name in weights.unread:
            if name.startswith(prefix):
                raise CheckpointError(
                    f"tensor {name} is not in a model of that configuration. "
                    "The weights and the configuration are not of the same model."
                )
    except CheckpointError as error:
        raise CheckpointError(f"{weights.path}: {error}") from None
    return loaded


def _checked(input_ids: ArrayLike, attention_mask: ArrayLike | None, config: Config) -> tuple[Ids, Mask]:
    ids = _checked_ids(input_ids, config)
    return ids, _checked_mask(attention_mask, ids)


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
