"""The straight line between a clean item and noise.

The variance-preserving diffusion path is the same line up to the factor n = sqrt((1 - t)² + t²): with
ᾱ = (1 - t)² / n², `noisy / n = sqrt(ᾱ) clean + sqrt(1 - ᾱ) noise`. So v-prediction is rectified flow with weight n².

clean, noise, t -interpolate-> noisy ; noisy, velocity, t -clean_from-> clean
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def interpolate(
    clean: Float[Tensor, "b ..."], noise: Float[Tensor, "b ..."], t: Float[Tensor, "b"]
) -> Float[Tensor, "b ..."]:
    """The point at time t: `(1 - t) clean + t noise`."""
    t = along(t, clean)
    return (1 - t) * clean + t * noise


def velocity(clean: Float[Tensor, "b ..."], noise: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
    """What the net learns, the direction from clean to noise."""
    return noise - clean


def clean_from(
    noisy: Float[Tensor, "b ..."], velocity: Float[Tensor, "b ..."], t: Float[Tensor, "b"]
) -> Float[Tensor, "b ..."]:
    """The clean end of the line through `noisy`: `noisy - t velocity`."""
    return noisy - along(t, noisy) * velocity


def path_variance(t: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
    """`n² = (1 - t)² + t²`, the variance of `noisy` when clean has unit variance; between 1/2 and 1."""
    return (1 - t).square() + t.square()


def along(t: Float[Tensor, "b"], x: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
    """`t` with trailing axes of one, ready to multiply `x`."""
    return t.reshape(-1, *(1,) * (x.ndim - 1))
