"""Half precision for the nets, and fp32 for what rounding would harm: codes, statistics, logits that guidance multiplies.

module, dtype -cast-> the same module; what modules within it list as `fp32` keeps its dtype
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn


def cast(module: nn.Module, dtype: torch.dtype) -> None:
    """Cast parameters and buffers in place.

    A module names what stays as it is in a class attribute `fp32`, a tuple of dotted names of submodules, parameters or
    buffers of its own.
    """
    kept = {
        id(tensor)
        for part in module.modules()
        for name in getattr(part, "fp32", ())
        for tensor in tensors(nested(part, name))
    }
    for tensor in tensors(module):
        if tensor.is_floating_point() and id(tensor) not in kept:
            tensor.data = tensor.data.to(dtype)


def tensors(part: nn.Module | Tensor) -> Iterator[Tensor]:
    """The parameters and buffers of a module; a tensor is its own."""
    if isinstance(part, Tensor):
        yield part
    else:
        yield from part.parameters()
        yield from part.buffers()


def nested(part: nn.Module, name: str) -> nn.Module | Tensor:
    """What a dotted name leads to."""
    for step in name.split("."):
        part = getattr(part, step)
    return part
