"""Prompts from the files people have: plain lists and the three benchmarks' own layouts, read into one kind of object.

The format follows from the file itself, never from a flag. Ids become file names and join results, so they are unique and
harmless; every refusal names the file and the line. Blank lines are passed over and counted nowhere but in messages.

    *.txt one prompt a line | *.jsonl {"prompt", "id"?, "seed"?, "category"?, ...} | GenEval evaluation_metadata.jsonl
    MJHQ-30K meta_data.json {id: {"category", "prompt"}} | DPG-Bench folder of one *.txt per item

path -read_prompts-> [Prompt(id, text, category, seed)], in the file's order (DPG: by name).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..texts import json_of, lines_in, text_in

UNSAFE = re.compile('[\x00-\x1f\\\\:*?"<>|\ud800-\udfff]|^/|^\\s*$|(^|/)\\.{0,2}(/|$)')
LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True)
class Prompt:
    """One thing to draw."""

    id: str
    text: str
    category: str | None = None
    seed: int | None = None
    """The seed of its picture, where the file gives one."""


def read_prompts(path: str | Path) -> list[Prompt]:
    """Read a prompts file or folder; see the module's list of formats."""
    path = Path(path)
    kind = path.suffix.lower()
    if path.is_dir():
        found = list(_dpg(path))
    elif not path.is_file():
        raise ValueError(f"there is no prompts file at {path}")
    elif kind not in READERS:
        raise ValueError(f"{path} is not a prompts file; known are {', '.join(READERS)} and a folder of .txt files")
    else:
        found = list(READERS[kind](path))
    if not found:
        raise ValueError(f"there are no prompts in {path}")
    return _unique(found)


def _lines(path: Path) -> Iterator[tuple[str, Prompt]]:
    first: dict[str, int] = {}
    for index, (number, line) in enumerate(lines_in(path)):
        where, text = f"{path}:{number}", line.strip()
        if text in first:
            raise ValueError(
                f"{where}: this prompt is already on line {first[text]}; use .jsonl with ids to draw it twice"
            )
        first[text] = number
        yield where, Prompt(f"{index:05d}", text)


def _records(path: Path) -> Iterator[tuple[str, Prompt]]:
    first: dict[tuple[str, int | None], int] = {}
    for index, (number, line) in enumerate(lines_in(path)):
        where = f"{path}:{number}"
        found = _fields(json_of(line, where), where)
        text, seed = _prompt(found.get("prompt"), where), _seed(found.get("seed"), where)
        # GenEval's own lines carry no id: the position in the file is its folder name, and `tag` its task.
        geneval = {"tag", "include"} <= set(found)
        category = found["tag"] if geneval else found.get("category")
        if "id" not in found and not geneval:
            if (text, seed) in first:
                raise ValueError(
                    f"{where}: this prompt and seed are already on line {first[text, seed]}; give each an id"
                )
            first[text, seed] = number
        id = found.get("id", f"{index:05d}")
        if type(id) not in (str, int):
            raise ValueError(f"{where}: the id is {id!r}, not a text or a number")
        yield where, Prompt(str(id), text, None if category is None else str(category), seed)


def _mjhq(path: Path) -> Iterator[tuple[str, Prompt]]:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) < len(items):
            repeated = next(key for index, (key, _) in enumerate(items) if key in dict(items[:index]))
            raise ValueError(f"the key {repeated!r} is there twice")
        return found

    table = json_of(text_in(path), str(path), object_pairs_hook=pairs)
    for id, record in _fields(table, str(path)).items():
        where = f"{path}: {id}"
        found = _fields(record, where)
        text, seed = _prompt(found.get("prompt"), where), _seed(found.get("seed"), where)
        category = found.get("category")
        yield where, Prompt(id, text, None if category is None else str(category), seed)


def _dpg(folder: Path) -> Iterator[tuple[str, Prompt]]:
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() == ".txt" and path.is_file()):
        if not path.name.startswith("."):
            yield str(path), Prompt(path.stem, _prompt(" ".join(text_in(path).split()), str(path)))


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


def is_file_name(id: str) -> bool:
    """Whether an id can be the name of one file."""
    return "/" not in id and not UNSAFE.search(id)


def _fields(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected a JSON object, got {type(value).__name__}")
    return value


def _prompt(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f'{where}: expected a text under "prompt", got {value!r}')
    return value.strip()


def _seed(value: Any, where: str) -> int | None:
    if value is not None and (type(value) is not int or not 0 <= value <= LARGEST_SEED):
        raise ValueError(f'{where}: expected a whole number from 0 under "seed", got {value!r}')
    return value
