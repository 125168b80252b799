"""How DCDD learns: the encoder's calibrated distributions stand in for the VLM's, so that images alone are enough to
train on and no VLM runs (DCDD Eqs. 9-15, 18, 26).

features -proxy-> observed -encode-> condition ; latents, noise, t -> noisy -net(noisy, t, condition)-> error -> loss
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..decoder import flow_error
from ..flow.loss import LossWeight, One
from ..flow.time_laws import LogitNormal, TimeLaw
from ..protocols import Grid
from ..training.draws import normal_like, per_item
from .model import DCDD
from .proxies import Distribution, Proxy


class DCDDObjective(nn.Module):
    """The flow loss of a DCDD decoder (Eq. 26).

    Batch:
        latents: clean latents [b c h w].
        spread: if given, the standard deviation of their posterior [b c h w]; the clean latents are drawn with it.
        features: unit VQ features [b n d]; or `observed` [b n o], where LCDM has been computed before.
        noise, t: [b c h w] and [b]; drawn when absent, item by item from `seeds` [b], which the loop gives.
    """

    def __init__(
        self,
        dcdd: DCDD,
        *,
        weight: LossWeight = One(),  # noqa: B008
        time_law: TimeLaw = LogitNormal(),  # noqa: B008
        distribution: Distribution = Proxy(),  # noqa: B008
    ) -> None:
        super().__init__()
        self.dcdd, self.weight, self.time_law, self.distribution = dcdd, weight, time_law, distribution

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Returns `loss`, and `error`, the same without its weight over time."""
        clean, decoder = self._clean(batch), self.dcdd.decoder
        with torch.autocast(clean.device.type, enabled=False):  # probabilities are fp32 whatever the net computes in
            observed = batch["observed"] if "observed" in batch else self.distribution(self.dcdd, batch)
        condition = self.dcdd.encode(observed, self._grid(clean))  # Eqs. 19-20
        noise = batch["noise"] if "noise" in batch else normal_like(batch, "noise", clean)
        t = batch["t"] if "t" in batch else self._times(batch, clean.shape[1:])
        error = flow_error(decoder.predict(clean, noise, t, condition), clean, noise)
        return {"loss": (self.weight(t) * error).mean(), "error": error.mean().detach()}

    def _clean(self, batch: dict[str, Tensor]) -> Tensor:
        latents = batch["latents"].float()
        return latents + batch["spread"] * normal_like(batch, "posterior", latents) if "spread" in batch else latents

    def _grid(self, latents: Tensor) -> Grid:
        pixels, stride = self.dcdd.decoder.space.stride, self.dcdd.token_stride
        return Grid(*(side * pixels // stride for side in latents.shape[-2:]))

    def _times(self, batch: dict[str, Tensor], shape: torch.Size) -> Tensor:
        times = per_item(batch, "time", lambda generator: self.time_law(1, shape, generator=generator)[0])
        return times.to(batch["latents"].device)
