"""Are the drawn images like real ones (density), and do they reach all kinds of real ones (coverage)?

Every real image gets a ball that just holds its k nearest real neighbours. Density counts how many balls a drawn image
falls into, over k (it may exceed 1); coverage is the share of balls that hold a drawn image. Both depend on N and k.

Ties are decided as in the authors' code: scikit-learn's Euclidean distances, summed in float64 and rounded to the
features' own precision, and a ball without its surface.

features of real [n f] and drawn [m f] -distances, in blocks-> density per drawn image, coverage per real image.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

BLOCK = 1024


class Neighbourhoods(NamedTuple):
    """Per-image scores, so that intervals can be drawn over images; the reported number is the mean."""

    density: Float[Tensor, "m"]
    coverage: Float[Tensor, "n"]


def density_coverage(real: Float[Tensor, "n f"], drawn: Float[Tensor, "m f"], k: int = 5) -> Neighbourhoods:
    """Density and coverage (Naeem et al., 2020), exact: no sampling, no approximate neighbours.

    Args:
        real, drawn: features of one extractor.
        k: neighbours in a ball, the image itself not counted.
    """
    if not 1 <= k < len(real):
        raise ValueError(
            f"{len(real)} real images have no {k} nearest neighbours each; k goes from 1 to {len(real) - 1}"
        )
    real, drawn = real.detach().cpu(), drawn.detach().cpu().to(real.dtype)
    radii = []
    for start, block in enumerate(real.split(BLOCK)):
        to_real = distances(block, real)
        to_real[:, start * BLOCK :].fill_diagonal_(0)
        radii.append(to_real.kthvalue(k + 1).values)
    density = torch.zeros(len(drawn), dtype=torch.float64)
    covered = []
    for block, radius in zip(real.split(BLOCK), radii):
        inside = distances(block, drawn) < radius[:, None]
        density += inside.sum(0)
        covered.append(inside.any(1))
    return Neighbourhoods(density / k, torch.cat(covered).double())


def distances(x: Float[Tensor, "n f"], y: Float[Tensor, "m f"]) -> Float[Tensor, "n m"]:
    """Euclidean distances of all pairs, in the precision of the features."""
    wide, other = x.double(), y.double()
    squares = -2 * wide @ other.T + wide.square().sum(1)[:, None] + other.square().sum(1)
    return squares.to(x.dtype).clamp(min=0).sqrt()
