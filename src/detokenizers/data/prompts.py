"""Prompts from the files people have: plain lists and the three benchmarks' own layouts, read into one kind of object.

The format is told by the file itself, never by a flag. Ids become file names and join results, so they are unique and
harmless; every refusal names the file and the line.

    *.txt one prompt a line | *.jsonl {"prompt", "id"?, "category"?, ...} | GenEval evaluation_metadata.jsonl
    MJHQ-30K meta_data.json {id: {"category", "prompt"}} | DPG-Bench folder of one *.txt per item

path -read_prompts-> [Prompt(id, text, category, meta)], in the file's order (DPG: by name).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

UNSAFE = re.compile(r"[\x00-\x1f\\:*?\"<>|]|^/|^\s*$|(^|/)\.{0,2}(/|$)")


@dataclass(frozen=True)
class Prompt:
    """One thing to draw. `meta` keeps whatever else its file said (seed, GenEval's `include`, ...)."""

    id: str
    text: str
    category: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)


def read_prompts(path: str | Path) -> list[Prompt]:
    """Read a prompts file or folder; see the module's list of formats."""
    path = Path(path)
    if path.is_dir():
        found = list(_dpg(path))
    elif not path.is_file():
        raise ValueError(f"there is no prompts file at {path}")
    elif path.suffix not in READERS:
        raise ValueError(f"{path} is not a prompts file; known are {', '.join(READERS)} and a folder of .txt files")
    else:
        found = list(READERS[path.suffix](path))
    if not found:
        raise ValueError(f"there are no prompts in {path}")
    return _unique(found)


def _lines(path: Path) -> Iterator[tuple[str, Prompt]]:
    first: dict[str, int] = {}
    for index, line in enumerate(_rows(path)):
        where, text = f"{path}:{index + 1}", line.strip()
        if not text:
            raise ValueError(f"{where}: this line is empty; one prompt a line, please")
        if text in first:
            raise ValueError(
                f"{where}: this prompt is already on line {first[text]}; use .jsonl with ids to draw it twice"
            )
        first[text] = index + 1
        yield where, Prompt(f"{index:05d}", text)


def _records(path: Path) -> Iterator[tuple[str, Prompt]]:
    first: dict[tuple[str, str], int] = {}
    for index, line in enumerate(_rows(path)):
        where = f"{path}:{index + 1}"
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: this line is not JSON ({error.msg} at column {error.colno})") from None
        meta = dict(_fields(record, where))
        text = _prompt(meta.pop("prompt", None), where)
        # GenEval's own lines carry no id: the position in the file is its folder name, and `tag` its task.
        geneval = {"tag", "include"} <= set(meta)
        category = meta["tag"] if geneval else meta.pop("category", None)
        if "id" not in meta and not geneval:
            drawn = text, json.dumps(meta.get("seed"))
            if drawn in first:
                raise ValueError(f"{where}: this prompt and seed are already on line {first[drawn]}; give each an id")
            first[drawn] = index + 1
        id = str(meta.pop("id", f"{index:05d}"))
        yield where, Prompt(id, text, None if category is None else str(category), meta)


def _mjhq(path: Path) -> Iterator[tuple[str, Prompt]]:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        seen = dict(items)
        if len(seen) < len(items):
            repeated = next(key for index, (key, _) in enumerate(items) if key in dict(items[:index]))
            raise ValueError(f"{path}: the key {repeated!r} is there twice")
        return seen

    try:
        table = json.loads(_text(path), object_pairs_hook=pairs)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno}: this is not JSON ({error.msg} at column {error.colno})") from None
    for id, record in _fields(table, str(path)).items():
        where = f"{path}: {id}"
        meta = dict(_fields(record, where))
        text = _prompt(meta.pop("prompt", None), where)
        category = meta.pop("category", None)
        yield where, Prompt(id, text, None if category is None else str(category), meta)


def _dpg(folder: Path) -> Iterator[tuple[str, Prompt]]:
    for path in sorted(folder.glob("*.txt")):
        yield str(path), Prompt(path.stem, _prompt(" ".join(_text(path).split()), str(path)))


READERS = {".txt": _lines, ".jsonl": _records, ".json": _mjhq}


def _unique(found: list[tuple[str, Prompt]]) -> list[Prompt]:
    first: dict[str, str] = {}
    for where, prompt in found:
        if UNSAFE.search(prompt.id):
            raise ValueError(f"{where}: the id {prompt.id!r} cannot be a file name; use letters, digits, - and _")
        if prompt.id in first:
            raise ValueError(f"{where}: the id {prompt.id!r} is already used at {first[prompt.id]}")
        first[prompt.id] = where
    return [prompt for _, prompt in found]


def _fields(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected a JSON object, got {type(value).__name__}")
    return value


def _prompt(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f'{where}: expected a text under "prompt", got {value!r}')
    return value.strip()


def _rows(path: Path) -> list[str]:
    text = _text(path).removesuffix("\n")
    return text.split("\n") if text else []


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}:{line}: this is not UTF-8 text") from None
