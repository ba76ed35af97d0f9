"""The backward pass: the gradient of the loss with respect to every parameter, by hand.

A backward function takes dy, the gradient of the loss with respect to its kernel's output, and returns the gradients
with respect to its kernel's inputs, each in the shape of that input. As in the forward pass, features are rows and
tokens are columns.
Source: Rumelhart et al. 1986, and the one line of calculus in each function.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..arguments import Array, Ids
from ..encoder import Activations, Workspace, embed, encoder_layer
from ..kernels import normal_cdf
from ..model import PretrainedModel, pad
from ..parameters import Affine, Embeddings, Layer, Parameters
from ..runtime.products import cache_blocks
from ..runtime.threads import Team
from ..runtime.workspace import Arena, Pack


def linear_backward(dy: Array, x: Array, weight: Array, gradient: Affine) -> Array:
    """y = W x + b: dx = W^T dy, dW = dy x^T, db = the sum of dy over the tokens.

    dy: (out, tokens), x: (in, tokens), weight: (out, in) -> dx: (in, tokens). dW and db are added to gradient.
    """
    np.add(gradient.weight, dy @ x.T, out=gradient.weight)
    np.add(gradient.bias, dy.sum(axis=1), out=gradient.bias)
    return weight.T @ dy


def gelu_backward(dy: Array, x: Array) -> Array:
    """y = x Phi(x): dx = dy (Phi(x) + x phi(x)), where phi is the normal density, Phi's derivative.

    dy, x: any shape of one axis or more -> that shape.
    """
    dx = np.empty_like(x)
    for rows in cache_blocks(x):
        density = np.exp(-0.5 * x[rows] * x[rows]) / math.sqrt(2 * math.pi)
        np.multiply(dy[rows], normal_cdf(x[rows]) + x[rows] * density, out=dx[rows])
    return dx


def softmax_backward(dp: Array, p: Array, axis: int = -1) -> Array:
    """p = exp(x) / sum(exp(x)): dp_i/dx_j = p_i (delta_ij - p_j), so dx = p (dp - sum(dp p)). dp, p: (...) -> (...)."""
    dx = dp * p
    dx -= p * dx.sum(axis=axis, keepdims=True)
    return dx


def layer_norm_backward(dy: Array, x: Array, weight: Array, gradient: Affine, eps: float = 1e-12) -> Array:
    """y = n w + b, n = (x - mean) / s: dw = sum(dy n), db = sum(dy), dx = (g - mean(g) - n mean(g n)) / s, g = dy w.

    The means are over the features, as mean and s depend on all of them; the sums are over the tokens.
    dy, x: (dim, tokens), weight: (dim,) -> (dim, tokens). dw and db are added to gradient.
    """
    average = np.full(len(x), 1 / len(x), x.dtype)
    n = x - average @ x
    s = np.sqrt(average @ (n * n) + eps)
    n /= s
    np.add(gradient.weight, (dy * n).sum(axis=1), out=gradient.weight)
    np.add(gradient.bias, dy.sum(axis=1), out=gradient.bias)
    g = dy * weight[:, None]
    return (g - average @ g - n * (average @ (g * n))) / s


def attention_backward(
    dy: Array, query: Array, key: Array, value: Array, p: Array, dropout: Array | None = None
) -> tuple[Array, Array, Array]:
    """y = V P, P = softmax(S), S = K^T Q / sqrt(d): dV = dy P^T, dQ = K dS / sqrt(d), dK = Q dS^T / sqrt(d).

    dS is the gradient of the softmax at dP = V^T dy. dropout: the factors of P, if any.
    dy, query, key, value: (..., d, tokens), p: (..., keys, queries) -> dQ, dK, dV, each (..., d, tokens).
    """
    dp, dropped = value.swapaxes(-1, -2) @ dy, p
    if dropout is not None:
        dp *= dropout
        dropped = p * dropout
    ds = softmax_backward(dp, p, axis=-2) * (1.0 / math.sqrt(query.shape[-2]))
    return key @ ds, query @ ds.swapaxes(-1, -2), dy @ dropped.swapaxes(-1, -2)


def embeddings_backward(dx: Array, ids: Ids, positions: Ids, gradient: Embeddings) -> None:
    """x = W[id] + P[position]: the gradient of a row is the sum of dx over the tokens with that id or position.

    dx: (dim, tokens), ids, positions: (tokens,). Added to gradient; for W only if gradient has its rows (not frozen).
    """
    np.add.at(gradient.position_embeddings, positions, dx.T)
    if len(gradient.word_embeddings):
        np.add.at(gradient.word_embeddings, ids, dx.T)


def dropout(shape: tuple[int, ...], rate: float, random: np.random.Generator) -> Array | None:
    """Dropout factors: 0 with probability rate, else 1 / (1 - rate); None for a rate of 0."""
    return (random.random(shape, np.float32) >= rate) * np.float32(1 / (1 - rate)) if rate else None


KEEP = frozenset(Activations._fields) - {"scores", "out_lin", "lin2"}  # what layer_backward reads


def layer_backward(dy: Array, layer: Layer, a: Activations, inputs: list[slice], gradient: Layer) -> Array:
    """The backward pass of a transformer block: its steps in reverse; both terms of a sum get the gradient of the sum.

    dy: (dim, tokens), a: from the forward pass, inputs: the columns of each input -> dx: (dim, tokens).
    """
    d_output = layer_norm_backward(dy, a.output, layer.output_layer_norm.weight, gradient.output_layer_norm)
    d_lin2 = d_output if a.ffn_dropout is None else d_output * a.ffn_dropout
    d_activation = linear_backward(d_lin2, a.activation, layer.ffn.lin2.weight, gradient.ffn.lin2)
    d_lin1 = gelu_backward(d_activation, a.lin1)
    d_middle = linear_backward(d_lin1, a.middle, layer.ffn.lin1.weight, gradient.ffn.lin1)
    d_middle += d_output
    d_attended = layer_norm_backward(d_middle, a.attended, layer.sa_layer_norm.weight, gradient.sa_layer_norm)
    context = a.context.reshape(d_attended.shape)
    d_context = linear_backward(d_attended, context, layer.attention.out_lin.weight, gradient.attention.out_lin)
    d_context = d_context.reshape(a.context.shape)
    d_qkv = np.empty_like(a.qkv)
    for i, columns in enumerate(inputs):
        query, key, value = a.qkv[..., columns].swapaxes(0, 1)
        factors = a.attention_dropout[i] if a.attention_dropout else None
        parts = attention_backward(d_context[..., columns], query, key, value, a.probabilities[i], factors)
        d_qkv[..., columns] = np.stack(parts, axis=1)
    dx = linear_backward(d_qkv.reshape(-1, dy.shape[1]), a.x, layer.attention.qkv.weight, gradient.attention.qkv)
    dx += d_attended
    return dx


def loss_and_gradient(
    model: PretrainedModel[Any],
    windows: Sequence[Any],
    loss: Callable[[Array, Any], tuple[float, Array]],
    gradient: Parameters,
    rate: float = 0.0,
    random: np.random.Generator | None = None,
    share: float = 1.0,
) -> float:
    """The summed loss of a pack of windows, each times share; its gradient is added to gradient.

    windows: each with its token ids as .ids; loss: maps the head's output, (k, tokens), and its window to the loss and
    its gradient with respect to that output. rate: of dropout after the embeddings, on the attention probabilities,
    after each feed-forward network and before the head, as in transformers' DistilBERT, with numbers from random.
    """
    random = random or np.random.default_rng(0)
    parameters = model.parameters
    ids, mask = pad([window.ids for window in windows])
    pack = Pack.of(range(len(windows)), mask)
    work = Workspace(model.config, pack, Arena(model.dtype), Team(), KEEP, lambda shape: dropout(shape, rate, random))

    summed, embedding_dropout, x = embed(ids, parameters.embeddings, work)[2:]
    activations = []
    for layer in parameters.layers:
        activations.append(encoder_layer(x, layer, work))
        x = activations[-1].result
    head_dropout = work.dropout(x.shape)
    if head_dropout is not None:
        x *= head_dropout
    logits = model.apply_head(x)

    total, d_logits = 0.0, np.empty_like(logits)
    for window, columns in zip(windows, pack.inputs, strict=True):
        window_loss, d_window = loss(logits[:, columns], window)
        total += window_loss * share
        d_logits[:, columns] = d_window * share

    (head,), (head_gradient,) = parameters.head.values(), gradient.head.values()
    dx = linear_backward(d_logits, x, head.weight, head_gradient)
    if head_dropout is not None:
        dx *= head_dropout
    for layer, a, layer_gradient in reversed(list(zip(parameters.layers, activations, gradient.layers, strict=True))):
        dx = layer_backward(dx, layer, a, pack.inputs, layer_gradient)
    if embedding_dropout is not None:
        dx *= embedding_dropout
    dx = layer_norm_backward(dx, summed, parameters.embeddings.LayerNorm.weight, gradient.embeddings.LayerNorm)
    embeddings_backward(dx, ids[pack.tokens], pack.tokens[1], gradient.embeddings)
    return total
