"""What a conditioned flow in an image space learns from beside its flow error: a perceptual distance of the clean image
it predicts, and the alignment of its inner features with those of a frozen network.

Each term is a module `term(outcome) -> scalar` with a weight; what it compares with is handed in, so that the embedded
world's judge, LPIPS or DINOv2 serve alike, and a test needs none of them.

net(noisy, t, condition) -> Outcome -terms-> {"loss", "flow", "perceptual", "alignment"}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..flow.loss import LossWeight, One, velocity_error
from ..flow.path import clean_from, velocity

Activations = Callable[[Float[Tensor, "b 3 h w"]], Sequence[Float[Tensor, "b c hs ws"]]]
PatchFeatures = Callable[[Float[Tensor, "b 3 h w"]], Float[Tensor, "b m c"]]


class TracedNet(Protocol):
    """A `VelocityNet` that also returns its inner features."""

    def traced(
        self, noisy: Float[Tensor, "b c h w"], t: Float[Tensor, "b"], condition: Float[Tensor, "b k hc wc"], /
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b n d"]]: ...


class Outcome(NamedTuple):
    """One call of a net on the path between clean and noise, and the true images."""

    clean: Float[Tensor, "b c h w"]
    noise: Float[Tensor, "b c h w"]
    noisy: Float[Tensor, "b c h w"]
    t: Float[Tensor, "b"]
    velocity: Float[Tensor, "b c h w"]
    features: Float[Tensor, "b n d"]
    images: Float[Tensor, "b 3 h w"]

    @property
    def predicted(self) -> Float[Tensor, "b c h w"]:
        """The clean end of the predicted line."""
        return clean_from(self.noisy, self.velocity, self.t)


class Perceptual(nn.Module):
    """`weight` x the distance of the predicted and the clean end to a frozen network, at every time alike.

    Args:
        activations: its maps, fine to coarse, of images in [-1, 1].
        weight: of the term.
        channel_weights: how much each channel of each map counts (LPIPS); all 1 when not given.
    """

    def __init__(
        self, activations: Activations, weight: float = 0.5, channel_weights: Sequence[Tensor] | None = None
    ) -> None:
        super().__init__()
        self.activations, self.weight, self.channel_weights = activations, weight, channel_weights

    def forward(self, outcome: Outcome) -> Tensor:
        return self.weight * self.between(outcome.predicted, outcome.clean).mean()

    def between(self, drawn: Float[Tensor, "b 3 h w"], truth: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b"]:
        """The squared distance of unit-length activations, averaged over space, summed over channels and maps."""
        with torch.no_grad():
            targets = [_unit(maps) for maps in self.activations(truth.float())]
        total = torch.zeros(len(drawn), device=drawn.device)
        for number, (maps, target) in enumerate(zip(self.activations(drawn.float()), targets, strict=True)):
            apart = (_unit(maps) - target).square()
            counted = apart if self.channel_weights is None else apart * self.channel_weights[number].to(apart)
            total = total + counted.sum(1).mean((1, 2))
        return total


class Alignment(nn.Module):
    """`weight` x (1 - cosine) between projected inner features and patch features of the true image (REPA, 2410.06940).

    Args:
        width: channels of the inner features.
        channels: those of the patch features.
        patches: patch features in raster order; where there are more or fewer, they are resampled to the inner raster.
        hidden: widths between; each is followed by a SiLU.
        weight: of the term.
    """

    def __init__(
        self, width: int, channels: int, patches: PatchFeatures, *, hidden: Sequence[int] = (), weight: float = 0.25
    ) -> None:
        super().__init__()
        self.patches, self.weight = patches, weight
        widths = [width, *(hidden or [width])]
        layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.SiLU())]
        self.projection = nn.Sequential(*layers, nn.Linear(widths[-1], channels))

    def forward(self, outcome: Outcome) -> Tensor:
        with torch.no_grad():
            target = self.patches(outcome.images)
        return self.weight * self.apart(outcome.features, target)

    def apart(self, features: Float[Tensor, "b n d"], target: Float[Tensor, "b m c"]) -> Tensor:
        """1 - the mean cosine, in fp32."""
        with torch.autocast(features.device.type, enabled=False):
            aligned = resampled(target.float(), features.shape[1])
            return 1 - F.cosine_similarity(self.projection(features.float()), aligned, dim=-1).mean()


def weighted(
    outcome: Outcome,
    terms: Mapping[str, nn.Module],
    weight: LossWeight = One(),  # noqa: B008
) -> dict[str, Tensor]:
    """`loss`, which is the weighted flow error and all terms, and each by its name."""
    error = velocity_error(outcome.velocity, velocity(outcome.clean, outcome.noise))
    flow = (weight(outcome.t) * error).mean()
    found = {name: term(outcome) for name, term in terms.items()}
    return {"loss": flow + sum(found.values()), "flow": flow.detach()} | {n: x.detach() for n, x in found.items()}


def resampled(tokens: Float[Tensor, "b m c"], count: int) -> Float[Tensor, "b n c"]:
    """Tokens of a square raster on a square raster of `count`."""
    side, wanted = round(tokens.shape[1] ** 0.5), round(count**0.5)
    if side == wanted:
        return tokens
    maps = F.interpolate(tokens.mT.unflatten(2, (side, side)), (wanted, wanted), mode="bilinear", antialias=True)
    return maps.flatten(2).mT


def _unit(maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    # The small number is under the root: beside it, as LPIPS has it, the gradient of an empty position is NaN.
    return maps / (maps.square().sum(1, keepdim=True) + 1e-8).sqrt()
