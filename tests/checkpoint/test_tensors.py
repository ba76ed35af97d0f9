"""Weights in every form they come in, and refused by name in every other."""

import json
import os
import struct
import subprocess
import sys

import numpy as np
import pytest
from conftest import posix
from properties import given, st
from safetensors.numpy import load_file, save_file

from numpy_distilbert import CheckpointError, DistilBertForQuestionAnswering, DistilBertModel
from numpy_distilbert.checkpoint.tensors import CHECKED_AT_ONCE, Weights, write_tensors
from numpy_distilbert.lab.synthetic import SHAPES, random_weights, write_checkpoint

WEIGHTS = random_weights(SHAPES["odd"], seed=1)
IDS = [[1, 2, 3, 4]]
BIAS = "qa_outputs.bias"


def write(path, tensors, metadata=None):
    """A safetensors file, {name: (dtype, array)}, the bytes of any array under any dtype."""
    header, data = {} if metadata is None else {"__metadata__": metadata}, b""
    for name, (dtype, array) in tensors.items():
        content = np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


@pytest.fixture
def folder(tmp_path):
    """A checkpoint without weights."""
    write_checkpoint(tmp_path, "odd")
    (tmp_path / "model.safetensors").unlink()
    return tmp_path


def logits(folder):
    return DistilBertForQuestionAnswering.from_pretrained(folder)(IDS).start_logits


def save(folder, **changes):
    changes = {name.replace("__", "."): value for name, value in changes.items()}
    save_file({n: t for n, t in (WEIGHTS | changes).items() if t is not None}, folder / "model.safetensors")


def shards(folder, names=("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")):
    """The weights in files of these names, a tensor to each in turn."""
    weight_map = {name: names[i % len(names)] for i, name in enumerate(sorted(WEIGHTS))}
    for file in names:
        save_file({n: WEIGHTS[n] for n, f in weight_map.items() if f == file}, folder / file)
    write_index(folder, weight_map)


def write_index(folder, weight_map):
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": weight_map}), encoding="utf-8"
    )


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    other = write_checkpoint(tmp_path_factory.mktemp("expected"), "odd")
    save(other)
    return logits(other)


@pytest.mark.parametrize(
    "dtype, stored, tolerance",
    [
        ("F64", lambda t: t.astype("<f8"), 0),
        ("F32", lambda t: t, 0),
        ("F16", lambda t: t.astype("<f2"), 2e-2),
        ("BF16", lambda t: (t.view("<u4") >> 16).astype("<u2"), 2e-1),
    ],
)
def test_every_floating_dtype_is_read(dtype, stored, tolerance, folder, expected):
    write(folder / "model.safetensors", {name: (dtype, stored(tensor)) for name, tensor in WEIGHTS.items()})
    found = logits(folder)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@given(values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_bfloat16_is_float32_with_fewer_digits(values, tmp_path_factory):
    folder, values = tmp_path_factory.mktemp("bfloat16"), np.array(values, "<f4")
    write(folder / "model.safetensors", {"a": ("BF16", (values.view("<u4") >> 16).astype("<u2"))})
    found = Weights(folder)["a"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, values, rtol=2**-7, atol=2.0**-126)


def test_shards_are_one_checkpoint(folder, expected):
    shards(folder)
    np.testing.assert_array_equal(logits(folder), expected)


def test_one_file_goes_before_shards(folder, expected):
    shards(folder)
    write_index(folder, {"a": "nowhere.safetensors"})
    save(folder)
    np.testing.assert_array_equal(logits(folder), expected)


def test_the_prefix_may_be_missing(folder, expected):
    save_file({n.removeprefix("distilbert."): t for n, t in WEIGHTS.items()}, folder / "model.safetensors")
    np.testing.assert_array_equal(logits(folder), expected)


def test_position_ids_are_left_out(folder, expected):
    save(folder, distilbert__embeddings__position_ids=np.arange(24)[None])
    np.testing.assert_array_equal(logits(folder), expected)


def test_the_encoder_is_read_from_beside_another_head(folder):
    save(folder, qa_outputs__weight=None, qa_outputs__bias=None, vocab_transform__weight=np.ones((15, 15), np.float32))
    assert DistilBertModel.from_pretrained(folder)(IDS).last_hidden_state.shape == (1, 4, 15)
    with pytest.raises(CheckpointError, match=r"tensor qa_outputs\.weight is missing"):
        logits(folder)


def test_a_tensor_is_checked_to_its_last_element(folder):
    large = np.zeros(2 * CHECKED_AT_ONCE + 1, np.float32)
    for at in (0, CHECKED_AT_ONCE, -1):
        large[:] = 0
        large[at] = np.nan
        save_file({"a": large}, folder / "model.safetensors")
        with pytest.raises(CheckpointError, match=r"tensor a in model\.safetensors holds NaN or infinity"):
            Weights(folder)["a"]


def change_bytes(at, new):
    def change(folder):
        save(folder)
        content = bytearray((folder / "model.safetensors").read_bytes())
        content[at : at + len(new)] = new
        (folder / "model.safetensors").write_bytes(content)

    return change


def header(data=8, as_a_list=False, **entry):
    """A file of one tensor whose header says that."""
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | entry
    text = json.dumps({BIAS: list(entry.values()) if as_a_list else entry}).encode()
    content = struct.pack("<Q", len(text)) + text + bytes(data)
    return lambda folder: (folder / "model.safetensors").write_bytes(content)


def mapped(name):
    return lambda folder: write_index(folder, {BIAS: name})


def one_shard_missing(folder):
    shards(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()


def broken_shard(folder):
    shards(folder)
    path = folder / "model-00002-of-00002.safetensors"
    tensors = load_file(path)
    tensors[min(tensors)][0] = np.nan
    save_file(tensors, path)


def link_to_itself(name):
    return lambda folder: (folder / name).symlink_to(folder / name)


def twice(folder):
    shards(folder)
    save_file(WEIGHTS, folder / "model-00002-of-00002.safetensors")


NOT_SAFETENSORS = r"model\.safetensors: not a readable safetensors file"
ANOTHER = r"model\.safetensors: tensor \S+ is not in a model of that configuration"
OUTSIDE = r"index\.json: .* is not the name of a safetensors file in the same folder"


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda folder: None, r"model\.safetensors: missing.*pickle.*never read: convert"),
        (lambda folder: (folder / "model.safetensors").mkdir(), NOT_SAFETENSORS),
        (lambda folder: (folder / "model.safetensors").write_bytes(b""), NOT_SAFETENSORS),
        (link_to_itself("model.safetensors"), NOT_SAFETENSORS),
        (change_bytes(0, struct.pack("<Q", 2**40)), NOT_SAFETENSORS),
        (change_bytes(0, struct.pack("<Q", 2**64 - 1)), NOT_SAFETENSORS),
        (header(shape=[2**31, 2**31], data_offsets=[0, 2**62]), NOT_SAFETENSORS),
        (header(shape=[2**40]), NOT_SAFETENSORS),
        (header(data_offsets=[4, 12]), NOT_SAFETENSORS),
        (header(data_offsets=[8, 0]), NOT_SAFETENSORS),
        (header(dtype="F31"), NOT_SAFETENSORS),
        (header(shape=[2] + [1] * 99), "which is no tensor of a model"),
        (header(shape=[0, 2**63], data_offsets=[0, 0], data=0), "which is no tensor of a model"),
        (header(shape=[0, 2**40, 2**40], data_offsets=[0, 0], data=0), "which is no tensor of a model"),
        (header(dtype={"F32": None}), "which is no tensor of a model"),
        (header(as_a_list=True), "which is no tensor of a model"),
        (lambda folder: save(folder, qa_outputs__bias=None), r"model\.safetensors: tensor qa_outputs\.bias is missing"),
        (
            lambda folder: save(folder, qa_outputs__bias=np.zeros((2, 1), "f4")),
            r"bias has shape \(2, 1\), the .* needs \(2,\)",
        ),
        (
            lambda folder: save(folder, qa_outputs__bias=np.zeros(2, int)),
            r"bias in model\.safetensors is I64, needs F64, F32, F16, BF16\. Save",
        ),
        (
            lambda folder: save(folder, qa_outputs__bias=np.array([0, np.inf], "f4")),
            r"bias in model\.safetensors holds NaN or infinity",
        ),
        (
            lambda folder: save(folder, qa_outputs__bias=np.array([0, np.nan], "f2")),
            r"bias in model\.safetensors holds NaN or infinity",
        ),
        (
            lambda folder: save(folder, qa_outputs__bias=np.array([0, 1e300])),
            r"bias in model\.safetensors holds NaN or infinity",
        ),
        (lambda folder: save(folder, classifier__bias=np.zeros(2, "f4")), ANOTHER),
        (lambda folder: save(folder, bert__pooler__bias=np.zeros(2, "f4")), ANOTHER),
        (lambda folder: save(folder, distilbert__transformer__layer__3__ffn__lin1__bias=np.zeros(31, "f4")), ANOTHER),
        (
            lambda folder: save(folder, embeddings__LayerNorm__bias=np.zeros(15, "f4")),
            r"Norm\.bias is here and in .* too",
        ),
        (
            lambda folder: (folder / "pytorch_model.bin").write_bytes(b"\x80\x02."),
            "pickle.* never read: convert it where",
        ),
        (
            lambda folder: (folder / "pytorch_model.bin.index.json").write_text("{}", encoding="utf-8"),
            "pickle.* never read: convert it where",
        ),
        (broken_shard, r"index\.json: tensor \S+ in model-00002-of-00002\.safetensors holds NaN"),
        (one_shard_missing, r"model-00002-of-00002\.safetensors: not a readable safetensors file"),
        (twice, r"model-00002-of-00002\.safetensors: tensor \S+ is here and in \S+00001-of-00002\.safetensors too"),
        (mapped("../model.safetensors"), OUTSIDE),
        (mapped("/tmp/model.safetensors"), OUTSIDE),
        (mapped("a/b.safetensors"), OUTSIDE),
        (mapped("..\\b.safetensors"), OUTSIDE),
        (mapped("C:b.safetensors"), OUTSIDE),
        (mapped("..safetensors"), OUTSIDE),
        (mapped("a\n.safetensors"), OUTSIDE),
        (mapped("pytorch_model.bin"), OUTSIDE),
        (mapped(["a.safetensors"]), OUTSIDE),
        (lambda folder: write_index(folder, {}), r"index\.json: weight_map is \{\}, needs the name of a file for each"),
        (lambda folder: write_index(folder, None), r"index\.json: weight_map is None, needs"),
        (
            lambda folder: (folder / "model.safetensors.index.json").write_text("[", encoding="utf-8"),
            r"index\.json: not JSON",
        ),
        (link_to_itself("model.safetensors.index.json"), r"index\.json: cannot be read"),
    ],
)
def test_refused_by_name(make, message, folder):
    make(folder)
    with pytest.raises(CheckpointError, match=message) as refused:
        logits(folder)
    assert str(folder) in str(refused.value) and "\n" not in str(refused.value)


@posix
def test_a_link_loop_for_a_folder_is_no_folder(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(CheckpointError, match="loop: no such folder"):
        logits(tmp_path / "loop")


@posix
def test_links_to_other_folders_are_followed(folder, expected, tmp_path_factory):
    save(folder)
    blob = tmp_path_factory.mktemp("blobs") / "0e35"
    os.replace(folder / "model.safetensors", blob)
    (folder / "model.safetensors").symlink_to(blob)
    np.testing.assert_array_equal(logits(folder), expected)


def test_tensors_are_written_little_endian_as_the_format_has_them(tmp_path):
    tensors = {"a": np.arange(3, dtype=">f4"), "b": np.arange(5, dtype=">i8")}
    with (tmp_path / "written").open("wb") as file:
        write_tensors(file, tensors, {})
    for name, stored in load_file(tmp_path / "written").items():
        np.testing.assert_array_equal(stored, tensors[name])


@pytest.mark.parametrize("name", ["a", "ab", "abc", "abcd", "abcde"])
def test_a_tensor_that_is_written_can_be_mapped_where_it_is(name, tmp_path):
    path, tensors = tmp_path / "written", {name: np.arange(3, dtype="<f2"), "wide": np.arange(5, dtype="<f8")}
    with path.open("wb") as file:
        write_tensors(file, tensors, {})
    (length,) = struct.unpack("<Q", path.read_bytes()[:8])
    header = json.loads(path.read_bytes()[8 : 8 + length])
    for stored, tensor in tensors.items():
        offset = 8 + length + header[stored]["data_offsets"][0]
        mapped = np.memmap(path, tensor.dtype, "r", offset, tensor.shape)
        assert mapped.flags.aligned
        np.testing.assert_array_equal(mapped, tensor)


@posix
def test_a_file_that_vanishes_or_shrinks_while_it_is_read_is_named(folder):
    save(folder)
    weights = Weights(folder)
    os.truncate(folder / "model.safetensors", 3000)
    with pytest.raises(CheckpointError, match=r"model\.safetensors was cut while it was read"):
        [weights[name] for name in weights]
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read any more \(No such file"):
        weights[BIAS]


def test_loading_takes_hardly_more_memory_than_the_file(random_checkpoint):
    """The issue's limit is 1.15 times the file, mapped pages included, on a system that tells the peak."""
    program = """
import sys, numpy_distilbert
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1024
before = peak()
numpy_distilbert.DistilBertForQuestionAnswering.from_pretrained(sys.argv[1])
print(peak() - before)
"""
    if not os.path.exists("/proc/self/status"):
        pytest.skip("this system does not tell the peak of the resident size")
    folder = random_checkpoint("published")
    command = [sys.executable, "-c", program, folder]
    grown = int(subprocess.run(command, check=True, capture_output=True, timeout=120, encoding="utf-8").stdout)
    assert grown <= 1.15 * (folder / "model.safetensors").stat().st_size
