"""GenEval (Ghosh et al., 2023) without mmdet: one picture against one prompt, as pure functions over detections.

A picture is right when it has all of `include` and nothing of `exclude`. Colours and positions are asked of the most
confident detections only, as many as are wanted. A clause that failed is no anchor for a later one. Clauses are
independent: the same detection may serve two.

detections -kept: threshold, at most 16 a class, most confident first-> {class: [Detection]}
Ask, objects by class, colour classifier -judge: counts, colours, relations-> Verdict(correct, why not)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from .geneval_prompts import CLASSES, Ask, Wanted

Box = tuple[float, float, float, float]
CONFIDENCE = 0.3
COUNTING_CONFIDENCE = 0.9
"""Counting asks for confident detections, so that ghosts do not count."""
MAX_OBJECTS = 16
"""Of a class. Overlapping boxes are all kept: the official limit of overlap is 1."""
POSITION = 0.1
"""How much of both objects' sizes is taken off their distance before it has a direction."""


class Detection(NamedTuple):
    """One found object: COCO class 0 to 79, score in [0, 1], box (x0, y0, x1, y1) and mask in the picture's pixels."""

    kind: int
    score: float
    box: Box
    mask: Bool[np.ndarray, "h w"] | None = None


Objects = dict[str, list[Detection]]
"""Found objects by GenEval's class name, most confident first."""
Colours = Callable[[Sequence[Detection], str], Sequence[str]]
"""Found objects and their class name -> the colour of each, one of COLOURS."""


def kept(detections: Iterable[Detection], *, counting: bool = False) -> Objects:
    """Sort out what counts as found, class by class; of equal scores the later detection comes first, as officially."""
    # Official scores are fp32, and so is the threshold they are compared with: exactly float32(.3) is not above it.
    threshold = np.float32(COUNTING_CONFIDENCE if counting else CONFIDENCE)
    found: Objects = {}
    for one in sorted(reversed(list(detections)), key=lambda one: -one.score):
        if not 0 <= one.kind < len(CLASSES):
            raise ValueError(f"the detector found class {one.kind}; GenEval has COCO's 0 to {len(CLASSES) - 1}")
        if np.float32(one.score) > threshold:
            found.setdefault(CLASSES[one.kind], []).append(one)
    return {name: objects[:MAX_OBJECTS] for name, objects in found.items()}


def relations(first: Box, second: Box) -> set[str]:
    """On which sides of `second` the object `first` lies; none where they overlap too much, two on a diagonal.

    The centres' offset is shortened by a tenth of both sizes along each axis; a side counts when it still holds more
    than half of the whole offset.
    """
    offset = [(first[i] + first[i + 2] - second[i] - second[i + 2]) / 2 for i in (0, 1)]
    sizes = [abs(first[i + 2] - first[i]) + abs(second[i + 2] - second[i]) for i in (0, 1)]
    rest = [math.copysign(max(abs(o) - POSITION * size, 0.0), o) for o, size in zip(offset, sizes)]
    if all(abs(value) < 1e-3 for value in rest):
        return set()
    dx, dy = (value / math.hypot(*offset) for value in rest)
    sides = {"left of": dx < -0.5, "right of": dx > 0.5, "above": dy < -0.5, "below": dy > 0.5}
    return {side for side, holds in sides.items() if holds}


class Verdict(NamedTuple):
    correct: bool
    reasons: tuple[str, ...] = ()
    """Why it is wrong, clause by clause."""


def judge(ask: Ask, objects: Objects, colours: Colours) -> Verdict:
    """Judge a picture. `colours` is called only where a colour is asked for and enough objects were found."""
    reasons: list[str] = []
    groups: list[list[Detection] | None] = []
    for wanted in ask.include:
        found = objects.get(wanted.name, [])[: wanted.number]
        reason = _wrong(wanted, found, groups, colours)
        groups.append(None if reason else found)
        reasons += [reason] if reason else []
    for wanted in ask.exclude:
        if (number := len(objects.get(wanted.name, []))) >= wanted.number:
            reasons.append(f"expected {wanted.name} < {wanted.number}, found {number}")
    return Verdict(not reasons, tuple(reasons))


def _wrong(
    wanted: Wanted, found: list[Detection], groups: Sequence[list[Detection] | None], colours: Colours
) -> str | None:
    """What is wrong with one clause, if anything."""
    if len(found) < wanted.number:
        return f"expected {wanted.name} >= {wanted.number}, found {len(found)}"
    if wanted.colour:
        named = list(colours(found, wanted.name))
        if named.count(wanted.colour) < wanted.number:
            return f"expected {wanted.colour} {wanted.name} >= {wanted.number}, found {', '.join(named)}"
    if wanted.relation:
        targets = groups[wanted.anchor]
        if targets is None:
            return f"no target for {wanted.name} to be {wanted.relation}"
        for one in found:
            for target in targets:
                if wanted.relation not in (sides := relations(one.box, target.box)):
                    where = " and ".join(sorted(sides)) or "on no clear side of"
                    return f"expected {wanted.name} {wanted.relation} its target, found {where} it"
    return None
