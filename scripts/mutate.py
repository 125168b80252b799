"""Which lines does no test hold? Change a module in one place at a time and see whether the tests notice.

Every mutant is one small change of the syntax tree: a comparison, an operator, a number, a condition, an argument, a
statement. Tests run on it in a fork of this process, which has everything but our own code imported already; nothing on
disk changes. A mutant that all tests pass has survived: a line without a test, or a change that changes nothing.

    python scripts/mutate.py src/detokenizers/flow/path.py tests/flow tests/test_decoder.py [--sample 50]

module -syntax tree-> mutants -one fork each, pytest -x-> survivors on stdout. Not in CI: hundreds of runs of the tests.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib.util
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

COMPARED = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
COMPUTED = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
NOT_CODE = {"annotation", "returns", "decorator_list", "type_params"}
JOINED = {ast.And: ast.Or, ast.Or: ast.And}
VALUED: dict[type, Callable[[Any], Any]] = {
    bool: lambda value: not value, int: lambda value: value + 1, float: lambda value: 2 * value or 1.0,
}  # fmt: skip


class Mutant(NamedTuple):
    """One change: where it is, what stood there, what stands there now, and the changed tree."""

    line: int
    before: str
    after: str
    tree: ast.Module


def mutants(source: str) -> Iterator[Mutant]:
    """Every mutant of a module, from top to bottom."""
    original = ast.parse(source)
    for number, (_, node) in enumerate(places(original)):
        for change in range(len(changes(node))):
            tree = copy.deepcopy(original)
            replace, found = next(place for at, place in enumerate(places(tree)) if at == number)
            changed = changes(found)[change]
            replace(changed)
            yield Mutant(getattr(node, "lineno", 0), ast.unparse(node), ast.unparse(changed), tree)


def places(tree: ast.AST) -> Iterator[tuple[Callable[[ast.AST], None], ast.AST]]:
    """Every node that computes something, with what puts another in its place; not types, docstrings and messages."""
    for field, value in ast.iter_fields(tree):
        if field in NOT_CODE or isinstance(tree, (ast.Raise, ast.JoinedStr)):
            continue
        for at, child in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(child, ast.AST) or is_text(child):
                continue
            if isinstance(value, list):
                yield lambda new, at=at, value=value: value.__setitem__(at, new), child
            else:
                yield lambda new, field=field: setattr(tree, field, new), child
            yield from places(child)


def is_text(node: ast.AST) -> bool:
    """A docstring, or the union behind a type."""
    value = getattr(node, "value", None)
    if isinstance(node, ast.Expr):
        return isinstance(value, ast.Constant)
    union = value.value if isinstance(node, ast.Assign) and isinstance(value, ast.Subscript) else None
    return isinstance(union, ast.Name) and union.id.istitle()


def changes(node: ast.AST) -> list[ast.AST]:
    """What may stand in the place of one node."""
    return CHANGES[type(node)](node) if type(node) in CHANGES else []


def compared(node: ast.Compare) -> list[ast.AST]:
    return [ast.Compare(node.left, [COMPARED[type(node.ops[0])](), *node.ops[1:]], node.comparators)]


def computed(node: ast.BinOp) -> list[ast.AST]:
    other = COMPUTED.get(type(node.op))
    return [ast.BinOp(node.left, other(), node.right)] if other else []


def joined(node: ast.BoolOp) -> list[ast.AST]:
    return [ast.BoolOp(JOINED[type(node.op)](), node.values)]


def valued(node: ast.Constant) -> list[ast.AST]:
    other = VALUED.get(type(node.value))
    return [ast.Constant(other(node.value))] if other else []


def negated(node: ast.If | ast.IfExp | ast.While) -> list[ast.AST]:
    opposite = copy.copy(node)
    opposite.test = ast.UnaryOp(ast.Not(), node.test)
    return [opposite]


def called(node: ast.Call) -> list[ast.AST]:
    """The call without its last argument, without each named one, and with its first two exchanged."""
    given, named = node.args, node.keywords
    less: list[ast.AST] = [ast.Call(node.func, given, named[:at] + named[at + 1 :]) for at in range(len(named))]
    if given:
        less.append(ast.Call(node.func, given[:-1], named))
    if len(given) > 1:
        less.append(ast.Call(node.func, [given[1], given[0], *given[2:]], named))
    return less


CHANGES: dict[type[ast.AST], Callable[[Any], list[ast.AST]]] = {
    ast.Compare: compared,
    ast.BinOp: computed,
    ast.BoolOp: joined,
    ast.UnaryOp: lambda node: [node.operand],
    ast.Constant: valued,
    ast.Call: called,
    **dict.fromkeys((ast.If, ast.IfExp, ast.While), negated),
    **dict.fromkeys((ast.Expr, ast.AugAssign, ast.Raise, ast.Continue, ast.Break), lambda node: [ast.Pass()]),
}


class Changed(SourceFileLoader):
    """Imports a module from a tree in memory."""

    def __init__(self, name: str, path: str, tree: ast.Module | None) -> None:
        super().__init__(name, path)
        self.tree = tree

    def find_spec(self, name: str, *_: object) -> object:
        return importlib.util.spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def get_code(self, fullname: str) -> CodeType | None:
        return compile(ast.fix_missing_locations(self.tree), self.path, "exec") if self.tree else None


def module_name(path: Path) -> str:
    """The dotted name a file is imported by."""
    parts, folder = [] if path.stem == "__init__" else [path.stem], path.parent
    while (folder / "__init__.py").exists():
        parts, folder = [folder.name, *parts], folder.parent
    return ".".join(parts)


def run(hook: Changed | None, tests: list[str], limit: float, imported: Path | None = None) -> str:
    """`survived`, `killed` or `timed out`, by the tests in a fork; where asked, the names of all that was imported."""
    child = os.fork()
    if not child:
        _test(hook, tests, imported)
    end = time.monotonic() + limit
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return "killed" if status else "survived"
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "timed out"


def _test(hook: Changed | None, tests: list[str], imported: Path | None) -> None:
    """What a fork does, to its end."""
    os.setpgid(0, 0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    if hook is not None:
        sys.meta_path.insert(0, hook)  # pyright: ignore[reportArgumentType]
    result = 1
    with tempfile.TemporaryDirectory() as scratch, suppress(BaseException):
        import pytest

        result = int(pytest.main(["-xq", "-p", "no:cacheprovider", f"--basetemp={scratch}/tests", *tests]))
    if imported is not None:
        imported.write_text("\n".join(sys.modules))
    os._exit(result)


def import_all_but_ours(names: list[str], module: str, tests: list[str]) -> None:
    """What the tests import, but for the code under test and the tests: forks need not do it again."""
    ours = {
        module.split(".")[0],
        "__main__",
        "conftest",
        *(Path(test).parts[0] for test in tests if not test.startswith("-")),
    }
    for name in names:
        if name.split(".")[0] not in ours and not name.split(".")[-1].startswith("test_"):
            with suppress(Exception):
                importlib.import_module(name)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("module", type=Path)
    parser.add_argument("tests", nargs="+", help="test files, folders or ids that hold the module")
    parser.add_argument("--without", nargs="*", default=[], metavar="ID", help="tests among these to leave out")
    parser.add_argument("--sample", type=int, help="so many mutants, drawn by --seed; all by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--limit", type=float, help="seconds a mutant; by default four times the unchanged module's, and 10"
    )
    parser.add_argument("--lines", type=int, nargs="*", help="only mutants of these lines")
    wanted = parser.parse_args(arguments)
    wanted.tests += [f"--deselect={test}" for test in wanted.without]
    name, path = module_name(wanted.module.resolve()), wanted.module.resolve()
    # Before anything is imported: fork safely, with one thread, the same examples for every mutant, no network.
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with tempfile.TemporaryDirectory() as scratch:
        names, began = Path(scratch) / "imported", time.monotonic()
        if run(None, wanted.tests, 600, names) != "survived":
            print(f"the tests fail on {wanted.module} as it is; run them with pytest first")
            return 2
        import_all_but_ours(names.read_text().split(), name, wanted.tests)
    took = time.monotonic() - began
    everything = list(mutants(path.read_text(encoding="utf-8")))
    tried = [one for one in everything if wanted.lines is None or one.line in wanted.lines]
    if wanted.sample is not None and wanted.sample < len(tried):
        tried = sorted(random.Random(wanted.seed).sample(tried, wanted.sample), key=lambda one: one.line)
    limit, results, began = wanted.limit or 4 * took + 10, [], time.monotonic()
    for one in tried:
        results.append(run(Changed(name, str(path), one.tree), wanted.tests, limit))
        if results[-1] == "survived":
            print(f"{wanted.module}:{one.line}: {shown(one.before, one.after)}", flush=True)
    counts = ", ".join(f"{results.count(word)} {word}" for word in ("killed", "timed out", "survived"))
    print(f"{wanted.module}: {counts} of {len(tried)} tried ({len(everything)} possible), "
          f"{time.monotonic() - began:.0f} s")  # fmt: skip
    return 0


def shown(before: str, after: str, width: int = 70) -> str:
    """Both on one line, from a little before where they part."""
    before, after = " ".join(before.split()), " ".join(after.split())
    first = max(0, next((at for at, pair in enumerate(zip(before, after)) if pair[0] != pair[1]), 0) - width // 2)
    cut = [("..." if first else "") + code[first : first + width] for code in (before, after)]
    return "  ->  ".join(cut)


if __name__ == "__main__":
    sys.exit(main())
