"""How VUGEN learns: stage A, features to pixels; stage B, prompts to latents. In both a flow from noise.

A: images -features-> -reducer-> map ; `training.conditioned_flow` on it: flow + perceptual + alignment losses
B: latents, noise, t -> tower(noisy, t, text cache) -> flow loss, and for the REPA baseline the alignment of a layer
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..flow.loss import velocity_error
from ..flow.path import interpolate, velocity
from ..flow.time_laws import TimeLaw
from ..pretrained.vlm.text_cache import TextCache
from ..training.conditioned_flow import times
from ..training.draws import normal_like, uniform
from ..training.flow_terms import Alignment
from .autoencoder import Autoencoder
from .tower import Tower


class ReducedFeatures(nn.Module):
    """Stage A's condition: reduced features of a batch's `images`; the reducer learns, the VLM has no gradient.

    Args:
        autoencoder: whose reducer becomes a part of this module.
        noise: up to how much unit noise is added, times a uniform number an image; 0 for none.
    """

    def __init__(self, autoencoder: Autoencoder, noise: float = 0.0) -> None:
        super().__init__()
        self.reducer, self.noise = autoencoder.reducer, noise
        self._features, self._map = autoencoder.vlm.features, autoencoder.condition

    def forward(self, batch: dict[str, Tensor]) -> Float[Tensor, "b d hc wc"]:
        reduced = self.reducer(self._features(batch["images"]))
        if self.noise:
            spread = self.noise * uniform(batch, "latent spread", 1, 1)
            reduced = reduced + spread * normal_like(batch, "latent noise", reduced)
        return self._map(reduced)


class TowerObjective(nn.Module):
    """The tower learns to sample latents of prompts; the VLM reads these once, frozen.

    Batch: `latents` [b n d]; `ids` [b m] and `lengths` [b] of right-padded prompts; `features` [b n c], if aligned.

    Args:
        tower: what learns.
        language_model: the frozen one that reads prompts.
        nothing: token ids of the empty prompt, which stands for none.
        time_law: of the training times.
        drop: share of the prompts that are replaced by the empty one.
        alignment: of REPA, and the layer whose hidden states it aligns with unreduced features.
    """

    def __init__(
        self,
        tower: Tower,
        language_model: nn.Module,
        nothing: list[int],
        time_law: TimeLaw,
        *,
        drop: float = 0.1,
        alignment: Alignment | None = None,
        layer: int | None = None,
    ) -> None:
        super().__init__()
        self.tower, self.alignment = tower, alignment
        self.time_law, self.drop, self.layer = time_law, drop, layer
        self._language_model, self._nothing = (language_model,), torch.tensor(nothing)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        clean = batch["latents"].float()
        ids, lengths = self.dropped(batch)
        text = TextCache.read(self._language_model[0], ids, lengths)
        noise, t = normal_like(batch, "noise", clean), times(batch, clean, self.time_law)
        found, states = self.tower.traced(interpolate(clean, noise, t), t, text, self.layer)
        flow = velocity_error(found, velocity(clean, noise)).mean()
        if self.alignment is None:
            return {"loss": flow}
        apart = self.alignment.apart(states, batch["features"].float())
        return {"loss": flow + self.alignment.weight * apart, "flow": flow.detach(), "alignment": apart.detach()}

    def dropped(self, batch: Mapping[str, Tensor]) -> tuple[Int[Tensor, "b m"], Int[Tensor, "b"]]:
        """Prompts, some of them replaced by the empty one."""
        ids, lengths = batch["ids"], batch["lengths"]
        chosen = uniform(batch, "dropped prompt", 1) < self.drop
        nothing = self._nothing.to(ids.device)
        empty = ids.clone()
        empty[:, : len(nothing)] = nothing
        return torch.where(chosen, empty, ids), torch.where(chosen[:, 0], len(nothing), lengths)
