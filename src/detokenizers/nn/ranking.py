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
    return logarithm(p.clamp_min(torch.finfo(p.dtype).tiny)).mul_(p).sum(-1).neg_()


def logarithm(x: Tensor) -> Tensor:
    """ln x in the memory of x, which nothing else reads. On a CPU NumPy's is twice as fast as torch's."""
    if x.device.type != "cpu" or x.requires_grad:
        return x.log_()
    np.log(x.numpy(), out=x.numpy())
    return x


def largest(
    p: Float[Tensor, "... v"], k: int, stripes: int = 16
) -> tuple[Float[Tensor, "... k"], Int[Tensor, "... k"]]:
    """Find the k largest entries of every row, in descending order, and where they are.

    The same as `p.topk(k)`, several times faster on a CPU. Long rows are folded into stripes first; only the k columns
    with the largest maxima are ranked, since no other can hold one of the k largest.
    """
    v = p.shape[-1]
    if v % stripes or v < 4 * stripes * k:
        # Not NumPy's partition: a smoothed distribution is one small number many times, on which that is ten times as slow.
        values, where = p.topk(k)
        return values, where
    folded = p.reshape(*p.shape[:-1], stripes, v // stripes)
    columns = folded.amax(-2).topk(k, sorted=False).indices
    candidates = folded.gather(-1, columns.unsqueeze(-2).expand(*columns.shape[:-1], stripes, k))
    values, place = candidates.flatten(-2).topk(k)
    return values, place // k * (v // stripes) + columns.gather(-1, place % k)


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
    # One buffer throughout: fresh memory costs a CPU more than the logarithms do. Zeros count as the smallest number
    # there is: all of them together are no mass, and have a logarithm.
    tiny = torch.finfo(p.dtype).tiny
    rest = p.clamp_min(tiny).scatter_(-1, where, tiny)
    mass = rest.sum(-1)
    nats = logarithm(rest).mul_(p).scatter_(-1, where, 0.0).sum(-1).neg()
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
