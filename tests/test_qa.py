"""Answers against committed answers of the transformers 5.2.0 pipeline (reference/answers.json), and the edges."""

import json

import numpy as np
import pytest
from conftest import REFERENCE
from hypothesis import given, settings
from hypothesis import strategies as st

from numpy_distilbert import CheckpointError, QuestionAnswerer, Tokenizer
from numpy_distilbert.qa import best_spans, span_probabilities

ANSWERS = json.loads((REFERENCE / "answers.json").read_text())
ISLAND = ANSWERS["ISLAND"]


def answer_list(result):
    return result if isinstance(result, list) else [result]


@pytest.mark.parametrize(
    "case", ANSWERS["cases"], ids=lambda case: f"{case['casing']}-{case['question']}-{case['options']}"
)
def test_answers_equal_transformers(case, embedded, cased):
    qa = {"uncased": embedded, "cased": cased}[case["casing"]]
    context = ISLAND if case["context"] == "ISLAND" else case["context"]
    # asked for more answers than there are, 5.2.0 adds a phantom; with handle_impossible_answer it is a real one
    theirs = [a for a in case["answers"] if a["answer"] or case["options"].get("handle_impossible_answer")]
    ours = answer_list(qa(question=case["question"], context=context, **case["options"]))
    assert [(a["answer"], a["start"], a["end"]) for a in ours] == [(a["answer"], a["start"], a["end"]) for a in theirs]
    np.testing.assert_allclose([a["score"] for a in ours], [a["score"] for a in theirs], atol=1e-5)


def test_the_cases_take_one_and_several_windows(embedded):
    question = "Who kept the log of the lighthouse?"
    assert len(embedded.tokenizer.windows(question, "Ada lives in Turin.")) == 1
    assert len(embedded.tokenizer.windows(question, ISLAND)) == 3


def test_one_answer_is_a_dict_and_several_are_a_list(embedded):
    one = embedded("Where?", "Ada lives in Turin.")
    assert {key: type(value) for key, value in one.items()} == {"score": float, "start": int, "end": int, "answer": str}
    several = embedded("Where?", "Ada lives in Turin.", top_k=3)
    assert len(several) == 3 and several[0] == one
    assert [a["score"] for a in several] == sorted((a["score"] for a in several), reverse=True)


def test_there_are_no_more_answers_than_spans(embedded):
    assert [a["answer"] for a in embedded("Who?", "Paris", top_k=5)] == ["Paris"]
    assert sorted(a["answer"] for a in embedded("Who?", "Ada Bo", top_k=50)) == ["Ada", "Ada Bo", "Bo"]


def test_equal_texts_add_up(embedded):
    question, context = "Where does Ada live?", "Ada lives in Turin. Yes, in TURIN."
    spans = embedded(question, context, top_k=100)
    assert [a["answer"] for a in spans if a["answer"].lower() == "turin"] == ["Turin"]
    (window,) = embedded.tokenizer.windows(question, context)
    output = embedded.model([window.ids])
    start, end = (span_probabilities(x[0], window) for x in (output.start_logits, output.end_logits))
    both = [i for i, token in enumerate(window.tokens) if token == "turin"]
    assert len(both) == 2 and spans[0]["score"] == pytest.approx(sum(start[i] * end[i] for i in both), rel=1e-5)


def test_an_answer_has_at_most_max_answer_len_tokens(embedded):
    context = "Ada Bo Cy Di Ed Flo Gus Hal"
    answers = embedded("Who?", context, max_answer_len=2, top_k=100, align_to_words=False)
    assert max(len(embedded.tokenizer(a["answer"]).ids) - 2 for a in answers) == 2


def test_equal_means_in_lower_case_not_case_folded(embedded):
    answers = embedded("Where?", "Straße. STRASSE.", top_k=100)
    assert {"Straße", "STRASSE"} <= {answer["answer"] for answer in answers}


def test_ties_go_to_the_earlier_span(embedded):
    window = embedded.tokenizer("q", "a b c d e f g h")
    start, end = np.resize([0.5, 0.25], len(window)), np.full(len(window), 0.5)
    spans = list(best_spans(start, end, window, max_answer_len=8, count=100))
    assert len(spans) == 36 and spans == sorted(spans, key=lambda span: (-span[0], *span[1:]))


def test_the_empty_answer_scores_its_least_probability_of_any_window(embedded):
    question, scores = "Who kept the log of the lighthouse?", []
    for window in embedded.tokenizer.windows(question, ISLAND):
        output = embedded.model([window.ids])
        start, end = (span_probabilities(x[0], window) for x in (output.start_logits, output.end_logits))
        scores.append(float(start[0] * end[0]))
    assert min(scores) not in (scores[-1], max(scores))
    answers = embedded(question, ISLAND, top_k=5000, max_answer_len=1, handle_impossible_answer=True)
    assert [answer["score"] for answer in answers if not answer["answer"]] == [min(scores)]


def test_model_max_length_limits_the_windows(embedded):
    limited = QuestionAnswerer(embedded.model, Tokenizer(embedded.tokenizer.vocab, model_max_length=40))
    assert limited("Who?", ISLAND) == embedded("Who?", ISLAND, max_seq_len=40)


def test_max_question_len_is_64(embedded):
    question, context = "who kept the log of the lighthouse on the island " * 10, ISLAND[:300]
    assert embedded(question, context) == embedded(question, context, max_question_len=64)
    assert embedded(question, context) != embedded(question, context, max_question_len=63)


def test_a_long_question_is_cut_to_max_question_len(embedded):
    words = "who kept the log of the lighthouse on the island " * 40
    cut = " ".join(words.split()[:5])
    assert embedded(words, ISLAND, max_question_len=5) == embedded(cut, ISLAND)
    assert embedded(words, ISLAND) == embedded(" ".join(words.split()[:64]), ISLAND)


@pytest.mark.parametrize("limits", [
    {"max_seq_len": 10, "doc_stride": 9}, {"max_seq_len": 4}, {"max_seq_len": 70, "doc_stride": 69}, {"max_question_len": 500},
])  # fmt: skip
def test_a_long_question_leaves_room_for_the_context(limits, embedded):
    context = "Maren Holt kept the log of the lighthouse."
    answer = embedded("who kept the log " * 200, context, **limits)
    assert answer["answer"] and context[answer["start"] : answer["end"]] == answer["answer"]


CONTEXTS = {
    "one word": "Paris",
    "one character": ".",
    "punctuation": "?!… --- «»",
    "one endless word": "a" * 200_000,
    "endless spaces": "Ada " + " " * 199_996 + "lives",
    "NUL": "The \0 code \0\0 is 42\0.",
    "lone surrogates": "Ada \ud800 lives in \udfffTurin\udc80",
    "emoji": "I like 👩\u200d👩\u200d👧 and 🏳\ufe0f\u200d🌈 in Turin 🇮🇹",
    "right to left": "تعيش آدا في \u200fتورينو\u200e منذ ١٩٩٩ ، עדה גרה בטורינו",
    "combining": "e\u0301\u0323 " * 50,
    "nothing but control characters": "\0\u200b\ud800\x07",
    "Hangul and CJK": "그녀는 東京에 산다。",
}


@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS.keys())
@pytest.mark.parametrize(
    "options", [{}, {"top_k": 3, "align_to_words": False}, {"max_seq_len": 16, "doc_stride": 4}], ids=str
)
def test_any_context_has_an_answer_that_is_its_text(context, options, embedded):
    answers = answer_list(embedded("Where does Ada live?", context, **options))
    assert answers
    for answer in answers:
        assert context[answer["start"] : answer["end"]] == answer["answer"]
        assert 0 <= answer["score"] <= 1.0001


def test_a_context_of_two_hundred_thousand_characters(embedded):
    words = "international understanding approximately administrative representatives " * (200_000 // 72)
    context = f"{words[:150_000]}. The log was kept by Maren Holt. {words[150_000:]}"
    answer = embedded("Who kept the log?", context, max_seq_len=512, doc_stride=16)
    assert len(context) >= 200_000
    assert context[answer["start"] : answer["end"]] == answer["answer"] == "Maren Holt"


def test_a_context_without_a_token_has_the_empty_answer(embedded):
    empty = {"score": 0.0, "start": 0, "end": 0, "answer": ""}
    assert embedded("Who?", "\0\u200b") == empty
    assert embedded("Who?", "\0\u200b", top_k=2) == [empty]
    (impossible,) = embedded("Who?", "\0\u200b", top_k=2, handle_impossible_answer=True)
    assert impossible == empty | {"score": 1.0}


@given(question=st.text(min_size=1).filter(str.strip), context=st.text(min_size=1).filter(str.strip), data=st.data())
@settings(max_examples=200)
def test_any_question_of_any_context_has_an_answer_that_is_its_text(question, context, data, cased):
    max_seq_len = data.draw(st.integers(4, 96))
    answers = answer_list(cased(
        question, context, top_k=data.draw(st.integers(1, 5)), max_seq_len=max_seq_len,
        doc_stride=data.draw(st.integers(0, max_seq_len - 1)), max_answer_len=data.draw(st.integers(1, 20)),
        max_question_len=data.draw(st.integers(1, 100)), align_to_words=data.draw(st.booleans()),
        handle_impossible_answer=data.draw(st.booleans()),
    ))  # fmt: skip
    assert answers and all(context[a["start"] : a["end"]] == a["answer"] for a in answers)


@pytest.mark.parametrize("arguments, error, message", [
    ({"question": ""}, ValueError, "question must not be blank, got ''"),
    ({"question": " \t\u3000"}, ValueError, "question must not be blank"),
    ({"question": None}, TypeError, "question must be a str, got NoneType"),
    ({"question": ["Who?"]}, TypeError, "question must be a str, got list"),
    ({"context": ""}, ValueError, "context must not be blank"),
    ({"context": "\n\n"}, ValueError, "context must not be blank"),
    ({"context": b"Ada"}, TypeError, "context must be a str, got bytes"),
    ({"top_k": 0}, ValueError, "top_k must be at least 1, got 0"),
    ({"top_k": -3}, ValueError, "top_k must be at least 1, got -3"),
    ({"top_k": 1.0}, TypeError, "top_k must be an int, got float"),
    ({"top_k": True}, TypeError, "top_k must be an int, got bool"),
    ({"max_answer_len": 0}, ValueError, "max_answer_len must be at least 1, got 0"),
    ({"max_answer_len": "15"}, TypeError, "max_answer_len must be an int, got str"),
    ({"max_question_len": 0}, ValueError, "max_question_len must be at least 1, got 0"),
    ({"max_seq_len": 513}, ValueError, "max_seq_len must be at most 512, the positions of the model, got 513"),
    ({"max_seq_len": 3}, ValueError, "max_seq_len must be at least 4, got 3"),
    ({"doc_stride": 384}, ValueError, r"doc_stride must be less than max_seq_len \(384\), got 384"),
    ({"doc_stride": 50, "max_seq_len": 50}, ValueError, r"doc_stride must be less than max_seq_len \(50\), got 50"),
    ({"doc_stride": -1}, ValueError, "doc_stride must be at least 0, got -1"),
    ({"doc_stride": 0.5}, TypeError, "doc_stride must be an int, got float"),
    ({"align_to_words": "no"}, TypeError, "align_to_words must be a bool, got str"),
    ({"handle_impossible_answer": 1}, TypeError, "handle_impossible_answer must be a bool, got int"),
])  # fmt: skip
def test_bad_arguments_are_named(arguments, error, message, embedded):
    with pytest.raises(error, match=message):
        embedded(**{"question": "Who?", "context": "Ada."} | arguments)


def test_added_tokens_that_the_model_has_no_embedding_for_are_refused(embedded):
    tokenizer = Tokenizer(embedded.tokenizer.vocab, added_tokens={"<hi>": 30522})
    with pytest.raises(CheckpointError, match="up to id 30522, the model's vocab_size is 30522"):
        QuestionAnswerer(embedded.model, tokenizer)


@pytest.mark.parametrize("name", ["question", "context"])
def test_missing_arguments_are_named(name, embedded):
    with pytest.raises(TypeError, match=f"'{name}'"):
        embedded(**{key: "Ada" for key in ("question", "context") if key != name})


def test_numpy_integers_are_integers_however_narrow(embedded):
    options = {"top_k": 123, "max_seq_len": 60, "doc_stride": 20, "max_answer_len": 9, "max_question_len": 7}
    narrow = {name: np.uint8(value) for name, value in options.items()}
    assert embedded("Who kept the log?", ISLAND, **narrow) == embedded("Who kept the log?", ISLAND, **options)


def test_the_default_window_fits_a_model_with_fewer_positions(cased):
    assert cased.model.config.max_position_embeddings == 96
    assert cased("Who?", ISLAND)["answer"]
