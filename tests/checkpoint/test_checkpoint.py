"""Reading a checkpoint: what is accepted, and what is refused by name."""

import json

import numpy as np
import pytest
from conftest import REFERENCE
from properties import given, settings, st
from safetensors.numpy import load_file, save_file

from numpy_distilbert import (
    Checkpoint,
    CheckpointError,
    DistilBertForQuestionAnswering,
    QuestionAnswerer,
    Tokenizer,
)
from numpy_distilbert.checkpoint import hub
from numpy_distilbert.checkpoint.files import read_vocabulary
from numpy_distilbert.checkpoint.tensors import Weights
from numpy_distilbert.lab.synthetic import SHAPES, random_weights, write_checkpoint
from numpy_distilbert.parameters import Config


@pytest.fixture
def small(tmp_path):
    """A checkpoint that loads and answers, to be broken."""
    write_checkpoint(tmp_path, "one_head")
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nb\n##c\n.\n", encoding="utf-8")
    return tmp_path


def config(**changes):
    def change(folder):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")

    return change


def weights(**changes):
    """Tensors by name, None to leave one out."""

    def change(folder):
        changed = random_weights(SHAPES["one_head"], seed=0) | {
            name.replace("__", "."): t for name, t in changes.items()
        }
        save_file({name: t for name, t in changed.items() if t is not None}, folder / "model.safetensors")

    return change


def content(name, text):
    return lambda folder: (folder / name).write_bytes(text)


TEMPLATE = json.loads((REFERENCE / "template_tokenizer.json").read_text(encoding="utf-8"))
VOCAB = TEMPLATE["model"]["vocab"]


def tokenizer_json(part, **changes):
    def change(folder):
        file = TEMPLATE | {part: TEMPLATE[part] | changes}
        (folder / "tokenizer.json").write_text(json.dumps(file), encoding="utf-8")

    return change


def added_token(**changes):
    token = {
        "content": "<hi>",
        "special": True,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
    }
    text = json.dumps({"added_tokens_decoder": {"8": token | changes}})
    return lambda folder: (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")


def missing(name):
    return lambda folder: (folder / name).unlink()


def folder_instead(name):
    return lambda folder: ((folder / name).unlink(), (folder / name).mkdir())


def cut_short(name):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-1])


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_tensors_are_as_they_are_in_the_file(dtype, tmp_path):
    weights = random_weights(SHAPES["odd"], seed=1)
    read = Weights(write_checkpoint(tmp_path, "odd", dtype))
    assert read.keys() == weights.keys()
    for name, array in read.items():
        assert array.dtype == dtype
        np.testing.assert_array_equal(array, weights[name].astype(dtype))


def test_a_float16_file_is_computed_in_float32(tmp_path):
    folder = write_checkpoint(tmp_path, "odd", np.float16)
    weights = {name: tensor.astype(np.float32) for name, tensor in load_file(folder / "model.safetensors").items()}
    config = Config.from_checkpoint(Checkpoint(folder))
    ids = [[1, 2, 3, 4]]
    output = DistilBertForQuestionAnswering.from_pretrained(folder)(ids, output_hidden_states=True)
    assert output.start_logits.dtype == output.hidden_states[0].dtype == np.float32
    expected = DistilBertForQuestionAnswering(config, weights)(ids)
    np.testing.assert_array_equal(output.start_logits, expected.start_logits)


def test_layer_norms_may_have_their_old_names(tmp_path):
    weights = random_weights(SHAPES["odd"], seed=1)
    old = {
        n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta") for n in weights
    }
    assert len(old - weights.keys()) == 2
    save_file(
        dict(zip(sorted(old), (weights[name] for name in sorted(weights)), strict=True)), tmp_path / "model.safetensors"
    )
    assert Weights(tmp_path).keys() == weights.keys()


def test_the_small_checkpoint_answers(small):
    assert QuestionAnswerer.from_pretrained(small)("a b?", "bc a.")["answer"] in "bc a."


def test_a_path_may_be_a_string(small):
    assert QuestionAnswerer.from_pretrained(str(small)).model.config.dim == 6


REFUSED = [
    (missing("config.json"), r"config\.json: cannot be read \(No such file"),
    (content("config.json", b"{"), r"config\.json: not JSON"),
    (content("config.json", b"[" * 100_000), r"config\.json: not JSON"),
    (content("config.json", b'{"dim": ' + b"9" * 5000 + b"}"), r"config\.json: not JSON"),
    (content("config.json", b"[]"), r"config\.json: holds list, needs a JSON object"),
    (config(model_type="bert"), r"config\.json: model_type is 'bert', needs 'distilbert'"),
    (config(activation="relu"), r"config\.json: activation is 'relu', needs 'gelu'"),
    (config(n_layers=None), r"config\.json: n_layers is None, needs a positive integer"),
    (config(dim=-6), r"config\.json: dim is -6, needs a positive integer"),
    (config(n_heads=True), r"config\.json: n_heads is True, needs a positive integer"),
    (config(n_heads=4), r"config\.json: 4 n_heads do not divide dim 6"),
    (config(n_layers=2), r"model\.safetensors: tensor \S+layer\.1\.\S+ is missing"),
    (config(n_layers=10**12), r"model\.safetensors: tensor \S+layer\.999999999999\.\S+ is missing"),
    (config(hidden_dim=7), r"lin1\.weight has shape \(5, 6\), the configuration needs \(7, 6\)"),
    (missing("model.safetensors"), r"model\.safetensors: missing\. Weights in pytorch_model\.bin are a pickle"),
    (folder_instead("model.safetensors"), r"model\.safetensors: not a readable safetensors file"),
    (cut_short("model.safetensors"), r"model\.safetensors: not a readable safetensors file"),
    (weights(qa_outputs__bias=None), r"model\.safetensors: tensor qa_outputs\.bias is missing"),
    (
        weights(qa_outputs__bias=np.zeros(2, np.int64)),
        r"tensor qa_outputs\.bias in model\.safetensors is I64, needs F64, F32, F16, BF16",
    ),
    (missing("vocab.txt"), r"vocab\.txt: cannot be read \(No such file"),
    (folder_instead("vocab.txt"), r"vocab\.txt: cannot be read \(Is a directory"),
    (content("vocab.txt", b""), r"vocab\.txt: is empty, needs one piece on each line"),
    (content("vocab.txt", b"[UNK]\n[CLS]\n"), r"vocab\.txt: no \[SEP\]"),
    (content("vocab.txt", b"[UNK]\n\xff"), r"vocab\.txt: not UTF-8 text \(line 2, byte 6\)"),
    (content("vocab.txt", b"[UNK]\na\nb\na\n"), r"vocab\.txt: line 4 repeats \"a\" of line 2"),
    (content("vocab.txt", b"[UNK]\n[CLS]\n[SEP]\na\nb\nc\nd\ne\nf\ng\nh\ni\n"), r"up to id 11, .* vocab_size is 11"),
    (config(n_layers=0), r"config\.json: n_layers is 0, needs a positive integer"),
    (weights(qa_outputs__weight=np.zeros((3, 6), np.float32)), r"qa_outputs\.weight has shape \(3, 6\)"),
    (content("vocab.txt", "[UNK]\n[CLS]\n[SEP]\n".encode("utf-16")), r"vocab\.txt: not UTF-8 text \(line 1, byte 0\)"),
    (content("tokenizer_config.json", b"1"), r"tokenizer_config\.json: holds int"),
    (
        content("tokenizer_config.json", b'{"do_lower_case": "no"}'),
        r"config\.json: do_lower_case is \"no\", needs true",
    ),
    (content("tokenizer_config.json", b'{"strip_accents": 1}'), r"config\.json: strip_accents is 1, needs true"),
    (
        content("tokenizer_config.json", b'{"tokenize_chinese_chars": null}'),
        r"tokenize_chinese_chars is null, needs true",
    ),
    (
        content("tokenizer_config.json", b'{"model_max_length": "9"}'),
        r"model_max_length is \"9\", needs an integer from 4",
    ),
    (content("tokenizer_config.json", b'{"model_max_length": 3}'), r"model_max_length is 3, needs an integer from 4"),
]


REFUSED += [
    (
        content("tokenizer.json", json.dumps({str(i): 0 for i in range(60_000)}).encode()[:-1] + b', "7": 0}'),
        r'not JSON \("7" is twice in one object\)',  # in less than the minute that a quadratic search took
    ),
    (content("tokenizer.json", b"{"), r"tokenizer\.json: not JSON"),
    (content("tokenizer.json", b'{"model": 1, "model": 2}'), r'not JSON \("model" is twice in one object\)'),
    (content("tokenizer.json", b"{}"), r"tokenizer\.json: not as the tokenizers library writes it \(KeyError"),
    (tokenizer_json("model", vocab=[]), r"tokenizer\.json: not as the tokenizers library writes it"),
    (
        tokenizer_json("model", vocab=VOCAB | {"b": 5}),
        r"tokenizer\.json: vocab must give every piece an id .* 'b' has 5",
    ),
    (tokenizer_json("model", vocab=VOCAB | {"b": "6"}), r"tokenizer\.json: vocab must map str to int, got 'b': '6'"),
    (tokenizer_json("model", vocab=VOCAB | {"b": np.inf}), r"tokenizer\.json: vocab must map str to int, got 'b'"),
    (tokenizer_json("model", vocab=VOCAB | {"[SEP]": 99}), r'"\[SEP\]" has id 3 in post_processor, 99 in model\.vocab'),
    (tokenizer_json("model", unk_token=5), r"tokenizer\.json: no 5 among the pieces"),
    (tokenizer_json("model", type="BPE"), r'tokenizer\.json: model\.type is "BPE", needs "WordPiece"'),
    (tokenizer_json("model", max_input_chars_per_word=200), r"max_input_chars_per_word is 200, needs 100"),
    (tokenizer_json("model", continuing_subword_prefix="@@"), r'continuing_subword_prefix is "@@", needs "##"'),
    (tokenizer_json("normalizer", type="NFC"), r'normalizer\.type is "NFC", needs "BertNormalizer"'),
    (tokenizer_json("normalizer", clean_text=False), r"normalizer\.clean_text is false, needs true"),
    (tokenizer_json("normalizer", lowercase=1), r"normalizer\.lowercase is 1, needs true or false"),
    (
        tokenizer_json("pre_tokenizer", type="Metaspace"),
        r'pre_tokenizer\.type is "Metaspace", needs "BertPreTokenizer"',
    ),
    (
        tokenizer_json("post_processor", type="ByteLevel"),
        r'post_processor\.type is "ByteLevel", needs "BertProcessing"',
    ),
    (tokenizer_json("post_processor", pair=[]), r"single and \.pair are not \[CLS\] A \[SEP\] B \[SEP\]"),
    (tokenizer_json("decoder", cleanup=False), r"tokenizer\.json: decoder\.cleanup is false, needs true"),
    (added_token(special=False), r'special of the added token "<hi>" is false, needs true'),
    (added_token(lstrip=True), r'lstrip of the added token "<hi>" is true, needs false'),
    (added_token(content=""), r"an added token is .* needs a token"),
    (added_token(content="a"), r"vocab\.txt: vocab must give every piece an id of its own from 0 up, 'a' has 8"),
    (
        content("tokenizer_config.json", b'{"added_tokens_decoder": {"8": "a"}}'),
        r'an added token is "a", needs an object',
    ),
    (
        content("tokenizer_config.json", b'{"added_tokens_decoder": {"%s": {}}}' % (b"9" * 5000)),
        "needs an object of tok",
    ),
    (
        content("tokenizer_config.json", b'{"added_tokens_decoder": []}'),
        r"added_tokens_decoder is \[\], needs an object",
    ),
    (content("tokenizer_config.json", b'{"extra_special_tokens": 5}'), r"extra_special_tokens is 5, needs a list"),
    (content("tokenizer_config.json", b'{"additional_special_tokens": ["<hi>"]}'), r'has "<hi>", which has no id'),
    (content("tokenizer_config.json", b'{"cls_token": 1}'), r"tokenizer_config\.json: cls_token is 1, needs a token"),
    (content("tokenizer_config.json", b'{"cls_token": "<s>"}'), r"vocab\.txt: no <s> among the pieces"),
    (content("special_tokens_map.json", b'{"cls_token": "<s>"}'), r"vocab\.txt: no <s> among the pieces"),
    (
        content("tokenizer_config.json", b'{"split_special_tokens": 1}'),
        r"split_special_tokens is 1, needs true or false",
    ),
]


@pytest.mark.parametrize("change, message", REFUSED, ids=[message for _, message in REFUSED])
def test_refused_by_name(change, message, small):
    change(small)
    with pytest.raises(CheckpointError, match=message):
        QuestionAnswerer.from_pretrained(small)


def test_a_missing_folder_is_named(tmp_path):
    for load in (QuestionAnswerer, DistilBertForQuestionAnswering, Tokenizer):
        for path in (tmp_path / "nowhere", tmp_path / ("long" * 2000 + "nowhere"), "nowhere"):
            with pytest.raises(CheckpointError, match="nowhere: no such folder"):
                load.from_pretrained(path)
        with pytest.raises(CheckpointError, match="'': no such folder"):
            load.from_pretrained("")
        with pytest.raises(TypeError, match="path must be a str or a path, got int"):
            load.from_pretrained(3)


def test_the_model_needs_no_vocabulary(small):
    (small / "vocab.txt").unlink()
    assert DistilBertForQuestionAnswering.from_pretrained(small)([[1, 2]]).start_logits.shape == (1, 2)


def test_only_line_feeds_end_a_piece(tmp_path):
    (tmp_path / "vocab.txt").write_text("a b\n\x85\n\u2028\n \n", encoding="utf-8")
    assert read_vocabulary(tmp_path / "vocab.txt") == {"a b": 0, "\x85": 1, "\u2028": 2, " ": 3}
    (tmp_path / "vocab.txt").write_bytes(b"\xef\xbb\xbf[PAD]\r\na\rb\r\n")  # as an editor may save it
    assert read_vocabulary(tmp_path / "vocab.txt") == {"[PAD]": 0, "a\rb": 1}


def test_a_missing_embedded_checkpoint_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "PACKAGE", tmp_path / "package")
    with pytest.raises(CheckpointError, match="Install the package again"):
        hub.find()


FUZZED = {
    "vocab.txt": b"[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nb\n##c\n.\n",
    "tokenizer_config.json": b'{"do_lower_case": true, "model_max_length": 24}',
    "tokenizer.json": (REFERENCE / "template_tokenizer.json").read_bytes(),
}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**70) | st.floats() | st.sampled_from(["gelu", "", "x" * 99]),
    lambda values: st.lists(values, max_size=2) | st.dictionaries(st.sampled_from(["type", "content", "0"]), values),
    max_leaves=3,
)


def with_another_value(data, value):
    """value with something else at one place in it."""
    keys = sorted(value) if isinstance(value, dict) else range(len(value))
    if not keys:
        return data.draw(VALUES)
    key = data.draw(st.sampled_from(keys))
    deeper = isinstance(value[key], (dict, list)) and data.draw(st.booleans())
    value[key] = with_another_value(data, value[key]) if deeper else data.draw(VALUES)
    return value


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory):
    """A folder for checkpoints, and the content of a valid one."""
    folder = write_checkpoint(tmp_path_factory.mktemp("fuzz"), "odd")
    files = {path.name: path.read_bytes() for path in folder.iterdir()} | FUZZED
    for name in FUZZED:  # valid with vocab.txt alone, and with tokenizer.json
        (folder / name).write_bytes(files[name])
        if name != "tokenizer_config.json":
            assert QuestionAnswerer.from_pretrained(folder)("a b?", "bc a.")["answer"]
    return folder, files


@settings(max_examples=300)
@given(data=st.data())
def test_a_changed_checkpoint_answers_or_is_refused(data, fuzzed):
    check_a_changed_checkpoint(data, *fuzzed)


@pytest.mark.slow
@settings(max_examples=10_000)
@given(data=st.data())
def test_ten_thousand_changed_checkpoints_answer_or_are_refused(data, fuzzed):
    check_a_changed_checkpoint(data, *fuzzed)


def check_a_changed_checkpoint(data, folder, files):
    files = dict(files)
    if data.draw(st.booleans()):
        del files["tokenizer.json"]
    name = data.draw(st.sampled_from(sorted(files)))
    kind = data.draw(st.sampled_from(["bytes", "value"]))
    if name == "model.safetensors" and kind == "value":
        length = int.from_bytes(files[name][:8], "little")
        header = json.dumps(with_another_value(data, json.loads(files[name][8 : 8 + length]))).encode()
        files[name] = len(header).to_bytes(8, "little") + header + files[name][8 + length :]
    elif name.endswith(".json") and kind == "value":
        files[name] = json.dumps(with_another_value(data, json.loads(files[name]))).encode()
    else:
        content = bytearray(files[name])
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(content)))
            content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        files[name] = bytes(content)
    for path in folder.iterdir():
        path.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    try:
        answer = QuestionAnswerer.from_pretrained(folder)("a b?", "bc a.")
    except CheckpointError:
        return
    assert answer["answer"] == "bc a."[answer["start"] : answer["end"]] and 0 <= answer["score"] < 1.001


def test_a_checkpoint_is_looked_for_once(monkeypatch):
    found, find = [], hub.find
    monkeypatch.setattr(hub, "find", lambda *arguments: found.append(arguments) or find(*arguments))
    QuestionAnswerer.from_pretrained()
    assert found == [(None, None)]
    with pytest.raises(ValueError, match="revision must be None, got 'main': the checkpoint is found already"):
        Tokenizer.from_pretrained(Checkpoint(), "main")
