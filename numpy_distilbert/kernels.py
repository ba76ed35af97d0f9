"""The maths of the model: pure functions of arrays, each written as its formula.

Features are rows and tokens are columns: x is (dim, tokens), and a linear layer is W x + b as papers write it. Every
kernel returns the dtype of its input; out is an array for the result, which may be x itself in gelu and layer_norm.
"""

import math

import numpy as np

from .arguments import Array
from .runtime.products import SHORT_SUM_LENGTH, cache_blocks, product, weight_product

# Lowest power first; fitted by tests/reference/fit_gelu.py.
GELU = (0.797884216, 0.0363342835, -3.31299945e-05, -5.52401581e-05, 3.96910939e-06, -1.33446404e-07, 1.80561628e-09)


def linear(x: Array, weight: Array, bias: Array, out: Array | None = None, sum_length: int | None = None) -> Array:
    """W x + b, the affine map of one layer.

    x: (in, tokens), weight: (out, in), bias: (out,) -> (out, tokens). sum_length: see runtime.products.product().
    """
    out = weight_product(weight, x, sum_length, out)
    out += bias[:, None]
    return out


def gelu(x: Array, out: Array | None = None) -> Array:
    """x Phi(x), where Phi is the normal distribution function.

    x: any shape of one axis or more -> the same shape, within 2e-7 max(1, |x|), in float64 1e-15 max(1, |x|); GPT-2's
    tanh approximation is off by 5e-4. Source: Hendrycks and Gimpel 2016, section 2.
    """
    if out is None:
        out = np.empty_like(x)
    for rows in cache_blocks(x):
        np.multiply(x[rows], normal_cdf(x[rows]), out=out[rows])
    return out


def normal_cdf(x: Array) -> Array:
    """Phi(x) = (1 + erf(x / sqrt(2))) / 2.

    x: any shape -> the same shape. float64 uses this formula, float32 uses (1 + tanh(x p(x^2))) / 2 with a polynomial p
    that makes tanh(x p(x^2)) equal to that erf.
    """
    if x.dtype == np.float64:
        cdf = erf(x * math.sqrt(0.5))
    else:
        with np.errstate(over="ignore"):  # far out x p(x^2) is infinite, and its tanh is 1 or -1, as it should be
            square = x * x
            cdf = square * GELU[-1]
            for coefficient in GELU[-2:0:-1]:  # Horner's rule
                cdf += coefficient
                cdf *= square
            cdf += GELU[0]
            cdf *= x
        np.tanh(cdf, out=cdf)
    cdf += 1.0
    cdf *= 0.5
    return cdf


def erf(x: Array) -> Array:
    """2/sqrt(pi) times the integral of exp(-t^2) from 0 to x.

    x: any shape, float64 -> the same shape, within 3e-15 of it.
    Summed as 2/sqrt(pi) exp(-x^2) x (1 + 2x^2/3 (1 + 2x^2/5 (1 + ...))), all of whose terms are positive, so that
    nothing cancels. Source: Abramowitz and Stegun 1964, 7.1.6.
    """
    near = np.clip(x, -6.0, 6.0)
    square = near * near
    largest = np.fmax.reduce(square, axis=None, initial=0.0)
    n, term, series = 0, 1.0, 1.0
    while term > 1e-17 * series:  # counts the terms that still make a difference
        n += 1
        term *= 2.0 * largest / (2 * n + 1)
        series += term
    total = np.ones_like(near)
    for k in range(n, 0, -1):  # Horner's rule
        total *= square
        total *= 2.0 / (2 * k + 1)
        total += 1.0
    total *= 2.0 / math.sqrt(math.pi) * np.exp(-square) * near
    return np.where(np.abs(x) < 6.0, np.clip(total, -1.0, 1.0), np.sign(x))  # further out it is 1 to the last digit


def softmax(x: Array) -> Array:
    """exp(x) / sum(exp(x)) over the last axis, shifted by its maximum so that exp cannot overflow.

    x: (..., n) -> (..., n). -inf counts as excluded and becomes 0; each row needs one finite value.
    """
    exponential: Array = np.exp(x - x.max(axis=-1, keepdims=True))
    total: Array = exponential.sum(axis=-1, keepdims=True)
    return exponential / total


def layer_norm(x: Array, weight: Array, bias: Array, eps: float = 1e-12, out: Array | None = None) -> Array:
    """Normalise each token, a column: (x - mean) / sqrt(var + eps) * weight + bias.

    x: (dim, tokens), weight and bias: (dim,) -> (dim, tokens). var is the biased variance; eps as in the published
    checkpoint. Source: Ba et al. 2016, eq. 4.
    """
    average = np.full(len(x), 1 / len(x), x.dtype)  # a product with it is the mean, and faster than mean()
    out = np.subtract(x, average @ x, out=out)
    variance = average @ (out * out)
    out /= np.sqrt(variance + eps)
    out *= weight[:, None]
    out += bias[:, None]
    return out


def attention(
    query: Array,
    key: Array,
    value: Array,
    out: Array | None = None,
    scores: Array | None = None,
    probabilities: Array | None = None,
    dropout: Array | None = None,
) -> Array:
    """Scaled dot-product attention: V softmax(K^T Q / sqrt(d)), each column a token.

    query, key, value: (..., d, tokens) -> (..., d, tokens). scores, probabilities: (..., keys, queries), arrays for
    K^T Q / sqrt(d) and its softmax; dropout: factors of the probabilities, in training. The division by the softmax's
    sums comes last, where there is least to divide. Source: Vaswani et al. 2017, eq. 1, transposed.
    """
    odds = product(key.swapaxes(-1, -2), query * (1.0 / math.sqrt(query.shape[-2])))  # (..., keys, queries)
    if scores is not None:
        scores[:] = odds
    odds -= odds.max(axis=-2, keepdims=True)
    np.exp(odds, out=odds)
    total = np.ones((1, odds.shape[-2]), odds.dtype) @ odds  # (..., 1, queries); rounds less than sum() does
    if probabilities is not None:
        np.divide(odds, total, out=probabilities)
    if dropout is not None:
        odds *= dropout
    mean: Array = np.divide(product(value, odds, SHORT_SUM_LENGTH), total, out=out)
    return mean
