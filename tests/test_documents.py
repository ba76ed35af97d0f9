"""Whole documents: where they are cut, what BM25 says, which answer wins; against plain statements of the same."""

import copy
import html
import itertools
import json
import math
import pickle
import re
import shutil

import numpy as np
import pytest
from conftest import REFERENCE
from properties import given, settings, st

from numpy_distilbert import CheckpointError, Documents, QuestionAnswerer, pipeline
from numpy_distilbert.documents import K1, NEUTRAL, PRIOR, B, Calibration, Found, bm25, cut
from numpy_distilbert.spans import disjoint_spans, word_span_logits

ISLAND = json.loads((REFERENCE / "answers.json").read_text(encoding="utf-8"))["ISLAND"]
LOGS = {
    "tower.txt": "The tower is old.\n\nMaren Holt kept its log for forty years.",
    "boat.txt": "Ove Lind built the boat. It was launched in 1912.",
    "bell.txt": "On Sundays the bell was rung twice, by whoever was awake.",
}


class Remembering(QuestionAnswerer):
    """Remembers what it has read, and the logits."""

    def __init__(self, qa, **options):
        super().__init__(qa.model, qa.tokenizer, **options)
        self.read = []

    def logits(self, windows, batch_size=None):
        logits = super().logits(windows, batch_size)
        self.read += zip(map(tuple, windows), logits, strict=True)
        return logits


def all_spans(qa, question, texts, max_answer_len=15):
    """The calibrated margin of every span of whole words in these passages by (document, start, end): the formula."""
    asked, margins = len(qa.tokenizer.pieces(question).ids), {}
    terms = list(dict.fromkeys(qa.tokenizer.pieces(question).ids))
    scores, bound = bm25(terms, texts.ids, *np.array([p[1:] for p in texts.passages]).T)
    for passage, fit in zip(texts.passages, scores / bound, strict=True):
        ids = [*qa.tokenizer(question).ids, *texts.ids[passage.start : passage.stop].tolist()]
        ((start, end),) = qa.logits([[*ids, qa.tokenizer.special_tokens["[SEP]"]]])
        start, end = start.astype(float), end.astype(float)
        tokens = range(passage.start, passage.stop)
        words = [list(group) for _, group in itertools.groupby(tokens, lambda token: texts.words[token])]
        for i, first in enumerate(words):
            for last in words[i:]:
                if last[-1] - first[0] >= max_answer_len and last is not first:
                    break
                a, b = (
                    max(x[token - passage.start + asked + 2] for token in of) for x, of in ((start, first), (end, last))
                )
                place = passage.document, int(texts.offsets[first[0], 0]), int(texts.offsets[last[-1], 1])
                m = a + b - start[0] - end[0] + PRIOR * (fit - NEUTRAL)
                calibrated = (m - qa.calibration.offset) / qa.calibration.temperature
                margins[place] = max(calibrated, margins.get(place, -np.inf))
    return margins


@pytest.mark.parametrize("question", ["Who kept the log?", "When was the boat launched?"])
@pytest.mark.parametrize("passage_tokens", [12, 64])
def test_scores_are_a_softmax_over_all_spans_and_no_answer(embedded, question, passage_tokens):
    texts = Documents(LOGS, embedded.tokenizer, passage_tokens)
    assert (len(texts.passages) > len(LOGS)) == (passage_tokens == 12)
    margins = all_spans(embedded, question, texts)
    total = 1 + sum(math.exp(m) for m in margins.values())
    found = embedded.search(question, texts, top_k=10**6, read=None)
    assert found.no_answer == pytest.approx(1 / total, rel=1e-4)
    for answer in found:
        place = answer.document, answer.start, answer.end
        assert answer.score == pytest.approx(math.exp(margins[place]) / total, rel=1e-4)
    best = max(margins, key=lambda place: margins[place])
    assert best == (found[0].document, found[0].start, found[0].end)
    assert [a.score for a in found] == sorted((a.score for a in found), reverse=True)


def test_a_span_in_two_passages_counts_once_with_the_higher_margin(embedded):
    text = "as everyone knew Maren Holt kept the log of the tower " * 8
    texts = Documents(text, embedded.tokenizer, 16)
    repeated = [a.stop - b.start for a, b in itertools.pairwise(texts.passages)]
    assert max(repeated) > 0  # or this would test nothing
    total = 1 + sum(math.exp(m) for m in all_spans(embedded, "Who kept it?", texts).values())
    assert embedded.search("Who kept it?", texts, read=None).no_answer == pytest.approx(1 / total, rel=1e-4)


def test_answers_are_other_texts_at_other_places(embedded):
    for question in ("Who kept the log?", "When was it launched?", "What was rung?"):
        found = embedded.search(question, LOGS | {"again": LOGS["tower.txt"]}, top_k=50)
        assert len(found) > 10 and len({answer.answer.lower() for answer in found}) == len(found)
        for one, other in itertools.combinations(found, 2):
            assert one.document != other.document or one.end <= other.start or other.end <= one.start


def test_a_notebook_shows_what_was_found_and_in_which_documents(embedded):
    found = embedded.search(
        "When was the boat launched?", {"<b>": LOGS["boat.txt"], "tower": LOGS["tower.txt"]}, top_k=4
    )
    markup = found._repr_html_()
    assert re.findall("<mark>(.*?)</mark>", markup) == [answer.answer for answer in found]
    names = [html.unescape(name) for name in re.findall("document (.*?), score", markup)]
    assert names == [answer.document for answer in found] and "<b>" in names
    assert found.best and "Probably" not in markup and "<b>" not in markup
    unanswered = embedded.search("What did the lamp cost?", LOGS)
    assert "Probably not in this text. Nearest:" in unanswered._repr_html_().split("<mark>")[0]
    assert Found([], 1.0)._repr_html_() == "<div><em>Probably not in this text.</em></div>"
    for twin in (copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
        assert (twin, twin.no_answer, twin._repr_html_()) == (found, found.no_answer, markup)


def test_of_variants_of_an_answer_one_is_kept(embedded):
    context = "The lamp was lit for the first time on 1 June 1871, at dusk."
    times = [a.answer for a in embedded.search("When was the lamp lit?", context, top_k=20) if "June" in a.answer]
    variants = [a["answer"] for a in embedded("When was the lamp lit?", context, top_k=20) if "June" in a["answer"]]
    assert len(times) == 1 < len(variants)


def test_an_answer_says_where_it_is(embedded):
    (answer,) = embedded.search("When was the boat launched?", LOGS, top_k=1)
    assert answer == {"score": answer.score, "start": 44, "end": 48, "answer": "1912", "document": "boat.txt"}
    assert (answer.document, answer.context) == ("boat.txt", LOGS["boat.txt"])
    (answer,) = embedded.search("When was the boat launched?", list(LOGS.values()), top_k=1)
    assert (answer.answer, answer.document) == ("1912", 1)
    assert embedded("When was it launched?", LOGS["boat.txt"]).document is None


@pytest.mark.parametrize(
    "text",
    [
        ISLAND,
        "Grüße 😀!\r\n\r\nMaren\u00a0Holt kept\tthe lo\u0301g.\n\n\nNobody read it… ünsinkable",
        "[SEP] Maren Holt [CLS] kept [MASK] the log [PAD][UNK]. [SEP]",
        "unsinkability " * 40,
        "x" * 5000 + " Maren Holt " + "y" * 5000,
        "灯塔的日志由马伦保管。" * 20,
    ],
)
def test_an_answer_is_what_is_at_its_place(shallow, text):
    for texts in (text, Documents({"a": "Ada.", "b": text}, shallow.tokenizer, 16)):
        found = shallow.search("Who kept the log?", texts, top_k=30, read=None)
        assert found and all(answer.answer == answer.context[answer.start : answer.end] for answer in found)
        assert all(answer.context in (text, "Ada.") and answer.answer.strip() == answer.answer for answer in found)


def logits_like(ids, seed):
    """Random logits that depend on the tokens alone."""
    return np.random.default_rng([seed, *ids]).normal(0, 3, (2, len(ids)))


@pytest.fixture
def random_qa(embedded, monkeypatch):
    """A QuestionAnswerer whose model says what logits_like() says."""
    qa = QuestionAnswerer(embedded.model, embedded.tokenizer)
    monkeypatch.setattr(qa, "logits", lambda windows, _=None: [tuple(logits_like(ids, 0)) for ids in windows])
    return qa


def test_ties_go_to_the_earlier_document(random_qa):
    for names in (["b", "a"], ["a", "b"]):
        texts = dict.fromkeys(names, LOGS["tower.txt"])
        assert {answer.document for answer in random_qa.search("Who kept the log?", texts, top_k=5)} == {names[0]}
        assert random_qa.search("Who kept the log?", texts, top_k=1, read=1)[0].document == names[0]


@pytest.mark.parametrize("passage_tokens", [1, 2, 5, 8, 23])
def test_where_passages_repeat_spans_count_once_and_answers_do_not_overlap(random_qa, passage_tokens):
    text = "Maren Holt kept the log and everyone knew unsinkable Maren Holt kept it for as long as the tower stood " * 4
    texts = Documents(text, random_qa.tokenizer, passage_tokens)
    margins = all_spans(random_qa, "Who kept it?", texts, min(15, passage_tokens))
    found = random_qa.search("Who kept it?", texts, top_k=10**6, read=None)
    if passage_tokens > 5:  # no word is cut
        total = np.logaddexp.reduce([0.0, *margins.values()])
        assert math.log(found.no_answer) == pytest.approx(-total, abs=1e-9)
        assert math.log(found[0].score) == pytest.approx(max(margins.values()) - total, abs=1e-9)
        taken = []  # the best at its place, whether its text is another or not
        for place in sorted(margins, key=lambda place: -margins[place]):
            if all(place[1] >= end or start >= place[2] for _, start, end in taken):
                taken.append(place)
        texts_of = {text[start:end].lower(): (start, end) for _, start, end in reversed(taken)}
        expected = [(start, end) for _, start, end in taken if texts_of[text[start:end].lower()] == (start, end)]
        assert [(answer.start, answer.end) for answer in found[:5]] == expected[:5]
    for one, other in itertools.combinations(found, 2):
        assert one.end <= other.start or other.end <= one.start
    assert all(answer.answer == text[answer.start : answer.end] for answer in found)


@pytest.mark.parametrize("passage_tokens", [1, 2, 3])
def test_a_word_that_passages_cut_is_an_answer_as_a_whole(random_qa, passage_tokens):
    text = "Maren kept unsinkability logs."
    found = random_qa.search("What?", Documents(text, random_qa.tokenizer, passage_tokens), top_k=50, read=None)
    edges = {0, *(match.start() for match in re.finditer(r"\b|\.", text)), len(text)}
    assert found and all({answer.start, answer.end} <= edges for answer in found)


def test_the_lengths_of_the_answerer_are_those_of_its_searches(embedded):
    qa = QuestionAnswerer(embedded.model, embedded.tokenizer, max_answer_len=1, max_question_len=2)
    found = qa.search("Who kept the log?", LOGS, top_k=50)
    assert all(embedded.tokenizer.pieces(answer.answer).word_ids[-1] == 0 for answer in found)
    assert qa.search("Who kept the bell?", LOGS) == qa.search("Who kept", LOGS)
    longest = QuestionAnswerer(embedded.model, embedded.tokenizer, max_answer_len=10**9)
    assert longest.search("Who kept the log?", LOGS)[0].answer == "Maren Holt"


def test_no_answer_wins_where_its_probability_is_the_highest(embedded):
    unanswered = embedded.search("How many people live in Turin?", "Turin.")
    assert unanswered.best is None and unanswered[0].score < unanswered.no_answer < 1
    answered = embedded.search("Who kept the log?", LOGS)
    assert answered.best is answered[0] and answered[0].answer == "Maren Holt"
    assert sum(a.score for a in answered) + answered.no_answer <= 1


def test_a_text_without_words_has_no_answer(embedded):
    for question, text in (("Who?", "\0"), ("\0", "\1")):
        found = embedded.search(question, text)
        assert (list(found), found.no_answer, found.best) == ([], 1.0, None)
    assert [a.answer for a in embedded.search("Who?", ["\0", "Ada"])] == ["Ada"]


def test_a_calibration_shifts_and_divides_every_margin(embedded):
    question, texts = "Who kept the log?", embedded.documents(LOGS)
    for calibration in (Calibration(), Calibration(2.0, 5.0), Calibration(0.5, -3.0)):
        qa = QuestionAnswerer(embedded.model, embedded.tokenizer, calibration)
        odds = np.exp(list(all_spans(qa, question, texts).values()))
        found = qa.search(question, texts, read=None)
        assert found.no_answer == pytest.approx(1 / (1 + odds.sum()), rel=1e-4)
        assert found[0].score == pytest.approx(odds.max() * found.no_answer, rel=1e-4)


def test_the_calibration_of_a_checkpoint_is_read(shallow_model, tmp_path):
    folder = shutil.copytree(shallow_model, tmp_path / "model")
    for loaded in (QuestionAnswerer.from_pretrained(folder), pipeline(model=folder)):
        assert loaded.calibration == Calibration(1.0, 0.0)
    (folder / "calibration.json").write_text('{"temperature": 1.5, "offset": -2}', encoding="utf-8")
    for loaded in (QuestionAnswerer.from_pretrained(folder), pipeline(model=folder)):
        assert loaded.calibration == Calibration(1.5, -2.0)


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"temperature": 0, "offset": 0}', "calibration.json: temperature is 0, needs a number above 0"),
        ('{"temperature": 1}', "calibration.json: offset is null, needs a number"),
        ('{"temperature": true, "offset": 0}', "calibration.json: temperature is true, needs a number above 0"),
        ('{"temperature": 1, "offset": 1e999}', "calibration.json: offset is Infinity, needs a number"),
        ('{"temperature": NaN, "offset": 0}', "calibration.json: temperature is NaN, needs a number above 0"),
        ("[1, 0]", "calibration.json: holds list, needs a JSON object"),
    ],
)
def test_a_bad_calibration_is_named(shallow_model, tmp_path, text, message):
    folder = shutil.copytree(shallow_model, tmp_path / "model")
    (folder / "calibration.json").write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match=re.escape(message)):
        QuestionAnswerer.from_pretrained(folder)


# which passages are read


def test_bm25_is_what_it_is_by_hand():
    # the passages "5 6 7", "5 5 8 8" and "9"; the question is "5 9 4", its 9 twice
    ids = np.array([5, 6, 7, 5, 5, 8, 8, 9])
    scores, bound = bm25([5, 9, 4, 9], ids, np.array([0, 3, 7]), np.array([3, 7, 8]))
    # mean length 8 / 3; ln(1 + 1.5 / 2.5) for 5, in two of three; ln(1 + 2.5 / 1.5) for 9, and for 4, which none has
    assert (K1, B) == (1.2, 0.75)
    first = 0.47000363 * 2.2 / (1 + 1.2 * (0.25 + 0.75 * 3 / 2.6666667))
    second = 0.47000363 * 2 * 2.2 / (2 + 1.2 * (0.25 + 0.75 * 4 / 2.6666667))
    third = 0.98082925 * 2.2 / (1 + 1.2 * (0.25 + 0.75 * 1 / 2.6666667))
    np.testing.assert_allclose(scores, [first, second, third], rtol=1e-7)
    assert bound == pytest.approx((0.47000363 + 0.98082925 + 0.98082925) * 2.2)


def test_only_the_passages_that_bm25_ranks_first_are_read_in_the_order_of_the_text(shallow):
    qa, question = Remembering(shallow), "What was rung on Sundays?"
    texts = Documents([*LOGS.values(), ISLAND], qa.tokenizer, 40)
    scores, _ = bm25(qa.tokenizer.pieces(question).ids, texts.ids, *np.array([p[1:] for p in texts.passages]).T)
    asked = len(qa.tokenizer(question).ids)
    for read in (1, 3, len(texts.passages), len(texts.passages) + 5, None):
        qa.read.clear()
        qa.search(question, texts, read=read)
        best = sorted(np.argsort(-scores, kind="stable")[:read])
        expected = [tuple(texts.ids[texts.passages[i].start : texts.passages[i].stop]) for i in best]
        assert [ids[asked:-1] for ids, _ in qa.read] == expected


def test_progress_is_reported_for_every_passage(shallow):
    reported, texts = [], Documents(ISLAND, shallow.tokenizer, 40)
    shallow.search("Who?", texts, read=5, progress=lambda *counts: reported.append(counts))
    assert reported == [(i, 5) for i in range(1, 6)]


# where documents are cut


def passages(tokenizer, text, length):
    texts = Documents(text, tokenizer, length)
    return [text[texts.offsets[p.start, 0] : texts.offsets[p.stop - 1, 1]] for p in texts.passages]


def test_a_passage_ends_with_a_paragraph_if_it_can(embedded):
    paragraphs = ["The tower is old and grey.", "Maren Holt kept its log.", "The lamp was lit at dusk every day."]
    assert passages(embedded.tokenizer, "\n\n".join(paragraphs), 19) == ["\n\n".join(paragraphs[:2]), paragraphs[2]]
    assert passages(embedded.tokenizer, "\n \t\r\n".join(paragraphs), 12) == paragraphs
    assert passages(embedded.tokenizer, "\n\n".join(paragraphs), 100) == ["\n\n".join(paragraphs)]
    short = ["The tower is old and grey and made of stone.", "It is.", "Maren Holt kept its log for forty years."]
    assert passages(embedded.tokenizer, "\n\n".join(short), 22) == ["\n\n".join(short[:2]), short[2]]


def test_what_ends_a_sentence_may_be_quoted_or_a_line(embedded):
    for first in ('He said: "It is old."', "(The tower is old.)", "A title without a stop"):
        assert passages(embedded.tokenizer, f"{first}\nMaren Holt kept its log for years", 12)[0] == first
    for first in ('He said: "It is old."', "(The tower is old.)"):
        assert passages(embedded.tokenizer, f"{first} Maren Holt kept its log", 12)[0] == first


def test_else_it_ends_with_a_sentence_and_the_next_repeats_one_if_it_is_short(embedded):
    text = "The tower is old. Maren Holt kept its log. It is grey. The lamp was lit at dusk. Nobody saw it."
    assert passages(embedded.tokenizer, text, 23) == [text[: text.index(" The lamp")], text[text.index("It is grey") :]]
    assert passages(embedded.tokenizer, text, 18)[:2] == ["The tower is old. Maren Holt kept its log.", text[43:80]]


def test_else_it_ends_with_a_word_and_the_next_repeats_some(embedded):
    text = "the tower is old and grey and unsinkability was the word of the keeper in his log for forty years"
    found = passages(embedded.tokenizer, text, 11)
    assert (
        found[0] == "the tower is old and grey and" and found[1].startswith("grey and unsinkability") and len(found) > 2
    )


@given(st.text(st.sampled_from("ab .!\n\u00e9"), min_size=1, max_size=300), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_passages_hold_every_token_and_are_not_too_long(embedded, text, length):
    pieces = embedded.tokenizer.pieces(text)
    offsets, words = np.array(pieces.offsets, int).reshape(-1, 2), np.array(pieces.word_ids, int)
    found = list(cut(text, offsets, words, length))
    most = length if len(words) <= length else max(1, 3 * length // 4)
    assert all(0 < stop - start <= most for start, stop in found) and (len(found) == 1) == (0 < len(words) <= length)
    assert all(a < b and c < d and c - most // 4 <= b <= c for (a, c), (b, d) in itertools.pairwise(found))
    assert {i for start, stop in found for i in range(start, stop)} == set(range(len(words)))
    for start, stop in found:  # a word is cut only if there is no other place
        for place in (start, stop):
            if 0 < place < len(words) and words[place - 1] == words[place]:
                assert length < 8 or words[max(0, place - length // 2 + 1)] == words[place]


# spans of words


@given(st.lists(st.integers(1, 4), min_size=1, max_size=8), st.integers(1, 6), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_logits_of_words_are_the_highest_of_the_pieces(sizes, longest, seed):
    start, end = np.random.RandomState(seed).randn(2, sum(sizes)).astype(np.float32)
    stop = np.cumsum(sizes)
    first, last = stop - sizes, stop - 1
    margins = word_span_logits(start, end, first, last, longest)
    for i, k in np.ndindex(len(sizes), longest):
        j, expected = i + k, -np.inf
        if j < len(sizes) and (k == 0 or last[j] - first[i] < longest):
            expected = float(max(start[first[i] : last[i] + 1])) + float(max(end[first[j] : last[j] + 1]))
        assert margins[i, k] == expected


def test_disjoint_spans_come_best_first():
    margins = np.array([[1.0, 5.0], [3.0, -np.inf], [2.0, 2.0], [4.0, -np.inf]])
    assert list(disjoint_spans(margins)) == [(5.0, 0, 1), (4.0, 3, 3), (2.0, 2, 2)]
    assert margins[0, 1] == 5.0


# what is given


def test_documents_are_tokenized_once_and_asked_many_times(embedded, monkeypatch):
    texts = embedded.documents(LOGS)
    expected = [embedded.search(question, LOGS) for question in ("Who kept the log?", "What was rung?")]
    monkeypatch.setattr("numpy_distilbert.documents.cut", None)
    assert [embedded.search(question, texts) for question in ("Who kept the log?", "What was rung?")] == expected
    assert repr(texts) == f"Documents(3 texts, 3 passages, {len(texts.ids)} tokens)"


def test_the_share_of_unknown_tokens_is_known(embedded):
    assert (embedded.documents("Ada").unknown, embedded.documents("\U0001f56f\U0001f56f Ada").unknown) == (0, 0.5)
    assert embedded.documents("\0").unknown == 0


def test_a_small_model_reads_small_passages(random_checkpoint):
    qa = QuestionAnswerer.from_pretrained(random_checkpoint("cased", max_position_embeddings=32))
    assert max(stop - start for _, start, stop in qa.documents(ISLAND).passages) == 18
    assert qa.search("who " * 60, ISLAND)


@pytest.mark.parametrize("longest", range(4, 17))
def test_the_smallest_windows_hold_a_question(shallow, longest):
    qa = Remembering(shallow, max_seq_len=longest)
    assert qa.search("who kept the log of the tower", LOGS["tower.txt"], read=None)
    asked = {ids[1] for ids, _ in qa.read}
    assert all(len(ids) <= longest for ids, _ in qa.read)
    assert longest == 4 or asked == {shallow.tokenizer.pieces("who").ids[0]}


WRONG = {
    "none": ([], {}, ValueError, "documents must hold at least one text"),
    "no names": ({}, {}, ValueError, "documents must hold at least one text"),
    "a blank text": (" \n", {}, ValueError, r"document 0 must not be blank, got ' \\n'"),
    "a blank one": ({"a": "Ada", "b": ""}, {}, ValueError, "document 'b' must not be blank, got ''"),
    "not a text": (["Ada", 7], {}, TypeError, "document 1 must be a str, got int"),
    "a name that is not a text": ({7: "Ada"}, {}, TypeError, "the name 7 of a document must be a str, got int"),
    "bytes": (b"Ada", {}, TypeError, "documents must be a str, or a sequence or mapping of str, got bytes"),
    "nothing": (None, {}, TypeError, "documents must be a str, or a sequence or mapping of str, got NoneType"),
    "read 0": ("Ada", {"read": 0}, ValueError, "read must be at least 1, got 0"),
    "read all": ("Ada", {"read": "all"}, TypeError, "read must be an int, got str"),
    "top_k 0": ("Ada", {"top_k": 0}, ValueError, "top_k must be at least 1, got 0"),
    "a blank question": ("Ada", {"question": " "}, ValueError, "question must not be blank, got ' '"),
    "a question that is not a text": ("Ada", {"question": None}, TypeError, "question must be a str, got NoneType"),
}


@pytest.mark.parametrize("given_documents, others, error, message", WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_named(shallow, given_documents, others, error, message):
    with pytest.raises(error, match=message):
        shallow.search(**{"question": "Who?", "documents": given_documents} | others)


def test_documents_of_another_model_are_refused(embedded, cased):
    with pytest.raises(ValueError, match="tokenized for a model with another vocabulary"):
        embedded.search("Who?", cased.documents("Ada"))
    with pytest.raises(ValueError, match=r"passages of at most 380 tokens, so that a question fits .*, got 381"):
        embedded.search("Who?", Documents("Ada", embedded.tokenizer, 381))
    assert embedded.search("Who?", Documents("Ada", embedded.tokenizer, 380))
    with pytest.raises(TypeError, match="tokenizer must be a Tokenizer"):
        Documents("Ada", None)
    with pytest.raises(ValueError, match="passage_tokens must be at least 1, got 0"):
        Documents("Ada", embedded.tokenizer, 0)
