"""Features of pictures by a named network, with the fingerprint of its weights.

images [b 3 h w] -Extractor-> features [b f] -Gathered, shard by shard-> Moments, and the rows where a metric needs them
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..checkpoint import fingerprint
from .moments import Moments


class FeatureNet(Protocol):
    """Anything that turns images in [-1, 1] into one row each; how it resizes them is its own business."""

    def features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b f"]: ...


def net_device(net: object) -> torch.device:
    """Where a network's weights lie; the CPU for what has none."""
    parameter = next(net.parameters(), None) if isinstance(net, nn.Module) else None
    return torch.device("cpu") if parameter is None else parameter.device


@dataclass(frozen=True)
class Extractor:
    """A feature net with the name its numbers will carry: `Extractor(net, "world")` yields `FD-world`."""

    net: FeatureNet
    name: str

    @cached_property
    def identity(self) -> str:
        """Name and fingerprint of the weights: numbers with different identities do not compare.

        A net that was loaded from a published file has that file's sha256 as its `identity`.
        """
        known = getattr(self.net, "identity", None)
        if known:
            return f"{self.name}:{known}"
        weights = self.net.state_dict() if isinstance(self.net, nn.Module) else {}
        return f"{self.name}:{fingerprint(weights)[:16]}"

    @property
    def view(self) -> str:
        """How the net gets its input from a canonical picture, in words."""
        return str(getattr(self.net, "view", "the network's own"))

    @cached_property
    def width(self) -> int:
        """Features of a picture."""
        return self.features(torch.zeros(1, 3, 64, 64)).shape[1]

    @torch.no_grad()
    def features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b f"]:
        """Features in fp32 on the CPU, of images anywhere."""
        return self.net.features(images.to(net_device(self.net))).float().cpu()


@dataclass
class Gathered:
    """Features of one set: moments always; rows, f floats an image, only if they are to be kept."""

    moments: Moments
    keep: bool = False
    parts: list[Float[Tensor, "b f"]] = field(default_factory=list)

    def add(self, rows: Float[Tensor, "b f"] | None, moments: Moments | None = None) -> None:
        """Take in one shard: its rows, or its moments where no metric needs rows."""
        if rows is not None:
            moments = Moments.of(rows, self.moments.extractor)
            self.parts += [rows] if self.keep else []
        assert moments is not None  # a shard holds the one or the other
        self.moments.merge(moments)

    @property
    def rows(self) -> Float[Tensor, "n f"]:
        if sum(map(len, self.parts)) != self.moments.count or not self.parts:
            raise ValueError(
                f"this metric needs every picture's own features by {self.moments.extractor.split(':')[0]}, and only "
                "their statistics are known; give the pictures themselves as --reference"
            )
        return torch.cat(self.parts)
