"""Four numbers for how undecided a distribution over codes is (DCDD Eq. 8), in [0, 1].

p [... v] -> [max, margin, mass of the top k, entropy of the tail]
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

HEAD = 10
"""Codes that are no part of the tail."""
RANGE = (8, 64)
"""Bounds of the adaptive k, which is the perplexity of the row."""
FLOOR = 1e-6
"""A tail of less mass has entropy 0."""
DECIDED = (1.0, 1.0, 1.0, 0.0)
"""What a distribution on one code gives."""


def undecidedness(
    p: Float[Tensor, "... v"], k_range: tuple[int, int] = RANGE, head: int = HEAD
) -> Float[Tensor, "... 4"]:
    """Largest probability, its lead over the second, the mass of the k largest, and the entropy of all but the `head`
    largest codes, renormalised and divided by its maximum; k is the perplexity, rounded, within `k_range`.

    Raises:
        ValueError: fewer than three codes, which have no head and tail.
    """
    v = p.shape[-1]
    if v < 3:
        raise ValueError(f"a head and a tail need at least 3 codes, this distribution has {v}")
    p, head = p.float(), min(head, v - 2)
    low, high = (min(bound, v - 1) for bound in k_range)
    k = torch.special.entr(p).sum(-1).exp().round().clamp(low, high)
    top = p.topk(max(high, head, 2), -1)
    inside = torch.arange(1, top.values.shape[-1] + 1, device=p.device) <= k[..., None]
    # The tail itself, not the whole minus the head: differences of numbers near one lose a small tail.
    tail = p.scatter(-1, top.indices[..., :head], 0.0)
    mass = tail.sum(-1)
    safe = mass.clamp_min(torch.finfo(p.dtype).tiny)
    entropy = (torch.special.entr(tail).sum(-1) / safe + safe.log()) / math.log(v - head)
    entropy = torch.where(mass < FLOOR, 0.0, entropy)
    first, second = top.values[..., 0], top.values[..., 1]
    return torch.stack([first, first - second, (top.values * inside).sum(-1), entropy], -1).clamp(0, 1)
