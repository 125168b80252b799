"""What stands in for a language model's distributions while a MaDiT that reads them is trained (spec 4.1).

Three kinds are mixed item by item: tokens of which nothing is in doubt; proxies, the softmax of the adapter's cosines,
as sharp as the language model is; and distributions of the language model itself, read beforehand. In some cells the
token is a sample of the distribution while the target stays: that teaches repair.

unit features [b l d], ids, (observed) -mixed-> committed tokens [b l], summaries [b l o]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from ..config import Config
from ..nn.sampling import draw
from ..training.draws import uniform

Summarise = Callable[[Tensor, Tensor], Tensor]
"""Probabilities [b l v] and committed tokens [b l] to what is kept of them."""
OBSERVED = "observed"
"""Summaries of the language model's distributions about an image's true tokens, if they have been read."""


class Conditions(Config):
    """How often each kind is drawn; shares of all items."""

    decided: float = Field(default=0.3, ge=0)
    proxy: float = Field(default=0.3, ge=0)
    observed: float = Field(default=0.4, ge=0)
    """Of the language model's own; where the batch has none, of proxies instead."""
    sharpness: float = Field(default=30.0, gt=0)
    """Times the cosines of a proxy; `matched_sharpness` finds the one that is as undecided as a language model."""
    repair: float = Field(default=0.2, ge=0, le=1)
    """Share of a proxy's cells in which the token is a sample of it."""

    def mixed(
        self,
        summary: Summarise,
        decided: Float[Tensor, "b l o"],
        codebook: Float[Tensor, "v d"],
        batch: Mapping[str, Tensor],
        units: Float[Tensor, "b l d"],
        ids: Int[Tensor, "b l"],
    ) -> tuple[Int[Tensor, "b l"], Float[Tensor, "b l o"]]:
        """Committed tokens and the summaries of their distributions, as if a language model had sampled them."""
        q = (self.sharpness * units @ codebook.T).softmax(-1)
        sampled = draw(q.log().flatten(0, 1), uniform(batch, "proxy token", ids.shape[1]).flatten()).view_as(ids)
        wrong = uniform(batch, "repaired cell", ids.shape[1]) < self.repair
        kind = (self.decided + self.proxy + self.observed) * uniform(batch, "kind of condition", 1)
        is_decided, is_proxy = kind < self.decided, kind < self.decided + self.proxy
        if OBSERVED not in batch:
            is_proxy = torch.ones_like(is_proxy)
        committed = torch.where(wrong & is_proxy & ~is_decided, sampled, ids)
        proxy = summary(q, committed)
        seen = batch[OBSERVED].to(proxy) if OBSERVED in batch else proxy
        kept = torch.where(is_decided[..., None], decided, torch.where(is_proxy[..., None], proxy, seen))
        return committed, kept


@torch.no_grad()
def matched_sharpness(
    units: Float[Tensor, "n d"],
    codebook: Float[Tensor, "v d"],
    entropy: float,
    *,
    between: tuple[float, float] = (0.1, 1000.0),
    tolerance: float = 0.02,
) -> float:
    """The sharpness at which proxies have a mean normalised entropy, found by halving.

    Raises:
        ValueError: none there does.
    """
    low, high = between

    def reached(sharpness: float) -> float:
        q = (sharpness * units @ codebook.T).softmax(-1)
        return float(torch.special.entr(q).sum(-1).mean() / torch.tensor(float(len(codebook))).log())

    if not reached(high) - tolerance <= entropy <= reached(low) + tolerance:
        raise ValueError(
            f"no sharpness from {low:g} to {high:g} gives proxies of normalised entropy {entropy:.3f}; they reach "
            f"{reached(high):.3f} to {reached(low):.3f}"
        )
    for _ in range(30):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if reached(middle) > entropy else (low, middle)
    return math.sqrt(low * high)
