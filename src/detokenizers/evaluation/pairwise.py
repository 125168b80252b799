"""Distances of two pictures: PSNR and SSIM on the pixels a PNG would hold, a perceptual distance on a feature net.

Images are rounded to the 256 levels first, because that is what people save, view and compare; all pixel arithmetic
is float64 with the data range fixed at 255. SSIM has two customs that differ by .1 and more, so the window is always in
the name.

images [b 3 h w] in [-1, 1] -levels-> 0..255 -psnr | ssim-> one number per image; -net.activations-> perceptual
distance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from ..pixels import quantised
from .features import net_device

PEAK = 255.0
CACHED = 2**16
"""Pixels worked on at once: more of them fall out of the cache and are slower."""


def levels(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """The uint8 levels of images in [-1, 1], as float64 whole numbers 0..255 on the CPU; overshoot is clipped."""
    return quantised(images.cpu()).double()


def psnr(a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b"]:
    """Peak signal-to-noise ratio of each pair in dB, on uint8 levels; infinite where the two are identical."""
    same_shape(a, b)
    return 10 * torch.log10(PEAK**2 / (levels(a) - levels(b)).square().mean((1, 2, 3)))


@dataclass(frozen=True)
class Window:
    """A local mean over whole windows only, and the factor that turns its (co)variance into the one reported."""

    name: str
    weights: tuple[float, ...]
    correction: float = 1.0

    def __call__(self, x: Float[Tensor, "n h w"]) -> Float[Tensor, "n hv wv"]:
        """Weighted sums over rows, then columns: much faster than a convolution in float64."""
        for axis in (1, 2):
            length = x.shape[axis] - len(self.weights) + 1
            total = x.narrow(axis, 0, length) * self.weights[0]
            for start, weight in enumerate(self.weights[1:], 1):
                total.add_(x.narrow(axis, start, length), alpha=weight)
            x = total
        return x


def gaussian(size: int, sigma: float) -> tuple[float, ...]:
    """The weights of a Gaussian, of sum 1."""
    weights = [math.exp(-0.5 * (offset / sigma) ** 2) for offset in range(-(size // 2), size // 2 + 1)]
    return tuple(weight / sum(weights) for weight in weights)


WINDOWS = {
    window.name: window
    for window in (Window("uniform7", (1 / 7,) * 7, 49 / 48), Window("gaussian11", gaussian(11, 1.5)))
}
"""scikit-image's default with the sample covariance (n - 1); the SSIM paper's (Wang et al., 2004) without."""


def ssim(
    a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"], window: Window = WINDOWS["uniform7"]
) -> Float[Tensor, "b"]:
    """Structural similarity of each pair on uint8 levels, mean over channels and whole windows; 1 is identical."""
    same_shape(a, b)
    if min(a.shape[-2:]) < len(window.weights):
        raise ValueError(
            f"SSIM with {window.name} needs images of at least {len(window.weights)} px, got {tuple(a.shape[-2:])}"
        )
    # Few planes at a time: staying in the cache is worth more than a larger batch.
    planes = max(1, CACHED // (a.shape[2] * a.shape[3]))
    pairs = zip(levels(a).flatten(0, 1).split(planes), levels(b).flatten(0, 1).split(planes))
    return torch.cat([similarity(x, y, window) for x, y in pairs]).unflatten(0, a.shape[:2]).mean(1)


def similarity(x: Float[Tensor, "n h w"], y: Float[Tensor, "n h w"], window: Window) -> Float[Tensor, "n"]:
    """SSIM of single planes of levels (Wang et al., 2004, Eq. 13), mean over whole windows."""
    mean_x, mean_y, xx, yy, xy = (window(product) for product in (x, y, x * x, y * y, x * y))
    variance = window.correction * (xx - mean_x**2 + yy - mean_y**2)
    covariance = window.correction * (xy - mean_x * mean_y)
    c1, c2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
    score = (2 * mean_x * mean_y + c1) * (2 * covariance + c2) / ((mean_x**2 + mean_y**2 + c1) * (variance + c2))
    return score.mean((1, 2))


def gradient_energy(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b"]:
    """Mean squared difference of neighbouring levels, to compare with the truth's: blur lowers it, noise raises it."""
    x = levels(images)
    return x.diff(dim=2).square().mean((1, 2, 3)) + x.diff(dim=3).square().mean((1, 2, 3))


class ActivationNet(Protocol):
    def activations(self, images: Float[Tensor, "b 3 h w"]) -> list[Tensor]: ...


@dataclass(frozen=True)
class PerceptualDistance:
    """The LPIPS form (Zhang et al., 2018) on a net that is named, because its level is the net's own.

    Each layer's activations are scaled to unit length over channels; squared differences are summed over channels,
    averaged over positions and summed over layers, all channels weighing the same.
    """

    net: ActivationNet
    identity: str
    """Name and fingerprint of the net."""

    @torch.no_grad()
    def embed(self, images: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b c hl wl"]]:
        """Unit-length activations on the net's device; keep them when one truth is compared with several decoders."""
        layers = self.net.activations(images.to(net_device(self.net)))
        return [layer / (layer.norm(dim=1, keepdim=True) + 1e-10) for layer in layers]

    def distance(self, a: list[Tensor], b: list[Tensor]) -> Float[Tensor, "b"]:
        """The distance of two embedded batches; 0 is identical."""
        return torch.stack([(x - y).square().sum(1).mean((1, 2)) for x, y in zip(a, b, strict=True)]).sum(0).double()


def same_shape(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape or a.ndim != 4 or a.shape[1] != 3:
        raise ValueError(
            f"pairs of images [b 3 h w] are compared, got {tuple(a.shape)} and {tuple(b.shape)}; "
            "resize one of them first, a metric must not do it silently"
        )
