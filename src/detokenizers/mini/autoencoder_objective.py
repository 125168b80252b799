"""Training the mini latent space: diffusers' `AutoencoderKL` with a light KL, so that decoders draw in its latents.

images -encoder-> mean, variance -sample-> latents -decoder-> images; latent statistics are measured at export.
A second stage can keep the encoder, so that every latent keeps its meaning, and train the decoder alone.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..nn.channels_last import channels_last
from ..nn.world_net import WorldNet
from ..training.draws import normal_like
from .perceptual import perceptual_loss, pixel_loss


class AutoencoderObjective(nn.Module):
    """L1 + edges + KL per latent number + a perceptual loss, if a judge is given. Batch: `images` [b 3 h w].

    With `keep_latents` only what turns latents into pixels learns.
    """

    vae: Any

    def __init__(
        self,
        vae: Any,
        judge: WorldNet | None,
        *,
        kl: float = 3e-4,
        perceptual: float = 0.0,
        keep_latents: bool = False,
    ) -> None:
        super().__init__()
        self.vae = channels_last(vae)
        self.judge = judge.requires_grad_(False).eval() if judge else None
        self.kl, self.perceptual = kl, perceptual
        self.vae.requires_grad_(True)
        self.vae.encoder.requires_grad_(not keep_latents)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        images = batch["images"].contiguous(memory_format=torch.channels_last)
        posterior = self.vae.encode(images).latent_dist
        latents = posterior.mean + posterior.std * normal_like(batch, "latents", posterior.mean)
        drawn = self.vae.decode(latents).sample
        terms = {
            "pixels": pixel_loss(drawn, images),
            "kl": posterior.kl().mean() / posterior.mean[0].numel(),
        }
        loss = terms["pixels"] + self.kl * terms["kl"]
        if self.judge:
            terms["perceptual"] = perceptual_loss(self.judge, drawn, images)
            loss = loss + self.perceptual * terms["perceptual"]
        psnr = -10 * torch.log10(F.mse_loss(drawn.detach().clamp(-1, 1), images) / 4)
        return {"loss": loss, **terms, "psnr": psnr}
