"""A small classifier of the embedded world: which nouns, how many, in which colour, where, on what background.

Its penultimate features carry the Fréchet distance "FD-world" (never "FID"), its activations the perceptual distance
and the perceptual loss, its predictions the prompt agreement.

images [b 3 h w] -resize-> stem -> three residual stages (activations) -> pooled features -> logits.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..checkpoint import load_into, resolve
from ..config import Config

MAX_COUNT = 4


class WorldNetConfig(Config):
    """What the net classifies, and how large it is."""

    nouns: int
    colours: int
    backgrounds: int
    resolution: int = 64
    """Images are resized to this side first, so one net judges every decoder's output size."""
    widths: tuple[int, ...] = (32, 64, 128)
    num_features: int = 256


class Residual(nn.Module):
    """x + conv(silu(conv(silu(x)))) with the second convolution starting at zero: no norm needed."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(F.silu(x))))


class WorldNet(nn.Module):
    """The judge. `features` for distances of sets, `activations` for distances of pairs, `forward` for labels."""

    def __init__(self, config: WorldNetConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        self.stem = nn.Conv2d(3, widths[0], 5, stride=2, padding=2)
        self.stages = nn.ModuleList()
        for before, width in zip((widths[0], *widths), widths):
            down = nn.Identity() if before == width else nn.Conv2d(before, width, 3, stride=2, padding=1)
            self.stages.append(nn.Sequential(down, Residual(width), Residual(width)))
        self.where = nn.Conv2d(widths[-1], config.nouns, 1)
        self.penultimate = nn.Linear(2 * widths[-1], config.num_features)
        self.counts = nn.Linear(config.num_features, config.nouns * (MAX_COUNT + 1))
        self.evidence = nn.Linear(3, MAX_COUNT + 1)
        self.colours = nn.Linear(2 * widths[-1], config.colours + 1)
        self.background = nn.Linear(config.num_features, config.backgrounds)

    def activations(self, images: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b c hs ws"]]:
        """The stem's output and each stage's, coarse last: the layers of the perceptual distance."""
        side = self.config.resolution
        if images.shape[-2:] != (side, side):
            images = F.interpolate(images, (side, side), mode="bilinear", antialias=True, align_corners=False)
        x = self.stem(images.contiguous(memory_format=torch.channels_last))
        maps = [x]
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b f"]:
        """Penultimate features, after the nonlinearity."""
        return self._pool(self.activations(images)[-1])

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> dict[str, Tensor]:
        """Logits: `counts` [b nouns 0..4], `colours` [b nouns colours+1] (0 = native), `where` [b nouns h*w],
        `background` [b backgrounds]."""
        last = self.activations(images)[-1]
        features, config = self._pool(last), self.config
        cells = F.silu(last)
        where = self.where(cells).flatten(2)
        # A noun's colour is read where the noun is, so that two objects do not lend each other their colours.
        at_noun = torch.einsum("bnl,bcl->bnc", where.softmax(-1), cells.flatten(2))
        names = self.where.weight.flatten(1).expand(len(images), -1, -1)
        summary = torch.stack([where.amax(-1), where.mean(-1), where.sigmoid().sum(-1)], -1)
        return {
            "counts": self.counts(features).unflatten(-1, (config.nouns, MAX_COUNT + 1)) + self.evidence(summary),
            "colours": self.colours(torch.cat([at_noun, names], -1)),
            "where": where,
            "background": self.background(features),
        }

    def _pool(self, last: Tensor) -> Tensor:
        last = F.silu(last)
        return F.silu(self.penultimate(torch.cat([last.mean((2, 3)), last.amax((2, 3))], -1)))


def load_world_net(name: str | Path) -> WorldNet:
    """The frozen net in a folder (`mini/world_net` is embedded)."""
    folder = resolve(name)
    net = WorldNet(WorldNetConfig.from_yaml(folder / "world_net.yaml"))
    load_into(net, folder / "world_net.safetensors")
    return net.to(memory_format=torch.channels_last).requires_grad_(False).eval()  # pyright: ignore[reportCallIssue]
