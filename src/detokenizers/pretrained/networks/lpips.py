"""LPIPS v0.1: how different two pictures look to a classifier, weighted by human judgements (Zhang et al., 2018).

The net is part of the number's name: on the same pair AlexNet's is about half of VGG16's. The feature stacks
are torchvision's, kept to the layers that are compared, so its weight files load as they are; the few learned channel
weights are the authors' and lie beside this file (NOTICE.md).

a, b [b 3 h w] in [-1, 1] -shift, scale-> five maps each -unit length, squared difference, channel weights, mean-> [b]
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...checkpoint import load_strictly, load_tensors
from ...digests import sha256_of
from ..weights.formats import tensors_in
from ..weights.published import ALEXNET, VGG16, locate

LEARNED = Path(__file__).parent / "lpips_v0.1.safetensors"
EPSILON = 1e-10
"""Added to each length before dividing by it, as the authors do."""

Net = Literal["alex", "vgg"]


class Stack(NamedTuple):
    """The convolutions of torchvision's `features`, and the ReLUs whose maps are compared."""

    file: str
    layers: list[nn.Module]
    compared: tuple[int, ...]
    smallest: int
    """The smallest side of an image that reaches the last map."""


def alex() -> Stack:
    """AlexNet ("one weird trick") to its fifth convolution."""
    plan = [(3, 64, 11, 4, 2), None, (64, 192, 5, 1, 2), None]
    plan += [(192, 384, 3, 1, 1), (384, 256, 3, 1, 1), (256, 256, 3, 1, 1)]
    layers: list[nn.Module] = []
    for step in plan:
        layers += [nn.MaxPool2d(3, 2)] if step is None else [nn.Conv2d(*step), nn.ReLU()]
    return Stack(ALEXNET, layers, (1, 4, 7, 9, 11), smallest=31)


def vgg() -> Stack:
    """VGG16 to its thirteenth convolution."""
    layers: list[nn.Module] = []
    before = 3
    for after, repeats in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        layers += [nn.MaxPool2d(2)] if layers else []
        for _ in range(repeats):
            layers += [nn.Conv2d(before, after, 3, 1, 1), nn.ReLU()]
            before = after
    return Stack(VGG16, layers, (3, 8, 15, 22, 29), smallest=16)


STACKS = {"alex": alex, "vgg": vgg}


class LPIPS(nn.Module):
    """The frozen distance; its weights are random until `load` brings the published ones.

    Args:
        net: `alex`, the authors' default for reporting, or `vgg`, common as a training loss.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, net: Net = "alex") -> None:
        super().__init__()
        if net not in STACKS:
            raise ValueError(f"LPIPS has the nets {', '.join(STACKS)}, not {net!r}")
        stack = STACKS[net]()
        self.name = f"LPIPS-{net}"
        self.identity: str | None = None
        self.compared, self.smallest = stack.compared, stack.smallest
        self.features = nn.Sequential(*stack.layers)
        learned = load_tensors(LEARNED)
        for number in range(len(stack.compared)):
            self.register_buffer(f"weight{number}", learned[f"{net}.{number}"].view(1, -1, 1, 1), persistent=False)
        # ImageNet's mean and deviation for images in [-1, 1], to the digits the authors kept.
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    @classmethod
    def load(cls, net: Net = "alex", path: str | Path | None = None) -> Self:
        """The published network, its backbone from `locate` unless a torchvision file is named."""
        distance = cls(net)
        path = locate(STACKS[net]().file) if path is None else Path(path)
        backbone = {name: tensor for name, tensor in tensors_in(path).items() if not name.startswith("classifier.")}
        load_strictly(distance, backbone, path)
        distance.identity = f"{distance.name}-v0.1@sha256:{sha256_of(path)}"
        return distance

    def activations(self, images: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b c hl wl"]]:
        """The five maps, fine to coarse, of images in [-1, 1]."""
        if min(images.shape[-2:]) < self.smallest:
            raise ValueError(
                f"{self.name} needs images of at least {self.smallest} px, got {images.shape[-2]}x{images.shape[-1]}"
            )
        x, maps = (images.float() - self.shift) / self.scale, []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in self.compared:
                maps.append(x)
        return maps

    def embed(self, images: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b c hl wl"]]:
        """Unit-length maps; keep them when one truth is compared with several decoders."""
        maps = self.activations(images)
        return [one / (one.square().sum(1, keepdim=True).sqrt() + EPSILON) for one in maps]

    def distance(self, a: list[Tensor], b: list[Tensor]) -> Float[Tensor, "b"]:
        """The distance of two embedded batches."""
        layers = [
            ((x - y).square() * self.get_buffer(f"weight{number}")).sum(1).mean((1, 2))
            for number, (x, y) in enumerate(zip(a, b, strict=True))
        ]
        return torch.stack(layers).sum(0)

    def between(self, a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b"]:
        """The distance of each pair of images in [-1, 1]; 0 is identical."""
        if a.shape != b.shape:
            raise ValueError(f"LPIPS compares images of one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
        return self.distance(self.embed(a), self.embed(b))
