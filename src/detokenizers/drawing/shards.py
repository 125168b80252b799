"""Files written in whole shards, as webdataset has them, so that a million pictures are not two million files.

Pictures, captions and tokens are written loose first. When all of a shard are there they go into tars, one a folder, and
the loose ones are deleted; a shard is a function of the files in it, whoever writes it and when.

FOLDER/ITEM.png .. -pack-> FOLDER/00000-1a2b3c4d.tar
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Mapping, Sequence

from ..checkpoint import atomic
from ..tars import SUFFIX, Packed, add, opened


def pack(folder: Packed, number: int, names: Sequence[str], texts: Mapping[str, str] | None = None) -> None:
    """Move the loose ones of these files into one tar.

    Args:
        number: of the shard, with which its name begins.
        texts: more to put in beside them, by name.
    """
    loose = [name for name in names if (folder.folder / name).is_file() and not _is_packed(folder, name)]
    if loose:
        short = hashlib.sha256("\n".join(loose).encode()).hexdigest()[:8]
        with atomic(folder.folder / f"{number:05d}-{short}{SUFFIX}") as temporary, tarfile.open(temporary, "w") as tar:
            for name in loose:
                add(tar, name, (folder.folder / name).read_bytes())
                beside = name.rpartition(".")[0] + ".txt"
                if texts and beside in texts:
                    add(tar, beside, texts[beside].encode())
        folder.refresh()
    for name in names:
        if name in folder.where:
            (folder.folder / name).unlink(missing_ok=True)


def _is_packed(folder: Packed, name: str) -> bool:
    """Whether a tar holds just these bytes: a process was killed before it deleted the loose ones."""
    tar = folder.where.get(name)
    return tar is not None and opened(tar / name).read() == (folder.folder / name).read_bytes()
