"""Where the objects of a scene go: every object gets a cell of the frame to itself and fills most of it.

truth -> cells by kind -> the box of each object, as large as fits, jittered within its cell.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .objects import picture
from .scenes import Box, Thing, Truth

MARGIN = 0.025
CELLS: dict[str, tuple[Box, ...]] = {
    "one": ((0.0, 0.0, 1.0, 1.0),),
    "beside": ((0.0, 0.1, 0.5, 0.9), (0.5, 0.1, 1.0, 0.9)),
    "stacked": ((0.1, 0.0, 0.9, 0.5), (0.1, 0.5, 0.9, 1.0)),
    "three": ((0.25, 0.0, 0.75, 0.5), (0.0, 0.5, 0.5, 1.0), (0.5, 0.5, 1.0, 1.0)),
    "four": ((0.0, 0.0, 0.5, 0.5), (0.5, 0.0, 1.0, 0.5), (0.0, 0.5, 0.5, 1.0), (0.5, 0.5, 1.0, 1.0)),
}
ALONE = 0.82  # largest share of the frame's side that an object alone takes
DRIFT = 0.25  # how far the background moves at full jitter, in frames
SHRINK = 0.14  # at full jitter an object is up to this much smaller than its cell allows


def place(truth: Truth, jitter: float, rng: np.random.Generator) -> Truth:
    """Return the truth with a box for every object and an offset into the background.

    Things of one noun share one size. `jitter` in [0, 1] scales all randomness; 0 is the canonical layout.
    """
    cells = list(_cells(truth))
    if truth.count == 2 and truth.relation is None and jitter > 0 and rng.random() < 0.5:
        cells.reverse()
    shrink = 1 - SHRINK * jitter * rng.random()
    things = tuple(_fit(thing, cell, shrink, jitter, rng) for thing, cell in zip(truth.objects, cells))
    x, y = DRIFT * jitter * rng.random(2)
    return replace(truth, objects=things, offset=(float(x), float(y)))


def _cells(truth: Truth) -> tuple[Box, ...]:
    match truth.count, truth.relation:
        case 1, _:
            return CELLS["one"]
        case 2, "above":
            return CELLS["stacked"]
        case 2, "below":
            return CELLS["stacked"][::-1]
        case 2, "right of":
            return CELLS["beside"][::-1]
        case 2, _:
            return CELLS["beside"]
        case 3, _:
            return CELLS["three"]
        case _:
            return CELLS["four"]


def _fit(thing: Thing, cell: Box, shrink: float, jitter: float, rng: np.random.Generator) -> Thing:
    height, width = picture(thing.noun, thing.colour).shape[:2]
    x0, y0, x1, y1 = cell[0] + MARGIN, cell[1] + MARGIN, cell[2] - MARGIN, cell[3] - MARGIN
    scale = shrink * min(min(ALONE, x1 - x0) / width, min(ALONE, y1 - y0) / height)
    w, h = width * scale, height * scale
    # Half the free space is enough to vary, and keeps what is alone near the middle.
    x = (x0 + x1 - w) / 2 + jitter * (rng.random() - 0.5) * (x1 - x0 - w) * 0.8
    y = (y0 + y1 - h) / 2 + jitter * (rng.random() - 0.5) * (y1 - y0 - h) * 0.8
    return thing._replace(box=(float(x), float(y), float(x + w), float(y + h)))
