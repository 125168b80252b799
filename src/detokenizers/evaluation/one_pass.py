"""One pass: every picture is read once and shown to everybody who was asked; what they saw is a shard.

Ids are dealt into shards of a fixed number, and a shard's numbers are a function of its pictures alone, so processes
can share them out in any way. Reading goes on in threads while the networks look.

ids -shards-> each: originals and every decoder's pictures -levels, hashed-> features, columns -> Shard
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from ..pixels import to_tensor
from .measures import Batch, Measure
from .networks import Networks
from .shards import Shard

BATCH = 32
TRUTH = "reference"
"""The name of the real pictures among the sides of a pass."""
FORMAT = 1
"""Grows when shards made before cannot be read as ones made now."""


class Side(Protocol):
    """A set of pictures by id: a folder, or scenes."""

    def read(self, id: str) -> UInt8[np.ndarray, "h w 3"]: ...
    def stamp(self, id: str) -> str:
        """Changes when the picture does: a file's content, a scene's settings and seed."""
        ...


class Looked(NamedTuple):
    """A picture and its hash, or why there is none."""

    pixels: NDArray[np.uint8] | None
    digest: bytes
    trouble: str | None = None


@dataclass(frozen=True)
class Pass:
    """What is to be looked at, by whom.

    Args:
        ids: in a fixed order; the shards are consecutive runs of them.
        sides: decoder name -> pictures; `TRUTH` names the originals where there are any.
        extractors, measures: who looks at every picture.
        keep_rows: whether shards keep features rather than moments.
        settings: what else the numbers depend on (the protocol, say), to be refused when it changes.
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
        if len(set(self.ids)) < len(self.ids):
            again = next(id for place, id in enumerate(self.ids) if id in self.ids[:place])
            raise ValueError(f"the id {again!r} came twice; every image must be counted exactly once")

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

    def shard(self, ids: Sequence[str], looked_at: Callable[[int], object] = lambda count: None) -> Shard:
        """Look at these pictures; `looked_at` hears how many more are done."""
        shard = Shard(self.key(ids))
        rows: dict[tuple[str, str], list[Tensor]] = {}
        for batch, pictures in self._batches(ids, shard):
            for side, images in pictures.items():
                for name in self.extractors:
                    rows.setdefault((side, name), []).append(self.networks.extractor(name).features(images))
                if side != TRUTH:
                    for measure in self.measures:
                        shard.add(side, measure.columns(batch, images, self.networks))
            looked_at(len(batch.ids))
        for (side, name), parts in rows.items():
            extractor = self.networks.extractor(name)
            shard.keep(side, name, torch.cat(parts), extractor.identity, as_rows=self.keep_rows)
        return shard

    def _batches(self, ids: Sequence[str], shard: Shard) -> Iterator[tuple[Batch, dict[str, Float[Tensor, "b 3 h w"]]]]:
        """Pictures of whole batches; what cannot be read on one side is left out on all, or fails."""
        for few, looks in self._read(ids):
            good: list[int] = []
            for place, id in enumerate(few):
                troubles = {side: looks[side][place].trouble for side in self.sides}
                bad = next(((side, why) for side, why in troubles.items() if why), None)
                if bad is None:
                    good.append(place)
                elif self.allow_corrupt:
                    shard.corrupt[id] = f"{bad[0]}: {bad[1]}"
                else:
                    raise ValueError(bad[1])
            # A reference may hold pictures of several sizes; only those alike can be looked at together.
            alike: dict[tuple[tuple[int, ...], ...], list[int]] = {}
            for place in good:
                shapes = tuple(required(column[place]).shape for column in looks.values())
                alike.setdefault(shapes, []).append(place)
            for group in alike.values():
                names = [few[place] for place in group]
                shard.ids += names
                for side, column in looks.items():
                    shard.digests.setdefault(side, []).extend(column[place].digest for place in group)
                pictures = {side: stacked([required(column[p]) for p in group]) for side, column in looks.items()}
                asked = [self.prompts[id] for id in names] if self.prompts else None
                yield Batch(names, pictures.get(TRUTH), asked), pictures

    def _read(self, ids: Sequence[str]) -> Iterator[tuple[Sequence[str], dict[str, list[Looked]]]]:
        """Batches of pictures, the next one being read while one is looked at."""
        batches = iter([ids[first : first + BATCH] for first in range(0, len(ids), BATCH)])
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:

            def ask(few: Sequence[str]):
                return few, {name: [pool.submit(look, side, id) for id in few] for name, side in self.sides.items()}

            waiting = [ask(few) for few in islice(batches, 2)]
            try:
                while waiting:
                    few, asked = waiting.pop(0)
                    found = {name: [future.result() for future in futures] for name, futures in asked.items()}
                    waiting += [ask(more) for more in islice(batches, 1)]
                    yield few, found
            finally:
                pool.shutdown(cancel_futures=True)


def look(side: Side, id: str) -> Looked:
    """Read one picture and hash it as it is looked at."""
    try:
        pixels = side.read(id)
    except ValueError as error:
        return Looked(None, b"", str(error))
    digest = hashlib.sha256(f"{pixels.shape}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return Looked(pixels, digest.digest())


def required(one: Looked) -> NDArray[np.uint8]:
    """The pixels of a picture that could be read."""
    assert one.pixels is not None
    return one.pixels


def stacked(pictures: Sequence[NDArray[np.uint8]]) -> Float[Tensor, "b 3 h w"]:
    """One batch in [-1, 1], on the uint8 grid."""
    return to_tensor(np.stack(pictures))
