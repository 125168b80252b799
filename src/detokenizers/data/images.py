"""Pictures from disk, always the same way: upright 8-bit RGB, square centre crop, one antialiased bicubic resize.

Every number in this house starts here, so nothing is guessed: a file that is missing, damaged, not an image or too
small is one clear error. Reading is lazy; a folder of a million pictures needs the memory of one batch.

files and folders -find-> (id, path) -read-> uint8 [s s 3] -batches-> ids, images [b 3 s s] in [-1, 1] -save_png->
files.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from mimetypes import guess_type
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ..checkpoint import atomic
from .marks import MANIFEST, is_manifest, is_sheet

SUFFIXES = frozenset(
    {".apng", ".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"}
    | {".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"}
)
"""Formats that Pillow reads as one picture."""


class ImageFile(NamedTuple):
    """A picture on disk; `id` is its path inside the folder it was found in, without the suffix."""

    id: str
    path: Path


class Images(NamedTuple):
    ids: list[str]
    images: Float[Tensor, "b 3 s s"]


def find(*sources: str | Path) -> list[ImageFile]:
    """List the pictures in files and folders (searched in depth), sorted by id within each; ids must be unique.

    Linked folders are entered, each folder once. What is no picture of the folder's own is left out: hidden files and
    folders, leftovers of killed runs, `__MACOSX`, what our own verbs drew, formats that cannot be read. One line on
    stderr says how many pictures there are and what was left out, if anything was.
    """
    found = [file for source in sources for file in _files(Path(source))]
    first: dict[str, Path] = {}
    for file in found:
        if file.id in first:
            raise ValueError(f"{first[file.id]} and {file.path} would share the id {file.id!r}; rename one of them")
        first[file.id] = file.path
    return found


def _files(source: Path) -> list[ImageFile]:
    if not source.is_dir():
        if not source.exists():
            raise ValueError(f"there is no file or folder at {source}")
        return [ImageFile(source.stem, source)]
    walk = _Walk(source)
    left_out = "; ".join(
        f"{len(names)} {why} ({', '.join(sorted(names)[:2])}{', ...' if len(names) > 2 else ''})"
        for why, names in walk.left_out.items()
    )
    if not walk.files:
        looked = f"left out: {left_out}" if left_out else f"looked for {', '.join(sorted(SUFFIXES))}"
        raise ValueError(f"there are no pictures in {source} ({looked})")
    if left_out:
        count = f"{len(walk.files)} picture{'s' * (len(walk.files) != 1)}"
        print(f"detok: {count} in {source}; left out: {left_out}", file=sys.stderr)
    return sorted(walk.files)


class _Walk:
    """One walk through a folder; no file is opened or asked for its state unless its name calls for it."""

    def __init__(self, source: Path) -> None:
        self.source, self.files, self.left_out = source, list[ImageFile](), dict[str, list[str]]()
        # Linked folders come last, so that a picture has the name of its own place wherever it has one.
        self.folders, self.linked, self.entered = [source], list[Path](), set[tuple[int, int]]()
        while self.folders or self.linked:
            self._enter(self.folders.pop() if self.folders else self.linked.pop(0))

    def _enter(self, folder: Path) -> None:
        try:
            state = folder.stat()
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            self._leave_out(f"unreadable ({error.strerror})", folder)
            return
        if (state.st_dev, state.st_ino) in self.entered:
            self._leave_out("links to folders already counted", folder)
            return
        self.entered.add((state.st_dev, state.st_ino))
        record = next((folder / MANIFEST for entry in entries if entry.name == MANIFEST), None)
        if record and folder != self.source and is_manifest(record):
            self._leave_out("drawn by detok", folder)
            return
        for entry in entries:
            path, is_picture = folder / entry.name, Path(entry.name).suffix.lower() in SUFFIXES
            is_folder = entry.is_dir()
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                if is_picture or is_folder:
                    self._leave_out("hidden", path)
            elif is_folder:
                (self.linked if entry.is_symlink() else self.folders).append(path)
            elif is_picture and is_sheet(path):
                self._leave_out("contact sheets of detok", path)
            elif is_picture and entry.is_file():
                self.files.append(ImageFile(path.relative_to(self.source).with_suffix("").as_posix(), path))
            elif is_picture:
                self._leave_out("links to nothing", path)
            elif (guess_type(entry.name)[0] or "").startswith("image/"):
                self._leave_out("of formats that are not read", path)

    def _leave_out(self, why: str, path: Path) -> None:
        self.left_out.setdefault(why, []).append(path.relative_to(self.source).as_posix())


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
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.crop((left, top, left + side, top + side))
    return np.asarray(square if side == size else square.resize((size, size), Image.Resampling.BICUBIC))


def upright(path: str | Path, formats: frozenset[str] | None = None) -> Image.Image:
    """One picture as 8-bit RGB with its camera's rotation applied and transparency on white, in its own size.

    Args:
        formats: Pillow's names of the formats accepted, `{"PNG"}` for instance; all it can read unless given.
    """
    path = Path(path)
    try:
        with Image.open(path) as image:
            if formats is not None and image.format not in formats:
                raise ValueError(
                    f"{path} is a {image.format} file, and only {' or '.join(sorted(formats))} is allowed here; "
                    "lossy formats change every distance"
                )
            image.load()
            return _rgb(ImageOps.exif_transpose(image), path)
    except FileNotFoundError:
        raise ValueError(f"there is no picture at {path}") from None
    except UnidentifiedImageError:
        raise ValueError(f"{path} is not a picture in a format Pillow can read") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path} is too large to read safely: {error}") from None
    except (OSError, SyntaxError, EOFError) as error:
        raise ValueError(f"{path} cannot be read ({error}); was its download or copy cut off?") from None


def _rgb(image: Image.Image, path: Path) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"{path} has {image.mode} pixels, not 8 bits per channel; convert it to an ordinary PNG first")
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


def to_pixels(images: Float[Tensor, "b 3 h w"]) -> UInt8[np.ndarray, "b h w 3"]:
    """[-1, 1] to the nearest of the levels 0..255; overshoot is clipped, NaN is an error."""
    if not torch.isfinite(images).all():
        raise ValueError("this image holds NaN or infinity; the decoder that drew it diverged")
    levels = ((images.detach().double() + 1) * 127.5).round().clamp(0, 255)
    return levels.to("cpu", torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


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
