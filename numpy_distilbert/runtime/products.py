"""The matrix products of the forward pass, made of products that BLAS is fast at and that round little."""

import math
from collections.abc import Iterator

import numpy as np

from ..arguments import Array

# Chosen for OpenBLAS; another library loses nothing by them.
UNCOPIED_PRODUCT = 10**6  # multiplications up to which it does not copy its operands first
UNCOPIED_ROWS = 16  # of a weight per product; with fewer, a BLAS that copies after all would lose too much
UNCOPIED_TOKENS = 80  # with more, copying the weights pays off
UNCOPIED_DEPTH = 192  # the deepest sum of such a product
SUM_LENGTH = 512  # terms added up before their sum is rounded into the total; OpenBLAS splits 512 into two sums of 256
SHORT_SUM_LENGTH = 96  # the same where errors count most
CACHE_BLOCK = 2**16  # elements: three such arrays of float32 fit the second-level cache of a core
SCORES_BLOCK = 2**18  # the same for the attention scores of several heads: there, smaller blocks cost more in calls


def weight_product(weight: Array, x: Array, sum_length: int | None = None, out: Array | None = None) -> Array:
    """weight @ x, as a sum of products of depth sum_length if that is given.

    weight: (rows, depth) and out: (rows, tokens), contiguous; x: (depth, tokens).
    """
    (rows, depth), tokens = weight.shape, x.shape[1]
    pieces = 1 if depth % UNCOPIED_DEPTH else depth // UNCOPIED_DEPTH
    uncopied_rows = math.gcd(rows, 2 ** int(math.log2(max(1, UNCOPIED_PRODUCT * pieces // (depth * tokens)))))
    if tokens > UNCOPIED_TOKENS or uncopied_rows < UNCOPIED_ROWS:
        return product(weight, x, sum_length, out)
    blocks = weight.reshape(-1, uncopied_rows, pieces, depth // pieces).transpose(2, 0, 1, 3)
    partial = blocks @ x.reshape(pieces, 1, depth // pieces, tokens)
    summed: Array = np.add.reduce(partial.reshape(pieces, rows, tokens), axis=0, out=out)
    return summed


def product(a: Array, b: Array, sum_length: int | None = None, out: Array | None = None) -> Array:
    """a @ b, as a sum of products of that depth. a: (..., rows, depth), b: (..., depth, columns)."""
    length = sum_length or a.shape[-1]
    out = np.matmul(a[..., :length], b[..., :length, :], out=out)
    for start in range(length, a.shape[-1], length):
        out += a[..., start : start + length] @ b[..., start : start + length, :]
    return out


def cache_blocks(x: Array) -> Iterator[slice]:
    """Slices of the first axis of x, each of about CACHE_BLOCK elements."""
    step = max(1, CACHE_BLOCK * len(x) // x.size)
    return (slice(start, start + step) for start in range(0, len(x), step))
