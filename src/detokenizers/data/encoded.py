"""Images seen through frozen encoders, computed once and kept in shards: tokens, features, latents, beliefs.

source rows -encode-> arrays -> FOLDER/00000.safetensors .. ; a cut-off encoding goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from ..checkpoint import load_tensors, save_tensors
from .sources import Source

SHARD = 1024
Encode = Callable[[Float[Tensor, "b 3 h w"], Sequence[int]], Mapping[str, Tensor]]
"""Images and their row numbers in, named arrays [b ...] out."""


@torch.no_grad()
def encoded(source: Source, encode: Encode, folder: Path, *, batch: int = 32) -> dict[str, Tensor]:
    """Every row of a source through `encode`, one tensor [rows ...] per name.

    `folder` must belong to this source and these encoders (name it by their fingerprints): shards in it are trusted.
    """
    shards = []
    starts = range(0, len(source), SHARD)
    for number, first in enumerate(tqdm(starts, desc=f"encoding {len(source)} images", disable=None)):
        path = folder / f"{number:05d}.safetensors"
        if not path.exists():
            rows = range(first, min(first + SHARD, len(source)))
            parts = [
                encode(source.images(some), some)
                for some in (rows[i : i + batch] for i in range(0, SHARD, batch))
                if some
            ]
            save_tensors(path, {name: torch.cat([part[name] for part in parts]) for name in parts[0]})
        shards.append(load_tensors(path))
    return {name: torch.cat([shard[name] for shard in shards]) for name in shards[0]}
