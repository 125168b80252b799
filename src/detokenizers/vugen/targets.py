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
from ..pretrained.spaces import VAE, Pixels, PretrainedVAE, Space, save_vae
from ..pretrained.vlm.feature_vlm import FeatureVLM
from ..protocols import Grid
from .autoencoder import Autoencoder

FOLDER = "target"
"""Where a model keeps its target."""


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

    def build(self, vlm: FeatureVLM, root: Path = Path()) -> Autoencoder:
        """The frozen autoencoder; a folder within `root`, the model's own, comes first."""
        return Autoencoder.load(_within(root, self.folder), vlm)

    def kept(self, target: Autoencoder, folder: Path, dtype: torch.dtype | None) -> Understanding:
        """Write the target into a model's folder; returns the config that reads it from there."""
        target.save(folder / FOLDER, dtype=dtype)
        return self.vary(folder=FOLDER)


class Latents(Config):
    """The latents of a VAE, as the Decoupled and REPA baselines sample them."""

    kind: Literal["latents"] = "latents"
    space: Space = PretrainedVAE(name="stabilityai/stable-diffusion-3-medium-diffusers", subfolder="vae")
    patch: int = Field(default=2, ge=1)
    """Side of the square of latents that is one token."""
    size: int = Field(default=256, ge=8)
    """Side of the images."""

    def build(self, vlm: FeatureVLM, root: Path = Path()) -> PackedLatents:
        """The frozen VAE; a folder within `root`, the model's own, comes first."""
        space = self.space
        if isinstance(space, PretrainedVAE) and (root / space.name).exists():
            space = space.vary(name=str(root / space.name))
        return PackedLatents(space.build(), self.patch, self.size)

    def kept(self, target: PackedLatents, folder: Path, dtype: torch.dtype | None) -> Latents:
        """Write a VAE into a model's folder; returns the config that reads it from there."""
        if not isinstance(target.space, VAE):
            return self
        save_vae(target.space.autoencoder, folder / FOLDER)
        return self.vary({"space.name": FOLDER, "space.subfolder": None})


TargetConfig = Annotated[Understanding | Latents, Field(discriminator="kind")]


def _within(root: Path, name: str) -> Path:
    return root / name if (root / name).exists() else resolve(name)
