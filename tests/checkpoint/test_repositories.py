"""Repositories in the form of the published ones (reference/repositories.py), asked by their ids as a user would do it,
against what the pipeline of transformers 5.2.0 answered from the same files (reference/repositories.json).
"""

import json
import os
import subprocess
import sys
import urllib.request

import pytest

pytest.importorskip("huggingface_hub", reason="needs the extra 'hub'")

from conftest import REFERENCE
from hub_server import COMMIT, FakeHub, client_of
from reference.repositories import IDS, OTHER_FORMATS, repository
from safetensors.numpy import load, load_file

from numpy_distilbert import DistilBertModel, pipeline
from numpy_distilbert.checkpoint.hub import OLD_NAMES
from numpy_distilbert.cli import main

ISLAND = json.loads((REFERENCE / "answers.json").read_text(encoding="utf-8"))["ISLAND"]
CASES = json.loads((REFERENCE / "repositories.json").read_text(encoding="utf-8"))
PUBLISHED = IDS["published"]


@pytest.fixture(scope="module", params=IDS)
def served(request, tmp_path_factory):
    """Name, server and the variables that a client of it needs, which are set while the tests of a repository run."""
    server = FakeHub(repository(request.param), IDS[request.param])
    environment = server.environment(tmp_path_factory.mktemp("cache"))
    with client_of(environment):
        yield request.param, server, environment
    server.close()


@pytest.fixture
def published(tmp_path):
    """A server of the published repository."""
    server = FakeHub(repository("published"), PUBLISHED)
    with client_of(server.environment(tmp_path)):
        yield server
    server.close()


def cases_of(name):
    """The questions asked of a repository, each with its context and what transformers answered."""
    return [
        (case["question"], ISLAND if case["context"] == "ISLAND" else case["context"], case["answer"])
        for case in CASES
        if case["name"] == name
    ]


def output_of(capsys, *arguments):
    assert main(list(map(str, arguments))) == 0
    return capsys.readouterr().out


def same(answer, expected):
    return answer == expected | {"score": pytest.approx(expected["score"], rel=1e-4)}


def test_download_leaves_out_the_weights_in_other_formats(served, capsys, tmp_path):
    name, server, _ = served
    output_of(capsys, "download", IDS[name], "--dir", tmp_path)
    folder = tmp_path / IDS[name].split("/")[1]
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert files == {file: content for file, content in server.files.items() if file not in OTHER_FORMATS}


def test_answers_are_those_of_transformers(served):
    name, *_ = served
    qa = pipeline("question-answering", model=IDS[name])
    for question, context, expected in cases_of(name):
        assert same(qa(question=question, context=context), expected)


def test_ask_answers_as_transformers(served, capsys):
    name, *_ = served
    question, context, expected = cases_of(name)[0]
    asked = output_of(capsys, "ask", question, "--context", context, "--pipeline", "--json", "--model", IDS[name])
    assert same(json.loads(asked), expected)


def test_info_describes_it(served, capsys):
    name, server, _ = served
    known = json.loads(output_of(capsys, "info", "--model", IDS[name], "--json"))
    weights = load(server.files["model.safetensors"])
    assert known["parameters"]["total"] == sum(t.size for t in weights.values() if t.dtype.kind == "f")
    tokenizer = known["tokenizer"]
    assert tokenizer["pieces"] == (30522 if name == "uncased" else 28996)
    assert tokenizer["lowercase"] is (name == "uncased")
    assert tokenizer["model_max_length"] == (None if name == "of 2023" else 512)
    assert known["licence"] == (None if name == "fine-tune" else "apache-2.0")
    assert known["provenance"] == f"https://huggingface.co/{IDS[name]}/tree/{COMMIT}"


def test_trace_records_its_layers(served, capsys, tmp_path):
    name, *_ = served
    question, context, _ = cases_of(name)[0]
    output_of(capsys, "trace", question, "--context", context, "--model", IDS[name], "-o", tmp_path / "t.safetensors")
    recorded = load_file(tmp_path / "t.safetensors")
    assert len([tensor for tensor in recorded if tensor.endswith("ffn.lin2")]) == 6
    assert recorded["qa_outputs"].shape[-1] == 2


def test_evaluate_scores_it(served, capsys, tmp_path):
    name, *_ = served
    cases, paragraphs = cases_of(name), []
    for i, (question, context, answer) in enumerate(cases):
        given = [{"text": answer["answer"], "answer_start": answer["start"]}]
        paragraphs.append({"context": context, "qas": [{"id": str(i), "question": question, "answers": given}]})
    file = {"version": "1.1", "data": [{"title": "", "paragraphs": paragraphs}]}
    (tmp_path / "squad.json").write_text(json.dumps(file), encoding="utf-8")
    scores = output_of(capsys, "evaluate", tmp_path / "squad.json", "--model", IDS[name], "--json")
    wordless = sum(not any(map(str.isalnum, answer["answer"])) for *_, answer in cases)  # as SQuAD sees no word in it
    assert json.loads(scores)["exact_match"] == 100
    assert json.loads(scores)["f1"] == pytest.approx(100 * (1 - wordless / len(cases)))


def test_serve_answers_from_it(served):
    name, _, environment = served
    pytest.importorskip("uvicorn", reason="needs the extra 'serve'")
    command = [sys.executable, "-m", "numpy_distilbert", "serve", "--port", "0", "--model", IDS[name]]
    variables = os.environ | {"NO_PROXY": "*"} | {key: str(value) for key, value in environment.items()}
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=variables, encoding="utf-8") as process:
        try:
            url = next(line for line in process.stderr if "http://127" in line).split()[1]
            question, context, expected = cases_of(name)[0]
            body = json.dumps({"inputs": {"question": question, "context": context}}).encode()
            with urllib.request.urlopen(url, body, timeout=60) as response:
                assert same(json.load(response), expected)
        finally:
            process.kill()


def test_the_revision_of_2020_which_has_a_pickle_alone_is_refused(published, capsys):
    files = published.files
    del files["model.safetensors"]
    files["tokenizer_config.json"] = b'{"do_lower_case": false}'
    assert main(["ask", "Who?", "--context", "Ada.", "--model", PUBLISHED]) == 2
    assert "Weights in pytorch_model.bin are a pickle" in capsys.readouterr().err


def test_a_name_from_before_2024_is_the_checkpoint_that_the_hub_has_by_it_now(published, capsys):
    question, context, expected = cases_of("published")[0]
    old = "distilbert-base-cased-distilled-squad"
    assert same(pipeline("question-answering", model=old, tokenizer=old)(question, context), expected)
    assert output_of(capsys, "download", old) == output_of(capsys, "download", PUBLISHED)
    assert len(published.ranges) == 1  # the weights came once


@pytest.mark.parametrize("old", OLD_NAMES)
def test_every_such_name_is_looked_up_with_its_owner(old, published):
    published.hub_id = f"distilbert/{old}"
    assert DistilBertModel.from_pretrained(old).config.n_layers == 6


def test_a_folder_comes_before_such_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "distilbert-base-cased"
    folder.mkdir()
    for file, content in repository("published").items():
        (folder / file).write_bytes(content)
    assert DistilBertModel.from_pretrained("distilbert-base-cased").config.n_layers == 6
