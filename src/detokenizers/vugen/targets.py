"""What the generation tower learns to sample: the one place where VUGEN and its baselines differ.

VUGEN: understanding latents and their own decoder ; Decoupled and REPA: a VAE's latents, packed 2 x 2, and the VAE's
images -encode-> latents [b n d], of about unit variance ; latents, seeds -decode-> images
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Protocol, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from ..checkpoint import fingerprint, resolve
from ..config import Config
from ..pretrained.spaces import VAE, Pixels, PretrainedVAE, Space
from ..pretrained.vlm.feature_vlm import FeatureVLM
from ..protocols import Grid
from .autoencoder import Autoencoder

FOLDER = "target"
"""Where a model keeps the autoencoder that is its target."""


class Target(Protocol):
    """Latents of images as token rows, and the way back."""

    @property
    def grid(self) -> Grid: ...
    @property
    def channels(self) -> int: ...
    @property
    def size(self) -> int: ...
    def encode(self, images: Float[Tensor, "b 3 h w"], /) -> Float[Tensor, "b n d"]: ...
    def decode(
        self, latents: Float[Tensor, "b n d"], /, *, seeds: Sequence[int], steps: int | None = None
    ) -> Float[Tensor, "b 3 h w"]: ...
    def fingerprint(self) -> str: ...


class PackedLatents(nn.Module):
    """Latents of a VAE, `patch` x `patch` of them a token, whose numbers are in the order channel, row, column."""

    def __init__(self, space: Pixels | VAE, patch: int, size: int) -> None:
        super().__init__()
        self.space, self.patch, self.size = space, patch, size
        side, rest = divmod(size, space.stride * patch)
        if rest:
            raise ValueError(f"images of {size} px do not divide into tokens of {space.stride * patch} px")
        self.grid, self.channels = Grid(side, side), space.channels * patch**2

    def train(self, mode: bool = True) -> Self:
        return super().train(False)

    @torch.no_grad()
    def encode(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n d"]:
        return F.pixel_unshuffle(self.space.encode(images), self.patch).flatten(2).mT

    @torch.no_grad()
    def decode(
        self, latents: Float[Tensor, "b n d"], *, seeds: Sequence[int], steps: int | None = None
    ) -> Float[Tensor, "b 3 h w"]:
        """Images; a VAE's decoder draws nothing at random, so seeds and steps change nothing."""
        return self.space.decode(F.pixel_shuffle(latents.mT.unflatten(2, tuple(self.grid)), self.patch))

    def fingerprint(self) -> str:
        return fingerprint({**self.state_dict(), str((self.patch, self.size)): torch.zeros(1)})


class Understanding(Config):
    """The latents of an autoencoder over the VLM's understanding features."""

    kind: Literal["understanding"] = "understanding"
    folder: str = "mini/vugen/target"
    """Of the autoencoder: a run of stage A, distilled or not."""

    def build(self, vlm: FeatureVLM) -> Autoencoder:
        """The frozen autoencoder."""
        return Autoencoder.load(resolve(self.folder), vlm)

    def kept(self, target: Autoencoder, folder: Path, dtype: torch.dtype | None) -> Understanding:
        """The settings that find the target of a model saved to `folder`: it is copied into it."""
        target.save(folder / FOLDER, dtype=dtype)
        return self.vary(folder=FOLDER)

    def within(self, folder: Path) -> Understanding:
        """The settings that find the target of a model saved in `folder`."""
        return self.vary(folder=str(folder / self.folder))


class Latents(Config):
    """The latents of a VAE, as the Decoupled and REPA baselines sample them."""

    kind: Literal["latents"] = "latents"
    space: Space = PretrainedVAE(name="stabilityai/stable-diffusion-3-medium-diffusers", subfolder="vae")
    patch: int = Field(default=2, ge=1)
    """Side of the square of latents that is one token."""
    size: int = Field(default=256, ge=8)
    """Side of the images."""

    def build(self, vlm: FeatureVLM) -> PackedLatents:
        """The frozen VAE."""
        return PackedLatents(self.space.build(), self.patch, self.size)

    def kept(self, target: PackedLatents, folder: Path, dtype: torch.dtype | None) -> Latents:
        """The settings that find the VAE of a model saved to `folder`: a local one is copied into it."""
        return self.vary(space=self.space.kept(target.space, folder))

    def within(self, folder: Path) -> Latents:
        """The settings that find the VAE of a model saved in `folder`: the copy there, if there is one."""
        return self.vary(space=self.space.within(folder))


TargetConfig = Annotated[Understanding | Latents, Field(discriminator="kind")]
