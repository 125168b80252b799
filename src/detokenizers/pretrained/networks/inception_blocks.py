"""The blocks of Google's Inception of 2015: parallel chains of convolutions over one map, joined along channels.

Each block is a table of its chains; parameters carry torch-fidelity's names. Two things are unlike the paper and unlike
torchvision, and belong to what FID is: averages at borders leave the padding out, and the last block takes a maximum
where the paper takes an average.

x [b c h w] -each chain-> [b c_i h' w'] -cat-> [b sum(c_i) h' w']
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
