"""The parity lab: what is recorded, and that a planted bug is found where it was planted."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from numpy_distilbert import Checkpoint, DistilBertModel, QuestionAnswerer, encoder, pipeline
from numpy_distilbert.checkpoint import hub
from numpy_distilbert.cli import main
from numpy_distilbert.kernels import attention, layer_norm
from numpy_distilbert.lab.compare import compare
from numpy_distilbert.lab.record import Recording, record, write_recording

QUESTION, CONTEXT = "Who kept the log?", "The tower is old. Maren Holt kept its log."
LAYER = "distilbert.transformer.layer.{}."
IN_LAYER = (
    "attention.q_lin attention.k_lin attention.v_lin attention.scores attention.probabilities attention.context "
    "attention.out_lin sa_layer_norm.input sa_layer_norm ffn.lin1 ffn.activation ffn.lin2 output_layer_norm.input "
    "output_layer_norm"
).split()
NAMES = [
    "input_ids",
    "attention_mask",
    *(f"distilbert.embeddings.{n}" for n in ("word_embeddings", "position_embeddings", "LayerNorm.input", "LayerNorm")),
    *(LAYER.format(i) + name for i in range(6) for name in IN_LAYER),
    "qa_outputs",
]


@pytest.fixture(scope="module")
def ours():
    return record(QUESTION, CONTEXT, Checkpoint())[0]


@pytest.fixture(scope="module")
def truth():
    return record(QUESTION, CONTEXT, Checkpoint(), "float64")[0]


def test_every_tensor_is_recorded_in_the_order_it_is_computed(ours):
    assert list(ours) == NAMES


def test_the_tensors_are_the_formulas_of_each_other(truth, one_page):
    w = {name: tensor.astype(np.float64) for name, tensor in load_file(hub.find() / "model.safetensors").items()}
    t = {name: tensor[0].swapaxes(-1, -2) for name, tensor in truth.items() if name in NAMES[2:]}  # tokens as columns
    linear, layer_norm, heads = (one_page[name] for name in ("linear", "layer_norm", "split_heads"))
    ids, e = truth["input_ids"][0], "distilbert.embeddings."
    expected = {
        f"{e}word_embeddings": w[f"{e}word_embeddings.weight"][ids].T,
        f"{e}position_embeddings": w[f"{e}position_embeddings.weight"][: len(ids)].T,
        f"{e}LayerNorm.input": t[f"{e}word_embeddings"] + t[f"{e}position_embeddings"],
        f"{e}LayerNorm": layer_norm(t[f"{e}LayerNorm.input"], w, f"{e}LayerNorm"),
    }
    x = t[f"{e}LayerNorm"]
    for i in range(6):
        n = LAYER.format(i)
        for part in "qkv":
            expected[f"{n}attention.{part}_lin"] = linear(x, w, f"{n}attention.{part}_lin")
        q, k, v = (heads(t[f"{n}attention.{part}_lin"]) for part in "qkv")
        expected |= {
            f"{n}attention.scores": one_page["attention_scores"](q, k),
            f"{n}attention.probabilities": one_page["softmax"](t[f"{n}attention.scores"], axis=1),
            f"{n}attention.context": (v @ t[f"{n}attention.probabilities"]).reshape(x.shape),
            f"{n}attention.out_lin": linear(t[f"{n}attention.context"], w, f"{n}attention.out_lin"),
            f"{n}sa_layer_norm.input": t[f"{n}attention.out_lin"] + x,
            f"{n}sa_layer_norm": layer_norm(t[f"{n}sa_layer_norm.input"], w, f"{n}sa_layer_norm"),
            f"{n}ffn.lin1": linear(t[f"{n}sa_layer_norm"], w, f"{n}ffn.lin1"),
            f"{n}ffn.activation": one_page["gelu"](t[f"{n}ffn.lin1"]),
            f"{n}ffn.lin2": linear(t[f"{n}ffn.activation"], w, f"{n}ffn.lin2"),
            f"{n}output_layer_norm.input": t[f"{n}ffn.lin2"] + t[f"{n}sa_layer_norm"],
            f"{n}output_layer_norm": layer_norm(t[f"{n}output_layer_norm.input"], w, f"{n}output_layer_norm"),
        }
        x = t[f"{n}output_layer_norm"]
    expected["qa_outputs"] = linear(x, w, "qa_outputs")
    assert [*expected] == NAMES[2:]
    for name, tensor in expected.items():
        assert truth[name].dtype == np.float64
        np.testing.assert_allclose(t[name], tensor, rtol=1e-10, atol=1e-11, err_msg=name)


def test_a_batch_is_recorded_where_its_mask_is_1(embedded):
    ids = np.array([[101, 7, 8, 9, 102], [0, 101, 7, 102, 0], [101, 102, 0, 0, 0]])
    mask = np.array([[1, 1, 1, 1, 1], [0, 1, 1, 1, 0], [1, 1, 0, 0, 0]])
    output = embedded.model(ids, mask, output_hidden_states=True, output_attentions=True, output_tensors=True)
    tensors = output.tensors
    assert list(tensors) == NAMES
    np.testing.assert_array_equal(tensors["attention_mask"], mask)
    np.testing.assert_array_equal(tensors["qa_outputs"][..., 0], output.start_logits)
    for i, (hidden, probabilities) in enumerate(zip(output.hidden_states[1:], output.attentions, strict=True)):
        np.testing.assert_array_equal(tensors[LAYER.format(i) + "output_layer_norm"], hidden)
        np.testing.assert_array_equal(tensors[LAYER.format(i) + "attention.probabilities"], probabilities)
    for name in NAMES[2:]:
        assert (
            not tensors[name].swapaxes(1, -2)[mask == 0].any()
            if tensors[name].ndim == 4
            else not tensors[name][mask == 0].any()
        )


def test_many_packs_are_recorded_as_one_batch(embedded, monkeypatch):
    ids = np.random.RandomState(0).randint(1000, 2000, (9, 40))
    whole = embedded.model(ids, output_tensors=True).tensors
    monkeypatch.setattr("numpy_distilbert.runtime.threads.PACK_TOKENS", 60)
    packed = embedded.model(ids, output_tensors=True).tensors
    assert list(packed) == NAMES and all(row.same for row in compare(whole, packed))


def test_only_who_asks_is_given_tensors_and_the_numbers_are_the_same(embedded):
    ids = [[101, 7, 8, 9, 102]]
    plain, recorded = embedded.model(ids), embedded.model(ids, output_tensors=True)
    assert plain.tensors is None and list(recorded.tensors) == NAMES
    np.testing.assert_array_equal(plain.start_logits, recorded.start_logits)
    encoder_alone = DistilBertModel.from_pretrained()(ids, output_tensors=True)
    assert list(encoder_alone.tensors) == NAMES[:-1]
    with pytest.raises(TypeError, match="output_tensors must be a bool, got int"):
        embedded.model(ids, output_tensors=1)


def run(capsys, *arguments):
    status = main(list(map(str, arguments)))
    return status, *capsys.readouterr()


def test_a_recording_holds_what_is_needed_to_make_it_again(tmp_path, capsys, ours):
    path = tmp_path / "a.safetensors"
    assert run(capsys, "trace", QUESTION, "--context", CONTEXT, "-o", path) == (
        0,
        f"91 tensors of 20 tokens in {path}\n",
        "",
    )
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    assert (metadata["question"], metadata["context"]) == (QUESTION, CONTEXT)
    known = {
        name: json.loads(metadata[name]) for name in ("tokens", "offsets", "config", "sha256", "versions", "order")
    }
    assert known["order"] == NAMES and known["tokens"][0] == "[CLS]" and known["config"]["dim"] == 384
    assert known["sha256"]["model.safetensors"].startswith("acbeb0dd") and known["versions"]["numpy"] == np.__version__
    assert json.loads(metadata["sequence_ids"])[:2] == [None, 0]
    assert (
        run(capsys, "trace", QUESTION, "--context", CONTEXT, "-o", tmp_path / "b.safetensors", "--dtype", "float64")[0]
        == 0
    )
    assert Recording(tmp_path / "b.safetensors")["qa_outputs"].dtype == np.float64
    start, end = known["offsets"][known["tokens"].index("holt")]
    assert CONTEXT[start:end] == "Holt"
    read = Recording(path)
    assert list(read) == NAMES
    for name in NAMES:
        np.testing.assert_array_equal(read[name], ours[name])


def test_a_context_beyond_the_positions_is_refused_and_nothing_is_written(tmp_path, capsys):
    path = tmp_path / "a.safetensors"
    assert (
        "a recording is a .safetensors file"
        in run(capsys, "trace", QUESTION, "--context", "x", "-o", tmp_path / "a.npz")[2]
    )
    status, _, line = run(capsys, "trace", QUESTION, "--context", "log " * 600, "-o", path)
    assert status == 2 and "608 tokens, the model has 512 positions. Shorten the context" in line
    assert not list(tmp_path.iterdir())


def planted(monkeypatch, **kernels):
    for name, kernel in kernels.items():
        monkeypatch.setattr(encoder, name, kernel)
    return record(QUESTION, CONTEXT, Checkpoint())[0]


def tanh_gelu(x, out):
    out[:] = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def swapped_heads(query, key, value, out, *others):
    attention(query, key, value, out, *others)
    out[:] = out[[1, 0, *range(2, len(out))]]


@pytest.mark.parametrize("kernels, first", [
    ({"gelu": tanh_gelu}, LAYER.format(0) + "ffn.activation"),
    ({"layer_norm": lambda *a, **k: layer_norm(*a, **k, eps=1e-5)}, "distilbert.embeddings.LayerNorm"),
    ({"attention": swapped_heads}, LAYER.format(0) + "attention.context"),
])  # fmt: skip
def test_a_planted_bug_is_found_where_it_was_planted(kernels, first, ours, monkeypatch):
    monkeypatch.setattr("numpy_distilbert.encoder.SCORES_BLOCK", 10**9)  # all heads of a thread at once
    rows = compare(ours, planted(monkeypatch, **kernels))
    assert next(row.name for row in rows if not row.same) == first


def test_the_dtype_reaches_the_model_from_everywhere(embedded):
    for qa in (
        QuestionAnswerer.from_pretrained(dtype="float64"),
        pipeline(dtype="float64"),
        pipeline(torch_dtype=np.float64),
    ):
        assert qa.model.dtype == np.float64
        assert qa(QUESTION, CONTEXT)["score"] == pytest.approx(embedded(QUESTION, CONTEXT)["score"], rel=1e-5)
    loaded = {"model": embedded.model, "tokenizer": embedded.tokenizer}
    assert pipeline(**loaded, dtype="auto").model is pipeline(**loaded, dtype="float32").model
    with pytest.raises(ValueError, match="dtype must be float32, got 'float64': the model is loaded already"):
        pipeline(**loaded, dtype="float64")


def test_float32_is_within_the_tolerance_of_float64(ours, truth):
    assert [row.name for row in compare(ours, truth) if not row.same] == []


def test_figures_are_what_they_say():
    ours = {"a": np.array([1.0, 2.0, -4.0], np.float32), "b": np.array([0.0, 1.0], np.float32), "i": np.array([1, 2])}
    theirs = {"a": np.array([1.0, 2.0, -4.5]), "b": np.array([0.0, 1.0 + 2**-23], np.float32), "i": np.array([1, 3])}
    a, b, i = compare(ours, theirs)
    assert (a.same, a.max_abs, a.max_rel) == (False, 0.5, 0.5 / 4.5)
    assert a.ulp == 0.5 / np.spacing(np.float32(4.5))
    assert a.cosine == pytest.approx(23 / math.sqrt(21 * 25.25))
    assert (b.same, b.max_abs, b.ulp) == (True, 2**-23, 1.0)
    assert (i.same, i.max_abs, i.ulp) == (False, 1.0, None)
    assert compare({"z": np.zeros(2)}, {"z": np.zeros(2)})[0].cosine is None
    broken = compare({"n": np.zeros(2)}, {"n": np.array([0, np.nan])})[0]
    assert not broken.same and broken.max_abs is None


@pytest.mark.parametrize("theirs, layout", [
    (lambda t: t, ""),
    (lambda t: t[0], "as (3, 4, 5)"),
    (lambda t: t.swapaxes(2, 3), "as (2, 3, 5, 4), needs .squeeze().transpose(0, 2, 1)"),
    (lambda t: t.swapaxes(1, 2), "as (2, 4, 3, 5), needs .squeeze().transpose(1, 0, 2)"),
    (lambda t: t.reshape(3, 20), "as (3, 20)"),
])  # fmt: skip
def test_another_layout_is_recognised(theirs, layout):
    ours = np.random.RandomState(0).standard_normal((1, 3, 4, 5)).astype(np.float32)
    row = compare({"t": ours}, {"t": theirs(ours)})[0]
    assert row.same and row.layout == layout.replace("(2, 3, 5, 4)", "(1, 3, 5, 4)").replace(
        "(2, 4, 3, 5)", "(1, 4, 3, 5)"
    )


def test_integers_are_the_same_only_if_they_are_equal():
    assert not compare({"input_ids": np.array([30000])}, {"input_ids": np.array([30002])})[0].same
    assert compare({"input_ids": np.array([30000])}, {"input_ids": np.array([30000.0])})[0].same


def test_a_turned_tensor_with_a_nan_is_still_turned():
    ours = np.random.RandomState(0).standard_normal((3, 4)).astype(np.float32)
    theirs = ours.T.copy()
    theirs[0, 0] = np.nan
    row = compare({"t": ours}, {"t": theirs})[0]
    assert not row.same and "transpose(1, 0)" in row.layout


def test_many_axes_and_none_are_no_trouble():
    many = np.zeros((2,) * 12)
    assert not compare({"t": many}, {"t": many + 1})[0].same
    assert compare({"t": np.zeros((0, 3))}, {"t": np.zeros((3, 0))})[0].same
    assert compare({"t": np.array(1.0)}, {"t": np.array(1.0)})[0].same


def test_bfloat16_is_read_and_what_the_order_leaves_out_too(tmp_path):
    values = np.array([1.5, -2.0], "<f4")
    header = {
        "__metadata__": {"order": '["b", "gone", "b"]'},
        "a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]},
        "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
    }
    text = json.dumps(header).encode()
    data = (values.view("<u4") >> 16).astype("<u2").tobytes() + values.tobytes()
    (tmp_path / "a.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    found = Recording(tmp_path / "a.safetensors")
    assert list(found) == ["b", "a"]
    np.testing.assert_array_equal(found["a"], values)


def test_a_hostile_name_does_not_steer_the_terminal(tmp_path, capsys):
    save_file({"a\x1b[31mred\nnew": np.zeros(2)}, tmp_path / "a.safetensors")
    save_file({"a\x1b[31mred\nnew": np.ones(2)}, tmp_path / "b.safetensors")
    status, output, _ = run(capsys, "compare", tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert status == 1 and "\x1b" not in output and output.count("\n") == 3


def test_heads_apart_and_squares_turned_are_recognised():
    ours = np.random.RandomState(0).standard_normal((1, 6, 12)).astype(np.float32)
    split = ours.reshape(1, 6, 3, 4).swapaxes(1, 2)  # (1, heads, tokens, d)
    row = compare({"q": ours}, {"q": split})[0]
    assert row.same and row.layout == "as (1, 3, 6, 4), needs .squeeze().transpose(1, 0, 2)"
    scores = np.random.RandomState(0).standard_normal((1, 2, 7, 7)).astype(np.float32)
    row = compare({"s": scores}, {"s": scores.swapaxes(2, 3)})[0]
    assert row.same and row.layout == "as (1, 2, 7, 7), needs .squeeze().transpose(0, 2, 1)"
    row = compare({"s": scores}, {"s": scores[:, :, :6]})[0]
    assert not row.same and row.layout == "shape (1, 2, 6, 7)"


def test_whether_a_recording_has_a_tensor_is_said_without_reading_it(tmp_path):
    np.savez(tmp_path / "a.npz", words=np.array(["x"]))
    recording = Recording(tmp_path / "a.npz")
    assert "words" in recording and "numbers" not in recording
    with pytest.raises(ValueError, match="words is <U1, needs numbers"):
        recording["words"]


@pytest.fixture
def two(tmp_path, ours):
    write_recording(tmp_path / "ours.safetensors", ours, {"order": json.dumps(list(ours))})
    theirs = dict(ours)
    theirs[LAYER.format(2) + "ffn.lin2"] = theirs[LAYER.format(2) + "ffn.lin2"] + np.float32(1)
    del theirs["qa_outputs"]
    np.savez(
        tmp_path / "theirs.npz", **{name.replace("distilbert.", "bert."): tensor for name, tensor in theirs.items()}
    )
    names = {name: name.replace("distilbert.", "bert.") for name in ours}
    (tmp_path / "names.json").write_text(json.dumps(names), encoding="utf-8")
    return tmp_path


def test_compare_names_the_first_tensor_that_differs(two, capsys):
    call = ["compare", two / "ours.safetensors", two / "theirs.npz", "--map", two / "names.json"]
    status, output, _ = run(capsys, *call)
    lines = output.splitlines()
    first = LAYER.format(2) + "ffn.lin2"
    limit = "by more than 2e-05 + 0.0001 of their value"
    assert status == 1 and lines[-1] == f"differ: 1 of 90 tensors differ {limit}, first {first}; theirs has not 1"
    assert [line.split()[0] for line in lines if "<- first that differs" in line] == [first]
    assert "qa_outputs  missing" in lines
    status, output, _ = run(capsys, *call, "--json")
    found = json.loads(output)
    assert (status, found["same"], found["first_divergence"], found["missing"]) == (1, False, first, ["qa_outputs"])
    assert len(found["tensors"]) == 90 and found["tensors"][0]["name"] == "input_ids"
    status, output, _ = run(capsys, *call, "--atol", "2")
    assert status == 1 and output.splitlines()[-1].startswith("differ: 0 of 90 tensors differ by more than 2")
    assert json.loads(run(capsys, *call, "--atol", "0", "--rtol", "1e9", "--json")[1])["first_divergence"] is None


def test_compare_says_that_all_is_the_same(two, capsys):
    path = two / "ours.safetensors"
    status, output, _ = run(capsys, "compare", path, path)
    assert status == 0 and output.splitlines()[-1].startswith("same: 0 of 91 tensors differ by more than 2e-05")
    status, output, _ = run(capsys, "compare", path, path, "--json")
    assert status == 0 and json.loads(output) | {"tensors": []} == {
        "same": True, "first_divergence": None, "tensors": [], "missing": [], "extra": [],
    }  # fmt: skip


@pytest.mark.parametrize("arguments, message", [
    (["nowhere.safetensors"], "nowhere.safetensors: not a readable .safetensors or .npz file"),
    (["names.json"], "names.json: not a readable"),
    (["theirs.npz"], "theirs.npz has no tensor of"),
    (["text.npz"], "text.npz: input_ids is <U1, needs numbers"),
    (["pickle.npz"], "pickle.npz: not a readable"),
    (["empty.npz"], "empty.npz: not a readable"),
    (["theirs.npz", "--map", "list.json"], "list.json: needs a JSON object mapping our tensor names to theirs"),
    (["theirs.npz", "--map", "unknown.json"], "unknown.json: ours.safetensors has no nothing"),
    (["cut.npz"], "cut.npz: not a readable"),
    (["f8.safetensors"], "f8.safetensors: not a readable"),
    (["order.safetensors"], "order.safetensors: not a readable"),
    (["theirs.npz", "--map", "nowhere.json"], "nowhere.json: cannot be read"),
    (["theirs.npz", "--rtol", "-1"], "--rtol must be a number from 0 up, got -1"),
    (["theirs.npz", "--atol", "nan"], "--atol must be a number from 0 up, got nan"),
])  # fmt: skip
def test_compare_says_what_is_wrong_with_its_files(arguments, message, two, capsys, monkeypatch):
    monkeypatch.chdir(two)
    save_file({"other": np.zeros(2)}, "other.safetensors")
    np.savez("theirs.npz", other=np.zeros(2))
    np.savez("text.npz", input_ids=np.array(["x"]))
    np.savez("pickle.npz", input_ids=np.array([{}]))
    Path("empty.npz").write_bytes(b"")
    Path("unknown.json").write_text('{"nothing": "other"}', encoding="utf-8")
    Path("cut.npz").write_bytes(Path("theirs.npz").read_bytes()[:-30])
    text = b'{"input_ids": {"dtype": "F8_E5M2", "shape": [1], "data_offsets": [0, 1]}}'
    Path("f8.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"1")
    save_file({"a": np.zeros(2)}, "order.safetensors", {"order": "[" * 100_000})
    Path("list.json").write_text('{"input_ids": 3}', encoding="utf-8")
    status, output, line = run(capsys, "compare", "ours.safetensors", *arguments)
    assert status == 2 and output == "" and message in line and line.count("\n") == 1


EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "trace_pytorch.py"
WITHOUT_PYTORCH = "compares with transformers and PyTorch, which are not installed"


@pytest.mark.reference
def test_the_example_records_the_same_from_pytorch(two, capsys):
    pytest.importorskip("torch", reason=WITHOUT_PYTORCH)
    pytest.importorskip("transformers", reason=WITHOUT_PYTORCH)
    command = [
        sys.executable,
        EXAMPLE,
        two / "ours.safetensors",
        "--model",
        hub.find(),
        "-o",
        two / "torch.safetensors",
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    status, output, _ = run(capsys, "compare", two / "ours.safetensors", two / "torch.safetensors")
    assert status == 0 and output.splitlines()[-1].startswith("same: 0 of 91 tensors")


@pytest.mark.reference
@pytest.mark.parametrize("plant, first", [
    ("tanh", LAYER.format(3) + "ffn.activation"),
    ("epsilon", "distilbert.embeddings.LayerNorm"),
    ("heads", LAYER.format(4) + "attention.q_lin"),
    ("positions", "distilbert.embeddings.position_embeddings"),
    (None, None),
])  # fmt: skip
def test_a_bug_planted_in_pytorch_is_found_where_it_was_planted(plant, first, ours, monkeypatch):
    torch = pytest.importorskip("torch", reason=WITHOUT_PYTORCH)
    transformers = pytest.importorskip("transformers", reason=WITHOUT_PYTORCH)
    monkeypatch.syspath_prepend(EXAMPLE.parent)
    from trace_pytorch import capture

    theirs = transformers.DistilBertForQuestionAnswering.from_pretrained(hub.find(), dtype=torch.float32).eval()
    encoder = theirs.distilbert
    if plant == "tanh":
        encoder.transformer.layer[3].ffn.activation = torch.nn.GELU(approximate="tanh")
    elif plant == "epsilon":
        encoder.embeddings.LayerNorm.eps = 1e-5
    elif plant == "heads":
        weight = encoder.transformer.layer[4].attention.q_lin.weight.data
        weight[:64] = torch.cat([weight[32:64], weight[:32]])
    elif plant == "positions":
        encoder.embeddings.position_ids += 1
    tensors = {name: tensor.numpy() for name, tensor in capture(theirs, torch.from_numpy(ours["input_ids"])).items()}
    rows = compare(ours, tensors)
    assert len(rows) == 91 and next((row.name for row in rows if not row.same), None) == first


@pytest.mark.reference
def test_float64_equals_pytorch_in_float64(truth, monkeypatch):
    torch = pytest.importorskip("torch", reason=WITHOUT_PYTORCH)
    transformers = pytest.importorskip("transformers", reason=WITHOUT_PYTORCH)
    monkeypatch.syspath_prepend(EXAMPLE.parent)
    from trace_pytorch import capture

    theirs = transformers.DistilBertForQuestionAnswering.from_pretrained(hub.find(), dtype=torch.float64).eval()
    tensors = {name: tensor.numpy() for name, tensor in capture(theirs, torch.from_numpy(truth["input_ids"])).items()}
    assert [row.name for row in compare(truth, tensors, rtol=1e-11, atol=1e-11) if not row.same] == []
