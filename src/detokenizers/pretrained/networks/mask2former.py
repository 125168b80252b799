"""GenEval's detector: Mask2Former Swin-S on COCO instances, by transformers, with mmdet's pre- and post-processing.

transformers' own post-processing labels a query once, thresholds masks at 384 px and lets them overwrite each other; a
judge of counts cannot. So this is mmdet's: every (query, class) pair is a candidate, the best hundred stay, a mask is
the logits' bilinear enlargement above zero. The weights are Meta's, not the official judge's of mmdet: same
architecture, another training run, hence the tag `geneval-hf`. Always fp32 without TF32, which changed scores on A100s.

uint8 [h w 3] -short side 800, PIL bilinear, normalise, pad to /32-> logits -instances-> scores, classes, boxes, masks
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from torch import Tensor, nn
from transformers import Mask2FormerForUniversalSegmentation

from ..weights.models import load_model, source_of

OFFICIAL = "facebook/mask2former-swin-small-coco-instance"
SHORT, LONG, DIVISOR = 800, 1333, 32
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
TOP = 100
"""Candidates an image keeps."""


class Instances(NamedTuple):
    """What was found in one picture, in its own pixels, highest score first."""

    scores: Float[Tensor, "k"]
    classes: Int[Tensor, "k"]
    """COCO's contiguous 0 to 79."""
    boxes: Float[Tensor, "k 4"]
    """(x0, y0, x1, y1), the right and lower borders just outside; all zero for an empty mask."""
    masks: Bool[Tensor, "k h w"]


class Mask2Former(nn.Module):
    """The detector; `identity` names it and the sha256 of its weights."""

    def __init__(self, model: Mask2FormerForUniversalSegmentation, identity: str = "") -> None:
        super().__init__()
        if (number := model.config.num_labels) != 80:
            raise ValueError(f"this Mask2Former knows {number} classes; GenEval needs COCO's 80 things ({OFFICIAL})")
        self.model, self.identity = model.float().eval().requires_grad_(False), identity

    @classmethod
    def load(cls, name: str | Path = OFFICIAL, *, device: str | torch.device = "cpu") -> Self:
        """From a folder or a Hub id.

        Raises:
            ValueError: there is nothing, it is another kind of model, or weights are missing.
        """
        source = source_of(name)
        return cls(load_model(Mask2FormerForUniversalSegmentation, source.folder), source.identity).to(device)

    @torch.no_grad()
    def forward(self, picture: UInt8[np.ndarray, "h w 3"]) -> Instances:
        """Find instances in one picture; pictures go one by one, so that company changes nothing."""
        pixels, inner = prepared(picture)
        with full_precision():
            out: Any = self.model(pixel_values=pixels[None].to(self.model.device))
            height, width = picture.shape[:2]
            padded = (pixels.shape[-2], pixels.shape[-1])
            return instances(
                out.class_queries_logits[0],
                out.masks_queries_logits[0],
                padded=padded,
                inner=inner,
                size=(height, width),
            )


def prepared(picture: UInt8[np.ndarray, "h w 3"]) -> tuple[Float[Tensor, "3 hp wp"], tuple[int, int]]:
    """mmdet's test pipeline: what the network reads, and the height and width of it that is picture, not padding."""
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ValueError(f"a picture is uint8 [h w 3], got {picture.dtype} {picture.shape}")
    height, width = picture.shape[:2]
    scale = min(SHORT / min(height, width), LONG / max(height, width))
    inner = int(height * scale + 0.5), int(width * scale + 0.5)
    resized = Image.fromarray(picture).resize((inner[1], inner[0]), Image.Resampling.BILINEAR)
    normalised = (np.asarray(resized, np.float32) - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    pixels = torch.from_numpy(normalised).permute(2, 0, 1)
    return F.pad(pixels, (0, -inner[1] % DIVISOR, 0, -inner[0] % DIVISOR)), inner


def instances(
    class_logits: Float[Tensor, "q classes"],
    mask_logits: Float[Tensor, "q hm wm"],
    *,
    padded: tuple[int, int],
    inner: tuple[int, int],
    size: tuple[int, int],
    top: int = TOP,
) -> Instances:
    """mmdet's instance post-processing (MaskFormerFusionHead), for one picture.

    Args:
        class_logits: the last class is "nothing".
        padded, inner, size: height and width of what the network read, of the picture in it, and of the original.
    """
    queries, classes = class_logits.shape[0], class_logits.shape[1] - 1
    likely, order = class_logits.softmax(-1)[:, :-1].flatten().topk(min(top, queries * classes))
    # Enlarged in two steps, as mmdet does: to the padded input, whose padding is cut off, and from there.
    masks = F.interpolate(mask_logits[:, None], padded, mode="bilinear", align_corners=False)
    masks = masks[..., : inner[0], : inner[1]]
    if inner != size:
        masks = F.interpolate(masks, size, mode="bilinear", align_corners=False)
    certain, inside = (part[:, 0] for part in (masks.sigmoid(), masks > 0))
    quality = (certain * inside).sum((1, 2)) / (inside.sum((1, 2)) + 1e-6)
    boxes = torch.stack([box_of(one) for one in inside])
    query = order // classes
    scores, best = (likely * quality[query]).sort(descending=True, stable=True)
    query, order = query[best], order[best]
    return Instances(scores.cpu(), (order % classes).cpu(), boxes[query].cpu(), inside[query].cpu())


def box_of(mask: Bool[Tensor, "h w"]) -> Float[Tensor, "4"]:
    """The smallest box around a mask, its far borders one pixel outside."""
    columns, rows = mask.any(0).nonzero()[:, 0], mask.any(1).nonzero()[:, 0]
    if not len(columns):
        return torch.zeros(4, device=mask.device)
    return torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).float()


@contextmanager
def full_precision() -> Iterator[None]:
    """No TF32 in here: its ten bits change what is detected."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
