"""Which network looks at the images, and what it saw: features with their ids and with the extractor's fingerprint.

images [b 3 h w] -Extractor-> features [b f] -Gathered, shard by shard-> Moments, and the rows where a metric needs them
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..checkpoint import fingerprint
from .moments import Moments
from .pairwise import device_under


@runtime_checkable
class FeatureNet(Protocol):
    """Anything that turns images in [-1, 1] into one row each; how it resizes them is its own business."""

    def features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b f"]: ...


@dataclass(frozen=True)
class Extractor:
    """A feature net with the name its numbers will carry: `Extractor(net, "world")` yields `FD-world`."""

    net: FeatureNet
    name: str

    @cached_property
    def identity(self) -> str:
        """Name and fingerprint of the weights: numbers with different identities do not compare.

        A net that was loaded from a published file says so itself, by that file's sha256.
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

    @property
    def device(self) -> torch.device:
        return device_under(self.net)

    @cached_property
    def width(self) -> int:
        """Numbers it gives a picture."""
        return self.features(torch.zeros(1, 3, 64, 64)).shape[1]

    @torch.no_grad()
    def features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b f"]:
        """Features in fp32 on the CPU, of images anywhere."""
        return self.net.features(images.to(self.device)).float().cpu()


@dataclass
class Gathered:
    """What an extractor saw of one set: moments always; rows, f floats an image, only if they are to be kept."""

    moments: Moments
    keep: bool = False
    parts: list[Float[Tensor, "b f"]] = field(default_factory=list)

    def add(self, rows: Float[Tensor, "b f"] | None, moments: Moments | None = None) -> None:
        """Take in one shard: its rows, or its moments where nobody needs rows."""
        self.moments.merge(Moments.of(rows, self.moments.extractor) if rows is not None else required(moments))
        if self.keep and rows is not None:
            self.parts.append(rows)

    @property
    def rows(self) -> Float[Tensor, "n f"]:
        if sum(map(len, self.parts)) != self.moments.count or not self.parts:
            raise ValueError(
                f"this metric needs every picture's own features by {self.moments.extractor.split(':')[0]}, and only "
                "their statistics are known; give the pictures themselves as --reference"
            )
        return torch.cat(self.parts)


def required(moments: Moments | None) -> Moments:
    """The moments of a shard that kept no rows."""
    if moments is None:
        raise ValueError("a shard holds neither features nor their moments; delete it")
    return moments


class Ids:
    """Refuses an id that was seen before: an image counted twice changes every number."""

    def __init__(self) -> None:
        self.seen: dict[str, None] = {}

    def add(self, ids: Sequence[str]) -> None:
        for id in ids:
            if id in self.seen:
                raise ValueError(f"the id {id!r} came twice; every image must be counted exactly once")
            self.seen[id] = None
