"""What can be summed up about rows of probabilities without sorting them: the top few one by one, the rest in two sums.

A distribution over 16,384 codes is kept as its most probable few and the mass and entropy of the rest. Both sums are
taken
directly: a confident row leaves the rest almost nothing, and `1 - head` would be rounding error.

p [n v] -ranked-> head [n m] descending, rest mass [n], rest entropy [n]
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


def entropy(p: Float[Tensor, "... v"]) -> Float[Tensor, "..."]:
    """-sum p ln p in nats; rows need not sum to one, zeros count as zero."""
    # On a CPU clamp + log in one buffer is many times faster than torch.special.entr, which is not vectorised there.
    return p.clamp_min(torch.finfo(p.dtype).tiny).log_().mul_(p).sum(-1).neg_()


def largest(
    p: Float[Tensor, "... v"], k: int, stripes: int = 16
) -> tuple[Float[Tensor, "... k"], Int[Tensor, "... k"]]:
    """Find the k largest entries of every row, in descending order, and where they are.

    The same as `p.topk(k)`, several times faster on a CPU. Long rows are folded into stripes first; only the k columns
    with the largest maxima are ranked, since no other can hold one of the k largest.
    """
    v = p.shape[-1]
    if v % stripes or v < 4 * stripes * k:
        return descending(p, chosen(p, k))
    folded = p.reshape(*p.shape[:-1], stripes, v // stripes)
    columns = chosen(folded.amax(-2), k)
    candidates = folded.gather(-1, columns.unsqueeze(-2).expand(*columns.shape[:-1], stripes, k))
    candidates = candidates.flatten(-2)
    values, place = descending(candidates, chosen(candidates, k))
    return values, place // k * (v // stripes) + columns.gather(-1, place % k)


def descending(
    x: Float[Tensor, "... v"], where: Int[Tensor, "... k"]
) -> tuple[Float[Tensor, "... k"], Int[Tensor, "... k"]]:
    """The entries at `where`, largest first, and where each is."""
    values, order = x.gather(-1, where).sort(-1, descending=True)
    return values, where.gather(-1, order)


def chosen(x: Float[Tensor, "... v"], k: int) -> Int[Tensor, "... k"]:
    """Where the k largest entries of every row are, in no order."""
    if x.device.type != "cpu":
        return x.topk(k, sorted=False).indices
    # On a CPU, NumPy partitions with vector instructions and torch does not: three times faster.
    return torch.from_numpy(np.argpartition(x.detach().numpy(), -k, axis=-1)[..., -k:])


class Ranked(NamedTuple):
    """A distribution cut in two: the most probable codes one by one, everything else summed up."""

    head: Float[Tensor, "... m"]
    """The m largest probabilities, descending."""
    rest_mass: Float[Tensor, "..."]
    rest_entropy: Float[Tensor, "..."]
    """-sum p ln p over the rest, in nats."""


def ranked(p: Float[Tensor, "... v"], m: int) -> Ranked:
    """Cut every row after its m most probable codes. The rest is summed, never obtained as 1 - head."""
    head, where = largest(p, m)
    rest = p.scatter(-1, where, 0.0)
    mass = rest.sum(-1)
    # One buffer throughout: fresh memory costs a CPU more than the logarithms do.
    nats = rest.clamp_min_(torch.finfo(p.dtype).tiny).log_().mul_(p).scatter_(-1, where, 0.0).sum(-1).neg()
    return Ranked(head, mass, nats)


def rows_at_a_time(num_codes: int, device: torch.device, most: int = 4096) -> int:
    """How many rows of `[n v]` to touch at once: 4 MB of them on a CPU, or `most` on an accelerator."""
    if device.type != "cpu":
        return most
    # Until glibc has seen so large a block freed, it hands every freed chunk back to the kernel, which then clears each
    # page again for the next chunk: a sixth of the time of LCDM over an image.
    torch.empty(2**22)
    return max(1, min(most, 2**20 // num_codes))


def precise(x: Tensor) -> Tensor:
    """At least fp32: half precision cannot sum 16,384 probabilities."""
    return x if x.dtype == torch.float64 else x.float()
