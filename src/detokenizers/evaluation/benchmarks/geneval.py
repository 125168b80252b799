"""GenEval's folders under GenEval's rules, judged by Mask2Former and CLIP: six accuracies and their mean.

The official judge is mmdet's Mask2Former; ours is Meta's (`pretrained/networks/mask2former.py`), so scores carry the
tag `geneval-hf`.

DECODER/00000/{metadata.jsonl, samples/0000.png} -prompts_in-> Ask, pictures -detector, colours-> verdicts
{task: {prompt: [right?]}} -score-> {"metrics": {"score", task..., "images_correct", "prompts_correct"}}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from ...data.canonical import PNG
from ...data.images import upright
from ...device import device_of
from ...texts import text_in
from ..evaluation_settings import BenchmarkConfig
from ..prompt_scores import Answers, compared, mean_of_answers, mean_of_tasks, paired
from ..results import Metric, Result
from .geneval_colours import ColourJudge
from .geneval_prompts import SAMPLES, TASKS, Ask, ask, read_asks, require_tasks
from .geneval_rules import Detection, judge, kept
from .journal import Journal

TAG = "geneval-hf"
"""This judge's name; a number by mmdet's judge is called `geneval`."""
Tasks = dict[str, dict[str, list[float]]]


class Drawn(NamedTuple):
    """One prompt's folder."""

    ask: Ask
    pictures: list[Path]


class Judges(NamedTuple):
    """Detector and colour classifier, as the rules need them."""

    detect: Callable[[Any], list[Detection]]
    colours: ColourJudge
    identity: str


def evaluated(config: BenchmarkConfig, folders: Mapping[str, Path], out: Path) -> Result:
    """GenEval's numbers of every decoder."""
    official = read_asks(config.bench_file, partial=config.partial) if config.bench_file else None
    drawn = {name: prompts_in(folder, official, partial=config.partial) for name, folder in folders.items()}
    judges = judges_of(config)
    journal = Journal(out, TAG, judges.identity)
    tasks = {name: judged(prompts, judges, journal, name) for name, prompts in drawn.items()}
    return {
        "tag": TAG,
        "judge": judges.identity,
        "n": {name: sum(len(one.pictures) for one in prompts.values()) for name, prompts in drawn.items()},
        "prompts": len(next(iter(drawn.values()))),
        "judged": str(journal.path),
        **compared(tasks, partial(score, seed=config.seed), partial(difference, seed=config.seed)),
    }


def prompts_in(folder: Path, official: list[Ask] | None = None, *, partial: bool = False) -> dict[str, Drawn]:
    """The prompts of a folder in GenEval's layout, by folder name.

    Raises:
        ValueError: it is another layout, pictures are missing, or it was drawn from another file.
    """
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and path.name.isdigit())
    if not inside:
        raise ValueError(f"{folder} is not in GenEval's layout: there is no folder 00000 with metadata.jsonl, samples/")
    found = {path.name: _prompt(path) for path in inside}
    first = inside[0].name
    for name, one in found.items():
        if len(one.pictures) != (expected := len(found[first].pictures) if partial else SAMPLES):
            raise ValueError(
                f"{folder / name}/samples holds {len(one.pictures)} pictures, not {expected}; every prompt has the same"
            )
    require_tasks([one.ask for one in found.values()], str(folder), partial=partial)
    if official is not None:
        wanted = {f"{row:05d}": one.record for row, one in enumerate(official)}
        records = {f"{int(name):05d}": one.ask.record for name, one in found.items()}
        if odd := sorted(set(wanted) ^ set(records)):
            raise ValueError(f"{folder} and --bench-file hold different prompts, e.g. {odd[0]} ({len(odd)} in all)")
        if odd := next((name for name, record in records.items() if record != wanted[name]), None):
            raise ValueError(f"{folder / odd} was drawn from another prompt than line {int(odd) + 1} of --bench-file")
    return found


def _prompt(folder: Path) -> Drawn:
    path = folder / "metadata.jsonl"
    if not path.is_file():
        raise ValueError(f"{path} is missing; it is the prompt's line of evaluation_metadata.jsonl")
    samples = folder / "samples"
    pictures = sorted(path for path in samples.glob("*.png") if path.stem.isdigit()) if samples.is_dir() else []
    return Drawn(ask(text_in(path).strip(), str(path)), pictures)


def judges_of(config: BenchmarkConfig) -> Judges:
    """Load both judges; neither is downloaded unless it is named."""
    from ...pretrained.networks.clip import CLIP
    from ...pretrained.networks.mask2former import OFFICIAL, Mask2Former
    from ...pretrained.weights.published import CLIP_OPENAI

    if config.judge is None or config.colour_judge is None:
        raise ValueError(
            f"GenEval needs a detector and a CLIP, by folder or Hub id: --judge {OFFICIAL} --colour-judge {CLIP_OPENAI}"
        )
    device = device_of(config.device)
    detector = Mask2Former.load(config.judge, device=device)
    clip = CLIP.load(config.colour_judge, crop="round").to(device)  # open_clip's crop, as in the official script

    def detect(picture: Any) -> list[Detection]:
        found = detector(picture)
        rows = zip(found.classes.tolist(), found.scores.tolist(), found.boxes.tolist(), found.masks.numpy())
        return [Detection(kind, score, tuple(box), mask) for kind, score, box, mask in rows if score > 0]

    return Judges(detect, ColourJudge(clip), f"{detector.identity}, {clip.identity} by {clip.view}")


def judged(prompts: Mapping[str, Drawn], judges: Judges, journal: Journal, name: str) -> Tasks:
    """Right or wrong for each picture, by task and prompt."""
    tasks: Tasks = {}
    for id, (asked, pictures) in tqdm(prompts.items(), desc=f"judging {name}", disable=None):
        answers = tasks.setdefault(asked.tag, {}).setdefault(id, [])
        for path in pictures:
            judging = partial(verdict, path, asked, judges)
            answers.append(float(journal.answer(path, asked.record, f"{name}/{id}/{path.stem}", judging)["correct"]))
    return tasks


def verdict(path: Path, asked: Ask, judges: Judges) -> dict[str, Any]:
    """Right or wrong, why, and all that was found."""
    picture = np.asarray(upright(path, PNG))
    objects = kept(judges.detect(picture), counting=asked.tag == "counting")
    correct, reasons = judge(asked, objects, lambda some, name: judges.colours(picture, some, name))
    boxes = {name: [[round(one.score, 4), *one.box] for one in some] for name, some in objects.items()}
    return {"correct": correct, "reasons": list(reasons), "found": boxes}


def score(tasks: Mapping[str, Answers], *, seed: int = 0) -> Result:
    """The overall score, the tasks in the paper's order, and the shares of right pictures and of prompts with any.

    Args:
        tasks: for every task and prompt id, whether each picture is right.
    """
    everything = {f"{tag}/{name}": answers for tag, names in tasks.items() for name, answers in names.items()}
    best = {name: [max(answers)] for name, answers in everything.items()}
    return {
        "metrics": {
            **by_task(tasks, seed=seed),
            "images_correct": mean_of_answers(Metric("images right", "higher"), everything, seed=seed),
            "prompts_correct": mean_of_answers(Metric("prompts with any right", "higher"), best, seed=seed),
        }
    }


def difference(ours: Mapping[str, Answers], baseline: Mapping[str, Answers], *, seed: int = 0) -> Result:
    """The same minus the baseline's, on the same prompts and samples, with intervals of the difference."""
    return {"metrics": by_task(paired(ours, baseline), seed=seed)}


def by_task(tasks: Mapping[str, Answers], *, seed: int = 0) -> dict[str, Result]:
    """The mean of the tasks, and each."""
    ordered = {tag: tasks[tag] for tag in TASKS if tag in tasks}
    overall = mean_of_tasks(Metric("overall", "higher"), ordered, seed=seed)
    return {"score": overall} | {
        tag: mean_of_answers(Metric(tag, "higher"), answers, seed=seed) for tag, answers in ordered.items()
    }
