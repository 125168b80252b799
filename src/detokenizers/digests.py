"""The sha256 of files, computed once and remembered for as long as a file stays untouched.

A remembered hash counts only while size, inode and both times of the file are what they were. The change time cannot be
set by hand, so a file that was swapped or edited is hashed again, whatever its size and modification time say; one that
was written less than two seconds before it was hashed is not remembered, lest an edit in the same tick of the clock go
unseen. For ImageNet that is one reading of all files, in threads, and afterwards each file's state alone.

path -size, inode, times-> remembered? -yes-> sha256 ; -no-> read it all -> sha256, remembered with its folder's others
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from . import tars
from .checkpoint import write_text

REST = 2_000_000_000
"""Nanoseconds a file must have been left alone before its hash is remembered."""


class Hash(NamedTuple):
    """The hash of a file, and whether it was remembered, is to be remembered, or is too new for that."""

    sha256: str
    stamp: list[int]
    fresh: bool


def sha256_of(path: str | Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    return sha256s_of([Path(path)])[0]


def sha256s_of(paths: Sequence[Path]) -> list[str]:
    """The sha256 of each file's bytes; of a file in a tar, one that changes whenever the tar or its name in there does.

    Raises:
        ValueError: a file cannot be read.
    """
    packed = [tars.inside(path) for path in paths]
    if any(packed):  # a tar is written whole, so it and a name in it stand for the file
        homes = [one[0] if one else path for one, path in zip(packed, paths)]
        known = dict(zip(dict.fromkeys(homes), sha256s_of(list(dict.fromkeys(homes)))))
        return [
            hashlib.sha256(f"{known[home]} {one[1]}".encode()).hexdigest() if one else known[home]
            for home, one in zip(homes, packed)
        ]
    paths = [path.parent.resolve() / path.name for path in paths]
    folders = list(dict.fromkeys(path.parent for path in paths))
    remembered = {folder: _remembered(folder) for folder in folders}
    with ThreadPoolExecutor(min(16, 2 * (os.cpu_count() or 1))) as pool:
        found = list(pool.map(lambda path: _hash(path, remembered[path.parent].get(path.name)), paths))
    news: dict[Path, dict[str, list[str | list[int]]]] = {}
    for path, one in zip(paths, found):
        if one.fresh:
            news.setdefault(path.parent, {})[path.name] = [one.sha256, one.stamp]
    for folder, rows in news.items():
        with suppress(ValueError):  # A read-only home only costs the time of hashing again.
            write_text(_note(folder), json.dumps({"folder": str(folder), "files": remembered[folder] | rows}))
    return [one.sha256 for one in found]


def _hash(path: Path, known: list | None) -> Hash:
    try:
        state = path.stat()
        stamp = [state.st_size, state.st_ino, state.st_mtime_ns, state.st_ctime_ns]
        if known and known[1] == stamp:
            return Hash(known[0], stamp, False)
        rested = time.time_ns() - state.st_ctime_ns > REST
        with path.open("rb") as file:
            return Hash(hashlib.file_digest(file, "sha256").hexdigest(), stamp, rested)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from None


def _remembered(folder: Path) -> dict[str, list]:
    try:
        note = json.loads(_note(folder).read_text(encoding="utf-8"))
        return note["files"] if note["folder"] == str(folder) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # No note, or not one of ours: the files are hashed as if they had never been seen.


def _note(folder: Path) -> Path:
    notes = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "detokenizers" / "sha256"
    return notes / f"{hashlib.sha256(str(folder).encode(errors='surrogateescape')).hexdigest()[:32]}.json"
