"""What was found in a picture, and how two found things lie to each other.

detections -kept: threshold, at most 16 a class, surest first-> {class: [Detection]} -relations-> {"left of", ...}
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from .prompts import CLASSES

Box = tuple[float, float, float, float]
CONFIDENCE = 0.3
COUNTING_CONFIDENCE = 0.9
"""Counting asks the detector to be sure, so that ghosts do not count."""
MAX_OBJECTS = 16
NMS = 1.0
"""The official overlap limit: 1 keeps every overlapping box."""
POSITION = 0.1
"""How much of both objects' sizes is taken off their distance before it has a direction."""


class Detection(NamedTuple):
    """One found object: COCO class 0 to 79, score in [0, 1], box (x0, y0, x1, y1) and mask in the picture's pixels."""

    kind: int
    score: float
    box: Box
    mask: Bool[np.ndarray, "h w"] | None = None


Objects = dict[str, list[Detection]]
"""Found objects by GenEval's class name, surest first."""


def kept(
    detections: Iterable[Detection],
    *,
    counting: bool = False,
    nms: float = NMS,
    max_objects: int = MAX_OBJECTS,
) -> Objects:
    """Sort out what counts as found, class by class; of equal scores the later detection comes first, as officially."""
    # Official scores are fp32, and so is the threshold they are compared with: exactly float32(.3) is not above it.
    threshold = np.float32(COUNTING_CONFIDENCE if counting else CONFIDENCE)
    found: Objects = {}
    for one in sorted(reversed(list(detections)), key=lambda one: -one.score):
        if not 0 <= one.kind < len(CLASSES):
            raise ValueError(f"the detector found class {one.kind}; GenEval has COCO's 0 to {len(CLASSES) - 1}")
        if np.float32(one.score) > threshold:
            found.setdefault(CLASSES[one.kind], []).append(one)
    return {name: suppressed(objects[:max_objects], nms) for name, objects in found.items()}


def suppressed(objects: list[Detection], limit: float) -> list[Detection]:
    """Drop what overlaps a surer object by `limit` or more; at 1 nothing is dropped, as officially."""
    if limit == 1:
        return objects
    rest: list[Detection] = []
    for one in objects:
        if all(overlap(surer.box, one.box) < limit for surer in rest):
            rest.append(one)
    return rest


def overlap(a: Box, b: Box) -> float:
    """Intersection over union; borders are pixels that belong to the box, as in the official script."""

    def area(x0: float, y0: float, x1: float, y1: float) -> float:
        return max(x1 - x0 + 1, 0) * max(y1 - y0 + 1, 0)

    shared = area(max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))
    union = area(*a) + area(*b) - shared
    return shared / union if union else 0.0


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
