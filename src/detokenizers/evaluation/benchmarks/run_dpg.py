"""DPG-Bench's grids, each picture examined question by question by a vision-language model.

grids/ITEM.png -quarters-> four pictures -YesNo-> margins -> answers -score | official_score-> the score and categories
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from ...cli.verbs import Evaluate
from ...data.canonical import PNG
from ...data.images import upright
from ...device import device_of
from ..settings import official_file
from ..results import Result
from .dpg.questions import Item, missing_parents, quarters, read
from .dpg.score import Said, difference, official_score, score
from .journal import Journal

if TYPE_CHECKING:
    from ...pretrained.networks.vqa import YesNo


def evaluated(request: Evaluate, folders: Mapping[str, Path], out: Path) -> Result:
    """The DPG score of every decoder."""
    items = read(official_file("dpg", request.bench_file), partial=request.partial, official_quirks=request.official_quirks)
    grids = {name: grids_in(folder, items) for name, folder in folders.items()}
    for found in grids.values():  # before hours of judging
        for path in found.values():
            quarters(np.asarray(upright(path, PNG)), request.resolution, str(path))
    examiner = examiner_of(request)
    tag = f"dpg-{examiner.name}{'-official-quirks' if request.official_quirks else ''}"
    journal = Journal(out, tag, examiner.identity)
    said = {name: examined(items, found, request.resolution, examiner, journal, name) for name, found in grids.items()}
    scored = official_score if request.official_quirks else score
    first = next(iter(said))
    return {
        "tag": tag,
        "judge": examiner.identity,
        "n": {name: 4 * len(found) for name, found in grids.items()},
        "prompts": len(items),
        "questions": sum(len(item.questions) for item in items),
        "missing_parents": missing_parents(items),
        "judged": str(journal.path),
        "decoders": {name: scored(items, answers, seed=request.seed) for name, answers in said.items()},
        "differences": {}
        if request.official_quirks
        else {
            f"{name} - {first}": difference(items, answers, said[first], seed=request.seed)
            for name, answers in said.items()
            if name != first
        },
    }


def grids_in(folder: Path, items: Sequence[Item]) -> dict[str, Path]:
    """The grid of every item, in `folder` or in its `grids`.

    Raises:
        ValueError: grids are missing, or there are strange ones.
    """
    place = folder / "grids" if (folder / "grids").is_dir() else folder
    found = {path.stem: path for path in place.glob("*.png") if not path.name.startswith(".")}
    wanted = {item.id for item in items}
    if missing := sorted(wanted - set(found)):
        raise ValueError(f"{place} lacks {len(missing)} of {len(wanted)} grids, e.g. {missing[0]}.png")
    if strange := sorted(set(found) - wanted):
        raise ValueError(f"{place} holds {len(strange)} grids that are no item of --bench-file, e.g. {strange[0]}.png")
    return {item.id: found[item.id] for item in items}


def examiner_of(request: Evaluate) -> YesNo:
    """Load the judge; it is not downloaded unless it is named."""
    from ...pretrained.networks.vqa import USUAL, YesNo

    if request.judge is None:
        raise ValueError(f"DPG-Bench needs a vision-language model that answers, by folder or Hub id: --judge {USUAL}")
    return YesNo.load(request.judge, device=device_of(request.device))


def examined(
    items: Sequence[Item], grids: Mapping[str, Path], side: int | None, examiner: YesNo, journal: Journal, name: str
) -> dict[str, Said]:
    """Yes or no to every question about each of an item's four pictures."""
    said: dict[str, Said] = {}
    for item in tqdm(items, desc=f"examining {name}", disable=None):
        questions, path = [question.text for question in item.questions], grids[item.id]

        def margins(path: Path = path, questions: list[str] = questions) -> list[list[float]]:
            four = quarters(np.asarray(upright(path, PNG)), side, str(path))
            return [examiner(picture, questions).tolist() for picture in four]

        answers = journal.answer(path, questions, f"{name}/{item.id}", margins)
        said[item.id] = [[margin > 0 for margin in one] for one in answers]
    return said
