"""The objective of a decoder that draws images as a flow, conditioned on a map that is computed from the images.

images -condition-> map ; images -space-> clean, noise, t -> net(noisy, t, map) -> flow error and other terms
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..flow.loss import LossWeight, One
from ..flow.path import interpolate
from ..flow.time_laws import TimeLaw
from .draws import normal_like, per_item
from .flow_terms import Outcome, weighted


class ConditionedFlow(nn.Module):
    """Batch: `images` [b 3 h w] and whatever `condition` reads.

    Args:
        condition: of a batch, a map [b k hc wc]; as a module it may learn, through the net.
        decoder: a `FlowDecoder`, whose net has `traced`.
        time_law: of the training times.
        terms: losses beside the flow error.
        weight: of the flow error over time.
    """

    def __init__(
        self,
        condition: Callable[[dict[str, Tensor]], Tensor],
        decoder: nn.Module,
        time_law: TimeLaw,
        terms: Mapping[str, nn.Module] | None = None,
        weight: LossWeight = One(),  # noqa: B008
    ) -> None:
        super().__init__()
        self.condition, self.decoder = condition, decoder
        self.terms = nn.ModuleDict(dict(terms or {}))
        self.time_law, self.weight = time_law, weight

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        decoder: Any = self.decoder
        condition, images = self.condition(batch), batch["images"]
        with torch.no_grad():
            clean = decoder.space.encode(images)
        noise, t = normal_like(batch, "noise", clean), times(batch, clean, self.time_law)
        noisy = interpolate(clean, noise, t)
        velocity, features = decoder.net.traced(noisy, t, condition)
        outcome = Outcome(clean, noise, noisy, t, velocity, features, images)
        return weighted(outcome, dict(self.terms.items()), self.weight)


def times(batch: Mapping[str, Tensor], clean: Float[Tensor, "b ..."], law: TimeLaw) -> Float[Tensor, "b"]:
    """A training time per item."""
    shape = clean.shape[1:]
    return per_item(batch, "time", lambda generator: law(1, shape, generator=generator)[0]).to(clean.device)
