"""Pictures from disk, always the same way: upright 8-bit RGB, square centre crop, one antialiased bicubic resize.

Every number in this house starts here, so nothing is guessed: a file that is missing, damaged, not an image or too
small is one clear error. Reading is lazy; a folder of a million pictures needs the memory of one batch.

files and folders -find-> (id, path) -read-> uint8 [s s 3] -batches-> ids, images [b 3 s s] in [-1, 1] -save_png->
files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ..checkpoint import atomic
from ..nn.pixels import Rounding, centre_box, quantised

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})


class ImageFile(NamedTuple):
    """A picture on disk; `id` is its path inside the folder it was found in, without the suffix."""

    id: str
    path: Path


class Images(NamedTuple):
    ids: list[str]
    images: Float[Tensor, "b 3 s s"]


def find(*sources: str | Path) -> list[ImageFile]:
    """List the pictures in files and folders (searched in depth), sorted by id within each; ids must be unique."""
    found = [file for source in sources for file in _files(Path(source))]
    first: dict[str, Path] = {}
    for file in found:
        if file.id in first:
            raise ValueError(f"{first[file.id]} and {file.path} would share the id {file.id!r}; rename one of them")
        first[file.id] = file.path
    return found


def _files(source: Path) -> list[ImageFile]:
    if source.is_dir():
        paths = (path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        files = [ImageFile(path.relative_to(source).with_suffix("").as_posix(), path) for path in paths]
        if not files:
            raise ValueError(f"there are no pictures in {source} (looked for {', '.join(sorted(SUFFIXES))})")
        return sorted(files)
    if not source.exists():
        raise ValueError(f"there is no file or folder at {source}")
    return [ImageFile(source.stem, source)]


def read(path: str | Path, size: int, *, smallest: int | None = None) -> UInt8[np.ndarray, "s s 3"]:
    """Read one picture as uint8 RGB, centre-cropped to a square and resized to `size` px.

    Camera rotation is applied and transparency lies on white.

    Args:
        smallest: shortest side accepted; `size` unless given, so that nothing is enlarged without being asked.
    """
    picture = upright(path)
    side, smallest = min(picture.size), smallest or size
    if side < smallest:
        raise ValueError(
            f"{path} is {picture.width}x{picture.height} px, but at least {smallest} px are needed; "
            "ask for a smaller size or leave it out"
        )
    square = picture.crop(centre_box(picture.size, side))
    return np.asarray(square if side == size else square.resize((size, size), Image.Resampling.BICUBIC))


def upright(path: str | Path, formats: frozenset[str] | None = None) -> Image.Image:
    """One picture as 8-bit RGB with its camera's rotation applied and transparency on white, in its own size.

    Args:
        formats: Pillow's names of the formats accepted, `{"PNG"}` for instance; all it can read unless given.
    """
    return _opened(Path(path), formats, lambda image: _on_white(ImageOps.exif_transpose(image)))


def as_stored(path: str | Path, formats: frozenset[str] | None = None) -> Image.Image:
    """One picture as `Image.open(path).convert("RGB")` has it: rotation is not applied, transparency is dropped."""
    return _opened(Path(path), formats, lambda image: image.convert("RGB"))


Load = Literal["upright-on-white", "pil-rgb"]
LOADERS: dict[Load, Callable[[str | Path, frozenset[str] | None], Image.Image]] = {
    "upright-on-white": upright,
    "pil-rgb": as_stored,
}
"""What becomes of a file's rotation and transparency: ours, and what the field's loaders do."""


def _opened(path: Path, formats: frozenset[str] | None, rgb: Callable[[Image.Image], Image.Image]) -> Image.Image:
    try:
        with Image.open(path) as image:
            if formats is not None and image.format not in formats:
                raise ValueError(
                    f"{path} is a {image.format} file, and only {' or '.join(sorted(formats))} is allowed here; "
                    "lossy formats change every distance"
                )
            image.load()
            if image.mode.startswith(("I", "F")):
                raise ValueError(
                    f"{path} has {image.mode} pixels, not 8 bits per channel; convert it to an ordinary PNG first"
                )
            return rgb(image)
    except FileNotFoundError:
        raise ValueError(f"there is no picture at {path}") from None
    except UnidentifiedImageError:
        raise ValueError(f"{path} is not a picture in a format Pillow can read") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path} is too large to read safely: {error}") from None
    except (OSError, SyntaxError, EOFError) as error:
        raise ValueError(f"{path} cannot be read ({error}); was its download or copy cut off?") from None


def _on_white(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def batches(
    files: Iterable[ImageFile], size: int, batch_size: int = 32, *, smallest: int | None = None
) -> Iterator[Images]:
    """Read pictures batch by batch, as `(ids, images [b 3 size size] in [-1, 1])`; only one batch is in memory."""
    ids: list[str] = []
    pixels: list[NDArray[np.uint8]] = []
    for file in files:
        ids.append(file.id)
        pixels.append(read(file.path, size, smallest=smallest))
        if len(ids) == batch_size:
            yield Images(ids, to_tensor(np.stack(pixels)))
            ids, pixels = [], []
    if ids:
        yield Images(ids, to_tensor(np.stack(pixels)))


def to_tensor(pixels: UInt8[np.ndarray, "b h w 3"]) -> Float[Tensor, "b 3 h w"]:
    """Levels 0..255 to [-1, 1]."""
    return torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pixels(images: Float[Tensor, "b 3 h w"], rounding: Rounding = "nearest") -> UInt8[np.ndarray, "b h w 3"]:
    """[-1, 1] to levels 0..255; overshoot is clipped, NaN is an error."""
    return quantised(images, rounding).permute(0, 2, 3, 1).cpu().contiguous().numpy()


def to_pil(image: Float[Tensor, "3 h w"]) -> Image.Image:
    return Image.fromarray(to_pixels(image[None])[0])


def save_png(
    path: str | Path, image: Float[Tensor, "3 h w"] | Image.Image, notes: Mapping[str, Any] | None = None
) -> None:
    """Write a PNG, whole or not at all; `notes` (prompt, seed, ...) travel inside it and `notes_of` reads them."""
    picture = image if isinstance(image, Image.Image) else to_pil(image)
    chunks = PngInfo()
    for key, value in (notes or {}).items():
        chunks.add_itxt(key, json.dumps(value, ensure_ascii=False))
    with atomic(path) as temporary:
        picture.save(temporary, format="PNG", pnginfo=chunks)


def notes_of(path: str | Path) -> dict[str, Any]:
    """The notes `save_png` wrote into one of our own pictures."""
    try:
        with Image.open(path) as image:
            return {str(key): json.loads(value) for key, value in image.info.items() if isinstance(value, str)}
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} carries no notes of ours ({error})") from None
