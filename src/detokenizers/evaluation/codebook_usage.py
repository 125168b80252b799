"""How much of a codebook is alive: the share of codes that occur at all, and how many occur as if equally often.

Both depend on how many tokens were counted: a code that no image needed yet is not dead. N is part of the result.

token ids -update-> counts [v] -merge over shards-> usage (share), perplexity exp(H)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass
class CodebookUsage:
    """How often each code was used; counts of shards add up exactly."""

    counts: Int[Tensor, "v"]

    @classmethod
    def of(cls, ids: Int[Tensor, "..."], codebook_size: int) -> CodebookUsage:
        """Count the ids of any shape against a codebook of that size."""
        usage = cls(torch.zeros(codebook_size, dtype=torch.int64))
        usage.update(ids)
        return usage

    def update(self, ids: Int[Tensor, "..."]) -> None:
        """Take in more tokens."""
        ids = ids.detach().cpu().flatten().long()
        size = len(self.counts)
        if ids.numel() and (ids.min() < 0 or ids.max() >= size):
            raise ValueError(f"token ids go from 0 to {size - 1} here, got {ids.min().item()} to {ids.max().item()}")
        self.counts = self.counts + torch.bincount(ids, minlength=size)

    def merge(self, other: CodebookUsage) -> None:
        """Take in everything another shard has counted."""
        if len(other.counts) != len(self.counts):
            raise ValueError(f"counts of {len(other.counts)} codes cannot join those of {len(self.counts)}")
        self.counts = self.counts + other.counts

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    @property
    def usage(self) -> float:
        """The share of codes used at least once, in [0, 1]."""
        self._require_tokens()
        return (self.counts > 0).double().mean().item()

    @property
    def perplexity(self) -> float:
        """exp of the entropy in nats: v when all codes are used alike, 1 when there is only one."""
        self._require_tokens()
        p = self.counts.double() / self.total
        return torch.special.entr(p).sum().exp().item()

    def _require_tokens(self) -> None:
        if not self.total:
            raise ValueError("no tokens were counted, so there is no codebook usage to report")
