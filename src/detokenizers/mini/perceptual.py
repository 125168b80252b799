"""What the autoencoders of the mini stack are trained to keep: pixels, edges and WorldNet's activations.

reconstruction, truth -> L1 + gradient L1 + LPIPS-style distance on a frozen WorldNet.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..nn.world_net import WorldNet


def pixel_loss(drawn: Float[Tensor, "b 3 h w"], truth: Float[Tensor, "b 3 h w"], edges: float = 0.7) -> Tensor:
    """Mean absolute error plus `edges` times that of the horizontal and vertical differences."""
    loss = F.l1_loss(drawn, truth)
    for axis in (2, 3):
        loss = loss + edges * F.l1_loss(drawn.diff(dim=axis), truth.diff(dim=axis))
    return loss


def perceptual_loss(net: WorldNet, drawn: Float[Tensor, "b 3 h w"], truth: Float[Tensor, "b 3 h w"]) -> Tensor:
    """Squared distance of channel-normalised activations, averaged over space and summed over layers."""
    pairs = zip(net.activations(drawn), net.activations(truth))
    return sum(((F.normalize(a, dim=1) - F.normalize(b.detach(), dim=1)) ** 2).sum(1).mean() for a, b in pairs)  # pyright: ignore[reportReturnType]
