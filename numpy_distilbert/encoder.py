"""The paper's blocks in order: the only forward pass, used for answers, recordings and training.

Features are rows, and the tokens of all inputs of a pack are columns: x is (dim, tokens). A block fills named
activations; the workspace decides where they are in memory.
Source: Vaswani et al. 2017, section 3; Sanh et al. 2019, who leave out BERT's segment embeddings and pooler.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .arguments import Array, Ids
from .kernels import attention, gelu, layer_norm, linear
from .parameters import Affine, Attention, Config, Embeddings, FeedForward, Layer
from .runtime.products import SCORES_BLOCK, SHORT_SUM_LENGTH, SUM_LENGTH
from .runtime.threads import Team
from .runtime.workspace import Arena, Pack


class Embedded(NamedTuple):
    """What the embeddings compute from the token ids."""

    words: Array  # (dim, tokens)
    positions: Array  # (dim, tokens)
    summed: Array  # (dim, tokens), words + positions
    dropout: Array | None  # factors of the result
    result: Array  # (dim, tokens), the layer norm of the sum


class Activations(NamedTuple):
    """What a block computes from x, in this order; lists have an item for each input. d is dim / n_heads."""

    x: Array  # (dim, tokens)
    qkv: Array  # (n_heads, 3, d, tokens), query, key and value of each head
    scores: list[Array]  # (n_heads, keys, queries), K^T Q / sqrt(d); empty unless kept
    probabilities: list[Array]  # (n_heads, keys, queries), their softmax; empty unless kept
    attention_dropout: list[Array]  # (n_heads, keys, queries), factors of the probabilities; empty without dropout
    context: Array  # (n_heads, d, tokens), the mean of the values, weighted by the probabilities
    out_lin: Array  # (dim, tokens), its projection
    attended: Array  # (dim, tokens), x + out_lin
    middle: Array  # (dim, tokens), the layer norm of attended
    lin1: Array  # (hidden_dim, tokens), the first map of the feed-forward network
    activation: Array  # (hidden_dim, tokens), gelu(lin1)
    lin2: Array  # (dim, tokens), the second map
    ffn_dropout: Array | None  # (dim, tokens), factors of lin2
    output: Array  # (dim, tokens), middle + lin2
    result: Array  # (dim, tokens), the layer norm of output


@dataclass
class Workspace:
    """The memory and the threads that compute a pack. All layers use the same arrays, except those that are kept.

    keep: names of activations that get a new array in every layer, while the others are overwritten;
    dropout: returns the factors for an array of that shape, in training.
    """

    config: Config
    pack: Pack
    arena: Arena
    team: Team
    keep: Collection[str] = ()
    dropout: Callable[[tuple[int, ...]], Array | None] = lambda shape: None

    def over(self, name: str, x: Array) -> Array:
        """The array for an activation: x, whose content is no longer needed, or a new one if it is kept."""
        return np.empty_like(x) if name in self.keep else x

    def activations(self, x: Array) -> Activations:
        """The arrays for what a block computes from x."""
        dim, n_heads, n_tokens = self.config.dim, self.config.n_heads, self.pack.n_tokens
        rows = {"qkv": 3 * dim, "context": dim, "out_lin": dim, "lin1": self.config.hidden_dim}
        new = {name: np.empty((n, n_tokens), x.dtype) for name, n in rows.items() if name in self.keep}
        a = new | self.arena.divide({name: (n, n_tokens) for name, n in rows.items() if name not in self.keep})
        pairs = [(n_heads, columns.stop - columns.start, columns.stop - columns.start) for columns in self.pack.inputs]
        attended, lin2 = self.over("attended", x), self.over("lin2", a["out_lin"])
        middle = self.over("middle", attended)
        output = self.over("output", middle)
        return Activations(
            x=x,
            qkv=a["qkv"].reshape(n_heads, 3, -1, n_tokens),
            scores=[np.empty(shape, x.dtype) for shape in pairs if "scores" in self.keep],
            probabilities=[np.empty(shape, x.dtype) for shape in pairs if "probabilities" in self.keep],
            attention_dropout=[factors for shape in pairs if (factors := self.dropout(shape)) is not None],
            context=a["context"].reshape(n_heads, -1, n_tokens),
            out_lin=a["out_lin"],
            attended=attended,
            middle=middle,
            lin1=a["lin1"],
            activation=self.over("activation", a["lin1"]),
            lin2=lin2,
            ffn_dropout=self.dropout(lin2.shape),
            output=output,
            result=self.over("result", output),
        )


def embed(ids: Ids, embeddings: Embeddings, work: Workspace) -> Embedded:
    """Word plus position embedding, normalised. ids: (batch, sequence)."""
    positions = embeddings.position_embeddings[work.pack.tokens[1]]  # (tokens, dim)
    words = embeddings.word_embeddings[ids[work.pack.tokens]].astype(positions.dtype, copy=False)
    summed = np.ascontiguousarray((words + positions).T)
    result = layer_norm(summed, *embeddings.LayerNorm, out=work.over("result", summed))
    dropout = work.dropout(result.shape)
    if dropout is not None:
        result *= dropout
    return Embedded(words.T, positions.T, summed, dropout, result)


def encoder_layer(x: Array, layer: Layer, work: Workspace) -> Activations:
    """One transformer block, post-norm as in BERT. x: (dim, tokens), which is overwritten unless it is kept."""
    a = work.activations(x)
    self_attention(a, layer.attention, work)
    np.add(x, a.out_lin, out=a.attended)
    layer_norm(a.attended, *layer.sa_layer_norm, out=a.middle)
    feed_forward(a, layer.ffn, work)
    np.add(a.middle, a.lin2, out=a.output)
    layer_norm(a.output, *layer.output_layer_norm, out=a.result)
    return a


def self_attention(a: Activations, layer: Attention, work: Workspace) -> None:
    """Multi-head self-attention within each input, from x to out_lin (Vaswani et al. 2017, section 3.2.2)."""
    n_heads, _, d, n_tokens = a.qkv.shape

    def attend(heads: slice) -> None:
        rows = slice(heads.start * 3 * d, heads.stop * 3 * d)
        linear(a.x, *layer.qkv.rows(rows), out=a.qkv[heads].reshape(-1, n_tokens))
        for i, columns in enumerate(work.pack.inputs):
            at_once = max(1, SCORES_BLOCK // (columns.stop - columns.start) ** 2)
            for first in range(heads.start, heads.stop, at_once):
                block = slice(first, min(first + at_once, heads.stop))
                query, key, value = a.qkv[block, :, :, columns].swapaxes(0, 1)  # each (heads of the block, d, length)
                pairs = (of[i][block] if of else None for of in (a.scores, a.probabilities, a.attention_dropout))
                attention(query, key, value, a.context[block, :, columns], *pairs)

    work.team.split(n_heads, attend)
    _linear(a.context.reshape(-1, n_tokens), layer.out_lin, a.out_lin, work, SHORT_SUM_LENGTH)


def feed_forward(a: Activations, layer: FeedForward, work: Workspace) -> None:
    """Two linear maps with a GELU between them, from middle to lin2."""

    def activate(units: slice) -> None:
        linear(a.middle, *layer.lin1.rows(units), out=a.lin1[units], sum_length=SUM_LENGTH)
        gelu(a.lin1[units], out=a.activation[units])

    work.team.split(len(a.lin1), activate)
    _linear(a.activation, layer.lin2, a.lin2, work, SUM_LENGTH)
    if a.ffn_dropout is not None:
        np.multiply(a.lin2, a.ffn_dropout, out=a.lin2)


def _linear(x: Array, layer: Affine, out: Array, work: Workspace, sum_length: int) -> None:
    work.team.split(len(out), lambda rows: linear(x, *layer.rows(rows), out=out[rows], sum_length=sum_length))
