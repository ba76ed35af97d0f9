"""The tokenizer against committed output of transformers 5.2.0 (reference/tokens.json), and its invariants."""

import json

import pytest
from conftest import REFERENCE
from hypothesis import example, given
from hypothesis import strategies as st
from reference.texts import AWKWARD

from numpy_distilbert import CheckpointError, Tokenizer

CASES = json.loads((REFERENCE / "tokens.json").read_text())
SPECIAL = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2}


@pytest.fixture(scope="module")
def tokenizers(embedded, cased):
    return {"uncased": embedded.tokenizer, "cased": cased.tokenizer}


def as_reference(encoding):
    return {
        "ids": encoding.ids,
        "tokens": encoding.tokens,
        "offsets": [list(span) for span in encoding.offsets],
        "word_ids": encoding.word_ids,
        "sequence_ids": encoding.sequence_ids,
    }


def of_kind(kind):
    cases = [case for case in CASES if case["kind"] == kind]
    return pytest.mark.parametrize("case", cases, ids=[f"{case['casing']}-{i}" for i, case in enumerate(cases)])


@of_kind("text")
def test_texts_and_pairs_equal_transformers(case, tokenizers):
    encoding = tokenizers[case["casing"]](case["text"], case.get("pair"))
    assert as_reference(encoding) == case["encodings"][0]


@of_kind("windows")
def test_windows_equal_transformers(case, tokenizers):
    windows = tokenizers[case["casing"]].windows(
        case["question"], case["context"], max_length=case["max_length"], stride=case["stride"]
    )
    assert [as_reference(window) for window in windows] == case["encodings"]


@pytest.mark.reference
@given(text=st.text(alphabet=sorted(set("".join(AWKWARD)))))
def test_generated_texts_equal_the_installed_tokenizers_library(text, embedded):
    tokenizers = pytest.importorskip(
        "tokenizers", reason="compares with the tokenizers library, which is not installed"
    )
    reference = tokenizers.BertWordPieceTokenizer(dict(embedded.tokenizer.vocab), lowercase=True)
    encoding, theirs = embedded.tokenizer(text), reference.encode(text)
    assert (encoding.ids, encoding.offsets, encoding.word_ids) == (theirs.ids, theirs.offsets, theirs.word_ids)


def test_a_lone_surrogate_counts_as_the_replacement_character(embedded):
    for text in ("Ada \ud800 lives", "A\udfffda"):
        assert embedded.tokenizer(text) == embedded.tokenizer(
            text.replace("\ud800", "\ufffd").replace("\udfff", "\ufffd")
        )


@given(text=st.text() | st.text(st.characters(categories=["Cs", "Mn", "Lo", "Po"])))
@example(text="\ud800")
def test_offsets_are_ordered_and_inside_the_text(text, embedded, cased):
    for tokenizer in (embedded.tokenizer, cased.tokenizer):
        encoding = tokenizer(text)
        spans = encoding.offsets[1:-1]
        assert all(0 <= start < end <= len(text) for start, end in spans)
        assert spans == sorted(spans)
        words = encoding.word_ids[1:-1]
        assert sorted(set(words)) == list(range(len(set(words)))) and words == sorted(words)


@given(text=st.text(alphabet="abcdefgh ,.!"))
def test_offsets_hold_the_text_of_each_piece(text, embedded):
    encoding = embedded.tokenizer(text)
    for piece, (start, end) in list(zip(encoding.tokens, encoding.offsets))[1:-1]:
        assert text[start:end] == piece.removeprefix("##")


@given(
    context=st.lists(st.sampled_from(["a", "b", "c", "."]), max_size=60).map(" ".join),
    question=st.lists(st.sampled_from(["q", "w"]), max_size=12).map(" ".join),
    max_length=st.integers(4, 40),
    stride=st.integers(0, 40),
    limit=st.none() | st.integers(1, 20),
)
def test_windows_cover_the_context_once_but_for_their_overlap(context, question, max_length, stride, limit, embedded):
    tokenizer = embedded.tokenizer
    windows = tokenizer.windows(question, context, max_length, stride, limit)
    asked = tokenizer(question).ids[1:-1][: min(max_length - 4, limit or max_length)]
    room = max_length - 3 - len(asked)
    parts = [[o for o, s in zip(w.offsets, w.sequence_ids) if s == 1] for w in windows]
    covered = parts[0]
    for part in parts[1:]:
        overlap = min(stride, room - 1)
        assert part[:overlap] == covered[len(covered) - overlap :] and len(part) > overlap
        covered = covered + part[overlap:]
    assert covered == tokenizer(context).offsets[1:-1]
    assert all(len(part) == room for part in parts[:-1]) and len(parts[-1]) <= room
    assert all(w.ids[1 : 1 + w.sequence_ids.count(0)] == asked for w in windows)


def test_accents_may_be_kept_in_lower_case_and_stripped_in_upper_case():
    vocab = SPECIAL | {"é": 3, "e": 4, "É": 5, "E": 6}
    pieces = {
        (low, strip): Tokenizer(vocab, lowercase=low, strip_accents=strip)("É").tokens[1]
        for low in (True, False)
        for strip in (True, False, None)
    }
    assert pieces == {
        (True, True): "e",
        (True, False): "é",
        (True, None): "e",
        (False, True): "E",
        (False, False): "É",
        (False, None): "É",
    }


def test_chinese_characters_may_stay_together():
    vocab = SPECIAL | {"漢字": 3, "漢": 4, "字": 5}
    assert Tokenizer(vocab)("漢字").tokens[1:-1] == ["漢", "字"]
    assert Tokenizer(vocab, tokenize_chinese_chars=False)("漢字").tokens[1:-1] == ["漢字"]


def test_settings_come_from_tokenizer_config(tmp_path):
    (tmp_path / "vocab.txt").write_text("[UNK]\n[CLS]\n[SEP]\né\nÉ\ne\n漢字\n", encoding="utf-8")
    assert Tokenizer.from_pretrained(tmp_path)("É").tokens[1] == "e"  # lower case when nothing is said
    (tmp_path / "tokenizer_config.json").write_text(
        '{"do_lower_case": true, "strip_accents": false, "tokenize_chinese_chars": false, "model_max_length": 77}'
    )
    tokenizer = Tokenizer.from_pretrained(tmp_path)
    assert tokenizer("É 漢字").tokens[1:-1] == ["é", "漢字"]
    assert tokenizer.model_max_length == 77


def test_words_are_remembered_within_bounds(embedded):
    tokenizer = Tokenizer(embedded.tokenizer.vocab)
    tokenizer("word word " + "x" * 100_000)
    assert tokenizer._analyse.cache_info().currsize == 1 and tokenizer._analyse.cache_info().maxsize


@pytest.mark.parametrize("missing", ["[UNK]", "[CLS]", "[SEP]"])
def test_a_vocabulary_without_a_special_token_is_refused(missing):
    with pytest.raises(CheckpointError, match=rf"no \{missing}"):
        Tokenizer({token: i for token, i in SPECIAL.items() if token != missing})


@pytest.mark.parametrize("call, error, message", [
    (lambda t: t(None), TypeError, "text must be a str, got NoneType"),
    (lambda t: t("a", b"b"), TypeError, "pair must be a str, got bytes"),
    (lambda t: t.windows(1, "a"), TypeError, "question must be a str, got int"),
    (lambda t: t.windows("a", ["b"]), TypeError, "context must be a str, got list"),
    (lambda t: t.windows("a", "b", max_length=3), ValueError, "max_length must be at least 4"),
    (lambda t: t.windows("a", "b", max_length=9.0), TypeError, "max_length must be an int, got float"),
    (lambda t: t.windows("a", "b", stride=-1), ValueError, "stride must be at least 0, got -1"),
    (lambda t: t.windows("a", "b", stride=None), TypeError, "stride must be an int, got NoneType"),
    (lambda t: t.windows("a", "b", max_question_length=0), ValueError, "max_question_length must be at least 1, got 0"),
    (lambda t: t.windows("a", "b", max_question_length="1"), TypeError, "max_question_length must be an int, got str"),
    (lambda t: Tokenizer(["[UNK]"]), TypeError, "vocab must be a mapping of pieces to ids, got list"),
    (lambda t: Tokenizer(SPECIAL | {"a": 0}), ValueError, "vocab must give every piece an id of its own"),
    (lambda t: Tokenizer(SPECIAL | {"a": -1}), ValueError, "vocab must give every piece an id of its own"),
    (lambda t: Tokenizer(SPECIAL | {"a": "3"}), ValueError, "vocab must give every piece an id of its own"),
])  # fmt: skip
def test_bad_arguments_are_named(call, error, message, embedded):
    with pytest.raises(error, match=message):
        call(embedded.tokenizer)


def test_an_encoding_is_shown_without_the_whole_vocabulary(embedded):
    assert len(repr(embedded.tokenizer("Ada"))) < 300
