"""The straight line between a clean latent and noise, and how it relates to the variance-preserving (VP) diffusion that
DCDD's Eq. 18 prints: the same points up to the factor n, so v-prediction is rectified flow with loss weight n².

clean, noise, t -interpolate-> noisy -to_vp-> the same point on the VP path
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


def noise_from(
    noisy: Float[Tensor, "b ..."], velocity: Float[Tensor, "b ..."], t: Float[Tensor, "b"]
) -> Float[Tensor, "b ..."]:
    """The noise end of the line through `noisy`: `noisy + (1 - t) velocity`."""
    return noisy + (1 - along(t, noisy)) * velocity


def path_variance(t: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
    """`n² = (1 - t)² + t²`, the variance of `noisy` when clean has unit variance; between 1/2 and 1."""
    return (1 - t).square() + t.square()


def alpha_bar(t: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
    """The VP signal share at time t, `(1 - t)² / n²` (the cumulative alpha of DCDD Eq. 18)."""
    return (1 - t).square() / path_variance(t)


def to_vp(noisy: Float[Tensor, "b ..."], t: Float[Tensor, "b"]) -> Float[Tensor, "b ..."]:
    """The same point on the VP path (DCDD Eq. 18): `noisy / n = sqrt(ᾱ) clean + sqrt(1 - ᾱ) noise`."""
    return noisy / along(path_variance(t).sqrt(), noisy)


def vp_velocity(
    clean: Float[Tensor, "b ..."], noise: Float[Tensor, "b ..."], t: Float[Tensor, "b"]
) -> Float[Tensor, "b ..."]:
    """The target of v-prediction, `sqrt(ᾱ) noise - sqrt(1 - ᾱ) clean`; its error is n times the flow's."""
    share = along(alpha_bar(t), clean)
    return share.sqrt() * noise - (1 - share).sqrt() * clean


def along(t: Float[Tensor, "b"], x: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
    """`t` with trailing axes of one, ready to multiply `x`."""
    return t.reshape(-1, *(1,) * (x.ndim - 1))
