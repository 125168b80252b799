"""How VUGEN learns: stage A, features to pixels; stage B, prompts to latents. In both a flow from noise.

A: images -features-> -reducer-> z -condition-> net(noisy, t, z) -> flow + perceptual + alignment losses
B: latents, noise, t -> tower(noisy, t, text cache) -> flow loss, and for the REPA baseline the alignment of a layer
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..flow.loss import LossWeight, One, velocity_error
from ..flow.path import interpolate, velocity
from ..flow.time_laws import TimeLaw
from ..pretrained.vlm.text_cache import TextCache
from ..training.draws import normal_like, per_item, uniform
from ..training.flow_terms import Alignment, Outcome, TracedNet, weighted
from .autoencoder import Autoencoder
from .tower import Tower


class AutoencoderObjective(nn.Module):
    """Reducer and decoder learn together; the VLM's features have no gradient.

    Batch: `images` [b 3 h w], whose features are computed here.

    Args:
        autoencoder: what learns; of it only the reducer and the decoder are parts of this module.
        time_law: of the training times.
        terms: losses beside the flow error.
        weight: of the flow error over time.
        noise: up to how much unit noise is added to reduced features, times a uniform number an image; 0 for none.
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        time_law: TimeLaw,
        terms: Mapping[str, nn.Module] | None = None,
        *,
        weight: LossWeight = One(),  # noqa: B008
        noise: float = 0.0,
    ) -> None:
        super().__init__()
        self.reducer, self.decoder = autoencoder.reducer, autoencoder.decoder
        self.terms = nn.ModuleDict(dict(terms or {}))
        self.time_law, self.weight, self.noise = time_law, weight, noise
        self._features, self._condition = autoencoder.vlm.features, autoencoder.condition

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        images, net = batch["images"], self.decoder.net
        reduced = self.reducer(self._features(images))
        if self.noise:
            spread = self.noise * uniform(batch, "latent spread", 1, 1)
            reduced = reduced + spread * normal_like(batch, "latent noise", reduced)
        with torch.no_grad():
            clean = self.decoder.space.encode(images)
        noise, t = normal_like(batch, "noise", clean), times(batch, clean, self.time_law)
        noisy = interpolate(clean, noise, t)
        traced: TracedNet = net  # pyright: ignore[reportAssignmentType]
        found, features = traced.traced(noisy, t, self._condition(reduced))
        outcome = Outcome(clean, noise, noisy, t, found, features, images)
        return weighted(outcome, dict(self.terms.items()), self.weight)


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


def times(batch: Mapping[str, Tensor], clean: Float[Tensor, "b ..."], law: TimeLaw) -> Float[Tensor, "b"]:
    """A training time per item."""
    shape = clean.shape[1:]
    draw: Callable[[torch.Generator], Tensor] = lambda generator: law(1, shape, generator=generator)[0]  # noqa: E731
    return per_item(batch, "time", draw).to(clean.device)
