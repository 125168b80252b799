"""GenEval's folders under GenEval's rules, judged by Mask2Former and CLIP.

DECODER/00000/{metadata.jsonl, samples/0000.png} -prompts_in-> Ask, pictures -detector, colours-> verdicts -> score
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from ...cli.verbs import Evaluate
from ...data.canonical import PNG
from ...data.images import upright
from ...device import device_of
from ..results import Result
from .geneval.colours import ColourJudge
from .geneval.objects import Detection, kept
from .geneval.prompts import SAMPLES, Ask, ask, read, require_tasks
from .geneval.score import TAG, difference, score
from .geneval.task import judge
from .journal import Journal

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


def evaluated(request: Evaluate, folders: Mapping[str, Path], out: Path) -> Result:
    """GenEval's numbers of every decoder."""
    official = read(request.bench_file, partial=request.partial) if request.bench_file else None
    drawn = {name: prompts_in(folder, official, partial=request.partial) for name, folder in folders.items()}
    judges = judges_of(request)
    journal = Journal(out, TAG, judges.identity)
    tasks = {name: judged(prompts, judges, journal, name) for name, prompts in drawn.items()}
    first = next(iter(tasks))
    return {
        "tag": TAG,
        "judge": judges.identity,
        "n": {name: sum(len(one.pictures) for one in prompts.values()) for name, prompts in drawn.items()},
        "prompts": len(drawn[first]),
        "judged": str(journal.path),
        "decoders": {name: score(one, seed=request.seed) for name, one in tasks.items()},
        "differences": {
            f"{name} - {first}": difference(one, tasks[first], seed=request.seed)
            for name, one in tasks.items()
            if name != first
        },
    }


def prompts_in(folder: Path, official: list[Ask] | None = None, *, partial: bool = False) -> dict[str, Drawn]:
    """The prompts of a folder in GenEval's layout, by folder name.

    Raises:
        ValueError: it is another layout, pictures are missing, or it was drawn from another file.
    """
    places = sorted(path for path in folder.iterdir() if path.is_dir() and path.name.isdigit())
    if not places:
        raise ValueError(f"{folder} is not in GenEval's layout: there is no folder 00000 with metadata.jsonl, samples/")
    found = {place.name: _prompt(place) for place in places}
    first = places[0].name
    for name, one in found.items():
        if len(one.pictures) != (expected := len(found[first].pictures) if partial else SAMPLES):
            raise ValueError(
                f"{folder / name}/samples holds {len(one.pictures)} pictures, not {expected}; every prompt has the same"
            )
    require_tasks([one.ask for one in found.values()], str(folder), partial=partial)
    if official is not None:
        expected_places = {f"{place:05d}": one.record for place, one in enumerate(official)}
        records = {f"{int(name):05d}": one.ask.record for name, one in found.items()}
        if odd := sorted(set(expected_places) ^ set(records)):
            raise ValueError(f"{folder} and --bench-file hold different prompts, e.g. {odd[0]} ({len(odd)} in all)")
        if odd := next((name for name, record in records.items() if record != expected_places[name]), None):
            raise ValueError(f"{folder / odd} was drawn from another prompt than line {int(odd) + 1} of --bench-file")
    return found


def _prompt(place: Path) -> Drawn:
    path = place / "metadata.jsonl"
    if not path.is_file():
        raise ValueError(f"{path} is missing; it is the prompt's line of evaluation_metadata.jsonl")
    samples = place / "samples"
    pictures = sorted(path for path in samples.glob("*.png") if path.stem.isdigit()) if samples.is_dir() else []
    return Drawn(ask(path.read_text(encoding="utf-8").strip(), str(path)), pictures)


def judges_of(request: Evaluate) -> Judges:
    """Load both judges; neither is downloaded unless it is named."""
    from ...pretrained.networks.clip import CLIP
    from ...pretrained.networks.mask2former import OFFICIAL, Mask2Former
    from ...pretrained.weights.published import CLIP_OPENAI

    if request.judge is None or request.colour_judge is None:
        raise ValueError(
            f"GenEval needs a detector and a CLIP, by folder or Hub id: --judge {OFFICIAL} --colour-judge {CLIP_OPENAI}"
        )
    device = device_of(request.device)
    detector = Mask2Former.load(request.judge, device=device)
    clip = CLIP.load(request.colour_judge, crop="round").to(device)  # open_clip's crop, as in the official script

    def detect(picture: Any) -> list[Detection]:
        found = detector(picture)
        rows = zip(found.classes.tolist(), found.scores.tolist(), found.boxes.tolist(), found.masks.numpy())
        return [Detection(kind, sure, tuple(box), mask) for kind, sure, box, mask in rows if sure > 0]

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
