"""The sha256 of a large file, computed once and remembered for as long as the file stays untouched.

A remembered hash counts only while size, inode and both times of the file are what they were; the change time cannot be
set by hand, so a file that was swapped or edited is always hashed again.

path -size, inode, times-> remembered? -yes-> sha256 ; -no-> read it all -> sha256, remembered
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

from ..checkpoint import write_text


def sha256_of(path: str | Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    path = Path(path).resolve()
    state = path.stat()
    stamp = [str(path), state.st_size, state.st_ino, state.st_mtime_ns, state.st_ctime_ns]
    note = _notes() / f"{hashlib.sha256(str(path).encode()).hexdigest()[:32]}.json"
    try:
        remembered = json.loads(note.read_text(encoding="utf-8"))
        if remembered["stamp"] == stamp:
            return remembered["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        pass  # No note, or not one of ours: the file is hashed as if it had never been seen.
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with suppress(ValueError):  # A read-only home only costs the time of hashing again.
        write_text(note, json.dumps({"stamp": stamp, "sha256": digest}))
    return digest


def _notes() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "detokenizers" / "sha256"
