"""What is shipped: the embedded weights as the model card describes them, and a wheel that works elsewhere."""

import ast
import configparser
import doctest
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import numpy_distilbert
from numpy_distilbert import DistilBertForQuestionAnswering
from numpy_distilbert.checkpoint import hub
from numpy_distilbert.checkpoint.tensors import Weights

ROOT = Path(__file__).resolve().parents[1]


def test_the_model_card_names_the_sha256_of_every_file():
    card = hub.find().parent / "README.md"
    listed = {
        name: digest for digest, name in re.findall(r"`([0-9a-f]{64})` \| (\S+)", card.read_text(encoding="utf-8"))
    }
    actual = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in hub.find().iterdir()}
    assert listed == actual


def test_the_model_card_names_the_shape():
    card, path = (ROOT / "weights" / "README.md").read_text(encoding="utf-8"), hub.find() / "model.safetensors"
    c = DistilBertForQuestionAnswering.from_pretrained().config
    shape = f"{c.n_layers} layers, width {c.dim}, {c.n_heads} heads, hidden {c.hidden_dim}"
    assert f"{shape}, {c.max_position_embeddings} positions" in card and f"{c.vocab_size:,} pieces" in card
    assert f"{sum(tensor.size for tensor in Weights(path.parent).values()):,}, float16 on disk" in card
    assert f"({path.stat().st_size:,} bytes)" in card


def test_ci_runs_the_test_command_of_the_readme():
    commands = re.findall(r"^    (pip install .+)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(commands) == 2 and "numpy_distilbert ask" in commands[0] and "pytest" in commands[1]
    assert commands[1] in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_the_readme_shows_what_its_command_prints():
    pattern = r"^    pip install .+ && python (-m numpy_distilbert .+)\n\n((?:    .+\n)+)"
    call, shown = re.search(pattern, (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE).groups()
    done = subprocess.run([sys.executable, *shlex.split(call)], capture_output=True, timeout=120, encoding="utf-8")
    assert done.stdout == re.sub("^    ", "", shown, flags=re.MULTILINE)


def test_what_is_imported_is_required():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    service = ROOT / "numpy_distilbert" / "service"
    others = set((ROOT / "numpy_distilbert").rglob("*.py")) - set(service.glob("*.py"))
    assert imported(others) == required(setup["options"]["install_requires"])
    assert imported(service.glob("*.py")) - {"numpy"} == required(setup["options.extras_require"]["serve"])


def imported(paths):
    code = "".join(path.read_text(encoding="utf-8") for path in paths)
    return set(re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE)) - set(sys.stdlib_module_names)


def required(requirements):
    return {re.match(r"[\w-]+", requirement)[0] for requirement in requirements.split()}


def test_a_wheel_under_60_mb_answers_from_another_directory(tmp_path):
    pytest.importorskip(
        "setuptools", "77.0.3", reason="builds a wheel without the network, which needs setuptools here"
    )
    source, site, elsewhere = tmp_path / "source", tmp_path / "site", tmp_path / "elsewhere"
    for name in ("numpy_distilbert", "weights"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "-w", tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 60e6
    zipfile.ZipFile(wheel).extractall(site)
    shutil.rmtree(source)
    elsewhere.mkdir()
    environment = os.environ | {"PYTHONPATH": str(site)}
    program = (
        "import sys; from numpy_distilbert import Checkpoint, cli; print(Checkpoint().folder); cli.main(sys.argv[1:])"
    )
    command = [
        sys.executable,
        "-c",
        program,
        "ask",
        "Where does Ada live?",
        "--context",
        "Ada lives in Turin.",
        "--pipeline",
        "--json",
    ]
    done = subprocess.run(
        command,
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        check=True,
        timeout=120,
        encoding="utf-8",
    )
    found, answer = done.stdout.splitlines()
    assert Path(found) == site / "numpy_distilbert" / "weights" / hub.DEFAULT
    assert json.loads(answer)["answer"] == "Turin"
    page = [f"service/page/{path.name}" for path in (ROOT / "numpy_distilbert" / "service" / "page").iterdir()]
    assert all((site / "numpy_distilbert" / name).exists() for name in ["py.typed", "weights/README.md", *page])


def test_the_package_has_its_names_before_numpy_is_imported():
    program = """
import sys, numpy_distilbert
import numpy_distilbert.cli
assert "numpy" not in sys.modules and {*numpy_distilbert.__all__, "__version__"} <= {*dir(numpy_distilbert)}
assert numpy_distilbert.kernels.attention  # modules that the public ones import
from numpy_distilbert import *
print(*[globals()[name].__module__ for name in numpy_distilbert.__all__], numpy_distilbert.tokenizer.__name__)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, encoding="utf-8")
    modules = "spans checkpoint checkpoint.files model model documents qa tokenizer vectors qa tokenizer"
    assert done.stdout.split() == [f"numpy_distilbert.{name}" for name in modules.split()]
    with pytest.raises(AttributeError, match="module 'numpy_distilbert' has no attribute 'Tokeniser'"):
        numpy_distilbert.Tokeniser  # noqa: B018


def test_type_checkers_see_the_names_that_there_are():
    tree = ast.parse(Path(numpy_distilbert.__file__).read_text(encoding="utf-8"))
    typed = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
    names = {node.module: [alias.name for alias in node.names] for node in typed}
    assert names == numpy_distilbert._NAMES
    assert sorted(name for listed in names.values() for name in listed) == numpy_distilbert.__all__


def test_the_example_of_the_package_is_true():
    assert doctest.testmod(numpy_distilbert).failed == 0
