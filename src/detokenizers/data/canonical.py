"""Pictures as an evaluation wants them: uint8 RGB by one named preparation, or refused because they do not fit.

A kernel or a crop moves a Fréchet distance by more than most papers' gains, so preparations are parts with names that a
protocol spells out, and where a protocol prepares nothing, a picture of another size or format is an error.

path -a loader-> RGB -preparation-> uint8 [s s 3] ; header(path) -> what the other files must be like
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from ..nn.pixels import centre_box
from .images import LOADERS, Load

Preparation = Callable[[Image.Image, int], Image.Image]
"""A picture to one of `size` x `size` px."""
PNG = frozenset({"PNG"})


def square_bicubic(picture: Image.Image, size: int) -> Image.Image:
    """Centre square first, then one antialiased bicubic resize: what the rest of this package does."""
    side = min(picture.size)
    square = picture.crop(centre_box(picture.size, side))
    return square if side == size else square.resize((size, size), Image.Resampling.BICUBIC)


def short_side(picture: Image.Image, size: int, kernel: Image.Resampling) -> Image.Image:
    """The shorter side to `size`, then the centre: torchvision's Resize and CenterCrop."""
    side = min(picture.size)
    width, height = (int(size * length / side) for length in picture.size)
    resized = picture if side == size else picture.resize((width, height), kernel)
    return resized.crop(centre_box(resized.size, size))


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
    return picture.crop(centre_box(picture.size, size, "floor"))


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
    try:
        with Image.open(path) as image:
            return Header(image.format or "unknown", *image.size)
    except FileNotFoundError:
        raise ValueError(f"there is no picture at {path}") from None
    except UnidentifiedImageError:
        raise ValueError(f"{path} is not a picture in a format Pillow can read") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error}); was its download or copy cut off?") from None


@dataclass(frozen=True)
class Prepared:
    """Reads any picture to `size` px; a smaller one is refused, because nothing is enlarged without being asked."""

    preparation: str
    size: int
    formats: frozenset[str] | None = None
    load: Load = "upright-on-white"

    def __call__(self, path: str | Path) -> UInt8[np.ndarray, "s s 3"]:
        picture = LOADERS[self.load](path, self.formats)
        if min(picture.size) < self.size:
            raise ValueError(
                f"{path} is {picture.width}x{picture.height} px, but at least {self.size} px are needed; "
                "ask for a smaller size or leave it out"
            )
        return np.asarray(PREPARATIONS[self.preparation](picture, self.size))


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
