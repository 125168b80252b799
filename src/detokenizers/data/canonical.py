"""Pictures as an evaluation wants them: uint8 RGB by one named preparation, or refused because they do not fit.

A kernel or a crop moves a Fréchet distance by more than most papers' gains, so preparations are parts with names that a
protocol spells out, and where a protocol prepares nothing, a picture of another size or format is an error.

path -upright-> RGB -preparation-> uint8 [s s 3] ; header(path) -> what the other files must be like
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from .images import opened, upright

Preparation = Callable[[Image.Image, int], Image.Image]
"""A picture to one of `size` x `size` px."""
PNG = frozenset({"PNG"})


def square_bicubic(picture: Image.Image, size: int) -> Image.Image:
    """Centre square first, then one antialiased bicubic resize: what the rest of this package does."""
    side = min(picture.size)
    square = centre(picture, side)
    return square if side == size else square.resize((size, size), Image.Resampling.BICUBIC)


def short_side(picture: Image.Image, size: int, kernel: Image.Resampling) -> Image.Image:
    """The shorter side to `size`, then the centre: torchvision's Resize and CenterCrop."""
    side = min(picture.size)
    width, height = (int(size * length / side) for length in picture.size)
    resized = picture if side == size else picture.resize((width, height), kernel)
    return centre(resized, size)


def short_side_bicubic(picture: Image.Image, size: int) -> Image.Image:
    return short_side(picture, size, Image.Resampling.BICUBIC)


def short_side_lanczos(picture: Image.Image, size: int) -> Image.Image:
    return short_side(picture, size, Image.Resampling.LANCZOS)


def adm(picture: Image.Image, size: int) -> Image.Image:
    """ADM's crop (Dhariwal & Nichol, 2021): halve with a box while twice too large, then bicubic, then the centre."""
    while min(picture.size) >= 2 * size:
        picture = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX)
    scale = size / min(picture.size)
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC)
    return centre(picture, size)


def centre(picture: Image.Image, side: int) -> Image.Image:
    """The middle square of this side."""
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture if picture.size == (side, side) else picture.crop((left, top, left + side, top + side))


PREPARATIONS: dict[str, Preparation] = {
    "square-bicubic": square_bicubic,
    "short-side-bicubic": short_side_bicubic,
    "short-side-lanczos": short_side_lanczos,
    "adm": adm,
}


class Header(NamedTuple):
    """What the first bytes of a file say."""

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
    """Reads any picture to `size` px; a smaller one is refused, because nothing is enlarged without being asked."""

    preparation: str
    size: int
    formats: frozenset[str] | None = None

    def __call__(self, path: str | Path) -> UInt8[np.ndarray, "s s 3"]:
        picture = upright(path, self.formats)
        if min(picture.size) < self.size:
            raise ValueError(
                f"{path} is {picture.width}x{picture.height} px, but at least {self.size} px are needed; "
                "ask for a smaller size or leave it out"
            )
        return np.asarray(PREPARATIONS[self.preparation](picture, self.size))


@dataclass(frozen=True)
class AnySize:
    """Reads pictures as they are, whatever their size and format; the network's own resize makes them alike."""

    def __call__(self, path: str | Path) -> UInt8[np.ndarray, "h w 3"]:
        return np.asarray(upright(path))


@dataclass(frozen=True)
class AsIs:
    """Reads pictures that are alike, as they are; `like` is what the first of them (or the protocol) is."""

    width: int
    height: int
    formats: frozenset[str] | None = None

    @classmethod
    def alike(cls, first: str | Path, size: int | None, *, png_only: bool) -> AsIs:
        """Demand `size` px, or else what the first file is; and its format."""
        like = header(first)
        formats = PNG if png_only else frozenset({like.format})
        return cls(size or like.width, size or like.height, formats)

    def __call__(self, path: str | Path) -> UInt8[np.ndarray, "h w 3"]:
        picture = upright(path, self.formats)
        if picture.size != (self.width, self.height):
            raise ValueError(
                f"{path} is {picture.width}x{picture.height} px, but this protocol resizes nothing and the pictures "
                f"must all be {self.width}x{self.height} px; draw at that size, or choose a protocol that prepares"
            )
        return np.asarray(picture)
