"""The Inception of FID: Google's TensorFlow graph of 2015-12-05, whose 2048 pooled features define FID, rFID and KID.

It is not torchvision's Inception-v3: averages at borders leave the padding out, the last block takes a maximum where
the paper takes an average, there are 1008 classes, and the graph itself resizes pictures by TensorFlow 1's bilinear.
Parameters carry torch-fidelity's names, so its weight file loads as it is.

images [b 3 h w] in [-1, 1] -uint8, tf1_bilinear-> 299 px in [-1, 1) -stem, eleven blocks, mean-> features [b 2048]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .digest import sha256_of
from .published import INCEPTION, locate, read_state
from .views import pixels, tf1_bilinear

SIZE = 299
Kernel = int | tuple[int, int]


class Conv(NamedTuple):
    """One convolution of a chain, by its published name; with stride 1 it keeps the size."""

    name: str
    channels: int
    kernel: Kernel = 1
    stride: int = 1


Link = Conv | tuple[Conv, Conv] | Callable[[Tensor], Tensor]
"""A step of a chain: a convolution, a fork of two whose outputs are joined, or a pooling."""


class ConvNormReLU(nn.Module):
    """Convolution without bias, batch norm at eps 1e-3, ReLU."""

    def __init__(self, before: int, after: int, kernel: Kernel, stride: int = 1, padding: Kernel = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(after, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class Mixed(nn.Module):
    """Parallel chains over the same input, joined along channels."""

    def __init__(self, channels: int, *chains: Sequence[Link]) -> None:
        super().__init__()
        self.chains = chains
        self.channels = sum(self._build(channels, chain) for chain in chains)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self._run(x, chain) for chain in self.chains], 1)

    def _build(self, channels: int, chain: Sequence[Link]) -> int:
        for link in chain:
            if isinstance(link, Conv | tuple):
                convs = [link] if isinstance(link, Conv) else link
                for conv in convs:
                    height, width = (conv.kernel, conv.kernel) if isinstance(conv.kernel, int) else conv.kernel
                    padding = (height // 2, width // 2) if conv.stride == 1 else 0
                    net = ConvNormReLU(channels, conv.channels, (height, width), conv.stride, padding)
                    self.add_module(conv.name, net)
                channels = sum(conv.channels for conv in convs)
        return channels

    def _run(self, x: Tensor, chain: Sequence[Link]) -> Tensor:
        for link in chain:
            if isinstance(link, Conv):
                x = self.get_submodule(link.name)(x)
            elif isinstance(link, tuple):
                x = torch.cat([self.get_submodule(conv.name)(x) for conv in link], 1)
            else:
                x = link(x)
        return x


def average(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def maximum(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, 1, 1)


def halve(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, 2)


def block_a(channels: int, pooled: int) -> Mixed:
    """35x35: 1x1, 5x5, a double 3x3 and an average."""
    return Mixed(
        channels,
        [Conv("branch1x1", 64)],
        [Conv("branch5x5_1", 48), Conv("branch5x5_2", 64, 5)],
        [Conv("branch3x3dbl_1", 64), Conv("branch3x3dbl_2", 96, 3), Conv("branch3x3dbl_3", 96, 3)],
        [average, Conv("branch_pool", pooled)],
    )


def block_b(channels: int) -> Mixed:
    """35x35 to 17x17."""
    return Mixed(
        channels,
        [Conv("branch3x3", 384, 3, 2)],
        [Conv("branch3x3dbl_1", 64), Conv("branch3x3dbl_2", 96, 3), Conv("branch3x3dbl_3", 96, 3, 2)],
        [halve],
    )


def block_c(channels: int, inner: int) -> Mixed:
    """17x17: 7x7 convolutions as rows and columns."""
    row, column = (1, 7), (7, 1)
    double = [Conv("branch7x7dbl_1", inner)]
    double += [Conv(f"branch7x7dbl_{i}", inner, kernel) for i, kernel in ((2, column), (3, row), (4, column))]
    return Mixed(
        channels,
        [Conv("branch1x1", 192)],
        [Conv("branch7x7_1", inner), Conv("branch7x7_2", inner, row), Conv("branch7x7_3", 192, column)],
        [*double, Conv("branch7x7dbl_5", 192, row)],
        [average, Conv("branch_pool", 192)],
    )


def block_d(channels: int) -> Mixed:
    """17x17 to 8x8."""
    rows_columns = [Conv("branch7x7x3_2", 192, (1, 7)), Conv("branch7x7x3_3", 192, (7, 1))]
    return Mixed(
        channels,
        [Conv("branch3x3_1", 192), Conv("branch3x3_2", 320, 3, 2)],
        [Conv("branch7x7x3_1", 192), *rows_columns, Conv("branch7x7x3_4", 192, 3, 2)],
        [halve],
    )


def block_e(channels: int, pool: Callable[[Tensor], Tensor]) -> Mixed:
    """8x8: 3x3 convolutions forked into a row and a column."""

    def fork(name: str) -> tuple[Conv, Conv]:
        return Conv(f"{name}a", 384, (1, 3)), Conv(f"{name}b", 384, (3, 1))

    return Mixed(
        channels,
        [Conv("branch1x1", 320)],
        [Conv("branch3x3_1", 384), fork("branch3x3_2")],
        [Conv("branch3x3dbl_1", 448), Conv("branch3x3dbl_2", 384, 3), fork("branch3x3dbl_3")],
        [pool, Conv("branch_pool", 192)],
    )


class Inception(nn.Module):
    """The frozen network; `features` are the 2048 numbers of FID and KID."""

    name = "inception-2015-12-05"
    view = f"uint8, TensorFlow 1 bilinear {SIZE}"

    def __init__(self) -> None:
        super().__init__()
        self.identity: str | None = None
        self.Conv2d_1a_3x3 = ConvNormReLU(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = ConvNormReLU(32, 32, 3)
        self.Conv2d_2b_3x3 = ConvNormReLU(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = ConvNormReLU(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvNormReLU(80, 192, 3)
        self.Mixed_5b = block_a(192, pooled=32)
        self.Mixed_5c = block_a(256, pooled=64)
        self.Mixed_5d = block_a(288, pooled=64)
        self.Mixed_6a = block_b(288)
        self.Mixed_6b = block_c(768, inner=128)
        self.Mixed_6c = block_c(768, inner=160)
        self.Mixed_6d = block_c(768, inner=160)
        self.Mixed_6e = block_c(768, inner=192)
        self.Mixed_7a = block_d(768)
        self.Mixed_7b = block_e(1280, average)
        self.Mixed_7c = block_e(2048, maximum)
        self.fc = nn.Linear(2048, 1008)
        self.eval().requires_grad_(False)

    @classmethod
    def load(cls, path: str | Path | None = None) -> Self:
        """The published weights, from `locate` unless a file is named; its sha256 becomes part of `identity`."""
        path = locate(INCEPTION) if path is None else Path(path)
        state = read_state(path)
        net = cls()
        load_state(net, state, path)
        net.identity = f"{cls.name}@sha256:{sha256_of(path)}"
        return net

    def train(self, mode: bool = True) -> Self:
        """Frozen for good: batch norm never leaves its stored statistics."""
        return super().train(False)

    @torch.no_grad()
    def features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2048"]:
        """Pooled features (pool3) in fp32, of images of any size in [-1, 1], rounded to 8 bits first."""
        return self.pooled(tf1_bilinear(pixels(images).float(), SIZE))

    @torch.no_grad()
    def pooled(self, levels: Float[Tensor, "b 3 299 299"]) -> Float[Tensor, "b 2048"]:
        """Features of pictures resized by somebody else: levels 0..255, rounded or not (clean-fid's are not)."""
        if tuple(levels.shape[1:]) != (3, SIZE, SIZE):
            raise ValueError(f"Inception reads levels [b 3 {SIZE} {SIZE}], got {tuple(levels.shape)}")
        return self.blocks((levels - 128) / 128).mean((2, 3))

    @torch.no_grad()
    def logits(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1008"]:
        """Class logits without the bias, as the Inception score has always used them."""
        return self.features(images) @ self.fc.weight.T

    def blocks(self, x: Float[Tensor, "b 3 299 299"]) -> Float[Tensor, "b 2048 8 8"]:
        """From resized pixels in [-1, 1) to the last block's map."""
        x = halve(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))))
        x = halve(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))
        x = self.Mixed_6a(self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x))))
        x = self.Mixed_7a(self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x)))))
        return self.Mixed_7c(self.Mixed_7b(x))


def load_state(net: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load a published state dict; only batch norm's step counters may be absent."""
    try:
        missing, unexpected = net.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit this network: {str(error).splitlines()[-1].strip()}") from None
    odd = [*(f"missing {name}" for name in missing if not name.endswith("num_batches_tracked")),
           *(f"unknown {name}" for name in unexpected)]  # fmt: skip
    if odd:
        raise ValueError(f"{path} does not fit this network: {', '.join(odd[:3])} ({len(odd)} in all)")
