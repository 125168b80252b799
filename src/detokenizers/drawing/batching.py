"""Batches of one size, so that no picture depends on which others are drawn with it.

Matrix kernels are chosen by shape, and two kernels differ in the last digits; in one shape a row does not depend on the
others.

items, at most N together -evenly-> rows of every batch -chunks, filled-> batches of exactly so many
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def evenly(count: int, most: int) -> int:
    """Rows of every batch when `count` items go into batches of at most `most`, all of one size.

    Sizes are 1, 2 and multiples of four: with others several threads share rows out unevenly, and round differently.
    """
    wanted = -(-count // -(-count // most)) if count else 1
    rows = wanted if wanted <= 2 else -(-wanted // 4) * 4
    return rows if rows <= most else max(1, most // 4 * 4 or min(most, 2))


def filled(items: Sequence[T], rows: int) -> list[T]:
    """A batch of the full size, the last item again where there are too few."""
    return [*items, *[items[-1]] * (rows - len(items))]


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[first : first + size] for first in range(0, len(items), size))
