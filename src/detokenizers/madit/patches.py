"""Latents as a sequence of patches, which patch lies under which token, and how many nats each patch has.

latents [b c h w] -patchify-> [b n c*p*p] -unpatchify-> latents, in raster order
posterior mean, std [b c h w] -patch_kl-> nats [b n]
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from ..protocols import Grid, ImageSpace


def patchify(latents: Float[Tensor, "b c h w"], patch: int) -> Float[Tensor, "b n d"]:
    """Squares of latents as rows, in raster order; a row runs over channels first, then over its square."""
    return rearrange(latents, "b c (h p) (w q) -> b (h w) (c p q)", p=patch, q=patch)


def unpatchify(patches: Float[Tensor, "b n d"], grid: Grid, patch: int) -> Float[Tensor, "b c h w"]:
    """The inverse of `patchify`."""
    return rearrange(patches, "b (h w) (c p q) -> b c (h p) (w q)", h=grid.height, p=patch, q=patch)


@dataclass(frozen=True)
class Layout:
    """A grid of patches, and a grid of tokens each of which covers a square of them.

    `stride` 1 is the paper's: one token a patch. Above 1 there are fewer tokens than patches, and what a token does not
    determine of its patches has to come from context.
    """

    patches: Grid
    stride: int = 1

    def __post_init__(self) -> None:
        if self.patches.height % self.stride or self.patches.width % self.stride:
            raise ValueError(f"tokens of {self.stride}x{self.stride} patches do not tile a {self.patches} grid of them")

    @property
    def tokens(self) -> Grid:
        return Grid(self.patches.height // self.stride, self.patches.width // self.stride)

    @property
    def parts(self) -> int:
        """Patches per token."""
        return self.stride**2

    @cached_property
    def cell(self) -> Int[Tensor, "n"]:
        """The token over each patch."""
        rows = torch.arange(self.patches.height) // self.stride
        columns = torch.arange(self.patches.width) // self.stride
        return (rows[:, None] * self.tokens.width + columns).flatten()

    @cached_property
    def part(self) -> Int[Tensor, "n"]:
        """Which of its token's patches each one is, in raster order within the square."""
        rows = torch.arange(self.patches.height) % self.stride
        columns = torch.arange(self.patches.width) % self.stride
        return (rows[:, None] * self.stride + columns).flatten()

    def by_token(self, patches: Float[Tensor, "b n ..."]) -> Float[Tensor, "b l parts ..."]:
        """What belongs to patches, gathered under their tokens."""
        order = (self.cell * self.parts + self.part).argsort().to(patches.device)
        return patches[:, order].unflatten(1, (self.tokens.size, self.parts))

    def by_patch(self, tokens: Float[Tensor, "b l parts ..."]) -> Float[Tensor, "b n ..."]:
        """The inverse of `by_token`."""
        return tokens.flatten(1, 2)[:, (self.cell * self.parts + self.part).to(tokens.device)]


class Posterior(NamedTuple):
    """Mean and standard deviation of a VAE's latents, shifted and scaled as the space's latents are."""

    mean: Float[Tensor, "b c h w"]
    std: Float[Tensor, "b c h w"]


@torch.no_grad()
def posterior(space: ImageSpace, images: Float[Tensor, "b 3 h w"]) -> Posterior:
    """The posterior that an autoencoder has of images, in fp32.

    Raises:
        ValueError: it has none, so that there is no KL divergence to order patches by.
    """
    mean, std = space.posterior(images)
    if not bool((std > 0).any()):
        raise ValueError(
            f"a {type(space).__name__} has no posterior, so its patches have no KL divergence; use an AutoencoderKL "
            "(FLUX, SDXL, mini/vae)"
        )
    return Posterior(mean, std)


def latent_kl(space: ImageSpace, seen: Posterior) -> Float[Tensor, "b h w"]:
    """KL(N(mean, std^2) | N(0, 1)) in nats of each latent cell, summed over channels.

    It is of the VAE's raw moments, before the shift and scale that make latents of unit variance.
    """
    scale, shift = float(getattr(space, "scale", 1.0)), float(getattr(space, "shift", 0.0))
    mean, std = seen.mean.float() / scale + shift, seen.std.float() / scale
    log_variance = (2 * std.log()).clamp(-30, 20)  # as diffusers clamps it
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


def patch_kl(cells: Float[Tensor, "b h w"], patch: int) -> Float[Tensor, "b n"]:
    """Nats of each patch: the sum over its cells (`latent_kl`), in the order of `patchify`."""
    return F.avg_pool2d(cells[:, None], patch, divisor_override=1).flatten(1)
