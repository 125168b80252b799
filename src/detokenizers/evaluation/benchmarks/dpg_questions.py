"""The official `dpg_bench.csv`: one question a row, which item it is about, and which questions it depends on.

csv -read_items-> [DPGItem(id, text, questions)] ; grid picture -quarters-> four pictures
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from ...data.prompts import is_file_name

COLUMNS = (
    "item_id", "text", "keywords", "proposition_id", "dependency",
    "category_broad", "category_detailed", "tuple", "question_natural_language",
)  # fmt: skip
ITEMS = 1065
GRIDS = "grids"
"""The folder of the grids, below a decoder's."""
SAMPLES = 4
"""Pictures per item, in reading order in the grid."""


class Question(NamedTuple):
    """One yes/no question; `parents` are the ids of those that must be answered yes for it to count."""

    id: int
    parents: tuple[int, ...]
    broad: str
    detailed: str
    text: str
    tuple: str
    """The proposition as the authors wrote it, e.g. `entity - whole (dog)`."""


class DPGItem(NamedTuple):
    """One prompt and its questions in the file's order."""

    id: str
    text: str
    questions: tuple[Question, ...]


def read_items(path: str | Path, *, partial: bool = False, official_quirks: bool = False) -> list[DPGItem]:
    """Read the official csv.

    Args:
        partial: accept another number of items than 1,065.
        official_quirks: read it as `compute_dpg_bench.py` does, which leaves out the first question of all, and of an
            item whose rows do not follow each other keeps only the last rows.

    Raises:
        ValueError: it is another format, a row makes no sense, or items are missing.
    """
    rows = _rows(Path(path))
    second_header = bool(rows) and rows[0][1]["item_id"] == "item_id"
    if official_quirks or second_header:
        rows = rows[1:]
    items: dict[str, DPGItem] = {}
    before = None
    for where, row in rows:
        question, id = _question(row, where), row["item_id"]
        if official_quirks and id != before:
            items.pop(id, None)
        item = items.setdefault(id, DPGItem(id, row["text"].strip(), ()))
        if any(one.id == question.id for one in item.questions):
            raise ValueError(f"{where}: item {id} has the question {question.id} twice")
        items[id] = item._replace(questions=(*item.questions, question))
        before = id
    if len(items) != ITEMS and not partial:
        raise ValueError(f"{path} holds {len(items)} items, not DPG-Bench's {ITEMS:,}; --partial scores what there is")
    if not items:
        raise ValueError(f"there are no questions in {path}")
    return list(items.values())


def missing_parents(items: list[DPGItem]) -> list[str]:
    """Dependencies on questions that the file does not have; they cannot be answered no, and are reported."""
    return [
        f"{item.id}: question {one.id} depends on {parent}"
        for item in items
        for one in item.questions
        for parent in one.parents
        if parent not in {other.id for other in item.questions}
    ]


def _rows(path: Path) -> list[tuple[str, dict[str, str]]]:
    if not path.is_file():
        raise ValueError(f"there is no DPG-Bench file at {path}; it is dpg_bench/dpg_bench.csv of the ELLA repository")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if lacking := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
                raise ValueError(f"{path} is not DPG-Bench's csv: it lacks the columns {', '.join(lacking)}")
            return [(f"{path}:{reader.line_num}", dict(row)) for row in reader]
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text; DPG-Bench's csv is expected") from None
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except csv.Error as error:
        raise ValueError(f"{path} cannot be read as csv: {error}") from None


def _question(row: dict[str, str], where: str) -> Question:
    if any(row.get(name) is None for name in COLUMNS):
        raise ValueError(f"{where}: this row has fewer fields than the {len(COLUMNS)} columns")
    if not is_file_name(row["item_id"]):
        raise ValueError(f"{where}: the item id {row['item_id']!r} cannot be a file name")
    if not row["question_natural_language"].strip() or not row["text"].strip():
        raise ValueError(f"{where}: the prompt or the question is empty")
    try:
        id = int(row["proposition_id"])
        parents = tuple(parent for one in row["dependency"].split(",") if (parent := int(one)))
    except ValueError:
        raise ValueError(
            f"{where}: proposition_id {row['proposition_id']!r} and dependency {row['dependency']!r} are not whole "
            "numbers; the latter is 0 where a question depends on none"
        ) from None
    broad, detailed = row["category_broad"].strip(), row["category_detailed"].strip()
    return Question(id, parents, broad, detailed, row["question_natural_language"].strip(), row["tuple"])


def quarters(grid: UInt8[np.ndarray, "h w 3"], resolution: int | None, name: str) -> list[UInt8[np.ndarray, "r r 3"]]:
    """The four pictures of a 2x2 grid, in reading order; `resolution` is the side of one, half the grid unless given.

    Raises:
        ValueError: the grid is not square, or not of this size.
    """
    height, width = grid.shape[:2]
    if height != width or height % 2:
        raise ValueError(f"{name} is {width}x{height} px; DPG-Bench wants a square 2x2 grid of four pictures")
    side = height // 2
    if resolution not in (None, side):
        raise ValueError(f"{name} is a grid of {side} px pictures, not of --resolution {resolution}")
    return [grid[y : y + side, x : x + side] for y in (0, side) for x in (0, side)]
