"""What everything that trains or measures asks of a set of images: rows have numbers, and a row's image never changes.

rows -images-> [b 3 h w] in [-1, 1] ; rows -captions-> texts
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from jaxtyping import Float
from torch import Tensor


class Source(Protocol):
    """Numbered images, some with captions."""

    def __len__(self) -> int: ...
    def images(self, rows: Sequence[int]) -> Float[Tensor, "b 3 h w"]: ...
    def captions(self, rows: Sequence[int]) -> list[str]: ...
    def fingerprint(self) -> str:
        """Names what is in it: equal fingerprints, equal images."""
        ...
