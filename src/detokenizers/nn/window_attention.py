"""Attention among the cells of a raster within a square window, with a learned bias per head and relative position.

tokens [b n d] -qkv-> scores + bias[dy, dx], -inf outside the window -softmax-> [b n d]
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ..protocols import Grid


class WindowAttention(nn.Module):
    """Multi-head self-attention of each cell with the (2 radius + 1)² cells around it.

    Args:
        width: channels d.
        heads: attention heads; divides `width`.
        radius: how many rows and columns away a cell reaches.
    """

    def __init__(self, width: int, heads: int, radius: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} heads do not divide {width} channels")
        self.heads, self.radius = heads, radius
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)
        self.bias = nn.Parameter(torch.zeros(heads, (2 * radius + 1) ** 2))

    def forward(self, x: Float[Tensor, "b n d"], grid: Grid) -> Float[Tensor, "b n d"]:
        q, k, v = rearrange(self.qkv(x), "b n (three h d) -> three b h n d", three=3, h=self.heads)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=self.scores(grid).to(q.dtype))
        return self.out(rearrange(mixed, "b h n d -> b n (h d)"))

    def scores(self, grid: Grid) -> Float[Tensor, "1 h n n"]:
        """What is added to the scores of every pair of cells; one matrix a head for the whole batch."""
        index, near = window(grid, self.radius, self.bias.device)
        return self.bias[:, index].masked_fill(~near, float("-inf"))[None]


@lru_cache(maxsize=8)
def window(grid: Grid, radius: int, device: torch.device) -> tuple[Int[Tensor, "n n"], Bool[Tensor, "n n"]]:
    """For every pair of cells its row in the bias table, and whether it lies within the window."""
    sides = (torch.arange(side, device=device) for side in grid)
    rows, columns = (axis.flatten() for axis in torch.meshgrid(*sides, indexing="ij"))
    dy, dx = rows[:, None] - rows, columns[:, None] - columns
    near = (dy.abs() <= radius) & (dx.abs() <= radius)
    index = (dy.clamp(-radius, radius) + radius) * (2 * radius + 1) + dx.clamp(-radius, radius) + radius
    return index, near
