"""VUGEN §3.3: the two decoders from reduced features to images, each a pair of a space and a net.

PDD: (pixels, U-ViT) ; LDM: (VAE latents, SD3 transformer with EDM) ; both a `FlowDecoder` conditioned on a map
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ..config import Config
from ..decoder import FlowDecoder, Temperature
from ..flow.time_grids import TimeGrid
from ..flow.time_shifts import FixedShift
from ..nn.edm import KarrasGrid
from ..nn.uvit import UViT, UViTConfig
from ..pretrained.sd3 import SD3Config, SD3Net
from ..pretrained.spaces import Pixels, PretrainedVAE, Space


class PixelDecoder(Config):
    """A U-ViT that draws pixels, without any VAE."""

    kind: Literal["pixels"] = "pixels"
    net: UViTConfig = UViTConfig()
    """Its condition channels follow the reducer's."""
    steps: int = Field(default=8, ge=1)
    """Sampling steps; a distilled one has 1."""
    power: float = Field(default=2.0, gt=0)
    """Of the sampling times: above 1 there are more steps near clean."""
    temperature: Temperature = 1.0

    def build(self, channels: int) -> FlowDecoder:
        grid = TimeGrid(shift=FixedShift(), power=self.power)
        return FlowDecoder(Pixels(), UViT(self.net.vary(condition=channels)), grid, self.temperature)

    def kept(self, decoder: FlowDecoder, folder: Path) -> PixelDecoder:
        """The settings of one saved to `folder`: pixels need nothing there."""
        return self

    def within(self, folder: Path) -> PixelDecoder:
        """The settings of one saved in `folder`."""
        return self


class LatentDecoder(Config):
    """A transformer that draws in the latents of a VAE, trained as EDM."""

    kind: Literal["latents"] = "latents"
    # PAPER GAP (docs/vugen.md#latent-decoder): which VAE is lost; one with 4 channels at stride 8 has its latents.
    space: Space = PretrainedVAE(name="stabilityai/sd-vae-ft-mse")
    net: SD3Config = SD3Config()
    """Its condition and latent channels follow the reducer's and the space's."""
    steps: int = Field(default=50, ge=1)
    temperature: Temperature = 1.0

    def build(self, channels: int) -> FlowDecoder:
        space, grid = self.space.build(), KarrasGrid(sigma_data=self.net.edm.sigma_data)
        net = SD3Net(self.net.vary(condition=channels, latent_channels=space.channels))
        return FlowDecoder(space, net, grid, self.temperature)  # pyright: ignore[reportArgumentType]

    def kept(self, decoder: FlowDecoder, folder: Path) -> LatentDecoder:
        """The settings that find the VAE of one saved to `folder`: a local one is copied into it."""
        return self.vary(space=self.space.kept(decoder.space, folder))

    def within(self, folder: Path) -> LatentDecoder:
        """The settings that find the VAE of one saved in `folder`: the copy there, if there is one."""
        return self.vary(space=self.space.within(folder))


ImageDecoder = Annotated[PixelDecoder | LatentDecoder, Field(discriminator="kind")]
