"""Pictures [1 3 s s] for tests that must hold for all kinds of them: flat ones are where norms lose their digits."""

from __future__ import annotations

import torch


def noise(size: int) -> torch.Tensor:
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


FLAT_AND_TEXTURED = {
    "blank": lambda size: torch.zeros(1, 3, size, size),
    "white": lambda size: torch.ones(1, 3, size, size),
    "a colour": lambda size: torch.tensor([0.3, -0.2, 0.7])[:, None, None].expand(1, 3, size, size).contiguous(),
    "nearly flat": lambda size: 0.4 + 0.004 * noise(size),
    "half": lambda size: torch.cat([noise(size)[..., : size // 2], torch.ones(1, 3, size, size // 2)], -1),
    "textured": noise,
}
