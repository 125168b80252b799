"""A U-ViT that draws an image from a coarse condition map: a convolutional U-Net with transformer blocks at its lowest
resolution (Hoogeboom et al., arXiv 2301.11093; sizes and details of SSDD, arXiv 2510.04961, which VUGEN's decoder is).

The condition enters three times: upsampled beside the noisy image, as scale and shift of every residual block's first
norm, and of the transformer's first norms. The time enters as scale and shift of the second norms.

[noisy | upsampled condition] -stem-> down levels -> transformer -> up levels, with skips -> velocity
condition -context-> modulation, t -time-> modulation
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from ..config import Config
from ..protocols import Grid
from .embeddings import sinusoid
from .predictions import Predict, PredictVelocity
from .window_attention import WindowAttention


class UViTConfig(Config):
    """Every number of a U-ViT; `uvit_size` has those of the paper."""

    channels: int = 3
    """Of the space it draws in; 3 for pixels."""
    condition: int = 64
    """Channels of the condition map."""
    widths: tuple[int, ...] = (96, 192, 288, 288)
    """Channels per level; every level after the first halves the resolution."""
    blocks: int = Field(default=12, ge=1)
    """Transformer blocks at the lowest resolution."""
    heads: int = Field(default=4, ge=1)
    # PAPER GAP (docs/vugen.md#window): SSDD's text has a 17 x 17 window, its published code a table for 15 x 15.
    radius: int = Field(default=8, ge=0)
    """Rows and columns that attention reaches in each direction."""
    patch: int = Field(default=1, ge=1)
    """Side of the square of pixels that is one cell of the first level."""
    groups: int = Field(default=32, ge=1)
    """Of every GroupNorm; divides all widths."""
    predict: Predict = PredictVelocity()
    """What the last layer's output stands for."""


SIZES = {
    #     base   multipliers   blocks
    "S": (48, (1, 2, 3, 3), 8),
    "B": (64, (1, 2, 3, 3), 10),
    "M": (96, (1, 2, 3, 3), 12),
    "L": (96, (1, 2, 4, 4), 16),
    "XL": (128, (1, 2, 4, 4), 16),
    "H": (192, (1, 2, 4, 4), 16),
}


def uvit_size(name: str, condition: int) -> UViTConfig:
    """The published sizes S to H; M is the "48M" of VUGEN, counted in units of 2^20.

    Raises:
        ValueError: there is no such size.
    """
    if name not in SIZES:
        raise ValueError(f"there is no U-ViT of size {name!r}; there are {', '.join(SIZES)}")
    base, multipliers, blocks = SIZES[name]
    widths = tuple(-(-base * times // 32) * 32 for times in multipliers)
    return UViTConfig(condition=condition, widths=widths, blocks=blocks, heads=min(max(widths[-1] // 64, 4), 16))


class UViT(nn.Module):
    """A `VelocityNet` whose condition is a map `[b k hc wc]`, of any size up to the image's.

    Raises:
        ValueError: widths that groups or heads do not divide.
    """

    def __init__(self, config: UViTConfig) -> None:
        super().__init__()
        if odd := [width for width in config.widths if width % config.groups]:
            raise ValueError(f"groups={config.groups} does not divide the widths {odd}; choose a common divisor")
        self.config = config
        widths, first, pixels = config.widths, config.widths[0], config.channels * config.patch**2
        self.context = nn.Sequential(
            nn.Conv2d(config.condition, first, 3, padding=1), nn.SiLU(), nn.Conv2d(first, first, 3, padding=1)
        )
        self.time = nn.Sequential(nn.Linear(first, 4 * first), nn.SiLU(), nn.Linear(4 * first, 4 * first))
        self.stem = Stem(pixels, config.condition, first)
        self.down, skips = nn.ModuleList(), [first]
        for before, width in zip((first, *widths), widths):
            level: list[nn.Module] = [Residual(i, width, first, config.groups) for i in (before, width)]
            skips += [width, width]
            if len(self.down) < len(widths) - 1:
                level.append(Downsample(width))
                skips.append(width)
            self.down.append(nn.ModuleList(level))
        self.middle = Transformer(config, first)
        self.up, inner = nn.ModuleList(), widths[-1]
        for number, width in reversed(list(enumerate(widths))):
            level = [Residual(i + skips.pop(), width, first, config.groups) for i in (inner, width, width)]
            inner = width
            self.up.append(nn.ModuleList([*level, Upsample(width)] if number else level))
        self.norm = nn.GroupNorm(config.groups, first)
        self.out = nn.Conv2d(first, pixels, 3, padding=1)

    @property
    def alignment_width(self) -> int:
        """Channels of the features that `traced` returns."""
        return self.config.widths[-1]

    def forward(
        self, noisy: Float[Tensor, "b c h w"], t: Float[Tensor, "b"], condition: Float[Tensor, "b k hc wc"]
    ) -> Float[Tensor, "b c h w"]:
        return self.traced(noisy, t, condition)[0]

    def traced(
        self, noisy: Float[Tensor, "b c h w"], t: Float[Tensor, "b"], condition: Float[Tensor, "b k hc wc"]
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b n d"]]:
        """The velocity, and the features amid the transformer that a feature-alignment loss reads.

        Raises:
            ValueError: a condition of other channels, or image sides that the levels do not divide.
        """
        self._require(noisy, condition)
        context = self.context(condition)
        # The table of SSDD has frequencies for times of 0 to 1000.
        time = self.time(sinusoid(1000 * t, self.config.widths[0]).to(noisy.dtype))
        x = self.stem(F.pixel_unshuffle(noisy, self.config.patch), condition)
        skips = [x]
        for part in _parts(self.down):
            x = part(x, context, time)
            skips.append(x)
        x, features = self.middle(x, context)
        for part in _parts(self.up):
            x = part(torch.cat([x, skips.pop()], 1) if isinstance(part, Residual) else x, context, time)
        output = F.pixel_shuffle(self.out(F.silu(self.norm(x))), self.config.patch)
        return self.config.predict(output, noisy, t), features

    def _require(self, noisy: Tensor, condition: Tensor) -> None:
        if condition.shape[1] != self.config.condition:
            raise ValueError(f"this net is conditioned on {self.config.condition} channels, not {condition.shape[1]}")
        cell = self.config.patch * 2 ** (len(self.config.widths) - 1)
        if noisy.shape[-2] % cell or noisy.shape[-1] % cell:
            raise ValueError(f"image sides must be multiples of {cell}, got {noisy.shape[-2]}x{noisy.shape[-1]}")


class Stem(nn.Module):
    """A 3 x 3 convolution over the noisy image and the condition, which is enlarged to its size."""

    def __init__(self, pixels: int, condition: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(pixels + condition, width, 3, padding=1)

    def forward(self, noisy: Float[Tensor, "b c h w"], condition: Float[Tensor, "b k hc wc"]) -> Tensor:
        return self.conv(torch.cat([noisy, F.interpolate(condition, noisy.shape[-2:], mode="nearest")], 1))


class Residual(nn.Module):
    """The condition modulates the first norm, the time the second; the second convolution starts at zero."""

    def __init__(self, before: int, width: int, first: int, groups: int) -> None:
        super().__init__()
        self.norm = ConditionNorm(before, first, groups)
        self.conv = nn.Conv2d(before, width, 3, padding=1)
        self.time_norm = TimeNorm(width, 4 * first, groups)
        self.last = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # pyright: ignore[reportArgumentType]
        self.skip = nn.Conv2d(before, width, 1) if before != width else nn.Identity()

    def forward(self, x: Tensor, context: Tensor, time: Tensor) -> Tensor:
        inner = self.conv(F.silu(self.norm(x, context)))
        return self.skip(x) + self.last(F.silu(self.time_norm(inner, time)))


class ConditionNorm(nn.Module):
    """GroupNorm whose scale and shift come from the context, computed on its own small grid and then enlarged."""

    def __init__(self, width: int, first: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width, affine=False)
        self.modulation = nn.Conv2d(first, 2 * width, 1)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        scale, shift = F.interpolate(self.modulation(context), x.shape[-2:], mode="nearest").chunk(2, 1)
        return self.norm(x) * (1 + scale) + shift


class TimeNorm(nn.Module):
    """GroupNorm followed by a scale and a shift that the time decides."""

    def __init__(self, width: int, time: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width)
        self.modulation = nn.Linear(time, 2 * width)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        scale, shift = self.modulation(F.silu(time))[:, :, None, None].chunk(2, 1)
        return self.norm(x) * (1 + scale) + shift


class Downsample(nn.Module):
    """Half the resolution by a convolution of stride 2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor, context: Tensor, time: Tensor) -> Tensor:
        return self.conv(x)


class Upsample(nn.Module):
    """Twice the resolution: every pixel repeated, then a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor, context: Tensor, time: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class Transformer(nn.Module):
    """The transformer blocks on the coarsest map, added to it."""

    def __init__(self, config: UViTConfig, first: int) -> None:
        super().__init__()
        width = config.widths[-1]
        self.norm = nn.GroupNorm(config.groups, width)
        self.into, self.back = nn.Linear(width, width), nn.Linear(width, width)
        self.blocks = nn.ModuleList(Block(width, first, config.heads, config.radius) for _ in range(config.blocks))
        self.traced_block = min(4, config.blocks // 2)

    def forward(self, x: Tensor, context: Tensor) -> tuple[Tensor, Float[Tensor, "b n d"]]:
        grid = Grid(*x.shape[-2:])
        tokens = self.into(self.norm(x).flatten(2).mT)
        context = F.interpolate(context, tuple(grid), mode="nearest").flatten(2).mT
        traced = tokens
        for number, block in enumerate(self.blocks):
            tokens = block(tokens, context, grid)
            if number == self.traced_block:
                traced = tokens
        return x + self.back(tokens).mT.unflatten(2, tuple(grid)), traced


class Block(nn.Module):
    """Attention after a norm that the context modulates, then a GEGLU whose last layer starts at zero."""

    def __init__(self, width: int, first: int, heads: int, radius: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(first, 2 * width)
        self.attention = WindowAttention(width, heads, radius)
        self.norm = nn.LayerNorm(width)
        self.gate = nn.Linear(width, 8 * width)
        self.out = nn.Linear(4 * width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, context: Tensor, grid: Grid) -> Tensor:
        shift, scale = self.modulation(F.silu(context)).chunk(2, -1)
        x = x + self.attention(F.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift, grid)
        value, gate = self.gate(self.norm(x)).chunk(2, -1)
        return x + self.out(value * F.gelu(gate))


def _parts(levels: nn.ModuleList) -> Iterator[nn.Module]:
    """The parts of all levels, one after the other."""
    return chain.from_iterable(level.children() for level in levels)
