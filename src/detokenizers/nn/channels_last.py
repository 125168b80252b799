"""Channels last makes convolutions faster on a CPU, and must not change what they compute: GroupNorm stays exact.

PyTorch's own kernel sums a channels-last group number by number and takes E[x²] - E[x]² for its variance. Where the
mean is far above the spread, as in a flat picture, little is left of the difference: at mean 3 and spread .01 outputs
are wrong by .7. `ExactGroupNorm` takes the mean off first and adds pairwise.

net -channels_last-> the same net: convolutions laid out anew, every GroupNorm an `ExactGroupNorm`
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

Net = TypeVar("Net", bound=nn.Module)


def channels_last(net: Net) -> Net:
    """Lay out a net's convolutions channels last and keep its norms exact, in place; its inputs should be so too."""
    convert_conv2d_weight_memory_format(net, torch.channels_last)
    for module in net.modules():
        if type(module) is nn.GroupNorm:
            module.__class__ = ExactGroupNorm  # the same weights and hooks, and whoever holds the norm keeps holding it
    return net


class ExactGroupNorm(nn.GroupNorm):
    """`nn.GroupNorm`, and on a CPU in fp32 as exact for channels-last inputs as for contiguous ones.

    Half precision is PyTorch's: what its fp32 sums lose is less than what its inputs lost to rounding.
    """

    def forward(self, input: Float[Tensor, "b c *hw"]) -> Float[Tensor, "b c *hw"]:
        last = input.ndim == 4 and input.is_contiguous(memory_format=torch.channels_last)
        if not last or input.is_contiguous() or input.device.type != "cpu" or input.dtype != torch.float32:
            return super().forward(input)
        given = input, self.weight, self.bias, self.num_groups, self.eps
        return _Learning.apply(*given) if torch.is_grad_enabled() else _normalised(*given)[0]  # pyright: ignore


def _normalised(
    x: Float[Tensor, "b c h w"], weight: Tensor, bias: Tensor, groups: int, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The norm of x; x around zero, and what then is each group's mean and inverse deviation."""
    b, c, *_ = x.shape
    in_group = x[0].numel() // groups

    def means(sums: Tensor) -> Float[Tensor, "... b g 1"]:
        return sums.unflatten(-1, (groups, -1)).sum(-1, keepdim=True) / in_group

    around_zero = x - means(x.sum((2, 3))).expand(b, groups, c // groups).reshape(b, c, 1, 1)
    # The mean was rounded in units of a large number; what that left is small, and is taken off as well.
    sums = torch.stack([around_zero.sum((2, 3)), around_zero.square().sum((2, 3))])
    mean, square = means(sums).unbind()
    inverse = torch.addcmul(square, mean, mean, value=-1).add_(eps).rsqrt_()
    scale = inverse * weight.view(groups, -1)
    shift = torch.addcmul(bias.view(groups, -1), mean, scale, value=-1)
    y = torch.addcmul(shift.view(b, c, 1, 1), around_zero, scale.view(b, c, 1, 1))
    return y, around_zero, mean[..., 0], inverse[..., 0]


class _Learning(torch.autograd.Function):
    """`_normalised` with PyTorch's own gradient; traced operation by operation, it would take four times as long."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        y, *parts = _normalised(x, weight, bias, groups, eps)
        ctx.save_for_backward(weight, *parts)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        weight, around_zero, mean, inverse = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        b, c, h, w = around_zero.shape
        found = torch.ops.aten.native_group_norm_backward(
            gradient, around_zero, mean, inverse, weight, b, c, h * w, mean.shape[1], list(ctx.needs_input_grad[:3])
        )
        return *found, None, None
