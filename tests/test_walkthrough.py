"""The walkthrough: every line of code in it is run, in order, and prints what the page says."""

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "walkthrough.md").read_text(encoding="utf-8")


def test_it_prints_what_it_says():
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 30 and [kind for kind, _ in blocks] == ["python", "text"] * (len(blocks) // 2)
    names = {}
    for (_, code), (_, expected) in zip(blocks[::2], blocks[1::2], strict=True):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, names)
        assert printed.getvalue() == expected, code


POINTERS = [
    (name, module)
    for names, module in re.findall(r"((?:`\w+`(?:,\s|\sand\s)?)+)\sin\s\[?([\w/]+)\.py", PAGE)
    for name in re.findall(r"`(\w+)`", names)
]


def test_it_points_to_much():
    assert len(POINTERS) > 35 and ("erf", "kernels") in POINTERS


@pytest.mark.parametrize("name, module", POINTERS)
def test_what_it_points_to_is_there(name, module):
    source = (ROOT / "numpy_distilbert" / f"{module}.py").read_text(encoding="utf-8")
    assert re.search(rf"^(def|class) {name}\b", source, re.MULTILINE)
