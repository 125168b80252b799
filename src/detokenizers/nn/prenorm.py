"""A pre-norm transformer block whose attention sees keys that are open, and which may compute some of its rows only.

x [b s d] -norm, attention-> + -norm, GELU MLP-> + -> x [b q d]
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


def rows_at(x: Float[Tensor, "b s d"], positions: Int[Tensor, "b q"]) -> Float[Tensor, "b q d"]:
    """The rows of each item at its own positions."""
    return x.gather(1, positions[..., None].expand(-1, -1, x.shape[-1]))


class PreNormBlock(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)); biases everywhere, as in ViT.

    Raises:
        ValueError: the heads do not divide the width.
    """

    def __init__(self, width: int, heads: int, mlp: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} heads do not divide a width of {width}")
        self.heads = heads
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, mlp * width), nn.Linear(mlp * width, width)
        self.dropout = nn.Dropout(dropout)
        for layer in (self.qkv, self.out, self.up, self.down):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        x: Float[Tensor, "b s d"],
        visible: Bool[Tensor, "b s"] | None = None,
        wanted: Int[Tensor, "b q"] | None = None,
    ) -> Float[Tensor, "b q d"]:
        """All rows, or the wanted ones alone.

        Args:
            x: the sequence.
            visible: False where a row is no key for anybody; None when all are.
            wanted: which rows are to be computed.
        """
        y = self.before_attention(x)
        if wanted is None:
            q, k, v = self.qkv(y).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        else:
            x, width = rows_at(x, wanted), x.shape[-1]
            weights, biases = self.qkv.weight.split((width, 2 * width)), self.qkv.bias.split((width, 2 * width))
            q = F.linear(rows_at(y, wanted), weights[0], biases[0]).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            k, v = F.linear(y, weights[1], biases[1]).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mask = None if visible is None else visible[:, None, None]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)
        x = x + self.dropout(self.out(mixed))
        return x + self.dropout(self.down(F.gelu(self.up(self.before_mlp(x)))))


def all_or(visible: Bool[Tensor, "b s"]) -> Bool[Tensor, "b s"] | None:
    """None when every key is open: attention without a mask is faster."""
    return None if bool(torch.all(visible)) else visible
