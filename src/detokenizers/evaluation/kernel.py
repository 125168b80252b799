"""KID: the squared maximum mean discrepancy of two feature sets under (x·y / f + 1)^3, without bias at any N.

Unlike the Fréchet distance it neither assumes Gaussians nor depends on N in expectation, so it is the one to trust
below a few thousand images. Negative values are not errors: the two sets cannot be distinguished.

features [n f], [m f] -subsets of both-> unbiased MMD^2 of each -> mean and standard deviation.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class KernelDistance(NamedTuple):
    value: float
    """Mean over subsets."""
    spread: float
    """Standard deviation over subsets (population); not an interval of the value."""


def kernel_distance(
    real: Float[Tensor, "n f"],
    drawn: Float[Tensor, "m f"],
    *,
    num_subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 0,
) -> KernelDistance:
    """KID (Bińkowski et al., 2018) over random subsets, in float64; a function of the features and the seed alone."""
    fewest = min(len(real), len(drawn))
    if not 2 <= subset_size <= fewest:
        raise ValueError(f"subsets of {subset_size} cannot be drawn from {fewest} images; ask for 2 to {fewest}")
    generator = torch.Generator().manual_seed(seed)
    real, drawn = real.detach().cpu().double(), drawn.detach().cpu().double()

    def subset(features: Tensor) -> Tensor:
        return features[torch.randperm(len(features), generator=generator)[:subset_size]]

    values = torch.stack([discrepancy(subset(real), subset(drawn)) for _ in range(num_subsets)])
    return KernelDistance(values.mean().item(), values.std(correction=0).item())


def discrepancy(x: Float[Tensor, "n f"], y: Float[Tensor, "m f"]) -> Float[Tensor, ""]:
    """The unbiased estimate of MMD^2: each set's kernel without its diagonal, minus twice the cross term."""
    n, m = len(x), len(y)
    xx, yy, xy = kernel(x, x), kernel(y, y), kernel(x, y)
    within_x = (xx.sum() - xx.trace()) / (n * (n - 1))
    within_y = (yy.sum() - yy.trace()) / (m * (m - 1))
    return within_x + within_y - 2 * xy.mean()


def kernel(x: Float[Tensor, "n f"], y: Float[Tensor, "m f"]) -> Float[Tensor, "n m"]:
    return (x @ y.T / x.shape[1] + 1) ** 3
