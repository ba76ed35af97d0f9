"""Each kernel against its formula, stated in float64."""

import math

import numpy as np
import pytest

from numpy_distilbert.kernels import attention, erf, gelu, layer_norm, linear, softmax

EPS = float(np.finfo(np.float32).eps)
exact_erf = np.vectorize(math.erf, otypes=[np.float64])


def random(*shape, seed=0, scale=1.0):
    return (np.random.RandomState(seed).standard_normal(shape) * scale).astype(np.float32)


def units_in_last_place(ours, exact):
    return np.abs(ours.astype(np.float64) - exact) / np.spacing(np.abs(exact).astype(np.float32))


def test_erf_is_within_two_units_in_the_last_place():
    x = np.concatenate([np.linspace(-6, 6, 200_001), np.logspace(-37, 0, 20_001)]).astype(np.float32)
    assert erf(x).dtype == np.float32
    assert units_in_last_place(erf(x), exact_erf(x)).max() <= 2.0


def test_erf_at_the_ends_of_the_number_line():
    x = np.array([0.0, -0.0, np.inf, -np.inf, 3e38, -3e38, np.nan], dtype=np.float32)
    expected = np.array([0.0, -0.0, 1.0, -1.0, 1.0, -1.0, np.nan], dtype=np.float32)
    np.testing.assert_array_equal(erf(x), expected)
    np.testing.assert_array_equal(np.signbit(erf(x[:2])), [False, True])


def test_erf_never_leaves_its_range():
    x = np.linspace(2, 5, 300_001).astype(np.float32)
    assert erf(x).max() == 1.0


def test_gelu_is_exact_not_the_tanh_approximation():
    x = np.linspace(-12, 12, 100_001).astype(np.float32)
    exact = 0.5 * x.astype(np.float64) * (1.0 + exact_erf(x / math.sqrt(2.0)))
    assert gelu(x).dtype == np.float32
    assert np.abs(gelu(x) - exact).max() <= 4 * EPS  # the tanh form is off by 5e-4


def test_linear():
    x, weight, bias = random(2, 7, 33), random(5, 33, seed=1), random(5, seed=2)
    exact = np.einsum("bsi,oi->bso", x.astype(np.float64), weight.astype(np.float64)) + bias
    assert linear(x, weight, bias).dtype == np.float32
    assert np.abs(linear(x, weight, bias) - exact).max() <= 33 * EPS


def test_softmax_of_large_values_with_exclusions():
    x = random(4, 9, scale=30.0) + np.float32(1000.0)
    x[1, 3:] = -np.inf
    wide = x.astype(np.float64)
    exact = np.exp(wide - wide.max(axis=-1, keepdims=True))
    exact /= exact.sum(axis=-1, keepdims=True)
    assert softmax(x).dtype == np.float32
    np.testing.assert_allclose(softmax(x), exact, rtol=20 * EPS, atol=1e-37)
    assert (softmax(x)[1, 3:] == 0).all()


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_layer_norm(offset):
    x, weight, bias = random(3, 5, 64) + np.float32(offset), random(64, seed=1), random(64, seed=2)
    wide = x.astype(np.float64)
    centred = wide - wide.mean(axis=-1, keepdims=True)
    exact = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12) * weight + bias
    assert layer_norm(x, weight, bias).dtype == np.float32
    assert np.abs(layer_norm(x, weight, bias) - exact).max() <= (8 + 4 * offset) * EPS


def test_layer_norm_adds_epsilon_to_the_variance():
    x = np.array([[1e-6, -1e-6]], dtype=np.float32)  # the variance is 1e-12, as is epsilon
    np.testing.assert_allclose(
        layer_norm(x, np.ones(2, np.float32), np.zeros(2, np.float32)), [[0.5**0.5, -(0.5**0.5)]], rtol=1e-5
    )


def test_attention_is_the_loop_over_heads_queries_and_allowed_keys():
    query, key, value = (random(2, 3, 6, 4, seed=seed) for seed in range(3))
    mask = np.array([[1, 1, 1, 1, 1, 1], [0, 1, 0, 0, 1, 1]], dtype=bool)
    context, probabilities = attention(query, key, value, mask[:, None, None, :])
    assert context.dtype == probabilities.dtype == np.float32
    for b, h, i in np.ndindex(2, 3, 6):
        scores = {j: query[b, h, i].astype(np.float64) @ key[b, h, j] / math.sqrt(4) for j in np.flatnonzero(mask[b])}
        total = sum(math.exp(s) for s in scores.values())
        exact = np.array([math.exp(scores[j]) / total if j in scores else 0.0 for j in range(6)])
        np.testing.assert_allclose(probabilities[b, h, i], exact, atol=4 * EPS)
        np.testing.assert_allclose(context[b, h, i], exact @ value[b, h], atol=16 * EPS)


def test_softmax_of_rows_far_apart():
    x = np.array([[0.0, 1.0], [1000.0, 1001.0]], np.float32)
    np.testing.assert_allclose(softmax(x)[0], softmax(x)[1])


def test_kernels_leave_their_inputs_alone():
    x = random(2, 3, 4)
    x.flags.writeable = False
    weight, bias, mask = random(4, 4), random(4), np.ones((2, 1, 3), dtype=bool)
    for result in (linear(x, weight, bias), gelu(x), softmax(x), layer_norm(x, bias, bias), *attention(x, x, x, mask)):
        assert result.flags.writeable and not np.shares_memory(result, x)
