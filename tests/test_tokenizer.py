"""The tokenizer against committed output of transformers 5.2.0 (reference/tokens.json), and its invariants."""

import json
import pickle
import shutil

import pytest
from conftest import REFERENCE
from properties import example, given, st
from reference.texts import ISLAND, around, character_blocks, digest, generated_strings, known

from numpy_distilbert import CheckpointError, Tokenizer

CASES = json.loads((REFERENCE / "tokens.json").read_text(encoding="utf-8"))
SPECIAL = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2}
ADDED = {"special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}


@pytest.fixture(scope="module")
def tokenizers(embedded, cased, tmp_path_factory):
    """By the names that reference/tokens.json has for them; two are read from a tokenizer.json alone."""
    found = {"uncased": embedded.tokenizer, "cased": cased.tokenizer}
    for name in ("renamed", "template"):
        folder = tmp_path_factory.mktemp(name)
        shutil.copy(REFERENCE / f"{name}_tokenizer.json", folder / "tokenizer.json")
        found[name] = Tokenizer.from_pretrained(folder)
    return found


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


@of_kind("special tokens split")
def test_special_tokens_in_the_text_may_be_plain_text(case, tokenizers):
    vocab, lowercase = tokenizers[case["casing"]].vocab, case["casing"] == "uncased"
    tokenizer = Tokenizer(vocab, lowercase=lowercase, split_special_tokens=True)
    assert as_reference(tokenizer(case["text"])) == case["encodings"][0]


@pytest.mark.parametrize(
    "case", [c for c in CASES if c["kind"] == "text" and "decoded" in c], ids=lambda case: case["casing"]
)
def test_decoded_text_equals_the_reference(case, tokenizers):
    tokenizer = tokenizers[case["casing"]]
    ids = case["encodings"][0]["ids"]
    assert [tokenizer.decode(ids, skip_special_tokens=skip) for skip in (True, False)] == case["decoded"]


@of_kind("every id")
def test_every_piece_decodes_as_in_the_reference(case, tokenizers):
    decode, ids = tokenizers[case["casing"]].decode, case["ids"]
    assert [decode(order, skip) for order in (ids, ids[::-1]) for skip in (True, False)] == case["decoded"]


@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("casing", ["uncased", "cased"])
def test_every_character_is_seen_as_the_reference_sees_it(casing, step, tokenizers):
    """Split and normalised in the texts of around(), by digests of 1,024 characters."""
    tokenizer = tokenizers[casing]

    def words(code):
        parts = [part for text in around(code) for part in tokenizer._split_words.findall(text)]
        return [word for word, _ in map(tokenizer._normalise, parts) if word]

    theirs = json.loads((REFERENCE / "characters.json").read_text(encoding="utf-8"))[casing]
    blocks = [*character_blocks()]
    assert [start for start, _ in blocks] == list(theirs)
    for start, block in blocks[::step]:
        assert digest(words(code) for code in block) == theirs[start], start


@pytest.mark.reference
def test_generated_texts_equal_the_installed_tokenizers_library(tokenizers):
    library = pytest.importorskip("tokenizers", reason="compares with the tokenizers library, which is not installed")
    for casing, lowercase in (("uncased", True), ("cased", False)):
        reference = library.BertWordPieceTokenizer(tokenizers[casing].vocab, lowercase=lowercase)
        for text in generated_strings(2000, seed=1):
            ours, theirs = tokenizers[casing](text), reference.encode(known(text))
            assert (ours.ids, ours.offsets, ours.word_ids) == (theirs.ids, theirs.offsets, theirs.word_ids), text


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
    for piece, (start, end) in list(zip(encoding.tokens, encoding.offsets, strict=True))[1:-1]:
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
    parts = [[o for o, s in zip(w.offsets, w.sequence_ids, strict=True) if s == 1] for w in windows]
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
        '{"do_lower_case": true, "strip_accents": false, "tokenize_chinese_chars": false, "model_max_length": 77}',
        encoding="utf-8",
    )
    tokenizer = Tokenizer.from_pretrained(tmp_path)
    assert tokenizer("É 漢字").tokens[1:-1] == ["é", "漢字"]
    assert tokenizer.model_max_length == 77


def test_words_are_remembered_within_bounds(embedded, monkeypatch):
    monkeypatch.setattr("numpy_distilbert.tokenizer.REMEMBERED_PIECES", 10)
    tokenizer = Tokenizer(embedded.tokenizer.vocab)
    tokenizer("word word " + "x" * 100_000)
    assert list(tokenizer._words) == ["word", " word"]  # and no giant
    text = " ".join(map(str, range(1000)))
    assert tokenizer(text) == embedded.tokenizer(text)
    assert len(tokenizer._words) <= 10


def test_a_tokenizer_can_be_pickled(embedded):
    text = "Ada [SEP] lives in Łódź."
    assert pickle.loads(pickle.dumps(embedded.tokenizer))(text) == embedded.tokenizer(text)


def test_pieces_are_those_of_tokenizer_json_before_vocab_txt(tmp_path):
    shutil.copy(REFERENCE / "template_tokenizer.json", tmp_path / "tokenizer.json")
    (tmp_path / "vocab.txt").write_text("[UNK]\n[CLS]\n[SEP]\nother\n", encoding="utf-8")
    assert Tokenizer.from_pretrained(tmp_path)("a other").tokens == ["[CLS]", "a", "[UNK]", "[SEP]"]


def test_tokenizer_config_goes_before_tokenizer_json(tmp_path):
    shutil.copy(REFERENCE / "renamed_tokenizer.json", tmp_path / "tokenizer.json")
    assert Tokenizer.from_pretrained(tmp_path)("É 漢字 [MASK]").tokens == ["<cls>", "É", "漢字", "[MASK]", "<sep>"]
    config = {"do_lower_case": True, "strip_accents": False, "tokenize_chinese_chars": True, "model_max_length": 77}
    config |= {"cls_token": {"content": "a", "special": True}, "sep_token": "b", "split_special_tokens": True}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    tokenizer = Tokenizer.from_pretrained(tmp_path)
    assert tokenizer("É 漢字 [MASK]").tokens == ["a", "é", "漢", "字", *["<unk>"] * 3, "b"]
    assert tokenizer.model_max_length == 77
    assert Tokenizer.from_pretrained(tmp_path, split_special_tokens=False)("[MASK]").tokens == ["a", "[MASK]", "b"]


def test_special_tokens_map_of_older_checkpoints_is_read(tmp_path):
    (tmp_path / "vocab.txt").write_text("[UNK]\n[CLS]\n[SEP]\n<s>\n</s>\na\n<hi>\n", encoding="utf-8")
    tokens = {"cls_token": "<s>", "sep_token": {"content": "</s>"}, "additional_special_tokens": ["<hi>"]}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(tokens), encoding="utf-8")
    assert Tokenizer.from_pretrained(tmp_path)("a<hi>").tokens == ["<s>", "a", "<hi>", "</s>"]
    (tmp_path / "tokenizer_config.json").write_text('{"cls_token": "[CLS]"}', encoding="utf-8")
    assert Tokenizer.from_pretrained(tmp_path)("a").tokens == ["[CLS]", "a", "</s>"]


def test_special_tokens_may_be_renamed_and_added_by_tokenizer_config(tmp_path):
    (tmp_path / "vocab.txt").write_text("<unk>\n<s>\n</s>\na\n[CLS]\n", encoding="utf-8")
    renamed = {"unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>"}
    added = {"5": ADDED | {"content": "<hi>"}}
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps(renamed | {"added_tokens_decoder": added}), encoding="utf-8"
    )
    tokenizer = Tokenizer.from_pretrained(tmp_path)
    encoding = tokenizer("a<hi>a [SEP]")
    assert encoding.tokens == ["<s>", "a", "<hi>", "a", *["<unk>"] * 3, "</s>"]
    assert tokenizer.decode(encoding.ids) == "a a"


def test_decode_refuses_ids_outside_the_vocabulary(embedded):
    with pytest.raises(ValueError, match="ids must be ids of the vocabulary, got 30522"):
        embedded.tokenizer.decode([101, 30522])


def test_char_to_token_finds_the_token_of_a_character(embedded):
    encoding = embedded.tokenizer("Who is it?", "It is unaffable Ada.")
    for sequence, text in enumerate(("Who is it?", "It is unaffable Ada.")):
        for position, character in enumerate(text):
            token = encoding.char_to_token(position, sequence)
            if character == " ":
                assert token is None
            else:
                start, end = encoding.offsets[token]
                assert start <= position < end and encoding.sequence_ids[token] == sequence
    assert len(encoding) == len(encoding.ids)


@pytest.mark.parametrize(
    "first, last",
    [
        (0x3400, 0x4DBF),
        (0x4E00, 0x9FFF),
        (0xF900, 0xFAFF),
        (0x20000, 0x2A6DF),
        (0x2A700, 0x2B81F),
        (0x2B920, 0x2CEAF),
        (0x2F800, 0x2FA1F),
    ],
)
def test_ideographs_stand_alone(first, last):
    for code, alone in ((first - 1, False), (first, True), (last, True), (last + 1, False)):
        spans = [(0, 1), (1, 2), (2, 3)] if alone else [(0, 3)]
        assert Tokenizer(SPECIAL)(f"a{chr(code)}b").offsets[1:-1] == spans


def test_an_unknown_word_lies_from_its_first_to_its_last_kept_character():
    assert Tokenizer(SPECIAL)("\u200bx\u200by\u200b").offsets[1] == (1, 4)


def test_windows_one_at_a_time_are_the_windows(embedded):
    windows = embedded.tokenizer.iter_windows("Who?", ISLAND, max_length=40, stride=8, max_question_length=None)
    assert next(windows) == embedded.tokenizer.windows("Who?", ISLAND, max_length=40, stride=8)[0]
    assert list(windows) == embedded.tokenizer.windows("Who?", ISLAND, max_length=40, stride=8)[1:]


def test_defaults(embedded):
    assert Tokenizer(SPECIAL | {"a": 3})("A").tokens[1] == "a"
    windows = embedded.tokenizer.windows("Who?", ISLAND)
    assert len(windows) > 1 and windows == embedded.tokenizer.windows("Who?", ISLAND, max_length=384, stride=128)


@pytest.mark.parametrize("missing", ["[UNK]", "[CLS]", "[SEP]"])
def test_a_vocabulary_without_a_special_token_is_refused(missing):
    with pytest.raises(CheckpointError, match=rf"no \{missing}"):
        Tokenizer({token: i for token, i in SPECIAL.items() if token != missing})


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda t: t(None), TypeError, "text must be a str, got NoneType"),
        (lambda t: t("a", b"b"), TypeError, "pair must be a str, got bytes"),
        (lambda t: t.windows(1, "a"), TypeError, "question must be a str, got int"),
        (lambda t: t.iter_windows(1, "a", 40, 8, None), TypeError, "question must be a str, got int"),
        (lambda t: t.windows("a", ["b"]), TypeError, "context must be a str, got list"),
        (lambda t: t.windows("a", "b", max_length=3), ValueError, "max_length must be at least 4"),
        (lambda t: t.windows("a", "b", max_length=9.0), TypeError, "max_length must be an int, got float"),
        (lambda t: t.windows("a", "b", stride=-1), ValueError, "stride must be at least 0, got -1"),
        (lambda t: t.windows("a", "b", stride=None), TypeError, "stride must be an int, got NoneType"),
        (
            lambda t: t.windows("a", "b", max_question_length=0),
            ValueError,
            "max_question_length must be at least 1, got 0",
        ),
        (
            lambda t: t.windows("a", "b", max_question_length="1"),
            TypeError,
            "max_question_length must be an int, got str",
        ),
        (lambda t: Tokenizer(["[UNK]"]), TypeError, "vocab must be a mapping of pieces to ids, got list"),
        (lambda t: Tokenizer(SPECIAL | {"a": 0}), ValueError, "vocab must give every piece an id of its own"),
        (lambda t: Tokenizer(SPECIAL | {"a": -1}), ValueError, "vocab must give every piece an id of its own"),
        (lambda t: Tokenizer(SPECIAL | {"a": "3"}), TypeError, "vocab must map str to int, got 'a': '3'"),
        (lambda t: Tokenizer(SPECIAL | {5: 6}), TypeError, "vocab must map str to int, got 5: 6"),
        (
            lambda t: Tokenizer(SPECIAL, added_tokens={"[CLS]": 9}),
            ValueError,
            r"an id of its own from 0 up, '\[CLS\]' has 9",
        ),
        (lambda t: Tokenizer(SPECIAL, added_tokens={"": 9}), ValueError, "added_tokens must each have from 1"),
        (lambda t: Tokenizer(SPECIAL, lowercase="no"), TypeError, "lowercase must be a bool, got str"),
        (lambda t: Tokenizer(SPECIAL, strip_accents=2), TypeError, "strip_accents must be a bool, got int"),
    ],
)
def test_bad_arguments_are_named(call, error, message, embedded):
    with pytest.raises(error, match=message):
        call(embedded.tokenizer)


def test_an_encoding_is_shown_without_the_whole_vocabulary(embedded):
    assert len(repr(embedded.tokenizer("Ada"))) < 300
