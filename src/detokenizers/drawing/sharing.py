"""Work that several processes share: numbered units, each drawn by one process and known by what lies in the folder.

Under `torchrun`, `accelerate launch` or Slurm, process r of w draws units r, r + w, ...; what is in a unit and how it is
drawn does not depend on w. A process that was killed leaves whole files, and the same command draws the others.

work -own units-> drawn ; the first process waits until all are there, and then finishes alone
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from ..device import is_first, rank, world_size
from ..peers import Peers

Progress = Callable[[int], object]
"""Called with a number of pictures that are there."""

Recipe = tuple[Any, ...]


class Work(Protocol):
    """Pictures to be drawn, in units."""

    @property
    def sizes(self) -> list[int]:
        """Pictures of each unit."""
        ...

    def draw(self, unit: int, progress: Progress) -> None:
        """Draw what is missing of a unit."""
        ...

    def done(self, unit: int) -> bool:
        """Whether all of a unit is there, whoever drew it; a picture that was made otherwise is an error."""
        ...


def drawn_together(work: Work, folder: Path, what: str, recipe: Recipe, ray: int = 0) -> bool:
    """Draw this process's units; True in the process that is to finish, when all are there.

    Args:
        what: is being done, for the progress bar.
        recipe: a function and its arguments, which make the same work in another process.
        ray: workers of Ray that are to draw all units instead.

    Raises:
        ValueError: a unit cannot be drawn, or another process died before it had drawn its own.
    """
    if ray:
        from .on_ray import drawn_on_ray

        return drawn_on_ray(work, recipe[0], recipe[1:], ray)
    sizes = work.sizes
    mine = range(rank(), len(sizes), world_size())
    with Peers(folder) as peers:
        # All are looked at before the first is drawn: one that was made otherwise is an error then.
        left = [unit for unit in mine if not work.done(unit)]
        every, to_do = (sum(sizes[unit] for unit in some) for some in (mine, left))
        quiet = None if is_first() else True
        with tqdm(total=every, initial=every - to_do, desc=what, disable=quiet) as bar:
            for unit in left:
                work.draw(unit, bar.update)
        if is_first():
            others = [unit for unit in range(len(sizes)) if unit not in mine]
            peers.wait(lambda: all_done(work, others))
    return is_first()


def all_done(work: Work, units: list[int]) -> bool:
    """Whether these units are done; those that are, are taken off the list."""
    while units and work.done(units[-1]):
        units.pop()
    return not units
