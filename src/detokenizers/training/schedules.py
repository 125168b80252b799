"""How the learning rate moves over a run: linear warm-up, then one of these shapes.

progress in [0, 1] -schedule-> share of the peak learning rate
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from ..config import Config


class Cosine(Config):
    """Half a cosine from 1 to `final`."""

    kind: Literal["cosine"] = "cosine"
    final: float = Field(default=0.05, ge=0)
    """The last step is taken with this fraction of the peak."""

    def __call__(self, progress: float) -> float:
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress))


class Constant(Config):
    """Always 1."""

    kind: Literal["constant"] = "constant"

    def __call__(self, progress: float) -> float:
        return 1.0


class Trapezoid(Config):
    """1, then a line down to `final` over the last share of the run (warm-up, stable, decay).

    Until the decay begins nothing depends on the number of steps, so the length of a run can be decided while it runs.
    """

    kind: Literal["trapezoid"] = "trapezoid"
    decay: float = Field(default=0.2, gt=0, le=1)
    """Share of the steps after the warm-up in which the rate falls."""
    final: float = Field(default=0.0, ge=0)

    def __call__(self, progress: float) -> float:
        return self.final + (1 - self.final) * min(1.0, (1 - progress) / self.decay)


Schedule = Annotated[Cosine | Constant | Trapezoid, Field(discriminator="kind")]
