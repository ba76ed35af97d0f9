"""README and docs/: every example in Python is true, every link leads somewhere, README stays short."""

import ast
import contextlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "weights" / "README.md",
    ROOT / "SECURITY.md",
]
SHOWN = {"README.md": 3, "docs/documents.md": 4, "docs/migration.md": 2, "docs/porting.md": 1, "docs/python.md": 11}
WALKTHROUGH = "docs/walkthrough.md"  # see test_walkthrough.py


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def code_of(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def shown_value(comment):
    """The literal that a comment begins with, which a colon may end, in a list of one; or an empty list."""
    for text in (comment, comment.split(": ")[0]):
        with contextlib.suppress(SyntaxError, ValueError):
            return [ast.literal_eval(text)]
    return []


def test_every_page_with_examples_is_known():
    assert {name_of(page) for page in PAGES if code_of(page)} == {*SHOWN, WALKTHROUGH}


@pytest.mark.parametrize("page", [page for page in PAGES if name_of(page) in SHOWN], ids=name_of)
def test_examples_are_true(page):
    names, n_shown = {}, 0
    for block in code_of(page):
        lines = [*block.splitlines(), ""]
        for statement in ast.parse(block).body:
            source, last = ast.get_source_segment(block, statement), statement.end_lineno
            _, _, comment = lines[last - 1].partition("  # ")
            comment = comment or (lines[last][2:] if lines[last].startswith("# ") else "")
            if isinstance(statement, ast.Expr) and (shown := shown_value(comment)):
                (expected,) = shown
                value = eval(source, names)
                assert value == (pytest.approx(expected, abs=1e-5) if isinstance(expected, dict) else expected), source
                n_shown += 1
            else:
                exec(source, names)
    assert n_shown == SHOWN[name_of(page)]


def anchors(page):
    """What a link can lead to on a page, as GitHub names it."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\((\S+?)\)", text) + re.findall(r'\bsrc(?:set)?="(\S+?)"', text)
    for link in links:
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert "//" in link or (target.exists() and (not anchor or anchor in anchors(target))), link


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_formulas_survive_markdown(page):
    """GitHub removes a backslash before punctuation, also in a formula: a thin space becomes a comma."""
    formulas = re.findall(r"\$\$.+?\$\$", page.read_text(encoding="utf-8"), re.DOTALL)
    assert not [formula for formula in formulas if re.search(r"\\[!-/:-@[-`{-~]", formula)]


def test_the_readme_is_read_in_ninety_seconds():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_pictures_stay_small():
    pictures = [path for path in (ROOT / "docs" / "pictures").iterdir() if path.is_file()]
    assert pictures and all(path.stat().st_size < 200_000 for path in pictures)
