"""The maths of the model: pure functions of arrays, each of them its formula.

Leading axes are free everywhere: what is said of (..., dim) holds for one row as for a batch. Every kernel
returns the dtype of its input.
"""

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

# Lowest power first; tests/reference/fit_erf.py made them.
ERF_NEAR = (0.128379166, -0.376126258, 0.112835852, -0.0268538127, 0.00518832892, -0.00080102034, 7.85389117e-05)
ERF_FAR = (0.000353719304, 1.12704004, 0.638225676, 0.10303737, -0.0218053189, 0.00293960745, -0.000185574026)


def linear(x: Array, weight: Array, bias: Array) -> Array:
    """x W^T + b, the affine map of one layer.

    x: (..., in), weight: (out, in) as published, bias: (out,) -> (..., out).
    """
    return x @ weight.T + bias


def erf(x: Array) -> Array:
    """The error function 2/sqrt(pi) * integral of exp(-t^2) from 0 to x, which NumPy lacks.

    x: any shape -> the same shape, within 2 float32 units in the last place (and no better in float64).
    erf(x) = x + x near(x^2) below 1 and 1 - exp(-far(x)) from 1 to 4, where float32 has long reached 1; odd in x.
    """
    magnitude = np.minimum(np.abs(x), 4.0)
    near = magnitude + magnitude * _polynomial(ERF_NEAR, magnitude * magnitude)
    far = 1.0 - np.exp(-_polynomial(ERF_FAR, magnitude))
    return np.copysign(np.where(magnitude < 1.0, near, far), x)


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    """Horner's rule; coefficients lowest power first."""
    value = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value = value * x + coefficient
    return value


def gelu(x: Array) -> Array:
    """x * Phi(x) with the exact normal distribution function, x/2 * (1 + erf(x / sqrt(2))).

    x: any shape -> the same shape. Source: Hendrycks and Gimpel 2016, section 2; not its tanh approximation.
    """
    return 0.5 * x * (1.0 + erf(x * math.sqrt(0.5)))


def softmax(x: Array) -> Array:
    """exp(x) / sum(exp(x)) over the last axis, shifted by its maximum so that exp cannot overflow.

    x: (..., n) -> (..., n). -inf counts as excluded and becomes 0; each row needs one finite value.
    """
    exponential = np.exp(x - x.max(axis=-1, keepdims=True))
    return exponential / exponential.sum(axis=-1, keepdims=True)


def layer_norm(x: Array, weight: Array, bias: Array, eps: float = 1e-12) -> Array:
    """Normalise over the last axis: (x - mean) / sqrt(var + eps) * weight + bias.

    x: (..., dim), weight and bias: (dim,) -> (..., dim). var is the biased variance.
    Source: Ba et al. 2016, eq. 4; eps as in the published checkpoint.
    """
    x = x - x.mean(axis=-1, keepdims=True)
    variance = np.mean(x * x, axis=-1, keepdims=True)
    return x / np.sqrt(variance + eps) * weight + bias


def attention(query: Array, key: Array, value: Array, mask: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Scaled dot-product attention: softmax(Q K^T / sqrt(d)) V, over the keys that mask allows.

    query, key, value: (..., sequence, d); mask: (..., 1, sequence), broadcast over heads and queries, True at
    the keys that may be attended to, at least one per row.
    Returns the context (..., sequence, d) and the probabilities (..., sequence, sequence).
    Source: Vaswani et al. 2017, eq. 1.
    """
    scores = query @ key.swapaxes(-1, -2) * (1.0 / math.sqrt(query.shape[-1]))
    probabilities = softmax(np.where(mask, scores, -np.inf))
    return probabilities @ value, probabilities
