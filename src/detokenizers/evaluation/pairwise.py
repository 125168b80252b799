"""How far is this picture from that one? PSNR and SSIM on the pixels a PNG would hold, a perceptual distance on a
feature net.

Images are rounded to the 256 levels first, because that is what people save, look at and compare; all pixel arithmetic
is float64 with the data range fixed at 255. SSIM has two customs that differ by .1 and more, so the window is always in
the name.

images [b 3 h w] in [-1, 1] -levels-> 0..255 -psnr | ssim-> one number per image; -net.activations-> perceptual
distance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ..pixels import quantised

PEAK = 255.0
CACHED = 2**16
"""Pixels worked on at once: more of them fall out of the cache and are slower."""


def levels(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """The uint8 levels of images in [-1, 1], as float64 whole numbers 0..255 on the CPU; overshoot is clipped."""
    return quantised(images.cpu()).double()


def canonical(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """The images as they come back from a PNG: on the uint8 grid, in [-1, 1], fp32, on the CPU."""
    return levels(images).float() / (PEAK / 2) - 1


def psnr(a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b"]:
    """Peak signal-to-noise ratio of each pair in dB, on uint8 levels; infinite where the two are identical."""
    same_shape(a, b)
    return 10 * torch.log10(PEAK**2 / (levels(a) - levels(b)).square().mean((1, 2, 3)))


@runtime_checkable
class Window(Protocol):
    """A local mean over whole windows only, and the factor that turns its (co)variance into the one reported."""

    @property
    def name(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def correction(self) -> float: ...
    def __call__(self, x: Float[Tensor, "n h w"]) -> Float[Tensor, "n hv wv"]: ...


@dataclass(frozen=True)
class Uniform:
    """The flat window of scikit-image's default, with the sample covariance (n - 1)."""

    size: int = 7

    @property
    def name(self) -> str:
        return f"uniform{self.size}"

    @property
    def correction(self) -> float:
        return self.size**2 / (self.size**2 - 1)

    def __call__(self, x: Float[Tensor, "n h w"]) -> Float[Tensor, "n hv wv"]:
        return slide(x, [1 / self.size] * self.size)


@dataclass(frozen=True)
class Gaussian:
    """The window of the SSIM paper (Wang et al., 2004), with the population covariance."""

    size: int = 11
    sigma: float = 1.5
    correction: float = 1.0

    @property
    def name(self) -> str:
        return f"gaussian{self.size}"

    def __call__(self, x: Float[Tensor, "n h w"]) -> Float[Tensor, "n hv wv"]:
        offsets = range(-(self.size // 2), self.size // 2 + 1)
        weights = [math.exp(-0.5 * (offset / self.sigma) ** 2) for offset in offsets]
        return slide(x, [weight / sum(weights) for weight in weights])


def slide(x: Float[Tensor, "n h w"], weights: list[float]) -> Float[Tensor, "n hv wv"]:
    """Weighted sums over rows, then columns, wherever the window fits: much faster than a convolution in float64."""
    for axis in (1, 2):
        length = x.shape[axis] - len(weights) + 1
        total = x.narrow(axis, 0, length) * weights[0]
        for start, weight in enumerate(weights[1:], 1):
            total.add_(x.narrow(axis, start, length), alpha=weight)
        x = total
    return x


WINDOWS: dict[str, Window] = {window.name: window for window in (Uniform(), Gaussian())}


def ssim(
    a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"], window: Window = WINDOWS["uniform7"]
) -> Float[Tensor, "b"]:
    """Structural similarity of each pair on uint8 levels, mean over channels and whole windows; 1 is identical."""
    same_shape(a, b)
    if min(a.shape[-2:]) < window.size:
        raise ValueError(
            f"SSIM with {window.name} needs images of at least {window.size} px, got {tuple(a.shape[-2:])}"
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


@runtime_checkable
class ActivationNet(Protocol):
    def activations(self, images: Float[Tensor, "b 3 h w"]) -> list[Tensor]: ...


def device_under(net: object) -> torch.device:
    """Where a net's weights lie; the CPU for what has none."""
    parameter = next(net.parameters(), None) if isinstance(net, torch.nn.Module) else None
    return torch.device("cpu") if parameter is None else parameter.device


@dataclass(frozen=True)
class PerceptualDistance:
    """The LPIPS form (Zhang et al., 2018) on a net that is named, because its level is the net's own.

    Each layer's activations are scaled to unit length over channels; squared differences are summed over channels,
    averaged over places and summed over layers, all channels weighing the same.
    """

    net: ActivationNet
    name: str

    @torch.no_grad()
    def embed(self, images: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b c hl wl"]]:
        """Unit-length activations on the net's device; keep them when one truth is compared with several decoders."""
        layers = self.net.activations(images.to(device_under(self.net)))
        return [layer / (layer.norm(dim=1, keepdim=True) + 1e-10) for layer in layers]

    @staticmethod
    def between(a: list[Tensor], b: list[Tensor]) -> Float[Tensor, "b"]:
        """The distance of two embedded batches."""
        return torch.stack([(x - y).square().sum(1).mean((1, 2)) for x, y in zip(a, b, strict=True)]).sum(0).double()

    def __call__(self, a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b"]:
        """Distance of each pair; 0 is identical."""
        same_shape(a, b)
        return self.between(self.embed(a), self.embed(b))


def same_shape(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape or a.ndim != 4 or a.shape[1] != 3:
        raise ValueError(
            f"pairs of images [b 3 h w] are compared, got {tuple(a.shape)} and {tuple(b.shape)}; "
            "resize one of them first, a metric must not do it silently"
        )
