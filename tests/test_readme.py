"""What the README shows runs: its Python blocks in order; and no page names a verb or a file that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^\s*(?:\.venv/bin/)?detok (\w+)", re.MULTILINE)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
UNSHIPPED = ("<!-- not run: ",)
"""A block that needs weights nobody has here is preceded by this comment and its reason."""


def blocks(page: Path) -> list[str]:
    """The Python blocks of a page that are meant to run."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(text):
        before = text[: match.start()].rstrip().rsplit("\n", 1)[-1]
        if not before.startswith(UNSHIPPED):
            found.append(match[1])
    return found


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for number, code in enumerate(blocks(PAGES[0]), 1):
        exec(compile(code, f"README.md, Python block {number}", "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_verb_a_page_names_exists(page):
    from detokenizers.cli.verbs import VERBS

    named = {match[1] for match in COMMAND.finditer(page.read_text(encoding="utf-8"))}
    assert named <= set(VERBS), f"{page.name} names {sorted(named - set(VERBS))}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_local_link_of_a_page_leads_somewhere(page):
    links = re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing, f"{page.name} links to {missing}"
