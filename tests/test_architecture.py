"""Who may import whom, and how long the story may become. docs/contributing.md says where a thing goes."""

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "numpy_distilbert"
BELOW = {"arguments", "checkpoint", "files", "runtime"}
STORY = {
    "documents",
    "encoder",
    "inputs",
    "kernels",
    "model",
    "parameters",
    "qa",
    "spans",
    "squad",
    "tokenizer",
    "vectors",
}
WORKSHOPS = {"batch", "lab", "service", "training"}
MAY_IMPORT = {
    "arguments": set(),
    "files": set(),
    "unicode": set(),
    "checkpoint": set(),
    "runtime": {"arguments"},
    "tokenizer": {"unicode", "checkpoint", "arguments"},
    "kernels": {"runtime", "arguments"},
    "parameters": {"checkpoint", "arguments"},
    "encoder": {"kernels", "parameters", "runtime", "arguments"},
    "model": {"encoder", "kernels", "parameters", "checkpoint", "runtime", "arguments"},
    "spans": {"kernels", "tokenizer", "arguments"},
    "inputs": {"tokenizer", "arguments"},
    "documents": {"spans", "tokenizer", "inputs", "arguments"},
    "qa": {"documents", "spans", "model", "tokenizer", "inputs", "checkpoint", "arguments"},
    "vectors": {"model", "tokenizer", "arguments"},
    "squad": {"files"},
    **dict.fromkeys(WORKSHOPS, STORY | BELOW),
    "cli": WORKSHOPS | STORY | BELOW,
    "__init__": STORY | BELOW,
    "__main__": {"cli"},
}
THIRD_PARTIES = {
    "numpy": set(MAY_IMPORT),
    "regex": {"tokenizer", "unicode"},
    "safetensors": {"checkpoint"},
    "huggingface_hub": {"checkpoint"},
    "threadpoolctl": {"runtime"},
    "pyarrow": {"batch"},
    "distributed": {"batch"},
    "starlette": {"service"},
    "uvicorn": {"service"},
    "matplotlib": {"lab"},
    "typing_extensions": {"qa"},  # for a type checker alone
}
PATHS = sorted(PACKAGE.rglob("*.py"))


def lines(*paths):
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_go_down(path):
    *folder, name = path.relative_to(PACKAGE).with_suffix("").parts
    part = folder[0] if folder else name
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
        if isinstance(node, ast.ImportFrom) and node.level:
            inside = [*folder, ""][: len(folder) + 1 - node.level] + (node.module or "").split(".")
            targets = [inside[0]] if inside[0] else [name for name in names if name != "__version__"]
            assert set(targets) - {part} <= MAY_IMPORT[part]
        else:
            modules = [node.module] if isinstance(node, ast.ImportFrom) else names
            for module in {module.split(".")[0] for module in modules} - sys.stdlib_module_names:
                assert part in THIRD_PARTIES[module]


def test_the_story_stays_short():
    assert lines(PACKAGE / "encoder.py", PACKAGE / "kernels.py") <= 300
    assert {path.name: n for path in PACKAGE.glob("*.py") if (n := lines(path)) > 350} == {}
    assert lines(*PATHS) <= 7782
