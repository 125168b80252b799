"""When to look: the distribution of training times and the grid of sampling times. FLUX moves both towards noise for
larger images by a shift μ that grows with the number of tokens.

num_tokens -flux_mu-> μ ; law(size, num_tokens) -> t [b] for training ; time_grid(steps, μ) -> 1 ... 0 for sampling
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from ..config import Config


class LogitNormal(Config):
    """`t = sigmoid(shift + std · normal)`; adding to the logit is exactly FLUX's time shift."""

    kind: Literal["logit_normal"] = "logit_normal"
    # PAPER GAP (docs/dcdd.md#time-law): "other hyperparameters as official FLUX.1-Fill"; its law is unpublished.
    shift: float | None = None
    """Mean of the logit; unset means FLUX's μ for the number of tokens, the same shift that sampling uses."""
    std: float = 1.0

    def __call__(
        self,
        size: int,
        num_tokens: int,
        *,
        device: torch.device | str = "cpu",
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "b"]:
        shift = flux_mu(num_tokens) if self.shift is None else self.shift
        return torch.sigmoid(shift + self.std * torch.randn(size, device=device, generator=generator))


class Uniform(Config):
    """Every time is equally likely."""

    kind: Literal["uniform"] = "uniform"

    def __call__(
        self,
        size: int,
        num_tokens: int,
        *,
        device: torch.device | str = "cpu",
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "b"]:
        return torch.rand(size, device=device, generator=generator)


TimeLaw = Annotated[LogitNormal | Uniform, Field(discriminator="kind")]


def flux_mu(num_tokens: int) -> float:
    """FLUX's shift: a line through μ = 0.5 at 256 tokens and 1.15 at 4096."""
    slope = (1.15 - 0.5) / (4096 - 256)
    return 0.5 + slope * (num_tokens - 256)


def time_grid(steps: int, mu: float = 0.0) -> Float[Tensor, "steps+1"]:
    """`steps + 1` times from 1 down to 0: even steps, then shifted by `t' = e^μ / (e^μ + 1/t - 1)`."""
    if steps < 1:
        raise ValueError(f"sampling needs at least one step, got steps={steps}")
    even = torch.linspace(1, 1 / steps, steps, dtype=torch.float64)
    shifted = math.exp(mu) / (math.exp(mu) + 1 / even - 1)
    return torch.cat([shifted, torch.zeros(1, dtype=torch.float64)]).float()
