"""Pictures at the size that is wanted: uint8 RGB by one named preparation, or refused because they do not fit.

All verbs have one rule, `RULE`: the shorter side becomes `size`, up or down, by one antialiased bicubic resize, and the
centre is cut out. A picture is enlarged where it is too small, because real data sets hold small ones and a decoder
must be measured on the crops it was trained on; `smallest` refuses them instead. Protocols may name another
preparation: a kernel or a crop moves a Fréchet distance by more than most papers' gains. Where a protocol prepares
nothing, a picture of another size or format is an error.

path -a loader-> RGB -preparation-> uint8 [s s 3] -batches-> ids, images [b 3 s s] in [-1, 1], one batch in memory
header(path) -> what the other files must be like
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ..pixels import centre_box, to_tensor
from .images import LOADERS, ImageFile, Images, Load, opened

Preparation = Callable[[Image.Image, int], Image.Image]
"""A picture to one of `size` x `size` px."""
PNG = frozenset({"PNG"})
LARGEST = 89_478_485
"""Pixels of an enlarged picture, and Pillow's own limit for files: a strip of 1 x 10,000 px is no picture."""


def short_side(picture: Image.Image, size: int, kernel: Image.Resampling) -> Image.Image:
    """The shorter side to `size`, then the centre: torchvision's Resize and CenterCrop."""
    side = min(picture.size)
    width, height = (int(size * length / side) for length in picture.size)
    resized = picture if side == size else picture.resize((width, height), kernel)
    return resized.crop(centre_box(resized.size, size))


def adm(picture: Image.Image, size: int) -> Image.Image:
    """ADM's crop (Dhariwal & Nichol, 2021): halve with a box while twice too large, then bicubic, then the centre."""
    while min(picture.size) >= 2 * size:
        picture = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX)
    scale = size / min(picture.size)
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC)
    return picture.crop(centre_box(picture.size, size, "floor"))


PREPARATIONS: dict[str, Preparation] = {
    "short-side-bicubic": partial(short_side, kernel=Image.Resampling.BICUBIC),
    "short-side-lanczos": partial(short_side, kernel=Image.Resampling.LANCZOS),
    "adm": adm,
}
RULE = "short-side-bicubic"
"""The preparation of every verb, and of every protocol whose source names no other."""


class Header(NamedTuple):
    """What the first bytes of a file state."""

    format: str
    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height} px {self.format}"


def header(path: str | Path) -> Header:
    """Format and size of a picture, without decoding it."""
    with opened(path) as image:
        return Header(image.format or "unknown", *image.size)


@dataclass(frozen=True)
class Prepared:
    """Reads any picture to `size` px, smaller ones enlarged unless their shorter side is below `smallest`."""

    preparation: str
    size: int
    formats: frozenset[str] | None = None
    smallest: int = 1
    load: Load = "upright-on-white"

    def __call__(self, path: str | Path) -> UInt8[np.ndarray, "s s 3"]:
        picture = LOADERS[self.load](path, self.formats)
        short, long = sorted(picture.size)
        if short < self.smallest:
            raise ValueError(
                f"{path} is {picture.width}x{picture.height} px, but its shorter side must have {self.smallest} px; "
                "leave it out, or lower `smallest`, and it is enlarged"
            )
        if short < self.size and self.size**2 * long > short * LARGEST:
            raise ValueError(
                f"{path} is {picture.width}x{picture.height} px, and enlarged to {self.size} px on the shorter side "
                f"it would have more than {LARGEST:,} pixels; leave it out"
            )
        return np.asarray(PREPARATIONS[self.preparation](picture, self.size))


def batches(files: Sequence[ImageFile], size: int, batch_size: int = 32, *, smallest: int = 1) -> Iterator[Images]:
    """Read pictures batch by batch, as `(ids, images [b 3 size size] in [-1, 1])`; only one batch is in memory."""
    prepared = Prepared(RULE, size, smallest=smallest)
    for first in range(0, len(files), batch_size):
        some = files[first : first + batch_size]
        yield Images([file.id for file in some], to_tensor(np.stack([prepared(file.path) for file in some])))


@dataclass(frozen=True)
class AnySize:
    """Reads pictures as they are, whatever their size and format; the network's own resize makes them alike."""

    load: Load = "upright-on-white"

    def __call__(self, path: str | Path) -> UInt8[np.ndarray, "h w 3"]:
        return np.asarray(LOADERS[self.load](path, None))


@dataclass(frozen=True)
class AsIs:
    """Reads pictures that are alike, as they are; `like` is what the first of them (or the protocol) is."""

    width: int
    height: int
    formats: frozenset[str] | None = None
    load: Load = "upright-on-white"

    @classmethod
    def alike(cls, first: str | Path, size: int | None, *, png_only: bool, load: Load = "upright-on-white") -> AsIs:
        """Demand `size` px, or else what the first file is; and its format."""
        like = header(first)
        formats = PNG if png_only else frozenset({like.format})
        return cls(size or like.width, size or like.height, formats, load)

    def __call__(self, path: str | Path) -> UInt8[np.ndarray, "h w 3"]:
        picture = LOADERS[self.load](path, self.formats)
        if picture.size != (self.width, self.height):
            raise ValueError(
                f"{path} is {picture.width}x{picture.height} px, but this protocol resizes nothing and the pictures "
                f"must all be {self.width}x{self.height} px; draw at that size, or choose a protocol that prepares"
            )
        return np.asarray(picture)
