"""Patch features of DINOv2, which inner features of a decoder are aligned with while it learns.

images [b 3 h w] in [-1, 1] -bicubic to 14 px a patch, ImageNet mean and std-> Dinov2Model -without [CLS]-> [b n c]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import Dinov2Model

from ..checkpoint import resolve
from .weights.models import PATTERNS, load_model

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class DINOv2Patches(nn.Module):
    """A frozen Dinov2Model; `side` x `side` patches whatever the size of the images."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: Dinov2Model, side: int) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        config: Any = model.config
        self.channels: int = config.hidden_size
        self.pixels: int = side * config.patch_size
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)

    @classmethod
    def load(cls, name: str | Path, side: int) -> Self:
        """From a folder or a Hub id.

        Raises:
            ValueError: there is no DINOv2 of that name.
        """
        return cls(load_model(Dinov2Model, resolve(name, PATTERNS)), side)

    @torch.no_grad()
    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n c"]:
        resized = F.interpolate(images.float(), 2 * [self.pixels], mode="bicubic", antialias=True, align_corners=False)
        output: Any = self.model(pixel_values=((resized + 1) / 2 - self.mean) / self.std)
        return output.last_hidden_state[:, 1:]
