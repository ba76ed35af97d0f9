"""Ideas for a faster forward pass, each alone against the code as it is.

    python benchmarks/ideas.py [--ideas NAME ...] [--cases "1 x 384" ...] [--rounds 15]

Each idea has a process of its own, which replaces functions of the package, and checks that the logits stay the same.
In each round all of them and the code as it is take turns, in random order, on a random checkpoint of the published
shape, as in benchmarks/forward.py. The ratios are medians over the rounds of the time with the idea divided by the time
without it in the same round, with their quartiles in brackets: if these lie on both sides of 1, the ratio says nothing.
Some will have both on one side by chance alone. docs/measurements.md has the results.
"""

import argparse
import math
import statistics
import tempfile
import threading
from collections import defaultdict
from dataclasses import replace
from functools import partial
from pathlib import Path

import forward
import numpy as np

from numpy_distilbert import DistilBertForQuestionAnswering, encoder, kernels, model
from numpy_distilbert.encoder import Activations, Workspace
from numpy_distilbert.parameters import Affine, Layer
from numpy_distilbert.runtime import products
from numpy_distilbert.runtime.workspace import Arena, Pack

Model = DistilBertForQuestionAnswering
D = 64  # the width of a head in the published shape
SCALE = D**-0.5
COLUMNS = 64  # of a block of a layer norm: with 768 rows of float32, 196 kB
QUESTION = 12  # columns before the context; of these only [CLS] needs logits
CDF_RANGE = 5.2  # further out, the normal distribution function is within 1e-7 of 0 or 1
SAME = 1e-4  # of the largest logit: how far the logits may be from those without the idea


def no_key_bias(_: Model) -> None:
    """Leave the key's bias out, which adds the same to all scores of a query."""
    linear = encoder.linear

    def without(x, weight, bias, out=None, sum_length=None):
        if sum_length is not None:
            return linear(x, weight, bias, out, sum_length)
        products.weight_product(weight, x, None, out)
        heads = out.reshape(-1, 3, D, x.shape[1])
        heads[:, ::2] += bias.reshape(-1, 3, D, 1)[:, ::2]
        return out

    encoder.linear = without


def attention(query, key, value, out=None, *_, scale=1.0):
    """kernels.attention(), with the scores multiplied by scale after their maximum is subtracted, and not the query."""
    odds = products.product(key.swapaxes(-1, -2), query)
    odds -= odds.max(axis=-2, keepdims=True)
    if scale != 1.0:
        odds *= scale
    np.exp(odds, out=odds)
    total = np.ones((1, odds.shape[-2]), odds.dtype) @ odds
    return np.divide(products.product(value, odds, products.SHORT_SUM_LENGTH), total, out=out)


def scale_in_weights(loaded: Model) -> None:
    """Multiply the query's weights by 1 / sqrt(d) once, at load."""

    def scaled(layer: Layer) -> Layer:
        qkv = Affine(*(part.copy() for part in layer.attention.qkv))
        for part in qkv:
            part.reshape(loaded.config.n_heads, 3, -1)[:, 0] *= SCALE
        return layer._replace(attention=layer.attention._replace(qkv=qkv))

    loaded.parameters = loaded.parameters._replace(layers=tuple(map(scaled, loaded.parameters.layers)))
    encoder.attention = attention


def scale_in_exp(_: Model) -> None:
    """Subtract the maximum and multiply by 1 / sqrt(d) where exp begins, not in the query."""
    encoder.attention = partial(attention, scale=SCALE)


def last_layer_for_context(loaded: Model) -> None:
    """In the last layer, compute what follows attention for [CLS] and the context only."""
    encoder_layer, linear = encoder.encoder_layer, encoder._linear
    last = loaded.parameters.layers[-1]
    arenas: dict[int, Arena] = defaultdict(lambda: Arena(loaded.dtype))  # of threads

    def last_layer(x, layer: Layer, work: Workspace) -> Activations:
        if layer is not last:
            return encoder_layer(x, layer, work)
        a, inputs = work.activations(x), work.pack.inputs
        encoder.self_attention(a, layer.attention, work)
        kept = np.concatenate([np.r_[columns.start, columns.start + QUESTION : columns.stop] for columns in inputs])
        pack = Pack(tuple(places[kept] for places in work.pack.tokens), [slice(0, len(kept))])
        few = replace(work, pack=pack, arena=arenas[threading.get_ident()])
        b = few.activations(np.ascontiguousarray(x[:, kept]))
        context = np.ascontiguousarray(a.context.reshape(-1, x.shape[1])[:, kept])
        linear(context, layer.attention.out_lin, b.out_lin, few, products.SHORT_SUM_LENGTH)
        np.add(b.x, b.out_lin, out=b.attended)
        kernels.layer_norm(b.attended, *layer.sa_layer_norm, out=b.middle)
        encoder.feed_forward(b, layer.ffn, few)
        np.add(b.middle, b.lin2, out=b.output)
        a.result[:, kept] = kernels.layer_norm(b.output, *layer.output_layer_norm, out=b.result)
        return a

    def linear_before_it(x, layer, *others):
        if layer is not last.attention.out_lin:
            linear(x, layer, *others)

    model.encoder_layer, encoder._linear = last_layer, linear_before_it


def one_product_for_windows(_: Model) -> None:
    """Attend within all inputs of a pack at once if they have one length."""

    def self_attention(a: Activations, layer, work: Workspace) -> None:
        n_heads, _, d, n_tokens = a.qkv.shape
        length = work.pack.inputs[0].stop
        if any(columns.stop - columns.start != length for columns in work.pack.inputs):
            return one_by_one(a, layer, work)

        def attend(heads: slice) -> None:
            rows = slice(heads.start * 3 * d, heads.stop * 3 * d)
            encoder.linear(a.x, *layer.qkv.rows(rows), out=a.qkv[heads].reshape(-1, n_tokens))
            of_inputs = a.qkv[heads].reshape(-1, 3, d, n_tokens // length, length).transpose(1, 0, 3, 2, 4)
            context = a.context[heads].reshape(-1, d, n_tokens // length, length).transpose(0, 2, 1, 3)
            at_once = max(1, products.SCORES_BLOCK // (length**2 * of_inputs.shape[2]))
            for first in range(0, heads.stop - heads.start, at_once):
                block = slice(first, first + at_once)
                kernels.attention(*of_inputs[:, block], context[block])

        work.team.split(n_heads, attend)
        encoder._linear(a.context.reshape(-1, n_tokens), layer.out_lin, a.out_lin, work, products.SHORT_SUM_LENGTH)

    one_by_one, encoder.self_attention = encoder.self_attention, self_attention


def rational_gelu(_: Model) -> None:
    """The normal distribution function by x P(x^2) / Q(x^2) with degrees 4 and 5, fitted here, instead of a tanh."""
    x = CDF_RANGE * (0.5 - 0.5 * np.cos(np.pi * (np.arange(3000) + 0.5) / 3000))
    half_erf = np.array([math.erf(v / math.sqrt(2)) / 2 for v in x])
    powers, q, weights = np.vander((x / CDF_RANGE) ** 2, 6, increasing=True), np.ones_like(x), np.ones_like(x)
    for _ in range(60):  # least squares of P - f Q, weighted until the error is about level
        columns = np.hstack([x[:, None] * powers[:, :5], -half_erf[:, None] * powers[:, 1:]])
        row = np.sqrt(weights) / q
        fitted = np.linalg.lstsq(columns * row[:, None], half_erf * row, rcond=None)[0]
        q = 1 + powers[:, 1:] @ fitted[5:]
        error = np.abs(x * (powers[:, :5] @ fitted[:5]) / q - half_erf)
        weights *= error / error.max() + 1e-3
    scale = CDF_RANGE ** (2.0 * np.arange(6))
    numerator, denominator = fitted[:5] / scale[:5], np.array([1.0, *fitted[5:]]) / scale

    def horner(square, coefficients):
        total = square * float(coefficients[-1])
        for coefficient in coefficients[-2:0:-1].tolist():
            total += coefficient
            total *= square
        total += float(coefficients[0])
        return total

    def normal_cdf(x):
        near = np.clip(x, -CDF_RANGE, CDF_RANGE)
        square = near * near
        cdf = horner(square, numerator)
        cdf *= near
        cdf /= horner(square, denominator)
        cdf += 0.5
        return cdf

    kernels.normal_cdf = normal_cdf


def shared_layer_norm(_: Model) -> None:
    """Add and normalise by blocks of columns that stay in the cache, each thread its own, with one barrier."""

    def encoder_layer(x, layer: Layer, work: Workspace) -> Activations:
        a = work.activations(x)

        def add_and_normalise(x, added, summed, parameters, out) -> None:
            def columns(share: slice) -> None:
                for first in range(share.start, share.stop, COLUMNS):
                    block = np.s_[:, first : min(first + COLUMNS, share.stop)]
                    np.add(x[block], added[block], out=summed[block])
                    kernels.layer_norm(summed[block], *parameters, out=out[block])

            work.team.split(x.shape[1], columns)

        encoder.self_attention(a, layer.attention, work)
        add_and_normalise(x, a.out_lin, a.attended, layer.sa_layer_norm, a.middle)
        encoder.feed_forward(a, layer.ffn, work)
        add_and_normalise(a.middle, a.lin2, a.output, layer.output_layer_norm, a.result)
        return a

    model.encoder_layer = encoder_layer


def prepared_weights(_: Model) -> None:
    """Keep a transposed copy of each weight, in the order that products read it in, for up to 128 tokens."""
    copies: dict[tuple, np.ndarray] = {}
    plain = kernels.weight_product

    def weight_product(weight, x, sum_length=None, out=None):
        if x.shape[1] > 128:
            return plain(weight, x, sum_length, out)
        key = weight.ctypes.data, weight.shape
        if key not in copies:
            copies[key] = np.ascontiguousarray(weight.T)
        length = sum_length or len(x)
        transposed = copies[key]
        out = np.matmul(transposed[:length].T, x[:length], out=out)
        for start in range(length, len(x), length):
            out += transposed[start : start + length].T @ x[start : start + length]
        return out

    kernels.weight_product = weight_product


def two_steps(_: Model) -> None:
    """Two barriers in a layer instead of four: each thread multiplies what it has by its columns of the next weight."""

    def shares(count: int, threads: int) -> list[slice]:
        return [slice(count * i // threads, count * (i + 1) // threads) for i in range(threads)]

    def encoder_layer(x, layer: Layer, work: Workspace) -> Activations:
        a, team = work.activations(x), work.team
        n_heads, _, d, n_tokens = a.qkv.shape
        heads, units = shares(n_heads, team.n_threads), shares(len(a.lin1), team.n_threads)
        projected, mapped, middles = ([None] * team.n_threads for _ in range(3))

        def attend(thread: int) -> None:
            of = heads[thread]
            rows, columns = (slice(of.start * n * d, of.stop * n * d) for n in (3, 1))
            encoder.linear(x, *layer.attention.qkv.rows(rows), out=a.qkv[of].reshape(-1, n_tokens))
            for place in work.pack.inputs:
                at_once = max(1, products.SCORES_BLOCK // (place.stop - place.start) ** 2)
                for first in range(of.start, of.stop, at_once):
                    block = slice(first, min(first + at_once, of.stop))
                    kernels.attention(*a.qkv[block, :, :, place].swapaxes(0, 1), a.context[block, :, place])
            weight = layer.attention.out_lin.weight[:, columns]
            projected[thread] = products.product(weight, a.context[of].reshape(-1, n_tokens), products.SHORT_SUM_LENGTH)

        def feed(thread: int) -> None:
            middle = x + sum(projected[1:], projected[0] + layer.attention.out_lin.bias[:, None])
            middles[thread] = kernels.layer_norm(middle, *layer.sa_layer_norm, out=middle)
            hidden = a.lin1[units[thread]]
            encoder.linear(middle, *layer.ffn.lin1.rows(units[thread]), out=hidden, sum_length=products.SUM_LENGTH)
            kernels.gelu(hidden, out=hidden)
            mapped[thread] = products.product(layer.ffn.lin2.weight[:, units[thread]], hidden, products.SUM_LENGTH)

        team.run(attend, range(team.n_threads))
        team.run(feed, range(team.n_threads))
        np.add(middles[0], sum(mapped[1:], mapped[0] + layer.ffn.lin2.bias[:, None]), out=a.output)
        kernels.layer_norm(a.output, *layer.output_layer_norm, out=a.result)
        return a

    model.encoder_layer = encoder_layer


IDEAS = {
    idea.__name__.replace("_", "-"): idea
    for idea in (
        no_key_bias,
        scale_in_weights,
        scale_in_exp,
        last_layer_for_context,
        one_product_for_windows,
        rational_gelu,
        shared_layer_norm,
        prepared_weights,
        two_steps,
    )
}


def with_idea(name: str, folder: Path, cores: int) -> Model:
    """The model with an idea. Raises SystemExit if its logits are not the same."""
    loaded = forward.ours(folder, cores)
    batches = [forward.random_batch(lengths) for lengths in forward.CASES.values()]

    def outputs() -> list[np.ndarray]:
        return [np.array([out.start_logits, out.end_logits]) for out in (loaded(*batch) for batch in batches)]

    expected = outputs()
    IDEAS[name](loaded)
    for now, logits in zip(outputs(), expected, strict=True):
        difference = np.abs(now - logits)
        if IDEAS[name] is last_layer_for_context:
            difference[..., 1:QUESTION] = 0
        if not difference.max() <= SAME * np.abs(logits).max():  # nor NaN
            raise SystemExit(f"{name} changes the logits.")
    return loaded


def race(folder: Path, names: list[str], cores: int, cases: list[str], rounds: int) -> None:
    contenders = {name: forward.Contender(name, folder, cores, __file__) for name in ("ours", *names)}
    print(f"{cores} core{'s' * (cores > 1)}, {rounds} rounds; time with the idea divided by time without it")
    print(f"{'':24}" + "".join(f"{case:>21}" for case in cases))
    ratios: dict[str, list[str]] = {name: [] for name in names}
    for case in cases:
        seconds = forward.take_turns(contenders, forward.CASES[case], rounds)
        for name in names:
            low, middle, high = statistics.quantiles((s[name] / s["ours"] for s in seconds), n=4)
            ratios[name].append(f"{middle:.3f} ({low:.3f}-{high:.3f})")
    for name in names:
        print(f"{name:24}" + "".join(f"{ratio:>21}" for ratio in ratios[name]), flush=True)
    for contender in contenders.values():
        contender.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ideas", nargs="+", choices=IDEAS, default=list(IDEAS))
    parser.add_argument("--rounds", type=int, default=15)
    cases = [case for case in forward.CASES if not case.startswith("ragged")]
    parser.add_argument("--cases", nargs="+", choices=forward.CASES, default=cases)
    parser.add_argument("--contender", choices=["ours", *IDEAS], help=argparse.SUPPRESS)
    parser.add_argument("--cores", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        return forward.serve(arguments.contender, arguments.model, arguments.cores)
    with tempfile.TemporaryDirectory() as temporary:
        folder = forward.write_checkpoint(Path(temporary), "published")
        for cores in sorted({forward.cores_of_this_process(), 1}, reverse=True):
            race(folder, arguments.ideas, cores, arguments.cases, arguments.rounds)


forward.CONTENDERS |= {name: partial(with_idea, name) for name in IDEAS}

if __name__ == "__main__":
    main()
