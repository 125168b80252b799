"""The docs name real things: every gap marked in the code is explained, every cited function and test exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
SRC = ROOT / "src" / "detokenizers"
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]


@cache
def names_in(path: Path) -> frozenset[str]:
    """Functions, classes and `Class.member` of a Python file."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    top = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, kinds)]
    members = [f"{node.name}.{part.name}" for node in top for part in node.body if isinstance(part, kinds)]
    return frozenset([node.name for node in top] + members)


def anchors_in(page: Path) -> set[str]:
    """Explicit anchors, and the ones GitHub gives to headings."""
    text = page.read_text(encoding="utf-8")
    slugs = {
        re.sub(r"[^\w\- ]", "", line.strip().lower()).replace(" ", "-") for line in re.findall(r"^#+ (.*)$", text, re.M)
    }
    return slugs | set(re.findall(r'<a id="([\w-]+)"></a>', text))


def test_every_paper_gap_in_the_code_is_explained_in_the_docs():
    marks = {
        mark
        for path in SRC.rglob("*.py")
        for mark in re.findall(r"PAPER GAP \((docs/[\w-]+\.md)#([\w-]+)\)", path.read_text())
    }
    assert len(marks) >= 16
    missing = sorted(f"{page}#{anchor}" for page, anchor in marks if anchor not in anchors_in(ROOT / page))
    assert not missing, f"marked in the code but not explained: {missing}"


def test_every_explained_gap_is_marked_in_the_code():
    code = "".join(path.read_text() for path in SRC.rglob("*.py"))
    explained = re.findall(r'<a id="([\w-]+)"></a>', (ROOT / "docs" / "dcdd.md").read_text())
    assert [anchor for anchor in explained if f"docs/dcdd.md#{anchor}" not in code] == []


def test_every_function_and_test_the_docs_name_exists():
    cited = [(page, *cite) for page in PAGES for cite in re.findall(r"`([\w/]+\.py):([\w.]+)`", page.read_text())]
    assert len(cited) >= 60
    for page, file, name in cited:
        path = next((root / file for root in (SRC, ROOT) if (root / file).is_file()), None)
        assert path, f"{page.name} names {file}, which is not there"
        assert name in names_in(path), f"{page.name} names {file}:{name}, which is not there"


def test_the_equation_table_is_complete():
    rows = re.findall(r"^\| (\d+(?:, \d+)?) \|", (ROOT / "docs" / "dcdd.md").read_text(), re.M)
    assert sorted(int(number) for row in rows for number in row.split(", ")) == list(range(1, 27))
