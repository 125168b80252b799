"""Positions on a plane as sines and cosines, so that grids of different fineness share one plane.

grid, spacing -> [n d]: half of the columns for rows, half for columns of the grid
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ..protocols import Grid


def sincos_line(positions: Float[Tensor, "n"], width: int, longest: float = 10_000.0) -> Float[Tensor, "n d"]:
    """Sines, then cosines, of geometrically spaced frequencies from 1 to 1 / `longest`.

    Raises:
        ValueError: an odd width.
    """
    if width % 2:
        raise ValueError(f"sines and cosines need an even width, not {width}")
    frequencies = longest ** -(torch.arange(width // 2, dtype=torch.float64) / (width / 2))
    angles = positions.double()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], -1).float()


def sincos_grid(grid: Grid, width: int, spacing: float = 1.0) -> Float[Tensor, "n d"]:
    """Positions of the centres of a grid's cells, `spacing` apart, in raster order.

    Centres of a coarse grid lie amid those of a fine one with a smaller spacing. With spacing 1, cell (0, 0) is at 0.
    """
    rows, columns = ((torch.arange(side) + 0.5) * spacing - 0.5 for side in grid)
    down = sincos_line(rows, width // 2)[:, None].expand(-1, grid.width, -1)
    across = sincos_line(columns, width // 2)[None].expand(grid.height, -1, -1)
    return torch.cat([down, across], -1).flatten(0, 1)
