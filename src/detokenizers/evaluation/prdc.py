"""Are the drawn images like real ones (density), and do they reach all kinds of real ones (coverage)?

Every real image gets a ball that just holds its k nearest real neighbours. Density counts how many balls a drawn image
falls into, over k (it may exceed 1); coverage is the share of balls that hold a drawn image. Both depend on N and k.

features of real [n f] and drawn [m f] -float64 distances, in blocks-> density per drawn image, coverage per real image.
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
    # Distances do not feel a shift, and centred features lose fewest digits in |x|^2 + |y|^2 - 2 x·y.
    centre = real.detach().cpu().double().mean(0)
    real, drawn = real.detach().cpu().double() - centre, drawn.detach().cpu().double() - centre
    radii = torch.cat([squares(block, real).kthvalue(k + 1).values for block in real.split(BLOCK)])
    density = torch.zeros(len(drawn), dtype=torch.float64)
    covered = []
    for block, radius in zip(real.split(BLOCK), radii.split(BLOCK)):
        inside = squares(block, drawn) < radius[:, None]
        density += inside.sum(0)
        covered.append(inside.any(1))
    return Neighbourhoods(density / k, torch.cat(covered).double())


def squares(x: Float[Tensor, "n f"], y: Float[Tensor, "m f"]) -> Float[Tensor, "n m"]:
    """Squared distances of all pairs."""
    return (x.square().sum(1)[:, None] + y.square().sum(1) - 2 * x @ y.T).clamp(min=0)
