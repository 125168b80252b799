"""The colour of an object: zero-shot CLIP on the object alone: cut out by its mask, on grey, cropped to its box.

Three templates name the colour; their mean direction stands for it, and the nearest of ten colours wins.

picture, detections -crop on #999-> CLIP features ; "a photo of a red apple", ... -> CLIP texts ; nearest -> "red"
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from ...pixels import to_tensor
from .geneval_prompts import COLOURS
from .geneval_rules import Detection

GREY = 0x99
TEMPLATES = ("a photo of a {colour} {name}", "a photo of a {colour}-colored {name}", "a photo of a {colour} object")


class ImageText(Protocol):
    """CLIP, as far as it is needed here."""

    def features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]: ...
    def texts(self, texts: Sequence[str]) -> Float[Tensor, "b d"]: ...


class ColourJudge:
    """A zero-shot classifier of colours, one per class name, made when the name first comes up."""

    def __init__(self, clip: ImageText) -> None:
        self.clip = clip
        self._directions: dict[str, Float[Tensor, "10 d"]] = {}

    def __call__(self, picture: UInt8[np.ndarray, "h w 3"], objects: Sequence[Detection], name: str) -> list[str]:
        """The colour of each object."""
        features = [self.clip.features(crop(picture, one)) for one in objects]
        similar = F.normalize(torch.cat(features), dim=-1) @ self.directions(name).T
        return [COLOURS[index] for index in similar.argmax(-1).tolist()]

    def directions(self, name: str) -> Float[Tensor, "10 d"]:
        """One unit vector a colour: the mean of its templates' unit vectors."""
        if name not in self._directions:
            texts = [template.format(colour=colour, name=name) for colour in COLOURS for template in TEMPLATES]
            rows = F.normalize(self.clip.texts(texts), dim=-1)
            means = rows.unflatten(0, (len(COLOURS), len(TEMPLATES))).mean(1)
            self._directions[name] = F.normalize(means, dim=-1)
        return self._directions[name]


def crop(picture: UInt8[np.ndarray, "h w 3"], one: Detection) -> Float[Tensor, "1 3 hc wc"]:
    """The classifier's input, in [-1, 1]: the mask's pixels on #999, cut to the box."""
    if one.mask is not None:
        if one.mask.shape != picture.shape[:2]:
            raise ValueError(f"a mask of {one.mask.shape} does not lie on a picture of {picture.shape[:2]}")
        picture = np.where(one.mask[..., None], picture, np.uint8(GREY))
    x0, y0, x1, y1 = (round(side) for side in one.box)
    height, width = picture.shape[:2]
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise ValueError(f"the box {one.box} does not lie within a picture of {width}x{height} px")
    cut = np.ascontiguousarray(picture[y0:y1, x0:x1])
    return to_tensor(cut[None])
