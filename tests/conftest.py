"""Checkpoints that the tests share, and committed outputs of the reference."""

import json
from pathlib import Path

import pytest
from hypothesis import settings
from reference.checkpoints import write_checkpoint

from numpy_distilbert import QuestionAnswerer

REFERENCE = Path(__file__).parent / "reference"

settings.register_profile("project", deadline=None, derandomize=True)
settings.load_profile("project")


@pytest.fixture(scope="session")
def embedded() -> QuestionAnswerer:
    return QuestionAnswerer.from_pretrained()


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory):
    """Folder of the random checkpoint of that name in reference/checkpoints.py, "cased" with its vocabulary."""
    folders = {}

    def folder(name: str) -> Path:
        if name not in folders:
            folders[name] = write_checkpoint(tmp_path_factory.mktemp(name), name)
            if name == "cased":
                (folders[name] / "vocab.txt").write_bytes((REFERENCE / "cased_vocab.txt").read_bytes())
                (folders[name] / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
        return folders[name]

    return folder


@pytest.fixture(scope="session")
def cased(random_checkpoint) -> QuestionAnswerer:
    return QuestionAnswerer.from_pretrained(random_checkpoint("cased"))
