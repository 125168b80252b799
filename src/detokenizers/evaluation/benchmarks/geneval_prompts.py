"""GenEval's prompts: the official `evaluation_metadata.jsonl`, line by line and checked, so nothing is misread.

A line lists the objects that a picture must show (`include`: class, count, colour, position relative to an earlier
object) and how many are too many (`exclude`; counting asks for n and excludes n + 1). Classes are the 80 of COCO in
COCO's order under GenEval's names, which differ for the three that would be ambiguous.

{"tag", "include", "exclude"?, "prompt"} -ask-> Ask(tag, include, exclude, prompt, record)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...texts import json_of, lines_in

TASKS = {"single_object": 80, "two_object": 99, "counting": 80, "colors": 94, "position": 100, "color_attr": 100}
"""The tasks in the paper's order, with their official number of prompts: 553 in all."""
SAMPLES = 4
"""Pictures per prompt in the published protocol."""
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
RELATIONS = ("left of", "right of", "above", "below")
_NAMES = """person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign,
parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, handbag,
tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard,
tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot,
hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv, laptop, computer mouse,
tv remote, computer keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors,
teddy bear, hair drier, toothbrush"""
CLASSES = tuple(" ".join(name.split()) for name in _NAMES.split(","))
"""GenEval's name of COCO class 0 to 79."""


class Wanted(NamedTuple):
    """One clause: at least `number` of a class, in a colour, on one side of what clause `anchor` found."""

    name: str
    number: int
    colour: str | None = None
    relation: str | None = None
    anchor: int = 0


class Ask(NamedTuple):
    """One prompt. `record` is its official line, to be written beside its pictures."""

    tag: str
    include: tuple[Wanted, ...]
    exclude: tuple[Wanted, ...]
    prompt: str
    record: dict[str, Any]


def read_asks(path: str | Path, *, partial: bool = False) -> list[Ask]:
    """Read the official file; the row is the prompt's folder name, `00000` upwards.

    Args:
        partial: accept some of the prompts; otherwise each task must have its official number.

    Raises:
        ValueError: it is another format, a clause makes no sense, or prompts are missing.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no GenEval file at {path}; it is prompts/evaluation_metadata.jsonl of geneval")
    asks = [ask(line, f"{path}:{number}") for number, line in lines_in(path)]
    require_tasks(asks, str(path), partial=partial)
    return asks


def ask(line: str, where: str) -> Ask:
    """Read one line; `where` names it in errors."""
    record = json_of(line, where)
    if not isinstance(record, dict) or not {"tag", "include", "prompt"} <= set(record):
        raise ValueError(f'{where}: a line of GenEval is {{"tag", "include", "prompt"}}, not {line[:60]!r}')
    if record["tag"] not in tuple(TASKS):  # it may be anything, and not everything can be a key
        raise ValueError(f"{where}: there is no task {record['tag']!r}; GenEval has {', '.join(TASKS)}")
    if not isinstance(record["prompt"], str) or not record["prompt"].strip():
        raise ValueError(f"{where}: the prompt is {record['prompt']!r}, not a text")
    include = clauses(record["include"], where)
    if not include:
        raise ValueError(f"{where}: `include` is empty, so every picture would be right")
    return Ask(record["tag"], include, clauses(record.get("exclude", []), where), record["prompt"], record)


def clauses(value: Any, where: str) -> tuple[Wanted, ...]:
    """The clauses of `include` or `exclude`."""
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise ValueError(f"{where}: `include` and `exclude` are lists of objects, not {value!r}")
    return tuple(_clause(one, row, where) for row, one in enumerate(value))


def _clause(one: dict[str, Any], row: int, where: str) -> Wanted:
    name, count, colour, position = (one.get(key) for key in ("class", "count", "color", "position"))
    if name not in CLASSES:
        raise ValueError(f"{where}: there is no class {name!r} among GenEval's 80")
    if type(count) is not int or count < 1:
        raise ValueError(f"{where}: the count of {name!r} is {count!r}, not a number from 1")
    if colour is not None and colour not in COLOURS:
        raise ValueError(f"{where}: there is no colour {colour!r}; GenEval has {', '.join(COLOURS)}")
    if position is None:
        return Wanted(name, count, colour)
    if not isinstance(position, list) or len(position) != 2 or position[0] not in RELATIONS:
        raise ValueError(f"{where}: a position is [{' | '.join(RELATIONS)}, clause], not {position!r}")
    if type(position[1]) is not int or not 0 <= position[1] < row:
        raise ValueError(f"{where}: clause {row} is placed relative to {position[1]!r}, which is no earlier clause")
    return Wanted(name, count, colour, position[0], position[1])


def require_tasks(asks: Sequence[Ask], where: str, *, partial: bool = False) -> None:
    """Refuse a benchmark that is not whole."""
    found = Counter(one.tag for one in asks)
    if not found:
        raise ValueError(f"there are no GenEval prompts in {where}")
    odd = [f"{tag} {found[tag]} of {number}" for tag, number in TASKS.items() if found[tag] != number]
    if odd and not partial:
        raise ValueError(
            f"{where} is not all of GenEval's 553 prompts ({', '.join(odd)}); --partial scores what there is"
        )
