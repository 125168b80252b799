"""The convolutions between a VAE's latents and the codes.

latents [b c h w] -space to depth, 3x3, residual blocks, 1x1-> vectors, one per token
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from ..config import Config


class AdapterConfig(Config):
    """The convolutions between latents and codes."""

    # PAPER GAP (docs/madit.md#adapter): "architecturally similar to X-Omni", whose blocks follow the codes.
    width: int = Field(default=512, ge=1)
    blocks: int = Field(default=2, ge=0)
    groups: int = Field(default=32, ge=1)
    """Of every GroupNorm; must divide the width."""

    def build(self, patch_dim: int, patch: int, stride: int, dim: int) -> nn.Sequential:
        """Latents [b c h w] to vectors [b dim h/(patch stride) w/(patch stride)]."""
        return nn.Sequential(
            nn.PixelUnshuffle(patch * stride),
            nn.Conv2d(patch_dim * stride**2, self.width, 3, padding=1),
            *(ResidualBlock(self.width, self.groups) for _ in range(self.blocks)),
            nn.Conv2d(self.width, dim, 1),
        )


class ResidualBlock(nn.Module):
    """x + (norm, GELU, 3x3) twice."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(groups, width) for _ in range(2))
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        y = x
        for norm, conv in zip(self.norms, self.convs):
            y = conv(F.gelu(norm(y)))
        return x + y
