"""Each kernel against its formula, stated in float64. Features are rows and tokens are columns."""

import math
import warnings

import numpy as np
import pytest

from numpy_distilbert.kernels import attention, gelu, layer_norm, linear, softmax
from numpy_distilbert.runtime.products import CACHE_BLOCK

EPS = float(np.finfo(np.float32).eps)
exact_erf = np.vectorize(math.erf, otypes=[np.float64])


def random(*shape, seed=0, scale=1.0):
    return (np.random.RandomState(seed).standard_normal(shape) * scale).astype(np.float32)


def exact_gelu(x):
    return 0.5 * x.astype(np.float64) * (1.0 + exact_erf(x / math.sqrt(2.0)))


def exact_layer_norm(x, weight, bias):
    centred = x.astype(np.float64) - x.astype(np.float64).mean(axis=0)
    return centred / np.sqrt((centred**2).mean(axis=0) + 1e-12) * weight[:, None] + bias[:, None]


def exact_softmax(x, axis):
    exponential = np.exp(x.astype(np.float64) - x.astype(np.float64).max(axis=axis, keepdims=True))
    return exponential / exponential.sum(axis=axis, keepdims=True)


def test_gelu_is_exact_not_the_tanh_approximation():
    x = np.concatenate([np.linspace(-12, 12, 200_001), np.logspace(-37, 0, 20_001)]).astype(np.float32)
    assert gelu(x).dtype == np.float32
    error = np.abs(gelu(x) - exact_gelu(x)) / np.maximum(1, np.abs(x))
    assert error.max() <= 2e-7  # the usual tanh form is off by 5e-4


def test_gelu_far_out_is_x_or_nothing_and_warns_of_nothing():
    x = np.array([6.5, 7.0, 40.0, 5e3, 1e10, 3e38, np.inf], dtype=np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(gelu(x), x)
        np.testing.assert_allclose(gelu(-x[:-1]), np.zeros(6), atol=1e-9)
    assert np.isnan(gelu(np.array([np.nan], np.float32))).all()


@pytest.mark.parametrize("shape", [(1,), (7, 3), (3, CACHE_BLOCK), (5, CACHE_BLOCK // 2 + 1), (CACHE_BLOCK + 1,)])
def test_gelu_of_more_than_one_cache_block(shape):
    x = random(*shape)
    np.testing.assert_allclose(gelu(x), exact_gelu(x), atol=6e-7)


@pytest.mark.parametrize("tokens", [1, 7, 16, 33, 200])
@pytest.mark.parametrize("rows, depth", [(5, 33), (64, 768), (96, 31), (250, 100), (768, 768), (2, 3072)])
def test_linear(rows, depth, tokens):
    x, weight, bias = random(depth, tokens), random(rows, depth, seed=1, scale=depth**-0.5), random(rows, seed=2)
    exact = weight.astype(np.float64) @ x + bias[:, None]
    assert linear(x, weight, bias).dtype == np.float32
    assert np.abs(linear(x, weight, bias) - exact).max() <= depth * EPS


def test_linear_of_columns_that_are_not_contiguous():
    x, weight, bias = random(40, 64), random(32, 64, seed=1), random(32, seed=2)
    np.testing.assert_allclose(linear(x.T, weight, bias), weight.astype(np.float64) @ x.T + bias[:, None], atol=1e-5)


def test_softmax_of_large_values_with_exclusions():
    x = random(4, 9, scale=30.0) + np.float32(1000.0)
    x[1, 3:] = -np.inf
    assert softmax(x).dtype == np.float32
    np.testing.assert_allclose(softmax(x), exact_softmax(x, -1), rtol=20 * EPS, atol=1e-37)
    assert (softmax(x)[1, 3:] == 0).all()


def test_softmax_of_rows_far_apart():
    x = np.array([[0.0, 1.0], [1000.0, 1001.0]], np.float32)
    np.testing.assert_allclose(softmax(x)[0], softmax(x)[1])


@pytest.mark.parametrize("offset", [0.0, 10.0])
def test_layer_norm(offset):
    x, weight, bias = random(64, 15) + np.float32(offset), random(64, seed=1), random(64, seed=2)
    found = layer_norm(x, weight, bias)
    assert found.dtype == np.float32
    mean = len(x) * offset  # EPS: what a sum of so many terms is off by at most, in whatever order a BLAS library adds
    assert (np.abs(found - exact_layer_norm(x, weight, bias)) <= (8 + mean * np.abs(weight[:, None])) * EPS).all()


def test_layer_norm_adds_epsilon_to_the_variance():
    x = np.array([[1e-6], [-1e-6]], dtype=np.float32)  # the variance is 1e-12, as is epsilon
    np.testing.assert_allclose(
        layer_norm(x, np.ones(2, np.float32), np.zeros(2, np.float32)), [[0.5**0.5], [-(0.5**0.5)]], rtol=1e-5
    )


def test_attention_is_the_loop_over_heads_queries_and_keys():
    query, key, value = (random(2, 3, 4, 6, seed=seed) for seed in range(3))
    probabilities = np.empty((2, 3, 6, 6), np.float32)
    context = attention(query, key, value, probabilities=probabilities)
    assert context.dtype == np.float32
    np.testing.assert_array_equal(context, attention(query, key, value))
    for b, h, i in np.ndindex(2, 3, 6):
        scores = [query[b, h, :, i].astype(np.float64) @ key[b, h, :, j] / math.sqrt(4) for j in range(6)]
        exact = np.exp(scores) / np.exp(scores).sum()
        np.testing.assert_allclose(probabilities[b, h, :, i], exact, atol=4 * EPS)
        np.testing.assert_allclose(context[b, h, :, i], value[b, h] @ exact, atol=16 * EPS)


def test_attention_over_more_keys_than_are_summed_at_once():
    query, key, value = (random(2, 16, 500, seed=seed) for seed in range(3))
    scores = np.einsum("hdj,hdi->hji", key.astype(np.float64), query) / 4
    exact = np.einsum("hdj,hji->hdi", value, exact_softmax(scores, 1))
    np.testing.assert_allclose(attention(query, key, value), exact, atol=16 * EPS)


KERNELS = {
    "linear": lambda x, out: linear(x, random(4, 4, seed=1), random(4, seed=2), out=out),
    "gelu": lambda x, out: gelu(x, out=out),
    "layer_norm": lambda x, out: layer_norm(x, random(4, seed=1), random(4, seed=2), out=out),
    "attention": lambda x, out: attention(x, random(4, 5, seed=1), random(4, 5, seed=2), out=out),
}


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_leave_their_inputs_alone(name):
    x = random(4, 5)
    x.flags.writeable = False
    result = KERNELS[name](x, None)
    assert result.flags.writeable and not np.shares_memory(result, x)


def test_softmax_leaves_its_input_alone():
    x = random(4, 5)
    x.flags.writeable = False
    assert not np.shares_memory(softmax(x), x)


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_write_to_out_what_they_return(name):
    x, out = random(4, 5), np.full((4, 5), np.nan, np.float32)
    assert KERNELS[name](x, out) is out
    np.testing.assert_array_equal(out, KERNELS[name](x, None))


@pytest.mark.parametrize("name", ["gelu", "layer_norm"])
def test_kernels_that_may_write_over_their_input(name):
    x = random(4, 5)
    expected = KERNELS[name](x, None)
    np.testing.assert_array_equal(KERNELS[name](x, x), expected)
