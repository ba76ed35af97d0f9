"""Hostile files: what docs/security.md promises, with little memory, each in one line."""

import gzip
import json
import os
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from conftest import posix
from properties import given, st
from safetensors.numpy import save_file

from numpy_distilbert import Checkpoint, CheckpointError, QuestionAnswerer, Tokenizer
from numpy_distilbert.checkpoint import hub
from numpy_distilbert.checkpoint.files import MAX_BYTES, check_inside
from numpy_distilbert.cli import asking, main
from numpy_distilbert.training.output import other_files
from numpy_distilbert.unicode.normalise import normalise

SPECIAL = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2}
PARAGRAPH = {"context": "a b", "qas": [{"id": "1", "question": "a", "answers": [{"text": "a", "answer_start": 0}]}]}
SQUAD = json.dumps({"version": "1.1", "data": [{"paragraphs": [PARAGRAPH]}]})
LITTLE_MEMORY = """
import resource, sys
from numpy_distilbert import Tokenizer, cli
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + int(sys.argv[1]),) * 2)
"""


def with_little_memory(code, folder, more):
    """Standard output and error of code in a process that may take so many more bytes than it has when it begins."""
    if sys.platform != "linux":
        pytest.skip("the address space is limited as Linux does it")
    command = [sys.executable, "-c", LITTLE_MEMORY + code, str(more)]
    done = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", timeout=300)
    return done.stdout, done.stderr


@pytest.fixture
def model(shallow_model, tmp_path):
    """A folder with a checkpoint, to be changed."""
    return shutil.copytree(shallow_model, tmp_path / "model")


def test_files_that_expand_are_refused_in_one_line(tmp_path):
    blanks = gzip.compress(b" " * 2**20) * 100
    (tmp_path / "squad.json.gz").write_bytes(gzip.compress(b'{"data": [') + blanks + gzip.compress(b"]}"))
    save_file({"a": np.zeros(2, np.float32)}, tmp_path / "ours.safetensors")
    np.savez(tmp_path / "theirs.npz", a=np.zeros(2, np.float32))
    zipped = zipfile.ZipFile(tmp_path / "theirs.npz", "a", zipfile.ZIP_DEFLATED, compresslevel=1)
    with zipped, zipped.open("b.npy", "w") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (500 * 2**18,)}
        np.lib.format.write_array_header_1_0(file, header)
        for _ in range(500):
            file.write(bytes(2**20))
    (tmp_path / "map.json").write_text('{"a": "b"}', encoding="utf-8")
    output, errors = with_little_memory(
        """
compare = ["compare", "ours.safetensors", "theirs.npz"]
for call in (
    ["evaluate", "squad.json.gz"],
    ["distill", "squad.json.gz", "--out", "out"],
    ["batch", "squad.json.gz", "-o", "out.jsonl"],
    compare,
    [*compare, "--map", "map.json"],
):
    print(call[0], cli.main(call))
""",
        tmp_path,
        400_000_000,
    )
    most = "it expands to more than 67,108,864 bytes; if you trust it, decompress it first"
    assert errors.splitlines() == [
        *[f"numpy-distilbert: squad.json.gz: cannot be read ({most})."] * 3,
        "numpy-distilbert: theirs.npz: not a readable .safetensors or .npz file "
        "(b has 524,288,128 bytes; the limit is 268,435,456).",
    ]
    assert [line for line in output.splitlines() if line[-2:] in (" 0", " 1", " 2")] == [
        "evaluate 2",
        "distill 2",
        "batch 2",
        "compare 0",
        "compare 2",
    ]


def test_half_a_million_characters_in_a_word_take_little_memory(tmp_path):
    output, errors = with_little_memory(
        """
tokenizer = Tokenizer({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3})
for word in ("\\ud55c" * 500_000, "a" + "\\u0301" * 500_000, "\\u200b" + "\\u302e" * 200_000 + "\\u0301"):
    encoding = tokenizer(word)
    print(encoding.tokens[1:-1], encoding.offsets[1:-1])
""",
        tmp_path,
        100_000_000,
    )
    assert errors == ""
    assert output.splitlines() == [
        "['[UNK]'] [(0, 500000)]",
        "['a'] [(0, 1)]",
        "['[UNK]'] [(1, 200001)]",
    ]


MARKS = "\u0301\u0323\u0345\u302e\u302f\u1b44\ua953\U0001d165\u0f71\u0f72\u0344"  # the third to eighth are not dropped
LETTERS = "ab\u00e9\ud55c\u1100\u1161\u0130\u03a3\u0f73\u200b\u00ad\U0001d1a3\u1e9b\u1f82"


@given(
    parts=st.lists(st.tuples(st.sampled_from(MARKS + LETTERS), st.integers(1, 12)), min_size=1, max_size=12),
    strip_accents=st.booleans(),
    most=st.integers(0, 20),
)
def test_a_long_word_has_the_beginning_and_the_end_of_the_whole(parts, strip_accents, most):
    word = "".join(character * count for character, count in parts)
    characters, origins = normalise(word, strip_accents, True, 10**9)
    if len(characters) > most:
        characters, origins = characters[:most] + characters[-1], origins[:most] + origins[-1:]
    assert normalise(word, strip_accents, True, most) == (characters, origins)


def test_a_word_has_pieces_up_to_a_hundred_characters_once_normalised():
    tokenizer = Tokenizer(SPECIAL | {"a": 3, "##a": 4})
    for word, length in (("a" * 100, 100), ("a" * 101, 1), ("\u00e1" * 100, 100), ("a\u0301" * 100, 100)):
        assert len(tokenizer(word)) - 2 == length
    assert tokenizer("\ud55c" * 33).offsets[1] == (0, 33) and tokenizer("a\u0301" * 101).offsets[1] == (0, 201)


@posix
@pytest.mark.parametrize("name", ["config.json", "vocab.txt", "tokenizer_config.json", "model.safetensors"])
@pytest.mark.parametrize("kind", ["fifo", "/dev/zero"])
def test_only_regular_files_of_a_checkpoint_are_read(name, kind, model):
    (model / name).unlink()
    os.mkfifo(model / name) if kind == "fifo" else (model / name).symlink_to(kind)
    with pytest.raises(CheckpointError, match=f"{name}: .*not a regular file; put a regular file in its place"):
        QuestionAnswerer.from_pretrained(model)


@pytest.mark.parametrize("name", ["config.json", "vocab.txt"])
def test_a_text_of_a_checkpoint_has_a_bound(name, model):
    with open(model / name, "r+b") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(CheckpointError, match=f"{name}: has more than 33,554,432 bytes"):
        QuestionAnswerer.from_pretrained(model)


def test_a_header_of_weights_has_a_bound(model):
    header = json.dumps(
        {f"{i:050}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(40_000)}
    ).encode()
    (model / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(CheckpointError, match=r"its header has 4,\d+,\d+ bytes; the limit is 4,194,304"):
        QuestionAnswerer.from_pretrained(model)


@pytest.mark.parametrize(
    "tokens, problem",
    [
        ([f"<{i}>" for i in range(1001)], "at most 1000 added_tokens are allowed, got 100[0-9]"),
        (["a" * 101], "added_tokens must each have from 1 to 100 characters"),
    ],
)
def test_added_tokens_have_a_bound(tokens, problem, model):
    rules = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False) | {"special": True}
    added = {str(9000 + i): rules | {"content": token} for i, token in enumerate(tokens)}
    (model / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": added}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=problem):
        Tokenizer.from_pretrained(model)


# links


@pytest.fixture
def secret(tmp_path):
    (tmp_path / "secret.txt").write_text("[UNK]\n[CLS]\n[SEP]\nof another\n", encoding="utf-8")
    return tmp_path / "secret.txt"


def cached(model, tmp_path):
    """The checkpoint as it is in the hub's cache: links to blobs."""
    repository = tmp_path / "models--owner--tiny"
    folder = repository / "snapshots" / "0123abc"
    folder.mkdir(parents=True)
    shutil.copytree(model, repository / "blobs")
    for path in model.iterdir():
        (folder / path.name).symlink_to(f"../../blobs/{path.name}")
    return folder


@posix
def test_what_was_fetched_is_copied(model, tmp_path):
    (model / "README.md").write_text("The card of these weights", encoding="utf-8")
    folder = cached(model, tmp_path)
    assert hub.copy(folder, tmp_path / "copies") == tmp_path / "copies" / "tiny"
    copied = tmp_path / "copies" / "tiny" / "vocab.txt"
    assert not copied.is_symlink() and copied.read_bytes() == (model / "vocab.txt").read_bytes()
    assert (copied.parent / "README.md").exists()
    beside_other_weights = {path.name for path in other_files(Checkpoint(folder))}
    assert beside_other_weights >= {"config.json", "vocab.txt"} and "README.md" not in beside_other_weights


@posix
@pytest.mark.parametrize("way", ["absolute", "relative", "through blobs", "blobs is a link"])
def test_a_link_out_of_a_checkpoint_is_not_copied(way, model, tmp_path, secret):
    folder = cached(model, tmp_path)
    path, blobs = folder / "vocab.txt", tmp_path / "models--owner--tiny" / "blobs"
    path.unlink()
    path.symlink_to({"absolute": secret, "relative": "../../../secret.txt"}.get(way, f"../../blobs/{secret.name}"))
    if way == "through blobs":
        (blobs / secret.name).symlink_to(secret)
    elif way == "blobs is a link":
        shutil.rmtree(blobs)
        blobs.symlink_to(tmp_path)
    with pytest.raises(CheckpointError, match=r"vocab\.txt: is a link out of its folder, to .*secret\.txt\. Replace"):
        hub.copy(folder, tmp_path / "copies")
    assert not list((tmp_path / "copies").iterdir())


@posix
def test_a_link_within_a_checkpoint_is_copied(model):
    (model / "vocab.txt").rename(model / "words.txt")
    (model / "vocab.txt").symlink_to("words.txt")
    assert check_inside(model / "vocab.txt", model) == model / "vocab.txt"


@posix
def test_distill_refuses_a_link_before_it_trains(model, tmp_path, secret, capsys, monkeypatch):
    (model / "vocab.txt").rename(tmp_path / "words.txt")
    (model / "vocab.txt").symlink_to(tmp_path / "words.txt")
    (tmp_path / "squad.json").write_text(SQUAD, encoding="utf-8")
    status = main(["distill", str(tmp_path / "squad.json"), "--init", str(model), "--out", str(tmp_path / "out")])
    assert status == 2 and "vocab.txt: is a link out of its folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# the command line


def test_too_little_memory_is_one_line(monkeypatch, capsys):
    def no_memory(*_):
        raise MemoryError

    monkeypatch.setattr(asking.QuestionAnswerer, "from_pretrained", no_memory)
    assert main(["ask", "Who?", "--context", "Ada."]) == 1
    monkeypatch.setattr("numpy_distilbert.cli.lab.Recording", no_memory)
    assert main(["compare", "a.safetensors", "b.safetensors"]) == 2  # as 1 means that they differ
    line = "numpy-distilbert: there was not enough memory. Use a smaller input, or free some memory.\n"
    assert capsys.readouterr().err == 2 * line


@posix
@pytest.mark.parametrize("verb", ["trace", "show", "distill"])
def test_a_name_is_printed_without_what_steers_a_terminal(verb, model, tmp_path, capsys):
    name = "a\x1b[31mred\nnew."
    if verb == "distill":
        (tmp_path / "squad.json").write_text(SQUAD, encoding="utf-8")
        call = ["distill", str(tmp_path / "squad.json"), "--write-logits", f"{tmp_path / name}safetensors"]
    else:
        if verb == "show":
            pytest.importorskip("matplotlib", reason="needs the extra 'plot'")
        output = f"{tmp_path / name}{'png' if verb == 'show' else 'safetensors'}"
        call = [verb, "a b?", "--context", "a b c.", "-o", output]
    option = "--init" if verb == "distill" else "--model"
    assert main([*call, option, str(model)]) == 0
    output = capsys.readouterr().out
    assert "red new." in output and "\x1b" not in output and output.count("\n") == 1
