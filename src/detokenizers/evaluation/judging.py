"""Who judges prompt agreement on the embedded world, and what was asked for.

folder of a trained WorldNet -> WorldJudge ; manifest of `detok generate` -> {item id: what its prompt asks for}
"""

from __future__ import annotations

from pathlib import Path

from ..checkpoint import resolve
from ..data.world.objects import COLOURS
from ..data.world.scenes import Truth, parse
from ..data.world.world import World
from ..mini.runs import WorldNetRun, load_world_net
from .sides import manifest_of
from .world_judge import WorldJudge


def world_judge(name: str) -> WorldJudge:
    """The judge in a folder, with the names of what it was trained to see (its run.yaml says which world)."""
    world = World(WorldNetRun.from_yaml(resolve(name) / "run.yaml").world)
    return WorldJudge(load_world_net(name), nouns=world.nouns, colours=(None, *COLOURS), backgrounds=world.backgrounds)


def asked_in(folder: Path) -> dict[str, Truth] | None:
    """What the prompts of a generated folder ask for, by item; None when it has none, or one is beyond the grammar."""
    rows = manifest_of(folder)
    try:
        return {row["id"]: parse(row["prompt"]) for row in rows} or None
    except (KeyError, ValueError):
        return None
