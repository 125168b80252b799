"""Scenes seen through frozen encoders, computed once and kept in shards: tokens, features, latents.

scene seeds -render-> images -encoders-> arrays -> NAME/00000.safetensors .. ; a cut-off encoding goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from tqdm import tqdm

from ..checkpoint import load_tensors, save_tensors
from ..data.world import Split, World

SHARD = 1024
BATCH = 64
Encoder = Callable[[Float[Tensor, "b 3 h w"]], Tensor]


def images_of(world: World, seeds: range | list[int], split: Split = "train") -> Float[Tensor, "b 3 h w"]:
    """Render scenes as a training batch in [-1, 1]."""
    return as_images(world.batch(seeds, split)[0])


def as_images(pixels: UInt8[np.ndarray, "b h w 3"]) -> Float[Tensor, "b 3 h w"]:
    """Eight-bit pictures as a batch in [-1, 1]."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


@torch.no_grad()
def encoded(
    world: World, encoders: Mapping[str, Encoder], count: int, folder: Path, split: Split = "train"
) -> dict[str, Tensor]:
    """The first `count` scenes of a split through every encoder, one tensor [count ...] per encoder.

    `folder` must belong to these encoders and this world: shards found there are trusted.
    """
    shards = []
    for first in tqdm(range(0, count, SHARD), desc=f"encoding {count} scenes", disable=None):
        path = folder / f"{first // SHARD:05d}.safetensors"
        if not path.exists():
            parts = []
            for start in range(first, first + SHARD, BATCH):
                images = images_of(world, range(start, start + BATCH), split)
                parts.append({name: encoder(images) for name, encoder in encoders.items()})
            save_tensors(path, {name: torch.cat([part[name] for part in parts]) for name in encoders})
        shards.append(load_tensors(path))
    return {name: torch.cat([shard[name] for shard in shards])[:count] for name in encoders}
