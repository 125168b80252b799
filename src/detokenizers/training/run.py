"""What the settings of every training have in common, whichever paper they serve.

Run -job()-> Job -train()-> run folder ; images -encode, once for all runs that encode alike-> CachedRun.encoded
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path

import torch

from ..config import Config
from ..data.encoded import Encode, Encoded, encoded, is_whole
from ..data.sources import Source
from .job import Job
from .processes import computing_device
from .train_settings import TrainConfig


class Run(Config):
    """Everything that decides what a training computes."""

    recipe: str
    """Name of the recipe these settings come from."""
    train: TrainConfig = TrainConfig()

    @abstractmethod
    def job(self) -> Job:
        """Build what is trained; its first weights follow from `train.seed`."""

    @property
    def device(self) -> torch.device:
        """Where this process trains, and encodes before."""
        return computing_device()


class CachedRun(Run):
    """A run on what frozen encoders make of its images."""

    cache: str = "out/cache"
    """Folder for what frozen encoders make of the images; runs with equal images and encoders share it."""

    def encoded(
        self,
        kind: str,
        source: Source,
        encode: Encode,
        inputs: Mapping[str, str],
        *,
        count: int | None = None,
        more: bool = False,
    ) -> Encoded:
        """Every row of a source through `encode`, computed once and read from the disk from then on.

        Args:
            kind: what the arrays are, in a word; equal words and inputs, equal arrays.
            inputs: fingerprints of all that the arrays depend on, the source's among them.
            count: encode only so many of the first rows.
            more: rather read a whole cache of these inputs and others, if there is one: it has these arrays, and more.
        """
        count = len(source) if count is None else min(count, len(source))
        name = "-".join([kind, *(part[:10] for part in inputs.values())])
        others = sorted(Path(self.cache).glob(f"{name}-*")) if more else []
        folder = next((other for other in others if is_whole(other, count)), Path(self.cache) / name)
        return encoded(source, encode, folder, workers=self.train.workers, count=count)
