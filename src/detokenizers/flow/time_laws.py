"""The distribution of training times.

law(count, shape of one item) -> t [b] in [0, 1], 1 = noise
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field, field_validator
from torch import Tensor

from ..config import Config
from .time_shifts import FixedShift, FluxShift, TimeShift


class LogitNormal(Config):
    """`t = sigmoid(μ + std · normal)`; adding to the logit is exactly the time shift that sampling uses."""

    kind: Literal["logit_normal"] = "logit_normal"
    # PAPER GAP (docs/dcdd.md#time-law): "other hyperparameters as official FLUX.1-Fill"; its law is unpublished.
    shift: TimeShift = FluxShift()
    """Mean of the logit."""
    std: float = 1.0

    @field_validator("shift", mode="before")
    @classmethod
    def _read_older_settings(cls, shift: Any) -> Any:
        """A run.yaml of before shifts were parts has a number here, or null for FLUX's."""
        return FluxShift() if shift is None else FixedShift(mu=shift) if isinstance(shift, int | float) else shift

    def __call__(
        self, count: int, shape: Sequence[int], *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "b"]:
        return torch.sigmoid(self.shift(shape) + self.std * torch.randn(count, generator=generator))


class Uniform(Config):
    """Every time is equally likely."""

    kind: Literal["uniform"] = "uniform"

    def __call__(
        self, count: int, shape: Sequence[int], *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "b"]:
        return torch.rand(count, generator=generator)


TimeLaw = Annotated[LogitNormal | Uniform, Field(discriminator="kind")]
