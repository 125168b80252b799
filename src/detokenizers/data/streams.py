"""Pictures that a library reads as a stream (webdataset, Hugging Face `datasets`), kept once in tars of our own.

Training walks through pictures in a new order every epoch and goes on exactly where it was; a stream can do neither. So
each of its shards is read once, forward, and what it holds is kept as it is, undecoded, a block at a time. Killed, the
same command goes on with the next block; several processes share the shards.

Stream.read(shard, skip) -> (suffix, bytes, caption) .. -kept-> FOLDER/00000-0000.tar .. -> as a folder of pictures
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ..checkpoint import atomic, write_text
from ..device import rank, world_size
from ..peers import Peers
from ..tars import SUFFIX, add
from .images import SUFFIXES

BLOCK = 2048
"""Pictures of one tar."""


class Row(NamedTuple):
    """A picture as it was stored, and what it shows."""

    suffix: str
    data: bytes
    caption: str | None


class Stream(Protocol):
    """Numbered shards, each read forward by the library that knows them."""

    name: str
    """All that decides what is read."""

    @property
    def shards(self) -> int: ...
    def read(self, shard: int, skip: int) -> Iterator[Row]: ...


class Webdataset:
    """Tars behind paths or addresses (`pictures-{0000..0099}.tar`, `pipe:...`), read by the package webdataset."""

    def __init__(self, urls: str, caption: str) -> None:
        self.library, self.caption = _library("webdataset"), caption
        self.urls: list[str] = self.library.shardlists.expand_urls(urls)
        self.name = f"webdataset {self.urls} {caption}"

    @property
    def shards(self) -> int:
        return len(self.urls)

    def read(self, shard: int, skip: int) -> Iterator[Row]:
        samples = self.library.WebDataset([self.urls[shard]], shardshuffle=False, nodesplitter=None, empty_check=False)
        for sample in islice(samples, skip, None):
            for name in sample:
                if f".{name}" in SUFFIXES:
                    caption = sample.get(self.caption)
                    yield Row(f".{name}", sample[name], None if caption is None else caption.decode())
                    break


class Dataset:
    """A split of a data set on the Hugging Face Hub or in files, streamed by the package datasets."""

    def __init__(
        self, name: str, files: str | None, revision: str | None, split: str, image: str, caption: str
    ) -> None:
        library = _library("datasets")
        found = library.load_dataset(name, data_files=files, revision=revision, split=split, streaming=True)
        for column in (image, *([caption] if caption else ())):
            if column not in (found.column_names or [column]):
                raise ValueError(f"{name} has no column {column!r} but {', '.join(found.column_names)}")
        self.rows = found.cast_column(image, library.Image(decode=False))
        self.image, self.caption = image, caption
        self.name = f"dataset {name} {files} {revision} {split} {image} {caption}"

    @property
    def shards(self) -> int:
        return self.rows.num_shards

    def read(self, shard: int, skip: int) -> Iterator[Row]:
        for row in self.rows.shard(num_shards=self.shards, index=shard).skip(skip):
            stored = row[self.image]
            suffix = Path(stored["path"] or "").suffix.lower()
            # Pictures are known by their content; a suffix only says that a file is one.
            yield Row(suffix if suffix in SUFFIXES else ".png", _bytes(stored), row.get(self.caption))


def kept(stream: Stream, copies: Path) -> Path:
    """The folder with all pictures of a stream, read once.

    Raises:
        ValueError: a shard cannot be read, or another process died.
    """
    folder = copies / hashlib.sha256(stream.name.encode()).hexdigest()[:16]
    marks = [folder / f"{shard:05d}.done" for shard in range(stream.shards)]
    with Peers(folder) as peers:
        for shard in range(rank(), stream.shards, world_size()):
            if not marks[shard].exists():
                _keep(stream, shard, folder)
                write_text(marks[shard], "")
        peers.wait(lambda: all(mark.exists() for mark in marks))
    return folder


def _keep(stream: Stream, shard: int, folder: Path) -> None:
    """Keep the blocks of a shard that are not there yet."""
    block = 0
    while (folder / _name(shard, block)).exists():
        block += 1
    rows = _rows(stream, shard, block * BLOCK)
    for first in rows:
        with atomic(folder / _name(shard, block)) as temporary, tarfile.open(temporary, "w") as tar:
            for index, row in enumerate(chain([first], islice(rows, BLOCK - 1)), block * BLOCK):
                add(tar, f"{shard:05d}-{index:08d}{row.suffix}", row.data)
                if row.caption is not None:
                    add(tar, f"{shard:05d}-{index:08d}.txt", row.caption.encode())
        block += 1


def _rows(stream: Stream, shard: int, skip: int) -> Iterator[Row]:
    try:
        yield from stream.read(shard, skip)
    except Exception as error:  # of whatever kind the library's readers raise
        raise ValueError(f"shard {shard} of {stream.name} cannot be read: {error}") from None


def _name(shard: int, block: int) -> str:
    return f"{shard:05d}-{block:04d}{SUFFIX}"


def _bytes(stored: dict[str, Any]) -> bytes:
    """A picture that the data set holds, or only names."""
    if stored["bytes"] is not None:
        return stored["bytes"]
    with _library("fsspec").open(stored["path"], "rb") as file:
        return file.read()


def _library(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError:
        raise ValueError(f"these pictures are read by {name}; `pip install 'detokenizers[data]'`") from None
