"""Does the picture show what was asked for? GenEval's six tasks on the embedded world, judged by a trained WorldNet.

The judge finds nouns, how many of each, in which colour, roughly where, and on which background. It is a net and errs:
run it on rendered scenes first and report that accuracy as its ceiling. What it cannot decide is left out and counted
under its reason, never guessed: nouns it was not trained on, two different things of one noun, and positions when its
net has no `where` map.

images, what was asked for -WorldNet-> Verdict per image -agreement-> accuracy per task with Wilson intervals.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ..checkpoint import resolve
from ..data.world.objects import COLOURS
from ..data.world.scenes import Truth
from ..data.world.world import World, WorldConfig
from ..nn.world_net import load_world_net
from ..texts import text_in, yaml_of
from .bootstrap import Interval, wilson
from .features import net_device
from .results import Metric, Result, measured

TASKS = ("single", "two objects", "counting", "colours", "position", "colour attribution")
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "above": (0, -1), "below": (0, 1)}
NEAR = 0.1
"""Centres closer than this share of the picture's side have no direction."""
ALONG = 0.5
"""How much of the unit offset must point the way asked for, as in GenEval."""
NOUN, COLOUR = "noun outside the judge's vocabulary", "colour outside the judge's vocabulary"
UNLIKE, POSITIONS = "one noun twice, but not alike", "this judge does not see positions"
REASONS = (NOUN, COLOUR, UNLIKE, POSITIONS)
"""Why a picture may not be judged; their positions are kept in shards, so new ones go to the end."""


class Verdict(NamedTuple):
    task: str
    correct: bool | None
    """None where this judge cannot decide; `reason` is why."""
    background: bool | None
    reason: str | None = None


class Answers(NamedTuple):
    """The net's answers for one image."""

    present: Float[Tensor, "nouns"]
    counts: list[int]
    colours: list[int]
    background: int
    centres: Float[Tensor, "nouns 2"] | None


class WorldJudge:
    """A WorldNet with the names of its answers.

    Args:
        net: `net(images) -> {"counts" [b nouns 5], "colours" [b nouns c], "background" [b k], "where"? [b nouns h*w]}`.
        nouns, backgrounds: names in the order of the logits.
        colours: names in the order of the logits, `None` where the logit means the object's own colour.
    """

    def __init__(
        self,
        net: Callable[[Tensor], dict[str, Tensor]],
        *,
        nouns: Sequence[str],
        colours: Sequence[str | None],
        backgrounds: Sequence[str],
    ) -> None:
        self.net = net
        self.nouns = {name: index for index, name in enumerate(nouns)}
        self.colours = {name: index for index, name in enumerate(colours)}
        self.backgrounds = {name: index for index, name in enumerate(backgrounds)}

    @torch.no_grad()
    def __call__(self, images: Float[Tensor, "b 3 h w"], asked: Sequence[Truth]) -> list[Verdict]:
        """Judge each image by what was asked for, as the world's `parse` returns it."""
        return [self.verdict(found, one) for found, one in zip(self.answers(images), asked, strict=True)]

    def answers(self, images: Float[Tensor, "b 3 h w"]) -> list[Answers]:
        """What the net finds in each image."""
        logits = {name: values.float().cpu() for name, values in self.net(images.to(net_device(self.net))).items()}
        for name, expected, position in (
            ("counts", len(self.nouns), 1),
            ("colours", len(self.colours), 2),
            ("background", len(self.backgrounds), 1),
        ):
            if logits[name].shape[position] != expected:
                raise ValueError(
                    f"this net's {name} logits are {tuple(logits[name].shape)}, but the judge has {expected} names; "
                    "were net and vocabulary made together?"
                )
        present = 1 - logits["counts"].softmax(-1)[..., 0]
        counts, colours = logits["counts"].argmax(-1).tolist(), logits["colours"].argmax(-1).tolist()
        backgrounds = logits["background"].argmax(-1).tolist()
        positions = centres(logits["where"]) if "where" in logits else [None] * len(images)
        return [Answers(*row) for row in zip(present, counts, colours, backgrounds, positions, strict=True)]

    def verdict(self, found: Answers, asked: Truth) -> Verdict:
        """Right means all that was asked for: presence, and where the caption says so count, colours and position."""
        task = task_of(asked)
        ground = self.backgrounds.get(asked.background)
        background = None if ground is None else found.background == ground
        if any(thing.noun not in self.nouns for thing in asked.objects):
            return Verdict(task, None, background, NOUN)
        if any(thing.colour not in self.colours for thing in asked.objects if thing.colour):
            return Verdict(task, None, background, COLOUR)
        if task != "counting" and len({thing.noun for thing in asked.objects}) < len(asked.objects):
            return Verdict(task, None, background, UNLIKE)
        if asked.relation and found.centres is None:
            return Verdict(task, None, background, POSITIONS)
        rows = [self.nouns[thing.noun] for thing in asked.objects]
        correct = all(found.present[row] > 0.5 for row in rows)
        correct &= all(
            found.colours[row] == self.colours[thing.colour] for row, thing in zip(rows, asked.objects) if thing.colour
        )
        if task == "counting":
            correct &= found.counts[rows[0]] == len(rows)
        if asked.relation and found.centres is not None:
            correct &= lies(asked.relation, found.centres[rows[0]], found.centres[rows[1]])
        return Verdict(task, correct, background)


def world_judge(name: str, device: torch.device | str = "cpu") -> WorldJudge:
    """The judge in a folder, with the names it was trained on: those of the world in its run.yaml."""
    path = resolve(name) / "run.yaml"
    settings = yaml_of(text_in(path, "config file"), str(path)) or {}
    if not isinstance(settings, dict):
        raise ValueError(f"{path} holds no settings; is it the run.yaml of a WorldNet?")
    world = World(WorldConfig.parse(settings.get("world", {}), source=f"{path}: world"))
    net = load_world_net(name).to(device)
    return WorldJudge(net, nouns=world.nouns, colours=(None, *COLOURS), backgrounds=world.backgrounds)


def task_of(asked: Truth) -> str:
    """Which of GenEval's tasks a caption belongs to."""
    if asked.relation:
        return "position"
    coloured = any(thing.colour for thing in asked.objects)
    if len(asked.objects) == 1:
        return "colours" if coloured else "single"
    if len({(thing.noun, thing.colour) for thing in asked.objects}) == 1:
        return "counting"
    return "colour attribution" if coloured else "two objects"


def centres(where: Float[Tensor, "b nouns hw"]) -> Float[Tensor, "b nouns 2"]:
    """Expected (x, y) of each noun in shares of the picture, from logits over a square grid."""
    side = math.isqrt(where.shape[-1])
    if side * side != where.shape[-1]:
        raise ValueError(f"the `where` map has {where.shape[-1]} cells, which is not a square grid")
    heat = where.softmax(-1).unflatten(-1, (side, side))
    ticks = (torch.arange(side) + 0.5) / side
    return torch.stack([(heat.sum(-2) * ticks).sum(-1), (heat.sum(-1) * ticks).sum(-1)], -1)


def lies(relation: str, first: Float[Tensor, "2"], second: Float[Tensor, "2"]) -> bool:
    """Whether `first` lies on the asked side of `second`."""
    direction, offset = DIRECTIONS[relation.split()[0]], first - second
    distance = offset.norm().item()
    return distance > NEAR and (offset @ torch.tensor(direction, dtype=offset.dtype)).item() / distance > ALONG


def agreement(verdicts: Sequence[Verdict]) -> Result:
    """Accuracy per task, their plain mean as GenEval's score, and the background beside it.

    The score's interval treats tasks as independent and adds up their Wilson half-widths in quadrature.
    """
    tasks: dict[str, Result] = {}
    for task in TASKS:
        judged = [verdict.correct for verdict in verdicts if verdict.task == task and verdict.correct is not None]
        if judged:
            tasks[task] = share(task, judged)
    grounds = [verdict.background for verdict in verdicts if verdict.background is not None]
    return {
        "score": mean_of_shares(list(tasks.values())) if tasks else None,
        "tasks": tasks,
        "background": share("background", grounds) if grounds else None,
        "not_judged": dict(Counter(verdict.reason for verdict in verdicts if verdict.reason)),
    }


def share(label: str, judged: Sequence[bool]) -> Result:
    """The share of right verdicts, with its Wilson interval."""
    right = sum(judged)
    return measured(Metric(label, "higher"), right / len(judged), wilson(right, len(judged)), n=len(judged))


def mean_of_shares(shares: Sequence[Result]) -> Result:
    """The mean of the tasks, as GenEval has it; the intervals of independent shares add in squares."""
    value = sum(one["value"] for one in shares) / len(shares)
    down = math.hypot(*(one["value"] - one["low"] for one in shares)) / len(shares)
    up = math.hypot(*(one["high"] - one["value"] for one in shares)) / len(shares)
    return measured(Metric("agreement", "higher"), value, Interval(value - down, value + up), tasks=len(shares))
