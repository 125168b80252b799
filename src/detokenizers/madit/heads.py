"""From the context of a patch to its latents: by regression (stage 1), or by a flow that starts at noise (stage 2).

context [b m w] -coarse-> patch [b m d] ; noise, coarse, context -flow-> patch
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from ..config import Config
from ..flow.guidance import guided
from ..flow.path import along
from ..flow.solvers import euler, heun
from ..flow.time_grids import TimeGrid
from ..flow.time_shifts import FixedShift
from ..nn.flow_mlp import FlowMLP

SOLVERS = {"euler": euler, "heun": heun}
SOONEST = 1e-3
"""Times are not divided by anything smaller; sampling with T steps never comes nearer than 1 / T."""


class Residual(Config):
    """The net estimates what the coarse patch lacks, `clean - coarse`; its velocity is `(noisy - coarse - o) / t`.

    A net that is zero gives the coarse patch exactly, in any number of Euler steps, so stage 2 starts where stage 1
    ended, and its loss at that point is stage 1's.
    """

    # PAPER GAP (docs/madit.md#residual): "a residual update for each coarse estimate", yet "trained with Eq. 3".
    kind: Literal["residual"] = "residual"

    def velocity(self, o: Tensor, noisy: Tensor, t: Tensor, coarse: Tensor) -> Tensor:
        return (noisy - coarse - o) / t.clamp_min(SOONEST)

    def target(self, clean: Tensor, noise: Tensor, coarse: Tensor) -> Tensor:
        return clean - coarse


class Full(Config):
    """The net is the velocity itself (Eq. 3 to the letter); the coarse patch is a mere input."""

    kind: Literal["full"] = "full"

    def velocity(self, o: Tensor, noisy: Tensor, t: Tensor, coarse: Tensor) -> Tensor:
        return o

    def target(self, clean: Tensor, noise: Tensor, coarse: Tensor) -> Tensor:
        return noise - clean


class HeadConfig(Config):
    """The flow head; the defaults are the paper's."""

    velocity: Annotated[Residual | Full, Field(discriminator="kind")] = Residual()
    width: int = Field(default=1536, ge=1)
    blocks: int = Field(default=12, ge=0)


class Head(nn.Module):
    """Coarse patches by one linear layer, and a flow around them."""

    def __init__(self, config: HeadConfig, context: int, patch_dim: int) -> None:
        super().__init__()
        self.config = config
        self.coarse = nn.Linear(context, patch_dim)
        self.net = FlowMLP(2 * patch_dim, patch_dim, context, config.width, config.blocks)

    def output(self, noisy: Tensor, t: Tensor, context: Tensor, coarse: Tensor) -> Float[Tensor, "b m d"]:
        """What the net computes at one point of the path; the coarse patch is an input and learns nothing here."""
        return self.net(torch.cat([noisy, coarse.detach()], -1), t, context)

    def bound(self, context: Float[Tensor, "b m w"]):
        """The velocity of patches with their context bound: `velocity(noisy, t)`."""
        coarse = self.coarse(context)

        def velocity(noisy: Float[Tensor, "b m d"], t: Float[Tensor, "b"]) -> Float[Tensor, "b m d"]:
            o = self.output(noisy, t, context, coarse)
            return self.config.velocity.velocity(o, noisy, along(t, noisy), coarse)

        return velocity


class Regression(Config):
    """Patches at once, as stage 1 draws them; the mean of what could be there."""

    kind: Literal["regression"] = "regression"

    def __call__(self, head: Head, context: Tensor, dummy: Tensor | None, weight: float, noise: Tensor) -> Tensor:
        """Guided coarse patches (paper Eq. 8 on means)."""
        coarse = head.coarse(context)
        return coarse if dummy is None else weight * coarse + (1 - weight) * head.coarse(dummy)


class Flow(Config):
    """Patches by following the guided velocity from noise."""

    kind: Literal["flow"] = "flow"
    steps: int = Field(default=10, ge=1)
    """The paper's "step size of 10" is their number (contradiction C8)."""
    solver: Literal["euler", "heun"] = "euler"
    temperature: float = Field(default=1.0, ge=0)
    """Times the starting noise."""
    grid: TimeGrid = TimeGrid(shift=FixedShift())

    def __call__(self, head: Head, context: Tensor, dummy: Tensor | None, weight: float, noise: Tensor) -> Tensor:
        """Guided sampling (paper Eq. 8): both sides see the same noisy patches, each with its own context."""
        velocity = head.bound(context)
        if dummy is not None:
            velocity = guided(velocity, head.bound(dummy), weight)
        times = self.grid(self.steps, noise.shape[1:]).to(noise.device)
        return SOLVERS[self.solver](velocity, self.temperature * noise, times, None)


Decoding = Annotated[Regression | Flow, Field(discriminator="kind")]
