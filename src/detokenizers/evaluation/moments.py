"""Mean and scatter of a set of feature rows, in float64, one pass, mergeable: any number of processes, one answer.

features [b f] -update-> Moments(count, mean, scatter) -merge-> Moments of everything -save-> a safetensors reference.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..checkpoint import load_tensors, notes_in, save_tensors


@dataclass
class Moments:
    """Count, mean and scatter (sum of squared deviations) of features from one named extractor.

    `extractor` is the extractor's name and fingerprint; sets of different extractors cannot be merged or compared.
    """

    extractor: str
    count: int = 0
    mean: Float[Tensor, "f"] | None = None
    scatter: Float[Tensor, "f f"] | None = None

    @classmethod
    def of(cls, features: Float[Tensor, "n f"], extractor: str = "") -> Moments:
        moments = cls(extractor)
        moments.update(features)
        return moments

    def update(self, features: Float[Tensor, "b f"]) -> None:
        """Take in more rows."""
        features = features.detach().cpu().double()
        if not torch.isfinite(features).all():
            raise ValueError(f"features of {self.extractor or 'this extractor'} hold NaN or infinity")
        mean = features.mean(0)
        centred = features - mean
        self._join(len(features), mean, centred.T @ centred)

    def merge(self, other: Moments) -> None:
        """Take in another shard (Chan et al., 1979)."""
        same_extractor(self, other)
        if other.mean is not None and other.scatter is not None:
            self._join(other.count, other.mean, other.scatter)

    def covariance(self) -> Float[Tensor, "f f"]:
        """The sample covariance (n - 1)."""
        if self.count < 2 or self.scatter is None:
            raise ValueError(f"a covariance needs at least two images, got {self.count}")
        return self.scatter / (self.count - 1)

    def save(self, path: str | Path, **notes: Any) -> None:
        """Write the moments as safetensors in float64, atomically, with what else is to be remembered."""
        if self.mean is None or self.scatter is None:
            raise ValueError(f"there is nothing to save at {path}: these moments hold no image")
        kept = json.dumps({"extractor": self.extractor, "count": self.count, **notes})
        save_tensors(path, {"mean": self.mean, "scatter": self.scatter}, notes=kept)

    @classmethod
    def load(cls, path: str | Path) -> Moments:
        tensors = load_tensors(path)
        notes = notes_in(path)
        if set(tensors) != {"mean", "scatter"} or not {"extractor", "count"} <= set(notes):
            raise ValueError(f"{path} does not hold saved moments; it holds {', '.join(sorted(tensors))}")
        return cls(notes["extractor"], notes["count"], tensors["mean"], tensors["scatter"])

    def _join(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        if self.mean is None or self.scatter is None:
            self.count, self.mean, self.scatter = count, mean.clone(), scatter.clone()
            return
        if mean.shape != self.mean.shape:
            raise ValueError(f"features of {mean.numel()} numbers cannot join moments of {self.mean.numel()}")
        total = self.count + count
        step = mean - self.mean
        self.mean = self.mean + step * (count / total)
        self.scatter = self.scatter + scatter + torch.outer(step, step) * (self.count * count / total)
        self.count = total


def same_extractor(a: Moments, b: Moments) -> None:
    if a.extractor != b.extractor:
        raise ValueError(
            f"these features come from different extractors ({a.extractor!r} and {b.extractor!r}); "
            "measure both sets with the same weights"
        )
