"""EDM (Karras et al., arXiv 2206.00364) in the house's terms, where it is rectified flow with other weights.

Scaled by 1 / (1 + s), with s = sigma / sigma_data, EDM's `y + sigma n` is the straight path at t = s / (1 + s); Euler
steps of either are the same steps. So log-normal sigmas are a logit-normal law of t, the loss on the denoised image is
the `VPrediction` weight of the velocity error, and the preconditioned net is a velocity:

noisy / n, ln(sigma) / 4 -net-> F ; velocity = (2t - 1) noisy / n² - F / n, with n² = t² + (1 - t)²
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from ..config import Config


class Preconditioning(Config):
    """EDM's inputs and outputs for latents of unit variance."""

    sigma_data: float = Field(default=0.5, gt=0)
    """Spread of the data that sigmas refer to; with unit latents it only shifts what the net is given of the noise."""

    def scaled(self, noisy: Float[Tensor, "b ..."], t: Float[Tensor, "b"]) -> Float[Tensor, "b ..."]:
        """What the net reads, of variance 1 at every time."""
        return noisy / _spread(t, noisy)

    def level(self, t: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        """`ln(sigma) / 4`, the net's time."""
        return (math.log(self.sigma_data) + torch.logit(t.float(), eps=1e-6)) / 4

    def velocity(
        self, output: Float[Tensor, "b ..."], noisy: Float[Tensor, "b ..."], t: Float[Tensor, "b"]
    ) -> Float[Tensor, "b ..."]:
        """The velocity that a net's output stands for."""
        n = _spread(t, noisy)
        return (2 * _along(t, noisy) - 1) * noisy / n.square() - output / n


class KarrasGrid(Config):
    """EDM's sigmas as times: even in sigma^(1 / rho) from the largest to the smallest, then 0."""

    kind: Literal["karras"] = "karras"
    sigma_data: float = Field(default=0.5, gt=0)
    largest: float = 80.0
    smallest: float = 0.002
    rho: float = 7.0

    def __call__(self, steps: int, shape: Sequence[int]) -> Float[Tensor, "steps+1"]:
        """`steps + 1` times from nearly 1 down to 0.

        Raises:
            ValueError: no step at all.
        """
        s = self.sigmas(steps) / self.sigma_data
        return (s / (1 + s)).float()

    def sigmas(self, steps: int) -> Float[Tensor, "steps+1"]:
        """EDM's own numbers, fp64."""
        if steps < 1:
            raise ValueError(f"sampling needs at least one step, got steps={steps}")
        ends = [self.largest ** (1 / self.rho), self.smallest ** (1 / self.rho)]
        even = torch.linspace(0, 1, steps, dtype=torch.float64)
        return torch.cat([(ends[0] + even * (ends[1] - ends[0])) ** self.rho, torch.zeros(1, dtype=torch.float64)])


def _along(t: Tensor, x: Tensor) -> Tensor:
    return t.reshape(-1, *(1,) * (x.ndim - 1))


def _spread(t: Tensor, x: Tensor) -> Tensor:
    t = _along(t, x)
    return (t.square() + (1 - t).square()).sqrt()
