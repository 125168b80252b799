"""Random weights and pictures that are the same on every machine and in every version, for numbers recorded elsewhere.

They come from NumPy's legacy generator, whose stream is frozen for good, scaled so that deep nets neither die nor
explode. `scripts/parity_references.py` fills other people's networks with them; the tests fill ours.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


def fill(net: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """Fill parameters and batch-norm statistics by name order; returns the state dict."""
    random = np.random.RandomState(seed)
    state = net.state_dict()
    for name in sorted(state):
        tensor = state[name]
        if not tensor.is_floating_point():
            continue
        values = np.asarray(random.standard_normal(tensor.shape))
        if name.endswith("running_var"):
            values = 1 + 0.2 * np.abs(values)
        elif name.endswith(("running_mean", "bias")):
            values = 0.1 * values
        elif tensor.ndim < 2:
            values = 1 + 0.1 * values
        else:
            values = values * (2 / np.prod(tensor.shape[1:])) ** 0.5
        tensor.copy_(torch.as_tensor(values, dtype=tensor.dtype))
    return state


def levels(*shape: int, seed: int = 0) -> Tensor:
    """Pictures as uint8: smooth colour, edges and noise, so that every kind of filter has something to see."""
    random = np.random.RandomState(seed)
    b, c, h, w = shape
    y, x = np.mgrid[0:h, 0:w] / max(h, w)
    waves = np.sin(2 * np.pi * (3 * x + 2 * y)[None, None] + 6 * random.random_sample((b, c, 1, 1)))
    edges = (x > random.random_sample((b, c, 1, 1))) * 1.0
    values = 110 + 50 * waves + 60 * edges + 20 * random.standard_normal(shape)
    return torch.from_numpy(values.round().clip(0, 255).astype(np.uint8))


def images(pixels: Tensor) -> Tensor:
    """The same pictures as fp32 in [-1, 1]."""
    return pixels.float() / 127.5 - 1


def feature_sets() -> tuple[Tensor, Tensor]:
    """Two sets of correlated features [400 64] and [300 64] in fp32, as an extractor returns them."""
    random = np.random.RandomState(0)
    mixing = random.standard_normal((64, 64)) / 8
    real = random.standard_normal((400, 64)) @ mixing
    drawn = 0.8 * random.standard_normal((300, 64)) @ mixing + 0.1
    return torch.from_numpy(real.astype(np.float32)), torch.from_numpy(drawn.astype(np.float32))
