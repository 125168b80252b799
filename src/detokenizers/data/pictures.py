"""Pictures that a command names: files and folders, or scenes of the embedded world.

paths | a number of scenes -pictures-> ids and batches of (ids, images [b 3 s s]), captions where there are some
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from ..pixels import to_tensor
from ..tars import exists
from ..texts import text_in
from .canonical import batches
from .images import Images, find
from .world.scenes import Truth, caption
from .world.world import Split, World, WorldConfig


class Pictures(NamedTuple):
    """Ids and captions, and the pictures themselves, read a batch at a time."""

    chunks: list[list[str]]
    """Ids of each batch."""
    read: Callable[[int], Images]
    """A batch by its number."""
    captions: Mapping[str, str]
    """By id: of scenes, and of pictures with a `NAME.txt` beside them."""

    @property
    def ids(self) -> list[str]:
        return [id for chunk in self.chunks for id in chunk]

    @property
    def batches(self) -> Iterator[Images]:
        return map(self.read, range(len(self.chunks)))


def pictures(
    paths: Sequence[Path], world: int, size: int, batch: int, split: Split = "validation", smallest: int = 1
) -> Pictures:
    """Pictures from disk or from the world, at `size` px; exactly one of the two must be asked for."""
    if bool(paths) == bool(world):
        raise ValueError("name pictures or folders of them, or ask for --world N scenes; exactly one of the two")
    if paths:
        files = find(*paths)
        few = [files[first : first + batch] for first in range(0, len(files), batch)]
        return Pictures(
            [[file.id for file in some] for some in few],
            lambda number: next(batches(few[number], size, batch, smallest=smallest)),
            {file.id: text_in(path).strip() for file in files if exists(path := file.path.with_suffix(".txt"))},
        )
    seeds = [range(first, min(first + batch, world)) for first in range(0, world, batch)]
    chunks = [[f"{split}-{seed:05d}" for seed in few] for few in seeds]
    scenes, ids = World(WorldConfig(resolution=size)), [id for chunk in chunks for id in chunk]
    return Pictures(
        chunks,
        lambda number: Images(chunks[number], to_tensor(scenes.batch(seeds[number], split)[0])),
        {id: caption(truth) for id, truth in zip(ids, truths(scenes, world, split))},
    )


def truths(world: World, number: int, split: Split | Literal["prompts"]) -> list[Truth]:
    """What is in the first scenes of a split; `prompts` all have different captions, which no training has seen."""
    if split == "prompts":
        return [scene.truth for scene in world.prompts(number)] if number else []
    return [world.truth(seed, split) for seed in range(number)]
