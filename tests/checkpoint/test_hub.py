"""The real client of the hub against a server that behaves, and one that does not: each in a separate process."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("huggingface_hub", reason="needs the extra 'hub'")

from conftest import REFERENCE, posix
from hub_server import COMMIT, ID, FakeHub, client_of
from safetensors.numpy import load_file, save_file

from numpy_distilbert import CheckpointError, QuestionAnswerer, Tokenizer, pipeline
from numpy_distilbert.checkpoint import hub
from numpy_distilbert.cli import main
from numpy_distilbert.lab.synthetic import write_checkpoint

QUESTION, CONTEXT = "a b?", "bc a. b c a"
NOT_FETCHED = [".gitattributes", "pytorch_model.bin", "onnx/model.onnx", "tf_model.h5", "model.fp16.safetensors"]


@pytest.fixture
def folder(tmp_path):
    """The checkpoint that is published on the hub."""
    write_checkpoint(tmp_path / "source", "odd")
    (tmp_path / "source" / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nb\n##c\n.\n?\n", encoding="utf-8")
    return tmp_path / "source"


@pytest.fixture
def large(folder, server):
    """The checkpoint with 25 MB of weights, as the client writes to its cache by 10 MB."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8")) | {"vocab_size": 420_000}
    words = np.zeros((420_000, config["dim"]), np.float32)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    weights = load_file(folder / "model.safetensors") | {"distilbert.embeddings.word_embeddings.weight": words}
    save_file(weights, folder / "model.safetensors")
    server.files |= {path.name: path.read_bytes() for path in folder.iterdir()}
    return folder


@pytest.fixture
def server(folder):
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    fake = FakeHub(files | dict.fromkeys(NOT_FETCHED, b"not for us"))
    yield fake
    fake.close()


@pytest.fixture
def environment(server, tmp_path):
    """With that server as the hub, and an empty cache."""
    return server.environment(tmp_path / "cache")


@pytest.fixture
def run_process(environment, tmp_path):
    """Runs the command line in a separate process."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}

    def run(*arguments, **more):
        command = [sys.executable, "-m", "numpy_distilbert", *arguments]
        variables = inherited | {"NO_PROXY": "*"} | {name: str(value) for name, value in (environment | more).items()}
        return subprocess.run(command, capture_output=True, env=variables, cwd=tmp_path, timeout=120, encoding="utf-8")

    return run


@pytest.fixture
def run(environment, tmp_path, monkeypatch, capsys):
    """Runs the command line in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.sleep", lambda _: None)  # between tries

    def run(*arguments, **more):
        with client_of(environment | more):
            status = main(list(arguments))
        return subprocess.CompletedProcess(arguments, status, *capsys.readouterr())

    return run


def one_line(done):
    """What a command that failed said last; all before is the client's."""
    assert done.returncode == 2 and done.stdout == ""
    line = done.stderr.splitlines()[-1]
    assert line.startswith("numpy-distilbert: ") and "Traceback" not in done.stderr
    return line


def ask(run, *arguments, **more):
    return run("ask", QUESTION, "--context", CONTEXT, "--pipeline", "--json", "--model", *arguments, **more)


def expected(folder):
    return QuestionAnswerer.from_pretrained(folder)(QUESTION, CONTEXT)


def test_a_checkpoint_is_fetched_once_and_used_without_the_hub(run_process, run, server, folder):
    done = run_process("download", ID)
    assert done.returncode == 0, done.stderr
    fetched = Path(done.stdout.strip())
    assert {path.name for path in fetched.iterdir()} == {path.name for path in folder.iterdir()}
    assert not any(server.requests[method, Path(name).name] for name in NOT_FETCHED for method in ("GET", "HEAD"))
    assert json.loads(ask(run, ID).stdout) == expected(folder)
    assert len(server.ranges) == 1  # the weights came once
    assert json.loads(ask(run_process, ID, HF_HUB_OFFLINE=1).stdout) == expected(folder)
    server.status = 500
    assert json.loads(ask(run, ID).stdout) == expected(folder)


def test_asking_fetches(run, folder):
    assert json.loads(ask(run, ID).stdout) == expected(folder)


def test_a_revision_is_fetched_and_an_unknown_one_named(run, server):
    assert run("download", ID, "--revision", COMMIT).stdout.strip().endswith(COMMIT)
    assert "Revision Not Found" in one_line(run("download", ID, "--revision", "v9"))


def test_a_connection_that_is_cut_is_taken_up_where_it_ended(run, server, large):
    server.cut = 1
    done = run("download", ID)
    assert done.returncode == 0, done.stderr
    first, second = server.ranges
    assert first is None and second.startswith(f"bytes={10 * 2**20}-")
    assert json.loads(ask(run, ID).stdout) == expected(large)


def test_a_download_that_was_given_up_leaves_nothing_and_can_be_made_again(run, server, large, tmp_path):
    server.cut = 99
    assert f"{ID}: cannot be downloaded from the hub" in one_line(run("download", ID))
    assert f"numpy-distilbert download {ID}" in one_line(ask(run, ID, HF_HUB_OFFLINE=1))
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
    server.cut = 0
    assert json.loads(ask(run, ID).stdout) == expected(large)


def test_content_that_does_not_match_its_hash_is_refused_and_removed(run, server, folder, tmp_path):
    good = server.files["model.safetensors"]
    server.published["model.safetensors"] = good
    server.files["model.safetensors"] = good[:-1] + bytes([good[-1] ^ 1])
    for command in (run("download", ID), ask(run, ID)):
        assert "does not have the published sha256" in one_line(command)
    assert f"numpy-distilbert download {ID}" in one_line(ask(run, ID, HF_HUB_OFFLINE=1))
    server.files["model.safetensors"] = good
    assert json.loads(ask(run, ID).stdout) == expected(folder)
    assert list((tmp_path / "cache").rglob("*.verified"))


def test_content_that_changes_in_the_cache_is_noticed(run, server):
    weights = Path(run("download", ID).stdout.strip()) / "model.safetensors"
    content = weights.read_bytes()
    weights.resolve().write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert "does not have the published sha256" in one_line(ask(run, ID, HF_HUB_OFFLINE=1))
    assert not os.path.lexists(weights)


def test_weights_are_compared_in_a_cache_without_links_too(run, server, folder):
    good = server.files["model.safetensors"]
    server.published["model.safetensors"] = good
    server.files["model.safetensors"] = good[:-1] + bytes([good[-1] ^ 1])
    assert "does not have the published sha256" in one_line(run("download", ID, HF_HUB_DISABLE_SYMLINKS=1))
    server.files["model.safetensors"] = good
    fetched = Path(run("download", ID, HF_HUB_DISABLE_SYMLINKS=1).stdout.strip())
    assert not (fetched / "model.safetensors").is_symlink()
    assert json.loads(ask(run, ID, HF_HUB_DISABLE_SYMLINKS=1, HF_HUB_OFFLINE=1).stdout) == expected(folder)


def test_shards_and_all_files_of_the_tokenizer_are_fetched_and_each_shard_is_compared(run, server, folder):
    tensors = load_file(folder / "model.safetensors")
    weight_map = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(sorted(tensors))}
    for file in set(weight_map.values()):
        save_file({name: tensors[name] for name in tensors if weight_map[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    (folder / "tokenizer.json").write_bytes((REFERENCE / "template_tokenizer.json").read_bytes())
    (folder / "tokenizer_config.json").write_text('{"cls_token": "[CLS]"}', encoding="utf-8")
    (folder / "special_tokens_map.json").write_text('{"cls_token": "[CLS]"}', encoding="utf-8")
    (folder / "model.safetensors").unlink()
    server.files = {path.name: path.read_bytes() for path in folder.iterdir()}
    fetched = Path(run("download", ID).stdout.strip())
    assert {path.name for path in fetched.iterdir()} == {path.name for path in folder.iterdir()}
    assert json.loads(ask(run, ID).stdout) == expected(folder)
    second = (fetched / "model-00002-of-00002.safetensors").resolve()
    second.write_bytes(second.read_bytes()[:-1] + b"\x01")
    assert "00002-of-00002.safetensors: its content does not have the published" in one_line(ask(run, ID))


def cached(tmp_path, content=b"weights"):
    """A file as the hub's cache has it, under its sha256."""
    (tmp_path / "blobs").mkdir()
    blob = tmp_path / "blobs" / hashlib.sha256(content).hexdigest()
    blob.write_bytes(content)
    (tmp_path / "model.safetensors").symlink_to(blob)
    return tmp_path / "model.safetensors", blob


@posix
def test_a_file_is_compared_once_and_again_when_it_changed(tmp_path, monkeypatch):
    path, blob = cached(tmp_path)
    hub._verify(path, ID)
    count = []
    monkeypatch.setattr(hub, "sha256", lambda path: count.append(path) or blob.name)
    hub._verify(path, ID)
    assert count == []
    os.utime(blob, (1, 1))
    hub._verify(path, ID)
    assert count == [blob]
    blob.with_name(f"{blob.name}.verified").write_bytes(b"\xff")
    hub._verify(path, ID)
    assert count == [blob, blob]


@posix
def test_a_link_to_nothing_is_named(tmp_path):
    path, blob = cached(tmp_path)
    blob.unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors: cannot be read \(No such file"):
        hub._verify(path, ID)


def test_a_copy_appears_when_it_is_whole(folder, tmp_path, monkeypatch):
    snapshot = tmp_path / "models--owner--tiny" / "snapshots" / COMMIT
    snapshot.parent.mkdir(parents=True)
    folder.rename(snapshot)
    copyfile = shutil.copyfile

    def fails_at_the_weights(source, target):
        if source.name == "model.safetensors":
            raise OSError(28, "No space left on device")
        copyfile(source, target)

    monkeypatch.setattr(shutil, "copyfile", fails_at_the_weights)
    with pytest.raises(OSError, match="No space"):
        hub.copy(snapshot, tmp_path / "weights")
    assert not list((tmp_path / "weights").iterdir())


def test_a_repository_that_has_a_pickle_alone_is_refused_with_what_to_do(run, server):
    server.files["pytorch_model.bin"] = server.files.pop("model.safetensors")
    assert "a pickle, which can run code and is never read: convert" in one_line(run("download", ID))


def test_download_of_a_folder_says_so(run, server, folder, tmp_path):
    assert "source: a folder here" in one_line(run("download", "source"))
    (tmp_path / "weights").mkdir()
    folder.rename(tmp_path / "weights" / "mine")
    assert "weights/mine: a folder here" in one_line(run("download", "weights/mine"))
    assert not server.requests


def test_download_speaks_of_the_hub_alone(run, server, tmp_path):
    for name in ("tiny-squad", "./someone/tiny-squad", f"{server.address}/{ID}"):
        assert f"{name}: cannot be downloaded. Name a checkpoint on the hub as OWNER/NAME." in one_line(
            run("download", name)
        )
    assert not server.requests
    for failure in ({"HF_ENDPOINT": "http://127.0.0.1:9"}, {"HF_HUB_OFFLINE": 1}):
        line = one_line(run("download", ID, **failure))
        assert f"{ID}: cannot be downloaded, as the hub cannot be reached" in line and "folder" not in line
    assert "folder" not in one_line(run("download", "someone/else"))
    (tmp_path / "someone").mkdir()  # no reason not to download
    assert run("download", ID).returncode == 0


def test_a_path_that_standard_output_cannot_show_is_no_trouble(run_process):
    done = run_process("download", ID, "--dir", "é", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout) == (0, f"{Path('?', 'tiny-squad')}\n")


@pytest.mark.parametrize("status, message", [(404, "404"), (401, "401"), (500, "cannot be reached")])
def test_a_server_that_refuses_is_named(status, message, run, server, tmp_path):
    server.status = status
    assert message in one_line(run("download", ID))
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_a_server_that_stalls_is_given_up(run, server, tmp_path):
    server.stalls = True
    assert "cannot be downloaded" in one_line(run("download", ID, HF_HUB_DOWNLOAD_TIMEOUT=0.2))
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_without_a_network_one_line_says_what_to_run(run, server):
    for more in ({"HF_HUB_OFFLINE": 1}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        line = one_line(ask(run, ID, **more))
        assert f"{ID}: no such folder" in line and f"numpy-distilbert download {ID}" in line


def test_without_the_client_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(
        CheckpointError, match=r'someone/tiny-squad: no such folder.*pip install "numpy-distilbert\[hub\]"'
    ):
        QuestionAnswerer.from_pretrained(ID)


def test_download_makes_a_folder_that_is_used_without_the_client(run, server, folder, tmp_path):
    done = run("download", ID, "--dir", "weights")
    assert done.stdout == f"{Path('weights', 'tiny-squad')}\n"
    assert {p.name: p.read_bytes() for p in (tmp_path / "weights/tiny-squad").iterdir()} == {
        p.name: p.read_bytes() for p in folder.iterdir()
    }
    assert not any(path.is_symlink() for path in (tmp_path / "weights/tiny-squad").iterdir())
    assert "exists already" in one_line(run("download", ID, "--dir", "weights"))
    assert os.listdir(tmp_path / "weights") == ["tiny-squad"]
    assert expected(tmp_path / "weights/tiny-squad") == expected(folder)


def test_a_checkpoint_of_another_model_is_refused_by_download(run, server, tmp_path):
    server.files["config.json"] = server.files["config.json"].replace(b"distilbert", b"roberta")
    assert "model_type is 'roberta'" in one_line(run("download", ID, "--dir", "weights"))
    assert not (tmp_path / "weights").exists()


def test_info_tells_where_a_fetched_checkpoint_is_from(run, server):
    known = json.loads(run("info", "--model", ID, "--json").stdout)
    assert known["provenance"] == f"https://huggingface.co/{ID}/tree/{COMMIT}"
    digest = server.sha256("model.safetensors")
    assert known["weights"] == [{"file": "model.safetensors", "sha256": digest, "published": True}]


def test_a_folder_is_never_looked_for_on_the_hub(monkeypatch, tmp_path):
    monkeypatch.setattr(hub, "fetch", lambda *_: pytest.fail("looked for on the hub"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    for path in (Path("owner/name"), "models/mine", "./owner/name", "/owner/name", "a/b/c", "owner/name/", "../name"):
        with pytest.raises(
            CheckpointError, match=r"no such folder(\. Name the folder|, and not looked for on the hub)"
        ):
            QuestionAnswerer.from_pretrained(path)


def test_a_revision_belongs_to_a_checkpoint_on_the_hub(folder, embedded):
    for load in (
        QuestionAnswerer.from_pretrained,
        Tokenizer.from_pretrained,
        lambda *a: pipeline(model=a[0], revision=a[1]),
    ):
        with pytest.raises(ValueError, match="revision must be None, got 'main': only a checkpoint on the hub"):
            load(folder, "main")
    with pytest.raises(ValueError, match="the model is loaded already"):
        pipeline(model=embedded.model, tokenizer=embedded.tokenizer, revision="main")


def test_what_is_fetched_goes_by_id_and_revision(monkeypatch, folder):
    asked = []
    monkeypatch.setattr(hub, "fetch", lambda *arguments: asked.append(arguments) or folder)
    QuestionAnswerer.from_pretrained("owner/name")
    pipeline("question-answering", "owner/name", revision="v1")
    assert asked == [("owner/name", None), ("owner/name", "v1")]
    pipeline(model="owner/name", tokenizer="owner/name", revision="v2")
    pipeline(model="owner/name", tokenizer="owner/other", revision="v3")
    pipeline(model="owner/name", tokenizer=folder, revision="v4")
    assert asked[2:] == [("owner/name", "v2"), ("owner/name", "v3"), ("owner/other", "v3"), ("owner/name", "v4")]
