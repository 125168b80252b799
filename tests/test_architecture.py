"""The house rules that a machine can check: floors, file sizes, docstrings, and a command line that answers at once."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "detokenizers"
FILES = sorted(SOURCE.rglob("*.py"))
HEAVY = ("torch", "transformers", "diffusers", "numpy", "matplotlib", "accelerate")
LONGEST_FILE, LONGEST_VERB = 300, 60
PLAIN = {"NamedTuple", "Protocol"}


def test_imports_run_from_the_papers_down_and_through_one_door():
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_help_answers_at_once():
    def seconds(*command: str) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, *command], capture_output=True, check=True)
        return time.perf_counter() - started

    # On a quiet machine help takes under half a second. On a busy one it may take as many times longer as its two
    # libraries alone, a tenth of a second when quiet, do; the fastest of several asks how long, not how busy.
    pairs = [(seconds("-m", "detokenizers", "--help"), seconds("-c", "import pydantic, tyro")) for _ in range(5)]
    help_, floor = (min(column) for column in zip(*pairs))
    assert help_ < max(0.5, 5 * floor)


@pytest.mark.parametrize(
    "statement", ["import detokenizers", "from detokenizers.cli import main; main(['generate', '-h'])"]
)
def test_neither_the_package_nor_help_imports_anything_heavy(statement):
    check = f"import sys; {statement}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("package", ["", ".drawing", ".evaluation", ".pipelines"])
def test_what_a_package_offers_is_there(package):
    module = import_module(f"detokenizers{package}")
    assert module._HOMES
    for name in module._HOMES:
        assert getattr(module, name).__name__ == name


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_file_fits_in_one_reading(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_modules_and_what_they_offer_are_documented(path):
    text = path.read_text(encoding="utf-8")
    if not text.strip():
        return
    module = ast.parse(text)
    missing = [] if ast.get_docstring(module) else ["the module"]
    missing += [node.name for node in offered(module.body) if not ast.get_docstring(node)]
    assert not missing, f"{path.relative_to(ROOT)} has no docstring for {', '.join(missing)}"


def offered(body: list[ast.stmt]) -> list[ast.FunctionDef | ast.ClassDef]:
    """Public functions and classes of a module, except functions of a single statement, which say what they do."""
    classes = [node for node in body if isinstance(node, ast.ClassDef) and not set(names(node.bases)) & PLAIN]
    functions = [node for node in body if isinstance(node, ast.FunctionDef) and len(node.body) > 1]
    return [node for node in (*classes, *functions) if not node.name.startswith("_")]


def names(nodes: list[ast.expr]) -> list[str]:
    return [node.id for node in nodes if isinstance(node, ast.Name)]


def test_a_verb_is_one_short_file_that_parses_calls_and_prints():
    from detokenizers.cli.verbs import VERBS

    for verb in VERBS:
        text = (SOURCE / "cli" / f"{verb}.py").read_text(encoding="utf-8")
        assert len(text.splitlines()) <= LONGEST_VERB, verb
        assert not {alias for alias in HEAVY if f"import {alias}" in text}, verb


def test_names_say_what_things_are():
    vague = [path for path in FILES if any(word in path.stem for word in ("util", "misc", "helper", "manager"))]
    assert vague == []


def test_weights_are_never_unpickled():
    loads = [
        path for path in FILES if "torch.load(" in path.read_text() and "weights_only=True" not in path.read_text()
    ]
    assert loads == []
    assert [path for path in FILES if "pickle.load" in path.read_text()] == []
