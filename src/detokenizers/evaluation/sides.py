"""What an evaluation compares: folders of pictures as rows, a folder or scenes as the reference, all keyed by id.

folders -rows_of-> {decoder: [(id, path)]} -matched-> the ids of all, what is missing -FolderSide, SceneSide-> pictures
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import tars
from ..data.canonical import PNG, AnySize, AsIs, Prepared
from ..data.images import ImageFile, find
from ..data.marks import MANIFEST
from ..data.pictures import truths
from ..data.world.scenes import Truth, parse
from ..data.world.world import Split, World, WorldConfig
from ..digests import sha256s_of
from ..texts import json_of, lines_in
from .rules import Rules

Rows = dict[str, list[ImageFile]]
Read = Callable[[Path], NDArray[np.uint8]]


class FolderSide:
    """Pictures on disk as one side of an evaluation."""

    def __init__(self, files: Sequence[ImageFile], read: Read) -> None:
        self.paths = {file.id: file.path for file in files}
        self.roots = frozenset(
            file.path.parents[file.id.count("/") + bool(tars.inside(file.path))].resolve() for file in files
        )
        self.reader = read

    def read(self, id: str) -> NDArray[np.uint8]:
        return self.reader(self.paths[id])

    @cached_property
    def hashes(self) -> dict[str, str]:
        """Of the files' contents, by id."""
        return dict(zip(self.paths, sha256s_of(list(self.paths.values()))))

    def stamp(self, id: str) -> str:
        """What is in the file, and how it is read."""
        return f"{self.hashes[id]} {self.reader}"


class SceneSide:
    """Scenes of the embedded world as the reference, drawn when they are asked for."""

    roots: frozenset[Path] = frozenset()

    def __init__(self, number: int, size: int, split: Split | Literal["prompts"]) -> None:
        self.world = World(WorldConfig(resolution=size))
        self.truths = {f"{split}-{row:05d}": truth for row, truth in enumerate(truths(self.world, number, split))}

    def read(self, id: str) -> NDArray[np.uint8]:
        return self.world.render(self.truths[id])

    def stamp(self, id: str) -> str:
        return f"{id} {self.world.config.fingerprint()}"


class Matched(NamedTuple):
    """Which ids are measured."""

    ids: list[str]
    paired: bool
    missing: dict[str, list[str]]
    """By decoder, where that is allowed."""


def folders_of(drawn: Sequence[Path]) -> dict[str, Path]:
    """Folders of pictures by name; one that `generate` or `reconstruct` left behind is one a decoder."""
    found: dict[str, Path] = {}
    for folder in drawn:
        if not folder.is_dir():
            raise ValueError(f"there is no folder of pictures at {folder}")
        for path in decoders_in(folder) or [folder]:
            if not path.is_dir():
                raise ValueError(f"{path} is missing, though {folder}'s manifest names it")
            found[path.name if path.name not in found else str(path)] = path
    return found


def rows_of(drawn: Sequence[Path]) -> Rows:
    """The pictures of folders to measure, by name."""
    return {name: find(path) for name, path in folders_of(drawn).items()}


def two_rows(rows: Rows, names: Sequence[str]) -> Rows:
    """The two rows of a comparison: decoders of the folders given, or folders of one row each."""
    found: Rows = {}
    for name in names:
        more = {name: rows[name]} if name in rows else rows_of([Path(name)])
        if len(more) > 1:
            raise ValueError(f"{name} holds {', '.join(more)}; name one of them, e.g. {Path(name) / next(iter(more))}")
        for label, files in more.items():
            found[label if label not in found else name] = files
    if len(found) < 2:
        raise ValueError(f"--compare {' '.join(names)} names one row twice; a comparison needs two")
    return found


def decoders_in(folder: Path) -> list[Path]:
    """The folders our own verbs filled, in the order they were asked for; the first is the baseline."""
    if not (folder / MANIFEST).exists():
        return []
    return [folder / label for row in rows_in(folder / MANIFEST)[:1] for label in row["decoders"]]


def manifest_of(folder: Path) -> list[dict[str, Any]]:
    """What our own verbs wrote about each item of a folder, or of one decoder's folder in it; else nothing."""
    if (folder / MANIFEST).exists():
        return rows_in(folder / MANIFEST)
    above = folder.parent / MANIFEST
    rows = rows_in(above) if above.exists() else []
    return rows if rows and folder.name in rows[0].get("decoders", ()) else []


def rows_in(manifest: Path) -> list[dict[str, Any]]:
    """The lines of a manifest."""
    rows = [json_of(line, f"{manifest}:{number}") for number, line in lines_in(manifest)]
    if not rows or not all(map(is_row, rows)):
        raise ValueError(f"{manifest} is not one of our manifests; name the folders of pictures instead")
    return rows


def is_row(row: Any) -> bool:
    """Whether a line has what every line of a manifest of ours has."""
    if not isinstance(row, dict) or not isinstance(row.get("decoders"), list):
        return False
    return all(isinstance(text, str) for text in (row.get("id"), row.get("prompt", ""), *row["decoders"]))


def matched(rows: Rows, expected: Sequence[str], reference: Sequence[str], *, allow_missing: bool) -> Matched:
    """Numbers per pair when the ids are those of the reference, distances of sets when none of them is.

    Args:
        expected: ids that the drawn folders should hold, by their manifest.

    Raises:
        ValueError: rows with different ids, or ids of which only some are in the reference.
    """
    present = {name: {file.id for file in files} for name, files in rows.items()}
    drawn = set().union(*present.values())
    paired = bool(drawn & set(reference))
    whole = drawn | set(expected) | (set(reference) if paired else set())
    missing = {name: sorted(whole - ids) for name, ids in present.items() if whole - ids}
    if paired and (strange := sorted(drawn - set(reference))):
        missing["reference"] = strange
    if missing and not allow_missing:
        name, ids = next(iter(missing.items()))
        raise ValueError(
            f"{name} lacks {len(ids)} of {len(whole)} pictures, e.g. {ids[0]!r}; decoders are compared on the same "
            "pictures, and pairs need all of the reference's (sets need other names). --allow missing lists them and "
            "measures the rest"
        )
    gone = set().union(*missing.values()) if missing else set()
    order = [id for id in (reference if paired else sorted(whole)) if id not in gone]
    if not order:
        raise ValueError(f"{' and '.join(rows)} have no picture in common; compare like with like")
    return Matched(order, paired, missing)


def files_of(folder: Path, ids: Sequence[str]) -> list[ImageFile]:
    """The pictures of these ids in a folder, which must all be there."""
    found = {file.id: file for file in find(folder)}
    if missing := sorted(set(ids) - set(found)):
        raise ValueError(f"{folder} lacks {len(missing):,} of {len(ids):,} pictures, e.g. {missing[0]}")
    return [found[id] for id in ids]


def drawn_reader(files: Sequence[ImageFile], rules: Rules, size: int | None) -> Read:
    """How the protocol reads drawn pictures."""
    if rules.prepare_drawn == "as-is" or size is None:
        return AsIs.alike(files[0].path, size, png_only=rules.png_only, load=rules.load)
    return Prepared(rules.prepare_drawn, size, PNG if rules.png_only else None, rules.smallest, rules.load)


def reference_reader(files: Sequence[ImageFile], rules: Rules, size: int | None) -> Read:
    """How the protocol reads real pictures, which may be JPEG."""
    if rules.prepare == "any-size":
        return AnySize(rules.load)
    if rules.prepare == "as-is" or size is None:
        return AsIs.alike(files[0].path, size, png_only=False, load=rules.load)
    return Prepared(rules.prepare, size, smallest=rules.smallest, load=rules.load)


def asked_in(folder: Path) -> dict[str, Truth] | None:
    """What the prompts of a generated folder ask for, by item; None when it has none, or one is beyond the grammar."""
    try:
        return {row["id"]: parse(row["prompt"]) for row in manifest_of(folder)} or None
    except (KeyError, ValueError):
        return None
