"""The forward pass against committed output of PyTorch (reference/logits.safetensors), and what it refuses."""

import re

import numpy as np
import pytest
from conftest import REFERENCE
from safetensors.numpy import load_file

from numpy_distilbert import DistilBertForQuestionAnswering, DistilBertModel
from numpy_distilbert.lab.synthetic import SHAPES

TENSORS = load_file(REFERENCE / "logits.safetensors")
TOLERANCE = 2e-5  # of the larger of 1 and the largest value


@pytest.fixture(scope="module", params=[*SHAPES, "embedded"])
def case(request, random_checkpoint, embedded):
    """A model, its reference tensors, and its output for the same batch: padding right and left, holes, one token."""
    name = request.param
    model = (
        embedded.model
        if name == "embedded"
        else DistilBertForQuestionAnswering.from_pretrained(random_checkpoint(name))
    )
    reference = {key.removeprefix(f"{name}."): value for key, value in TENSORS.items() if key.startswith(f"{name}.")}
    output = model(reference["input_ids"], reference["attention_mask"], output_hidden_states=True)
    return model, reference, output


def test_the_published_shape_has_as_many_parameters_as_published(random_checkpoint):
    weights = load_file(random_checkpoint("published") / "model.safetensors")
    assert sum(tensor.size for tensor in weights.values()) == 65_192_450


@pytest.mark.parametrize("name", ["start_logits", "end_logits"])
def test_logits_equal_pytorch(case, name):
    _, reference, output = case
    real = reference["attention_mask"] == 1
    ours, theirs = getattr(output, name), reference[name]
    assert ours.dtype == np.float32 and ours.shape == theirs.shape
    assert np.abs(ours - theirs)[real].max() <= TOLERANCE * max(1, np.abs(theirs[real]).max())


def test_hidden_states_equal_pytorch_after_every_layer(case):
    model, reference, output = case
    assert len(output.hidden_states) == len(reference["hidden_states"]) == model.config.n_layers + 1
    real = reference["attention_mask"][:, reference["positions"]] == 1
    for ours, theirs in zip(output.hidden_states, reference["hidden_states"], strict=True):
        ours = ours[:, reference["positions"]]
        assert np.abs(ours - theirs)[real].max() <= TOLERANCE * max(1, np.abs(theirs[real]).max())


def test_a_row_of_a_batch_equals_the_row_alone_without_its_padding(case):
    model, reference, output = case
    for row, mask in enumerate(reference["attention_mask"]):
        length = mask.argmin() or len(mask)
        if mask[:length].all() and not mask[length:].any():
            alone = model(reference["input_ids"][row : row + 1, :length])
            np.testing.assert_allclose(output.start_logits[row, :length], alone.start_logits[0], rtol=0, atol=TOLERANCE)


def test_what_stands_at_masked_positions_changes_nothing(case):
    model, reference, output = case
    mask = reference["attention_mask"]
    other = np.where(mask == 1, reference["input_ids"], (reference["input_ids"] + 1) % model.config.vocab_size)
    changed = model(other, mask)
    np.testing.assert_array_equal(changed.end_logits[mask == 1], output.end_logits[mask == 1])


@pytest.mark.parametrize("case", ["odd"], indirect=True)
def test_attentions_are_distributions_over_the_unmasked_positions(case):
    model, reference, _ = case
    mask = reference["attention_mask"]
    output = model(reference["input_ids"], mask, output_attentions=True)
    assert output.hidden_states is None and len(output.attentions) == model.config.n_layers
    for probabilities in output.attentions:
        assert probabilities.shape == (len(mask), model.config.n_heads, mask.shape[1], mask.shape[1])
        np.testing.assert_allclose(probabilities.sum(axis=-1).swapaxes(0, 1), [mask] * model.config.n_heads, atol=1e-5)
        assert (probabilities.swapaxes(1, 3)[mask == 0] == 0).all()


@pytest.mark.parametrize("case", ["odd"], indirect=True)
def test_attentions_follow_from_the_hidden_states(case, random_checkpoint):
    model, reference, _ = case
    weights = load_file(random_checkpoint("odd") / "model.safetensors")
    ids, mask = reference["input_ids"], reference["attention_mask"]
    output = model(ids, mask, output_hidden_states=True, output_attentions=True)
    for number, (x, probabilities) in enumerate(zip(output.hidden_states[:-1], output.attentions, strict=True)):
        name = f"distilbert.transformer.layer.{number}.attention"
        query, key = (
            (x @ weights[f"{name}.{part}_lin.weight"].T + weights[f"{name}.{part}_lin.bias"]).reshape(
                *ids.shape, model.config.n_heads, -1
            )
            for part in "qk"
        )
        odds = np.exp(np.einsum("bihd,bjhd->bhij", query, key) / np.sqrt(query.shape[-1]))
        odds *= mask[:, None, :, None] * mask[:, None, None, :]
        total = np.maximum(odds.sum(-1, keepdims=True), 1e-30)
        np.testing.assert_allclose(probabilities, odds / total, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16])
def test_ids_and_masks_of_any_integer_type_are_the_same(dtype, embedded):
    ids = np.array([[101, 204, 102]])
    narrow = embedded.model(ids.astype(dtype), np.ones(ids.shape, dtype))
    np.testing.assert_array_equal(narrow.start_logits, embedded.model(ids).start_logits)


def test_the_encoder_alone_gives_the_last_hidden_state(embedded):
    ids = [[101, 2040, 102], [101, 102, 0]]
    expected = embedded.model(ids, [[1, 1, 1], [1, 1, 0]], output_hidden_states=True).hidden_states[-1]
    output = DistilBertModel.from_pretrained()(ids, [[1, 1, 1], [1, 1, 0]])
    np.testing.assert_array_equal(output.last_hidden_state, expected)
    assert output.hidden_states is None and output.attentions is None


@pytest.mark.parametrize(
    "mask", [[[1, 1, 0]], [[True, True, False]], np.array([[1, 1, 0]], np.int8), np.array([[1, 1, 0]], np.float32)]
)
def test_masks_of_any_number_type_are_the_same(mask, embedded):
    expected = embedded.model([[101, 2040, 102]], [[1, 1, 0]]).start_logits
    np.testing.assert_array_equal(embedded.model([[101, 2040, 102]], mask).start_logits, expected)


@pytest.mark.parametrize("ids, mask, error, message", [
    ([[1, 2], [3]], None, ValueError, "input_ids has rows of different lengths"),
    ([1, 2], None, ValueError, r"input_ids must have shape \(batch, sequence\) with at least one token, got \(2,\)"),
    ([[]], None, ValueError, r"input_ids must have shape .* with at least one token, got \(1, 0\)"),
    (np.zeros((1, 0), int), None, ValueError, r"input_ids must have shape .* got \(1, 0\)"),
    ([[1.0]], None, TypeError, "input_ids must be integers, got dtype float64"),
    ([["a"]], None, TypeError, "input_ids must be integers, got dtype <U1"),
    ([[True]], None, TypeError, "input_ids must be integers, got dtype bool"),
    ([[None]], None, TypeError, "input_ids must be integers, got dtype object"),
    ([[30522]], None, ValueError, "input_ids must lie from 0 to 30521, got values from 30522 to 30522"),
    ([[-1, 5]], None, ValueError, "input_ids must lie from 0 to 30521, got values from -1 to 5"),
    ([[1] * 513], None, ValueError, "input_ids has 513 tokens a row, the model has 512 positions"),
    ([[1, 2]], [[1]], ValueError, r"attention_mask has shape \(1, 1\), input_ids \(1, 2\)"),
    ([[1, 2]], [[1, 2]], ValueError, "attention_mask must hold 0 and 1 only"),
    ([[1, 2]], [["a", "b"]], TypeError, "attention_mask must be numbers, got dtype <U1"),
    ([[1], [2]], [[1], []], ValueError, "attention_mask has rows of different lengths"),
    ([[1], [2]], [[1], [0]], ValueError, "attention_mask row 1 is all zeros"),
])  # fmt: skip
def test_bad_arguments_are_named(ids, mask, error, message, embedded):
    with pytest.raises(error, match=message):
        embedded.model(ids, mask)


@pytest.mark.parametrize("name", ["output_hidden_states", "output_attentions"])
def test_flags_that_are_no_bool_are_named(name, embedded):
    with pytest.raises(TypeError, match=f"{name} must be a bool, got str"):
        embedded.model([[1]], **{name: "no"})


@pytest.mark.parametrize("dtype, error", [
    ("float16", ValueError), (np.int64, ValueError), (None, ValueError), ("bfloat16", TypeError), (7, TypeError),
])  # fmt: skip
def test_a_dtype_that_is_not_computed_in_is_named(dtype, error):
    with pytest.raises(error, match=re.escape(f"dtype must be float32 or float64, got {dtype!r}.")):
        DistilBertForQuestionAnswering.from_pretrained(dtype=dtype)
