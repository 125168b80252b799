"""Where training images come from: the embedded world, a folder of your own, or what a library streams. Rows have numbers;
a row's image never changes, so a batch is a pure function of its row numbers.

WorldImages | FolderImages | WebdatasetImages | DatasetImages -open-> Source
rows -images-> [b 3 h w] in [-1, 1] ; rows -captions-> texts
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from .. import tars
from ..config import Config
from ..digests import sha256s_of
from ..pixels import to_levels, to_tensor
from ..texts import text_in
from .canonical import RULE, Prepared
from .encoded import SHARD, encoded
from .images import find
from .source import Source
from .streams import Dataset, Stream, Webdataset, kept
from .world.scenes import caption
from .world.world import Split, World, WorldConfig


class Scenes:
    """The first `count` scenes of a split of the embedded world."""

    def __init__(self, world: World, count: int, split: Split = "train") -> None:
        self.world, self.count = world, count
        self.split: Split = split

    def __len__(self) -> int:
        return self.count

    def images(self, rows: Sequence[int]) -> Float[Tensor, "b 3 h w"]:
        return to_tensor(self.world.batch(rows, self.split)[0])

    def captions(self, rows: Sequence[int]) -> list[str]:
        return [caption(self.world.truth(row, self.split)) for row in rows]

    def fingerprint(self) -> str:
        return sha256(f"{self.world.config.fingerprint()} {self.split} {self.count}".encode()).hexdigest()


class KeptScenes(Scenes):
    """The same scenes, rendered once into a folder by as many processes as there are cores, and read from there."""

    def __init__(self, world: World, count: int, folder: Path) -> None:
        super().__init__(world, count)
        whole = Scenes(world, -(-count // SHARD) * SHARD)  # whole files, which runs on other counts share
        shards, workers = folder / f"scenes-{world.config.fingerprint()[:16]}", (os.cpu_count() or 1) - 1
        self.levels = encoded(whole, lambda images, _: {"levels": _levels(images)}, shards, workers=workers)

    def images(self, rows: Sequence[int]) -> Float[Tensor, "b 3 h w"]:
        return to_tensor(self.levels[rows]["levels"].numpy())


class Folder:
    """All images below a folder, prepared by the rule of all verbs; captions are `NAME.txt` beside."""

    def __init__(self, path: str, size: int, smallest: int = 1) -> None:
        self.files, self.read = find(path), Prepared(RULE, size, smallest=smallest)

    def __len__(self) -> int:
        return len(self.files)

    def images(self, rows: Sequence[int]) -> Float[Tensor, "b 3 h w"]:
        return to_tensor(np.stack([self.read(self.files[row].path) for row in rows]))

    def captions(self, rows: Sequence[int]) -> list[str]:
        texts = [self.files[row].path.with_suffix(".txt") for row in rows]
        if missing := [path for path in texts if not tars.exists(path)]:
            raise ValueError(f"this needs captions, but there is no {missing[0]}; put a text file beside every image")
        return [text_in(path).strip() for path in texts]

    def fingerprint(self) -> str:
        """Of names, contents, captions and the preparation: any change gives another one, a copy elsewhere the same.

        Files are read in full once and then remembered by size, inode and times (`digests.py`).
        """
        digest = sha256(f"{self.read}".encode())
        beside = [path for file in self.files if tars.exists(path := file.path.with_suffix(".txt"))]
        hashes = sha256s_of([*(file.path for file in self.files), *beside])
        for name, found in zip([*(file.id for file in self.files), *(path.name for path in beside)], hashes):
            digest.update(f"{name} {found}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()


class WorldImages(Config):
    """Scenes of the embedded world."""

    kind: Literal["world"] = "world"
    world: WorldConfig = WorldConfig()
    count: int = Field(default=32768, ge=1)
    kept: str | None = None
    """Folder that keeps them once they are rendered, for all runs; without one they are rendered when they are needed."""

    def open(self) -> Source:
        world = World(self.world)
        return KeptScenes(world, self.count, Path(self.kept)) if self.kept else Scenes(world, self.count)

    def held_out(self, count: int) -> Source | None:
        return Scenes(World(self.world), count, "validation")


class FolderImages(Config):
    """A folder of images, e.g. ImageNet's train folder, or of webdataset shards (NAME.jpg and NAME.txt in tars)."""

    kind: Literal["folder"] = "folder"
    path: str
    size: int = Field(ge=8)
    """Side in pixels: the shorter side is resized to it, up or down, and the centre is cut out."""
    smallest: int = Field(default=1, ge=1)
    """Refuse pictures whose shorter side has fewer pixels; at 1 none is refused, and small ones are enlarged."""
    held_out_path: str | None = None
    """A folder of other images, whose loss is logged beside that of these."""

    def open(self) -> Source:
        return Folder(self.path, self.size, self.smallest)

    def held_out(self, count: int) -> Source | None:
        """All of them; `count` is how many will be used."""
        return Folder(self.held_out_path, self.size, self.smallest) if self.held_out_path else None


class StreamedImages(Config):
    """Pictures that a library reads as a stream, kept once in `copies` and from then on a folder."""

    size: int = Field(ge=8)
    """Side in pixels, as of a folder's."""
    smallest: int = Field(default=1, ge=1)
    """Refuse pictures whose shorter side has fewer pixels."""
    copies: str = "out/cache/pictures"
    """Where they are kept, as they were stored."""

    def kept(self, stream: Stream) -> Source:
        return Folder(str(kept(stream, Path(self.copies))), self.size, self.smallest)


class WebdatasetImages(StreamedImages):
    """Webdataset shards behind paths, addresses or commands; those that lie in a folder can be read as `folder` too."""

    kind: Literal["webdataset"] = "webdataset"
    shards: str
    """As webdataset writes them: `https://host/train-{0000..0099}.tar`, `pipe:aws s3 cp s3://...`."""
    caption: str = "txt"
    """Suffix of the captions."""
    held_out_shards: str | None = None
    """Shards of other images, whose loss is logged beside that of these."""

    def open(self) -> Source:
        return self.kept(Webdataset(self.shards, self.caption))

    def held_out(self, count: int) -> Source | None:
        return self.kept(Webdataset(self.held_out_shards, self.caption)) if self.held_out_shards else None


class DatasetImages(StreamedImages):
    """A data set of the Hugging Face Hub, or files in one of its formats (`parquet`, `imagefolder`, `webdataset`)."""

    kind: Literal["dataset"] = "dataset"
    name: str
    """A Hub id, or a format with `files`."""
    files: str | None = None
    """Which files, if not all: a path or pattern."""
    revision: str | None = None
    """A commit of the Hub repository; name one, so that a later start reads the same pictures."""
    split: str = "train"
    image: str = "image"
    """The column of the pictures."""
    caption: str = ""
    """The column of the captions, if there is one."""
    held_out_split: str | None = None
    """A split of other images, whose loss is logged beside that of these."""

    def open(self) -> Source:
        return self._split(self.split)

    def held_out(self, count: int) -> Source | None:
        return self._split(self.held_out_split) if self.held_out_split else None

    def _split(self, split: str) -> Source:
        return self.kept(Dataset(self.name, self.files, self.revision, split, self.image, self.caption))


ImageSource = Annotated[WorldImages | FolderImages | WebdatasetImages | DatasetImages, Field(discriminator="kind")]


def shuffled_rows(part: int, size: int, count: int) -> list[int]:
    """The rows of batch `part` when `count` rows are walked in a new order every epoch; a pure function."""
    positions = (divmod(index, count) for index in range(part * size, (part + 1) * size))
    return [int(_order(epoch, count)[position]) for epoch, position in positions]


@lru_cache(maxsize=2)
def _order(epoch: int, count: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(epoch))


def _levels(images: Float[Tensor, "b 3 h w"]) -> Tensor:
    return torch.from_numpy(to_levels(images))
