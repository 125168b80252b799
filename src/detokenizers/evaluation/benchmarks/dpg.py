"""DPG-Bench (Hu et al., 2024) without modelscope: does a picture answer the questions that its long prompt implies?

1,065 dense prompts come with some 13 yes/no questions each, in a tree: "is the dog brown?" only counts when there is a
dog. Each prompt is drawn four times into a 2x2 grid. The official judge is mPLUG-large; ours is a vision-language model
of transformers (`pretrained/networks/vqa.py`), so scores carry the tag `dpg-<model>` and do not compare with published
ones.

grids/ITEM.png -quarters-> four pictures -YesNo-> margins -> answers -score | official_score-> the score and categories
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from ...data.canonical import PNG
from ...data.images import upright
from ...device import device_of
from ..evaluation_settings import BenchmarkConfig, official_file
from ..prompt_scores import compared
from ..results import Result
from .dpg_questions import GRIDS, DPGItem, missing_parents, quarters, read_items
from .dpg_score import PictureAnswers, difference, official_score, score
from .journal import Journal

if TYPE_CHECKING:
    from ...pretrained.networks.vqa import YesNo


def evaluated(config: BenchmarkConfig, folders: Mapping[str, Path], out: Path) -> Result:
    """The DPG score of every decoder."""
    items = read_items(
        official_file("dpg", config.bench_file), partial=config.partial, official_quirks=config.official_quirks
    )
    grids = {name: grids_in(folder, items) for name, folder in folders.items()}
    for found in grids.values():  # before hours of judging
        for path in found.values():
            quarters(np.asarray(upright(path, PNG)), config.resolution, str(path))
    judge = judge_of(config)
    tag = f"dpg-{judge.name}{'-official-quirks' if config.official_quirks else ''}"
    journal = Journal(out, tag, judge.identity)
    answers = {name: answered(items, found, config.resolution, judge, journal, name) for name, found in grids.items()}
    seed, scored = config.seed, official_score if config.official_quirks else score
    numbers = compared(
        answers, lambda one: scored(items, one, seed=seed), lambda *pair: difference(items, *pair, seed=seed)
    )
    return {
        "tag": tag,
        "judge": judge.identity,
        "n": {name: 4 * len(found) for name, found in grids.items()},
        "prompts": len(items),
        "questions": sum(len(item.questions) for item in items),
        "missing_parents": missing_parents(items),
        "judged": str(journal.path),
        **numbers,
        **({"differences": {}} if config.official_quirks else {}),
    }


def grids_in(folder: Path, items: Sequence[DPGItem]) -> dict[str, Path]:
    """The grid of every item, in `folder` or in its `grids`.

    Raises:
        ValueError: grids are missing, or there are strange ones.
    """
    grids = folder / GRIDS if (folder / GRIDS).is_dir() else folder
    found = {path.stem: path for path in grids.glob("*.png") if not path.name.startswith(".")}
    wanted = {item.id for item in items}
    if missing := sorted(wanted - set(found)):
        raise ValueError(f"{grids} lacks {len(missing)} of {len(wanted)} grids, e.g. {missing[0]}.png")
    if strange := sorted(set(found) - wanted):
        raise ValueError(f"{grids} holds {len(strange)} grids that are no item of --bench-file, e.g. {strange[0]}.png")
    return {item.id: found[item.id] for item in items}


def judge_of(config: BenchmarkConfig) -> YesNo:
    """Load the judge; it is not downloaded unless it is named."""
    from ...pretrained.networks.vqa import USUAL, YesNo

    if config.judge is None:
        raise ValueError(f"DPG-Bench needs a vision-language model that answers, by folder or Hub id: --judge {USUAL}")
    return YesNo.load(config.judge, device=device_of(config.device))


def answered(
    items: Sequence[DPGItem], grids: Mapping[str, Path], side: int | None, judge: YesNo, journal: Journal, name: str
) -> dict[str, PictureAnswers]:
    """Yes or no to every question about each of an item's four pictures."""
    found: dict[str, PictureAnswers] = {}
    for item in tqdm(items, desc=f"judging {name}", disable=None):
        questions, path = [question.text for question in item.questions], grids[item.id]

        def margins(path: Path = path, questions: list[str] = questions) -> list[list[float]]:
            four = quarters(np.asarray(upright(path, PNG)), side, str(path))
            return [judge(picture, questions).tolist() for picture in four]

        answers = journal.answer(path, questions, f"{name}/{item.id}", margins)
        found[item.id] = [[margin > 0 for margin in one] for one in answers]
    return found
