"""The times that sampling stops at, from noise down to clean.

steps, shape of one item -grid-> 1 ... 0
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from ..config import Config
from .time_shifts import FluxShift, TimeShift


class TimeGrid(Config):
    """Even steps, raised to a power, then shifted."""

    shift: TimeShift = FluxShift()
    power: float = Field(default=1.0, gt=0)
    """`t ** power`: above 1 there are more steps near clean."""

    def __call__(self, steps: int, shape: Sequence[int]) -> Float[Tensor, "steps+1"]:
        """`steps + 1` times from 1 down to 0.

        Raises:
            ValueError: no step at all.
        """
        if steps < 1:
            raise ValueError(f"sampling needs at least one step, got steps={steps}")
        even = torch.linspace(1, 1 / steps, steps, dtype=torch.float64) ** self.power
        alpha = math.exp(self.shift(shape))
        return torch.cat([alpha / (alpha + 1 / even - 1), torch.zeros(1, dtype=torch.float64)]).float()
