"""Draw tokens so that an item's tokens depend on its own seed and nothing else.

One uniform number per token is enough: it picks the code where the cumulative probability passes it. The numbers come
from a generator of the item's own, on the CPU, so batch size, batch order and device leave them alone.

seed -uniforms-> u [n];  logits [b v] -softmax, cumulate-> cdf -first code above u-> ids [b].
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor


def uniforms(seeds: Sequence[int], count: int) -> Float[Tensor, "b n"]:
    """Draw `count` numbers in [0, 1) per seed, on the CPU.

    The seed is hashed with a prefix first: a decoder that seeds its noise with the same integer stays
    independent of the tokens. The 2^-22 shrinkage keeps `u * total` strictly below `total` after rounding.
    """
    rows = []
    for seed in seeds:
        digest = hashlib.sha256(f"image tokens, seed {int(seed)}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little"))
        rows.append(torch.rand(count, generator=generator))
    return torch.stack(rows) * (1 - 2**-22) if rows else torch.empty(0, count)


def draw(logits: Float[Tensor, "b v"], u: Float[Tensor, "b"], top_k: int = 0) -> Int[Tensor, "b"]:
    """Sample one code per row by inverting the cumulative distribution at `u`.

    Args:
        logits: fp32 log-probabilities up to a constant per row.
        u: one number in [0, 1) per row, from `uniforms`.
        top_k: keep only the k most likely codes, and all that are as likely as the last of them; all when 0.

    Returns:
        Code indices; a code of probability zero is never drawn.
    """
    if 0 < top_k < logits.shape[-1]:
        logits = logits.masked_fill(logits < logits.topk(top_k).values[:, -1:], -torch.inf)
    cdf = logits.softmax(-1).cumsum(-1)
    ids = torch.searchsorted(cdf, (u[:, None] * cdf[:, -1:]), right=True).clamp_(max=cdf.shape[-1] - 1)
    return ids.squeeze(-1)
