"""A small net on single vectors, conditioned on a time and a vector of context: MAR's diffusion head.

x [... i], t, condition [... c] -residual blocks with adaptive norm-> [... o], zero at the start
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

TIMES = 1000.0
"""Times are multiplied by this first: in [0, 1] most frequencies would see almost constants."""


class AdaptiveBlock(nn.Module):
    """x + gate * MLP(norm(x) * (1 + scale) + shift), gate, scale and shift from the condition."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.adapt = nn.Linear(width, 3 * width)
        nn.init.zeros_(self.adapt.weight)
        nn.init.zeros_(self.adapt.bias)

    def forward(self, x: Float[Tensor, "... w"], y: Float[Tensor, "... w"]) -> Float[Tensor, "... w"]:
        shift, scale, gate = self.adapt(F.silu(y)).chunk(3, -1)
        return x + gate * self.second(F.silu(self.first(self.norm(x) * (1 + scale) + shift)))


class FlowMLP(nn.Module):
    """The net; its output layer starts at zero, so that it starts as the function that is zero everywhere."""

    def __init__(self, inputs: int, outputs: int, condition: int, width: int, blocks: int, frequencies: int = 256):
        super().__init__()
        self.frequencies = frequencies
        self.enter = nn.Linear(inputs, width)
        self.time = nn.Sequential(nn.Linear(frequencies, width), nn.SiLU(), nn.Linear(width, width))
        self.condition = nn.Linear(condition, width)
        self.blocks = nn.ModuleList(AdaptiveBlock(width) for _ in range(blocks))
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.adapt, self.leave = nn.Linear(width, 2 * width), nn.Linear(width, outputs)
        for layer in (self.adapt, self.leave):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, x: Float[Tensor, "b m i"], t: Float[Tensor, "b"] | Float[Tensor, "b m"], condition: Float[Tensor, "b m c"]
    ) -> Float[Tensor, "b m o"]:
        """One output per vector; a time is of a whole item, or of each of its vectors."""
        y = self.time(_embedded(t, self.frequencies).to(x.dtype))
        y = self.condition(condition) + (y if t.ndim == 2 else y[:, None])
        x = self.enter(x)
        for block in self.blocks:
            x = block(x, y)
        shift, scale = self.adapt(F.silu(y)).chunk(2, -1)
        return self.leave(self.norm(x) * (1 + scale) + shift)


def _embedded(t: Tensor, frequencies: int) -> Tensor:
    steps = torch.arange(frequencies // 2, device=t.device) / (frequencies / 2)
    angles = TIMES * t.float()[..., None] * 10_000.0**-steps
    return torch.cat([angles.sin(), angles.cos()], -1)
