"""The script that tries mutants finds where code computes, and tells a line that tests hold from one they do not."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "mutate.py"


@pytest.fixture(scope="module")
def mutate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutate", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("code", "changed"),
    [
        ("x < 3", ["x <= 3", "x < 4", "pass"]),
        ("a + b", ["a - b", "pass"]),
        ("f(a, b, k=1)", ["f(a, b)", "f(a, k=1)", "f(b, a, k=1)", "f(a, b, k=2)", "pass"]),
        ("if not a:\n    f()", ["if not not a:\n    f()", "if a:\n    f()", "if not a:\n    pass"]),
        ("y = a and 0.5", ["y = a or 0.5", "y = a and 1.0"]),
        (
            "def f(x: Float[T, 3] = True) -> int:\n    'A text.'",
            ['def f(x: Float[T, 3]=False) -> int:\n    """A text."""'],
        ),
        ("Law = Annotated[A | B, Field(gt=0)]", []),
    ],
)
def test_every_place_that_computes_is_changed_and_no_type_and_no_text(mutate, code, changed):
    import ast

    assert sorted(ast.unparse(one.tree) for one in mutate.mutants(code)) == sorted(changed)


def test_a_module_is_named_as_it_is_imported(mutate):
    root = SCRIPT.parent.parent / "src" / "detokenizers"
    assert mutate.module_name(root / "decoder.py") == "detokenizers.decoder"
    assert mutate.module_name(root / "flow" / "__init__.py") == "detokenizers.flow"


def test_only_a_line_that_no_test_holds_survives(tmp_path):
    (tmp_path / "small.py").write_text("def held(x):\n    return x + 1\n\n\ndef free(x):\n    return x * 2\n")
    (tmp_path / "test_small.py").write_text(
        "import small\n\n\ndef test_one_more():\n    assert small.held(1) == 2\n    assert small.free(0) == 0\n"
    )

    command = [sys.executable, str(SCRIPT), "small.py", "test_small.py"]
    environment = {"PYTHONPATH": str(tmp_path), "PATH": ""}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    *survivors, summary = done.stdout.splitlines()
    assert survivors == ["small.py:6: x * 2  ->  x / 2", "small.py:6: 2  ->  3"]
    assert summary.startswith("small.py: 2 killed, 0 timed out, 2 survived of 4 tried (4 possible)")
