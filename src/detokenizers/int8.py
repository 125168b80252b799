"""Weights in half the bytes of fp16: int8 with a scale a row, for what the package carries.

tensors -rounded-> int8 and scales, in one file -multiplied-> the same tensors in fp32, to half a step of each row
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

SCALE = ".int8_scale"
"""What follows the name of a tensor in the name of its rows' scales."""


def rounded(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrices and kernels as int8 multiples of one number a row, its largest over 127; all else as it is."""
    found = dict(tensors)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.ndim > 1:
            rows = tensor.detach().float().flatten(1)
            scale = (rows.abs().amax(1) / 127).clamp_min(1e-6).half().float()  # as it is stored
            found[name] = (rows / scale[:, None]).round().clamp(-127, 127).to(torch.int8).view(tensor.shape)
            found[name + SCALE] = scale
    return found


def multiplied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """What `rounded` rounded, in fp32."""
    scales = {name.removesuffix(SCALE): tensors.pop(name) for name in list(tensors) if name.endswith(SCALE)}
    for name, scale in scales.items():
        if name not in tensors or len(scale) != len(tensors[name]):
            raise ValueError(
                f"there are scales of {name!r} but no such tensor of as many rows; these weights are damaged"
            )
        tensors[name] = tensors[name].float() * scale.float().view(-1, *[1] * (tensors[name].ndim - 1))
    return tensors
