"""SQuAD files and scores; the metrics against committed values of the reference (reference/squad_scores.json)."""

import gzip
import json

import pytest
from conftest import REFERENCE
from properties import given, st

from numpy_distilbert.squad import Question, exact, normalize, read_predictions, read_questions, score, token_f1

SQUAD = {
    "version": "1.1",
    "data": [
        {
            "title": "Tower",
            "paragraphs": [
                {
                    "context": "The tower is old. Maren Holt kept its log.",
                    "qas": [
                        {
                            "id": "a",
                            "question": "Who kept the log?",
                            "answers": [{"text": "Maren Holt", "answer_start": 18}],
                        },
                        {
                            "id": "b",
                            "question": "What is old?",
                            "answers": [{"text": "tower", "answer_start": 4}, {"text": "The tower", "answer_start": 0}],
                        },
                    ],
                },
                {
                    "context": "Ada lives in Turin.",
                    "qas": [{"id": "c", "question": "Where?", "answers": [{"text": "Turin", "answer_start": 13}]}],
                },
            ],
        }
    ],
}


@pytest.fixture
def squad_file(tmp_path):
    path = tmp_path / "squad.json"
    path.write_text(json.dumps(SQUAD), encoding="utf-8")
    return path


def test_metrics_equal_the_reference():
    cases = json.loads((REFERENCE / "squad_scores.json").read_text(encoding="utf-8"))
    ours = [[one, other, exact(one, other), pytest.approx(token_f1(one, other), abs=1e-12)] for one, other, *_ in cases]
    assert ours == cases


def test_an_empty_answer_is_exact_but_shares_no_token():
    assert (exact("the", "a"), token_f1("the", "a")) == (1.0, 0.0)  # as v1.1 has it; v2.0 gives it F1 1


@given(st.text(), st.text())
def test_f1_is_symmetric_and_full_where_exact(one, other):
    assert token_f1(one, other) == token_f1(other, one)
    assert 0 <= token_f1(one, other) <= 1
    if exact(one, other) and normalize(one):
        assert token_f1(one, other) == 1


@pytest.mark.parametrize("compress", [lambda data: data, gzip.compress], ids=["plain", "gzip"])
def test_questions_are_read_in_order(compress, tmp_path):
    path = tmp_path / "squad"
    path.write_bytes(compress(json.dumps(SQUAD).encode()))
    questions = read_questions(path)
    assert [q.id for q in questions] == ["a", "b", "c"]
    assert questions[1] == Question(
        "b", "What is old?", "The tower is old. Maren Holt kept its log.", ["tower", "The tower"], [4, 0]
    )


def test_the_best_answer_counts_and_a_missing_one_scores_nothing(squad_file):
    questions = read_questions(squad_file)
    scores = score(questions, {"a": "Holt", "b": "the Tower!", "x": "not asked"})
    assert scores.exact_match == pytest.approx(100 / 3) and scores.f1 == pytest.approx((2 / 3 + 1) * 100 / 3)
    assert (scores.total, scores.missing) == (3, ["c"])
    several = [Question("d", "What?", "The lamp and the tower.", ["lamp", "tower", "both"], [4, 17, None])]
    assert score(several, {"d": "the tower"})[:2] == (100.0, 100.0)


def changed(path, value):
    """SQUAD with another value at a path."""
    copy = json.loads(json.dumps(SQUAD))
    place = copy
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return json.dumps(copy).encode()


QUESTION_A = ("data", 0, "paragraphs", 0, "qas", 0)


@pytest.mark.parametrize(
    "data, message",
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"\x1f\x8b not gzip", "cannot be read"),
        (gzip.compress(b'{"data": []}', mtime=0)[:-9], "cannot be read"),
        (b"[]", "not a SQuAD file"),
        (b'{"a": "b"}', "not a SQuAD file"),
        (b'{"data": []}', "holds no questions"),
        (b'{"data": 1}', "not as SQuAD v1.1 has it after 0 questions"),
        (changed(("data", 0, "paragraphs", 1), {}), "after 2 questions .KeyError.'qas'"),
        (changed((*QUESTION_A, "answers"), []), "question a has no answers. This is SQuAD v2.0 or a test file"),
        (changed((*QUESTION_A, "answers", 0), "Maren"), "not as SQuAD v1.1 has it"),
        (changed((*QUESTION_A, "id"), 7), "question 0 has something other than texts"),
        (changed((*QUESTION_A, "answers", 0, "text"), None), "question 0 has something other than texts"),
        (changed(("data", 0, "paragraphs", 1, "context"), ["Ada"]), "question 2 has something other than texts"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*version is None")
def test_what_is_not_squad_is_refused_by_name(data, message, tmp_path):
    path = tmp_path / "squad.json"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message) as error:
        read_questions(path)
    assert str(error.value).startswith(str(path))


def test_blank_questions_are_named(tmp_path):
    path = tmp_path / "squad.json"
    path.write_bytes(changed((*QUESTION_A, "question"), " "))
    with pytest.raises(ValueError, match=r"squad\.json: question a or its context is blank"):
        read_questions(path)


def test_no_questions_have_no_score():
    with pytest.raises(ValueError, match="questions must not be empty"):
        score([], {})


def test_another_version_is_warned_of(tmp_path):
    path = tmp_path / "squad.json"
    path.write_bytes(changed(("version",), "1.2"))
    with pytest.warns(UserWarning, match="version is '1.2', needs '1.1'"):
        assert len(read_questions(path)) == 3


@pytest.mark.parametrize(
    "data, message",
    [
        (b'["Maren Holt"]', "not a predictions file"),
        (b'{"a": 7}', "not a predictions file"),
        (b"a: Maren", "not JSON"),
    ],
)
def test_what_are_no_predictions_is_refused_by_name(data, message, tmp_path):
    path = tmp_path / "predictions.json"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read_predictions(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none\.json: cannot be read \(No such file"):
        read_questions(tmp_path / "none.json")
