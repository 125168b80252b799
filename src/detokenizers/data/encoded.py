"""What frozen encoders make of images, computed once and kept in shards: tokens, features, latents, distributions.

source rows -encode-> arrays -> FOLDER/00000.safetensors .. ; a cut-off encoding goes on where it was.
rows -Encoded-> arrays [b ...], read from the shards, so a million images need the memory of one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from tqdm import tqdm

from ..ahead import ahead
from ..checkpoint import fingerprint, save_tensors
from ..device import rank, world_size
from ..peers import Peers
from .source import Source

SHARD = 1024
Encode = Callable[[Float[Tensor, "b 3 h w"], Sequence[int]], Mapping[str, Tensor]]
"""Images and their row numbers in, named arrays [b ...] out."""


DECODING = {"decoder", "post_quant_conv"}
"""Parts of an autoencoder or tokenizer that only turn arrays into pixels."""


def reader_fingerprint(encoder: nn.Module) -> str:
    """Of the weights that arrays depend on: an encoder stays the same encoder when its decoder is replaced."""
    return fingerprint({name: x for name, x in encoder.state_dict().items() if DECODING.isdisjoint(name.split("."))})


class Encoded:
    """The arrays of numbered rows: `encoded[rows]` gives one tensor [b ...] per name."""

    def __init__(self, shards: Sequence[Path], count: int) -> None:
        self.shards, self.count = list(shards), count
        self._open = lru_cache(maxsize=256)(_opened)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, rows: Sequence[int]) -> dict[str, Tensor]:
        parts: list[dict[str, Tensor]] = []
        for row in rows:
            if not 0 <= row < self.count:
                raise ValueError(f"there is no row {row}; {self.count} rows were encoded")
            number, position = divmod(row, SHARD)
            parts.append(_row(self._open(self.shards[number]), position))
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


@torch.no_grad()
def encoded(
    source: Source, encode: Encode, folder: Path, *, batch: int = 32, workers: int = 0, count: int | None = None
) -> Encoded:
    """Every row of a source, or the first `count`, through `encode`, from the shards in `folder` where they exist.

    `folder` must belong to this source and these encoders (name it by their fingerprints): shards in it are trusted.
    Of several processes (`torchrun`, `accelerate launch`) each encodes its part, and waits for the others. With
    `workers`, that many other processes read pictures while this one encodes; the arrays are the same.

    Raises:
        ValueError: the source is empty, `encode` gives NaN, or another process died.
    """
    if not len(source):
        raise ValueError("there are no images to encode")
    count = len(source) if count is None else count
    starts, shards = range(0, count, SHARD), shards_of(folder, count)
    first, processes = rank(), world_size()
    mine = [number for number in range(first, len(shards), processes) if not shards[number].exists()]
    rows = {number: range(starts[number], min(starts[number] + SHARD, count)) for number in mine}
    batches = [some[start : start + batch] for some in rows.values() for start in range(0, len(some), batch)]
    with Peers(folder) as peers:
        with ahead(source.images, batches, workers if batches else 0) as images:
            for number in tqdm(mine, desc=f"encoding {count} images", disable=None if first == 0 else True):
                save_tensors(shards[number], _encode(images, encode, rows[number], batch))
        peers.wait(lambda: all(shard.exists() for shard in shards))
    return Encoded(shards, count)


def shards_of(folder: Path, count: int) -> list[Path]:
    """The files of so many rows."""
    return [folder / f"{number:05d}.safetensors" for number in range(-(-count // SHARD))]


def is_whole(folder: Path, count: int) -> bool:
    """Whether so many rows have been encoded into a folder."""
    return all(shard.exists() for shard in shards_of(folder, count))


def _encode(images: Iterator[Tensor], encode: Encode, rows: range, batch: int) -> dict[str, Tensor]:
    parts: list[Mapping[str, Tensor]] = []
    for start in range(0, len(rows), batch):
        some = rows[start : start + batch]
        parts.append({name: array.cpu() for name, array in encode(next(images), some).items()})
    arrays = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    for name, array in arrays.items():
        if array.is_floating_point() and not torch.isfinite(array).all():
            raise ValueError(f"encoding rows {rows[0]} to {rows[-1]} gave NaN or infinity in {name!r}")
    return arrays


def _opened(shard: Path) -> Any:
    try:
        return safe_open(shard, "pt")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{shard} is damaged ({error}); delete it and it is encoded again") from None


def _row(file: Any, position: int) -> dict[str, Tensor]:
    return {name: file.get_slice(name)[position : position + 1] for name in file.keys()}  # noqa: SIM118
