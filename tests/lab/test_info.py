"""What `info` says of a checkpoint."""

import json
import shutil

import pytest

from numpy_distilbert import Checkpoint, CheckpointError, DistilBertForQuestionAnswering
from numpy_distilbert.checkpoint import hub
from numpy_distilbert.checkpoint.tensors import Weights
from numpy_distilbert.cli import main
from numpy_distilbert.lab.info import bert_parameters, describe, parameter_counts
from numpy_distilbert.lab.synthetic import SHAPES, write_checkpoint
from numpy_distilbert.parameters import Config


def test_the_embedded_checkpoint_is_described():
    known = describe(Checkpoint())
    assert known["parameters"]["total"] == 22_565_378 == sum(array.size for array in Weights(hub.find()).values())
    assert known["bytes"]["disk"] == (hub.find() / "model.safetensors").stat().st_size
    assert known["bytes"]["memory"] == 2 * 11_720_448 + 4 * (22_565_378 - 11_720_448)  # word embeddings stay float16
    assert known["weights"][0]["published"] is True
    assert known["licence"] == "apache-2.0" and "weights/README.md" in known["provenance"]
    assert known["tokenizer"]["pieces"] == known["config"]["vocab_size"] == 30522 and known["tokenizer"]["lowercase"]
    assert json.loads(json.dumps(known)) == known


def test_the_embedded_checkpoint_is_known_by_any_path(monkeypatch):
    monkeypatch.chdir(hub.find().parent)
    known = describe(Checkpoint(hub.DEFAULT))
    assert known["weights"][0]["published"] and known["licence"] == "apache-2.0"


def test_every_part_is_counted(random_checkpoint):
    found = parameter_counts(DistilBertForQuestionAnswering.from_pretrained(random_checkpoint("odd")))
    d, h = 15, 31
    assert found == {
        "word_embeddings": 101 * d,
        "position_embeddings": 24 * d,
        "attention": 3 * 4 * (d + 1) * d,
        "ffn": 3 * ((d + 1) * h + (h + 1) * d),
        "layer_norms": 7 * 2 * d,
        "qa_outputs": (d + 1) * 2,
    }


def test_bert_base_has_the_parameters_that_it_is_known_for():
    assert bert_parameters(Config(**SHAPES["published"])) == 108_310_272  # transformers' BertModel, bert-base-cased
    distilbert = 65_190_912  # transformers' DistilBertModel, distilbert-base-cased
    assert round(1 - distilbert / 108_310_272, 3) == 0.398


def test_the_share_saved_is_that_of_the_encoders(random_checkpoint):
    known = describe(Checkpoint(random_checkpoint("cased")))
    encoder = known["parameters"]["total"] - known["parameters"]["qa_outputs"]
    assert known["bert"]["saved"] == 1 - encoder / known["bert"]["parameters"]


def test_what_nothing_says_is_not_known(random_checkpoint, tmp_path, capsys):
    folder = tmp_path / "mine"
    shutil.copytree(random_checkpoint("cased"), folder)
    assert main(["info", "--model", str(folder)]) == 0
    assert [line.split()[-2:] for line in capsys.readouterr().out.splitlines()[1:3]] == [["not", "known"]] * 2
    config = json.loads((folder / "config.json").read_text(encoding="utf-8")) | {"_name_or_path": "owner/base"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    known = describe(Checkpoint(folder))
    assert (known["provenance"], known["licence"], known["weights"][0]["published"]) == ("owner/base", "mit", False)


def test_other_weights_than_published_are_refused(random_checkpoint, tmp_path, monkeypatch):
    folder = tmp_path / "weights" / hub.DEFAULT
    shutil.copytree(hub.find(), folder)
    shutil.copy(hub.find().parent / "README.md", folder.parent)
    write_checkpoint(folder, "cased")
    (folder / "vocab.txt").write_bytes((random_checkpoint("cased") / "vocab.txt").read_bytes())
    monkeypatch.setattr(hub, "PACKAGE", tmp_path / "package")
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors: sha256 is .* published was acbe.* Install or fetch"
    ):
        describe(Checkpoint())


def test_info_is_one_fact_a_line(capsys):
    assert main(["info"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split() == ["n_layers", "6"] for line in lines)
    assert any(line.startswith("model.safetensors") and line.endswith(", as published") for line in lines)
    assert lines[-1].split()[:2] == ["BERT-base", "33,360,000"] and "32.4% saved" in lines[-1]
    assert main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == describe(Checkpoint())
