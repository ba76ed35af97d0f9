"""Checkpoints that the tests share, and committed outputs of the reference."""

import json
from concurrent.futures import ThreadPoolExecutor
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


def blas_threads():
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="the extra 'fast' is not installed")
    return [library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]


@pytest.fixture
def two_blas_threads():
    """A host process that gives BLAS two threads, whatever the machine has."""
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="the extra 'fast' is not installed")
    controller = threadpoolctl.ThreadpoolController().select(user_api="blas")
    if not controller.lib_controllers:
        pytest.skip("threadpoolctl does not know the BLAS of this NumPy")
    # in another thread, as threadpoolctl 3.8 binds OpenBLAS to the one that sets it
    with ThreadPoolExecutor(1) as pool:
        limit = pool.submit(controller.limit, limits=2).result()
    assert blas_threads() == [2]
    yield
    with ThreadPoolExecutor(1) as pool:
        pool.submit(limit.restore_original_limits).result()
