"""One pass: every picture is read once and given to all networks and measures; the outcome is a shard.

Ids are dealt into shards of a fixed number, and a shard's numbers are a function of its pictures alone, so processes
can share them out in any way: each takes every n-th shard of the same plan, and whichever finds all of them finished
may merge. A killed process leaves whole shards, and the same command goes on with the others. Reading goes on in
threads while the networks compute.

ids -shards-> each: originals and every decoder's pictures -levels, hashed-> features, columns -> Shard
Pass, share (index, number) -measure what is missing-> shards/NAME-00000.safetensors ... -all there?-> Evidence
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from ..device import rank, world_size
from ..pixels import to_tensor
from .measures import Batch, Measure
from .networks import Networks
from .shards import Evidence, Shard, key_in, merge, require_unique

log = logging.getLogger(__name__)
BATCH = 32
TRUTH = "reference"
"""The name of the real pictures among the sides of a pass."""
FORMAT = 1
"""Grows when shards made before cannot be read as ones made now."""
FOLDER = "shards"
Progress = Callable[[int], object]
"""Called with the number of pictures that are done, those of finished shards included."""


class Side(Protocol):
    """A set of pictures by id: a folder, or scenes."""

    def read(self, id: str) -> UInt8[np.ndarray, "h w 3"]: ...
    def stamp(self, id: str) -> str:
        """Changes when the picture does: a file's content, a scene's settings and seed."""
        ...


class PictureRead(NamedTuple):
    """A picture and its hash; empty where it cannot be read, and then `trouble` is why."""

    pixels: NDArray[np.uint8]
    digest: bytes
    trouble: str | None = None


@dataclass(frozen=True)
class Pass:
    """What is to be measured, and how.

    Args:
        ids: in a fixed order; the shards are consecutive runs of them.
        sides: decoder name -> pictures; `TRUTH` names the originals where there are any.
        extractors, measures: networks whose features are taken of every picture, and measures of single ones.
        keep_rows: whether shards keep features rather than moments.
        settings: what else the numbers depend on (the protocol, for instance), to be refused when it changes.
        allow_corrupt: leave out and list what cannot be read.
    """

    ids: list[str]
    sides: Mapping[str, Side]
    networks: Networks
    extractors: tuple[str, ...] = ()
    measures: tuple[Measure, ...] = ()
    keep_rows: bool = False
    prompts: Mapping[str, str] | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    allow_corrupt: bool = False
    shard_size: int = 512

    def __post_init__(self) -> None:
        require_unique(self.ids)

    @property
    def drawn(self) -> list[str]:
        return [name for name in self.sides if name != TRUTH]

    def chunks(self) -> list[list[str]]:
        """The ids of each shard."""
        return [self.ids[first : first + self.shard_size] for first in range(0, len(self.ids), self.shard_size)]

    def key(self, ids: Sequence[str]) -> str:
        """A fingerprint of all that the shard of these ids depends on."""
        what = {
            "format": FORMAT,
            "settings": dict(self.settings),
            "extractors": [self.networks.extractor(name).identity for name in self.extractors],
            "measures": [f"{measure.name}: {measure.identity(self.networks)}" for measure in self.measures],
            "rows": self.keep_rows,
            "prompts": [self.prompts[id] for id in ids] if self.prompts else None,
            "sides": {name: [(id, side.stamp(id)) for id in ids] for name, side in self.sides.items()},
            "allow corrupt": self.allow_corrupt,
        }
        return hashlib.sha256(json.dumps(what, default=str).encode()).hexdigest()

    def shard(self, ids: Sequence[str], progress: Progress = lambda count: None) -> Shard:
        """Measure these pictures."""
        shard = Shard(self.key(ids))
        rows: dict[tuple[str, str], list[Tensor]] = {}
        for batch, pictures in self._batches(ids, shard):
            for side, images in pictures.items():
                for name in self.extractors:
                    rows.setdefault((side, name), []).append(self.networks.extractor(name).features(images))
                if side != TRUTH:
                    for measure in self.measures:
                        shard.add(side, measure.columns(batch, images, self.networks))
            progress(len(batch.ids))
        for (side, name), parts in rows.items():
            extractor = self.networks.extractor(name)
            shard.keep(side, name, torch.cat(parts), extractor.identity, as_rows=self.keep_rows)
        return shard

    def _batches(self, ids: Sequence[str], shard: Shard) -> Iterator[tuple[Batch, dict[str, Float[Tensor, "b 3 h w"]]]]:
        """Pictures of whole batches; what cannot be read on one side is left out on all, or fails."""
        for few, columns in self._read(ids):
            # A reference may hold pictures of several sizes; only those alike can be measured together.
            alike: dict[tuple[tuple[int, ...], ...], list[int]] = {}
            for row, id in enumerate(few):
                bad = next(((side, why) for side in self.sides if (why := columns[side][row].trouble)), None)
                if bad is None:
                    alike.setdefault(tuple(column[row].pixels.shape for column in columns.values()), []).append(row)
                elif self.allow_corrupt:
                    shard.corrupt[id] = f"{bad[0]}: {bad[1]}"
                else:
                    raise ValueError(bad[1])
            for rows in alike.values():
                names = [few[row] for row in rows]
                shard.ids += names
                for side, column in columns.items():
                    shard.digests.setdefault(side, []).extend(column[row].digest for row in rows)
                pictures = {side: stacked([column[row].pixels for row in rows]) for side, column in columns.items()}
                prompts = [self.prompts[id] for id in names] if self.prompts else None
                yield Batch(names, pictures.get(TRUTH), prompts), pictures

    def _read(self, ids: Sequence[str]) -> Iterator[tuple[Sequence[str], dict[str, list[PictureRead]]]]:
        """Batches of pictures, the next one being read while one is measured."""
        batches = iter([ids[first : first + BATCH] for first in range(0, len(ids), BATCH)])
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:

            def submit(few: Sequence[str]):
                return few, {
                    name: [pool.submit(picture_read, side, id) for id in few] for name, side in self.sides.items()
                }

            waiting = [submit(few) for few in islice(batches, 2)]
            try:
                while waiting:
                    few, submitted = waiting.pop(0)
                    found = {name: [future.result() for future in futures] for name, futures in submitted.items()}
                    waiting += [submit(more) for more in islice(batches, 1)]
                    yield few, found
            finally:
                pool.shutdown(cancel_futures=True)


def picture_read(side: Side, id: str) -> PictureRead:
    """Read one picture and hash its pixels."""
    try:
        pixels = side.read(id)
    except ValueError as error:
        return PictureRead(np.empty(0, np.uint8), b"", str(error))
    digest = hashlib.sha256(f"{pixels.shape}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return PictureRead(pixels, digest.digest())


def stacked(pictures: Sequence[NDArray[np.uint8]]) -> Float[Tensor, "b 3 h w"]:
    """One batch in [-1, 1], on the uint8 grid."""
    return to_tensor(np.stack(pictures))


@dataclass(frozen=True)
class Share:
    """Every `number`-th shard, beginning with `index`, counted from zero."""

    index: int = 0
    number: int = 1

    @classmethod
    def parse(cls, text: str | None) -> Share:
        """`2/4` as a person counts; or RANK and WORLD_SIZE, as torchrun and accelerate set them; or all."""
        if text is None:
            return cls(rank(), world_size())
        index, slash, number = text.partition("/")
        if not (slash and index.isdigit() and number.isdigit() and 1 <= int(index) <= int(number)):
            raise ValueError(f"--shard {text!r} is not a share; write 1/4, 2/4, 3/4, 4/4 for four processes")
        return cls(int(index) - 1, int(number))


def measure(
    plan: Pass, folder: Path, name: str, share: Share, progress: Progress = lambda count: None
) -> Evidence | None:
    """Measure this process's share of what is missing; the evidence if all shards are there in the end, else None.

    Args:
        folder: where `shards/` is.
        name: of the pass, part of its shards' names.
    """
    chunks = plan.chunks()
    paths = [folder / FOLDER / f"{name}-{index:05d}.safetensors" for index in range(len(chunks))]
    keys = [plan.key(ids) for ids in chunks]
    mine = range(share.index, len(chunks), share.number)
    stale = [index for index in mine if paths[index].exists() and key_in(paths[index]) != keys[index]]
    if stale:
        log.warning(
            f"{len(stale)} of {len(mine)} shards in {folder / FOLDER} were made from other pictures, settings or "
            "networks; they are measured again"
        )
    for index in mine:
        if key_in(paths[index]) == keys[index]:
            progress(len(chunks[index]))
        else:
            plan.shard(chunks[index], progress).save(paths[index])
    if any(key_in(path) != key for path, key in zip(paths, keys)):
        return None
    return merge(map(Shard.load, paths), keep_rows=plan.keep_rows)
