"""The model on one page computes what the model does."""

import numpy as np

from numpy_distilbert import Checkpoint

QUESTION, CONTEXT = "Who kept the log?", "The tower is old. Maren Holt kept its log."


def test_its_logits_are_those_of_the_model(embedded, one_page):
    weights = {name: tensor.astype(np.float32) for name, tensor in Checkpoint().weights().items()}
    ids = np.array(embedded.tokenizer(QUESTION, CONTEXT).ids)
    output = embedded.model(ids[None])
    for ours, theirs in zip(
        one_page["question_answering_logits"](ids, weights), (output.start_logits[0], output.end_logits[0]), strict=True
    ):
        assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()


def test_its_answer_is_that_of_the_package(embedded, one_page):
    assert one_page["main"](QUESTION, CONTEXT) == embedded(QUESTION, CONTEXT)["answer"]


def test_a_span_ends_where_it_starts_or_later_and_is_not_too_long(one_page):
    logits = np.zeros((2, 60))
    logits[0, 10] = logits[1, 5] = logits[1, 40] = 9
    logits[1, 24] = 3
    assert one_page["best_span"](logits, 0, 60).tolist() == [10, 24]
