"""Which network looks at the images, and what it saw: features with their ids and with the extractor's fingerprint.

batches of (ids, images) -collect-> Features(ids, rows [n f], extractor) -moments-> Moments
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..checkpoint import fingerprint
from .pairwise import canonical
from .statistics import Moments

T = TypeVar("T")
Batches = Iterable[tuple[Sequence[str], T]]
"""Ids and what belongs to them (images [b 3 h w] in [-1, 1], tokens, ...), batch by batch."""


@runtime_checkable
class FeatureNet(Protocol):
    def features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b f"]: ...
    def activations(self, images: Float[Tensor, "b 3 h w"]) -> list[Tensor]: ...


@dataclass(frozen=True)
class Extractor:
    """A feature net with the name its numbers will carry: `Extractor(net, "world")` yields `FD-world`."""

    net: FeatureNet
    name: str

    @cached_property
    def identity(self) -> str:
        """Name and fingerprint of the weights: numbers with different identities do not compare."""
        weights = self.net.state_dict() if isinstance(self.net, nn.Module) else {}
        return f"{self.name}:{fingerprint(weights)[:16]}"

    @property
    def device(self) -> torch.device:
        parameter = next(self.net.parameters(), None) if isinstance(self.net, nn.Module) else None
        return torch.device("cpu") if parameter is None else parameter.device

    @torch.no_grad()
    def features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b f"]:
        """Features in fp32 on the CPU, of images anywhere."""
        return self.net.features(images.to(self.device)).float().cpu()

    @torch.no_grad()
    def activations(self, images: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Activations on the net's own device."""
        return self.net.activations(images.to(self.device))


@dataclass
class Features:
    """One row per image, keyed by id; memory grows with f floats per image."""

    extractor: str
    ids: list[str] = field(default_factory=list)
    parts: list[Float[Tensor, "b f"]] = field(default_factory=list)

    @property
    def rows(self) -> Float[Tensor, "n f"]:
        if not self.parts:
            raise ValueError(f"there are no images to measure with {self.extractor}")
        return torch.cat(self.parts)

    def add(self, ids: Sequence[str], rows: Float[Tensor, "b f"]) -> None:
        self.ids.extend(ids)
        self.parts.append(rows)

    def moments(self) -> Moments:
        return Moments.of(self.rows, self.extractor)


class Ids:
    """Refuses an id that was seen before: an image counted twice changes every number."""

    def __init__(self) -> None:
        self.seen: dict[str, None] = {}

    def add(self, ids: Sequence[str]) -> None:
        for id in ids:
            if id in self.seen:
                raise ValueError(f"the id {id!r} came twice; every image must be counted exactly once")
            self.seen[id] = None


def collect(batches: Batches[Tensor], extractor: Extractor) -> Features:
    """Look at every image once, as a PNG would hold it."""
    features, known = Features(extractor.identity), Ids()
    for ids, images in batches:
        known.add(ids)
        features.add(ids, extractor.features(canonical(images)))
    return features


def item_seed(seed: int, id: str) -> int:
    """The seed of one item: neither batch size nor order nor number of processes can change a picture."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{id}".encode()).digest()[:7])
