"""Files in tars, as webdataset packs them: a path may lead into a tar, FOLDER/00000.tar/ITEM.png.

Such a path is read by `opened` wherever files are read here, so that a folder of tars is a folder of files.

tar -members-> name: where its bytes are ; path -opened-> bytes, from the disk or from within a tar
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

SUFFIX = ".tar"


class Member(NamedTuple):
    """Where the bytes of a file are in its tar."""

    offset: int
    size: int


def members(tar: Path) -> Mapping[str, Member]:
    """The files in a tar, by name, in their order.

    Raises:
        ValueError: it cannot be read, or was cut off.
    """
    try:
        state = tar.stat()
        return _members(tar, state.st_mtime_ns, state.st_size)
    except (tarfile.TarError, OSError) as error:
        raise ValueError(f"{tar} is not a readable tar ({error}); was its download or copy cut off?") from None


@cache
def _members(tar: Path, _: int, size: int) -> Mapping[str, Member]:
    with tarfile.open(tar, "r:") as file:  # offsets in one that is compressed are no places on the disk
        found = {plain(one.name): Member(one.offset_data, one.size) for one in file if one.isreg()}
    if any(one.offset + one.size > size for one in found.values()):
        raise tarfile.ReadError("the last file in it ends beyond its end")
    return found


def plain(name: str) -> str:
    """A name in a tar without the `./` or `/` that some tars begin theirs with."""
    return PurePosixPath(name.lstrip("/")).as_posix()


def inside(path: Path) -> tuple[Path, str] | None:
    """The tar that a path leads into, and the name in there; nothing for an ordinary path."""
    for parent in path.parents:
        if parent.suffix == SUFFIX and parent.is_file():
            return parent, path.relative_to(parent).as_posix()
    return None


def opened(path: Path) -> BinaryIO:
    """A file for reading, wherever it lies.

    Raises:
        OSError: there is none.
    """
    packed = inside(path)
    if packed is None:
        return path.open("rb")
    tar, name = packed
    if name not in members(tar):
        raise FileNotFoundError(2, "No such file in the tar", str(path))
    offset, size = members(tar)[name]
    with tar.open("rb") as file:
        file.seek(offset)
        return io.BytesIO(file.read(size))


def exists(path: Path) -> bool:
    """Whether there is a file at a path, which may lead into a tar."""
    packed = inside(path)
    return path.is_file() if packed is None else packed[1] in members(packed[0])


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Put a file into a tar without owner and date, so that equal files make equal tars."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o644
    tar.addfile(entry, io.BytesIO(data))


class Packed:
    """A folder whose files lie in it or in its tars."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.tars, self.where = folder, set[Path](), dict[str, Path]()
        self.refresh()

    def refresh(self) -> None:
        """Take in the tars that were added since."""
        for tar in sorted(set(self.folder.glob(f"[!.]*{SUFFIX}")) - self.tars):
            self.tars.add(tar)
            self.where |= dict.fromkeys(members(tar), tar)

    def path(self, name: str) -> Path:
        """Where a file of this name is, or would be; one outside the tars is newer."""
        loose = self.folder / name
        return loose if name not in self.where or loose.is_file() else self.where[name] / name
