"""Pictures from disk and back: which there are, upright 8-bit RGB in their own size, and levels to tensors.

Every number in this house starts here, so nothing is guessed: a file that is missing, damaged or not an image is one
clear error. How a picture becomes one of a given size is decided in canonical.py.

files and folders -find-> (id, path) -upright-> RGB ; images [-1, 1] -save_png-> file
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from mimetypes import guess_type
from pathlib import Path
from typing import Any, Literal, NamedTuple

from jaxtyping import Float
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from .. import tars
from ..checkpoint import atomic
from ..pixels import to_levels
from ..texts import json_of, require_whole
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

    A tar (webdataset) is a folder whose name is no part of an id: the same pictures have the same ids in tars and loose.
    Linked folders are entered, each folder once. What is no picture of the folder's own is left out: hidden files and
    folders, leftovers of killed runs, `__MACOSX`, what our own verbs drew, formats that cannot be read. One line on
    stderr counts the pictures and what was left out, if anything was.
    """
    found = [file for source in sources for file in _files(Path(source))]
    first: dict[str, Path] = {}
    for file in found:
        require_whole(str(file.path), "the file name")
        if file.id in first:
            raise ValueError(f"{first[file.id]} and {file.path} would share the id {file.id!r}; rename or drop one")
        first[file.id] = file.path
    return found


def _files(source: Path) -> list[ImageFile]:
    if not source.is_dir():
        if not source.exists():
            raise ValueError(f"there is no file or folder at {source}")
        if not source.is_file():
            raise ValueError(f"{source} is neither a file nor a folder")
        if source.suffix != tars.SUFFIX:
            return [ImageFile(source.stem, source)]
    walk = _Walk(source)
    left_out = "; ".join(
        f"{len(names)} {why} ({', '.join(sorted(names)[:2])}{', ...' if len(names) > 2 else ''})"
        for why, names in walk.left_out.items()
    )
    if not walk.files:
        reason = f"left out: {left_out}" if left_out else f"searched for {', '.join(sorted(SUFFIXES))}"
        raise ValueError(f"there are no pictures in {source} ({reason})")
    if left_out:
        count = f"{len(walk.files)} picture{'s' * (len(walk.files) != 1)}"
        print(f"detok: {count} in {source}; left out: {left_out}", file=sys.stderr)
    return sorted(walk.files)


class _Walk:
    """One walk through a folder; no file is opened or has its state read unless its name calls for it."""

    def __init__(self, source: Path) -> None:
        self.source, self.files, self.left_out = source, list[ImageFile](), dict[str, list[str]]()
        # Linked folders come last, so that a picture is named after its own folder wherever it has one.
        self.folders, self.linked, self.entered = [source], list[Path](), set[tuple[int, int]]()
        if source.is_file():
            self.folders.clear()
            self._unpack(source, source)
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
            elif path.suffix == tars.SUFFIX and entry.is_file():
                self._unpack(path, folder)
            elif is_picture and is_sheet(path):
                self._leave_out("contact sheets of detok", path)
            elif is_picture and entry.is_file():
                self.files.append(ImageFile(path.relative_to(self.source).with_suffix("").as_posix(), path))
            elif is_picture:
                self._leave_out("links to nothing", path)
            elif (guess_type(entry.name)[0] or "").startswith("image/"):
                self._leave_out("of formats that are not read", path)

    def _unpack(self, tar: Path, folder: Path) -> None:
        """The pictures in a tar, as if they lay in the folder that it is in."""
        home = folder.relative_to(self.source)
        for name in tars.members(tar):
            if Path(name).suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in Path(name).parts):
                self.files.append(ImageFile((home / name).with_suffix("").as_posix(), tar / name))

    def _leave_out(self, why: str, path: Path) -> None:
        self.left_out.setdefault(why, []).append(path.relative_to(self.source).as_posix())


def upright(path: str | Path, formats: frozenset[str] | None = None) -> Image.Image:
    """One picture as 8-bit RGB with its camera's rotation applied and transparency on white, in its own size.

    Args:
        formats: Pillow's names of the formats accepted, `{"PNG"}` for instance; all it can read unless given.
    """
    return _loaded(path, formats, lambda image: _on_white(_turned(image)))


def as_stored(path: str | Path, formats: frozenset[str] | None = None) -> Image.Image:
    """One picture as `Image.open(path).convert("RGB")` has it: rotation is not applied, transparency is dropped."""
    return _loaded(path, formats, lambda image: image.convert("RGB"))


Load = Literal["upright-on-white", "pil-rgb"]
LOADERS: dict[Load, Callable[[str | Path, frozenset[str] | None], Image.Image]] = {
    "upright-on-white": upright,
    "pil-rgb": as_stored,
}
"""What becomes of a file's rotation and transparency: ours, and what the field's loaders do."""


def _loaded(path: str | Path, formats: frozenset[str] | None, rgb: Callable[[Image.Image], Image.Image]) -> Image.Image:
    with opened(path) as image:
        kind, mode = image.format, image.mode
        fits, deep = formats is None or kind in formats, mode.startswith(("I", "F"))
        if fits and not deep:
            return rgb(image)
    if deep:
        raise ValueError(f"{path} has {mode} pixels, not 8 bits per channel; convert it to an ordinary PNG first")
    raise ValueError(
        f"{path} is a {kind} file, and only {' or '.join(sorted(formats or ()))} is allowed here; "
        "lossy formats change every distance"
    )


@contextmanager
def opened(path: str | Path) -> Iterator[Image.Image]:
    """A picture to be read within the block; whatever Pillow trips over there is one line that names the file."""
    try:
        with Image.open(tars.opened(Path(path)) if tars.inside(Path(path)) else path) as image:
            yield image
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"there is no picture at {path}") from None
    except UnidentifiedImageError:
        raise ValueError(f"{path} is not a picture in a format Pillow can read") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path} is too large to read safely: {error}") from None
    except MemoryError:
        raise
    # Damaged files leave Pillow's parsers as anything: struct.error, IndexError, SyntaxError, a nameless ValueError.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} cannot be read ({reason}); was its download or copy cut off?") from None


TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF's orientations, and what puts them upright."""


def _turned(image: Image.Image) -> Image.Image:
    """Upright. `ImageOps.exif_transpose` also writes the other EXIF fields again, and fails where it cannot."""
    image.load()
    turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return image if turn is None else image.transpose(turn)


def _on_white(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def to_pil(image: Float[Tensor, "3 h w"]) -> Image.Image:
    return Image.fromarray(to_levels(image[None])[0])


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
    with opened(path) as image:
        notes = {str(key): value for key, value in image.info.items() if isinstance(value, str)}
    return {key: json_of(value, f"{path} carries no notes of ours: {key}") for key, value in notes.items()}
