"""Texts to vectors, for search and clustering: the hidden states of the last layer, pooled."""

from collections.abc import Iterable

import numpy as np

from .arguments import Array, check_bool, check_text, check_type
from .model import DistilBertModel, pad
from .tokenizer import Tokenizer

BATCH_TEXTS = 32


def embed_texts(
    texts: str | Iterable[str],
    model: DistilBertModel,
    tokenizer: Tokenizer,
    pooling: str = "mean",
    normalize: bool = False,
) -> Array:
    """One vector for each text.

    pooling: "mean" of the vectors of all tokens, [CLS] and [SEP] included (Reimers and Gurevych 2019, section 3), or
    "cls", that of the first; normalize: to length 1, so that the product of two is their cosine. A text with more
    tokens than the model has positions is cut to fit. Returns (texts, dim) in the model's dtype; for a single str
    (dim,). Raises TypeError for what is not text or bool, ValueError for another pooling.
    """
    if pooling not in ("mean", "cls"):
        raise ValueError(f"pooling must be 'mean' or 'cls', got {pooling!r}.")
    check_bool("normalize", normalize)
    check_type("model", model, DistilBertModel)
    check_type("tokenizer", tokenizer, Tokenizer)
    if isinstance(texts, str):
        vector: Array = embed_texts([texts], model, tokenizer, pooling, normalize)[0]
        return vector
    texts = list(texts)
    for i, text in enumerate(texts):
        check_text(f"text {i}", text)
    vectors = np.zeros((len(texts), model.config.dim), model.dtype)
    limit = model.config.max_position_embeddings
    for first in range(0, len(texts), BATCH_TEXTS):
        rows = [tokenizer(text).ids for text in texts[first : first + BATCH_TEXTS]]
        ids, mask = pad([row if len(row) <= limit else [*row[: limit - 1], row[-1]] for row in rows])  # [SEP] stays
        hidden = model(ids, mask).last_hidden_state  # 0 where the mask is 0
        pooled = hidden[:, 0] if pooling == "cls" else hidden.sum(axis=1) / mask.sum(axis=1, keepdims=True)
        vectors[first : first + len(rows)] = pooled
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if normalize else vectors
