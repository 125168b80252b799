"""DCDD without FLUX and without a VAE: a U-ViT draws pixels, conditioned on the VLM's distributions.

The tokens' features (LCDM, calibrated) are laid out on their grid and are the U-ViT's condition map as they are. The
decoder has many steps, or one when it has been distilled: then it costs about what the VLM's own VQ decoder does.

tokens with observed features [b n o] -map-> [b o h w] -FlowDecoder(pixels, U-ViT)-> images
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from ..checkpoint import DECODER, fingerprint, load_into, load_tensors, save_tensors, write_text
from ..config import Config
from ..decoder import FlowDecoder, Temperature
from ..flow.time_grids import TimeGrid
from ..flow.time_shifts import FixedShift
from ..nn.uvit import UViT, UViTConfig
from ..pretrained.spaces import Pixels
from ..protocols import Grid
from .calibration import Calibration
from .condition import require_observed
from .distribution_decoder import CODEBOOK, WEIGHTS, DistributionDecoder
from .lcdm import LCDM, Expectation


class PixelDCDDConfig(Config):
    """Every choice that decides what it computes, in the order of the data."""

    kind: Literal["dcdd_pixels"] = "dcdd_pixels"
    lcdm: LCDM = Expectation()
    """What is kept of a token's distribution."""
    calibration: Calibration = Calibration()
    """How certain the encoder's distributions are made, found by `detok calibrate`."""
    net: UViTConfig = UViTConfig()
    """Its condition channels follow the LCDM's."""
    token_stride: int = Field(default=16, ge=1)
    """Pixels per VLM token."""
    steps: int = Field(default=8, ge=1)
    """Sampling steps unless a caller asks for others; a distilled one has 1."""
    power: float = Field(default=2.0, gt=0)
    """Of the sampling times: above 1 there are more steps near clean."""
    temperature: Temperature = 1.0

    def build(self, codebook: Float[Tensor, "v d"]) -> PixelDCDD:
        """Random weights.

        Raises:
            ValueError: codebook rows are not unit vectors.
        """
        features = self.lcdm.num_features(codebook.shape[1])
        net = UViT(self.net.vary(condition=features))
        return PixelDCDD(
            codebook,
            RasterMap(features),
            FlowDecoder(Pixels(), net, TimeGrid(shift=FixedShift(), power=self.power), self.temperature),
            lcdm=self.lcdm,
            calibration=self.calibration,
            token_stride=self.token_stride,
            steps=self.steps,
            config=self,
        )


class RasterMap(nn.Module):
    """Observed features laid out on their grid, as they are."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(
        self, observed: Float[Tensor, "b n o"], grid: Grid, latents: tuple[int, int]
    ) -> Float[Tensor, "b o h w"]:
        require_observed(observed, grid, self.num_features)
        return observed.mT.unflatten(2, tuple(grid))


class PixelDCDD(DistributionDecoder):
    """A U-ViT over pixels, conditioned on the features' own map."""

    config: PixelDCDDConfig

    @property
    def net(self) -> nn.Module:
        """The U-ViT."""
        net: Any = self.decoder.net
        return net

    def fingerprint(self) -> str:
        """Changes when weights or settings that decide pixels change."""
        return fingerprint(
            {**self.net.state_dict(), "codebook": self.codebook, self.config.fingerprint(): torch.ones(1)}
        )

    def save(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Write config, codebook and weights (as `dtype`, if given)."""
        folder = Path(folder)
        save_tensors(folder / CODEBOOK, {"codebook": self.codebook})
        save_tensors(folder / WEIGHTS, self.net.state_dict(), dtype=dtype)
        write_text(folder / DECODER, self.config.to_yaml())

    @classmethod
    def load(cls, folder: str | Path) -> PixelDCDD:
        """Read a saved decoder back, frozen.

        Raises:
            ValueError: a file is missing, damaged, or of another config.
        """
        folder = Path(folder)
        built = PixelDCDDConfig.from_yaml(folder / DECODER).build(load_tensors(folder / CODEBOOK)["codebook"])
        load_into(built.net, folder / WEIGHTS)
        return built.requires_grad_(False).eval()
