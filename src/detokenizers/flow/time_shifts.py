"""How far times move towards noise for larger images: a number μ that is added to the logit of every time.

shape of one item -shift-> μ ; t -shifted by μ-> e^μ t / (1 + (e^μ - 1) t)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from ..config import Config


class FluxShift(Config):
    """FLUX's: a line in the number of tokens through μ = 0.5 at 256 and 1.15 at 4096."""

    kind: Literal["flux"] = "flux"
    patch: int = Field(default=2, ge=1)
    """Side of the square of latents that is one token."""

    def __call__(self, shape: Sequence[int]) -> float:
        _, height, width = shape
        slope = (1.15 - 0.5) / (4096 - 256)
        return 0.5 + slope * (height * width // self.patch**2 - 256)


class SquareRootShift(Config):
    """RAE's (arXiv 2510.11690): α = sqrt(m / base) for m numbers an item, and never below 1, so μ = ln α."""

    kind: Literal["square_root"] = "square_root"
    base: int = Field(default=4096, ge=1)

    def __call__(self, shape: Sequence[int]) -> float:
        return max(0.0, 0.5 * math.log(math.prod(shape) / self.base))


class FixedShift(Config):
    """The same μ for every size; 0 shifts nothing."""

    kind: Literal["fixed"] = "fixed"
    mu: float = 0.0

    def __call__(self, shape: Sequence[int]) -> float:
        return self.mu


TimeShift = Annotated[FluxShift | SquareRootShift | FixedShift, Field(discriminator="kind")]
