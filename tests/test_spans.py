"""Spans of a window and the answers made of them."""

import copy
import html
import json
import pickle
import re

import numpy as np

from numpy_distilbert.spans import Answer, Answers, best_spans

ADA = {"question": "Where does Ada live?", "context": "My name is Ada and I live in Turin."}


def test_ties_go_to_the_earlier_span(embedded):
    window = embedded.tokenizer("q", "a b c d e f g h")
    start, end = np.resize([0.5, 0.25], len(window)), np.full(len(window), 0.5)
    spans = list(best_spans(start, end, window, max_answer_len=8, count=100))
    assert len(spans) == 36 and spans == sorted(spans, key=lambda span: (-span[0], *span[1:]))


def test_an_answer_is_a_dict_to_a_program(embedded):
    answer = embedded(**ADA)
    plain = {"score": answer["score"], "start": 29, "end": 34, "answer": "Turin"}
    assert answer == plain and isinstance(answer, dict)
    assert json.loads(json.dumps(answer)) == plain and repr(answer) == repr(plain)
    for twin in (copy.copy(answer), copy.deepcopy(answer), pickle.loads(pickle.dumps(answer))):
        assert twin == plain and twin._repr_html_() == answer._repr_html_()


def shown(markup):
    """What a browser shows of the first paragraph."""
    return html.unescape(re.sub("<[^>]*>", "", markup.split("</div>")[0]))


def test_a_notebook_shows_the_answer_marked_in_its_context(embedded):
    markup = embedded(**ADA)._repr_html_()
    assert "<mark>Turin</mark>" in markup and shown(markup) == ADA["context"] and "score 0.9" in markup


def test_a_notebook_shows_hostile_text_as_text():
    context = "<script>alert('&amp;')</script> <b>Maren</b> Holt"
    markup = Answer(0.5, context.index("<b>"), len(context), context)._repr_html_()
    assert shown(markup) == context
    assert set(re.findall("<[^>]*>", markup)) <= {
        '<div style="white-space: pre-wrap">',
        "<mark>",
        "</mark>",
        "</div>",
        "<div>",
        "<small>",
        "</small>",
    }


def test_a_notebook_shows_what_is_near_of_a_long_context_and_no_answer_as_such():
    assert shown(Answer(0.5, 2000, 2003, "a" * 4000)._repr_html_()) == "…" + "a" * 303 + "…"
    assert shown(Answer(0.5, 0, 0, "Ada.")._repr_html_()) == "(no answer) Ada."


def test_a_notebook_shows_every_answer_of_a_list(embedded):
    both = embedded(question=[ADA["question"], "Who lives in Turin?"], context=ADA["context"])
    ranked = embedded(**ADA, top_k=3)
    lists = embedded([ADA, ADA], top_k=2)
    for answers, marked in ((both, ["Turin", "Ada"]), (ranked, [answer.answer for answer in ranked])):
        assert re.findall("<mark>(.*?)</mark>", answers._repr_html_()) == marked
        assert answers._repr_html_().count("score") == len(answers)
    assert embedded(question=[], context="Ada.")._repr_html_() == "[]"
    assert [answer.answer for answer in lists[0]] == [answer.answer for answer in ranked[:2]]
    assert lists._repr_html_().count("<mark>Turin</mark>") == 2
    assert lists._repr_html_().count("<mark>") == 4


def test_a_list_of_answers_is_a_list_to_a_program(embedded):
    answers = embedded([ADA, ADA], top_k=2)
    plain = [list(map(dict, of)) for of in answers]
    assert isinstance(answers, list) and answers == plain and repr(answers) == repr(plain)
    assert json.dumps(answers) == json.dumps(plain) and answers[:1] == plain[:1]
    for twin in (copy.copy(answers), copy.deepcopy(answers), pickle.loads(pickle.dumps(answers))):
        assert twin == plain and type(twin) is Answers and twin._repr_html_() == answers._repr_html_()


def test_the_values_of_an_answer_are_attributes_too(embedded):
    answer = embedded(question="Who kept the log?", context="Maren Holt kept the log.")
    values = answer.score, answer.start, answer.end, answer.answer
    assert values == tuple(answer.values()) and answer.answer == answer.context[answer.start : answer.end]
