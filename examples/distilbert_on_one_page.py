"""DistilBERT on one page: from a question to its answer, with NumPy and the package's tokenizer.

    python examples/distilbert_on_one_page.py "Who kept the log?" "The tower is old. Maren Holt kept its log."

Every function is a block of the paper, and every line ends with the shape of its result. Features are rows and tokens
are columns. w holds the checkpoint's tensors by their published names; n is the number of tokens, at most 512. The
package computes the same in kernels.py and encoder.py, faster and for many texts at once.
Source: Vaswani et al. 2017; Devlin et al. 2018; Sanh et al. 2019.
"""

import math
import sys

import numpy as np

from numpy_distilbert import Checkpoint, Tokenizer

LAYERS, HEADS = 6, 12
LONGEST = 15  # tokens of an answer
erf = np.vectorize(math.erf, otypes=[float])


def linear(x, w, name):
    weight, bias = w[f"{name}.weight"], w[f"{name}.bias"]  # (out, in), (out,)
    return weight @ x + bias[:, None]  # (out, n)


def layer_norm(x, w, name):
    centred = x - x.mean(axis=0)  # (dim, n)
    normal = centred / np.sqrt((centred**2).mean(axis=0) + 1e-12)  # (dim, n)
    return normal * w[f"{name}.weight"][:, None] + w[f"{name}.bias"][:, None]  # (dim, n)


def softmax(x, axis):
    odds = np.exp(x - x.max(axis=axis, keepdims=True))  # the shape of x
    return odds / odds.sum(axis=axis, keepdims=True)  # the shape of x


def gelu(x):
    return x / 2 * (1 + erf(x / math.sqrt(2)))  # the shape of x


def embed(ids, w):
    words = w["distilbert.embeddings.word_embeddings.weight"][ids].T  # (dim, n)
    positions = w["distilbert.embeddings.position_embeddings.weight"][: len(ids)].T  # (dim, n)
    return layer_norm(words + positions, w, "distilbert.embeddings.LayerNorm")  # (dim, n)


def split_heads(x):
    return x.reshape(HEADS, -1, x.shape[1])  # (heads, d, n)


def attention_scores(q, k):
    return k.swapaxes(1, 2) @ q / math.sqrt(q.shape[1])  # (heads, keys, queries)


def self_attention(x, w, name):
    q, k, v = (split_heads(linear(x, w, f"{name}.{part}_lin")) for part in "qkv")  # (heads, d, n) each
    probabilities = softmax(attention_scores(q, k), axis=1)  # (heads, keys, queries)
    context = (v @ probabilities).reshape(x.shape)  # (dim, n)
    return linear(context, w, f"{name}.out_lin")  # (dim, n)


def feed_forward(x, w, name):
    hidden = gelu(linear(x, w, f"{name}.lin1"))  # (4 dim, n)
    return linear(hidden, w, f"{name}.lin2")  # (dim, n)


def encoder_layer(x, w, name):
    x = layer_norm(x + self_attention(x, w, f"{name}.attention"), w, f"{name}.sa_layer_norm")  # (dim, n)
    return layer_norm(x + feed_forward(x, w, f"{name}.ffn"), w, f"{name}.output_layer_norm")  # (dim, n)


def question_answering_logits(ids, w):
    x = embed(ids, w)  # (dim, n)
    for i in range(LAYERS):
        x = encoder_layer(x, w, f"distilbert.transformer.layer.{i}")  # (dim, n)
    return linear(x, w, "qa_outputs")  # (2, n)


def best_span(logits, first, last):
    start, end = softmax(logits[:, first:last], axis=1)  # (n of the context,) each
    scores = np.triu(np.outer(start, end)) - np.triu(np.outer(start, end), LONGEST)  # (start, end)
    return first + np.array(np.unravel_index(scores.argmax(), scores.shape))  # (2,)


def main(question, context):
    encoding, checkpoint = Tokenizer.from_pretrained()(question, context), Checkpoint()
    w = {name: tensor.astype(np.float32) for name, tensor in checkpoint.weights().items()}
    logits = question_answering_logits(np.array(encoding.ids), w)  # (2, n)
    start, end = best_span(logits, encoding.sequence_ids.index(1), len(encoding) - 1)  # without the last [SEP]
    return context[encoding.offsets[start][0] : encoding.offsets[end][1]]


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
