"""Pictures that a command names: files and folders, or scenes of the embedded world.

paths | a number of scenes -pictures-> ids and batches of (ids, images [b 3 s s]), captions where there are some
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from ..pixels import to_tensor
from ..texts import text_in
from .canonical import batches
from .images import Images, find
from .world.scenes import Truth, caption
from .world.world import Split, World, WorldConfig


class Pictures(NamedTuple):
    """Ids and captions, and the pictures themselves read batch by batch when iterated."""

    chunks: list[list[str]]
    """Ids of each batch."""
    batches: Iterator[Images]
    captions: Mapping[str, str]
    """By id: of scenes, and of pictures with a `NAME.txt` beside them."""

    @property
    def ids(self) -> list[str]:
        return [id for chunk in self.chunks for id in chunk]


def pictures(
    paths: Sequence[Path], world: int, size: int, batch: int, split: Split = "validation", smallest: int = 1
) -> Pictures:
    """Pictures from disk or from the world, at `size` px; exactly one of the two must be asked for."""
    if bool(paths) == bool(world):
        raise ValueError("name pictures or folders of them, or ask for --world N scenes; exactly one of the two")
    if paths:
        files = find(*paths)
        chunks = [[file.id for file in files[first : first + batch]] for first in range(0, len(files), batch)]
        beside = {file.id: path for file in files if (path := file.path.with_suffix(".txt")).is_file()}
        texts = {id: text_in(path).strip() for id, path in beside.items()}
        return Pictures(chunks, batches(files, size, batch, smallest=smallest), texts)
    seeds = [range(first, min(first + batch, world)) for first in range(0, world, batch)]
    chunks = [[f"{split}-{seed:05d}" for seed in few] for few in seeds]
    ids = [id for chunk in chunks for id in chunk]
    texts = {id: caption(truth) for id, truth in zip(ids, truths(World(WorldConfig(resolution=size)), world, split))}
    return Pictures(chunks, scenes(chunks, seeds, size, split), texts)


def scenes(chunks: Sequence[list[str]], seeds: Sequence[range], size: int, split: Split) -> Iterator[Images]:
    """Scenes of the world, drawn when they are asked for."""
    world = World(WorldConfig(resolution=size))
    for ids, few in zip(chunks, seeds):
        yield Images(ids, to_tensor(world.batch(few, split)[0]))


def truths(world: World, number: int, split: Split | Literal["prompts"]) -> list[Truth]:
    """What is in the first scenes of a split; `prompts` all have different captions, which no training has seen."""
    if split == "prompts":
        return [scene.truth for scene in world.prompts(number)] if number else []
    return [world.truth(seed, split) for seed in range(number)]
