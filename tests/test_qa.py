"""Answers against committed answers of the transformers 5.2.0 pipeline (reference/answers.json), and the edges."""

import itertools
import json
import warnings

import numpy as np
import pytest
from conftest import REFERENCE
from properties import given, settings, st

from numpy_distilbert import CheckpointError, QuestionAnswerer, Tokenizer, pipeline
from numpy_distilbert.checkpoint import hub
from numpy_distilbert.inputs import Settings
from numpy_distilbert.qa import BATCH_TOKENS, Search, batches
from numpy_distilbert.spans import span_probabilities

ANSWERS = json.loads((REFERENCE / "answers.json").read_text(encoding="utf-8"))
ISLAND = ANSWERS["ISLAND"]


def answer_list(result):
    return result if isinstance(result, list) else [result]


class Remembering(QuestionAnswerer):
    """Computes the logits of the same windows once: most options only change what becomes of them."""

    def __init__(self, qa):
        super().__init__(qa.model, qa.tokenizer)
        self.known = {}

    def logits(self, windows, batch_size=None):
        asked = tuple(map(tuple, windows))
        if asked not in self.known:
            self.known[asked] = super().logits(windows)
        return self.known[asked]


@pytest.fixture(scope="module")
def answerers(embedded, cased):
    return {"uncased": Remembering(embedded), "cased": Remembering(cased)}


def transformers_cases():
    """All of them; those that take the embedded model long, which are many alike, only now and then by default."""
    for number, case in enumerate(ANSWERS["cases"]):
        name = f"{case['casing']}-{case['question']}-{case['options']}"
        long = case["casing"] == "uncased" and case["context"] == "ISLAND" and "max_seq_len" in case["options"]
        yield pytest.param(case, id=name, marks=[pytest.mark.slow] if long and number % 5 else [])


@pytest.mark.parametrize("case", [*transformers_cases()])
def test_answers_equal_transformers(case, answerers):
    qa = answerers[case["casing"]]
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


def test_the_empty_answer_scores_its_least_probability_of_any_window(embedded):
    question, scores = "Who kept the log of the lighthouse?", []
    for window in embedded.tokenizer.windows(question, ISLAND):
        output = embedded.model([window.ids])
        start, end = (span_probabilities(x[0], window) for x in (output.start_logits, output.end_logits))
        scores.append(float(start[0] * end[0]))
    assert min(scores) not in (scores[-1], max(scores))
    answers = embedded(question, ISLAND, top_k=5000, max_answer_len=1, handle_impossible_answer=True)
    assert [answer["score"] for answer in answers if not answer["answer"]] == pytest.approx([min(scores)], rel=1e-4)


def test_model_max_length_limits_the_windows(embedded):
    limited = QuestionAnswerer(embedded.model, Tokenizer(embedded.tokenizer.vocab, model_max_length=40))
    assert limited("Who?", ISLAND[:500]) == embedded("Who?", ISLAND[:500], max_seq_len=40)


def test_max_question_len_is_64(embedded):
    question, context = "who kept the log of the lighthouse on the island " * 10, ISLAND[:300]
    assert embedded(question, context) == embedded(question, context, max_question_len=64)
    assert embedded(question, context) != embedded(question, context, max_question_len=63)


def test_a_long_question_is_cut_to_max_question_len(embedded):
    words = "who kept the log of the lighthouse on the island " * 40
    cut = " ".join(words.split()[:5])
    context = ISLAND[:300]
    assert embedded(words, context, max_question_len=5) == embedded(cut, context)
    assert embedded(words, context) == embedded(" ".join(words.split()[:64]), context)


@pytest.mark.parametrize(
    "limits",
    [
        {"max_seq_len": 10, "doc_stride": 9},
        {"max_seq_len": 4},
        {"max_seq_len": 70, "doc_stride": 69},
        {"max_question_len": 500},
    ],
)
def test_a_long_question_leaves_room_for_the_context(limits, cased):
    context = "Maren Holt kept the log of the lighthouse."
    answer = cased("who kept the log " * 200, context, **limits)
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


@pytest.mark.parametrize("characters", [20_000, pytest.param(200_000, marks=pytest.mark.slow)])
def test_a_context_of_many_characters(characters, embedded):
    words = "international understanding approximately administrative representatives " * (characters // 72)
    middle = characters * 3 // 4
    context = f"{words[:middle]}. The log was kept by Maren Holt. {words[middle:]}"
    answer = embedded("Who kept the log?", context, max_seq_len=512, doc_stride=16)
    assert len(context) >= characters
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
    answers = answer_list(
        cased(
            question,
            context,
            top_k=data.draw(st.integers(1, 5)),
            max_seq_len=max_seq_len,
            doc_stride=data.draw(st.integers(0, max_seq_len - 1)),
            max_answer_len=data.draw(st.integers(1, 20)),
            max_question_len=data.draw(st.integers(1, 100)),
            align_to_words=data.draw(st.booleans()),
            handle_impossible_answer=data.draw(st.booleans()),
        )
    )
    assert answers and all(context[a["start"] : a["end"]] == a["answer"] for a in answers)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"question": ""}, ValueError, "question must not be blank, got ''"),
        ({"question": " \t\u3000"}, ValueError, "question must not be blank"),
        ({"question": None}, TypeError, "question must be a str, got NoneType"),
        ({"question": 7}, TypeError, "question must be a str, got int"),
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
    ],
)
def test_bad_arguments_are_named(arguments, error, message, embedded):
    with pytest.raises(error, match=message):
        embedded(**{"question": "Who?", "context": "Ada."} | arguments)


def test_added_tokens_that_the_model_has_no_embedding_for_are_refused(embedded):
    tokenizer = Tokenizer(embedded.tokenizer.vocab, added_tokens={"<hi>": 30522})
    with pytest.raises(CheckpointError, match="up to id 30522, the model's vocab_size is 30522"):
        QuestionAnswerer(embedded.model, tokenizer)


@pytest.mark.parametrize("name", ["question", "context"])
def test_missing_arguments_are_named(name, embedded):
    with pytest.raises(TypeError, match=f"{name} must be a str, got NoneType"):
        embedded(**{key: "Ada" for key in ("question", "context") if key != name})


def test_numpy_integers_are_integers_however_narrow(cased):
    options = {"top_k": 123, "max_seq_len": 60, "doc_stride": 20, "max_answer_len": 9, "max_question_len": 7}
    narrow = {name: np.uint8(value) for name, value in options.items()}
    assert cased("Who kept the log?", ISLAND, **narrow) == cased("Who kept the log?", ISLAND, **options)


def test_the_default_window_fits_a_model_with_fewer_positions(cased):
    assert cased.model.config.max_position_embeddings == 96
    assert cased("Who?", ISLAND)["answer"]


TWO = [
    {"question": "Who kept the log?", "context": "The tower is old. Maren Holt kept its log."},
    {"question": "Where does Ada live?", "context": "My name is Ada and I live in Turin."},
]
QUESTIONS, CONTEXTS_OF_TWO = ([item[key] for item in TWO] for key in ("question", "context"))


def same_answers(ours, theirs):
    """What stands beside a question in its batch may change the last digits of a score."""
    ours, theirs = answer_list(ours), answer_list(theirs)
    assert [(a["answer"], a["start"], a["end"]) for a in ours] == [(a["answer"], a["start"], a["end"]) for a in theirs]
    np.testing.assert_allclose([a["score"] for a in ours], [a["score"] for a in theirs], atol=1e-5)
    return True


@pytest.mark.parametrize(
    "call",
    [
        lambda qa: qa(question=QUESTIONS, context=CONTEXTS_OF_TWO),
        lambda qa: qa(question=tuple(QUESTIONS), context=tuple(CONTEXTS_OF_TWO)),
        lambda qa: qa(QUESTIONS, CONTEXTS_OF_TWO),
        lambda qa: qa(TWO),
        lambda qa: qa(tuple(TWO)),
        lambda qa: qa(*TWO),
        lambda qa: qa({"question": QUESTIONS, "context": CONTEXTS_OF_TWO}),
        lambda qa: list(qa(item for item in TWO)),
        lambda qa: list(qa(iter(TWO), batch_size=1)),
    ],
    ids=[
        "keywords",
        "tuples",
        "lists by position",
        "dicts",
        "tuple of dicts",
        "dicts by position",
        "dict of lists",
        "generator",
        "iterator",
    ],
)
def test_several_questions_have_a_list_of_answers(call, embedded):
    answers = call(embedded)
    assert isinstance(answers, list) and same_answers(answers, [embedded(**item) for item in TWO])


@pytest.mark.parametrize(
    "call",
    [
        lambda qa, q, c: qa(q, c),
        lambda qa, q, c: qa(q, context=c),
        lambda qa, q, c: qa({"question": q, "context": c}),
        lambda qa, q, c: qa([{"question": q, "context": c}]),
        lambda qa, q, c: qa(question=[q], context=[c]),
        lambda qa, q, c: qa(question=[q], context=c),
        lambda qa, q, c: qa({"question": q, "context": c, "id": 7}),
    ],
)
def test_one_question_has_one_answer(call, embedded):
    assert call(embedded, q=QUESTIONS[0], c=CONTEXTS_OF_TWO[0]) == embedded(**TWO[0])


def test_one_context_for_many_questions(embedded):
    questions = ["Who kept the log?", "What is old?"]
    answers = embedded(question=questions, context=CONTEXTS_OF_TWO[0])
    assert same_answers(answers, [embedded(q, CONTEXTS_OF_TWO[0]) for q in questions])


def test_several_answers_to_several_questions_are_lists_of_lists(embedded):
    answers = embedded(TWO, top_k=2)
    assert [len(best) for best in answers] == [2, 2]
    assert all(same_answers(best, embedded(**item, top_k=2)) for best, item in zip(answers, TWO, strict=True))


def test_no_questions_have_no_answers(embedded):
    assert embedded([]) == embedded(question=[], context="Ada.") == list(embedded(iter([]))) == []


def test_many_questions_keep_their_order_whatever_their_length(shallow, monkeypatch):
    monkeypatch.setattr("numpy_distilbert.qa.BATCH_TOKENS", 2000)
    contexts = [ISLAND, "Ada lives in Turin.", ISLAND * 2, "Ada.", CONTEXTS_OF_TWO[0]] * 3
    items = [{"question": "Who kept the log?", "context": context} for context in contexts]
    assert sum(len(shallow.tokenizer("", c).ids) for c in contexts) > 3 * 2000
    alone = {context: shallow("Who kept the log?", context) for context in contexts[:5]}
    for answers in (shallow(items), shallow(items, batch_size=3)):
        assert same_answers(answers, [alone[context] for context in contexts])


def test_an_iterator_is_read_only_some_questions_ahead(shallow):
    read = itertools.count()
    answers = shallow({"question": "Who?", "context": ISLAND[:900], "number": next(read)} for _ in range(10**9))
    first = list(itertools.islice(answers, 3))
    assert len(first) == 3 and next(read) < BATCH_TOKENS / 100


def test_long_contexts_of_few_tokens_are_not_read_far_ahead(embedded):
    read = itertools.count()
    answers = embedded(
        {"question": "Who?", "context": "Ada " + "x" * 10**6, "number": next(read)} for _ in range(10**9)
    )
    assert next(answers)["start"] == 0 and next(read) < 5


def test_logits_that_are_not_finite_are_refused(embedded, random_checkpoint, monkeypatch):
    broken = QuestionAnswerer.from_pretrained(random_checkpoint("cased"))
    broken.model.parameters.head["qa_outputs"].bias[0] = np.nan
    with pytest.raises(CheckpointError, match=r"logits that are not finite\. Its weights are broken"):
        broken("Who?", "Ada.")


def test_of_a_long_text_only_the_digest_is_kept_and_equal_ones_are_still_added(embedded, monkeypatch):
    context = ("Maren Holt kept the log. " + "The gate is new. " * 120) * 3  # in several windows
    expected = embedded("Who kept the log?", context, top_k=5)
    monkeypatch.setattr("numpy_distilbert.qa.KEY_CHARACTERS", 0)
    assert embedded("Who kept the log?", context, top_k=5) == expected
    assert expected[0].score > 1  # the sum of several


def test_weights_too_large_for_float32_are_one_error_and_no_warning(shallow_model):
    broken = QuestionAnswerer.from_pretrained(shallow_model)
    broken.model.parameters.layers[0].ffn.lin1.weight[:] = 3e38
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with pytest.raises(CheckpointError, match=r"logits that are not finite\. Its weights are broken"):
            broken("Who?", "Ada.")
    assert not said


def test_what_goes_wrong_in_an_iterator_comes_after_the_answers_before_it(embedded):
    def items():
        yield from TWO
        raise RuntimeError("the source ran dry")

    for source, error in ((items(), RuntimeError), (iter([*TWO, {"question": "Who?"}, *TWO]), ValueError)):
        answers = embedded(source)
        assert same_answers([next(answers), next(answers)], embedded(TWO))
        with pytest.raises(error):
            next(answers)


def test_options_of_an_iterator_are_checked_with_the_call(embedded):
    with pytest.raises(ValueError, match="top_k must be at least 1"):
        embedded(iter(TWO), top_k=0)


@pytest.mark.parametrize(
    "inputs, keywords, error, message",
    [
        ((), {}, TypeError, "question must be a str, got NoneType"),
        (("Who?",), {}, TypeError, "'question' and 'context' are both needed, got one str"),
        ((7,), {}, TypeError, "'question' and 'context' are both needed, got one int"),
        (("Who?", "Ada.", "Bo."), {}, TypeError, "item 0 must be a dict with 'question' and 'context', got str"),
        (("Who?",), {"question": "Who?"}, TypeError, "question and context must be given once"),
        (("Who?", "Ada."), {"context": "Ada."}, TypeError, "question and context must be given once"),
        (({"question": "Who?"},), {}, ValueError, "the argument has no 'context'"),
        (([TWO[0], {"context": "Ada."}],), {}, ValueError, "item 1 has no 'question'"),
        (([TWO[0], "Who?"],), {}, TypeError, "item 1 must be a dict with 'question' and 'context', got str"),
        (
            ([TWO[0], {"question": "Who?", "context": None}],),
            {},
            TypeError,
            "context of item 1 must be a str, got NoneType",
        ),
        (([TWO[0], {"question": " ", "context": "Ada."}],), {}, ValueError, "question of item 1 must not be blank"),
        (
            (),
            {"question": ["Who?", "When?"], "context": ["Ada."]},
            ValueError,
            "2 questions need as many contexts, or one, got 1",
        ),
        ((), {"question": ["Who?", ""], "context": "Ada."}, ValueError, "question 1 must not be blank, got ''"),
        ((), {"question": ["Who?", "When?"], "context": ["Ada.", 7]}, TypeError, "context 1 must be a str, got int"),
        ((), {"question": "Who?", "context": ["Ada."]}, TypeError, "context must be a str, got list"),
        (
            (),
            TWO[0] | {"topk": 3},
            TypeError,
            "topk has no meaning here. Leave it out. The options are top_k, doc_stride",
        ),
        ((), TWO[0] | {"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
    ],
)
def test_bad_inputs_are_named(inputs, keywords, error, message, embedded):
    with pytest.raises(error, match=message):
        embedded(*inputs, **keywords)


@pytest.mark.parametrize("caught", [KeyError, ValueError])
def test_a_dict_that_lacks_a_key_is_caught_as_code_for_transformers_does_and_as_code_for_this_package(embedded, caught):
    with pytest.raises(caught) as error:
        embedded({"question": "Who?"})
    assert str(error.value) == "the argument has no 'context'."


def test_none_stands_for_the_default(embedded):
    assert embedded(**TWO[0], **dict.fromkeys(Settings._fields)) == embedded(**TWO[0])


@pytest.mark.parametrize("batch_size, rows", [(None, [7]), (3, [3, 3, 1]), (9, [7])])
def test_batch_size_is_the_most_windows_that_go_together(embedded, batch_size, rows, monkeypatch):
    seen = []
    monkeypatch.setattr(embedded, "model", Watched(embedded.model, lambda ids: seen.append(len(ids))))
    embedded(question=["Who kept the log?"] * 7, context=CONTEXTS_OF_TWO[0], batch_size=batch_size)
    assert seen == rows


class Watched:
    def __init__(self, model, watch):
        self.config, self.model, self.watch = model.config, model, watch

    def __call__(self, ids, mask):
        self.watch(ids)
        return self.model(ids, mask)


def test_a_special_token_in_the_question_is_no_answer(embedded):
    answers = embedded("[CLS] Who [CLS] kept the log?", CONTEXTS_OF_TWO[0], top_k=100)
    text = CONTEXTS_OF_TWO[0]
    assert len(answers) > 50 and all(a["answer"] and text[a["start"] : a["end"]] == a["answer"] for a in answers)


def test_special_tokens_can_be_plain_text():
    careful = QuestionAnswerer.from_pretrained(split_special_tokens=True)
    assert "[SEP]" not in careful.tokenizer("Ada [SEP] Bo").tokens[1:-1]
    assert "[SEP]" not in pipeline(split_special_tokens=True).tokenizer("Ada [SEP] Bo").tokens[1:-1]
    assert "[SEP]" in pipeline().tokenizer("Ada [SEP] Bo").tokens[1:-1]


def test_pipeline_is_the_call_people_know(embedded):
    for qa in (
        pipeline("question-answering"),
        pipeline(task="question-answering", model=hub.find(), device="cpu"),
    ):
        assert qa(**TWO[0]) == embedded(**TWO[0])
    qa = pipeline("question-answering", model=embedded.model, tokenizer=embedded.tokenizer, top_k=2)
    assert len(qa(**TWO[0])) == 2 and isinstance(qa(**TWO[0], top_k=1), dict)
    qa = pipeline("question-answering", tokenizer=hub.find())
    assert qa(**TWO[0]) == embedded(**TWO[0])


@pytest.mark.parametrize(
    "name, value",
    [
        ("device", -1),
        ("device", None),
        ("dtype", "auto"),
        ("dtype", np.float32),
        ("dtype", np.dtype("float32")),
        ("torch_dtype", "torch.float32"),
        ("revision", None),
    ],
)
def test_pipeline_takes_what_has_a_meaning_here(name, value, shallow_model, shallow):
    assert pipeline(model=shallow_model, **{name: value})(**TWO[0]) == shallow(**TWO[0])


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"task": "fill-mask"}, ValueError, "task must be 'question-answering', got 'fill-mask'"),
        ({"device": 0}, ValueError, "device must be 'cpu', got 0: NumPy computes on the CPU"),
        ({"device": "cuda:0"}, ValueError, "device must be 'cpu', got 'cuda:0'"),
        ({"dtype": "float16"}, ValueError, "dtype must be 'float32', 'float64' or 'auto', got 'float16'"),
        (
            {"torch_dtype": "torch.bfloat16"},
            ValueError,
            "dtype must be 'float32', 'float64' or 'auto', got 'torch.bfloat16'",
        ),
        ({"revision": "main"}, ValueError, "revision must be None, got 'main'"),
        ({"framework": "pt"}, TypeError, "framework has no meaning here. Leave it out. The options are top_k"),
        ({"top_k": 0}, ValueError, "top_k must be at least 1"),
        ({"model": "nowhere"}, CheckpointError, "nowhere: no such folder"),
        (
            {"model": object(), "tokenizer": hub.find()},
            TypeError,
            "model must be a DistilBertForQuestionAnswering of numpy_distilbert",
        ),
        ({"tokenizer": object()}, TypeError, "tokenizer must be a Tokenizer of numpy_distilbert, got object"),
    ],
)
def test_pipeline_says_what_has_no_meaning_here(arguments, error, message):
    with pytest.raises(error, match=message):
        pipeline(**arguments)


def test_pipeline_does_not_change_a_loaded_tokenizer(embedded):
    with pytest.raises(TypeError, match="split_special_tokens is a setting of the tokenizer"):
        pipeline(tokenizer=embedded.tokenizer, split_special_tokens=True)


def test_pipeline_needs_the_tokenizer_of_a_loaded_model(embedded):
    with pytest.raises(TypeError, match="tokenizer must be a Tokenizer of numpy_distilbert, got NoneType"):
        pipeline(model=embedded.model)


def test_that_a_search_has_ended_does_not_change_what_is_computed_together(embedded):
    settings = embedded.settings({})
    searches = [Search("Ada lives in Turin. " * n, settings) for n in (1, 400, 3, 1, 90, 2000, 1)]
    plain = [(search, window) for search in searches for window in embedded.windows("Who?", search.context, settings)]
    marked = [(search, window) for search in searches for window in [*(w for s, w in plain if s is search), None]]
    for tokens in range(1, 4000, 13):
        given = [[window for _, window in batch if window is not None] for batch in batches(marked, tokens)]
        assert [batch for batch in given if batch] == [[window for _, window in b] for b in batches(plain, tokens)]
