"""What the decoder is conditioned on, as a map: observed token features laid out on their grid, projected, resized,
mixed with their neighbours; the four uncertainty features ride along untouched (DCDD Eqs. 19-20).

observed [b n o] = [codes, u] -fc, resize, conv-> E' ; u -resize-> U ; [E', U] -> condition [b width+4 hc wc]
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from ..config import Config
from ..nn.channels_last import ExactGroupNorm
from ..nn.uncertainty import NUM_UNCERTAINTY
from ..protocols import Grid

ACTIVATIONS = {"silu": F.silu, "gelu": F.gelu, "relu": F.relu}


class OnLatents(Config):
    """One condition vector per latent; four of them reach each FLUX token, packed as latents are."""

    kind: Literal["latents"] = "latents"

    def size(self, h: int, w: int) -> tuple[int, int]:
        return h, w

    def channels_per_token(self, channels: int) -> int:
        return 4 * channels


class OnTokens(Config):
    """One condition vector per FLUX token; at full size that raster is the VLM's own, so nothing is resized."""

    kind: Literal["tokens"] = "tokens"

    def size(self, h: int, w: int) -> tuple[int, int]:
        return h // 2, w // 2

    def channels_per_token(self, channels: int) -> int:
        return channels


# PAPER GAP (docs/dcdd.md#condition-grid): N' "after interpolation" is 2304 on latents; FLUX adds to 576.
ConditionGrid = Annotated[OnLatents | OnTokens, Field(discriminator="kind")]


class CondConfig(Config):
    """Settings of the condition encoder."""

    # PAPER GAP (docs/dcdd.md#condition-encoder): "a convolution with normalisation and activation": which, how large?
    width: int = 64
    """Channels d_h of the projected codes."""
    kernel: int = 3
    norm: Literal["group", "none"] = "group"
    groups: int = 32
    """Groups of the GroupNorm; at most `width`. A single one normalises all channels together."""
    activation: Literal["silu", "gelu", "relu"] = "silu"
    grid: ConditionGrid = OnLatents()
    interpolation: Literal["bilinear", "nearest"] = "bilinear"
    """Bilinear blends neighbouring codes; nearest keeps each exact."""


class CondEncoder(nn.Module):
    """Observed features to the condition map (Eqs. 19-20).

    Args:
        num_features: columns of `observed`; the last four are uncertainty, the others code vectors.
        code_dim: d, the width of one code vector. Columns beyond the first d start with zero weight, so that an
            LCDM with more columns starts as the one without them.
    """

    def __init__(self, config: CondConfig, num_features: int, code_dim: int) -> None:
        super().__init__()
        columns = num_features - NUM_UNCERTAINTY
        groups = min(config.groups, config.width)
        if config.norm == "group" and config.width % groups:
            raise ValueError(f"groups={groups} does not divide width={config.width}; choose a divisor")
        self.config, self.num_features = config, num_features
        self.channels = config.width + NUM_UNCERTAINTY
        self.channels_per_token = config.grid.channels_per_token(self.channels)
        self.fc = _widened(nn.Linear(code_dim, config.width), columns - code_dim)
        self.conv = nn.Conv2d(config.width, config.width, config.kernel, padding=config.kernel // 2)
        self.norm = ExactGroupNorm(groups, config.width) if config.norm == "group" else nn.Identity()
        self.activation = ACTIVATIONS[config.activation]

    def forward(
        self, observed: Float[Tensor, "b n o"], grid: Grid, latents: tuple[int, int]
    ) -> Float[Tensor, "b k hc wc"]:
        """Lay observed features out over an image whose latents have the given height and width.

        Raises:
            ValueError: when the tokens do not fill the grid or have another number of features.
        """
        require_observed(observed, grid, self.num_features)
        size = self.config.grid.size(*latents)
        codes, uncertainty = observed.split([self.num_features - NUM_UNCERTAINTY, NUM_UNCERTAINTY], dim=-1)
        # fc before the resize: both are linear and commute, and there are fewer tokens than latents.
        embedded = self._resized(self.fc(codes), grid, size)
        embedded = self.activation(self.norm(self.conv(embedded)))
        return torch.cat([embedded, self._resized(uncertainty, grid, size)], dim=1)

    def _resized(self, tokens: Tensor, grid: Grid, size: tuple[int, int]) -> Tensor:
        plane = rearrange(tokens, "b (h w) c -> b c h w", h=grid.height, w=grid.width)
        if size == tuple(grid):
            return plane
        corners = False if self.config.interpolation == "bilinear" else None
        return F.interpolate(plane, size, mode=self.config.interpolation, align_corners=corners)


def require_observed(observed: Float[Tensor, "b n o"], grid: Grid, num_features: int) -> None:
    """Refuse tokens that do not fill the grid or have another number of features."""
    if observed.shape[1:] != (grid.size, num_features):
        raise ValueError(
            f"expected [b {grid.size} {num_features}] observed features for a {grid} grid, got "
            f"{list(observed.shape)}; were the tokens observed with this decoder's `observers`?"
        )


def _widened(layer: nn.Linear, more: int) -> nn.Linear:
    """The layer with `more` input columns of zero weight; its random draw is that of the narrow layer."""
    if not more:
        return layer
    wide = nn.Linear(layer.in_features + more, layer.out_features, device="meta").to_empty(device=layer.weight.device)
    with torch.no_grad():
        wide.weight.copy_(F.pad(layer.weight, (0, more)))
        wide.bias.copy_(layer.bias)
    return wide
