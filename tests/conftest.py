"""Checkpoints that the tests share, and committed outputs of the reference."""

import json
import os
import runpy
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from numpy_distilbert import QuestionAnswerer
from numpy_distilbert.lab.synthetic import write_checkpoint

REFERENCE = Path(__file__).parent / "reference"

forks = pytest.mark.skipif(
    sys.platform != "linux", reason="--workers forks processes on Linux alone, and /proc lists them"
)
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals, links, permissions or shell")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Run the whole suite in two processes, if pytest-xdist is installed and no option asks for something else."""
    option = config.option
    whole = config.args_source == pytest.Config.ArgsSource.TESTPATHS and not hasattr(config, "workerinput")
    unasked = getattr(option, "numprocesses", 0) is None and option.dist == "no"
    watched = (
        option.usepdb or option.trace or option.capture == "no"
    )  # which a process of its own would not let through
    if whole and unasked and not watched:
        option.numprocesses, option.dist = 2, "worksteal"
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # a core each; tests of threads ask for two


@pytest.fixture(scope="session")
def embedded() -> QuestionAnswerer:
    return QuestionAnswerer.from_pretrained()


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory):
    """Folder of the random checkpoint of that name in lab/synthetic.py, "cased" with its vocabulary."""

    @cache
    def folder(name: str, **changes: int) -> Path:
        made = write_checkpoint(tmp_path_factory.mktemp(name), name, **changes)
        if name == "cased":
            (made / "vocab.txt").write_bytes((REFERENCE / "cased_vocab.txt").read_bytes())
            (made / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}), encoding="utf-8")
        return made

    return folder


@pytest.fixture(scope="session")
def cased(random_checkpoint) -> QuestionAnswerer:
    return QuestionAnswerer.from_pretrained(random_checkpoint("cased"))


@pytest.fixture(scope="session")
def shallow_model(random_checkpoint) -> Path:
    """The folder of one with a single layer, for tests to which it does not matter what the answer is."""
    return random_checkpoint("cased", n_layers=1)


@pytest.fixture(scope="session")
def shallow(shallow_model) -> QuestionAnswerer:
    return QuestionAnswerer.from_pretrained(shallow_model)


@pytest.fixture(scope="session")
def one_page() -> dict[str, Any]:
    """The functions of examples/distilbert_on_one_page.py, which state the model once more, as simply as can be."""
    return runpy.run_path(str(Path(__file__).resolve().parents[1] / "examples" / "distilbert_on_one_page.py"))


@pytest.fixture(autouse=True)
def terminal(monkeypatch):
    """Whatever the terminal that the tests run on: it takes colours and a bar."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)


def blas_threads():
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="needs the extra 'fast'")
    return [library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]


@pytest.fixture
def two_blas_threads():
    """A host process that gives BLAS two threads, whatever the machine has."""
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="needs the extra 'fast'")
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
