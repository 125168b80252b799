"""Shards on disk: who measures which, what is already there, and whether all of it is.

Nobody talks to anybody: processes take every n-th shard of the same plan and whoever finds all of them finished may
merge. A killed process leaves whole shards, and the same command goes on with the others.

Pass, share (index, number) -measure what is missing-> shards/NAME-00000.safetensors ... -all there?-> Evidence
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .one_pass import Pass
from .shards import Evidence, Shard, key_in, merge

FOLDER = "shards"
Say = Callable[[str], object]


@dataclass(frozen=True)
class Share:
    """Every `number`-th shard, beginning with `index`, counted from zero."""

    index: int
    number: int

    @classmethod
    def parse(cls, text: str | None, environment: Mapping[str, str] | None = None) -> Share:
        """`2/4` as a person counts; or RANK and WORLD_SIZE, as torchrun and accelerate do; or all."""
        environment = os.environ if environment is None else environment
        if text is None:
            return cls(int(environment.get("RANK", "0")), int(environment.get("WORLD_SIZE", "1")))
        index, slash, number = text.partition("/")
        if not (slash and index.isdigit() and number.isdigit() and 1 <= int(index) <= int(number)):
            raise ValueError(f"--shard {text!r} is not a share; write 1/4, 2/4, 3/4, 4/4 for four processes")
        return cls(int(index) - 1, int(number))


def measure(
    plan: Pass,
    folder: Path,
    name: str,
    share: Share,
    *,
    say: Say = lambda line: None,
    looked_at: Callable[[int], object] = lambda count: None,
) -> Evidence | None:
    """Measure this process's share of what is missing; the evidence if all shards are there in the end, else None.

    Args:
        folder: where `shards/` is.
        name: tells passes in one folder apart.
        say: hears about shards that were made otherwise and are measured again.
        looked_at: hears how many pictures more are done, those of finished shards included.
    """
    chunks = plan.chunks()
    paths = [folder / FOLDER / f"{name}-{index:05d}.safetensors" for index in range(len(chunks))]
    keys = [plan.key(ids) for ids in chunks]
    mine = range(share.index, len(chunks), share.number)
    stale = [index for index in mine if paths[index].exists() and key_in(paths[index]) != keys[index]]
    if stale:
        say(
            f"{len(stale)} of {len(mine)} shards in {folder / FOLDER} were made from other pictures, settings or "
            "networks; they are measured again"
        )
    for index in mine:
        if key_in(paths[index]) == keys[index]:
            looked_at(len(chunks[index]))
        else:
            plan.shard(chunks[index], looked_at).save(paths[index])
    if any(key_in(path) != key for path, key in zip(paths, keys)):
        return None
    return merge(map(Shard.load, paths), keep_rows=plan.keep_rows)
