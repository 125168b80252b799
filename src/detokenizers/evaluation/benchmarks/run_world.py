"""GenEval's six tasks on the embedded world, so that prompt agreement is a number on a laptop too.

The judge is a trained WorldNet and errs, so two more rows come from it in the same run: rendered scenes of the very
captions (its ceiling), and scenes of other captions of the same task (what it would accept of the wrong thing).

manifest's captions, DECODER/TASK/0000.png -WorldJudge-> verdicts -> the six tasks under GenEval's names
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor, cat
from tqdm import tqdm

from ...cli.verbs import Evaluate
from ...data.canonical import batches, header
from ...data.images import ImageFile, find
from ...data.world.layout import place
from ...data.world.scenes import Truth, caption
from ...data.world.world import World, WorldConfig
from ...pixels import to_tensor
from ...seeds import item_seed
from ..judging import asked_in, world_judge
from ..results import Result
from ..world_judge import Verdict, WorldJudge
from .geneval.score import difference, score

TAG = "geneval-world"
TASKS = {
    "single": "single_object",
    "two objects": "two_object",
    "counting": "counting",
    "colours": "colors",
    "position": "position",
    "colour attribution": "color_attr",
}
"""The judge's names of the tasks, and GenEval's."""
CEILING, OTHERS = "rendered scenes (the judge's ceiling)", "scenes of other captions (what it accepts wrongly)"
BATCH = 32
Tasks = dict[str, dict[str, list[float]]]


def evaluated(request: Evaluate, folders: Mapping[str, Path], out: Path) -> Result:
    """Agreement by task of every decoder, and of the judge with the truth."""
    if request.bench_file is not None:
        raise ValueError("--bench world reads the captions from the folder's manifest; leave --bench-file out")
    asked = captions_of(request)
    name = request.judge or request.net
    judge = world_judge(name)
    files = {label: files_in(folder, asked) for label, folder in folders.items()}
    verdicts = {label: judged(judge, pictures_of(some), asked, label) for label, some in files.items()}
    verdicts[CEILING] = judged(judge, scenes_of(asked, asked, request.seed), asked, "ceiling")
    verdicts[OTHERS] = judged(judge, scenes_of(asked, exchanged(asked), request.seed), asked, "other captions")
    tasks = {label: by_task(some, asked) for label, some in verdicts.items()}
    first = next(iter(files))
    unknown = Counter(one.reason for some in verdicts.values() for one in some.values() if one.reason)
    return {
        "tag": TAG,
        "judge": name,
        "n": {label: len(some) for label, some in files.items()},
        "prompts": len({caption(truth) for truth in asked.values()}),
        "not_judged": dict(unknown),
        "decoders": {label: score(one, seed=request.seed) for label, one in tasks.items()},
        "differences": {
            f"{label} - {first}": difference(tasks[label], tasks[first], seed=request.seed)
            for label in files
            if label != first
        },
    }


def captions_of(request: Evaluate) -> dict[str, Truth]:
    """What the pictures were asked to show.

    Raises:
        ValueError: the folder was not made by --bench world.
    """
    if len(request.drawn) != 1:
        raise ValueError("--bench world scores one folder that detok generate --bench world left")
    asked = asked_in(request.drawn[0])
    if not asked or not all(id.split("/")[0] in TASKS.values() for id in asked):
        raise ValueError(
            f"{request.drawn[0]} was not made by detok generate --bench world: its manifest says otherwise"
        )
    return asked


def files_in(folder: Path, asked: Mapping[str, Truth]) -> list[ImageFile]:
    """The pictures of a decoder, all of those that were asked for."""
    found = {file.id: file for file in find(folder)}
    if missing := sorted(set(asked) - set(found)):
        raise ValueError(f"{folder} lacks {len(missing)} of {len(asked)} pictures, e.g. {missing[0]}.png")
    return [found[id] for id in asked]


Pictures = Callable[[Sequence[str]], Float[Tensor, "b 3 s s"]]
"""Some ids to their pictures."""


def pictures_of(files: Sequence[ImageFile]) -> Pictures:
    """Pictures on disk, as large as the first."""
    paths = {file.id: file for file in files}
    first = header(files[0].path)
    side = min(first.width, first.height)
    return lambda ids: cat([one.images for one in batches([paths[id] for id in ids], side, len(ids))])


def scenes_of(asked: Mapping[str, Truth], shown: Mapping[str, Truth], seed: int) -> Pictures:
    """Rendered scenes, placed anew for every picture."""
    world = World(WorldConfig())

    def drawn(id: str) -> np.ndarray:
        rng = np.random.default_rng(item_seed(seed, id))
        return world.render(place(shown[id], world.config.jitter, rng))

    return lambda ids: to_tensor(np.stack([drawn(id) for id in ids]))


def exchanged(asked: Mapping[str, Truth]) -> dict[str, Truth]:
    """For every picture, the caption of the next one in its task that asks for something else."""
    shown: dict[str, Truth] = {}
    for tag in TASKS.values():
        ids = [id for id in asked if id.split("/")[0] == tag]
        for start, id in enumerate(ids):
            others = (asked[other] for other in ids[start:] + ids[:start])
            shown[id] = next((one for one in others if things(one) != things(asked[id])), asked[id])
    return shown


def things(truth: Truth) -> list[str]:
    """What a caption asks for beside the background, in whatever order it says it."""
    return [*sorted(f"{thing.colour} {thing.noun}" for thing in truth.objects), truth.relation or ""]


def judged(judge: WorldJudge, pictures: Pictures, asked: Mapping[str, Truth], label: str) -> dict[str, Verdict]:
    """The verdict on every picture."""
    ids, verdicts = list(asked), {}
    for start in tqdm(range(0, len(ids), BATCH), desc=f"judging {label}", disable=None):
        few = ids[start : start + BATCH]
        verdicts |= dict(zip(few, judge(pictures(few), [asked[id] for id in few])))
    return verdicts


def by_task(verdicts: Mapping[str, Verdict], asked: Mapping[str, Truth]) -> Tasks:
    """Right or wrong by task and caption; a verdict that could not be given is left out, and counted elsewhere."""
    tasks: Tasks = {}
    for id, one in verdicts.items():
        if one.correct is not None:
            captions = tasks.setdefault(TASKS[one.task], {})
            captions.setdefault(caption(asked[id]), []).append(float(one.correct))
    return tasks
