"""DistilBERT: token ids in, hidden states or the logits of a head out.

The reference behaviour is that of transformers' models in evaluation mode. What callers see is (batch, sequence, dim);
the encoder computes packs of inputs, (dim, tokens).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from types import MappingProxyType
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .arguments import Array, Ids, Mask, check_bool, check_dtype, check_ids, check_mask
from .checkpoint import Checkpoint, CheckpointError
from .encoder import Activations, Embedded, Workspace, embed, encoder_layer
from .kernels import linear
from .parameters import ANOTHER_MODEL, EMBEDDINGS, LAYER, Config, from_state_dict
from .runtime.products import SHORT_SUM_LENGTH
from .runtime.threads import Team, threads
from .runtime.workspace import Memory, Pack

Model = TypeVar("Model", bound="PretrainedModel[Any]")
Output = TypeVar("Output")
Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class ModelOutput:
    """What DistilBertModel returns. b is the batch, s the sequence, h the heads.

    last_hidden_state: (b, s, dim); hidden_states: the embeddings and the output of every layer, each (b, s, dim);
    attentions: the probabilities of every layer, each (b, h, s, s), queries before keys; tensors: everything that was
    computed, by name and in order, see output_tensors. All have the model's dtype and are 0 at positions with mask 0;
    the last three only when asked for.
    """

    last_hidden_state: Array
    hidden_states: tuple[Array, ...] | None = None
    attentions: tuple[Array, ...] | None = None
    tensors: Tensors | None = None


@dataclass(frozen=True)
class QuestionAnsweringOutput:
    """What DistilBertForQuestionAnswering returns. start_logits, end_logits: (batch, sequence), of the model's dtype, 0
    at positions with mask 0; the others as in ModelOutput.
    """

    start_logits: Array
    end_logits: Array
    hidden_states: tuple[Array, ...] | None = None
    attentions: tuple[Array, ...] | None = None
    tensors: Tensors | None = None


class PretrainedModel(Generic[Output]):
    """An encoder with a head. It is immutable after loading, so threads may share it.

    head: published name and number of outputs of the linear map on the encoder's output; empty if there is none.
    output: turns the head's output, (batch, sequence, k), and the rest of a ModelOutput into what a call returns.
    """

    head: ClassVar[Mapping[str, int]] = {}
    output: Callable[..., Output]

    def __init__(self, config: Config, weights: Mapping[str, Array], dtype: DTypeLike = "float32") -> None:
        """weights: floating-point arrays under their published names; dtype: float32 or float64, to compute in.

        Raises CheckpointError for a tensor that is missing or does not have the shape that config asks for, ValueError
        or TypeError for another dtype.
        """
        self.config, self.dtype = config, check_dtype(dtype)
        self.parameters = from_state_dict(weights, config, self.head, self.dtype)
        self._memory = Memory(self.dtype)

    @classmethod
    def from_pretrained(
        cls: type[Model],
        path: str | PathLike[str] | Checkpoint | None = None,
        revision: str | None = None,
        dtype: DTypeLike = "float32",
    ) -> Model:
        """Load a checkpoint: a folder, a hub id, or None for the embedded one.

        path, revision: see Checkpoint; dtype: float32 or float64, to compute in. DistilBertModel leaves the weights of
        a head unread. Raises CheckpointError if it is missing, unreadable or of another model.
        """
        checkpoint = Checkpoint(path, revision)
        config, weights = Config.from_checkpoint(checkpoint), checkpoint.weights(check_dtype(dtype).type)
        try:
            loaded = cls(config, weights, dtype)
            for name in weights.unread:
                if cls.head or name.startswith("distilbert."):
                    raise CheckpointError(f"tensor {name} is not in a model of that configuration. {ANOTHER_MODEL}")
        except CheckpointError as error:
            raise CheckpointError(f"{weights.path}: {error}") from None
        return loaded

    def __repr__(self) -> str:
        layers, dim, n_heads = self.config.n_layers, self.config.dim, self.config.n_heads
        return f"{type(self).__name__}(n_layers={layers}, dim={dim}, n_heads={n_heads}, dtype={self.dtype})"

    def apply_head(self, x: Array) -> Array:
        """Apply the head to the encoder's output. x: (dim, tokens) -> (k, tokens)."""
        for layer in self.parameters.head.values():
            x = linear(x, *layer, sum_length=SHORT_SUM_LENGTH)
        return x

    def __call__(
        self,
        input_ids: ArrayLike,
        attention_mask: ArrayLike | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        output_tensors: bool = False,
    ) -> Output:
        """Run the model on a batch.

        input_ids: integers (b, s), each below vocab_size; attention_mask: (b, s) of 0 and 1, or None for all 1.
        A position with mask 0 is not computed: no other attends to it, and in the output it is 0.
        output_tensors: return every tensor that is computed, under the name of the checkpoint's module that computes
        it; NAME.input is the input of that module. Attention also has its scores, probabilities and context.
        Raises ValueError or TypeError that names the argument if it is anything else.
        """
        check_bool("output_hidden_states", output_hidden_states)
        check_bool("output_attentions", output_attentions)
        check_bool("output_tensors", output_tensors)
        ids = check_ids(input_ids, self.config.vocab_size, self.config.max_position_embeddings)
        mask = check_mask(attention_mask, ids)
        layers = [LAYER.format(i) for i in range(self.config.n_layers)]
        hidden_states = [f"{EMBEDDINGS}.LayerNorm", *(f"{layer}.output_layer_norm" for layer in layers)]
        attentions = [f"{layer}.attention.probabilities" for layer in layers]
        tensors: Tensors = {}
        if output_tensors:
            tensors = {"input_ids": ids.astype(np.int64), "attention_mask": mask.astype(np.int64)}
        wanted = {*hidden_states * output_hidden_states, *attentions * output_attentions}

        def record(module: str, computed: Embedded | Activations, pack: Pack) -> None:
            for name, x in recorded(module, computed).items() if output_tensors or wanted else ():
                if output_tensors or name in wanted:
                    pack.scatter(x, tensors.setdefault(name, pack.zeros(x, ids.shape)))

        keep = Activations._fields if output_tensors else ("probabilities",) * output_attentions
        output = self._encode(ids, mask, keep, record)
        return self.output(
            output,
            tuple(tensors[name] for name in hidden_states) if output_hidden_states else None,
            tuple(tensors[name] for name in attentions) if output_attentions else None,
            tensors | dict.fromkeys(self.head, output) if output_tensors else None,
        )

    def _encode(
        self, ids: Ids, mask: Mask, keep: Collection[str], record: Callable[[str, Embedded | Activations, Pack], None]
    ) -> Array:
        """The head's output, (b, s, k). keep: see Workspace; record: called with what each module has computed."""
        output = np.zeros((*ids.shape, [self.config.dim, *self.head.values()][-1]), self.dtype)

        def compute(rows: list[int], team: Team) -> None:
            """Compute the inputs in these rows of the batch."""
            pack, arena = Pack.of(rows, mask), self._memory.take()
            work = Workspace(self.config, pack, arena, team, keep)
            with np.errstate(over="ignore", invalid="ignore"):  # too large for float32: the output shows it
                embedded = embed(ids, self.parameters.embeddings, work)
                record(EMBEDDINGS, embedded, pack)
                x = embedded.result
                for i, layer in enumerate(self.parameters.layers):
                    activations = encoder_layer(x, layer, work)
                    record(LAYER.format(i), activations, pack)
                    x = activations.result
                output[pack.tokens] = self.apply_head(x).T
            self._memory.give_back(arena)

        with threads() as team:
            plan = team.plan(mask.sum(axis=1).tolist())
            if plan.whole_packs:
                team.run(lambda rows: compute(rows, Team()), plan.packs)
            else:
                compute(plan.packs[0], team)
        return output


class DistilBertModel(PretrainedModel[ModelOutput]):
    """The encoder alone: token ids to hidden states."""

    output = ModelOutput


class DistilBertForQuestionAnswering(PretrainedModel[QuestionAnsweringOutput]):
    """The encoder and a linear head that gives every token a start and an end logit."""

    head = MappingProxyType({"qa_outputs": 2})

    @staticmethod
    def output(logits: Array, *others: Any) -> QuestionAnsweringOutput:
        """Split logits, (batch, sequence, 2), into those of start and end."""
        start_logits, end_logits = (np.ascontiguousarray(logits[..., i]) for i in range(2))
        return QuestionAnsweringOutput(start_logits, end_logits, *others)


def recorded(name: str, computed: Embedded | Activations) -> dict[str, Array | list[Array]]:
    """What the embeddings or a block have computed, in order, under the names of the checkpoint's modules.

    name: of the module; NAME.input is the input of the module of that name.
    """
    if isinstance(computed, Embedded):
        return {
            f"{name}.word_embeddings": computed.words,
            f"{name}.position_embeddings": computed.positions,
            f"{name}.LayerNorm.input": computed.summed,
            f"{name}.LayerNorm": computed.result,
        }
    return {
        **{f"{name}.attention.{part}_lin": computed.qkv[:, i] for i, part in enumerate("qkv")},
        f"{name}.attention.scores": computed.scores,
        f"{name}.attention.probabilities": computed.probabilities,
        f"{name}.attention.context": computed.context,
        f"{name}.attention.out_lin": computed.out_lin,
        f"{name}.sa_layer_norm.input": computed.attended,
        f"{name}.sa_layer_norm": computed.middle,
        f"{name}.ffn.lin1": computed.lin1,
        f"{name}.ffn.activation": computed.activation,
        f"{name}.ffn.lin2": computed.lin2,
        f"{name}.output_layer_norm.input": computed.output,
        f"{name}.output_layer_norm": computed.result,
    }


def pad(rows: Sequence[Sequence[int] | Ids]) -> tuple[Ids, Mask]:
    """Token ids of different lengths as one batch with its mask, both (rows, the longest)."""
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    mask = np.zeros(ids.shape, bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = True
    return ids, mask
