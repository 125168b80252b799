"""Four numbers for how undecided a distribution over codes is (DCDD Eq. 8), in [0, 1].

p [... v] -uncertainty-> [largest, margin, mass of the top k, entropy of the tail]
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import model_validator
from torch import Tensor

from ..config import Config
from .ranking import precise, ranked

CERTAIN = (1.0, 1.0, 1.0, 0.0)
"""What a distribution on one code gives."""
NUM_UNCERTAINTY = len(CERTAIN)


class UncertaintyConfig(Config):
    """How the uncertainty features of Eq. 8 are cut. The paper fixes only the range 8 to 64."""

    k_range: tuple[int, int] = (8, 64)
    """Bounds of the adaptive top-k."""
    k_mode: Literal["perplexity", "linear", "fixed"] = "perplexity"
    """How k grows with entropy: exp(entropy); linearly in normalised entropy; or not at all (the upper bound)."""
    k_tail: int | Literal["adaptive"] = 10
    """The tail is everything but this many codes; 'adaptive' leaves out the top-k itself."""
    tail_mass_floor: float = 1e-6
    """Below this mass the tail is empty and its entropy 0."""

    @model_validator(mode="after")
    def _cuts_exist(self) -> UncertaintyConfig:
        if not 1 <= self.k_range[0] <= self.k_range[1]:
            raise ValueError(f"k_range must rise from at least 1, not {self.k_range}")
        if self.k_tail != "adaptive" and self.k_tail < 1:
            raise ValueError(f"k_tail must be at least 1 or 'adaptive', not {self.k_tail}")
        return self


def adaptive_k(nats: Float[Tensor, "..."], num_codes: int, config: UncertaintyConfig) -> Int[Tensor, "..."]:
    """Choose k of the adaptive top-k mass from a row's entropy in nats; a broader one gets a larger k."""
    # PAPER GAP (docs/dcdd.md#adaptive-k): "entropy-adaptive k constrained between 8 and 64" is all the paper says.
    low, high = (min(bound, num_codes - 1) for bound in config.k_range)
    wanted = {
        "perplexity": lambda: nats.exp(),
        "linear": lambda: low + (high - low) * nats / math.log(num_codes),
        "fixed": lambda: torch.full_like(nats, high),
    }[config.k_mode]()
    return wanted.round().long().clamp(low, high)  # in this order NaN is no index out of bounds; u is NaN all the same


def uncertainty(
    p: Float[Tensor, "... v"],
    config: UncertaintyConfig = UncertaintyConfig(),  # noqa: B008
) -> Float[Tensor, "... 4"]:
    """Describe how certain each token is (Eq. 8).

    Args:
        p: probabilities over the codebook; rows sum to one.
        config: where the top-k and the tail are cut.

    Returns:
        Largest probability, top-1 minus top-2 margin, adaptive top-k mass and normalised tail entropy, each in [0, 1].
    """
    p, v = precise(p), p.shape[-1]
    if v < 3:
        raise ValueError(f"uncertainty needs at least 3 codes to have a head and a tail, this distribution has {v}")
    widest_tail = 0 if config.k_tail == "adaptive" else min(config.k_tail, v - 2)
    head, rest_mass, rest_entropy = ranked(p, min(max(config.k_range[1], widest_tail, 2), v - 1))
    information = -torch.xlogy(head, head)
    k = adaptive_k(rest_entropy + information.sum(-1), v, config)
    topk_mass = head.cumsum(-1).gather(-1, (k - 1).unsqueeze(-1)).squeeze(-1)

    # PAPER GAP (docs/dcdd.md#tail-entropy): Table 1 fits a tail of all but ten codes, renormalised, over ln(v - 10).
    k_tail = k.clamp_max(v - 2) if config.k_tail == "adaptive" else torch.full_like(k, widest_tail)
    in_tail = torch.arange(head.shape[-1], device=p.device) >= k_tail.unsqueeze(-1)
    tail_mass = rest_mass + (head * in_tail).sum(-1)
    tail_nats = rest_entropy + (information * in_tail).sum(-1)
    some_mass = tail_mass.clamp_min(torch.finfo(p.dtype).tiny)
    tail = (tail_nats / some_mass + some_mass.log()) / (v - k_tail).to(p.dtype).log()
    tail = torch.where(tail_mass < config.tail_mass_floor, 0.0, tail)
    return torch.stack([head[..., 0], head[..., 0] - head[..., 1], topk_mass, tail], -1).clamp(0, 1)
