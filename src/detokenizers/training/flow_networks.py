"""The frozen networks that an image decoder's losses compare with, as settings: the world's judge, LPIPS, DINOv2.

config -build-> a term of the loss, or none
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from ..config import Config
from ..nn.world_net import load_world_net
from ..pretrained.networks.lpips import LPIPS
from ..pretrained.patch_features import DINOv2Patches
from .flow_terms import Alignment, Perceptual


class NoTerm(Config):
    """Without this loss."""

    kind: Literal["none"] = "none"

    def build(self, width: int, device: torch.device) -> dict[str, nn.Module]:
        return {}


class WorldPerceptual(Config):
    """Activations of the embedded world's judge."""

    kind: Literal["world"] = "world"
    name: str = "mini/world_net"
    weight: float = Field(default=0.5, gt=0)

    def build(self, width: int, device: torch.device) -> dict[str, nn.Module]:
        return {"perceptual": Perceptual(load_world_net(self.name).to(device).activations, self.weight)}


class LPIPSPerceptual(Config):
    """LPIPS, with VGG16 as the paper's decoder has it."""

    kind: Literal["lpips"] = "lpips"
    net: Literal["alex", "vgg"] = "vgg"
    path: str | None = None
    """File of the backbone; the usual places when not given (docs/metrics-networks.md)."""
    weight: float = Field(default=0.5, gt=0)

    def build(self, width: int, device: torch.device) -> dict[str, nn.Module]:
        lpips = LPIPS.load(self.net, self.path).to(device)
        channels = [lpips.get_buffer(f"weight{number}") for number in range(len(lpips.compared))]
        return {"perceptual": Perceptual(lpips.activations, self.weight, channels)}


class WorldAlignment(Config):
    """Inner features are aligned with the coarsest map of the embedded world's judge."""

    kind: Literal["world"] = "world"
    name: str = "mini/world_net"
    weight: float = Field(default=0.25, gt=0)

    def build(self, width: int, device: torch.device) -> dict[str, nn.Module]:
        net = load_world_net(self.name).to(device)
        patches = lambda images: net.activations(images)[-1].flatten(2).mT  # noqa: E731
        return {"alignment": Alignment(width, net.config.widths[-1], patches, weight=self.weight)}


class DINOv2Alignment(Config):
    """Inner features are aligned with patch features of DINOv2-B."""

    kind: Literal["dinov2"] = "dinov2"
    name: str = "facebook/dinov2-base"
    side: int = Field(default=32, ge=1)
    """Patches along a side of the resized image; as many as the decoder's coarsest map has."""
    weight: float = Field(default=0.25, gt=0)

    def build(self, width: int, device: torch.device) -> dict[str, nn.Module]:
        net = DINOv2Patches.load(self.name, self.side).to(device)
        return {"alignment": Alignment(width, net.channels, net, weight=self.weight)}


PerceptualTerm = Annotated[NoTerm | WorldPerceptual | LPIPSPerceptual, Field(discriminator="kind")]
AlignmentTerm = Annotated[NoTerm | WorldAlignment | DINOv2Alignment, Field(discriminator="kind")]


def terms_of(
    perceptual: PerceptualTerm, alignment: AlignmentTerm, net: nn.Module, device: torch.device
) -> dict[str, nn.Module]:
    """Both terms for a decoder's net."""
    width: int = getattr(net, "alignment_width", 0)
    return perceptual.build(width, device) | alignment.build(width, device)
