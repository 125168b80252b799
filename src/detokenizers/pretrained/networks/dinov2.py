"""DINOv2 ViT-L/14 for FD-DINOv2 (Stein et al., 2023): the class token after the last norm, 1024 numbers.

Numbers in papers come from dgm-eval, which loads Meta's own code; transformers' port differs in one place. To fit 37x37
position embeddings onto 16x16 patches, Meta's code steps by 37/16.1 and transformers by 37/16. We resample them Meta's
way once, at loading; after that transformers has nothing left to resample.

images [b 3 h w] in [-1, 1] -uint8, PIL bicubic 224x224, ImageNet mean and std-> Dinov2Model -> class token [b 1024]
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import Dinov2Model

from ..weights.models import load_model, source_of
from ..weights.published import DINOV2
from .views import View

IMAGENET = View(224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), crop=None)
OFFSET = 0.1
"""What Meta's code adds to the number of patches before dividing: it shifts where position embeddings are read."""


class DINOv2(nn.Module):
    """A frozen Dinov2Model that reads 224 px whatever the size of the images."""

    name = "dinov2-vitl14"

    def __init__(self, model: Dinov2Model, view: View = IMAGENET) -> None:
        super().__init__()
        self.identity: str | None = None
        self.view = view
        table, patch = model.embeddings.position_embeddings, model.embeddings.patch_embeddings.patch_size[0]
        table.data = resampled(table.data, view.size // patch)
        self.model = model.eval().float().requires_grad_(False)

    @classmethod
    def load(cls, name: str | Path = DINOV2) -> Self:
        """From a folder, or the pinned commit of facebook/dinov2-large."""
        source = source_of(name)
        net = cls(load_model(Dinov2Model, source.folder))
        net.identity = source.identity
        return net

    @torch.no_grad()
    def features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c"]:
        """Class tokens in fp32, of images of any size in [-1, 1], rounded to 8 bits first."""
        seen = self.view(images).to(self.model.device)
        return self.model(pixel_values=seen).last_hidden_state[:, 0]


def resampled(table: Float[Tensor, "1 n c"], side: int) -> Float[Tensor, "1 m c"]:
    """Position embeddings for side x side patches, as Meta's `interpolate_pos_encoding` makes them; [CLS] stays."""
    cls, patches = table[:, :1], table[:, 1:]
    old = round(patches.shape[1] ** 0.5)
    if old == side:
        return table
    grid = patches.unflatten(1, (old, old)).permute(0, 3, 1, 2)
    step = (side + OFFSET) / old
    grid = F.interpolate(grid, scale_factor=(step, step), mode="bicubic")
    return torch.cat([cls, grid.flatten(2).transpose(1, 2)], 1)
