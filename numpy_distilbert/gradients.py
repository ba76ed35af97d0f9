"""The backward pass: the gradient of the loss with respect to every parameter, by hand.

A backward function takes dy, the gradient of the loss with respect to its kernel's output, and returns the gradients
with respect to its kernel's inputs, each in the shape of that input. As in the forward pass, features are rows and
tokens are columns.

Source: Rumelhart et al. 1986, and the one line of calculus in each function; the losses are those of Sanh et al. 2019.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .kernels import attention, gelu, layer_norm, linear, normal_cdf, softmax
from .model import DistilBertForQuestionAnswering
from .parameters import Affine, Embeddings, Layer, Parameters
from .schedule import Array, Ids, cache_blocks


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
        density *= x[rows]
        density += normal_cdf(x[rows])
        np.multiply(dy[rows], density, out=dx[rows])
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
    dx = g - average @ g
    dx -= n * (average @ (g * n))
    dx /= s
    return dx


def attention_backward(
    dy: Array, query: Array, key: Array, value: Array, p: Array, kept: Array | None = None
) -> tuple[Array, Array, Array]:
    """y = V P, P = softmax(S), S = K^T Q / sqrt(d): dV = dy P^T, dQ = K dS / sqrt(d), dK = Q dS^T / sqrt(d).

    dS is the gradient of the softmax at dP = V^T dy.
    dy, query, key, value: (..., d, tokens), p: (..., keys, queries) -> dQ, dK, dV, each (..., d, tokens). kept: what
    dropout multiplied P with, if it did.
    """
    dp = value.swapaxes(-1, -2) @ dy
    dropped = p if kept is None else p * kept
    if kept is not None:
        dp *= kept
    ds = softmax_backward(dp, p, axis=-2)
    ds *= 1.0 / math.sqrt(query.shape[-2])
    return key @ ds, query @ ds.swapaxes(-1, -2), dy @ dropped.swapaxes(-1, -2)


def embeddings_backward(dx: Array, ids: Ids, positions: Ids, gradient: Embeddings) -> None:
    """x = W[id] + P[position]: the gradient of a row is the sum of those of all tokens that took it.

    dx: (dim, tokens), ids, positions: (tokens,). Added to gradient; to that of the words only if it has rows.
    """
    np.add.at(gradient.position_embeddings, positions, dx.T)
    if len(gradient.word_embeddings):
        np.add.at(gradient.word_embeddings, ids, dx.T)


def dropout(shape: tuple[int, ...], rate: float, random: np.random.Generator) -> Array | None:
    """What to multiply with on the way forth, and the gradient on the way back: 0 at that rate, else 1 / (1 - rate)."""
    if not rate:
        return None
    return (random.random(shape, np.float32) >= rate) * np.float32(1 / (1 - rate))


def cross_entropy(logits: Array, target: int) -> tuple[float, Array]:
    """-log softmax(logits)[target], and its gradient, softmax(logits) - onehot(target). logits: (n,)."""
    p = softmax(logits)
    loss = -math.log(max(float(p[target]), 1e-38))
    p[target] -= 1
    return loss, p


def distillation(logits: Array, teacher: Array, temperature: float) -> tuple[float, Array]:
    """T^2 KL(q || p), p = softmax(logits / T), q = softmax(teacher / T), and its gradient, T (p - q).

    The square keeps the gradient's size whatever T is (Hinton et al. 2015, section 2). logits, teacher: (n,).
    """
    p, q = softmax(logits / temperature), softmax(teacher / temperature)
    loss = temperature**2 * float((q * (np.log(np.maximum(q, 1e-38)) - np.log(np.maximum(p, 1e-38)))).sum())
    return loss, temperature * (p - q)


class Loss(NamedTuple):
    """alpha distillation + (1 - alpha) cross-entropy, the mean of that of the start and that of the end."""

    alpha: float = 0.5
    temperature: float = 2.0

    def __call__(self, logits: Array, answer: tuple[int, int], teacher: Array | None) -> tuple[float, Array]:
        """The loss of one window and its gradient.

        logits: (2, tokens), of start and end; answer: the tokens it starts and ends with; teacher: (2, tokens) logits,
        or None for cross-entropy alone -> loss, (2, tokens).
        """
        loss, gradient = 0.0, np.empty_like(logits)
        for i in range(2):
            hard, by_hard = cross_entropy(logits[i], answer[i])
            if teacher is None:
                loss, gradient[i] = loss + hard / 2, by_hard / 2
                continue
            soft, by_soft = distillation(logits[i], teacher[i].astype(logits.dtype), self.temperature)
            loss += (self.alpha * soft + (1 - self.alpha) * hard) / 2
            gradient[i] = (self.alpha * by_soft + (1 - self.alpha) * by_hard) / 2
        return loss, gradient


class Window(NamedTuple):
    """What the model is trained with: tokens, the first and the last of the answer, and the teacher's logits."""

    ids: Ids
    answer: tuple[int, int]  # (0, 0), [CLS], if it is not in this window
    teacher: Array | None = None  # (2, tokens)


class Forth(NamedTuple):
    """What a layer computed on the way forth and needs on the way back. Names as in model.py and trace.py."""

    x: Array
    qkv: Array  # (n_heads, 3, d, tokens)
    probabilities: list[Array]  # of each input, (n_heads, keys, queries)
    kept: list[Array | None]  # by dropout, of those
    context: Array
    attended: Array  # sa_layer_norm.input
    middle: Array  # sa_layer_norm
    lin1: Array
    activation: Array
    kept_ffn: Array | None
    output: Array  # output_layer_norm.input


def layer_forward(
    x: Array, layer: Layer, n_heads: int, inputs: list[slice], rate: float, random: np.random.Generator
) -> tuple[Array, Forth]:
    """One transformer block with dropout. x: (dim, tokens), inputs: the columns of each -> (dim, tokens)."""
    dim, tokens = x.shape
    qkv = linear(x, *layer.attention.qkv).reshape(n_heads, 3, dim // n_heads, tokens)
    context = np.empty((n_heads, dim // n_heads, tokens), x.dtype)
    probabilities, kept = [], []
    for columns in inputs:
        query, key, value = qkv[..., columns].swapaxes(0, 1)
        p = np.empty((n_heads, query.shape[-1], query.shape[-1]), x.dtype)
        attention(query, key, value, out=context[..., columns], probabilities=p)
        mask = dropout(p.shape, rate, random)
        if mask is not None:
            context[..., columns] = value @ (p * mask)
        probabilities.append(p)
        kept.append(mask)
    context = context.reshape(dim, tokens)
    attended = linear(context, *layer.attention.out_lin)
    attended += x
    middle = layer_norm(attended, *layer.sa_layer_norm)
    lin1 = linear(middle, *layer.ffn.lin1)
    activation = gelu(lin1)
    output = linear(activation, *layer.ffn.lin2)
    kept_ffn = dropout(output.shape, rate, random)
    if kept_ffn is not None:
        output *= kept_ffn
    output += middle
    forth = Forth(x, qkv, probabilities, kept, context, attended, middle, lin1, activation, kept_ffn, output)
    return layer_norm(output, *layer.output_layer_norm), forth


def layer_backward(dy: Array, layer: Layer, forth: Forth, inputs: list[slice], gradient: Layer) -> Array:
    """The way back through one block: the same steps in reverse; where two ways met in a sum, both get its gradient."""
    d_output = layer_norm_backward(dy, forth.output, layer.output_layer_norm.weight, gradient.output_layer_norm)
    d_lin2 = d_output if forth.kept_ffn is None else d_output * forth.kept_ffn
    d_activation = linear_backward(d_lin2, forth.activation, layer.ffn.lin2.weight, gradient.ffn.lin2)
    d_lin1 = gelu_backward(d_activation, forth.lin1)
    d_middle = linear_backward(d_lin1, forth.middle, layer.ffn.lin1.weight, gradient.ffn.lin1)
    d_middle += d_output
    d_attended = layer_norm_backward(d_middle, forth.attended, layer.sa_layer_norm.weight, gradient.sa_layer_norm)
    d_context = linear_backward(
        d_attended, forth.context, layer.attention.out_lin.weight, gradient.attention.out_lin
    ).reshape(forth.qkv[:, 0].shape)
    d_qkv = np.empty_like(forth.qkv)
    for columns, p, kept in zip(inputs, forth.probabilities, forth.kept, strict=True):
        query, key, value = forth.qkv[..., columns].swapaxes(0, 1)
        parts = attention_backward(d_context[..., columns], query, key, value, p, kept)
        for i, part in enumerate(parts):
            d_qkv[:, i, :, columns] = part
    dx = linear_backward(d_qkv.reshape(-1, dy.shape[1]), forth.x, layer.attention.qkv.weight, gradient.attention.qkv)
    dx += d_attended
    return dx


def loss_and_gradient(
    model: DistilBertForQuestionAnswering,
    windows: Sequence[Window],
    loss: Loss,
    gradient: Parameters,
    rate: float = 0.0,
    random: np.random.Generator | None = None,
    share: float = 1.0,
) -> float:
    """The summed loss of some windows, each times share, and its gradient, added to what gradient holds.

    rate: of dropout after the embeddings, on the attention's probabilities, after each feed-forward network and before
    the head, as in transformers' DistilBERT; random: where it takes its numbers from.
    """
    random = random or np.random.default_rng(0)
    config, encoder = model.config, model.distilbert
    ids = np.concatenate([window.ids for window in windows])
    positions = np.concatenate([np.arange(len(window.ids)) for window in windows])
    ends = np.cumsum([len(window.ids) for window in windows]).tolist()
    inputs = [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]

    words = encoder.embeddings.word_embeddings[ids].astype(model.dtype, copy=False)
    embedded = np.ascontiguousarray((words + encoder.embeddings.position_embeddings[positions]).T)
    x = layer_norm(embedded, *encoder.embeddings.LayerNorm)
    kept_first = dropout(x.shape, rate, random)
    if kept_first is not None:
        x *= kept_first
    way = []
    for layer in encoder.layers:
        x, forth = layer_forward(x, layer, config.n_heads, inputs, rate, random)
        way.append(forth)
    kept_last = dropout(x.shape, rate, random)
    if kept_last is not None:
        x *= kept_last
    logits = linear(x, *model.qa_outputs)

    total, d_logits = 0.0, np.empty_like(logits)
    for window, columns in zip(windows, inputs, strict=True):
        one, by_logits = loss(logits[:, columns], window.answer, window.teacher)
        total += one * share
        d_logits[:, columns] = by_logits * share

    dx = linear_backward(d_logits, x, model.qa_outputs.weight, gradient.qa_outputs)
    if kept_last is not None:
        dx *= kept_last
    for layer, forth, layer_gradient in reversed(list(zip(encoder.layers, way, gradient.layers, strict=True))):
        dx = layer_backward(dx, layer, forth, inputs, layer_gradient)
    if kept_first is not None:
        dx *= kept_first
    norm = encoder.embeddings.LayerNorm
    dx = layer_norm_backward(dx, embedded, norm.weight, gradient.embeddings.LayerNorm)
    embeddings_backward(dx, ids, positions, gradient.embeddings)
    return total
