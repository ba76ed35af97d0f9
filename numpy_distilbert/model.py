"""DistilBERT: token ids in, hidden states and start/end logits out.

Source: Sanh et al. 2019, a BERT encoder (Devlin et al. 2018) of half the layers, without segment embeddings and
pooler. The reference behaviour is that of transformers' DistilBertForQuestionAnswering in evaluation mode.

What callers see is (batch, sequence, dim). Inside, features are rows and tokens are columns, those of several inputs
side by side without their padding, and x is (dim, tokens): why, and what threads do, is told in schedule.py.
"""

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .arguments import check_bool, check_dtype, check_ids, check_mask
from .checkpoint import CheckpointError
from .hub import find
from .kernels import attention, gelu, layer_norm, linear
from .parameters import Affine, Attention, Config, Embeddings, FeedForward, Layer, Parameters, Reader
from .schedule import SCORES_BLOCK, SHORT_SUM_LENGTH, SUM_LENGTH, Array, Ids, Mask, Memory, Team, threads
from .tensors import Weights
from .workspace import Recording, Tokens, Workspace

Model = TypeVar("Model", "DistilBertModel", "DistilBertForQuestionAnswering")


@dataclass(frozen=True)
class ModelOutput:
    """What DistilBertModel returns. b is the batch, s the sequence, h the heads.

    last_hidden_state: (b, s, dim); hidden_states: the embeddings and the output of every layer, each (b, s, dim);
    attentions: the probabilities of every layer, each (b, h, s, s), queries before keys. All of the model's dtype, 0 at
    positions with mask 0; the tuples only when asked for.
    """

    last_hidden_state: Array
    hidden_states: tuple[Array, ...] | None = None
    attentions: tuple[Array, ...] | None = None


@dataclass(frozen=True)
class QuestionAnsweringOutput:
    """What DistilBertForQuestionAnswering returns.

    start_logits, end_logits: (batch, sequence), of the model's dtype, 0 at positions with mask 0; hidden_states and
    attentions as in ModelOutput.
    """

    start_logits: Array
    end_logits: Array
    hidden_states: tuple[Array, ...] | None = None
    attentions: tuple[Array, ...] | None = None


def embed(ids: Ids, embeddings: Embeddings, work: Workspace) -> Array:
    """Word plus position embedding, normalised. ids: (batch, sequence) -> (dim, tokens)."""
    positions = embeddings.position_embeddings[work.tokens[1]]  # (tokens, dim)
    words = embeddings.word_embeddings[ids[work.tokens]].astype(positions.dtype, copy=False)
    x = np.ascontiguousarray((words + positions).T)
    work.record("word_embeddings", words.T)
    work.record("position_embeddings", positions.T)
    work.record("LayerNorm.input", x)
    layer_norm(x, *embeddings.LayerNorm, out=x)
    work.record("LayerNorm", x)
    return x


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
                    query,
                    key,
                    value,
                    out=work.context[some, :, columns],
                    scores=work.scores[i][some] if work.scores else None,
                    probabilities=work.probabilities[i][some] if work.probabilities else None,
                )

    work.team.run(attend, work.team.shares(n_heads))
    for i, part in enumerate("qkv"):
        work.record(f"attention.{part}_lin", work.qkv[:, i])
    work.record_pairs("attention.scores", work.scores)
    work.record_pairs("attention.probabilities", work.probabilities)
    work.record("attention.context", work.context)
    return _linear(work.context.reshape(-1, tokens), layer.out_lin, "attention.out_lin", work, SHORT_SUM_LENGTH)


def feed_forward(x: Array, layer: FeedForward, work: Workspace) -> Array:
    """Two linear maps with a GELU between. x: (dim, tokens) -> (dim, tokens), in work.output."""

    def activate(units: slice) -> None:
        hidden = linear(x, *layer.lin1.rows(units), out=work.before_activation[units], sum_length=SUM_LENGTH)
        gelu(hidden, out=work.hidden[units])

    work.team.run(activate, work.team.shares(len(work.hidden)))
    work.record("ffn.lin1", work.before_activation)
    work.record("ffn.activation", work.hidden)
    return _linear(work.hidden, layer.lin2, "ffn.lin2", work, SUM_LENGTH)


def _linear(x: Array, layer: Affine, name: str, work: Workspace, sum_length: int) -> Array:
    def project(rows: slice) -> None:
        linear(x, *layer.rows(rows), out=work.output[rows], sum_length=sum_length)

    work.team.run(project, work.team.shares(len(work.output)))
    work.record(name, work.output)
    return work.output


def encoder_layer(x: Array, layer: Layer, work: Workspace) -> Array:
    """One transformer block, post-norm as in BERT. x: (dim, tokens) -> (dim, tokens), written over x."""
    x += self_attention(x, layer.attention, work)
    work.record("sa_layer_norm.input", x)
    layer_norm(x, *layer.sa_layer_norm, out=x)
    work.record("sa_layer_norm", x)
    x += feed_forward(x, layer.ffn, work)
    work.record("output_layer_norm.input", x)
    layer_norm(x, *layer.output_layer_norm, out=x)
    work.record("output_layer_norm", x)
    return x


class DistilBertModel:
    """The encoder alone: token ids to hidden states."""

    def __init__(self, config: Config, weights: Mapping[str, Array], dtype: DTypeLike = "float32") -> None:
        """weights: floating-point arrays under their published names; dtype: float32 or float64, to compute in.

        Raises CheckpointError for a tensor that is missing or of another shape than config asks for, ValueError or
        TypeError for another dtype.
        """
        self.config = config
        self.dtype = check_dtype(dtype)
        self._memory = Memory(self.dtype)
        read = Reader(weights, config, self.dtype)
        self.embeddings = read.embeddings()
        self._names = [f"distilbert.transformer.layer.{i}" for i in range(config.n_layers)]
        self.layers = tuple(map(read.layer, self._names))

    @classmethod
    def from_pretrained(
        cls, path: str | PathLike[str] | None = None, revision: str | None = None, dtype: DTypeLike = "float32"
    ) -> "DistilBertModel":
        """Load config.json and model.safetensors of a folder or a hub id, or with None of the embedded checkpoint.

        path, revision: as for hub.find; dtype: as for the class. Weights of a head are left where they are.
        Raises CheckpointError if they are missing, unreadable or not of one DistilBERT model.
        """
        return _load(cls, find(path, revision), dtype, "distilbert.")

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
        last_hidden_state = np.zeros((*ids.shape, self.config.dim), self.dtype)

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
        last layer.
        """
        check_bool("output_hidden_states", output_hidden_states)
        check_bool("output_attentions", output_attentions)
        outputs = ["distilbert.embeddings.LayerNorm", *(f"{name}.output_layer_norm" for name in self._names)]
        hidden_states = outputs if output_hidden_states else []
        attentions = [f"{name}.attention.probabilities" for name in self._names] if output_attentions else []
        trace = traced(self)
        tensors: dict[str, NDArray[Any]] = {} if trace is None else trace
        recording = None
        if trace is not None:
            trace.clear()
            trace |= {"input_ids": ids.astype(np.int64), "attention_mask": mask.astype(np.int64)}
            recording = Recording(ids.shape, lambda name: True, tensors)
        elif hidden_states or attentions:
            recording = Recording(ids.shape, {*hidden_states, *attentions}.__contains__, tensors)

        def compute(rows: list[int], team: Team) -> None:
            """The inputs in these rows of the batch."""
            memory = self._memory.take((5 * self.config.dim + self.config.hidden_dim) * int(mask[rows].sum()))
            work = Workspace(self.config, rows, mask, team, memory, recording)
            # what weights too large for float32 do shows in the output
            with np.errstate(over="ignore", invalid="ignore"):
                x = embed(ids, self.embeddings, work)
                for name, layer in zip(self._names, self.layers, strict=True):
                    work.start_layer(name)
                    x = encoder_layer(x, layer, work)
                keep(work.tokens, x)
            self._memory.give_back(memory)

        with threads(self.config.dim * int(mask.sum())) as team:
            packs = team.packs(mask.sum(axis=1).tolist())
            if len(packs) == 1:
                compute(packs[0], team)
            else:
                team.run(lambda rows: compute(rows, Team()), packs)
        return (
            tuple(tensors[name] for name in hidden_states) if output_hidden_states else None,
            tuple(tensors[name] for name in attentions) if output_attentions else None,
        )


class DistilBertForQuestionAnswering:
    """The encoder and a linear head that gives every token a start and an end logit."""

    def __init__(self, config: Config, weights: Mapping[str, Array], dtype: DTypeLike = "float32") -> None:
        """As DistilBertModel, and the tensors of qa_outputs."""
        self.config = config
        self.distilbert = DistilBertModel(config, weights, dtype)
        self.dtype = self.distilbert.dtype
        self.qa_outputs = Reader(weights, config, self.dtype).affine("qa_outputs", 2, config.dim)

    @property
    def parameters(self) -> Parameters:
        """The model's own arrays."""
        return Parameters(self.distilbert.embeddings, self.distilbert.layers, self.qa_outputs)

    @classmethod
    def from_pretrained(
        cls, path: str | PathLike[str] | None = None, revision: str | None = None, dtype: DTypeLike = "float32"
    ) -> "DistilBertForQuestionAnswering":
        """As DistilBertModel.from_pretrained, but of a model for question answering and nothing else."""
        return _load(cls, find(path, revision), dtype, "")

    def __call__(
        self,
        input_ids: ArrayLike,
        attention_mask: ArrayLike | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> QuestionAnsweringOutput:
        """Start and end logits of a batch; arguments and errors as of DistilBertModel."""
        ids, mask = _checked(input_ids, attention_mask, self.config)
        logits = np.zeros((*ids.shape, 2), self.dtype)

        def keep(tokens: Tokens, x: Array) -> None:
            logits[tokens] = linear(x, *self.qa_outputs, sum_length=SHORT_SUM_LENGTH).T

        seen = self.distilbert.encode(ids, mask, keep, output_hidden_states, output_attentions)
        trace = traced(self.distilbert)
        if trace is not None:
            trace["qa_outputs"] = logits
        return QuestionAnsweringOutput(
            np.ascontiguousarray(logits[..., 0]), np.ascontiguousarray(logits[..., 1]), *seen
        )


# The encoders that are traced in this context, and where their tensors go; trace.py sets it.
TRACED: ContextVar[Mapping[DistilBertModel, dict[str, NDArray[Any]]]] = ContextVar(
    "TRACED", default=MappingProxyType({})
)


def traced(model: DistilBertModel) -> dict[str, NDArray[Any]] | None:
    """Where the tensors of that encoder's calls go if they are traced."""
    return TRACED.get().get(model)


def pad(rows: Sequence[Sequence[int] | Ids]) -> tuple[Ids, Mask]:
    """Token ids of different lengths as one batch with its mask, both (rows, the longest)."""
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    mask = np.zeros(ids.shape, bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = True
    return ids, mask


def _load(model: type[Model], folder: Path, dtype: DTypeLike, prefix: str) -> Model:
    """The model in a folder, all of whose tensors of that prefix must be the model's."""
    config, weights = Config.from_file(folder / "config.json"), Weights(folder, check_dtype(dtype).type)
    try:
        loaded = model(config, weights, dtype)
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
    ids = check_ids(input_ids, config.vocab_size, config.max_position_embeddings)
    return ids, check_mask(attention_mask, ids)
