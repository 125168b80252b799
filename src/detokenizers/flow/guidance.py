"""Classifier-free guidance as a function around two velocities.

v(x, t | condition), v(x, t | nothing) -guided-> v(x, t)
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from ..protocols import VelocityNet


def guided(conditional: VelocityNet, unconditional: VelocityNet, scale: float) -> VelocityNet:
    """`u + scale (c - u)` (Ho and Salimans, arXiv 2207.12598); at scale 1 the unconditional side is not computed."""
    if scale == 1:
        return conditional

    def velocity(noisy: Float[Tensor, "b ..."], t: Float[Tensor, "b"]) -> Float[Tensor, "b ..."]:
        u = unconditional(noisy, t)
        return u + scale * (conditional(noisy, t) - u)

    return velocity
