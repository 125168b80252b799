"""Starting noise: one generator per item, always on the CPU, so that neither batch size nor device changes an image.

seeds -> [b ...] unit normal
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def noise(shape: Sequence[int], seeds: Sequence[int], *, device: torch.device | str = "cpu") -> Float[Tensor, "b ..."]:
    """Unit normal noise; item i has the given shape and depends on `seeds[i]` alone."""
    items = [torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(items).to(device)
