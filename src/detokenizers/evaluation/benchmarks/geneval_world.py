"""GenEval's six tasks on the embedded world, so that prompt agreement is a number on a laptop too.

The judge is a trained WorldNet and errs, so two more rows come from it in the same run: rendered scenes of the very
captions (its ceiling), and scenes of other captions of the same task (what it would accept of the wrong thing).

manifest's captions, DECODER/TASK/0000.png -WorldJudge-> verdicts -> the six tasks under GenEval's names
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor, cat
from tqdm import tqdm

from ...data.canonical import batches, header
from ...data.images import ImageFile
from ...data.world.layout import place
from ...data.world.scenes import Truth, caption
from ...data.world.world import World, WorldConfig
from ...pixels import to_tensor
from ...seeds import item_seed
from ..evaluation_settings import BenchmarkConfig
from ..prompt_scores import compared
from ..results import Result
from ..sides import asked_in, files_of
from ..world_judge import Verdict, WorldJudge, world_judge
from .geneval import difference, score

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


def evaluated(config: BenchmarkConfig, folders: Mapping[str, Path], out: Path) -> Result:
    """Agreement by task of every decoder, and of the judge with the truth."""
    asked = captions_of(config.drawn)
    name, seed = config.judge or config.net, config.seed
    judge = world_judge(name)
    files = {label: files_of(folder, list(asked)) for label, folder in folders.items()}
    verdicts = {label: judged(judge, pictures_of(some), asked, label) for label, some in files.items()}
    verdicts[CEILING] = judged(judge, scenes_of(asked, asked, seed), asked, "ceiling")
    verdicts[OTHERS] = judged(judge, scenes_of(asked, exchanged(asked), seed), asked, "other captions")
    tasks = {label: by_task(some, asked) for label, some in verdicts.items()}
    scored, gap = partial(score, seed=seed), partial(difference, seed=seed)
    numbers = compared({label: tasks[label] for label in files}, scored, gap)
    numbers["decoders"] |= {label: scored(tasks[label]) for label in (CEILING, OTHERS)}
    unknown = Counter(one.reason for some in verdicts.values() for one in some.values() if one.reason)
    return {
        "tag": TAG,
        "judge": name,
        "n": {label: len(some) for label, some in files.items()},
        "prompts": len({caption(truth) for truth in asked.values()}),
        "not_judged": dict(unknown),
        **numbers,
    }


def captions_of(drawn: Sequence[Path]) -> dict[str, Truth]:
    """What the pictures were asked to show.

    Raises:
        ValueError: the folder was not made by --bench world.
    """
    if len(drawn) != 1:
        raise ValueError("--bench world scores one folder that detok generate --bench world left")
    asked = asked_in(drawn[0])
    if not asked or not all(id.split("/")[0] in TASKS.values() for id in asked):
        raise ValueError(f"{drawn[0]} was not made by detok generate --bench world: its manifest has other items")
    return asked


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
    """What a caption asks for beside the background, in any order."""
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
