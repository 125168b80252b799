"""Does the picture match its caption? CLIPScore: 100 times the cosine of their CLIP embeddings, never below zero.

Different CLIPs give different numbers on the same pictures, so the model is in the name. Per picture, so that intervals
can be drawn; torchmetrics clamps the mean instead, which differs only where a cosine is negative.

image embeddings [b d], text embeddings [b d] -cosine, clamp-> [b]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from .results import Metric


class TextImageNet(Protocol):
    """A net that puts pictures and captions into one space."""

    name: str

    def features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]: ...
    def texts(self, texts: Sequence[str]) -> Float[Tensor, "b d"]: ...


def clip_score(images: Float[Tensor, "b d"], texts: Float[Tensor, "b d"]) -> Float[Tensor, "b"]:
    """100 · max(0, cos) of each pair (Hessel et al., 2021, with weight 1 as papers on generation report it)."""
    if images.shape != texts.shape or images.ndim != 2:
        raise ValueError(
            f"each image goes with one text, got embeddings {tuple(images.shape)} and {tuple(texts.shape)}"
        )
    return 100 * F.cosine_similarity(images.double(), texts.double(), dim=-1).clamp(min=0)


def score(net: TextImageNet, images: Float[Tensor, "b 3 h w"], texts: Sequence[str]) -> Float[Tensor, "b"]:
    """CLIPScore of each picture with its caption."""
    return clip_score(net.features(images), net.texts(texts)).cpu()


def metric(net: TextImageNet) -> Metric:
    """How the number is called: `CLIPScore-clip-vit-large-patch14`, say."""
    return Metric(f"CLIPScore-{net.name}", "higher")
