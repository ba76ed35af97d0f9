"""Texts to vectors."""

import numpy as np
import pytest
from properties import given, settings, st

from numpy_distilbert import DistilBertModel, Tokenizer, embed_texts
from numpy_distilbert.checkpoint import hub

TEXTS = ["A storm came in from the north.", "Two boats were lost.", "", "The lamp was lit " * 40]
WITHOUT_PYTORCH = "compares with transformers and PyTorch, which are not installed"


@pytest.fixture(scope="module")
def encoder(random_checkpoint):
    folder = random_checkpoint("cased")  # 96 positions
    return DistilBertModel.from_pretrained(folder), Tokenizer.from_pretrained(folder)


def alone(text, model, tokenizer):
    """The hidden states of one text, cut to the positions of the model."""
    ids = tokenizer(text).ids
    positions = model.config.max_position_embeddings
    return model([ids if len(ids) <= positions else [*ids[: positions - 1], ids[-1]]]).last_hidden_state[0]


@pytest.mark.parametrize("pooling, pooled", [("mean", lambda h: h.mean(axis=0)), ("cls", lambda h: h[0])])
def test_vectors_are_pooled_hidden_states(pooling, pooled, encoder):
    vectors = embed_texts(TEXTS, *encoder, pooling=pooling)
    assert vectors.shape == (4, 64) and vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, [pooled(alone(text, *encoder)) for text in TEXTS], atol=2e-6)


def test_one_text_gives_one_vector(encoder):
    np.testing.assert_array_equal(embed_texts(TEXTS[0], *encoder), embed_texts(TEXTS[:1], *encoder)[0])
    assert embed_texts([], *encoder).shape == (0, 64)
    np.testing.assert_array_equal(embed_texts((text for text in TEXTS), *encoder), embed_texts(TEXTS, *encoder))


def test_normalized_vectors_have_length_one_and_the_same_direction(encoder):
    plain, unit = embed_texts(TEXTS, *encoder), embed_texts(TEXTS, *encoder, normalize=True)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(unit * np.linalg.norm(plain, axis=1, keepdims=True), plain, atol=1e-6)


@settings(max_examples=5)
@given(order=st.permutations(range(70)))
def test_a_text_has_its_vector_wherever_it_stands(order, encoder):
    texts = [f"Boat {i} was lost" + " again" * (i % 9) for i in range(70)]
    expected = embed_texts(texts, *encoder)
    np.testing.assert_allclose(embed_texts([texts[i] for i in order], *encoder), expected[order], atol=2e-6)


def test_float64_vectors(random_checkpoint, encoder):
    model = DistilBertModel.from_pretrained(random_checkpoint("cased"), dtype="float64")
    vectors = embed_texts(TEXTS, model, encoder[1], normalize=True)
    assert vectors.dtype == np.float64
    np.testing.assert_allclose(vectors, embed_texts(TEXTS, *encoder, normalize=True), atol=1e-6)


@pytest.mark.parametrize("arguments, error, message", [
    ({"pooling": "max"}, ValueError, "pooling must be 'mean' or 'cls', got 'max'"),
    ({"normalize": 1}, TypeError, "normalize must be a bool, got int"),
    ({"model": None}, TypeError, "model must be a DistilBertModel of numpy_distilbert, got NoneType"),
    ({"texts": ["a", None]}, TypeError, "text 1 must be a str, got NoneType"),
])  # fmt: skip
def test_bad_arguments_are_named(arguments, error, message, encoder):
    with pytest.raises(error, match=message):
        embed_texts(**{"texts": ["a"], "model": encoder[0], "tokenizer": encoder[1]} | arguments)


@pytest.mark.reference
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_vectors_equal_those_of_transformers(pooling):
    torch = pytest.importorskip("torch", reason=WITHOUT_PYTORCH)
    transformers = pytest.importorskip("transformers", reason=WITHOUT_PYTORCH)
    theirs, tokenizer = (
        transformers.DistilBertModel.from_pretrained(hub.find(), dtype=torch.float32),
        Tokenizer.from_pretrained(),
    )
    texts = TEXTS[:2]
    with torch.no_grad():
        states = [theirs(torch.tensor([tokenizer(text).ids])).last_hidden_state[0].numpy() for text in texts]
    expected = [state.mean(axis=0) if pooling == "mean" else state[0] for state in states]
    np.testing.assert_allclose(
        embed_texts(texts, DistilBertModel.from_pretrained(), tokenizer, pooling), expected, atol=2e-5
    )
