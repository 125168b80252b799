"""Training WorldNet, which judges images of the embedded world, on the exact ground truth of its scenes.

scenes -> WorldNet -> counts, colours, positions, background -> cross-entropies.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..nn.world_net import WorldNet
from ..training.draws import normal_like, uniform


class WorldNetObjective(nn.Module):
    """Cross-entropies against the scene's truth.

    Batch: `images` [b 3 h w]; `counts` [b nouns] in 0..4; `colours` [b nouns], 0 = none of the named, -1 = absent;
    `centres` [b nouns 2] (x, y) in [0, 1] of the only instance, -1 = absent or several; `background` [b].
    """

    def __init__(self, net: WorldNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        images = batch["images"]
        images = images + 0.05 * normal_like(batch, "noise", images) * uniform(batch, "noise level", 1, 1, 1)
        answers = self.net(images)
        counts = F.cross_entropy(answers["counts"].flatten(0, 1), batch["counts"].flatten(), reduction="none")
        present = batch["counts"].flatten() > 0
        terms = {
            # Most nouns are absent from most scenes: weigh the present ones as a group of their own.
            "counts": _mean(counts, present) + 4 * _mean(counts, ~present),
            "colours": _known(answers["colours"], batch["colours"]),
            "where": _known(answers["where"], _cells(batch["centres"], answers["where"].shape[-1])),
            "background": F.cross_entropy(answers["background"], batch["background"]),
        }
        return {"loss": torch.stack([*terms.values()]).sum(), **terms}


def _mean(losses: Tensor, chosen: Tensor) -> Tensor:
    """The mean of the chosen ones; 0 when there are none."""
    return (losses * chosen).sum() / chosen.sum().clamp(min=1)


def _cells(centres: Tensor, count: int) -> Tensor:
    """The cell of each centre on a square map of `count` cells; -1 stays -1."""
    side = math.isqrt(count)
    x, y = (centres * side).long().clamp(max=side - 1).unbind(-1)
    return torch.where(centres[..., 0] < 0, -1, y * side + x)


def _known(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy over the items whose target is not -1; 0 when there are none."""
    logits, target = logits.flatten(0, 1), target.flatten()
    loss = F.cross_entropy(logits, target, ignore_index=-1, reduction="sum")
    return loss / (target >= 0).sum().clamp(min=1)
