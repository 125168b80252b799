"""Fixed embeddings: of times as sinusoids, of the cells of a raster as two-dimensional sinusoids.

t [b] -sinusoid-> [b d] ; Grid -grid_sinusoid-> [n d]
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ..protocols import Grid


def sinusoid(x: Float[Tensor, "b"], width: int, period: float = 10000.0) -> Float[Tensor, "b d"]:
    """Cosines, then sines, of `x` at `width / 2` frequencies from 1 down to 1 / period (arXiv 2006.11239), in fp32.

    Raises:
        ValueError: an odd width.
    """
    if width % 2:
        raise ValueError(f"cosines and sines share the width of an embedding, so it must be even, not {width}")
    half = width // 2
    frequencies = torch.exp(-math.log(period) * torch.arange(half, device=x.device, dtype=torch.float32) / half)
    angles = x.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], -1)


def grid_sinusoid(grid: Grid, width: int) -> Float[Tensor, "n d"]:
    """One embedding per cell in raster order: half the width for its row, half for its column (arXiv 2111.06377).

    Raises:
        ValueError: the width does not divide by four.
    """
    if width % 4:
        raise ValueError(f"rows and columns have cosines and sines, so the width must divide by 4, not {width}")
    rows, columns = torch.meshgrid(torch.arange(grid.height), torch.arange(grid.width), indexing="ij")
    return torch.cat([sinusoid(rows.flatten(), width // 2), sinusoid(columns.flatten(), width // 2)], -1)
