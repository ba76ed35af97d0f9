"""Each kernel in float64 against its formula, stated with fifty digits."""

import numpy as np
import pytest

from numpy_distilbert.kernels import attention, erf, gelu, layer_norm, linear, softmax

mpmath = pytest.importorskip("mpmath", reason="needs the extra 'test'")


def within(found, exact, limit=1e-14):
    """found is float64, and that close to numbers of 50 digits, as a share of those above 1."""
    assert found.dtype == np.float64 and found.shape == np.shape(exact)
    for a, b in zip(found.ravel(), np.ravel(exact), strict=True):
        assert abs(mpmath.mpf(float(a)) - b) <= limit * max(1, abs(b)), (float(a), b)


def precise(array):
    """The same numbers with 50 digits."""
    return np.vectorize(lambda value: mpmath.mpf(float(value)), otypes=[object])(array)


def random64(*shape, seed=0):
    return np.random.RandomState(seed).standard_normal(shape)


@pytest.fixture(autouse=True, scope="module")
def fifty_digits():
    with mpmath.workdps(50):
        yield


EVERYWHERE = np.concatenate([np.linspace(-9, 9, 1501), np.logspace(-300, 0, 200), [0.0, -0.0, 40.0, -1e300]])
exp, sqrt = (np.vectorize(function, otypes=[object]) for function in (mpmath.exp, mpmath.sqrt))


def test_erf_in_float64():
    within(erf(EVERYWHERE), [mpmath.erf(mpmath.mpf(float(x))) for x in EVERYWHERE], 3e-15)
    small = np.logspace(-300, 0, 200)
    np.testing.assert_allclose(erf(small), [float(mpmath.erf(mpmath.mpf(float(x)))) for x in small], rtol=3e-15)
    assert erf(np.empty((0, 3))).shape == (0, 3) and np.isnan(erf(np.array([np.nan, 1.0]))[0])
    np.testing.assert_array_equal(erf(np.array([np.nan, 1.0, 3.0]))[1:], erf(np.array([1.0, 3.0])))
    assert erf(np.array([-40.0, 7.0])).tolist() == [-1, 1] and np.abs(erf(np.linspace(5, 7, 9999))).max() == 1


def test_gelu_in_float64():
    x = EVERYWHERE[:-1]
    assert gelu(np.array([-1e300, -40.0])).tolist() == [0, 0]
    within(gelu(x), [mpmath.mpf(float(v)) * mpmath.ncdf(mpmath.mpf(float(v))) for v in x])
    out = np.array(x)
    assert gelu(out, out=out) is out
    np.testing.assert_array_equal(out, gelu(x))


def test_linear_in_float64():
    x, weight, bias = random64(40, 5), random64(7, 40, seed=1) / 6, random64(7, seed=2)
    within(linear(x, weight, bias), precise(weight) @ precise(x) + precise(bias)[:, None])


def test_softmax_in_float64():
    x = random64(3, 40) * 9
    exponential = exp(precise(x))
    within(softmax(x), exponential / exponential.sum(axis=1, keepdims=True))


def test_layer_norm_in_float64():
    x, weight, bias = random64(40, 5), random64(40, seed=1), random64(40, seed=2)
    centred = precise(x) - precise(x).mean(axis=0)
    norm = centred / sqrt((centred**2).mean(axis=0) + mpmath.mpf("1e-12"))
    within(layer_norm(x, weight, bias), norm * precise(weight)[:, None] + precise(bias)[:, None])


def test_attention_in_float64():
    query, key, value = (random64(16, 30, seed=seed) for seed in range(3))
    odds = exp(precise(key).T @ precise(query) / 4)
    scores, probabilities = np.empty((2, 30, 30))
    context = attention(query, key, value, scores=scores, probabilities=probabilities)
    within(scores, precise(key).T @ precise(query) / 4)
    within(probabilities, odds / odds.sum(axis=0))
    within(context, precise(value) @ (odds / odds.sum(axis=0)))
